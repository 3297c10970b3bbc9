"""One trial of a run: trained on all processes together, or several side by side, one per process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from automm.errors import StorageError
from automm.plugin.blame import of_memory
from automm.recipe.model import RUNGS
from automm.report.folder import trial_folder, write_json
from automm.run import Run
from automm.search.ladder import OPEN
from automm.search.pruning import Beside, known
from automm.train.ranks import Ranks
from automm.train.report import TrialReport

CELLS_SHARE = 0.5
"""Most of the remaining time that a trial may take to compute what it reads of the cells; later ones find it there."""
POSSIBLE_EPOCHS = 2
"""Epochs that the time must allow a trial that is neither a default nor a baseline."""
SAMPLED = frozenset({*RUNGS, OPEN})
CLAIM = "claim"
"""File of a trial's folder; who makes it trains the trial. It holds the rank."""


class Pruner(Protocol):
    """What a trial in training asks."""

    def report(self, step: int, value: float) -> bool:
        """Notes the value of an epoch; True ends the trial."""


class Asked(NamedTuple):
    """A trial that was asked for.

    Attributes:
        name: Its name.
        resolved: Its configuration.
        rung: The stage of the search that asked for it.
    """

    name: str
    resolved: dict[str, Any]
    rung: str


def described(resolved: Mapping[str, Any]) -> str:
    """The components of a configuration, for people."""
    if not resolved:
        return ""
    encoders = ", ".join(dict.fromkeys(choice["name"] for choice in resolved["encoders"].values()))
    sampling = "" if resolved["sampling"] == "none" else f", {resolved['sampling']}-sampled"
    if "learner" in resolved:
        return f"{resolved['learner']['name']} on {encoders}{sampling}"
    fusion = f"{resolved['fusion']['name']}, " if len(resolved["encoders"]) > 1 else ""
    return f"{encoders}; {fusion}{resolved['loss']['name']}{sampling}"


def share_of_time(run: Run, share: float) -> float | None:
    """When something must end that may take a share of the remaining time."""
    if run.train_deadline is None:
        return None
    now = time.monotonic()
    return now + max(share * (run.train_deadline - now), 0.0)


def train(
    run: Run, asked: Asked, study: Pruner | None, deadline: float | None, *, alone: bool = False
) -> dict[str, Any]:
    """Trains one configuration and keeps its report; a study may prune it.

    Args:
        run: The run.
        asked: The trial.
        study: Prunes it; None: nothing does.
        deadline: `time.monotonic()` at which it must end.
        alone: In this process only, while the others do something else. What it reads was computed before.
    """
    ranks, bench = (Ranks(), run.bench.alone()) if alone else (run.ranks, run.bench)
    if not alone:
        _limit_cells(run)
    folder = trial_folder(run.folder, asked.name)
    logger = _logger(run, asked.name, asked.resolved)
    if "learner" in asked.resolved:
        from automm.train.learn import run_learner

        report = run_learner(asked.name, asked.resolved, bench, folder, deadline=deadline, stopping=run.stopping)
        if logger is not None:
            logger.log_metrics({key: figure for key, figure in report.metrics.items() if figure is not None}, 0)
            logger.finalize("success" if report.state == "complete" else "failed")
    else:
        report = _by_gradient(run, asked, asked.resolved, study, deadline, bench, logger)
        if report.state == "failed" and of_memory(report.error or "") and (smaller := _halved(asked.resolved)):
            run.warn(f"trial {asked.name}: {report.error}; once more with batches of {smaller['train']['batch_size']}")
            report = _by_gradient(run, asked, smaller, study, deadline, bench, logger)
            report.asked = asked.resolved
    report.rung = asked.rung
    ranks.first(lambda: write_json(folder / "report.json", report.json()))
    return report.json()


def _by_gradient(
    run: Run, asked: Asked, resolved: dict[str, Any], study: Pruner | None, deadline: float | None, bench: Any,
    logger: Any,
) -> TrialReport:  # fmt: skip
    from automm.train.callbacks import no_callbacks
    from automm.train.run import run_trial

    name, folder = asked.name, trial_folder(run.folder, asked.name)

    def on_epoch(epoch: int, value: float, metrics: dict[str, Any]) -> bool:
        left = None if run.plan.time is None else run.began + run.plan.time - time.monotonic()
        run.event("epoch", name=name, epoch=epoch, metrics=metrics, left=left, trials=run.plan.trials)
        return study.report(epoch, value) if study is not None and run.plan.searching else False

    def on_past(epoch: int, value: float) -> None:
        if study is not None and run.plan.searching:
            study.report(epoch, value)

    callbacks = [
        item
        for group in run.plugins.call("automm_callbacks", run.warn, no_callbacks, resolved=resolved, folder=folder)
        for item in group
    ]
    report, _ = run_trial(
        name, resolved, bench, folder, on_epoch=on_epoch, on_past=on_past, deadline=deadline, stopping=run.stopping,
        least=POSSIBLE_EPOCHS if asked.rung in SAMPLED else 0, callbacks=callbacks, logger=logger,
    )  # fmt: skip
    return report


