"""`fit`: recipe → plan → trials → winner → package → summary. Reads from top to bottom like that sentence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from automm.core.profile import Context
from automm.data.ledger import Ledger
from automm.errors import AutommError, DatabaseAwayError, DataError, ExitCode, GateMissedError, PluginError
from automm.plan import build_plan, prepare
from automm.plan.prepare import total_rows
from automm.plugin.blame import blamed
from automm.plugin.loader import Plugins
from automm.recipe.model import Recipe
from automm.recipe.parse import load_with_plugins
from automm.report.folder import RunFolder, storage_errors, trial_folder, write_json
from automm.report.progress import progress
from automm.run import FitOptions, Member, Run, best_of, stop_requests
from automm.search.space import first_trials, single
from automm.search.study import IDENTITY, Study
from automm.train.bench import Bench
from automm.train.ranks import Ranks, joined
from automm.train.report import TrialReport


class Pruner(Protocol):
    """What a trial in training asks."""

    def report(self, step: int, value: float) -> bool:
        """Notes the value of an epoch; True ends the trial."""


REPEATED = "repeated"
"""State of a trial whose configuration an earlier one had: it takes its value over."""
REPEATS = 10
"""So many repeated trials in a row end the search."""
NETWORK = ""
"""Stands for the network among the learners."""
BASELINE_SHARE = 0.3
"""Most of the time that the single-modality baselines may take."""
CELLS_SHARE = 0.5
"""Most of the remaining time that a trial may take to compute what it reads of the cells; later ones find it there."""
TRIAL_SHARE = 0.4
"""Most of the remaining time that one trial may take."""


def fit(path: Path, options: FitOptions) -> dict[str, Any]:
    """Fits a recipe.

    Args:
        path: The recipe file.
        options: What the command line adds.

    Returns:
        The summary, also in `summary.json` of the run folder.

    Raises:
        AutommError: If no package could be made, or a gate was missed (the package exists then).
    """
    began = time.monotonic()
    with joined() as ranks:
        recipe, plugins = load_with_plugins(
            path, block=options.block, files=options.plugin_files, strict=options.strict
        )
        folder = run_folder(path, options.out)
        show = progress(quiet=options.quiet or not ranks.main)
        log: RunFolder | None = None
        try:
            log = ranks.keep(lambda: RunFolder(folder, show))
            return _fit(recipe, plugins, ranks, folder, log, began)
        except AutommError as problem:
            if log is not None and not isinstance(problem, GateMissedError):
                _write_failure(folder, recipe, problem, began)
            raise
        finally:
            show.close()
            if log is not None:
                log.close()


def run_folder(recipe: Path, out: Path | None) -> Path:
    """Where a run lives: `--out`, or `runs/<recipe name>` below the current folder."""
    return (out or Path("runs") / recipe.stem).absolute()


def _fit(
    recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float
) -> dict[str, Any]:
    from automm.choose import choose
    from automm.package.deliver import deliver

    if log is not None:
        resumed = (folder / IDENTITY).exists()
        log.event("started", recipe=str(recipe.path), folder=str(folder), resumed=resumed, processes=ranks.world)
        with storage_errors(folder / "recipe.yaml"):
            (folder / "recipe.yaml").write_text(recipe.public_text(), "utf-8")
        for text in plugins.problems():
            log.event("warning", text=text)
    run = planned(recipe, plugins, ranks, folder, log, began)
    with stop_requests(run), _open_study(run) as study:
        if run.plan.searching:
            _search_with_baselines(run, study)
        else:
            _search(run, study)
            _baselines(run)
        _check_bad_rows(run)
        winner = ranks.first(lambda: choose(run))
        run.bench.seconds = None  # what the winner reads is computed, whatever it takes
        return deliver(run, [Member(*member) for member in winner.pop("members")], winner)


def planned(recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float) -> Run:
    """Opens the data and builds the plan."""
    work = folder / "work"
    ledger = Ledger()
    start = time.monotonic()
    try:
        prepared = ranks.first_then_all(lambda: prepare(recipe, plugins.registry, work / "tables", ledger))
    except DataError:
        if log is not None:
            _write_ledger(ledger, folder)
        raise
    plan = build_plan(recipe, plugins.registry, prepared)
    bench = Bench(plugins.registry, plan, prepared.parts, prepared.task, work, ledger, ranks)
    run = Run(recipe, plugins, ranks, folder, log, plan, prepared, bench, began)
    if log is not None:
        write_json(folder / "plan.json", {"digest": plan.digest, **plan.model_dump(mode="json")})
        run.event("planned", digest=plan.digest, lines=plan.lines(), seconds=time.monotonic() - start)
    # The default configuration's arrays first: most bad rows show here, before any time is spent on training.
    start = time.monotonic()
    resolved, _ = first_trials(plan, plugins.registry)[0]
    for part in ("train", "valid"):
        bench.view(part, resolved)
    _check_bad_rows(run)
    for part in ("train", "valid"):
        if not len(bench.view(part, resolved).positions):
            raise DataError(f"data.{part}: no row is left that can be used; see {folder / 'bad_rows.csv'}")
    run.event("data", rows=", ".join(f"{n:,} {p}" for p, n in plan.rows.items() if n), seconds=time.monotonic() - start)
    return run


def _check_bad_rows(run: Run) -> None:
    """Stops the run if too many rows are bad; says how many there are otherwise."""
    ledger, total = run.prepared.ledger, total_rows(run.prepared.parts)
    if run.log is not None:
        _write_ledger(ledger, run.folder)
    run.ranks.first(lambda: ledger.check(run.recipe.data.max_bad_rows, total))
    if len(ledger) and run.log is not None:
        run.event("bad_rows", count=ledger.bad(), file=str(run.folder / "bad_rows.csv"))


def _write_ledger(ledger: Ledger, folder: Path) -> None:
    with storage_errors(folder / "bad_rows.csv"):
        ledger.write(folder)


@contextmanager
def _open_study(run: Run) -> Iterator[Study | None]:
    """The study, on rank 0."""
    study = run.ranks.keep(lambda: _study(run))
    try:
        yield study
    finally:
        if study is not None:
            study.close()


def _study(run: Run) -> Study:
    """Opens the study and takes over the reports of the trials that it holds already."""
    search = run.recipe.search
    storage, named = (search.storage, search.study) if search else (None, None)
    study = Study(run.plan, run.plugins.registry, run.folder, storage, named, warn=run.warn, stopping=run.stopping)
    for name in study.names():
        report = _report(run, name)
        run.reports.append(report or TrialReport(name, "failed", {}, error="its report is lost").json())
    return study


def _search_with_baselines(run: Run, study: Study | None) -> None:
    """The default first, then each modality alone, then the rest of the budget on the search."""
    first = len(first_trials(run.plan, run.plugins.registry))
    _search(run, study, most=first)
    _baselines(run)
    _search(run, study)


def _search(run: Run, study: Study | None, most: int | None = None) -> None:
    """Asks, trains, tells, until the budget is spent. Rank 0 asks; all ranks train."""
    while True:
        asked = run.ranks.first(partial(_ask, run, study, most))
        if asked is None:
            return
        name, resolved = asked
        report = train(run, name, resolved, study, _deadline(run, TRIAL_SHARE))
        run.ranks.first(partial(_tell, run, study, report))


def _ask(run: Run, study: Study | None, most: int | None) -> tuple[str, dict[str, Any]] | None:
    """The next trial's name and configuration, or None when the budget is spent. Rank 0 only."""
    try:
        return _asked(run, study, most)
    except DatabaseAwayError as away:
        _go_on_without(run, away)
        return None


