"""Picture encoders: learning, augmentation, checkpoints, and agreement with their exported graphs."""

import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from automm_image.augment import augment
from automm_image.checkpoint import read_preparation
from automm_image.hf_image import HfImage
from automm_image.pixels import Pixels
from automm_image.small_cnn import SmallCnn
from torch import nn

from automm.api import Context, DataError, InputInfo, find_checkpoint

INFO = InputInfo("photo", "image", ("photo",))


def build(encoder, **fields):
    config = encoder.Config(**fields)
    processor = encoder.processor(config, INFO)
    torch.manual_seed(0)
    return encoder(config, processor), processor


def stripes(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures with horizontal (0) or vertical (1) stripes of random phase; raw pixel means say nothing."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    wave = np.sin(np.arange(size)[None] * 1.2 + rng.uniform(0, 6, (count, 1)))
    wave = np.where(label[:, None, None] == 1, wave[:, None, :], wave[:, :, None])
    values = 127 + 50 * wave[..., None] + rng.normal(0, 25, (count, size, size, 3))
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8)), torch.from_numpy(label)


def fit_head(encoder, pixels, label, epochs, rate=3e-3):
    head = nn.Linear(encoder.width, 2)
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([*parameters, *head.parameters()], lr=rate)
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(label)).split(16):
            output = head(encoder({"pixels": pixels[rows]}).mean())
            optimizer.zero_grad()
            nn.functional.cross_entropy(output, label[rows]).backward()
            optimizer.step()
    return head


def accuracy(encoder, head, pixels, label) -> float:
    encoder.eval()
    with torch.no_grad():
        return (head(encoder({"pixels": pixels}).mean()).argmax(1) == label).float().mean().item()


def check_graph(encoder, pixels: torch.Tensor, path: Path, tolerance: float) -> None:
    """The exported graph agrees with the module at several batch sizes."""
    import onnxruntime

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, batch):
            features = self.encoder({"pixels": batch["photo.pixels"]})
            return features.tokens, features.mask

    program = torch.onnx.export(
        Graph().eval(),
        (),
        kwargs={"batch": {"photo.pixels": pixels[:2]}},
        dynamic_shapes={"batch": {"photo.pixels": {0: torch.export.Dim("batch")}}},
        input_names=["photo.pixels"],
        output_names=["out_tokens", "out_mask"],
        dynamo=True,
        verbose=False,
    )
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (1, 2, 5):
        tokens, mask = session.run(None, {"photo.pixels": pixels[:size].numpy()})
        with torch.no_grad():
            expected = encoder({"pixels": pixels[:size]})
        np.testing.assert_allclose(tokens, expected.tokens.numpy(), atol=tolerance, rtol=tolerance)
        assert mask.all()
        assert mask.shape == expected.mask.shape


# The small network


def test_small_cnn_learns_stripes():
    encoder, _ = build(SmallCnn, size=32, width=8, strength=0.3)
    head = fit_head(encoder, *stripes(128, 32, 0), epochs=8)
    assert accuracy(encoder, head, *stripes(64, 32, 1)) > 0.9


def test_small_cnn_gives_one_vector_or_the_cells():
    pixels, _ = stripes(3, 64, 0)
    encoder, processor = build(SmallCnn, width=8)
    features = encoder.eval()({"pixels": pixels})
    assert features.tokens.shape == (3, 1, encoder.width) == (3, 1, 64)
    assert processor.specs()["pixels"].shape == (64, 64, 3)
    encoder, _ = build(SmallCnn, width=8, tokens=True)
    cells = encoder.eval()({"pixels": pixels})
    assert cells.tokens.shape == (3, 16, 64)
    torch.testing.assert_close(cells.tokens.mean(1), features.tokens[:, 0])


