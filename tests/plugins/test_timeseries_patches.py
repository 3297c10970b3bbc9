"""PatchTST from scratch, and checkpoints of PatchTST and PatchTSMixer."""

import json

import numpy as np
import pytest
import torch
from automm_timeseries.hf_series import HfSeries
from automm_timeseries.patch_tst import PatchTst
from automm_timeseries.patches import InstanceNorm, PatchEmbedding
from pydantic import ValidationError
from torch import nn

from automm.api import Context, DataError, InputInfo, PluginError

INFO = InputInfo("log", "series", ("log",))


def build(cls, cells, **fields):
    config = cls.Config(**fields)
    processor = cls.processor(config, INFO)
    processor.fit([cells])
    torch.manual_seed(0)
    return cls(config, processor).eval(), processor


def tensors(arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def noise(count: int, seed: int = 0, channels: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(20, 40), channels)) for _ in range(count)]


def small(**fields):
    return {"size": 16, "layers": 1, "heads": 2, "patch": 8, "stride": 4, "width": 32, **fields}


# From scratch


def test_instance_norm_by_hand():
    values = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [99.0, 99.0]]])
    real = torch.tensor([[[1.0], [1.0], [0.0]]])
    found = InstanceNorm()(values, real)
    scale = 1 / np.sqrt(1.001)
    np.testing.assert_allclose(found[0], [[-scale, 0], [scale, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize(("patch", "stride"), [(4, 2), (3, 3), (5, 1), (1, 1)])
def test_patches_cover_every_step(patch, stride):
    embed = PatchEmbedding(1, 3, patch, stride, 50)
    lengths = [1, 2, 7, 12]
    mask = torch.arange(12)[None] < torch.tensor(lengths)[:, None]
    tokens, real = embed(torch.randn(4, 1, 12) * mask[:, None], mask)
    assert tokens.shape[:2] == real.shape
    assert real.sum(1).tolist() == [-(-length // stride) for length in lengths]


def test_patches_are_numbered_from_the_end():
    embed = PatchEmbedding(1, 3, 2, 2, 10)
    nn.init.zeros_(embed.embed.weight)
    nn.init.zeros_(embed.embed.bias)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    tokens, _ = embed(torch.zeros(2, 1, 6), mask)
    torch.testing.assert_close(tokens[0], embed.position[[2, 1, 0]])
    torch.testing.assert_close(tokens[1, :2], embed.position[[1, 0]])


@pytest.mark.parametrize("channels", ["independent", "mixed"])
@pytest.mark.parametrize("tokens", [True, False])
def test_shapes_and_padding(channels, tokens):
    cells = noise(6)
    encoder, processor = build(PatchTst, cells, **small(channels=channels, tokens=tokens))
    features = encoder(tensors(processor(cells)))
    time = -(-max(map(len, cells)) // 4) if tokens else 1
    assert features.tokens.shape == (6, time, 32)
    assert encoder.width == 32
    alone = encoder(tensors(processor(cells[:1])))
    torch.testing.assert_close(features.mean()[:1], alone.mean(), atol=1e-5, rtol=1e-4)
    assert not features.tokens[~features.mask].any()


def fit(encoder, processor, cells, target, loss, epochs: int) -> nn.Linear:
    arrays, head = tensors(processor(cells)), nn.Linear(encoder.width, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    encoder.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(target)).split(32):
            output = head(encoder({name: array[rows] for name, array in arrays.items()}).mean())[:, 0]
            optimizer.zero_grad()
            loss(output, target[rows]).backward()
            optimizer.step()
    encoder.eval()
    return head


def bumps(count: int, seed: int) -> tuple[list[np.ndarray], torch.Tensor]:
    """Noise with a rising or a falling edge somewhere; the mirror image has the same figures."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    cells = noise(count, seed)
    for kind, values in zip(label, cells, strict=True):
        values *= 0.3
        start = rng.integers(2, len(values) - 10)
        saw = np.linspace(-2, 2, 8)
        values[start : start + 8, 1] += saw if kind else saw[::-1]
    return cells, torch.from_numpy(label).float()


@pytest.mark.parametrize("channels", ["independent", "mixed"])
def test_learns_a_shape(channels):
    train, test = bumps(160, 0), bumps(80, 1)
    encoder, processor = build(PatchTst, train[0], **small(channels=channels, size=32))
    head = fit(encoder, processor, *train, nn.functional.binary_cross_entropy_with_logits, 20)
    with torch.no_grad():
        output = head(encoder(tensors(processor(test[0]))).mean())[:, 0]
    assert ((output > 0) == (test[1] > 0)).float().mean() > 0.85


def test_learns_a_level():
    rng = np.random.default_rng(0)
    level = rng.normal(size=160)
    cells = [values + at for values, at in zip(noise(160), level, strict=True)]
    encoder, processor = build(PatchTst, cells[:120], **small())
    head = fit(encoder, processor, cells[:120], torch.from_numpy(level[:120]).float(), nn.functional.mse_loss, 15)
    with torch.no_grad():
        output = head(encoder(tensors(processor(cells[120:]))).mean())[:, 0].numpy()
    assert np.corrcoef(output, level[120:])[0, 1] > 0.9


def test_stride_within_patch():
    with pytest.raises(ValidationError, match="skip time steps"):
        PatchTst.Config(patch=4, stride=8)


# Checkpoints


@pytest.fixture(scope="module", params=["patchtst", "patchtsmixer"])
def folder(request, tmp_path_factory):
    from transformers import PatchTSMixerConfig, PatchTSMixerModel, PatchTSTConfig, PatchTSTModel

    path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    shape = {"context_length": 24, "patch_length": 8, "d_model": 16}
    if request.param == "patchtst":
        sizes = {"num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 2}
        model = PatchTSTModel(PatchTSTConfig(**shape, **sizes, patch_stride=4))
    else:
        model = PatchTSMixerModel(PatchTSMixerConfig(**shape, num_layers=2))
    model.save_pretrained(path)
    return path


def test_reads_its_context(folder):
    from transformers import AutoModel

    cells = noise(5)
    encoder, processor = build(HfSeries, cells, checkpoint=str(folder), width=8)
    assert processor.config.max_length == 24
    assert HfSeries.pretrained(encoder.config)
    arrays = tensors(processor([*cells, np.ones((3, 2))]))
    with torch.no_grad():
        found = encoder.extract(arrays)
        assert encoder(arrays).tokens.shape == (6, 1, 8)
    assert found.tokens.shape == (6, 1, 2 * 16 + 2 * 8 + 1)
    # The checkpoint itself, one channel at a time, on a full context.
    model = AutoModel.from_pretrained(folder).eval()
    full = next(at for at, cell in enumerate(cells) if len(cell) >= 24)
    for channel in range(2):
        with torch.no_grad():
            expected = model(past_values=arrays["values"][full, :, channel][None, :, None]).last_hidden_state
        torch.testing.assert_close(
            found.tokens[full, 0, 16 * channel : 16 * (channel + 1)], expected.mean((0, 1, 2)), atol=1e-4, rtol=1e-3
        )


def test_frozen_part_stays_frozen(folder):
    cells = noise(4)
    encoder, _ = build(HfSeries, cells, checkpoint=str(folder))
    encoder.train()
    assert encoder.training
    assert not encoder.model.training
    assert HfSeries.extracts(encoder.config)
    fresh = {id(p) for module in encoder.fresh() for p in module.parameters()}
    assert fresh == {id(p) for module in (encoder.project, encoder.norm) for p in module.parameters()}
    trained, _ = build(HfSeries, cells, checkpoint=str(folder), adapt="full")
    assert trained.train().model.training
    assert not HfSeries.extracts(trained.config)
    held = [id(p) for layer in trained.layers() for p in layer.parameters()]
    assert len(held) == len(set(held)) == len(list(trained.parameters()))
    assert len(trained.layers()) == 3


def test_a_folder_without_weights_starts_at_random(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    encoder, _ = build(HfSeries, noise(4), checkpoint=str(tmp_path))
    assert not HfSeries.pretrained(encoder.config)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="only safetensors weights are read"):
        build(HfSeries, noise(4), checkpoint=str(tmp_path))


def test_weights_for_other_channels_are_refused(tmp_path):
    from transformers import PatchTSMixerConfig, PatchTSMixerModel

    config = PatchTSMixerConfig(
        context_length=24, patch_length=8, d_model=8, num_layers=1, num_input_channels=3, mode="mix_channel"
    )
    PatchTSMixerModel(config).save_pretrained(tmp_path)
    build(HfSeries, noise(3, channels=3), checkpoint=str(tmp_path))
    with pytest.raises(PluginError, match="weights are for 3 channels, and mix them; the input has 2"):
        build(HfSeries, noise(3), checkpoint=str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json: not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"model_type": "bert"}', "bert is not a series model; known are patchtst, patchtsmixer"),
        ('{"model_type": "patchtst", "context_length": -1}', "context_length is -1"),
        ('{"model_type": "patchtst", "patch_length": "x"}', "not a series model that transformers can load"),
    ],
)
def test_damaged_checkpoints_are_named(config, message, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises((DataError, PluginError), match=message):
        build(HfSeries, noise(3), checkpoint=str(tmp_path))


def test_where_there_is_no_checkpoint(tmp_path, monkeypatch):
    context = Context("regression", (), 10, None)
    assert HfSeries.unsuited(context, HfSeries.Config()) == "no checkpoint named"
    assert HfSeries.unsuited(context, HfSeries.Config(checkpoint="org/name")) is None
    with pytest.raises(DataError, match=r"has no config\.json"):
        build(HfSeries, noise(3), checkpoint=str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        build(HfSeries, noise(3), checkpoint=str(tmp_path / "absent"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        build(HfSeries, noise(3), checkpoint="nobody/nothing-here")


def test_code_of_a_checkpoint_is_not_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('code of the checkpoint was run')")
    build(HfSeries, noise(3), checkpoint=str(tmp_path))
