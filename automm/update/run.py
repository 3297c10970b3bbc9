"""`update`: schema → drift → challenger → duel → the better package. Reads from top to bottom like that sentence."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import automm
from automm.core.kinds import Task
from automm.data.ledger import Ledger
from automm.data.sources import open_table
from automm.data.table import Table
from automm.errors import AutommError, DataError, ExitCode, StorageError, UsageError
from automm.package.write import flush, put_in_place
from automm.plan.model import Plan
from automm.plan.prepare import require_column
from automm.plugin.loader import Plugins, load_plugins
from automm.plugin.packages import copy_package
from automm.recipe.model import Recipe
from automm.report.folder import RunFolder, storage_errors, write_json
from automm.report.progress import progress
from automm.runtime import ops, strictjson
from automm.runtime.manifest import FILE
from automm.runtime.media import inside
from automm.runtime.package import Package
from automm.runtime.predictor import Predictor, load
from automm.update import kept, page, rows
from automm.update.schema import check_columns, check_refused, retyped_columns
from automm.update.watch import drifted, watch

MARGIN = 0.02
"""Loss on old rows, as a share of the champion's metric, that does not count as worse if chance may have given it."""
PLAN = "provenance/plan.json"


@dataclass
class UpdateOptions:
    """What the command line says.

    Attributes:
        test: Old rows that judge, in place of those that the package keeps.
        out: The folder of the update.
        allow_missing: Take absent input columns for missing cells.
        margin: See `MARGIN`.
        plugin_files: Local plugin files that the package needs.
        quiet: Show nothing while it works.
    """

    test: Path | None = None
    out: Path | None = None
    allow_missing: bool = False
    margin: float = MARGIN
    plugin_files: tuple[Path, ...] = ()
    quiet: bool = False


@dataclass
class Update:
    """The state of an update, shared by its steps."""

    options: UpdateOptions
    champion: Predictor
    resume: kept.Resume
    recipe: Recipe
    plan: Plan
    task: Task
    plugins: Plugins
    folder: Path
    log: RunFolder
    began: float
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def package(self) -> Package:
        """The champion."""
        return self.champion.package


def update(path: Path, new: Path, options: UpdateOptions) -> dict[str, Any]:
    """Trains a package further on new rows and keeps the better of the two.

    Args:
        path: The package, which is only read.
        new: The table of new rows with their target, or a folder of tables.
        options: What the command line says.

    Returns:
        The summary, also in `summary.json` of the update's folder; `package/` there is the better package.

    Raises:
        AutommError: If the new rows do not fit the package, or no challenger could be made.
    """
    began = time.monotonic()
    for file in options.plugin_files:
        ops.add_file(file)
    champion = load(path)
    resume = kept.read_resume(champion.package)
    if not resume.held and options.test is None:
        raise UsageError(f"{path}: the package keeps no old rows that could judge; name a table of them with --test")
    plugins = load_plugins(files=options.plugin_files)
    folder = _folder(champion.package, options.out)
    show = progress(quiet=options.quiet)
    try:
        log = RunFolder(folder, show)
        try:
            state = _opened(champion, resume, plugins, options, folder, log, began)
            log.event("update", package=str(path), digest=champion.package.digest, folder=str(folder))
            return _update(state, new)
        except AutommError as problem:
            _write_failure(folder, problem, began)
            raise
        finally:
            log.close()
    finally:
        show.close()


def _folder(package: Package, out: Path | None) -> Path:
    """The folder of the update.

    Raises:
        UsageError: If the champion lies in it.
    """
    folder = (out or Path("runs") / f"{package.manifest.name}-update").absolute()
    if inside(folder, package.path) is not None or folder.resolve() == package.path:
        raise UsageError(f"the package {package.path} lies in {folder}, where the update writes; choose another --out")
    return folder


