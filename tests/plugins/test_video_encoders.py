"""Video encoders: planted motion and appearance are learned; checkpoints agree with transformers."""

import json

import numpy as np
import pytest
import torch
import transformers
from automm_image.pixels import Pixels
from automm_video.augment import augment
from automm_video.checkpoint import read_preparation
from automm_video.descriptors import HEIGHT, WIDTH, describe
from automm_video.frame_cnn import FrameCnn
from automm_video.frame_encoder import FrameEncoder
from automm_video.frames import Frames
from automm_video.hf_video import HfVideo
from automm_video.modality import encode_clip
from automm_video.pictures import Pictures
from automm_video.reading import Limits, evenly, read_frames
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from automm.api import Context, DataError, InputInfo, PluginError

INFO = InputInfo("clip", "video", ("clip",))
LIMITS = Limits(10_000_000, 3600.0, 1_000_000, 3000)


def build(encoder, /, **fields):
    config = encoder.Config(**fields)
    processor = encoder.processor(config, INFO)
    torch.manual_seed(0)
    return encoder(config, processor), processor


def drifting(count: int, frames: int, height: int, width: int, seed: int, speeds=(1, -1)):
    """Noise that drifts to the right (0) or to the left (1): single frames say nothing."""
    generator = np.random.default_rng(seed)
    label = np.arange(count) % 2
    clips = np.empty((count, frames, height, width, 3), np.uint8)
    for clip, kind in zip(clips, label, strict=True):
        field = generator.uniform(0, 255, (height // 4, width // 4)).repeat(4, 0).repeat(4, 1)
        field = (field + np.roll(field, 2, 1) + np.roll(field, 1, 0)) / 3
        for at, frame in enumerate(clip):
            frame[:] = np.roll(field, speeds[kind] * at, 1)[:, :, None]
    return clips, label


def fit_head(encoder, arrays, label, epochs, rate=3e-3):
    head = nn.Linear(encoder.width, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=rate)
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(label)).split(16):
            output = head(encoder({name: array[rows] for name, array in arrays.items()}).mean())
            optimizer.zero_grad()
            nn.functional.cross_entropy(output, label[rows]).backward()
            optimizer.step()
    return head


def accuracy(encoder, head, arrays, label) -> float:
    encoder.eval()
    with torch.no_grad():
        return (head(encoder(arrays).mean()).argmax(1) == label).float().mean().item()


# Descriptors


def test_descriptors_tell_directions_apart():
    clips, label = drifting(40, 4, HEIGHT, WIDTH, 0, speeds=(2, -2))
    vectors = np.stack([describe(clip[None]) for clip in clips])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(vectors[:28], label[:28])
    assert model.score(vectors[28:], label[28:]) >= 0.9


def test_descriptors_tell_speeds_apart():
    clips, label = drifting(24, 4, HEIGHT, WIDTH, 0, speeds=(0, 1))
    vectors = np.stack([describe(clip[None]) for clip in clips])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(vectors[:16], label[:16])
    assert model.score(vectors[16:], label[16:]) == 1


# The network over frames


@pytest.mark.parametrize("temporal", ["mean", "transformer"])
def test_frame_cnn_learns_motion(temporal):
    encoder, _ = build(FrameCnn, frames=4, size=32, width=8, temporal=temporal, strength=0.0, flip=False)
    clips, label = drifting(96, 4, 32, 32, 0, speeds=(0, 2))
    arrays, label = {"frames": torch.from_numpy(clips)}, torch.from_numpy(label)
    head = fit_head(encoder, {"frames": arrays["frames"][:64]}, label[:64], epochs=5)
    assert accuracy(encoder, head, {"frames": arrays["frames"][64:]}, label[64:]) > 0.9


def test_frame_cnn_gives_one_vector_or_the_frames():
    clips, _ = drifting(3, 4, 32, 32, 0)
    arrays = {"frames": torch.from_numpy(clips)}
    encoder, processor = build(FrameCnn, frames=4, size=32, width=8)
    features = encoder.eval()(arrays)
    assert features.tokens.shape == (3, 1, encoder.width) == (3, 1, 64)
    assert processor.specs()["frames"].shape == (4, 32, 32, 3)
    tokens = build(FrameCnn, frames=4, size=32, width=8, temporal="tokens")[0].eval()(arrays)
    assert tokens.tokens.shape == (3, 4, 64)
    torch.testing.assert_close(tokens.mean(), features.tokens[:, 0])


def test_augmentation_is_alike_in_all_frames_of_a_clip():
    clips, _ = drifting(4, 1, 32, 32, 0)
    frames = torch.from_numpy(clips).permute(0, 1, 4, 2, 3).float().div(255).expand(4, 5, 3, 32, 32)
    torch.manual_seed(0)
    changed = augment(frames, 1.0, flip=True)
    assert changed.shape == frames.shape
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed))
    assert (changed - frames).abs().mean((1, 2, 3, 4)).min() > 0.02
    assert changed.min() >= 0
    assert changed.max() <= 1
    torch.manual_seed(1)
    mirrored = augment(frames, 0.0, flip=True)
    kinds = [torch.allclose(a, b, atol=1e-4) for a, b in zip(mirrored, frames, strict=True)]
    turned = [torch.allclose(a, b.flip(-1), atol=1e-4) for a, b in zip(mirrored, frames, strict=True)]
    assert all(same != other for same, other in zip(kinds, turned, strict=True))
    assert 0 < sum(turned) < 4