def test_small_cnn_evaluates_rows_independently():
    encoder, _ = build(SmallCnn, size=32, width=8)
    pixels, _ = stripes(5, 32, 0)
    encoder.eval()
    together = encoder({"pixels": pixels}).tokens
    alone = torch.cat([encoder({"pixels": row[None]}).tokens for row in pixels])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_small_cnn_augments_in_training_only_and_by_the_seed():
    encoder, _ = build(SmallCnn, size=32, width=8, dropout=0.0)
    pixels, _ = stripes(4, 32, 0)

    def run(seed):
        torch.manual_seed(seed)
        return encoder({"pixels": pixels}).tokens

    encoder.train()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    encoder.eval()
    assert torch.equal(run(1), run(2))


def test_small_cnn_layers_hold_every_parameter_once():
    encoder, _ = build(SmallCnn, size=32, width=8)
    held = [p for layer in encoder.layers() for p in layer.parameters()]
    assert len(held) == len({id(p) for p in held}) == len(list(encoder.parameters()))


@pytest.mark.parametrize("tokens", [False, True])
def test_small_cnn_graph_agrees(tokens, tmp_path):
    encoder, _ = build(SmallCnn, size=32, width=8, tokens=tokens)
    check_graph(encoder, stripes(5, 32, 0)[0], tmp_path / "graph.onnx", 1e-4)


def test_flips_alone_mirror_whole_pictures():
    pixels = torch.rand(40, 3, 8, 8)
    torch.manual_seed(0)
    changed = augment(pixels, 0.0, "horizontal")
    same = (changed - pixels).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (changed - pixels.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((same ^ mirrored).all())
    assert 10 < int(mirrored.sum()) < 30
    torch.testing.assert_close(augment(pixels, 0.0, "none"), pixels, atol=1e-4, rtol=0)
    both = augment(pixels, 0.0, "both")
    turned = (both - pixels.flip(2, 3)).abs().amax((1, 2, 3)) < 1e-4
    assert 2 < int(turned.sum()) < 20


def test_augmentation_changes_every_picture_within_range():
    pixels = torch.rand(16, 3, 32, 32)
    changed = augment(pixels, 1.0, "both")
    assert changed.shape == pixels.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert ((changed - pixels).abs().mean((1, 2, 3)) > 0.02).all()


# Pretrained checkpoints

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
SQUASH = {
    "size": {"height": 32, "width": 32},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 3,
}
CROP = {"size": {"shortest_edge": 36}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}


def tiny(kind: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    text = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    configs = {
        "vit": lambda: transformers.ViTConfig(**VIT),
        "deit": lambda: transformers.DeiTConfig(**VIT),
        "dinov2": lambda: transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
        ),
        "swin": lambda: transformers.SwinConfig(
            image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        "convnext": lambda: transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
        "resnet": lambda: transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        ),
        "clip": lambda: transformers.CLIPConfig(text_config=text, vision_config=VIT, projection_dim=8),
        "siglip": lambda: transformers.SiglipConfig(text_config=text, vision_config=VIT),
    }
    return transformers.AutoModel.from_config(configs[kind]())


KINDS = ("vit", "deit", "dinov2", "swin", "convnext", "resnet", "clip", "siglip")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, str]:
    folders = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        tiny(kind).save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(CROP if kind == "clip" else SQUASH))
        folders[kind] = str(folder)
    return folders


@pytest.mark.parametrize("kind", KINDS)
def test_hf_image_encodes_with(kind, checkpoints):
    pixels, _ = stripes(3, 32, 0)
    results = {}
    for pooling in ("cls", "mean", "tokens"):
        encoder, processor = build(HfImage, checkpoint=checkpoints[kind], pooling=pooling)
        assert processor.config.size == 32
        encoder.eval()
        with torch.no_grad():
            results[pooling] = encoder({"pixels": pixels})
            alone = torch.cat([encoder({"pixels": row[None]}).tokens for row in pixels])
        torch.testing.assert_close(results[pooling].tokens, alone, atol=1e-4, rtol=1e-4)
    assert encoder.width == results["cls"].tokens.shape[2] == 16
    assert results["tokens"].tokens.shape[:2] == (3, results["tokens"].mask.shape[1])
    torch.testing.assert_close(results["tokens"].mean(), results["mean"].tokens[:, 0], atol=1e-5, rtol=1e-5)
    has_class_token = kind in ("vit", "deit", "dinov2", "clip")
    own = kind in ("swin", "resnet")  # these pool by the mean themselves
    assert own == torch.allclose(results["cls"].tokens, results["mean"].tokens, atol=1e-6)
    if has_class_token:
        assert results["tokens"].tokens.shape[1] == 16