def _opened(
    champion: Predictor, resume: kept.Resume, plugins: Plugins, options: UpdateOptions, folder: Path, log: RunFolder,
    began: float,
) -> Update:  # fmt: skip
    """Restores plan, recipe and task."""
    package = champion.package
    recipe = Recipe.model_validate(resume.recipe)
    plan = Plan.model_validate(strictjson.loads(package.files.read(PLAN), PLAN, most=kept.LARGEST))
    part = package.manifest.task
    cls: type[Task] = plugins.registry.get("task", part.name)
    task = cls(cls.Config.model_validate(part.config), part.state)
    source = folder / "challenger" / "recipe.yaml"
    with storage_errors(source):
        shutil.rmtree(folder / "challenger", ignore_errors=True)
        source.parent.mkdir(parents=True)
        source.write_bytes(package.files.read("provenance/recipe.yaml"))
    recipe = recipe.model_copy(update={"path": source})
    return Update(options, champion, resume, recipe, plan, task, plugins, folder, log, began)


def _update(state: Update, new: Path) -> dict[str, Any]:
    from automm.update.challenger import train_challenger

    table = _table(new, state.folder)
    notes, report = _examined(state, table)
    old = _old_table(state)
    columns, media = _columns(state)
    joint = rows.join(
        state.folder / "challenger" / "rows.arrow", table,
        kept.read_rows(state.package, kept.ROWS), kept.read_rows(state.package, kept.HELD), columns, media,
    )  # fmt: skip
    made = train_challenger(state, table, joint)
    challenger = load(made.package)
    outcomes = {
        "new": _outcome(state, challenger, joint.table, made.judged, made.task),
        "old": _old_outcome(state, challenger, joint, old, made.task),
    }
    promoted, reason = _verdict(outcomes, made.gate, state.options.margin)
    winner = _publish(state, made.package if promoted else state.package.path)
    summary = {
        "status": "promoted" if promoted else "kept",
        "exit_code": int(ExitCode.OK),
        "promoted": promoted,
        "reason": reason,
        "package": str(winner),
        "champion": {"package": str(state.package.path), "digest": state.package.digest},
        "challenger": {"package": str(made.package), "digest": challenger.package.digest, "metrics": made.metrics},
        "metric": state.plan.metric,
        **{side: outcome.json() for side, outcome in outcomes.items()},
        "margin": state.options.margin,
        "rows": made.counts,
        "new_classes": made.new_classes,
        "warm": made.warm,
        "schema": notes,
        "drift": {"fields": drifted(report), "rows": report["rows"], "refused": report["refused"]},
        "bad_rows": state.ledger.bad(),
        "wall_seconds": round(time.monotonic() - state.began, 3),
        "versions": {"automm": automm.__version__},
    }
    write_json(state.folder / "summary.json", summary)
    state.log.event("updated", status=summary["status"], reason=reason, package=str(winner))
    return summary


def _table(path: Path, folder: Path) -> Table:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    place = path.resolve()
    return open_table([place.name], place.parent, folder / "work" / "tables")


def _examined(state: Update, table: Table) -> tuple[list[str], dict[str, Any]]:
    """Compares columns and distributions with those of training; too many unreadable rows end the update."""
    split = state.recipe.split.column
    if split is not None:
        require_column(table, split, "split")
    manifest, registry = state.package.manifest, state.plugins.registry
    allowed = state.options.allow_missing
    notes = check_columns(table, manifest, [split] if split else [], allow_missing=allowed)
    report, refused = watch(state.champion, table, state.task, allow_missing=allowed)
    write_json(state.folder / "drift.json", report)
    page.write_page(state.folder / "drift.html", report)
    moved = {found["field"] for found in report["findings"] if found["status"] in ("drift", "moderate")}
    check_refused(table, refused, state.recipe.data.max_bad_rows)
    notes += retyped_columns(table, manifest, registry, moved)
    for note in notes:
        state.log.event("warning", text=note)
    state.log.event("drift", fields=drifted(report), rows=report["rows"], refused=report["refused"])
    return notes, report


def _old_table(state: Update) -> Table | None:
    """The rows of `--test`."""
    if state.options.test is None:
        return None
    table = _table(state.options.test, state.folder)
    for column in (*state.package.manifest.target.columns, *state.champion.columns):
        require_column(table, column, "--test")
    return table


def _columns(state: Update) -> tuple[list[str], set[str]]:
    """The columns of an update's table, and those that hold media."""
    parts = list(zip(state.package.manifest.inputs, state.package.inputs, strict=True))
    inputs = [column for part, _ in parts for column in part.columns]
    planned = [column for item in state.plan.inputs for column in item.columns]
    media = {column for part, item in parts if item.processor.media for column in part.columns}
    split = [state.recipe.split.column] if state.recipe.split.column else []
    return list(dict.fromkeys([*inputs, *planned, *state.package.manifest.target.columns, *split])), media