# Encoders of pictures, frame by frame


def save_vit(path, **numbers):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes)
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(path)
    preparation = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}, **numbers}
    (path / "preprocessor_config.json").write_text(json.dumps(preparation))
    return str(path)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.mark.parametrize("adapt", ["none", "full"])
def test_frame_encoder_is_the_mean_of_the_frames_features(adapt, vit):
    encoder, processor = build(FrameEncoder, encoder="hf_image", checkpoint=vit, frames=3, adapt=adapt)
    assert isinstance(processor, Pictures)
    clip = encode_clip(drifting(1, 6, 32, 48, 0)[0][0])
    arrays = {name: torch.from_numpy(array) for name, array in processor([clip, clip]).items()}
    found = encoder.eval()(arrays)
    assert found.tokens.shape == (2, 1, 16)
    pixels = Pixels(Pixels.Config(size=32, resample="bilinear"))
    frames = read_frames(clip, evenly(3), LIMITS, lambda picture: np.asarray(pixels._square(picture)))
    with torch.no_grad():
        one = encoder.inner({"pixels": torch.from_numpy(np.stack(frames))}).mean().mean(0)
    torch.testing.assert_close(found.tokens[0, 0], one, atol=1e-5, rtol=1e-4)
    assert FrameEncoder.extracts(encoder.config) == (adapt == "none")
    assert FrameEncoder.pretrained(encoder.config)


def test_frame_encoder_hands_on_options_and_trains_what_is_new(vit):
    encoder, _ = build(
        FrameEncoder,
        encoder="hf_image",
        checkpoint=vit,
        frames=2,
        adapt="none",
        temporal="transformer",
        options={"pooling": "mean"},
    )
    assert encoder.inner.config.pooling == "mean"
    assert encoder.temporal in encoder.fresh()
    small, _ = build(FrameEncoder, encoder="small_cnn", options={"size": 32, "width": 8}, frames=2)
    inside = {id(p) for layer in small.layers() for p in layer.parameters()}
    assert inside == {id(p) for p in small.parameters()}
    assert not FrameEncoder.extracts(small.config)
    assert not FrameEncoder.pretrained(small.config)


def test_frame_encoder_says_what_does_not_fit():
    context = Context("classification", (INFO,), 100)
    assert FrameEncoder.unsuited(context, FrameEncoder.Config()) == "no encoder of pictures named"
    assert "is for text" in FrameEncoder.unsuited(context, FrameEncoder.Config(encoder="ngram"))
    assert "no_such" in FrameEncoder.unsuited(context, FrameEncoder.Config(encoder="no_such"))
    assert FrameEncoder.unsuited(context, FrameEncoder.Config(encoder="hf_image")) == "no checkpoint named"
    assert FrameEncoder.unsuited(context, FrameEncoder.Config(encoder="small_cnn")) is None
    with pytest.raises(PluginError, match="small_cnn refuses wdth"):
        build(FrameEncoder, encoder="small_cnn", options={"wdth": 8})


# Checkpoints of video models

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32}
CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
NUMBERS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
KINDS = ["videomae", "vivit", "timesformer", "vjepa2"]


def make(kind):
    from transformers import models

    match kind:
        case "videomae":
            return models.videomae.VideoMAEModel(transformers.VideoMAEConfig(patch_size=8, num_frames=4, **SIZES))
        case "vivit":
            config = transformers.VivitConfig(num_frames=4, tubelet_size=[2, 8, 8], **SIZES)
            return models.vivit.VivitModel(config)
        case "timesformer":
            config = transformers.TimesformerConfig(patch_size=8, num_frames=4, **SIZES)
            return models.timesformer.TimesformerModel(config)
    names = ("num_hidden_layers", "num_attention_heads")
    sizes = {name: SIZES[name] for name in names} | {f"pred_{name}": 1 for name in names}
    config = transformers.VJEPA2Config(
        patch_size=8, crop_size=32, frames_per_clip=4, hidden_size=24, pred_hidden_size=24, mlp_ratio=2.0, **sizes
    )
    return models.vjepa2.VJEPA2Model(config)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folders = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        make(kind).save_pretrained(folder)
        extra = {"offset": True, "rescale_factor": 1 / 127.5} if kind == "vivit" else {}
        (folder / "preprocessor_config.json").write_text(json.dumps({**CROP, **NUMBERS, **extra}))
        folders[kind] = str(folder)
    return folders


