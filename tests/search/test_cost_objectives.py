"""Several objectives: the metric beside what a row costs; the front of both; who may win."""

from __future__ import annotations

import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("optuna")
torch = pytest.importorskip("torch")

from automm.choose import _passed_over, affordable  # noqa: E402
from automm.cli.fit import outcome  # noqa: E402
from automm.core.kinds import Metric  # noqa: E402
from automm.recipe.model import COSTS, GateSpec  # noqa: E402
from automm.report.page import page  # noqa: E402
from automm.report.progress import LINES  # noqa: E402
from automm.search.difference import Answered, difference  # noqa: E402
from automm.search.pareto import pareto, points  # noqa: E402
from automm.search.study import Study  # noqa: E402


def report(name, value, latency_ms, size_mb=1.0, state="complete"):
    resolved = {"encoders": {"a": {"name": "words"}}, "learner": {"name": "trees"}, "sampling": "none"}
    return {"name": name, "state": state, "value": value, "latency_ms": latency_ms, "size_mb": size_mb,
            "resolved": resolved}  # fmt: skip


REPORTS = [
    report("good", 0.9, 8.0),
    report("fast", 0.7, 1.0),
    report("slow and bad", 0.6, 9.0),
    report("as fast, worse", 0.65, 1.0),
    report("between", 0.8, 3.0, 20.0),
    report("as good, slower", 0.9, 8.5),
    report("early", 0.95, None, None, "pruned"),
]


def test_front_is_what_nothing_beats_in_both():
    found = pareto(points(REPORTS), maximize=True)
    assert [(one["name"], one["value"], one["latency_ms"]) for one in found] == [
        ("fast", 0.7, 1.0), ("between", 0.8, 3.0), ("good", 0.9, 8.0)
    ]  # fmt: skip
    assert found[0] == {"name": "fast", "value": 0.7, "latency_ms": 1.0, "size_mb": 1.0, "what": "trees on words"}
    assert [one["name"] for one in pareto(points(REPORTS), maximize=False)] == ["as fast, worse", "slow and bad"]
    assert pareto([], maximize=True) == []


@pytest.mark.parametrize(
    ("gates", "left"),
    [
        ([], ["good", "fast", "slow and bad", "as fast, worse", "between", "as good, slower"]),
        ([("latency_ms", 3.0)], ["fast", "as fast, worse", "between"]),
        ([("latency_ms", 3.0), ("size_mb", 10.0)], ["fast", "as fast, worse"]),
        ([("latency_ms", 0.1)], ["good", "fast", "slow and bad", "as fast, worse", "between", "as good, slower"]),
    ],
)
def test_models_that_keep_the_gates_on_cost_go_before_others(gates, left):
    costs = tuple(GateSpec(metric=name, operator="<=", value=bound) for name, bound in gates)
    run = SimpleNamespace(recipe=SimpleNamespace(costs=costs))
    assert [one["name"] for one in affordable(run, REPORTS)] == left


def test_better_model_that_costs_too_much_is_named():
    said = []
    run = SimpleNamespace(
        recipe=SimpleNamespace(costs=(GateSpec(metric="latency_ms", operator="<=", value=3.0),)),
        plan=SimpleNamespace(metric="accuracy"), better=lambda value, than: than is None or value > than,
        event=lambda event, **facts: said.append((event, facts)),
    )  # fmt: skip
    found = _passed_over(run, REPORTS[4], REPORTS)
    assert found == {"name": "good", "value": 0.9, "latency_ms": 8.0, "size_mb": 1.0}
    assert said == [("passed_over", {**found, "metric": "accuracy", "gates": ["latency_ms <= 3"]})]
    line = LINES["passed_over"](said[0][1])
    assert line == "trial good with accuracy 0.9000 costs too much: 8.00 ms a row, 1.0 MB (require: latency_ms <= 3)"
    assert _passed_over(run, REPORTS[0], REPORTS) == {}


SUMMARY = {
    "recipe": "rooms", "task": "classification", "metric": "accuracy", "valid": {"accuracy": 0.8},
    "test": {"accuracy": 0.75}, "rows": {"valid": 50, "test": 60}, "latency_ms": 4.25, "size_mb": 2.0,
    "best": {"name": "between", "members": [{"name": "between", "weight": 1.0}]}, "gates": [],
    "single": {
        "name": "only-<text>",
        "difference": {"part": "test", "gain": 0.05, "low": -0.01, "high": 0.11, "rows": 60},
    },
    "passed_over": {"name": "good", "value": 0.9, "latency_ms": 8.0, "size_mb": 1.0}, "ensemble_left": {},
    "pareto": pareto(points(REPORTS), True), "baselines": {}, "constant": 0.5, "imbalance": {},
    "package": "run/package",
}  # fmt: skip