def _outcome(
    state: Update, challenger: Predictor, table: Table, at: np.ndarray, task: Task,
    stored: Mapping[str, np.ndarray] | None = None,
) -> Any:  # fmt: skip
    """Champion and challenger on some rows; both must have answered a row, and its target must be known."""
    from automm.cli.evaluate import encoded
    from automm.update.duel import answers_on, duel, spread

    columns = state.package.manifest.target.columns
    usable, target, _ = encoded(task, table.take(columns, at)) if len(at) else ([], np.empty(0), {})
    found = [(dict(stored), np.arange(len(at)))] if stored is not None else [answers_on(state.champion, table, at)]
    found.append(answers_on(challenger, table, at))
    common = np.intersect1d(np.intersect1d(found[0][1], found[1][1]), usable)
    aligned = [
        {name: array[np.searchsorted(positions, common)] for name, array in answers.items()}
        for answers, positions in found
    ]
    before, after = state.package.manifest.target.names, task.target().names
    answers = spread(aligned[0], before, after), aligned[1]
    target = target[np.searchsorted(usable, common)]
    return duel(state.plan.metric, (_champion_task(state, task), task), answers, target, state.plan.seed)


def _champion_task(state: Update, task: Task) -> Task:
    """The challenger's task with the champion's way of reading answers, where that still fits the classes."""
    plain = {key: value for key, value in task.state.items() if key != "decision"}
    decision = state.task.state.get("decision")
    if decision is not None:
        read = type(task)(task.config, {**plain, "decision": decision})
        try:
            read.decoder()
            read.metrics()
        except (ValueError, KeyError):
            return type(task)(task.config, plain)
        return read
    return type(task)(task.config, plain)


def _old_outcome(state: Update, challenger: Predictor, joint: rows.Joint, old: Table | None, task: Task) -> Any:
    """The same on old rows: those of `--test`, or the held-out ones that the package keeps."""
    if old is not None:
        return _outcome(state, challenger, old, np.arange(old.rows), task)
    stored = kept.read_answers(state.package) if state.resume.answers else None
    return _outcome(state, challenger, joint.table, joint.held_rows, task, stored)


def _verdict(outcomes: Mapping[str, Any], gate: str, margin: float) -> tuple[bool, str]:
    """Whether the challenger replaces the champion, and why."""
    new, old = outcomes["new"], outcomes["old"]
    if gate:
        return False, f"the challenger misses a gate: {gate}"
    if not new.better:
        return False, f"not surely better on new rows: {new.words()}"
    if old.worse(margin):
        return False, f"worse on old rows: {old.words()}"
    return True, f"better on new rows: {new.words()}; not worse on old rows: {old.words()}"


def _publish(state: Update, source: Path) -> Path:
    """Puts the better package at `package/` of the update's folder, whole or not at all."""
    target, exported = state.folder / "package", source.parent / "export"
    with storage_errors(target):
        if target.exists() and not (target / FILE).is_file():
            raise StorageError(f"{target}: holds something that is not a package; choose another --out")
        draft = Path(tempfile.mkdtemp(prefix=".package.", dir=state.folder))
        draft.chmod(0o755)
        try:
            copy_package(source, draft, resume=True)
            flush(draft)
            put_in_place(draft, target)
            shutil.rmtree(state.folder / "export", ignore_errors=True)
            if source != state.package.path and exported.exists():
                exported.rename(state.folder / "export")
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _write_failure(folder: Path, problem: AutommError, began: float) -> None:
    write_json(
        folder / "summary.json",
        {
            "status": "failed", "exit_code": int(problem.exit_code), "promoted": False, "error": str(problem),
            "package": None, "wall_seconds": round(time.monotonic() - began, 3),
        },
    )  # fmt: skip


def lines(summary: Mapping[str, Any]) -> list[str]:
    """The outcome for people."""
    classes: Sequence[str] = summary["new_classes"]
    found = [f"new classes: {', '.join(classes)}"] if classes else []
    return [*found, f"{summary['status']}: {summary['reason']}", f"package: {summary['package']}"]


__all__ = ["Update", "UpdateOptions", "lines", "update"]
