"""LoRA: only adapters and what is fresh are trained, nothing changes before training, and merging keeps the answers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from pydantic import ValidationError  # noqa: E402

from automm.api import Encoder, Features, PluginError  # noqa: E402
from automm.model.assemble import adapt  # noqa: E402
from automm.model.lora import merge_adapters, rank_of  # noqa: E402

nn = torch.nn


class Tower(Encoder):
    """Two blocks of linear layers, fused attention, a convolution, and a fresh projection."""

    modality = "numbers"

    def __init__(self, config=None, processor=None):
        super().__init__(config or Encoder.Config(), processor)
        self.first = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fused = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.project = nn.Linear(8, 8)
        self.last = nn.ModuleDict({"project": nn.Linear(8, 8, bias=False)})
        self.width = 8

    def fresh(self):
        return [self.project]

    def forward(self, arrays):
        x = torch.tanh(self.first(arrays["x"]))  # [batch, time, 8]
        x = self.fused(x + self.attention(x, x, x)[0])
        return Features(self.project(self.last["project"](x)), torch.ones(x.shape[:2]).bool())


class Picture(Encoder):
    modality = "image"

    def __init__(self):
        super().__init__(Encoder.Config(), None)
        self.conv = nn.Conv2d(3, 4, 3)


def tower(how="lora"):
    torch.manual_seed(0)
    encoder = Tower()
    adapt(encoder, how)
    return encoder


def batch(seed=0):
    return {"x": torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(seed))}


def train(encoder, steps=20):
    optimizer = torch.optim.Adam([p for p in encoder.parameters() if p.requires_grad], lr=0.02)
    target = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        loss = (encoder(batch()).tokens - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize(
    ("how", "rank"), [("lora", 8), ("lora_1", 1), ("lora_16", 16), ("full", None), ("last_2", None)]
)
def test_rank(how, rank):
    assert rank_of(how) == rank
    assert Encoder.Config(adapt=how).adapt == how


@pytest.mark.parametrize("how", ["lora_0", "lora_", "lora16", "lora_-1", "Lora", "xlora"])
def test_other_spellings_are_refused(how):
    with pytest.raises(ValidationError):
        Encoder.Config(adapt=how)


def test_only_adapters_and_fresh_modules_are_trained():
    encoder = tower("lora_4")
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    adapters = {f"{at}.lora_{which}.default.weight" for at in ("first.0", "last.project") for which in "AB"}
    assert trained == adapters | {"project.weight", "project.bias"}
    assert encoder.last["project"].lora_A["default"].weight.shape == (4, 8)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    start, end = train(encoder, 1), train(encoder, 40)
    assert end < start
    assert {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])} == trained
    assert all((p.grad is not None) == (name in trained) for name, p in encoder.named_parameters())


def test_nothing_changes_before_training():
    assert torch.equal(tower("lora").eval()(batch()).tokens, tower("full").eval()(batch()).tokens)


def test_merged_weights_answer_alike_and_have_the_old_names():
    encoder = tower("lora_2")
    train(encoder)
    encoder.eval()
    with torch.no_grad():
        expected = encoder(batch(3)).tokens
        assert not torch.allclose(expected, tower("full").eval()(batch(3)).tokens, atol=1e-2)
        merge_adapters(encoder)
        assert torch.allclose(encoder(batch(3)).tokens, expected, atol=1e-5)
    plain = tower("full").eval()
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.allclose(plain(batch(3)).tokens, expected, atol=1e-5)


def test_weights_survive_safetensors(tmp_path):
    from automm.train.weights import load_weights, save_weights

    encoder = tower()
    train(encoder)
    save_weights(encoder.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(9)
    again = Tower()
    adapt(again, "lora")
    again.load_state_dict(load_weights(tmp_path / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(again.eval()(batch()).tokens, encoder.eval()(batch()).tokens)


def test_merging_leaves_other_modules_alone():
    encoder = tower("full")
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    merge_adapters(encoder)
    assert all(torch.equal(p, before[name]) for name, p in encoder.named_parameters())


def test_an_encoder_without_linear_layers_says_so():
    with pytest.raises(PluginError, match="'picture' has no linear layers"):
        adapt(Picture(), "lora")