def test_hf_image_gives_what_transformers_gives(checkpoints):
    pixels, _ = stripes(2, 32, 0)
    encoder, _ = build(HfImage, checkpoint=checkpoints["clip"])
    model = transformers.CLIPModel.from_pretrained(checkpoints["clip"])
    values = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.no_grad():
        pooled = model.vision_model(pixel_values=values).pooler_output
        torch.testing.assert_close(encoder.eval()({"pixels": pixels}).tokens[:, 0], pooled)


def test_hf_image_normalises_by_the_preprocessor_file(checkpoints):
    encoder, _ = build(HfImage, checkpoint=checkpoints["vit"])
    assert encoder.mean.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert encoder.std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])


@pytest.mark.parametrize("kind", ["siglip", "convnext"])
def test_hf_image_without_a_class_token_gives_what_the_checkpoint_pools(kind, checkpoints):
    pixels, _ = stripes(2, 32, 0)
    encoder, _ = build(HfImage, checkpoint=checkpoints[kind])
    model = transformers.AutoModel.from_pretrained(checkpoints[kind])
    values = (pixels.permute(0, 3, 1, 2).float() / 255 - encoder.mean) / encoder.std
    with torch.no_grad():
        pooled = getattr(model, "vision_model", model)(pixel_values=values).pooler_output
        torch.testing.assert_close(encoder.eval()({"pixels": pixels}).tokens[:, 0], pooled)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", KINDS)
def test_hf_image_trains_only_what_it_uses(kind, pooling, checkpoints):
    encoder, _ = build(HfImage, checkpoint=checkpoints[kind], pooling=pooling)
    pixels, _ = stripes(2, 32, 0)
    encoder.train()({"pixels": pixels}).tokens.square().sum().backward()
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is None] == []
    stored = encoder.state_dict()
    again, _ = build(HfImage, checkpoint=checkpoints[kind], pooling=pooling)
    again.load_state_dict(stored)
    unused = {"vit": "backbone.pooler.dense.weight", "dinov2": "backbone.embeddings.mask_token"}
    if kind in unused:
        assert unused[kind] in stored
        assert unused[kind] not in dict(encoder.named_parameters())


@pytest.mark.parametrize("pooling", ["cls", "mean", "attention", "tokens"])
def test_hf_image_frozen_part_and_new_part(pooling, checkpoints):
    from automm.model.assemble import adapt

    encoder, _ = build(HfImage, checkpoint=checkpoints["vit"], pooling=pooling, project=12, adapt="none")
    assert HfImage.extracts(encoder.config)
    assert not HfImage.extracts(HfImage.Config(checkpoint="x", adapt="last_1"))
    adapt(encoder, "none")
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    attention = {"attention.weight", "attention.bias"} if pooling == "attention" else set()
    assert trained == {"project.weight", "project.bias"} | attention
    pixels, _ = stripes(3, 32, 0)
    with torch.no_grad():
        features = encoder.eval().extract({"pixels": pixels})
        assert features.tokens.shape == (3, 1 if pooling in ("cls", "mean") else 16, 16)
        result = encoder.complete(features)
        torch.testing.assert_close(result.tokens, encoder({"pixels": pixels}).tokens)
    assert encoder.width == result.tokens.shape[2] == 12
    assert result.tokens.shape[1] == (16 if pooling == "tokens" else 1)


def test_hf_image_attention_is_a_weighted_mean(checkpoints):
    encoder, _ = build(HfImage, checkpoint=checkpoints["vit"], pooling="attention")
    pixels, _ = stripes(3, 32, 0)
    with torch.no_grad():
        tokens = encoder.eval().extract({"pixels": pixels}).tokens
        encoder.attention.weight.zero_()
        torch.testing.assert_close(encoder({"pixels": pixels}).tokens[:, 0], tokens.mean(1))
        encoder.attention.weight[0, 0] = 1e4
        first = tokens[torch.arange(3), tokens[:, :, 0].argmax(1)]
        torch.testing.assert_close(encoder({"pixels": pixels}).tokens[:, 0], first)


