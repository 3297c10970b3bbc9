"""The model: what is frozen stays as it is, what is missing is masked, and components are held to their word."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from automm.api import Config, Encoder, Features, Fusion, Loss, PluginError, Task  # noqa: E402
from automm.core.arrays import ArraySpec  # noqa: E402
from automm.model.assemble import AnswerModel, EnsembleModel, answer_graph, build_model, parameter_groups  # noqa: E402
from automm.plugin.registry import Entry, Owner, Registry  # noqa: E402
from automm.train.module import TrialModule  # noqa: E402
from automm.train.ranks import Ranks  # noqa: E402

nn = torch.nn
ROWS, WIDTH = 24, 6


class Stack(Encoder):
    """Three layers with dropout and running statistics."""

    modality = "numbers"

    class Config(Encoder.Config):
        trained: bool = False

    @classmethod
    def processor(cls, config, info):
        raise AssertionError

    @classmethod
    def pretrained(cls, config):
        return config.trained

    def __init__(self, config, processor):
        super().__init__(config, processor)
        self.width = WIDTH
        self.first, self.second = nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.drop = nn.Dropout(0.5)

    def layers(self):
        return [self.first, self.second, self.norm]

    def forward(self, arrays):
        return Features.vector(self.drop(self.norm(self.second(self.first(arrays["x"])))))


class Join(Fusion):
    gives = frozenset({"vector", "tokens"})

    def __init__(self, config, widths):
        super().__init__(config, widths)
        self.width = sum(widths.values())
        self.seen: Any = None

    def forward(self, inputs):
        self.seen = dict(inputs)
        return Features.vector(torch.cat([features.mean() for features in inputs.values()], 1))


class Squares(Loss):
    targets = frozenset({"number"})

    def __init__(self, config, target):
        super().__init__(config, target)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        return (output[:, 0] - self.scale * target) ** 2


class Amount(Task):
    needs = "tokens"
    target_kind = "number"

    class Config(Config):
        pass

    def head(self, width):
        linear = nn.Linear(width, 1)

        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.out = linear

            def forward(self, joint):
                return self.out(joint.mean())

        return Head()

    def answer(self, output):
        return {"number": output[:, 0]}


@pytest.fixture
def registry():
    """Without the checks that `add` makes: the components here are no complete ones."""
    found, owner = Registry(), Owner("mine", "local", "0")
    for kind, cls in (("encoder", Stack), ("fusion", Join), ("loss", Squares), ("task", Amount)):
        found.entries[kind][cls.name] = [Entry(cls, owner)]
    return found


TRAIN = {
    "learning_rate": 0.05, "pretrained_learning_rate": 0.001, "weight_decay": 0.1, "warmup": 0.0, "gradient_clip": 1.0,
}  # fmt: skip


def resolved(a="full", b="full", trained=False):
    return {
        "task": {"name": "amount", "config": {}},
        "encoders": {
            "a": {"name": "stack", "config": {"adapt": a, "trained": trained}},
            "b": {"name": "stack", "config": {"adapt": b, "trained": False}},
        },
        "fusion": {"name": "join", "config": {}},
        "loss": {"name": "squares", "config": {}},
        "train": TRAIN,
    }


def batch(seed=0):
    torch.manual_seed(seed)
    return {
        "a.x": torch.randn(ROWS, 3), "a.present": torch.ones(ROWS, dtype=torch.bool),
        "b.x": torch.randn(ROWS, 3), "b.present": torch.ones(ROWS, dtype=torch.bool),
        "target": torch.randn(ROWS),
    }  # fmt: skip


def build(registry, choice):
    torch.manual_seed(0)
    return build_model(choice, {"a": None, "b": None}, Amount(Amount.Config()), registry)


def train(registry, choice, steps=5):
    """A few optimisation steps; gives the weights before and after, by name."""
    model = build(registry, choice)
    before = copy.deepcopy(model.state_dict())
    task, loss = Amount(Amount.Config()), Squares(Squares.Config(), None)
    groups = parameter_groups(model, choice, registry, loss)
    module = TrialModule(model, loss, task, groups, steps, TRAIN, Ranks(), registry)
    module.configure_optimizers()
    module.manual_backward = lambda value: value.backward()
    module.train()
    for step in range(steps):
        module.training_step(batch(step), step)
    after = model.state_dict()
    return model, {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


WEIGHTS = {f"{layer}.{part}" for layer in ("first", "second", "norm") for part in ("weight", "bias")}
STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


@pytest.mark.parametrize(
    ("adapt", "moved"),
    [
        ("full", WEIGHTS | STATISTICS),
        ("last_1", {"norm.weight", "norm.bias"} | STATISTICS),
        ("last_2", {"norm.weight", "norm.bias", "second.weight", "second.bias"} | STATISTICS),
        ("last_9", WEIGHTS | STATISTICS),
        ("none", set()),
    ],
)
def test_training_moves_what_adapt_says(registry, adapt, moved):
    _, changed = train(registry, resolved(a=adapt))
    # A bias in front of a normalisation has no gradient but rounding noise; it may stay.
    loose = {"first.bias", "second.bias"}
    of_a = {name.removeprefix("encoders.a.") for name in changed if name.startswith("encoders.a.")}
    assert of_a - loose == moved - loose
    assert of_a <= moved
    assert {name.removeprefix("encoders.b.") for name in changed if "encoders.b." in name} >= (WEIGHTS - loose)
    assert {"head.out.weight", "head.out.bias"} <= changed


def test_frozen_encoder_stays_in_eval_mode(registry):
    model = build(registry, resolved(a="none", b="last_1")).train()
    assert not any(module.training for module in model.encoders["a"].modules())
    assert all(module.training for module in model.encoders["b"].modules())
    assert model.fusion.training
    features = [model.features(batch())["a"].tokens for _ in range(2)]
    assert torch.equal(*features)  # no dropout
    model.eval()
    assert not any(module.training for module in model.modules())


def test_missing_inputs_are_masked_zeros_and_do_not_matter(registry):
    model = build(registry, resolved()).eval()
    one, other = batch(), batch()
    one["b.present"][:5] = False
    other["b.present"][:5] = False
    other["b.x"][:5] = float("inf")  # whatever the blank cell holds
    first, second = model(one), model(other)
    assert torch.equal(first, second)
    seen = model.fusion.seen["b"]
    assert not seen.mask[:5].any()
    assert seen.mask[5:].all()
    assert (seen.tokens[:5] == 0).all()
    assert not torch.equal(model(batch())[:5], first[:5])


def test_groups_by_learning_rate_and_decay(registry):
    choice = resolved(a="last_2", trained=True)
    model = build(registry, choice)
    loss = Squares(Squares.Config(), None)
    groups = parameter_groups(model, choice, registry, loss)
    names = {id(p): n for n, p in [*model.named_parameters(), *loss.named_parameters()]}
    found = {(group["lr"], group["weight_decay"]): {names[id(p)] for p in group["params"]} for group in groups}
    assert found == {
        (0.001, 0.1): {"encoders.a.second.weight"},
        (0.001, 0.0): {"encoders.a.second.bias", "encoders.a.norm.weight", "encoders.a.norm.bias"},
        (0.05, 0.1): {"encoders.b.first.weight", "encoders.b.second.weight", "head.out.weight"},
        (0.05, 0.0): {
            "encoders.b.first.bias", "encoders.b.second.bias", "encoders.b.norm.weight", "encoders.b.norm.bias",
            "head.out.bias", "scale",
        },
    }  # fmt: skip


def test_fusion_is_told_what_the_task_needs(registry):
    assert build(registry, resolved()).fusion.needs == "tokens"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: Features.vector(x[:, :2]), r"encoder 'stack' must give tokens \[batch, time, 6\] .* \[24, 1, 2\]"),
        (lambda x: Features(x, x > 0), r"must give tokens .* it gave \[24, 6\] and \[24, 6\]"),
        (lambda x: x, r"encoder 'stack' must give Features, it gave Tensor"),
        (lambda x: x @ x, r"encoder 'stack' of plugin mine \(local 0\): forward raised RuntimeError"),
    ],
)
def test_encoder_that_gives_something_else_is_named(registry, monkeypatch, given, said):
    model = build(registry, resolved())
    wide = torch.randn(ROWS, WIDTH)
    monkeypatch.setattr(Stack, "forward", lambda self, arrays: given(wide))
    with pytest.raises(PluginError, match=said):
        model(batch())


@pytest.mark.parametrize("width", [None, 0, 2.5, "6"])
def test_width_that_is_no_width_is_named(registry, monkeypatch, width):
    old = Join.__init__

    def changed(self, config, widths):
        old(self, config, widths)
        self.width = width

    monkeypatch.setattr(Join, "__init__", changed)
    with pytest.raises(PluginError, match=r"fusion 'join' must set self\.width in __init__"):
        build(registry, resolved())


def test_ensemble_averages_and_reads_its_own_inputs(registry):
    task = Amount(Amount.Config())
    torch.manual_seed(0)
    models = [AnswerModel(build_model(resolved(), {"a": None, "b": None}, task, registry).eval(), task) for _ in "12"]
    names = [{"a": "a", "b": "b"}, {"a": "b", "b": "a"}]  # the second sees the inputs exchanged
    ensemble = EnsembleModel(models, [0.25, 0.75], names, task).eval()
    one = batch()
    swapped = {("b" if key[0] == "a" else "a") + key[1:]: value for key, value in one.items() if "." in key}
    with torch.no_grad():
        expected = 0.25 * models[0](one)["number"] + 0.75 * models[1](swapped)["number"]
        assert torch.allclose(ensemble(one)["number"], expected, atol=1e-6)


def test_graph_names_the_sizes_that_vary(registry):
    class Lengths:
        def __init__(self, **specs):
            self._specs = specs

        def specs(self):
            return self._specs

    processors = {"a": Lengths(x=ArraySpec("float32", ("time", 3))), "b": Lengths(x=ArraySpec("float32", (3,)))}
    model = build(registry, resolved()).train()
    graph = answer_graph(model, processors, batch())
    assert graph.dynamic == {
        "a.x": {0: "batch", 1: "a_time"}, "a.present": {0: "batch"}, "b.x": {0: "batch"}, "b.present": {0: "batch"},
    }  # fmt: skip
    assert set(graph.example) == set(graph.dynamic)
    assert not graph.module.training


def test_example_has_no_varying_size_of_one(registry):
    class Windows:
        def specs(self):
            return {"x": ArraySpec("int64", ("windows", "time"), 7)}

    example = {"a.x": torch.ones(4, 1, 3, dtype=torch.int64), "a.present": torch.ones(4, dtype=torch.bool)}
    graph = answer_graph(build(registry, resolved()), {"a": Windows()}, example)
    assert graph.example["a.x"].tolist() == [[[1, 1, 1], [7, 7, 7]]] * 4
    assert example["a.x"].shape == (4, 1, 3)
