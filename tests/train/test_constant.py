"""The model that sees nothing is the majority, the shares, or the mean."""

from __future__ import annotations

import numpy as np
import pytest

from automm.data.ledger import Ledger
from automm.plan import build_plan, prepare
from automm.recipe.parse import load_with_plugins
from automm.train.bench import Bench
from automm.train.constant import constant_metrics
from automm.train.ranks import Ranks


def test_classes_are_answered_by_their_shares(make_bench):
    bench, _ = make_bench(rare=0.25)
    found = constant_metrics(bench)
    train, valid = (bench.parts[part].target for part in ("train", "valid"))
    share = train.mean()
    assert found["accuracy"] == pytest.approx(1 - valid.mean())
    expected = -np.mean(valid * np.log(share) + (1 - valid) * np.log(1 - share))
    assert found["log_loss"] == pytest.approx(expected, abs=0.01)
    assert found["roc_auc"] == pytest.approx(0.5)


def test_numbers_are_answered_by_their_mean(tmp_path, make_bench):
    make_bench()  # writes the rows
    path = tmp_path / "mean.yaml"
    path.write_text("data: train.csv\ntarget: a\nignore: [label]\nmetric: rmse\n", "utf-8")
    recipe, plugins = load_with_plugins(path)
    ledger, ranks = Ledger(), Ranks()
    prepared = prepare(recipe, plugins.registry, tmp_path / "tables", ledger)
    plan = build_plan(recipe, plugins.registry, prepared)
    bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, tmp_path / "work", ledger, ranks)
    found = constant_metrics(bench)
    train, valid = (bench.parts[part].target for part in ("train", "valid"))
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((valid - train.mean()) ** 2)), rel=0.02)
    assert found["r2"] == pytest.approx(0.0, abs=0.1)
