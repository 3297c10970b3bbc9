"""Fixtures for pytest.

A plugin's tests ask for them in the `conftest.py` at their root::

    pytest_plugins = ["automm.testing.fixtures"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automm.testing import fakes


class Project:
    """A folder with data and recipes; calling it fits a recipe.

    Attributes:
        folder: The folder; `run` below it is the last fit's run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, *kinds: str, rows: int = 40, seed: int = 0, missing: float = 0.0, name: str = "train.csv") -> Path:
        """Writes fake data here; see `automm.testing.fakes.write`."""
        return fakes.write(self.folder, *kinds, rows=rows, seed=seed, missing=missing, name=name)

    def __call__(self, recipe: str, *, block: tuple[str, ...] = (), plugins: tuple[Path, ...] = ()) -> dict[str, Any]:
        """Fits a recipe and packages the result, in this process.

        Args:
            recipe: The recipe's text. Without `train.csv` in the folder, one of texts, numbers and categories is made.
            block: Plugins to leave out.
            plugins: Local plugin files.

        Returns:
            The summary: "status", "metric", "valid", "test", "package", …

        Raises:
            AutommError: If there is no package.
        """
        from automm.orchestrate import fit
        from automm.run import FitOptions

        if not (self.folder / "train.csv").exists():
            self.write()
        path = self.folder / "recipe.yaml"
        path.write_text(recipe, "utf-8")
        number = len(list(self.folder.glob("run*")))
        out = self.folder / f"run{number or ''}"
        return fit(path, FitOptions(out=out, block=block, plugin_files=plugins, quiet=True))


@pytest.fixture
def automm_project(tmp_path: Path) -> Project:
    """A `Project` in an empty folder; called with the text of a recipe it gives the summary."""
    return Project(tmp_path)