def _go_on_without(run: Run, away: DatabaseAwayError) -> None:
    """Ends the search with the best so far where the time or the user asks for that, else the run, to be resumed."""
    if run.plan.time is None and not run.stopping():
        raise away
    run.warn(str(away))


def _asked(run: Run, study: Study | None, most: int | None) -> tuple[str, dict[str, Any]] | None:
    assert study is not None
    while not _spent(run, most):
        run.reports.extend(study.others({report["name"] for report in run.reports}))
        if study.full():
            return None
        try:
            resolved = study.ask(explore=bool(run.reports) and run.reports[-1]["state"] == REPEATED)
            name = study.name
            if (left := study.left(resolved)) is not None:
                _tell(run, study, left)
                continue
            known = next((report for report in run.reports if report["resolved"] == resolved), None)
            if known is None or known["state"] != "complete":
                return name, resolved
            report = {**known, "name": name, "state": REPEATED, "seconds": 0.0, "ended": f"as trial {known['name']}"}
            write_json(trial_folder(run.folder, name) / "report.json", report)
            _tell(run, study, report)
        except PluginError as problem:  # the sampled fields contradict each other: a failed trial like any other
            name = study.name
            report = TrialReport(name, "failed", {}, error=str(problem)).json()
            write_json(trial_folder(run.folder, name) / "report.json", report)
            _tell(run, study, report)
    return None