def _halved(resolved: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration with half the batch size; None if a batch is one row already."""
    size = resolved["train"]["batch_size"] // 2
    return {**resolved, "train": {**resolved["train"], "batch_size": size}} if size else None


def _limit_cells(run: Run) -> None:
    if run.train_deadline is not None:
        run.bench.seconds = CELLS_SHARE * max(run.train_deadline - time.monotonic(), 0.0)


def side_by_side(run: Run, asked: Sequence[Asked], deadline: float | None) -> list[dict[str, Any]]:
    """Trains several trials at once, each in one process, which takes the next when it is done.

    What they read is computed first, by all processes together. They are pruned by the trials that ended before them.

    Args:
        run: The run.
        asked: The trials, the same on every process.
        deadline: `time.monotonic()` at which each must end.

    Returns:
        The reports in order, on every process.
    """
    reports: dict[str, dict[str, Any]] = {}
    for one in asked:
        if (error := _read_together(run, one)) is not None:
            reports[one.name] = TrialReport(one.name, "failed", one.resolved, error=error, rung=one.rung).json()

    def clear() -> None:
        for one in asked:
            folder = trial_folder(run.folder, one.name)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CLAIM).unlink(missing_ok=True)
            if one.name in reports:
                write_json(folder / "report.json", reports[one.name])

    def work() -> list[dict[str, Any]]:
        own = []
        start = run.ranks.rank % len(asked)
        for one in (*asked[start:], *asked[:start]):
            if one.name not in reports and _claimed(run, one.name):
                pruner = None if "learner" in one.resolved else Beside(ended, run.plan)
                own.append(train(run, one, pruner, deadline, alone=True))
        return own

    run.ranks.first(clear)
    ended = run.ranks.first(lambda: known(run.reports, run.plan.metric))
    for rank, own in enumerate(run.ranks.every(work)):
        for report in own:
            reports[report["name"]] = report
            if rank and run.ranks.main:
                _log_afterwards(run, report)
    return [reports[one.name] for one in asked]


def _read_together(run: Run, asked: Asked) -> str | None:
    """Computes what a trial reads; the error that keeps it from that, the same on every process."""
    from automm.train.run import describe_error

    _limit_cells(run)
    error: Exception | None = None
    try:
        for part in ("train", "valid"):
            run.bench.view(part, asked.resolved)
    except Exception as problem:
        error = problem
    failures = [failure for failure in run.ranks.gather(describe_error(error)) if failure]
    for kind, text in failures:
        if kind == StorageError.__name__:
            raise StorageError(text)
    return failures[0][1] if failures else None


def _claimed(run: Run, name: str) -> bool:
    """Whether this process is the one that trains a trial."""
    try:
        with (trial_folder(run.folder, name) / CLAIM).open("x", encoding="utf-8") as file:
            file.write(str(run.ranks.rank))
    except FileExistsError:
        return False
    return True


def _log_afterwards(run: Run, report: Mapping[str, Any]) -> None:
    """Writes what another process trained to the recipe's loggers."""
    logger = _logger(run, report["name"], report["resolved"])
    if logger is None:
        return
    for entry in report["history"] or [{"epoch": 0, **report["metrics"]}]:
        figures = {key: value for key, value in entry.items() if key != "epoch" and value is not None}
        logger.log_metrics(figures, entry["epoch"])
    logger.finalize("success" if report["state"] == "complete" else "failed")


def _logger(run: Run, name: str, resolved: Mapping[str, Any]) -> Any:
    """What the recipe's loggers write of a trial; rank 0 only."""
    if not run.ranks.main:
        return None
    if run.loggers is None:
        from automm.train.loggers import Loggers

        run.loggers = Loggers(run.recipe.log, run.folder, run.recipe.name, run.warn)
    return run.loggers.trial(name, resolved)
