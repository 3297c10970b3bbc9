"""An honest estimate of a run's time, from a short measurement on a few hundred rows."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from automm.data.ledger import Ledger
from automm.errors import AutommError
from automm.plan.model import Plan
from automm.plan.prepare import Part, Prepared
from automm.plugin.registry import Registry
from automm.search.space import first_trials
from automm.train.bench import Bench
from automm.train.learn import run_learner
from automm.train.ranks import Ranks
from automm.train.run import run_trial

PROBE_ROWS = 256
PROBE_EPOCHS = 2
EARLY_STOP = 0.6
"""Share of the epochs that a trial usually runs before early stopping ends it."""
EXPORT_SECONDS = 20.0


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run will take on this machine, as far as a probe can tell.

    Attributes:
        prepare: Processing every cell once.
        epoch: One epoch of the default configuration.
        trial: One trial.
        trials: How many trials fit the budget, baselines not counted.
        total: Everything, export included.
        parameters: Weights of the default model.
    """

    prepare: float
    epoch: float
    trial: float
    trials: int
    total: float
    parameters: int

    def json(self) -> dict[str, float]:
        """As plain JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"model      {self.parameters:,} weights with the default components",
            f"estimate   {_time(self.total)} in all: {_time(self.prepare)} to read the cells, about {self.trials} "
            f"trials of {_time(self.trial)} ({self.epoch:.1f} s an epoch), export "
            f"(measured on {PROBE_ROWS} rows; early stopping varies)",
        ]


def probe_plan(
    plan: Plan, registry: Registry, prepared: Prepared, folder: Path, ledger: Ledger, opening: float
) -> Estimate:
    """Trains the default configuration for two epochs on a few rows and scales up.

    Args:
        plan: The plan.
        registry: The components.
        prepared: The data side.
        folder: A temporary folder.
        ledger: Where bad cells are noted.
        opening: Seconds it took to open the data and build the plan.

    Raises:
        AutommError: If the default configuration cannot be trained.
    """
    parts = {name: _few(part) for name, part in prepared.parts.items()}
    bench = Bench(registry, plan, parts, prepared.task, folder / "probe", ledger, Ranks())
    # The network, as it takes longest; a recipe may do without.
    defaults = [resolved for resolved, _ in first_trials(plan, registry)]
    resolved = next((default for default in defaults if "train" in default), defaults[0])
    start = time.monotonic()
    views = {name: bench.view(name, resolved) for name in ("train", "valid")}
    share = sum(plan.rows.values()) / sum(len(view.target) for view in views.values())
    prepare = opening + (time.monotonic() - start) * share
    if "train" in resolved:
        short = {**resolved, "train": {**resolved["train"], "epochs": PROBE_EPOCHS, "pretrain": 0}}
        report, _ = run_trial("probe", short, bench, folder / "probe")
    else:
        report = run_learner("probe", resolved, bench, folder / "probe")
    if report.state == "failed":
        raise AutommError(f"the default configuration cannot be trained: {report.error}")
    rows = plan.rows["train"] + plan.rows["valid"]
    epochs = resolved["train"]["epochs"] if "train" in resolved else 1
    epoch = report.seconds / min(PROBE_EPOCHS, epochs) * rows / sum(len(view.positions) for view in views.values())
    alone = resolved["train"]["pretrain"] if "objective" in resolved else 0
    trial = epoch * (alone + max(1.0, EARLY_STOP * epochs))
    baselines = len(plan.modalities()) if len(plan.modalities()) > 1 else 0
    trials = plan.trials or 10**6
    if plan.time is not None:
        left = plan.time - prepare - EXPORT_SECONDS - baselines * trial
        trials = max(1, min(trials, int(left / max(trial, 1e-3))))
    total = prepare + (trials + baselines) * trial + EXPORT_SECONDS
    return Estimate(prepare, epoch, trial, trials, min(total, plan.time or total), report.parameters)


def _few(part: Part) -> Part:
    if len(part.rows) <= PROBE_ROWS:
        return part
    at = np.sort(np.random.default_rng(0).choice(len(part.rows), PROBE_ROWS, replace=False))
    return Part(part.table, part.rows[at], part.target[at])


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
