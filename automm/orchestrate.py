"""`fit`: recipe → plan → trials → winner → package → summary. Reads from top to bottom like that sentence."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automm.data.ledger import Ledger
from automm.errors import AutommError, DataError, ExitCode, GateMissedError
from automm.plan import build_plan, prepare
from automm.plan.prepare import total_rows
from automm.plugin.loader import Plugins
from automm.recipe.model import Recipe
from automm.recipe.parse import load_with_plugins
from automm.report.folder import RunFolder, storage_errors, write_json
from automm.report.progress import Progress, progress
from automm.run import FitOptions, Run, best_of, stop_requests
from automm.search.space import first_trials, single
from automm.search.study import Study
from automm.train.bench import Bench
from automm.train.ranks import Ranks, joined

BASELINE_SHARE = 0.3
"""Most of the time that the single-modality baselines may take."""
FIRST_SHARE = 0.4
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
            log = _opened(folder, ranks, show)
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


def _opened(folder: Path, ranks: Ranks, show: Progress) -> RunFolder | None:
    """Rank 0 locks and opens the run folder."""
    opened: list[RunFolder] = []
    ranks.first(lambda: opened.append(RunFolder(folder, show)))
    return opened[0] if opened else None


def _fit(
    recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float
) -> dict[str, Any]:
    from automm.choose import choose
    from automm.package.deliver import Member, deliver

    resumed = (folder / "study.journal").exists()
    if log is not None:
        log.event("started", recipe=str(recipe.path), folder=str(folder), resumed=resumed, processes=ranks.world)
        shutil.copyfile(recipe.path, folder / "recipe.yaml")
        for text in plugins.problems():
            log.event("warning", text=text)
    run = _planned(recipe, plugins, ranks, folder, log, began)
    with stop_requests(run):
        storage = recipe.search.storage if recipe.search else None
        study = Study(run.plan, plugins.registry, folder, storage) if log else None
        if run.plan.searching:
            _search_with_baselines(run, study)
        else:
            _search(run, study)
            _baselines(run)
        _check_bad_rows(run)
        winner = ranks.first(lambda: choose(run))
        return deliver(run, [Member(*member) for member in winner.pop("members")], winner)


def _planned(recipe: Recipe, plugins: Plugins, ranks: Ranks, folder: Path, log: RunFolder | None, began: float) -> Run:
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


def _search_with_baselines(run: Run, study: Study | None) -> None:
    """The default first, then each modality alone, then the rest of the budget on the search."""
    first = len(first_trials(run.plan, run.plugins.registry))
    _search(run, study, most=first)
    _baselines(run)
    _search(run, study)


def _search(run: Run, study: Study | None, most: int | None = None) -> None:
    """Asks, trains, tells, until the budget is spent. Rank 0 asks; all ranks train."""
    while True:
        asked = run.ranks.broadcast(_ask(run, study, most) if run.ranks.main else None)
        if asked is None:
            return
        index, resolved = asked
        report = _trial(run, str(index), resolved, study, _deadline(run, FIRST_SHARE))
        if run.ranks.main and study is not None:
            value = report["value"]
            facts = {"seconds": report["seconds"], "reason": report["error"] or report["ended"]}
            study.tell(value, report["state"], facts)
            run.reports.append(report)
            leads = best_of(run.reports, run) is report
            facts = {key: report[key] for key in ("name", "state", "value", "epochs", "seconds", "error")}
            run.event("trial", metric=run.plan.metric, best=leads, **facts)
            run.plugins.call("automm_trial_finished", run.warn, report=report)


def _ask(run: Run, study: Study | None, most: int | None) -> tuple[int, dict[str, Any]] | None:
    """The next trial, or None when the budget is spent. Reports of an earlier run are taken over first."""
    assert study is not None
    assert run.log is not None
    counted = study.counted()
    for at in range(len(run.reports), len(counted)):
        done = run.log.report(str(at))
        run.reports.append(done or {"name": str(at), "state": "failed", "value": None, "error": "its report is lost"})
    limits = [limit for limit in (run.plan.trials, most) if limit is not None]
    if limits and len(counted) >= min(limits):
        return None
    if run.stopping():
        return None
    deadline = run.train_deadline
    if deadline is not None and run.reports:
        usual = statistics.median(r.get("seconds", 0.0) for r in run.reports)
        if time.monotonic() + min(usual, 60.0) > deadline:
            return None
    if len(run.reports) >= 3 and all(report["state"] == "failed" for report in run.reports):
        return None  # the same failure would only repeat
    return study.ask()


def _deadline(run: Run, share: float) -> float | None:
    """When a trial must end that may take a share of the remaining time."""
    if run.train_deadline is None:
        return None
    now = time.monotonic()
    return now + max(share * (run.train_deadline - now), 0.0)


def _trial(
    run: Run, name: str, resolved: dict[str, Any], study: Study | None, deadline: float | None
) -> dict[str, Any]:
    """Trains one configuration and keeps its report."""
    from automm.train.callbacks import no_callbacks
    from automm.train.run import run_trial

    folder = run.folder / "trials" / name

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
        callbacks=callbacks, logger=_tensorboard(run, name),
    )  # fmt: skip
    if run.ranks.main:
        write_json(folder / "report.json", report.json())
    return report.json()


def _tensorboard(run: Run, name: str) -> Any:
    """A TensorBoard logger where the package is installed; a logger that cannot start never fails a run."""
    if not run.ranks.main:
        return None
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(run.folder, name="tensorboard", version=name)
    except Exception:
        return None


def _baselines(run: Run) -> None:
    """Each modality alone, with the default components: the champions that fusion has to beat."""
    modalities = run.plan.modalities()
    if len(modalities) < 2 or (run.recipe.search is not None and not run.recipe.search.baselines):
        return
    resolved, _ = first_trials(run.plan, run.plugins.registry)[0]
    for modality, slugs in modalities.items():
        name = f"only-{modality}"
        known = run.ranks.broadcast(run.log.report(name) if run.log else None)
        if run.ranks.broadcast(run.stopping()):
            return
        deadline = _deadline(run, BASELINE_SHARE / len(modalities))
        report = known or _trial(run, name, single(resolved, slugs), None, deadline)
        run.baselines.append(report)
        run.event("baseline", name=report["name"], metric=run.plan.metric, value=report["value"], error=report["error"])


def _write_failure(folder: Path, recipe: Recipe, problem: AutommError, began: float) -> None:
    """A summary that says why there is no package."""
    status = "interrupted" if problem.exit_code is ExitCode.INTERRUPTED else "failed"
    write_json(
        folder / "summary.json",
        {
            "status": status, "exit_code": int(problem.exit_code), "error": str(problem), "recipe": recipe.name,
            "metric": recipe.metric, "valid": {}, "test": {}, "trials": {}, "package": None,
            "wall_seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip


def in_job() -> bool:
    """Whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(arguments: Sequence[str], processes: int, out: Path) -> int:
    """Runs the same command under torchrun on this machine.

    Args:
        arguments: The command line after `automm`.
        processes: Number of processes.
        out: The run folder.

    Returns:
        The exit code of the run; torchrun's own says only that some process failed.
    """
    import subprocess

    before = time.time()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    code = subprocess.run([*command, "-m", "automm", *arguments], check=False).returncode
    summary = out / "summary.json"
    if code and summary.exists() and summary.stat().st_mtime >= before:
        return int(json.loads(summary.read_text("utf-8"))["exit_code"])
    return code