def clips_of(count=2):
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.integers(0, 256, (count, 4, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
def test_hf_video_encodes_with(kind, checkpoints):
    clips, results = clips_of(3), {}
    for pooling in ("mean", "cls", "attention", "tokens"):
        encoder, processor = build(HfVideo, checkpoint=checkpoints[kind], pooling=pooling)
        assert processor.specs()["frames"].shape == (4, 32, 32, 3)
        encoder.eval()
        with torch.no_grad():
            results[pooling] = encoder({"frames": clips})
            alone = torch.cat([encoder({"frames": clip[None]}).tokens for clip in clips])
        torch.testing.assert_close(results[pooling].tokens, alone, atol=1e-4, rtol=1e-4)
    assert encoder.width == results["mean"].tokens.shape[2]
    torch.testing.assert_close(results["tokens"].mean(), results["mean"].tokens[:, 0], atol=1e-5, rtol=1e-5)
    assert results["tokens"].tokens.shape[1] == (64 if kind == "timesformer" else 32)
    same = torch.allclose(results["cls"].tokens, results["mean"].tokens)
    assert same == (kind in ("videomae", "vjepa2"))


@pytest.mark.parametrize("kind", KINDS)
def test_hf_video_layers(kind, checkpoints):
    encoder, _ = build(HfVideo, checkpoint=checkpoints[kind], pooling="attention")
    layers = encoder.layers()
    held = [p for layer in layers for p in layer.parameters()]
    assert len(layers) == 3
    assert len(held) == len({id(p) for p in held}) == len(list(encoder.parameters()))
    assert encoder.fresh() == [encoder.attention]


def test_hf_video_gives_what_transformers_gives(checkpoints):
    clip = np.random.default_rng(0).integers(0, 256, (4, 40, 56, 3), np.uint8)
    for kind, image_processor in (
        ("videomae", transformers.VideoMAEImageProcessorPil),
        ("vivit", transformers.VivitImageProcessor),
    ):
        encoder, processor = build(HfVideo, checkpoint=checkpoints[kind], pooling="tokens")
        theirs = image_processor.from_pretrained(checkpoints[kind])
        frames = encode_clip(clip, codec="ffv1", container="matroska")
        pictures = read_frames(frames, evenly(4), LIMITS, np.asarray)
        wanted = torch.from_numpy(np.asarray(theirs(list(pictures), return_tensors="np")["pixel_values"]))
        ours = torch.from_numpy(processor([frames])["frames"])
        values = ours.permute(0, 1, 4, 2, 3).float() * encoder.scale + encoder.shift
        torch.testing.assert_close(values, wanted.reshape(values.shape).float(), atol=1e-4, rtol=1e-4)
        with torch.no_grad():
            model = transformers.AutoModel.from_pretrained(checkpoints[kind])
            states = model(pixel_values=values).last_hidden_state[:, 1 if kind == "vivit" else 0 :]
            torch.testing.assert_close(encoder.eval()({"frames": ours}).tokens, states)


def test_hf_video_learns_motion(checkpoints):
    encoder, _ = build(HfVideo, checkpoint=checkpoints["videomae"], adapt="full")
    clips, label = drifting(96, 4, 32, 32, 0, speeds=(0, 4))
    frames, label = torch.from_numpy(clips), torch.from_numpy(label)
    head = fit_head(encoder, {"frames": frames[:64]}, label[:64], epochs=15)
    assert accuracy(encoder, head, {"frames": frames[64:]}, label[64:]) > 0.9


def test_hf_video_extracts_frozen_checkpoints_only():
    assert HfVideo.extracts(HfVideo.Config(checkpoint="x/y"))
    assert not HfVideo.extracts(HfVideo.Config(checkpoint="x/y", adapt="last_1"))
    context = Context("classification", (INFO,), 100)
    assert HfVideo.unsuited(context, HfVideo.Config()) == "no checkpoint named"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (CROP, (4, "crop", 36, "bilinear")),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 3}, (4, "squash", 0, "bicubic")),
        ({"size": 32, "crop_size": 32}, (4, "crop", 32, "bilinear")),
        ({}, (4, "crop", 32, "bilinear")),
    ],
)
def test_preprocessor_files(found, expected, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"num_frames": 4, "image_size": 32}))
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(found))
    frames = read_preparation(tmp_path).frames
    assert isinstance(frames, Frames.Config)
    assert (frames.frames, frames.fit, frames.shorter, frames.resample) == expected


@pytest.mark.parametrize(
    ("config", "found", "message"),
    [
        ({}, {}, "how many frames"),
        ({"num_frames": 4, "num_channels": 1}, {}, "1 channels"),
        ({"num_frames": 4, "image_size": 32}, {"size": {"height": 32, "width": 48}}, "not squares"),
        ({"num_frames": 4, "image_size": 32}, {"size": {"shortest_edge": 24}}, "24 pixels for a model of 32"),
        ({"num_frames": 4, "image_size": 32}, {**CROP, "image_std": [1.0]}, "1 values for the three channels"),
    ],
)
def test_unusable_preprocessor_files(config, found, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        read_preparation(tmp_path)


def test_models_of_other_things_are_named(tmp_path, vit):
    config = json.loads((tmp_path.parent / vit / "config.json").read_text()) | {"num_frames": 4}
    for name in ("model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((tmp_path / vit / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="cannot encode video"):
        build(HfVideo, checkpoint=str(tmp_path))
