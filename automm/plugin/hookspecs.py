"""The hooks that automm calls in plugins.

Hooks are called by keyword: an implementation may leave out arguments it does not need. An exception in one plugin is
reported with the plugin's name and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("automm")
hookimpl = pluggy.HookimplMarker("automm")


@hookspec
def automm_register(register: Callable[[type], type]) -> None:
    """Register components: `register(MyFusion)` once per class. The kind comes from the base class.

    Called when plugins are loaded; must be quick and must not import torch.
    """


@hookspec
def automm_callbacks(resolved: dict[str, Any], folder: Path) -> list[Any] | None:
    """Lightning callbacks to add to a trial.

    Args:
        resolved: The trial's resolved configuration (plain JSON).
        folder: The trial's folder inside the run folder.
    """


@hookspec
def automm_trial_finished(report: dict[str, Any]) -> None:
    """A trial ended (completed, pruned or failed). Called on rank 0 only."""


@hookspec
def automm_package_written(package: Path, manifest: dict[str, Any]) -> None:
    """A package was written and verified. Called on rank 0 only."""


@hookspec
def automm_commands(group: Any) -> None:
    """Add commands to the command line.

    Args:
        group: The `click.Group` of `automm`.
    """
