"""`fit`: recipe → plan → trials → winner → package → summary. Reads from top to bottom like that sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from automm.data.ledger import Ledger
from automm.defaults import read_defaults
from automm.errors import AutommError, DataError, ExitCode, GateMissedError
from automm.plan import build_plan, prepare
from automm.plan.prepare import total_rows
from automm.plugin.loader import Plugins
from automm.recipe.model import Recipe
from automm.recipe.parse import load_with_plugins
from automm.report.attempts import attempt_of, used_before
from automm.report.folder import EVENTS, RunFolder, storage_errors, write_json
from automm.report.progress import progress
from automm.run import FitOptions, Member, Run, stop_requests
from automm.search.study import IDENTITY, Study
from automm.train.bench import Bench
from automm.train.ranks import Ranks, joined
from automm.train.report import TrialReport
from automm.trials import baselines, log_trial, search, search_with_baselines


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
            began -= ranks.first(partial(used_before, folder / EVENTS, began))
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
        facts = {"recipe": str(recipe.path), "folder": str(folder), "resumed": resumed, "processes": ranks.world}
        log.event("started", **facts, used=round(time.monotonic() - began, 3), **attempt_of(began))
        with storage_errors(folder / "recipe.yaml"):
            (folder / "recipe.yaml").write_text(recipe.public_text(), "utf-8")
        for text in plugins.problems():
            log.event("warning", text=text)
    run = planned(recipe, plugins, ranks, folder, log, began)
    with stop_requests(run), _open_study(run) as study:
        if run.plan.searching:
            search_with_baselines(run, study)
        else:
            search(run, study)
            baselines(run)
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
    resolved = read_defaults(run)
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
    study = Study(
        run.plan, run.plugins.registry, run.folder, storage, named, warn=run.warn, stopping=run.stopping,
        sizes=search.rungs if search else None, dear=run.dear,
    )  # fmt: skip
    logged = run.log.names("trial") if run.log else set()
    for name in study.names():
        report = run.log.report(name) if run.log else None
        run.reports.append(report or TrialReport(name, "failed", {}, error="its report is lost").json())
        if name not in logged:  # a kill came between the study and the log
            log_trial(run, run.reports[-1])
    return study


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