@pytest.mark.parametrize("kind", KINDS)
def test_hf_image_layers(kind, checkpoints):
    encoder, _ = build(HfImage, checkpoint=checkpoints[kind])
    layers = encoder.layers()
    held = [p for layer in layers for p in layer.parameters()]
    assert len(layers) == (3 if kind in ("swin", "convnext", "resnet") else 4)
    assert len(held) == len({id(p) for p in held}) == len(list(encoder.parameters()))


def test_hf_image_learns_stripes(checkpoints):
    encoder, _ = build(HfImage, checkpoint=checkpoints["vit"], pooling="mean")
    head = fit_head(encoder, *stripes(128, 32, 0), epochs=12)
    assert accuracy(encoder, head, *stripes(64, 32, 1)) > 0.9


@pytest.mark.parametrize("kind", ["vit", "clip", "convnext"])
def test_hf_image_graph_agrees(kind, checkpoints, tmp_path):
    encoder, _ = build(HfImage, checkpoint=checkpoints[kind])
    check_graph(encoder, stripes(5, 32, 0)[0], tmp_path / "graph.onnx", 1e-4)


def test_hf_image_needs_a_checkpoint():
    context = Context("classification", (INFO,), 100)
    assert HfImage.unsuited(context, HfImage.Config()) == "no checkpoint named"
    assert HfImage.unsuited(context, HfImage.Config(checkpoint="x/y")) is None
    assert HfImage.pretrained(HfImage.Config(checkpoint="x/y"))
    assert HfImage.Config().adapt == "last_2"


def test_a_local_folder_never_asks_the_network(checkpoints, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build(HfImage, checkpoint=checkpoints["siglip"])


def test_a_hub_name_without_network_fails_at_once(monkeypatch):
    from huggingface_hub import constants

    def no_route(*arguments, **options):
        raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", no_route)
    for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(key, raising=False)
    with pytest.raises(DataError, match=r"some/model: neither a folder .* cannot be reached; give the folder"):
        find_checkpoint("some/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        find_checkpoint("some/model")


def test_damaged_checkpoints_are_named(tmp_path, checkpoints):
    with pytest.raises(DataError, match="no such folder"):
        find_checkpoint("./nowhere")
    with pytest.raises(DataError, match=r"no config\.json"):
        find_checkpoint(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        HfImage.processor(HfImage.Config(checkpoint=str(tmp_path)), INFO)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DataError, match="cannot be loaded"):
        HfImage(HfImage.Config(checkpoint=str(tmp_path)), Pixels(Pixels.Config()))
    transformers.BertModel(
        transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="is a bert, which does not take pictures"):
        HfImage(HfImage.Config(checkpoint=str(tmp_path)), Pixels(Pixels.Config()))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SQUASH, (32, "squash", 1.0, "bicubic")),
        (CROP, (32, "crop", 32 / 36, "bilinear")),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, "crop", 0.875, "bilinear")),
        ({"size": 256, "do_center_crop": True, "crop_size": 224}, (224, "crop", 0.875, "bilinear")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.95}, (384, "crop", 1.0, "bilinear")),
        ({}, (96, "squash", 1.0, "bilinear")),
    ],
)
def test_preprocessor_files(found, expected, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(found))
    (tmp_path / "config.json").write_text('{"image_size": 96}')
    wanted = read_preparation(tmp_path)
    assert wanted[:4] == expected


def test_nested_and_unusable_preprocessor_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {**SQUASH, "do_normalize": False}}))
    wanted = read_preparation(tmp_path)
    assert (wanted.size, wanted.mean, wanted.std) == (32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 32, "width": 48}}')
    with pytest.raises(DataError, match="not squares"):
        read_preparation(tmp_path)
    (tmp_path / "config.json").write_text('{"num_channels": 1}')
    with pytest.raises(DataError, match="1 channels, not RGB"):
        read_preparation(tmp_path)
