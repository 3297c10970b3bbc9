"""The data side of a plan: tables opened, columns understood, rows split, the target coded. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from automm.core.kinds import Task
from automm.core.processor import BadCells
from automm.core.profile import ColumnProfile
from automm.core.space import Fixed
from automm.data.infer import Inference, infer_inputs, infer_task
from automm.data.leakage import leakage_warnings
from automm.data.ledger import Ledger
from automm.data.profile import profile_table
from automm.data.sources import open_table
from automm.data.split import group_codes, split_rows
from automm.data.table import Table
from automm.errors import DataError, RecipeError
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry
from automm.recipe.model import Recipe

UNLABELED = "unlabeled"
"""The part whose rows have no answer."""


class Part(NamedTuple):
    """The rows of one side of the split, or those without an answer.

    Attributes:
        table: Where they are.
        rows: Row numbers in the table, sorted; rows with a bad target are not among them.
        target: Their coded targets, [rows] or [rows, size]; zeros for rows without an answer.
        group: Rows with the same number, int64 [rows], must not be split; None if every row is alone.
    """

    table: Table
    rows: np.ndarray
    target: np.ndarray
    group: np.ndarray | None = None


@dataclass
class Prepared:
    """Everything that is known before a model exists."""

    parts: dict[str, Part]
    profiles: dict[str, ColumnProfile]
    inference: Inference
    task: Task
    task_reason: str
    warnings: list[str]
    ledger: Ledger


def prepare(recipe: Recipe, registry: Registry, cache: Path, ledger: Ledger) -> Prepared:
    """Opens the tables of a recipe, infers inputs and task, splits the rows and codes the target.

    Args:
        recipe: The recipe.
        registry: The components.
        cache: Folder for converted tables.
        ledger: Where bad rows are noted.

    Raises:
        DataError: If a table, a column or the target cannot be used.
        RecipeError: If the recipe names what the data do not have.
    """
    registry.need("modality", "encoder", "fusion", "loss", "task")
    for name in recipe.export:
        registry.entry("exporter", name)
    tables = {
        part: open_table(sources, recipe.folder, cache)
        for part in ("train", "valid", "test", UNLABELED)
        if (sources := getattr(recipe.data, part))
    }
    table = tables["train"]
    if table.rows < 2 + ("valid" not in tables):
        raise DataError(f"{table.name}: too few rows to learn from ({table.rows})")
    for column in (*recipe.target.columns, *([recipe.split.column] if recipe.split.column else ())):
        require_column(table, column, "target" if column in recipe.target.columns else "split")
    profiles = profile_table(table)
    task, reason = _task(recipe, registry, profiles)
    set_aside = [recipe.split.column] if recipe.split.method == "group" and recipe.split.column else []
    inference = infer_inputs(
        profiles, registry, recipe.inputs, recipe.ignore, recipe.target.columns, set_aside
    )  # fmt: skip
    if not inference.inputs:
        raise DataError(f"{table.name}: no column is left to predict from ({_reasons(inference.left_out)})")
    needed = [column for item in inference.inputs for column in item.columns]
    for part in set(tables) - {"train"}:
        for column in (*(recipe.target.columns if part != UNLABELED else ()), *needed):
            require_column(tables[part], column, f"data.{part}")
    parts = _parts(recipe, tables, task, registry, ledger)
    sides = {name: (part.table, part.rows) for name, part in parts.items() if len(part.rows)}
    if UNLABELED in tables:
        rows = np.arange(tables[UNLABELED].rows)
        parts[UNLABELED] = Part(tables[UNLABELED], rows, np.zeros(len(rows)))
    notes = [note for found in tables.values() for note in found.notes]
    warnings = notes + leakage_warnings(sides.pop("train"), sides, inference.inputs, recipe.target.columns)
    return Prepared(parts, profiles, inference, task, reason, warnings, ledger)


def require_column(table: Table, column: str, where: str) -> None:
    """Raises unless the table has the column.

    Raises:
        DataError: Naming the nearest columns.
    """
    if column in table.columns:
        return
    near = difflib.get_close_matches(column, table.columns, 3, 0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {', '.join(table.columns[:20])}"
    if len(table.columns) == 1:
        hint += " (one column only: are the cells separated by a comma, semicolon, tab or |?)"
    raise DataError(f"{where}: {table.name} has no column {column!r}; {hint}")


def _task(recipe: Recipe, registry: Registry, profiles: Mapping[str, ColumnProfile]) -> tuple[Task, str]:
    targets = [profiles[column] for column in recipe.target.columns]
    if recipe.task is not None:
        name, reason = recipe.task.name, "named in the recipe"
        config = {field: space.value for field, space in recipe.task.fields.items() if isinstance(space, Fixed)}
    else:
        name, reason = infer_task(targets, registry)
        config = {}
    cls: type[Task] = registry.get("task", name)
    searched = set(recipe.task.fields) - set(config) if recipe.task is not None else set()
    if fixed := sorted(searched - set(cls.Config.tunes())):
        raise RecipeError(f"task.{fixed[0]}: it decides how the target is read; give one value")
    if recipe.target.separator is not None:
        if "separator" not in cls.Config.model_fields:
            raise DataError(f"target: a separator makes no sense for task {name!r}, whose target is one value")
        config["separator"] = recipe.target.separator
    return cls(cls.Config.model_validate(config)), reason


def _parts(
    recipe: Recipe, tables: Mapping[str, Table], task: Task, registry: Registry, ledger: Ledger
) -> dict[str, Part]:
    """Splits, fits the target's coding on the training rows, codes all parts."""
    table, columns = tables["train"], recipe.target.columns
    cells = table.take(columns, None)
    spec = recipe.split.model_copy(update={part: 0.0 for part in ("valid", "test") if part in tables})
    strata = list(zip(*(cells[column] for column in columns), strict=True)) if task.stratified else None
    rows = split_rows(table, spec, [*map(str, strata)] if strata else None, recipe.seed, task.stratified)
    found: dict[str, Part] = {}
    with blamed(registry, type(task), "fit"):
        task.fit({c: [cells[c][i] for i in rows["train"]] for c in columns})
    for part in ("train", "valid", "test"):
        source = tables.get(part, table)
        own = np.arange(source.rows) if source is not table else rows.get(part, np.empty(0, np.int64))
        found[part] = coded(source, own, columns, task, registry, ledger)
    if spec.method == "group":
        groups = group_codes(table, str(spec.column))
        found = {
            name: part._replace(group=groups[part.rows]) if part.table is table else part
            for name, part in found.items()
        }
    ledger.check(recipe.data.max_bad_rows, total_rows(found))
    for part in ("train", "valid"):
        if len(found[part].rows) == 0:
            raise DataError(
                f"{table.name}: {table.rows} rows are too few to leave rows for {part}; add rows, or name a file under "
                f"data.{part}"
            )
    return found


def total_rows(parts: Mapping[str, Part]) -> int:
    """Rows of all tables, bad ones too."""
    return sum({id(part.table): part.table.rows for part in parts.values()}.values())


def coded(
    table: Table, rows: np.ndarray, columns: Sequence[str], task: Task, registry: Registry, ledger: Ledger
) -> Part:
    """Codes the target of some rows; rows whose target is bad go to the ledger."""
    cells = table.take(columns, rows)
    try:
        with blamed(registry, type(task), "encode"):
            return Part(table, rows, task.encode(cells))
    except BadCells as bad:
        for at, reason in bad.reasons.items():
            ledger.add(table.name, int(rows[at]), ", ".join(columns), reason)
        keep = np.setdiff1d(np.arange(len(rows)), list(bad.reasons))
    kept = {c: [cells[c][i] for i in keep] for c in columns}
    return Part(table, rows[keep], task.encode(kept))


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{column}: {reason}" for column, reason in list(left_out.items())[:8])
