"""Warnings about data that give the answer away, or that stand on both sides of a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from automm.core.cells import as_text, parse_number
from automm.core.profile import InputInfo
from automm.data.table import Table
from automm.runtime.media import inside

MOST_ROWS = 100_000
MOST_FILES = 2000
BLOCK = 2**20

Part = tuple[Table, np.ndarray]
"""A table and the row numbers that belong to the part."""

ROWS_PER_VALUE = 20
"""A column whose values come at least so often, each with one class only, gives the target away."""
MANY = 20
"""From so many different target values on, equality in half of the rows is no accident."""


def leakage_warnings(
    train: Part, others: Mapping[str, Part], inputs: Sequence[InputInfo], target: Sequence[str]
) -> list[str]:
    """Looks for leaks; at most 100,000 rows and 2,000 files of a part are looked at.

    Args:
        train: The training rows.
        others: "valid", "test", … → their rows.
        inputs: The inputs of the model.
        target: The target columns.

    Returns:
        One line per finding.
    """
    columns = [column for info in inputs for column in info.columns]
    found = _target_copies(train, columns, target)
    for name, part in others.items():
        found += _shared_rows(train, name, part, columns)
        for column in columns:
            found += _shared_files(train, name, part, column)
    return found


def _some(part: Part, most: int = MOST_ROWS) -> np.ndarray:
    _, rows = part
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


def _target_copies(train: Part, columns: Sequence[str], target: Sequence[str]) -> list[str]:
    table, rows = train[0], _some(train)
    answers = {name: _texts(table.cells(name, rows)) for name in target if name in table.columns}
    found = []
    for column in columns:
        if column in answers or not _is_simple(table.types[column]):
            continue
        cells = _texts(table.cells(column, rows))
        for name, answer in answers.items():
            if said := _gives_away(cells, answer):
                found.append(
                    f"column {column!r} {said} the target {name!r}; ignore it unless it is known when predicting"
                )
    return found


def _texts(cells: Sequence[Any]) -> list[str | None]:
    return [None if cell is None else as_text(cell) for cell in cells]


def _gives_away(cells: list[str | None], answers: list[str | None]) -> str | None:
    """How a column determines the target: it "equals", "renames" (one value per class), "determines" (every value goes
    with one class), "mostly equals" or "rescales" it.
    """
    pairs = [
        (cell, answer) for cell, answer in zip(cells, answers, strict=True) if cell is not None and answer is not None
    ]
    different = set(pairs)
    classes = {answer for _, answer in different}
    if len(pairs) < 10 or len(classes) < 2 or len(pairs) < 0.9 * sum(answer is not None for answer in answers):
        return None
    if all(cell == answer for cell, answer in different):
        return "equals"
    # Where every value occurs once, any two columns correspond one to one.
    if len(different) == len(classes) == len({cell for cell, _ in different}) and len(classes) <= len(pairs) / 2:
        return "renames"
    values = {cell for cell, _ in different}
    if len(different) == len(values) <= len(pairs) / ROWS_PER_VALUE:
        return "determines"
    if len(classes) > MANY and sum(cell == answer for cell, answer in pairs) > len(pairs) / 2:
        return "mostly equals"
    numbers = [(parse_number(cell), parse_number(answer)) for cell, answer in pairs]
    if len(classes) > 2 and all(a is not None and b is not None for a, b in numbers):
        x, y = np.array(numbers, float).T
        if x.std() > 0 and abs(float(np.corrcoef(x, y)[0, 1])) > 1 - 1e-9:
            return "rescales"
    return None


def _is_simple(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_string(kind))


def _row_keys(part: Part, columns: Sequence[str]) -> list[int]:
    table, rows = part[0], _some(part)
    keys: list[int] = []
    for _, cells in table.chunks(columns, rows):
        keys += [hash(row) for row in zip(*(map(_hashable, cells[column]) for column in columns), strict=True)]
    return keys


def _hashable(cell: Any) -> Any:
    return repr(cell) if isinstance(cell, list | dict) else cell


def _shared_rows(train: Part, name: str, part: Part, columns: Sequence[str]) -> list[str]:
    if not columns or any(column not in part[0].columns for column in columns):
        return []
    seen = set(_row_keys(train, columns))
    keys = _row_keys(part, columns)
    same = sum(key in seen for key in keys)
    if not same:
        return []
    return [f"{same:,} of {len(keys):,} {name} rows have the same inputs as a training row ({same / len(keys):.1%})"]


def _shared_files(train: Part, name: str, part: Part, column: str) -> list[str]:
    if column not in part[0].columns or not pa.types.is_string(train[0].types[column]):
        return []
    theirs = _files(part, column, MOST_FILES)
    ours = _files(train, column, MOST_ROWS) if theirs else {}
    if not ours:
        return []
    same = sorted(path for path in theirs if path in ours)
    if same:
        shown = Path(same[0]).name
        return [
            f"column {column!r}: {len(same):,} files are in the training and in the {name} rows, among them {shown}"
        ]
    copies = _copies(ours, theirs)
    if not copies:
        return []
    one, other = (Path(path).name for path in copies[0])
    return [
        f"column {column!r}: {len(copies):,} {name} files have the same content as a training file"
        f" ({other} is {one}, …)"
    ]


def _files(part: Part, column: str, most: int) -> dict[str, int]:
    """Path → size of the files that a column names; empty if its first cells name none."""
    table = part[0]
    rows = _some(part, most)
    if not _sizes(table, column, rows[:20]):
        return {}
    return _sizes(table, column, rows)


def _sizes(table: Table, column: str, rows: np.ndarray) -> dict[str, int]:
    found: dict[str, int] = {}
    for cell in set(table.cells(column, rows)) - {None}:
        if len(cell) > 1000 or "\0" in cell or "\n" in cell:
            continue
        path = inside(table.folder, cell.strip())
        try:
            if path is not None and path.is_file():
                found[str(path)] = path.stat().st_size
        except OSError:
            continue
    return found


def _copies(ours: Mapping[str, int], theirs: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of files with the same bytes. Only files of equal size are read, and of each the first megabyte."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in ours.items():
        by_size[size].append(path)
    budget = MOST_FILES
    known: dict[str, dict[bytes, str]] = {}
    pairs = []
    for path, size in sorted(theirs.items()):
        rivals = by_size.get(size, [])
        if not rivals:
            continue
        key = str(size)
        if key not in known:
            budget -= len(rivals)
            if budget < 0:
                break
            known[key] = {_content(rival): rival for rival in rivals}
        if (twin := known[key].get(_content(path))) is not None:
            pairs.append((twin, path))
    return pairs


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(BLOCK), digest_size=16).digest()