def test_page_shows_every_model_and_what_the_winner_gains():
    reports = [{**one, "seconds": 2.0, "error": None, "ended": "no better"} for one in REPORTS]
    found = page(SUMMARY, reports)
    drawing = ElementTree.fromstring(found[found.index("<svg") : found.index("</svg>") + 6])
    circles = drawing.findall("circle")
    assert [circle.get("class") for circle in circles].count("front") == 3
    assert len(circles) == 6  # one was pruned: it was not timed
    across = {circle[0].text.partition(":")[0]: float(circle.get("cx")) for circle in circles}
    assert across["fast"] < across["between"] < across["good"] < across["as good, slower"]
    up = {circle[0].text.partition(":")[0]: float(circle.get("cy")) for circle in circles}
    assert up["good"] == up["as good, slower"] < up["between"] < up["fast"]
    assert len(drawing.find("polyline").get("points").split()) == 3
    assert "+0.0500 accuracy over only-&lt;text&gt; (95 % interval -0.0100 to +0.1100, 60 test rows; it may be" in found
    assert '<tr class="winner"><td>between</td><td class="number">0.8000</td>' in found
    assert "pruned: no better" in found
    assert "good: 0.9000, 8.00 ms a row" in found


def test_command_line_ends_with_gain_and_front():
    lines = outcome(SUMMARY)
    assert lines[0].split() == ["constant", "valid", "accuracy", "0.5000"]
    at = next(at for at, line in enumerate(lines) if line.startswith("winner: between"))
    gain = "over only-<text> accuracy +0.0500 (95 % interval -0.0100 to +0.1100, 60 test rows)"
    assert " ".join(lines[at + 1].split()) == gain
    assert lines[at + 3 :] == [
        "fastest: fast            valid accuracy 0.7000, 1.00 ms a row, 1.0 MB (trees on words)",
        "best alone: good         valid accuracy 0.9000, 8.00 ms a row, 1.0 MB (trees on words)",
        "package: run/package (2.0 MB, 4.25 ms per row)",
    ]
    assert not [line for line in outcome({**SUMMARY, "pareto": SUMMARY["pareto"][:1]}) if line.startswith("fastest")]


@pytest.mark.parametrize("objectives", [("latency_ms",), COSTS])
def test_study_with_several_objectives_learns_all_and_prunes_nothing(tmp_path, make_plan, registry, objectives):
    plan = make_plan().model_copy(update={"objectives": objectives})
    assert plan.digest != make_plan().digest

    def study():
        return Study(plan, registry, tmp_path)

    asked, own = [], study()
    for at in range(10):
        if at == 5:
            own = study()  # as after a kill
        asked.append(own.ask())
        assert [own.report(epoch, 0.0) for epoch in range(6)] == [False] * 6
        facts = {"seconds": 1.0, "latency_ms": 1.0 + at, "size_mb": 10.0 - at}
        state = {3: "failed", 4: "pruned"}.get(at, "complete")
        own.tell(None if state == "failed" else at / 10, state, facts)
    done = study().counted()
    assert [trial.state.name for trial in done] == ["COMPLETE"] * 3 + ["FAIL", "PRUNED"] + ["COMPLETE"] * 5
    costs = {"latency_ms": 10.0, "size_mb": 1.0}
    assert done[9].values == [0.9, *(costs[name] for name in objectives)]
    assert len({json.dumps(resolved, sort_keys=True) for resolved in asked}) == 10
    own.ask()  # without a measurement there is no place on the front
    own.tell(0.5, "complete", {"seconds": 1.0, "latency_ms": None, "size_mb": None})
    assert own.counted()[-1].state.name == "FAIL"


def test_difference_is_paired_and_turned_so_that_more_is_better():
    random = np.random.default_rng(0)
    truth = torch.tensor(random.normal(size=400))
    common = 0.5 * torch.tensor(random.normal(size=400))  # an error that both models make
    rows = torch.arange(400)

    def answered(error, at, maximize=False):
        def compute(answers, target):
            value = float((answers["number"] - target).abs().mean())
            return -value if maximize else value

        return Answered(Metric(maximize, compute), {"number": (truth + common + error)[at]}, rows[at], truth[at])

    close = answered(0.0, rows)
    far = answered(torch.tensor(0.2 * random.normal(size=400)), rows[50:])
    found = difference(close, far, seed=0)
    direct = far.metric.compute(far.answers, far.target) - close.metric.compute(
        {"number": close.answers["number"][50:]}, truth[50:]
    )
    assert found["gain"] == pytest.approx(direct)
    assert found["rows"] == 350
    assert 0 < found["low"] < found["gain"] < found["high"] < 0.1  # unpaired, the interval would hold 0
    turned = difference(far, close, seed=0)
    assert (turned["gain"], turned["low"]) == (pytest.approx(-found["gain"]), pytest.approx(-found["high"]))
    assert difference(answered(0.0, rows, True), answered(1.0, rows, True), seed=0)["gain"] > 0
    assert difference(answered(0.0, rows[:10]), answered(0.0, rows[10:]), seed=0) == {
        "gain": None, "low": None, "high": None, "rows": 0
    }  # fmt: skip