def _spent(run: Run, most: int | None) -> bool:
    """Whether the trials or the time are used up, the user wants the end, or nothing works."""
    done = len(run.reports)
    if run.stopping() or any(limit is not None and done >= limit for limit in (run.plan.trials, most)):
        return True
    if run.train_deadline is not None and run.reports:
        usual = statistics.median(report["seconds"] for report in run.reports if report["state"] != REPEATED)
        if time.monotonic() + min(usual, 60.0) > run.train_deadline:
            return True
    # The same failure would only repeat, and a small space is used up.
    last = [report["state"] for report in run.reports[-REPEATS:]]
    return (done >= 3 and {report["state"] for report in run.reports} == {"failed"}) or last == [REPEATED] * REPEATS


def _tell(run: Run, study: Study | None, report: dict[str, Any]) -> None:
    """Ends a trial: in the study, in the log, and for plugins. Rank 0 only."""
    assert study is not None
    facts = {"seconds": report["seconds"], "reason": report["error"] or report["ended"]}
    try:
        study.tell(report["value"], report["state"], facts)
    except DatabaseAwayError as away:
        _go_on_without(run, away)
    run.reports.append(report)
    leads = best_of(run.reports, run) is report
    facts = {key: report[key] for key in ("name", "state", "value", "epochs", "seconds", "error")}
    run.event("trial", metric=run.plan.metric, best=leads, what=described(report["resolved"]), **facts)
    run.plugins.call("automm_trial_finished", run.warn, report=report)


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


def _deadline(run: Run, share: float) -> float | None:
    """When a trial must end that may take a share of the remaining time."""
    if run.train_deadline is None:
        return None
    now = time.monotonic()
    return now + max(share * (run.train_deadline - now), 0.0)


def train(
    run: Run, name: str, resolved: dict[str, Any], study: Pruner | None, deadline: float | None
) -> dict[str, Any]:
    """Trains one configuration and keeps its report; a study may prune it."""
    if run.train_deadline is not None:
        run.bench.seconds = CELLS_SHARE * max(run.train_deadline - time.monotonic(), 0.0)
    from automm.train.callbacks import no_callbacks
    from automm.train.run import run_trial

    folder = trial_folder(run.folder, name)
    logger = _logger(run, name, resolved)
    if "learner" in resolved:
        from automm.train.learn import run_learner

        fitted = run_learner(name, resolved, run.bench, folder, deadline=deadline, stopping=run.stopping)
        run.ranks.first(lambda: write_json(folder / "report.json", fitted.json()))
        if logger is not None:
            logger.log_metrics({key: figure for key, figure in fitted.metrics.items() if figure is not None}, 0)
            logger.finalize("success" if fitted.state == "complete" else "failed")
        return fitted.json()

    def on_epoch(epoch: int, value: float, metrics: dict[str, Any]) -> bool:
        left = None if run.plan.time is None else run.began + run.plan.time - time.monotonic()
        run.event("epoch", name=name, epoch=epoch, metrics=metrics, left=left, trials=run.plan.trials)
        return study.report(epoch, value) if study is not None and run.plan.searching else False

    callbacks = [
        item
        for group in run.plugins.call("automm_callbacks", run.warn, no_callbacks, resolved=resolved, folder=folder)
        for item in group
    ]
    report, _ = run_trial(
        name, resolved, run.bench, folder, on_epoch=on_epoch, deadline=deadline, stopping=run.stopping,
        callbacks=callbacks, logger=logger,
    )  # fmt: skip
    run.ranks.first(lambda: write_json(folder / "report.json", report.json()))
    return report.json()


