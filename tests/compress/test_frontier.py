"""Measuring: the loss with its interval, speeds, and which variants no other one beats."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from compress.graphs import FLOAT, model, node, weight  # noqa: E402

from automm.core.kinds import Metric  # noqa: E402
from automm.package.compress import _Compression  # noqa: E402
from automm.package.frontier import Loss, Paired, frontier, speeds  # noqa: E402
from automm.package.variants import Variant  # noqa: E402
from automm.train.bench import View  # noqa: E402

ACCURACY = Metric(True, lambda answers, target: float((answers["p"].argmax(1) == target).float().mean()))
ERROR = Metric(False, lambda answers, target: float((answers["p"][:, 0] - target).abs().mean()))


def test_loss_of_the_same_answers_is_nothing():
    target = np.arange(40) % 2
    answers = {"p": np.eye(2, dtype=np.float32)[target]}
    assert Paired(ACCURACY, answers, target, 0).loss(answers) == (0.0, 0.0, 0.0)


def test_paired_interval_knows_that_most_rows_agree():
    """100 rows at 80 %: two more mistakes are 2.5 % of the metric; unpaired the interval would be ± 10 points."""
    random = np.random.default_rng(0)
    target = random.integers(0, 2, 100)
    right = np.arange(100) >= 20
    full = {"p": np.eye(2, dtype=np.float32)[np.where(right, target, 1 - target)]}
    other = {"p": np.eye(2, dtype=np.float32)[np.where(right & (np.arange(100) < 98), target, 1 - target)]}
    loss = Paired(ACCURACY, full, target, 0).loss(other)
    assert loss.value == pytest.approx(0.02 / 0.8, abs=1e-6)
    assert 0 <= loss.low < loss.value < loss.high < 0.08
    assert Paired(ACCURACY, full, target, 0).loss(other) == loss, "the samples are those of the seed"
    assert Paired(ACCURACY, other, target, 0).loss(full).value < 0, "a gain is a negative loss"


def test_where_smaller_is_better():
    target = np.linspace(0, 1, 50).astype(np.float32)
    full, worse = ({"p": (target + off)[:, None]} for off in (np.float32(0.1), np.float32(0.15)))
    assert Paired(ERROR, full, target, 0).loss(worse).value == pytest.approx(0.5, abs=1e-4)
    assert Paired(ERROR, worse, target, 0).loss(full).value == pytest.approx(-1 / 3, abs=1e-4)


def test_samples_in_which_the_metric_is_not_defined_do_not_count():
    rare = Metric(True, lambda answers, target: float("nan") if target.sum() == 0 else float(answers["p"].mean()))
    target = np.zeros(8, np.int64)
    target[0] = 1
    answers = {"p": np.full((8, 1), 0.5, np.float32)}
    assert Paired(rare, answers, target, 0).loss(answers) == (0.0, 0.0, 0.0)


def test_frontier():
    points = [(0.0, 1.0, 10.0), (0.0, 0.5, 3.0), (0.01, 0.4, 3.0), (0.0, 0.5, 3.0), (0.02, 0.6, 2.0), (0.03, 0.6, 2.5)]
    assert frontier(points) == [False, True, True, True, True, False]


class Store:
    """Rows of one array."""

    present = np.ones(5, bool)
    rows = np.random.default_rng(0).normal(size=(5, 256)).astype(np.float32)

    def batch(self, positions):
        return {"values": self.rows[positions]}


def test_speeds_are_taken_in_turn():
    def graph(times):
        names = ["x.values", *(f"y{at}" for at in range(times - 1)), "out_y"]
        nodes = [node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
        sides = [(name, FLOAT, ["batch", 256]) for name in ("x.values", "out_y")]
        return model(nodes, sides[:1], sides[1:], w=weight(256, 256))

    view = View({"x": Store()}, {}, np.zeros(5), np.arange(5))
    slow, fast = speeds([(graph(48), view), (graph(2), view)])
    assert slow.one.p50 > 2 * fast.one.p50 > 0
    assert fast.one.p50 <= fast.one.p95
    assert set(slow.json()) == {"one_thread", "all_threads"}
    assert set(slow.json()["all_threads"]) == {"p50", "p95"}


def test_what_is_chosen():
    """The fastest within the loss; of those about as fast, the smallest; nothing that gains nothing."""

    def chosen(*given, sure=False):
        variants = [Variant(name, loss=Loss(lost, lost - 0.01, lost + 0.01), speedup=times, size_mb=size)
                    for name, lost, times, size in given]  # fmt: skip
        given = SimpleNamespace(
            asked=SimpleNamespace(max_loss=0.02, sure=sure),
            run=SimpleNamespace(plan=SimpleNamespace(metric="accuracy")),
        )
        found = _Compression._choose(given, Variant("full", size_mb=10.0), variants)
        return found and found.name, {variant.name: (variant.state, variant.reason) for variant in variants}

    large, small = ("large", 0.0, 3.0, 9.0), ("small", 0.015, 2.9, 4.0)
    name, said = chosen(large, small, ("slow", 0.0, 1.2, 1.0))
    assert name == "small"
    assert {said["large"][0], said["slow"][0]} == {"within"}
    assert chosen(large, small, sure=True)[0] == "large", "the interval of the other one reaches beyond the loss"
    name, said = chosen(("lossy", 0.03, 5.0, 1.0), ("idle", 0.0, 1.05, 9.5), ("slower", 0.0, 0.9, 2.0))
    assert name is None
    assert said["lossy"][0] == "over"
    assert said["lossy"][1].startswith("loses 3.00%")
    assert said["idle"][0] == said["slower"][0] == "no gain"
    assert chosen(("gains", -0.05, 1.0, 5.0))[0] == "gains"
