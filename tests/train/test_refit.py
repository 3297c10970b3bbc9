"""Winning learners are fitted again: on folds of all rows where the split allows it, else on all rows at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from automm.api import Rows
from automm.core.learner import FOLDS
from automm.model.learned import restore
from automm.train.learn import AGAIN, refit, run_learner
from automm.train.weights import load_weights


@pytest.fixture(params=["linear", "lightgbm"])
def fitted(make_bench, tmp_path, request):
    """A trial of a learner: bench, configuration, views, folder."""
    bench, trials = make_bench(f"model: {{learner: {request.param}}}\nsearch: {{trials: 1}}\n")
    folder = tmp_path / "trial"
    folder.mkdir()
    report = run_learner("0", trials[0], bench, folder)
    assert report.state == "complete"
    (folder / "report.json").write_text(json.dumps(report.json()))
    return bench, trials[0], {part: bench.view(part, trials[0]) for part in ("train", "valid")}, folder


def model(bench, resolved, views, folder):
    return restore(resolved, views["train"].processors, bench.task, bench.registry, load_weights(folder / AGAIN))


def test_one_learner_per_fold_and_their_mean(fitted, monkeypatch):
    bench, resolved, views, folder = fitted
    assert refit(resolved, bench, views, folder, 60.0, folds=True) == f"fitted on {FOLDS} folds"
    merged = model(bench, resolved, views, folder).learner
    features = torch.randn(7, sum(merged.widths.values()))
    cls = bench.registry.get("learner", resolved["learner"]["name"])
    monkeypatch.setattr(cls, "merged", classmethod(lambda cls, learners: None))
    refit(resolved, bench, views, folder, 60.0, folds=True)
    beside = model(bench, resolved, views, folder).learner
    each = torch.stack([learner(features) for learner in beside.learners])
    assert len(each) == FOLDS
    assert not torch.allclose(each[0], each[1])
    assert torch.allclose(beside(features), each.mean(0))
    assert torch.allclose(merged(features), each.mean(0), atol=1e-5)


def test_without_folds_one_learner_on_all_rows(fitted):
    bench, resolved, views, folder = fitted
    assert refit(resolved, bench, views, folder, 60.0, folds=False) == "fitted on all rows"
    assert not hasattr(model(bench, resolved, views, folder).learner, "learners")


def test_as_much_again_as_the_time_allows(fitted):
    bench, resolved, views, folder = fitted
    report = json.loads((folder / "report.json").read_text("utf-8"))

    def took(seconds):
        (folder / "report.json").write_text(json.dumps({**report, "seconds": seconds}), "utf-8")

    took(30.0)
    assert refit(resolved, bench, views, folder, 20.0, folds=True) == "kept: 30 s to fit it again are not left"
    assert not (folder / AGAIN).exists()
    assert refit(resolved, bench, views, folder, 40.0, folds=True) == "fitted on all rows"
    took(1e-9)
    assert refit(resolved, bench, views, folder, 1e-6, folds=True) == "fitted on all rows"  # the first fold took longer


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["class", "number"])
def test_folds_are_even_and_whole(kind, grouped):
    random = np.random.default_rng(0)
    target = random.integers(0, 3, 300) if kind == "class" else random.normal(size=300).astype(np.float32)
    group = np.repeat(np.arange(60), 5) if grouped else None
    rows = Rows(np.zeros((300, 1), np.float32), target, np.ones(300, np.float32), group)
    folds = rows.folds(5)
    assert np.bincount(folds).tolist() == [60] * 5
    assert np.array_equal(folds, rows.folds(5))
    if grouped:
        assert all(len(set(folds[group == one])) == 1 for one in range(60))
    elif kind == "class":
        shares = [np.bincount(target[folds == fold], minlength=3) for fold in range(5)]
        assert np.ptp(shares, axis=0).max() <= 1
    assert rows.take(folds == 0).target.tolist() == target[folds == 0].tolist()


def test_few_rows_have_few_folds():
    rows = Rows(np.zeros((3, 1), np.float32), np.array([0, 1, 1]), np.ones(3, np.float32))
    assert sorted(rows.folds(5)) == [0, 1, 2]
    alone = rows._replace(group=np.zeros(3, np.int64))
    assert alone.folds(5).tolist() == [0, 0, 0]


def test_groups_of_the_split_reach_the_learner(make_bench, tmp_path):
    from automm.model.learned import build_learned
    from automm.train.learn import _rows

    bench, trials = make_bench("model: {learner: linear}\nsplit: {group: a}\nsearch: {trials: 1}\n")
    view = bench.view("train", trials[0])
    encoders, _ = build_learned(trials[0], view.processors, bench.task, bench.registry)
    rows, _ = _rows(bench, "train", view, encoders, trials[0])
    assert len(rows.group) == len(rows.target)
    assert len(np.unique(rows.group)) == len(rows.target)