def _logger(run: Run, name: str, resolved: dict[str, Any]) -> Any:
    """What the recipe's loggers write of a trial; rank 0 only."""
    if not run.ranks.main:
        return None
    if run.loggers is None:
        from automm.train.loggers import Loggers

        run.loggers = Loggers(run.recipe.log, run.folder, run.recipe.name, run.warn)
    return run.loggers.trial(name, resolved)


def _baselines(run: Run) -> None:
    """Each modality alone, with the default of each learner: the champions that fusion has to beat."""
    modalities = run.plan.modalities()
    if len(modalities) < 2 or (run.recipe.search is not None and not run.recipe.search.baselines):
        return
    for name, resolved, share in _single_modalities(run):
        known = run.ranks.first(partial(_report, run, name))
        if run.ranks.broadcast(run.stopping()):
            return
        deadline = _deadline(run, BASELINE_SHARE * share)
        report = known or train(run, name, resolved, None, deadline)
        run.baselines.append(report)
        run.event("baseline", name=report["name"], metric=run.plan.metric, value=report["value"], error=report["error"])


def _single_modalities(run: Run) -> list[tuple[str, dict[str, Any], float]]:
    """Name, configuration and share of the baselines' time of each modality with each learner, the quick ones first."""
    defaults: dict[str, dict[str, Any]] = {}
    for resolved, _ in first_trials(run.plan, run.plugins.registry):
        defaults.setdefault(resolved["learner"]["name"] if "learner" in resolved else NETWORK, resolved)
    found = []
    for learner, resolved in defaults.items():
        for modality, slugs in run.plan.modalities().items():
            own = [slug for slug in slugs if slug in resolved["encoders"]]
            if own and not (learner and _unsuited(run, learner, own)):
                name = f"only-{modality}" + (f"-{learner}" if learner != NETWORK else "")
                found.append((name, single(resolved, own), 1 / len(run.plan.modalities())))
    return found


def _unsuited(run: Run, learner: str, slugs: Sequence[str]) -> str | None:
    """Why a learner does not fit some of the inputs alone."""
    cls = run.plugins.registry.get("learner", learner)
    inputs = tuple(item.info for item in run.plan.inputs if item.slug in slugs)
    context = Context(run.plan.task, inputs, run.plan.rows["train"], run.prepared.task.target(), metric=run.plan.metric)
    with blamed(run.plugins.registry, cls, "unsuited"):
        return cls.unsuited(context, cls.Config())  # type: ignore[no-any-return]


def _report(run: Run, name: str) -> dict[str, Any] | None:
    return run.log.report(name) if run.log else None


def _write_failure(folder: Path, recipe: Recipe, problem: AutommError, began: float) -> None:
    """A summary that says why there is no package."""
    status = "interrupted" if problem.exit_code is ExitCode.INTERRUPTED else "failed"
    write_json(
        folder / "summary.json",
        {
            "status": status, "exit_code": int(problem.exit_code), "error": str(problem), "recipe": recipe.name,
            "metric": recipe.metric, "valid": {}, "test": {}, "trials": {}, "package": None, "exports": {},
            "wall_seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip
