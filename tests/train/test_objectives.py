"""Objectives in training: they learn from rows without answers, before the loss and beside it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from automm.core.features import Features
from automm.core.space import Choices, ComponentSpace
from automm.data.ledger import Ledger
from automm.plan.build import build_plan
from automm.plan.prepare import prepare
from automm.recipe.parse import load_with_plugins
from automm.train.bench import Bench
from automm.train.ranks import Ranks

torch = pytest.importorskip("torch")
from automm.search.space import Preferred, resolve, single  # noqa: E402
from automm.train.run import run_trial  # noqa: E402

LABELED, UNLABELED, VALID, WIDTH = 40, 800, 200, 16
"""One row in twenty has an answer."""
COLUMNS = [[f"{side}{at}" for at in range(WIDTH)] for side in ("left", "right")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two inputs that share one direction; its sign is the answer. All else in them is stronger, and of no use."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(0)
    rows = LABELED + UNLABELED + VALID
    shared = random.normal(size=(rows, 1))
    sides = []
    for _ in COLUMNS:
        turned, _ = np.linalg.qr(random.normal(size=(WIDTH, WIDTH)))
        sides.append(np.concatenate([shared, 1.5 * random.normal(size=(rows, WIDTH - 1))], 1) @ turned)
    cells = np.concatenate(sides, 1).round(4).astype(str)
    answers = np.where(shared > 0, "yes", "no")
    head = ",".join([*COLUMNS[0], *COLUMNS[1]])
    ends = {"train": (0, LABELED), "more": (LABELED, LABELED + UNLABELED), "valid": (LABELED + UNLABELED, rows)}
    for name, (begin, end) in ends.items():
        table = cells if name == "more" else np.concatenate([cells, answers], 1)
        lines = [",".join(row) for row in table[begin:end]]
        (folder / f"{name}.csv").write_text("\n".join([head + ",answer" * (name != "more"), *lines]) + "\n", "utf-8")
    return folder


@pytest.fixture
def make_bench(tables, tmp_path):
    """Plan, bench and default network of a recipe over these tables."""

    def make(model="", train="epochs: 1", data="unlabeled: more.csv", more=""):
        inputs = [
            f"{name}: {{modality: tabular, columns: [{', '.join(columns)}]}}"
            for name, columns in zip("ab", COLUMNS, strict=True)
        ]
        (tables / "recipe.yaml").write_text(
            f"data: {{train: train.csv, valid: valid.csv, {data}}}\ntarget: answer\ninputs: {{{', '.join(inputs)}}}\n"
            f"model: {{learner: network, fusion: concat, {model}}}\ntrain: {{{train}}}\n{more}",
            "utf-8",
        )
        recipe, plugins = load_with_plugins(tables / "recipe.yaml")
        ledger = Ledger()
        prepared = prepare(recipe, plugins.registry, tmp_path / "tables", ledger)
        plan = build_plan(recipe, plugins.registry, prepared)
        bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, tmp_path / "work", ledger, Ranks())
        return plan, bench, resolve(plan, plugins.registry, Preferred())

    return make


def test_rows_without_answers_help(make_bench, tmp_path):
    """With the objective the network finds what the inputs share; with 40 answers alone it does not."""
    plan, bench, resolved = make_bench("objective: contrastive", "pretrain: 8, epochs: 16, patience: 20")
    assert plan.rows == {"train": LABELED, "valid": VALID, "test": 0, "unlabeled": UNLABELED}
    assert resolved["objective"]["name"] == "contrastive"
    seen = []
    helped, model = run_trial("0", resolved, bench, tmp_path / "0", on_epoch=lambda *epoch: seen.append(epoch) or False)
    assert (helped.state, helped.error) == ("complete", None)
    assert [set(entry) == {"epoch", "loss"} for entry in helped.history] == [True] * 8 + [False] * 16
    assert [epoch for epoch, *_ in seen] == list(range(16)), "pruning compares epochs with the loss"
    assert not [name for name in model.state_dict() if "objective" in name], "no part of the model"
    plain = {name: value for name, value in resolved.items() if name != "objective"}
    alone, _ = run_trial("1", plain, bench, tmp_path / "1")
    assert alone.epochs == 16
    assert helped.metrics["roc_auc"] > 0.92
    assert alone.metrics["roc_auc"] < 0.85


@pytest.mark.parametrize("name", ["contrastive", "hidden_input"])
def test_pretraining_trains_encoders_on_the_objective_alone(make_bench, tmp_path, name):
    _, bench, resolved = make_bench(f"objective: {name}", "pretrain: 1, epochs: 1")
    losses = []
    for pretrain in (1, 5):
        own = {**resolved, "train": {**resolved["train"], "pretrain": pretrain, "learning_rate": 5e-3}}
        report, _ = run_trial(str(pretrain), own, bench, tmp_path / str(pretrain))
        assert (report.state, report.epochs) == ("complete", pretrain + 1)
        losses.append(report.history[-2]["loss"])
    assert losses[1] < losses[0]


def test_one_input_alone_goes_without(make_bench, tmp_path):
    _, bench, resolved = make_bench("objective: contrastive", "pretrain: 3, epochs: 1")
    report, _ = run_trial("0", single(resolved, ["a"]), bench, tmp_path / "0")
    assert (report.state, report.epochs) == ("complete", 1)


def test_objectives_are_searched_like_other_components(make_bench):
    plan, bench, resolved = make_bench("objective: [none, any]", "pretrain: [0, 2]", more="search: {trials: 2}\n")
    names = [component.name for component in plan.candidates.objective]
    assert names == ["none", "contrastive", "hidden_input"]
    assert "objective" not in resolved, "the first of the list is the default"
    assert plan.candidates.train["pretrain"] == Choices(values=(0, 2))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    asked = [resolve(plan, bench.registry, study.ask()) for _ in range(12)]
    found = {one["objective"]["name"] if "objective" in one else "none" for one in asked}
    assert found == set(names)
    weights = {one["objective"]["config"]["weight"] for one in asked if "objective" in one}
    assert len(weights) > 3
    assert "objective contrastive" in bench.registry.pins({**resolved, "objective": {"name": "contrastive"}})
    assert json.dumps(asked)


def test_without_a_search_the_first_counts(make_bench):
    for text, wanted in (("[hidden_input, none]", "hidden_input"), ("any", "contrastive"), ("none", None)):
        data = "unlabeled: more.csv" if wanted else ""
        plan, _, resolved = make_bench(f"objective: {text}", data=data)
        assert resolved.get("objective", {}).get("name") == wanted
        names = tuple(component.name for component in plan.candidates.objective)
        assert names == ((wanted,) if wanted else ("none",)), text
    assert ComponentSpace(name="none") in plan.candidates.objective


BROKEN = """
from automm.api import Objective, hookimpl, torch

