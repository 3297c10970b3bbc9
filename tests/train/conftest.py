"""A bench over a small table whose two numbers decide the class."""

from __future__ import annotations

import numpy as np
import pytest

from automm.data.ledger import Ledger
from automm.plan.build import build_plan
from automm.plan.prepare import prepare
from automm.recipe.parse import load_with_plugins
from automm.train.bench import Bench
from automm.train.ranks import Ranks

pytest.importorskip("torch")

ROWS = 160


def write_rows(folder, rows=ROWS, seed=0, rare=0.5):
    """Two columns of numbers; their sum decides the class, the second class in a share of the rows."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=rows), random.normal(size=rows)
    positive = a + b > np.quantile(a + b, 1 - rare)
    lines = [f"{x:.4f},{y:.4f},{'yes' if z else 'no'}" for x, y, z in zip(a, b, positive, strict=True)]
    (folder / "train.csv").write_text("\n".join(["a,b,label", *lines]) + "\n", "utf-8")


@pytest.fixture
def make_bench(tmp_path):
    """Makes the bench of a recipe over the rows, and its default configuration."""
    from automm.search.space import first_trials

    def make(more="", metric="roc_auc", rare=0.5, work="work"):
        write_rows(tmp_path, rare=rare)
        path = tmp_path / "toy.yaml"
        path.write_text(f"data: train.csv\ntarget: label\nmetric: {metric}\n{more}", "utf-8")
        recipe, plugins = load_with_plugins(path)
        ledger, ranks = Ledger(), Ranks()
        prepared = prepare(recipe, plugins.registry, tmp_path / "tables", ledger)
        plan = build_plan(recipe, plugins.registry, prepared)
        bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, tmp_path / work, ledger, ranks)
        trials = [resolved for resolved, _ in first_trials(plan, plugins.registry)]
        return bench, trials

    return make
