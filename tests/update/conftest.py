"""A champion, and an update of it; both are made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fit.commands import run

from update.tables import reviews, write

RECIPE = """
data: {train: train.csv, test: test.csv}
target: verdict
model: {fusion: concat, encoders: {tabular: tabular_mlp, photo: {name: small_cnn, size: 32, width: 8}}}
train: {epochs: 8, batch_size: 32, learning_rate: 3e-3}
search: {trials: 1, baselines: false, ensemble: false}
"""


@pytest.fixture(scope="session")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a small network on text, photos and a table."""
    pytest.importorskip("lightning")
    folder = tmp_path_factory.mktemp("champion")
    write(folder / "train.csv", reviews(320, 0))
    write(folder / "test.csv", reviews(120, 1))
    (folder / "reviews.yaml").write_text(RECIPE, "utf-8")
    done = run("fit", "reviews.yaml", "--quiet", cwd=folder)
    assert done.code == 0, done.err
    return folder / "runs" / "reviews" / "package"


@pytest.fixture(scope="session")
def updated(champion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an update with a class and a category that the champion does not know.

    One of the known classes is in none of the new rows: only the kept ones show it.
    """
    folder = tmp_path_factory.mktemp("updated")
    write(folder / "new.csv", reviews(300, 2, ("return", "repair")))
    done = run("update", champion, "new.csv", "--out", "run", "--quiet", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"