class Broken(Objective):
    "Gives what it should not."
    def __init__(self, config, widths, joint):
        super().__init__(config, widths, joint)
    def forward(self, inputs, fuse):
        rows = fuse(inputs).square().mean(1)
        return {result}

@hookimpl
def automm_register(register):
    register(Broken)
"""


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("rows.mean()", r"objective 'broken' of plugin broken .* must give one value per row, \[\d+\]; it gave \[\]"),
        ("rows / 0 * 0", "objective 'broken' of plugin broken .* gives NaN or infinity in the first training batch"),
        ("rows + unknown", "objective 'broken' of plugin broken .*: forward raised NameError"),
    ],
)
def test_what_an_objective_does_wrong_is_told_in_the_first_batch(make_bench, tables, tmp_path, result, said):
    (tables / "broken.py").write_text(BROKEN.format(result=result), "utf-8")
    _, bench, resolved = make_bench("objective: broken", "epochs: 1", more="plugins: [broken.py]\n")
    report, _ = run_trial("0", resolved, bench, tmp_path / "0")
    assert report.state == "failed"
    assert re.search(said, report.error), report.error


def test_rows_that_lack_an_input_are_no_choices():
    from automm_objectives import Contrastive

    torch.manual_seed(0)
    objective = Contrastive(Contrastive.Config(), {"a": 3, "b": 3}, 4)
    tokens, present = torch.randn(2, 6, 1, 3), torch.tensor([True, True, True, False, False, True])[:, None]
    inputs = {"a": Features(tokens[0], torch.ones(6, 1).bool()), "b": Features(tokens[1] * present[..., None], present)}
    whole = objective(inputs, None)
    both = present[:, 0]
    fewer = objective({name: Features(f.tokens[both], f.mask[both]) for name, f in inputs.items()}, None)
    assert torch.allclose(whole[both], fewer)
    assert whole[~both].tolist() == [0.0, 0.0]
