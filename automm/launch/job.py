"""What the launchers know of a job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from automm.launch.local import RESTARTS

SPARE = 1.25
"""Time that a scheduler is asked for, as a multiple of the recipe's budget: the budget is kept within 10 %."""
SPARE_SECONDS = 600
"""Added to that: for starting the processes."""


@dataclass(frozen=True)
class Job:
    """One job of one or several nodes.

    Attributes:
        name: Lower-case letters, digits and hyphens; begins with a letter.
        recipe: The recipe file.
        out: The run folder.
        nodes: Number of nodes.
        processes: Processes per node.
        gpus: GPUs per node; 0: none.
        seconds: Time after which the scheduler ends the job; None: its own default.
        restarts: So often a node's processes start again after one was killed.
    """

    name: str
    recipe: Path
    out: Path
    nodes: int = 1
    processes: int = 1
    gpus: int = 0
    seconds: int | None = None
    restarts: int = RESTARTS


def job_name(recipe: str) -> str:
    """A name that Kubernetes takes, too: RFC 1035, at most 40 characters, as it adds to it."""
    words = re.sub(r"[^a-z0-9]+", "-", recipe.lower()).strip("-")
    return f"automm-{words}"[:40].strip("-")


def enough(budget: float | None) -> int | None:
    """The time to ask a scheduler for; None without a time budget."""
    return None if budget is None else int(SPARE * budget) + SPARE_SECONDS
