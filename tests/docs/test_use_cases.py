"""The recipes and pages of the use cases: recipes check, learn from a small made table, and predict."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml
from fit.commands import run

from docs.pages import ROOT

RECIPES = {path.stem: path for path in sorted((ROOT / "recipes").glob("*.yaml")) if path.stem != "quickstart"}
PAGES = {path.name: path.read_text("utf-8") for path in sorted((ROOT / "docs" / "use-cases").glob("*.md"))}

# Rows, what is changed for a short run, and what the metric must reach on test rows that the model never saw.
LINEAR, TREES = {"learner": "linear"}, {"learner": "lightgbm"}
CASES = {
    "review-sentiment": (200, LINEAR, 1, ("accuracy", 0.8)),
    "product-photo-title": (160, LINEAR, 1, ("macro_f1", 0.7)),
    "fraud": (1200, {}, 3, ("average_precision", 0.5)),
    "medical-record": (160, {}, 3, ("roc_auc", 0.85)),
    "machine-failure": (200, LINEAR, 2, ("macro_f1", 0.65)),
    "machine-life": (200, LINEAR, 1, ("r2", 0.6)),
    "surveillance-clip": (64, LINEAR, 1, ("accuracy", 0.8)),
    "spoken-command": (96, LINEAR, 1, ("accuracy", 0.8)),
    "vehicle-sensors": (120, LINEAR, 1, ("accuracy", 0.8)),
    "visual-question": (300, LINEAR, 1, ("accuracy", 0.7)),
    "recommendation": (900, TREES, 1, ("roc_auc", 0.7)),
}


@pytest.fixture(scope="module")
def make():
    """The function that makes the data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "recipes")
        import make_data

        yield make_data.make
    for name in ("make_data", "made_media"):
        sys.modules.pop(name, None)


def use_case(recipe: str) -> str:
    return Path(yaml.safe_load(RECIPES[recipe].read_text("utf-8"))["data"]).parent.name


@pytest.fixture(scope="module")
def made(make, tmp_path_factory):
    """Recipe → a folder like `recipes/` with the recipe and its data in few rows, made once."""
    folders: dict[str, Path] = {}

    def of(recipe: str) -> Path:
        case = use_case(recipe)
        if case not in folders:
            folders[case] = tmp_path_factory.mktemp(case)
            make(case, folders[case] / "data" / case, CASES[recipe][0])
        return folders[case]

    return of


@pytest.mark.parametrize("recipe", CASES)
def test_recipe_learns_and_predicts(recipe, made):
    folder = made(recipe)
    _, model, trials, (metric, least) = CASES[recipe]
    short = yaml.safe_load(RECIPES[recipe].read_text("utf-8"))
    assert "model" not in short
    short |= {"model": model} if model else {}
    short["search"] = {"trials": trials, "baselines": False, "ensemble": False}
    (folder / f"{recipe}.yaml").write_text(yaml.safe_dump(short), "utf-8")
    import time

    t = time.time()
    done = run("fit", f"{recipe}.yaml", cwd=folder)
    print(done.err[-900:], done.out, time.time() - t)
    assert done.code == 0, done.said
    summary = json.loads((folder / "runs" / recipe / "summary.json").read_text("utf-8"))
    assert summary["test"][metric] >= least
    new = folder / "data" / use_case(recipe) / "new.csv"
    new.write_text("".join(new.read_text("utf-8").splitlines(keepends=True)[:3]), "utf-8")
    done = run("predict", f"runs/{recipe}/package", new, "-o", "predictions.csv", cwd=folder)
    assert done.code == 0, done.said
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(row["prediction"] and not row["error"] for row in rows)
