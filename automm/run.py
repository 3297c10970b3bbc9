"""The state of one `fit`, shared by its steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from automm.core.learner import FOLDS
from automm.plan.model import Plan
from automm.plan.prepare import Prepared
from automm.plugin.loader import Plugins
from automm.recipe.model import Recipe
from automm.report.folder import RunFolder
from automm.train.bench import Bench
from automm.train.ranks import Ranks

RESERVE = 0.18
"""Share of the time budget kept for export, verification and test metrics, within `RESERVE_BOUNDS` seconds."""
RESERVE_BOUNDS = (25.0, 300.0)
REFIT_SHARE = 0.2
"""Most of the time budget that is kept for fitting the winner's learners on folds, on top of the reserve."""
COMPRESSION = 0.2
"""Share of the time budget for compression, if the recipe asks for it, on top of the reserve."""


@dataclass
class FitOptions:
    """What the command line adds to a recipe."""

    out: Path | None = None
    block: tuple[str, ...] = ()
    plugin_files: tuple[Path, ...] = ()
    strict: bool = False
    quiet: bool = False


class Member(NamedTuple):
    """One model of the winner.

    Attributes:
        name: Trial (or baseline) that it comes from.
        weight: Its share of the answer.
        resolved: Its configuration.
    """

    name: str
    weight: float
    resolved: dict[str, Any]


@dataclass(frozen=True)
class Continued:
    """What an update adds to a run.

    Attributes:
        parent: Digest of the package that is continued.
        stand_for: How many training rows each row of the training table stands for.
    """

    parent: str
    stand_for: np.ndarray


@dataclass
class Run:
    """The state of one `fit`, shared by its steps."""

    recipe: Recipe
    plugins: Plugins
    ranks: Ranks
    folder: Path
    log: RunFolder | None
    plan: Plan
    prepared: Prepared
    bench: Bench
    began: float
    reports: list[dict[str, Any]] = field(default_factory=list)
    baselines: list[dict[str, Any]] = field(default_factory=list)
    constant: float | None = None
    """The metric of the best answer that is the same for every row."""
    requests: int = 0
    loggers: Any = None
    dear: list[tuple[str, str]] = field(default_factory=list)
    """Kind and name of components that the time budget does not pay for."""
    exhausted: set[str] = field(default_factory=set)
    """Rungs that give nothing new any more."""
    climbing: tuple[float, int] = (0.0, 0)
    """When the first rung began (`time.monotonic()`), and how many trials there were by then."""
    continued: Continued | None = None

    def event(self, event: str, **facts: Any) -> None:
        """Logs an event, on rank 0."""
        if self.log is not None:
            self.log.event(event, **facts)

    def warn(self, text: str) -> None:
        """Logs a warning."""
        self.event("warning", text=text)

    def stopping(self) -> bool:
        """Whether the user asked for the end."""
        return self.requests > 0

    @property
    def train_deadline(self) -> float | None:
        """`time.monotonic()` at which training must be over."""
        if self.plan.time is None:
            return None
        compression = COMPRESSION * self.plan.time if self.recipe.compress else 0.0
        return self.began + self.plan.time - self._reserve - self._refitting - compression

    @property
    def _refitting(self) -> float:
        """Seconds that fitting the best learner on folds is likely to take."""
        best = best_of([report for report in self.reports if "learner" in report["resolved"]], self)
        return min(FOLDS * best["seconds"], REFIT_SHARE * (self.plan.time or 0.0)) if best else 0.0

    @property
    def refit_deadline(self) -> float | None:
        """`time.monotonic()` at which learners must be fitted again: most of the reserve comes after it."""
        return None if self.plan.time is None else self.began + self.plan.time - 0.7 * self._reserve

    @property
    def _reserve(self) -> float:
        """Seconds of the budget that are kept for export, verification and test metrics."""
        time = self.plan.time or 0.0
        return min(max(RESERVE * time, RESERVE_BOUNDS[0]), RESERVE_BOUNDS[1], 0.5 * time)

    @property
    def compress_deadline(self) -> float | None:
        """`time.monotonic()` at which compression must be over: half of the reserve comes after it."""
        return None if self.plan.time is None else self.began + self.plan.time - self._reserve / 2

    def better(self, value: float | None, than: float | None) -> bool:
        """Whether a metric value is better than another."""
        if value is None or than is None:
            return value is not None
        return value > than if self.plan.maximize else value < than


def best_of(reports: Sequence[dict[str, Any]], run: Run) -> dict[str, Any] | None:
    """The completed trial with the best value."""
    best: dict[str, Any] | None = None
    for report in reports:
        if report["state"] == "complete" and run.better(report["value"], best["value"] if best else None):
            best = report
    return best


@contextmanager
def stop_requests(run: Run) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM ends the search with the best so far; the second ends the run, to be resumed."""

    def handle(number: int, _: Any) -> None:
        run.requests += 1
        if run.requests > 1:
            raise KeyboardInterrupt
        name = signal.Signals(number).name
        run.event("stopping", reason=f"{name}: finishing with the best so far; again to stop now")

    try:
        old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread (a test, a notebook): the host handles signals
        yield
        return
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
