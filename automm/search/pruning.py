"""Which trials end early: those below the median of the others at the same epoch (Golovin et al. 2017, Vizier)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automm.plan.model import Plan

if TYPE_CHECKING:
    import optuna


def pruner() -> optuna.pruners.BasePruner:
    """After four trials, and from the fourth epoch of a trial."""
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=3)


def measured(report: Mapping[str, Any], metric: str) -> dict[int, float]:
    """Epoch with the loss → the metric. Epochs that an objective trained alone, and undefined values, are left out."""
    shown = [entry for entry in report["history"] if metric in entry]
    return {step: entry[metric] for step, entry in enumerate(shown) if entry[metric] is not None}


def known(reports: Sequence[Mapping[str, Any]], metric: str) -> list[list[Any]]:
    """What pruning goes by, as plain JSON: value, and epochs with their values, of each trial that completed."""
    return [
        [report["value"], list(measured(report, metric).items())] for report in reports if report["state"] == "complete"
    ]


class Beside:
    """Prunes a trial by what was known when it was asked for: others are trained at the same time, out of sight.

    So which trials are pruned depends on no process's speed.

    Args:
        trials: What `known` gave of those that have ended.
        plan: The plan.
    """

    def __init__(self, trials: Sequence[Sequence[Any]], plan: Plan) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._objectives = plan.objectives
        study = optuna.create_study(direction="maximize" if plan.maximize else "minimize", pruner=pruner())
        for value, steps in trials:
            study.add_trial(optuna.create_trial(value=value, intermediate_values=dict(steps)))
        self._trial = study.ask()

    def report(self, step: int, value: float) -> bool:
        """Notes the value of an epoch; True ends the trial. With further objectives nothing is pruned."""
        if self._objectives:
            return False
        self._trial.report(value, step)
        return bool(self._trial.should_prune())
