"""One table of new and kept rows, and which of them train, choose and judge. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from automm.core.cells import as_text
from automm.data.columnar import plain_type, unify
from automm.data.split import split_rows, strata
from automm.data.table import Table, write_table
from automm.errors import DataError
from automm.recipe.model import SplitSpec

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CHUNK = 1024
JUDGED = 0.25
"""Share of the new rows that judge champion and challenger."""
CHOSEN = 0.15
"""Share of the kept training rows that choose, beside new ones."""
OLD_SHARE = 1 / 3
"""Share of kept rows among the training rows that is aimed at, by repeating them."""
MOST_REPEATS = 5
DISTINCT = 0.9
"""Share of different rows among the kept ones from which equal rows are taken for the same row."""
FEWEST = 30
"""New rows below which an update makes no sense."""


@dataclass(frozen=True)
class Joint:
    """The rows of an update in one table: new ones, kept training rows, kept held-out rows.

    Attributes:
        table: The table.
        new: Number of new rows.
        kept: Number of kept training rows.
        held: Number of kept held-out rows.
    """

    table: Table
    new: int
    kept: int
    held: int

    @property
    def kept_rows(self) -> np.ndarray:
        """Row numbers of the kept training rows."""
        return np.arange(self.new, self.new + self.kept)

    @property
    def held_rows(self) -> np.ndarray:
        """Row numbers of the kept held-out rows."""
        return np.arange(self.new + self.kept, self.new + self.kept + self.held)


def join(
    path: Path,
    new: Table,
    kept: Sequence[Mapping[str, Any]],
    held: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    media: Collection[str],
) -> Joint:
    """Writes new and kept rows into one table; media paths go on starting where those of the new rows do.

    Args:
        path: The file.
        new: The new rows; columns that it lacks are missing there.
        kept: Training rows that the package keeps, with media as bytes.
        held: Held-out rows that it keeps.
        columns: What to take over.
        media: Those of the columns that hold paths or bytes.

    Raises:
        StorageError: If the file cannot be written.
    """
    old = [*kept, *held]
    types = {column: _type(column, new, old, column in media) for column in columns}
    schema = pa.schema(types.items())

    def batches() -> Iterator[pa.RecordBatch]:
        there = [column for column in columns if column in new.columns]
        for rows, cells in new.chunks(there, size=CHUNK):
            yield _batch({c: cells.get(c, [None] * len(rows)) for c in columns}, schema)
        for start in range(0, len(old), CHUNK):
            part = old[start : start + CHUNK]
            yield _batch({c: [row.get(c) for row in part] for c in columns}, schema)

    write_table(path, schema, batches(), new.digest)
    return Joint(Table(path, new.name, new.folder), new.rows, len(kept), len(held))


def _type(column: str, new: Table, old: Sequence[Mapping[str, Any]], media: bool) -> pa.DataType:
    """A type that takes the cells of both; text if nothing else fits."""
    if media:
        return MEDIA
    cells = [row[column] for row in old if row.get(column) is not None]
    if not cells:
        return new.types.get(column, pa.string())
    try:
        kind = plain_type(pa.array(cells).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        kind = pa.string()
    return unify([new.types[column], kind]) if column in new.types else kind


def _batch(cells: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array([_cell(cell, field.type) for cell in cells[field.name]], field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


def _cell(cell: Any, kind: pa.DataType) -> Any:
    if cell is None:
        return None
    if kind == MEDIA:
        if isinstance(cell, bytes):
            return {"bytes": cell, "path": None}
        return {"bytes": None, "path": cell if isinstance(cell, str) else json.dumps(cell)}
    if pa.types.is_string(kind) and not isinstance(cell, str):
        if isinstance(cell, list | dict):
            return json.dumps(cell)
        return cell.isoformat() if isinstance(cell, date) else as_text(cell)
    return cell


@dataclass(frozen=True)
class Split:
    """Row numbers of the joint table.

    Attributes:
        train: Rows to learn from; kept rows are repeated where new ones would outnumber them.
        valid: Rows that stop training and choose.
        judged: New rows that judge.
        repeats: How often each kept row comes.
        copies: New rows that the package keeps already: they judge nothing, nor do held-out ones teach.
    """

    train: np.ndarray
    valid: np.ndarray
    judged: np.ndarray
    repeats: int
    copies: int


def copies(joint: Joint, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """New rows that equal a kept training row, and those that equal a held-out row.

    Args:
        joint: All rows.
        columns: What is compared. Where these hardly tell kept rows apart, equal rows are no copies.

    Returns:
        Row numbers of both.
    """
    if not columns or not joint.kept + joint.held:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    cells = joint.table.take(columns, None)
    keys = list(zip(*([repr(cell) for cell in values] for values in cells.values()), strict=True))
    kept = {keys[row] for row in joint.kept_rows}
    held = {keys[row] for row in joint.held_rows}
    if len(kept) + len(held) < DISTINCT * (joint.kept + joint.held):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    again = [np.array([row for row in range(joint.new) if keys[row] in known], np.int64) for known in (kept, held)]
    return again[0], again[1]


def split(
    new: Table,
    joint: Joint,
    spec: SplitSpec,
    targets: Sequence[Any],
    stand_for: int,
    seed: int,
    stratified: bool,
    compared: Sequence[str],
) -> Split:
    """Splits the new rows as the recipe splits rows, and the kept training rows at random.

    Args:
        new: The new rows by themselves.
        joint: All rows.
        spec: The recipe's split.
        targets: One text or value per row of the joint table, for stratified splits.
        stand_for: Training rows for which the kept ones stand.
        seed: Of the split.
        stratified: Whether parts keep the target's proportions.
        compared: Columns by which new rows are compared with kept ones.

    Raises:
        DataError: If there are too few new rows.
    """
    if joint.new < FEWEST:
        raise DataError(f"{new.name}: {joint.new} new rows are too few to learn and to judge; {FEWEST} are needed")
    shares = spec.model_copy(update={"test": max(spec.test, JUDGED)})
    parts = split_rows(new, shares, list(targets[: joint.new]), seed, stratified)
    trained, held = copies(joint, compared)
    learned = {part: np.setdiff1d(parts[part], held) for part in ("train", "valid")}
    judged = np.setdiff1d(parts["test"], np.concatenate([trained, held]))
    if min(map(len, (*learned.values(), judged))) == 0:
        raise DataError(
            f"{new.name}: {len(trained) + len(held):,} of {joint.new:,} rows are among those that the package keeps "
            "from its own training; too few are new"
        )
    kept = joint.kept_rows
    random = np.random.default_rng(seed)
    codes = strata(list(targets[joint.new : joint.new + joint.kept])) if stratified else np.zeros(len(kept), np.int64)
    chosen = np.zeros(len(kept), bool)
    for code in np.unique(codes):  # the first of a class always trains
        members = random.permutation(np.flatnonzero(codes == code))
        chosen[members[1 : 1 + round(CHOSEN * len(members))]] = True
    replayed = kept[~chosen]
    repeats = 1
    if len(replayed):
        wanted = OLD_SHARE / (1 - OLD_SHARE) * len(learned["train"]) / len(replayed)
        repeats = int(np.clip(round(min(wanted, stand_for / len(replayed))), 1, MOST_REPEATS))
    return Split(
        np.sort(np.concatenate([learned["train"], np.repeat(replayed, repeats)])),
        np.sort(np.concatenate([learned["valid"], kept[chosen]])),
        judged,
        repeats,
        len(np.union1d(trained, held)),
    )
