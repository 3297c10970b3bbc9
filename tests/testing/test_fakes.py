"""Fake data, and the fixture that fits a recipe."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from automm.core.cells import parse_number
from automm.data.profile import profile_table
from automm.data.sources import open_table
from automm.errors import PluginError
from automm.testing import fakes
from automm.testing.subject import installed

pytest_plugins = ["automm.testing.fixtures"]


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_is_written(tmp_path):
    path = fakes.write(tmp_path, *fakes.KINDS, rows=6)
    rows = rows_of(path)
    assert list(rows[0]) == ["review", "price", "stars", "colour", "photo", "sound", "clip", "log", "verdict"]
    assert sorted(row["verdict"] for row in rows) == ["keep"] * 3 + ["return"] * 3
    for column in ("photo", "sound", "clip", "log"):
        assert all((tmp_path / row[column]).stat().st_size > 100 for row in rows)
    assert rows[0]["photo"] == "train/photo/0.png"
    assert all(parse_number(row["price"]) is not None for row in rows)


def test_same_seed_same_files_and_tables_share_none(tmp_path):
    kinds = ("texts", "numbers", "photos", "sounds", "clips", "series")
    one, two, other = (
        fakes.write(tmp_path / name, *kinds, rows=4, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()
    files = [path.relative_to(one.parent) for path in sorted(one.parent.rglob("*.*")) if path != one]
    assert len(files) == 16
    assert all((one.parent / file).read_bytes() == (two.parent / file).read_bytes() for file in files)
    test = fakes.write(one.parent, "photos", rows=2, name="test.csv")
    assert rows_of(test)[0]["photo"] == "test/photo/0.png"


def test_missing_cells_and_unknown_kinds(tmp_path):
    rows = rows_of(fakes.write(tmp_path, "texts", "numbers", rows=200, missing=0.3))
    empty = np.mean([row["review"] == "" for row in rows])
    assert 0.15 < empty < 0.45
    assert all(row["verdict"] for row in rows)
    with pytest.raises(ValueError, match=r"there are no fake 'smells' \(there are: texts, numbers"):
        fakes.write(tmp_path, "smells")


@pytest.mark.parametrize(
    ("kind", "column", "modality"),
    [
        ("texts", "review", "text"),
        ("numbers", "price", "tabular"),
        ("categories", "colour", "tabular"),
        ("photos", "photo", "image"),
        ("sounds", "sound", "audio"),
        ("clips", "clip", "video"),
        ("series", "log", "series"),
    ],
)
def test_modalities_recognise_and_read_their_fakes(tmp_path, kind, column, modality):
    fakes.write(tmp_path, kind, rows=12)
    profile = profile_table(open_table(["train.csv"], tmp_path, tmp_path / "work"))[column]
    claims = {entry.name: entry.cls.claim(profile) for entry in installed().all("modality")}
    sure = {name: claim.confidence for name, claim in claims.items() if claim is not None}
    assert max(sure, key=sure.get) == modality


RECIPE = """
data: train.csv
target: verdict
model: {learner: linear}
"""


def test_project_fits_a_recipe(automm_project):
    automm_project.write("numbers", "categories", rows=60)
    summary = automm_project(RECIPE)
    assert summary["status"] == "ok"
    assert (automm_project.folder / "run" / "package" / "automm.json").exists()
    assert summary["valid"]["accuracy"] >= 0.7  # the columns tell the target


def test_project_passes_errors_on(automm_project):
    with pytest.raises(PluginError, match="no task is installed"):
        automm_project(RECIPE.partition("model")[0], block=("tasks",))
    assert (automm_project.folder / "train.csv").exists()
