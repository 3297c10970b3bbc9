"""Columns of cells → arrays: whole columns at once where all cells are of one type, cell by cell otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automm.api import as_text, is_null, parse_boolean, parse_date, parse_number

MISSING, UNKNOWN, FIRST = 0, 1, 2
"""Codes of a missing cell and of a value outside the vocabulary; the vocabulary starts at `FIRST`."""

FALSE_CODE, TRUE_CODE = FIRST, FIRST + 1

_SMALL = 32  # below this many cells the set-up of the fast ways costs more than it saves
_NUMERIC = {float, int, bool, type(None)}
_TEXT = {str, type(None)}


class Read(NamedTuple):
    """A column as an array.

    Attributes:
        values: [rows]; numbers and times are NaN, codes are `MISSING` where a cell is missing or cannot be used.
        bad: Positions of the cells that cannot be used.
    """

    values: np.ndarray
    bad: list[int]


def numbers(cells: Sequence[Any]) -> Read:
    """Number cells → float64."""
    if len(cells) >= _SMALL:
        found = set(map(type, cells))
        try:
            if found <= _NUMERIC:
                return _checked(np.array(cells, np.float64), cells)
            if found <= _TEXT:
                # Arrow reads plain decimal spellings as parse_number does, and refuses the column for all others.
                read = pc.cast(pa.array(cells, pa.string()), pa.float64())
                return _checked(read.to_numpy(zero_copy_only=False), cells)
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
    return _one_by_one(cells, parse_number)


def times(cells: Sequence[Any]) -> Read:
    """Date cells → seconds since 1970, float64."""

    def seconds(cell: Any) -> float | None:
        try:
            found = parse_date(cell)
        except OverflowError:  # an offset that leads out of the years 1 to 9999
            return None
        return None if found is None else found.timestamp()

    if len(cells) >= _SMALL and set(map(type, cells)) <= _TEXT:
        known = {cell: seconds(cell) for cell in set(cells) if not is_null(cell)}
        return _one_by_one(cells, known.get)
    return _one_by_one(cells, seconds)


def booleans(cells: Sequence[Any]) -> Read:
    """Truth values → int64 codes."""
    known = {None: MISSING, False: FALSE_CODE, True: TRUE_CODE}
    values = np.zeros(len(cells), np.int64)
    bad = []
    for at, cell in enumerate(cells):
        value = None if is_null(cell) else parse_boolean(cell)
        values[at] = known[value]
        if value is None and not is_null(cell):
            bad.append(at)
    return Read(values, bad)


def codes(cells: Sequence[Any], vocabulary: Mapping[str, int]) -> Read:
    """Category cells → int64 codes; nothing is a bad category."""

    def code(cell: Any) -> int:
        return MISSING if is_null(cell) else vocabulary.get(as_text(cell), UNKNOWN)

    if len(cells) >= _SMALL and set(map(type, cells)) <= _TEXT:
        known = {cell: code(cell) for cell in set(cells)}
        return Read(np.array([known[cell] for cell in cells], np.int64), [])
    return Read(np.array([code(cell) for cell in cells], np.int64), [])


def _one_by_one(cells: Sequence[Any], parse: Callable[[Any], float | None]) -> Read:
    values = np.full(len(cells), np.nan)
    bad = []
    for at, cell in enumerate(cells):
        if is_null(cell):
            continue
        value = parse(cell)
        if value is None:
            bad.append(at)
        else:
            values[at] = value
    return Read(values, bad)


def _checked(values: np.ndarray, cells: Sequence[Any]) -> Read:
    """Infinities are bad cells; so are spellings of NaN that are not spellings of null."""
    odd = np.flatnonzero(~np.isfinite(values))
    bad = [int(at) for at in odd if not is_null(cells[at])]
    if bad:
        values = values.copy()
        values[bad] = np.nan
    return Read(values, bad)


def cyclic(seconds: np.ndarray) -> np.ndarray:
    """Times → sine and cosine of month, weekday, hour and day of the year.

    Args:
        seconds: Seconds since 1970, [rows]; NaN gives zeros.

    Returns:
        Float32 [rows, 8].
    """
    known = np.isfinite(seconds)
    moments = np.where(known, np.floor(seconds), 0).astype("datetime64[s]")
    days = moments.astype("datetime64[D]")
    month = days.astype("datetime64[M]").astype(np.int64) % 12
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    hour = (moments - days).astype(np.int64) / 3600
    day = (days - days.astype("datetime64[Y]")).astype(np.int64)
    turns = np.stack([month / 12, weekday / 7, hour / 24, day / 366], 1) * 2 * np.pi  # [rows, 4]
    parts = np.concatenate([np.sin(turns), np.cos(turns)], 1)
    return (parts * known[:, None]).astype(np.float32)
