"""Every registered component goes through its checks."""

import functools
import json
import tempfile
from pathlib import Path

import pytest
from automm_tasks.decoders import Classes, Labels, Number

from automm.core.kinds import KINDS
from automm.testing import checks_for
from automm.testing.subject import installed


@functools.cache
def folder():
    """A folder that lives as long as the process."""
    return tempfile.TemporaryDirectory()


def text_checkpoint():
    """A BERT with random weights and a vocabulary of characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig

    path = Path(folder().name, "text")
    letters = "abcdefghijklmnopqrstuvwxyz."
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    words = ["lovely", "excellent", "friendly", "spotless", "dirty", "awful", "noisy", "broken", "and", "was"]
    vocabulary = {token: at for at, token in enumerate([*tokens, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    path.mkdir(exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **sizes).save_pretrained(path)
    return {"checkpoint": str(path), "adapt": "full"}


def image_checkpoint():
    """A ViT with random weights."""
    import torch
    from transformers import ViTConfig, ViTModel

    path = Path(folder().name, "image")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False).save_pretrained(path)
    numbers = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
    (path / "preprocessor_config.json").write_text(json.dumps(numbers))
    return {"checkpoint": str(path), "adapt": "full"}


def audio_checkpoint():
    """An Audio Spectrogram Transformer with random weights."""
    import torch
    from transformers import ASTConfig, ASTModel

    path = Path(folder().name, "audio")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    patches = {"patch_size": 8, "frequency_stride": 8, "time_stride": 8}
    ASTModel(ASTConfig(max_length=64, num_mel_bins=32, **patches, **sizes)).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16000}))
    return {"checkpoint": str(path), "adapt": "full"}


def clip_checkpoint():
    """A CLIP with random weights, with the texts' tokeniser and the pictures' preparation."""
    import torch
    from tokenizers import Tokenizer, processors
    from transformers import CLIPConfig, CLIPModel

    path = Path(folder().name, "clip")
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_file(str(Path(text_checkpoint()["checkpoint"], "tokenizer.json")))
    end = tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", end)]
    )
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    ids = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": end}
    text, vision = {**sizes, **ids}, {**sizes, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    model.text_model.embeddings.position_embedding.weight.data.zero_()  # a few texts are learned by heart otherwise
    model.save_pretrained(path)
    tokenizer.save(str(path / "tokenizer.json"))
    preparation = Path(image_checkpoint()["checkpoint"], "preprocessor_config.json").read_text()
    (path / "preprocessor_config.json").write_text(preparation)
    return {"checkpoint": str(path), "adapt": "full"}


def series_checkpoint():
    """A PatchTST with random weights."""
    from transformers import PatchTSTConfig, PatchTSTModel

    path = Path(folder().name, "series")
    sizes = {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 1}
    PatchTSTModel(PatchTSTConfig(context_length=40, patch_length=8, patch_stride=4, **sizes)).save_pretrained(path)
    return {"checkpoint": str(path), "adapt": "full"}


def video_checkpoint():
    """A VideoMAE with random weights."""
    import torch
    from transformers import VideoMAEConfig, VideoMAEModel

    path = Path(folder().name, "video")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    VideoMAEModel(VideoMAEConfig(image_size=32, patch_size=8, num_frames=4, **sizes)).save_pretrained(path)
    numbers = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3}
    (path / "preprocessor_config.json").write_text(json.dumps({**numbers, "image_std": [0.5] * 3}))
    return {"checkpoint": str(path), "adapt": "full"}


CONFIGS = {
    "hf_text": text_checkpoint,
    "hf_image": image_checkpoint,
    "hf_series": series_checkpoint,
    "hf_audio": audio_checkpoint,
    "hf_video": video_checkpoint,
    "frame_encoder": {"encoder": "small_cnn", "frames": 4, "options": {"size": 32, "width": 8}},
    "video_descriptors": {"length": 4},
    "transformer": {"layers": 1},
    "mult": {"layers": 1},
    "graph": {"layers": 1},
    "clip_image": clip_checkpoint,
    "clip_text": clip_checkpoint,
}
EXPECTED = {}
COMPONENTS = [*(entry.cls for entry in installed().all()), Classes, Labels, Number]
CHECKS = {
    f"{cls.kind}-{cls.name}-{check.name}": check
    for cls in COMPONENTS
    for check in checks_for(cls, config=CONFIGS.get(cls.name))
}


@pytest.mark.parametrize("name", CHECKS)
def test_conformance(name, request):
    if name in EXPECTED:
        request.applymarker(pytest.mark.xfail(reason=EXPECTED[name], strict=True))
    CHECKS[name]()


def test_every_built_in_kind_is_covered():
    kinds = {cls.kind for cls in COMPONENTS}
    assert kinds == set(KINDS)
