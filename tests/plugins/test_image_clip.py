"""The two towers of CLIP and SigLIP, against transformers' own outputs."""

import json

import numpy as np
import pytest
import torch
import transformers
from automm_image.clip import ClipImage, ClipText
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from automm.api import Context, DataError, InputInfo
from automm.model.assemble import adapt

WORDS = ["[PAD]", "[START]", "[END]", "[UNK]", "a", "photo", "of", "red", "blue", "shoe", "bag"]
TEXTS = ["a photo of a red shoe", "a blue bag", "bag"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**SIZES, "image_size": 32, "patch_size": 8}
IDS = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def save_clip(folder, end=2):
    text = {**SIZES, **IDS, "max_position_embeddings": 12, "eos_token_id": end}
    transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    ).save_pretrained(folder)


def save_siglip(folder):
    text = {**SIZES, **IDS, "max_position_embeddings": 12, "projection_size": 16}
    transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION)).save_pretrained(folder)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # Old CLIP configurations (end 2) take the largest id for the end; 10 serves both ways.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A bag", special_tokens=[("[START]", 1), ("bag", 10)]
    )
    numbers = {"size": {"height": 32, "width": 32}, "image_mean": MEAN, "image_std": STD}
    folders = {}
    for name, save in (("clip", lambda f: save_clip(f, 10)), ("clip_old", save_clip), ("siglip", save_siglip)):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(name)
        save(folder)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "preprocessor_config.json").write_text(json.dumps(numbers))
        folders[name] = str(folder)
    return folders


def build(encoder, **fields):
    config = encoder.Config(**fields)
    processor = encoder.processor(config, InputInfo("cell", encoder.modality, ("cell",)))
    torch.manual_seed(0)
    return encoder(config, processor).eval(), processor


def arrays(processor, cells):
    return {name: torch.from_numpy(array) for name, array in processor(cells).items()}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pictures_get_the_embeddings_of_transformers(kind, checkpoints):
    encoder, processor = build(ClipImage, checkpoint=checkpoints[kind])
    assert processor.config.size == 32
    pixels = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
    model = transformers.AutoModel.from_pretrained(checkpoints[kind])
    values = (pixels / 255 - MEAN) / STD
    with torch.no_grad():
        found = encoder({"pixels": torch.from_numpy(pixels)})
        expected = model.get_image_features(pixel_values=torch.tensor(values).permute(0, 3, 1, 2).float()).pooler_output
    torch.testing.assert_close(found.tokens[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert encoder.width == expected.shape[1] == {"clip": 8, "siglip": 16}[kind]
    assert expected.std(0).mean() > 1e-3


@pytest.mark.parametrize("kind", ["clip", "clip_old", "siglip"])
def test_texts_get_the_embeddings_of_transformers(kind, checkpoints):
    encoder, processor = build(ClipText, checkpoint=checkpoints[kind])
    model = transformers.AutoModel.from_pretrained(checkpoints[kind])
    for texts in (TEXTS, ["photo " * 40]):
        with torch.no_grad():
            found = encoder(arrays(processor, texts))
            rows = []
            for text in texts:
                ids = processor([text])["input_ids"][0].tolist()
                padding = [0] * (12 - len(ids)) if kind == "siglip" else []
                rows.append(model.get_text_features(input_ids=torch.tensor([ids + padding])).pooler_output)
        torch.testing.assert_close(found.tokens[:, 0], torch.cat(rows), atol=1e-5, rtol=1e-5)
    assert processor(["photo " * 40])["input_ids"].shape == (1, 12)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_both_towers_share_one_space(kind, checkpoints):
    image, _ = build(ClipImage, checkpoint=checkpoints[kind])
    text, processor = build(ClipText, checkpoint=checkpoints[kind])
    assert image.width == text.width
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 255, (3, 32, 32, 3), np.uint8))
    model = transformers.AutoModel.from_pretrained(checkpoints[kind])
    values = (pixels.permute(0, 3, 1, 2).float() / 255 - image.mean) / image.std
    ids = torch.from_numpy(processor(TEXTS)["input_ids"])
    if kind == "siglip":
        ids = torch.nn.functional.pad(ids, (0, 12 - ids.shape[1]))
    with torch.no_grad():
        both = model(pixel_values=values, input_ids=ids)
        a = torch.nn.functional.normalize(image({"pixels": pixels}).tokens[:, 0], dim=1)
        b = torch.nn.functional.normalize(text(arrays(processor, TEXTS)).tokens[:, 0], dim=1)
    torch.testing.assert_close(a @ b.T, both.image_embeds @ both.text_embeds.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("encoder", [ClipImage, ClipText])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_layers_and_freezing(encoder, kind, checkpoints):
    module, _ = build(encoder, checkpoint=checkpoints[kind])
    layers = module.layers()
    held = [id(p) for layer in layers for p in layer.parameters()]
    assert len(held) == len(set(held)) == len(list(module.parameters()))
    assert len(layers) == 4
    assert encoder.extracts(module.config)
    adapt(module, "none")
    assert not any(p.requires_grad for p in module.parameters())
    adapt(module, "last_1")
    assert 0 < sum(p.requires_grad for p in module.parameters()) < len(held)


def test_other_checkpoints_are_refused(tmp_path, checkpoints):
    context = Context("classification", (), 100)
    assert ClipImage.unsuited(context, ClipImage.Config()) == "no checkpoint named"
    assert ClipText.unsuited(context, ClipText.Config(checkpoint="x/y")) is None
    transformers.ViTModel(transformers.ViTConfig(**VISION)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="is a vit, not one of clip, siglip"):
        build(ClipText, checkpoint=str(tmp_path))
    with pytest.raises(DataError, match="is a vit, not a CLIP or SigLIP with two towers"):
        build(ClipImage, checkpoint=str(tmp_path))
    save_clip(tmp_path)
    with pytest.raises(DataError, match=r"has no tokenizer\.json"):
        build(ClipText, checkpoint=str(tmp_path))
