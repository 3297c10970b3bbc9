"""Taking parts out of models: planted redundancy is found and goes without a trace, and nothing else is touched."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from automm_compress import DropLayers, LowRank, Prune  # noqa: E402
from automm_compress._coupling import Moments, find_groups, probe  # noqa: E402
from automm_compress._factors import Factors  # noqa: E402
from automm_compress._slicing import reconstruct  # noqa: E402
from torch import nn  # noqa: E402

from automm.api import NotCompressible  # noqa: E402

WIDTH, HEADS, HIDDEN = 32, 4, 96


class Layer(nn.Module):
    """A transformer layer with names that nobody knows."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.n1, self.n2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.up, self.gate, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):
        def split(given):
            return given.view(*x.shape[:2], -1, WIDTH // HEADS).transpose(1, 2)

        found = nn.functional.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)))
        x = self.n1(x + self.o(found.transpose(1, 2).reshape(*x.shape[:2], -1)))
        return self.n2(x + self.down(nn.functional.silu(self.gate(x)) * self.up(x)))


class Model(nn.Module):
    """A stack of layers and a convolutional network."""

    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList(Layer() for _ in range(3))
        self.first, self.norm, self.second = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3)
        self.each = nn.Conv2d(16, 16, 3, groups=16)
        self.head = nn.Linear(WIDTH + 8, 2)

    def forward(self, batch):
        x = batch["series.values"]
        for layer in self.stack:
            x = layer(x)
        photo = self.second(self.each(torch.relu(self.norm(self.first(batch["photo.pixels"]))))).mean((2, 3))
        return {"probability": self.head(torch.cat([x.mean(1), photo], 1)).softmax(1)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().eval()


def batch(rows=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    return {
        "series.values": torch.randn(rows, 6, WIDTH, generator=random),
        "photo.pixels": torch.randn(rows, 3, 10, 10, generator=random),
    }


def answers(model):
    with torch.no_grad():
        return model(batch(seed=9))["probability"]


def shrink(cls, model, **fields):
    found = copy.deepcopy(model)
    cls(cls.Config(**fields)).shrink(found, [batch(seed=1), batch(seed=2)])
    return found


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_groups_are_found_whatever_the_names(model):
    groups = find_groups(model, batch(2))
    names = {module: name for name, module in model.named_modules()}
    told = {
        tuple(names[module] for module in group.consumers): (
            sorted(names[module] for module in group.producers),
            [names[module] for module in group.carriers],
            group.block,
        )
        for group in groups
    }
    assert told == {
        **{(f"stack.{at}.o",): ([f"stack.{at}.{name}" for name in "kqv"], [], WIDTH // HEADS) for at in range(3)},
        **{(f"stack.{at}.down",): ([f"stack.{at}.gate", f"stack.{at}.up"], [], 1) for at in range(3)},
        ("second",): (["first"], ["norm", "each"], 1),
    }, "residual streams, head and embeddings are not hidden units"


def test_rows_that_show_every_input():
    present = [[1, 0, 1, 1], [0, 1, 1, 1]]
    batch = {f"{slug}.present": torch.tensor(rows).bool() for slug, rows in zip("ab", present, strict=True)}
    assert probe([batch])["a.present"].tolist() == [True, True]
    apart = {name: tensor[:2] for name, tensor in batch.items()}
    assert probe([apart, batch])["b.present"].tolist() == [True, True]
    assert probe([apart])["a.present"].tolist() == [True, False]


def test_idle_units_heads_and_channels_go_without_a_trace(model):
    """Some units are planted to say nothing: exactly these go, and the answers stay."""
    idle = torch.arange(0, HIDDEN, 3)
    with torch.no_grad():
        for layer in model.stack:
            layer.up.weight[idle], layer.up.bias[idle] = 0.0, 0.0
            layer.v.weight[8:16], layer.v.bias[8:16] = 0.0, 0.0  # the second head
        model.second.weight[:, :5] = 0.0
    small = shrink(Prune, model, units=1 / 3, heads=0.25)
    torch.testing.assert_close(answers(small), answers(model), rtol=1e-3, atol=1e-3)
    kept = [at for at in range(HIDDEN) if at % 3]
    assert torch.equal(small.stack[0].up.weight, model.stack[0].up.weight[kept])
    assert small.stack[1].q.weight.shape == (24, WIDTH)
    assert small.stack[1].o.weight.shape == (WIDTH, 24)
    assert torch.equal(small.stack[2].v.weight, torch.cat([model.stack[2].v.weight[:8], model.stack[2].v.weight[16:]]))
    assert (small.first.out_channels, small.norm.num_features, small.each.groups, small.second.in_channels) == (11,) * 4
    assert torch.equal(small.first.weight[:, 0, 0, 0], model.first.weight[5:, 0, 0, 0])
    assert count(small) < 0.75 * count(model)


def test_others_take_over_what_pruned_units_told():
    """A unit that is the sum of others is not missed once these have taken its weights over."""
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 5), torch.randn(400, 12)
    x[:, 8:] = x[:, :4] + 2 * x[:, 4:8] + 1
    moments = Moments(12)
    moments.add(layer, x)
    with torch.no_grad():
        expected = layer(x)
        reconstruct(layer, torch.arange(8), moments)
        torch.testing.assert_close(layer(x), expected, rtol=1e-2, atol=1e-2)
    assert not layer.weight[:, 8:].any()


def test_a_model_that_reads_its_units_otherwise_is_left_alone():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, batch):
            hidden = torch.relu(self.a(batch["x"]))
            return {"y": self.b(hidden) + hidden.sum(1, keepdim=True)}  # the sum sees the units, too

    torch.manual_seed(0)
    odd = Odd().eval()
    before = copy.deepcopy(odd.state_dict())
    with pytest.raises(NotCompressible, match="no hidden units were found"):
        Prune(Prune.Config()).shrink(odd, [{"x": torch.randn(4, 8)}])
    assert all(torch.equal(tensor, before[name]) for name, tensor in odd.state_dict().items())


def test_a_model_that_cannot_run_with_fewer_units_is_put_back():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 8)

        def forward(self, batch):
            return {"y": self.b(torch.relu(self.a(batch["x"])).view(-1, 16))}

    torch.manual_seed(0)
    stubborn = Stubborn().eval()
    x = {"x": torch.randn(4, 8)}
    before = stubborn(x)["y"]
    with pytest.raises(NotCompressible):
        Prune(Prune.Config()).shrink(stubborn, [x])
    assert torch.equal(stubborn(x)["y"], before)
    assert (stubborn.a.out_features, stubborn.b.in_features) == (16, 16)


def test_low_rank_finds_what_is_low_rank_on_the_rows(model):
    """Inputs lie in a few directions: thin layers lose nothing there, though the weights have full rank."""

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, batch):
            return {"y": self.layer(batch["x"])}

    torch.manual_seed(0)
    wide, basis = Wide().eval(), torch.randn(10, 64)
    rows = {"x": torch.randn(64, 10) @ basis}
    small = copy.deepcopy(wide)
    LowRank(LowRank.Config(share=0.5, smallest=1000)).shrink(small, [rows])
    assert isinstance(small.layer, Factors)
    assert small.layer.down.shape == (16, 64)
    other = {"x": torch.randn(8, 10) @ basis}
    torch.testing.assert_close(small(other)["y"], wide(other)["y"], rtol=1e-2, atol=2e-2)
    lost = (small.layer.weight - wide.layer.weight).norm() / wide.layer.weight.norm()
    assert float(lost.detach()) > 0.3
    assert count(small) == 16 * 128 + 64
    with pytest.raises(NotCompressible, match="no linear layer of 40,000 weights or more"):
        LowRank(LowRank.Config()).shrink(copy.deepcopy(model), [batch()])


def test_the_layer_that_does_least_goes_first(model):
    with torch.no_grad():
        lazy = model.stack[1]
        for part in (lazy.o, lazy.down):
            part.weight.mul_(0.0)
            part.bias.mul_(0.0)
    small = shrink(DropLayers, model, share=0.4)
    assert len(small.stack) == 2
    assert torch.equal(small.stack[1].up.weight, model.stack[2].up.weight)
    torch.testing.assert_close(answers(small), answers(model), rtol=1e-3, atol=1e-3)
    with pytest.raises(NotCompressible, match="no stack of three or more layers"):
        shrink(DropLayers, small)


def test_a_stack_whose_layers_change_the_size_is_none():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList(nn.Linear(8 * 2**at, 16 * 2**at) for at in range(3))

        def forward(self, batch):
            x = batch["x"]
            for stage in self.stages:
                x = stage(x)
            return {"y": x}

    with pytest.raises(NotCompressible, match="no stack of three or more layers"):
        DropLayers(DropLayers.Config()).shrink(Stages().eval(), [{"x": torch.randn(4, 8)}])
