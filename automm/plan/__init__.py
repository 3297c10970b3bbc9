"""The plan: what will be tried, what was left out, and why. Torch-free."""

from __future__ import annotations

import tempfile
from pathlib import Path

from automm.data.ledger import Ledger
from automm.plan.build import build_plan
from automm.plan.prepare import prepare
from automm.plugin.loader import Plugins
from automm.recipe.model import Recipe

__all__ = ["build_plan", "check_data", "prepare"]


def check_data(recipe: Recipe, plugins: Plugins) -> list[str]:
    """Checks a recipe against its data and returns the plan's lines.

    Raises:
        AutommError: The first thing that cannot work.
    """
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger()
        prepared = prepare(recipe, plugins.registry, Path(folder), ledger)
        return build_plan(recipe, plugins.registry, prepared).lines()
