"""Columns of cells → arrays: whole columns at once where all cells are of one type, cell by cell otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automm.api import as_text, is_null, parse_boolean, parse_date, parse_number
from automm_tabular import lists

MISSING, UNKNOWN, FIRST = 0, 1, 2
"""Codes of a missing cell and of a value outside the vocabulary; the vocabulary starts at `FIRST`."""

FALSE_CODE, TRUE_CODE = FIRST, FIRST + 1

_SMALL = 32  # below this many cells the set-up of the fast ways costs more than it saves
_NUMERIC = {float, int, bool, type(None)}
_TEXT = {str, type(None)}


# Spellings that Arrow reads exactly as parse_number does, and fast.
_PLAIN = r"^-?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?$"
_DECORATED = (
    r"^(?:(?:[$€£¥₹]|USD|EUR|GBP) ?)?"
    r"(?P<number>-?(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}|[0-9]{1,300})(?:\.[0-9]{1,300})?)"
    r"(?: ?(?:[$€£¥₹%]|USD|EUR|GBP))?$"
)
_ISO = r"^(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$"


class Read(NamedTuple):
    """A column as an array.

    Attributes:
        values: [rows], a list or an array; numbers and times are NaN, truth values `MISSING` where a cell is
            missing or cannot be used.
        bad: Positions of the cells that cannot be used.
    """

    values: np.ndarray | list[Any]
    bad: list[int]


def numbers(cells: Sequence[Any]) -> Read:
    """Number cells → float64."""
    if len(cells) >= _SMALL:
        found = set(map(type, cells))
        if found <= _NUMERIC:
            try:
                return _checked(np.array(cells, np.float64), cells)
            except OverflowError:  # an integer beyond all floats
                return _one_by_one(cells, _number)
        if found <= _TEXT:
            return _number_texts(cells)
    return _one_by_one(cells, _number)


def _number(cell: Any) -> float | None:
    try:
        return parse_number(cell)
    except OverflowError:
        return None


def _number_texts(cells: Sequence[str | None]) -> Read:
    """Plain spellings and those with the usual signs by Arrow, all others once per distinct spelling."""
    try:
        texts = pa.array(cells, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair
        return _one_by_one(cells, _number)
    plain = pc.fill_null(pc.match_substring_regex(texts, _PLAIN), False)
    if not pc.all(plain).as_py():
        undone = pc.replace_substring(pc.struct_field(pc.extract_regex(texts, _DECORATED), "number"), ",", "")
        texts = pc.if_else(plain, texts, undone)
        plain = pc.is_valid(texts)
    values = pc.cast(pc.if_else(plain, texts, None), pa.float64()).to_numpy(zero_copy_only=False)
    others = np.flatnonzero(~plain.to_numpy(zero_copy_only=False))
    if not len(others):
        return _checked(values, cells)
    spellings = [cells[at] for at in others]
    known = {spelling: None if is_null(spelling) else parse_number(spelling) for spelling in set(spellings)}
    values = values.copy()
    values[others] = np.array([known[spelling] for spelling in spellings], np.float64)
    return _checked(values, cells)


def times(cells: Sequence[Any]) -> Read:
    """Date cells → seconds since 1970, float64."""

    def seconds(cell: Any) -> float | None:
        try:
            found = parse_date(cell)
        except OverflowError:  # an offset that leads out of the years 1 to 9999
            return None
        return None if found is None else found.timestamp()

    if len(cells) < _SMALL or not set(map(type, cells)) <= _TEXT:
        return _one_by_one(cells, seconds)
    if (values := _iso(cells)) is not None:
        return Read(values, [])
    known = {cell: seconds(cell) for cell in set(cells) if not is_null(cell)}
    return _one_by_one(cells, known.get)


def _iso(cells: Sequence[str | None]) -> np.ndarray | None:
    """Times in plain ISO 8601 by Arrow; None if some cell is anything else."""
    try:
        texts = pa.array(cells, pa.string())
        if not pc.all(pc.match_substring_regex(texts, _ISO)).as_py():
            return None
        times = pc.cast(texts, pa.timestamp("s"))
    except (UnicodeEncodeError, pa.ArrowInvalid):  # half a surrogate pair; a day or hour that does not exist
        return None
    values = pc.cast(times, pa.int64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return values if len(values) else None


def booleans(cells: Sequence[Any]) -> Read:
    """Truth values → int64 codes, `MISSING` for what cannot be read."""

    def code(cell: Any) -> int:
        value = None if is_null(cell) else parse_boolean(cell)
        return MISSING if value is None else TRUE_CODE if value else FALSE_CODE

    values = _each_once(cells, code)
    return Read(values, [at for at, value in enumerate(values) if value == MISSING and not is_null(cells[at])])


def codes(cells: Sequence[Any], vocabulary: Mapping[str, int]) -> list[int]:
    """Category cells → codes; nothing is a bad category."""
    return _each_once(cells, lambda cell: MISSING if is_null(cell) else vocabulary.get(as_text(cell), UNKNOWN))


def counts(cells: Sequence[Any]) -> Counter[str]:
    """Category cells → how often each category comes."""
    if not set(map(type, cells)) <= _TEXT:
        return Counter(as_text(cell) for cell in cells if not is_null(cell))
    found: Counter[str] = Counter()
    for cell, count in Counter(cells).items():
        if not is_null(cell):
            found[as_text(cell)] += count
    return found


def _each_once(cells: Sequence[Any], code: Callable[[Any], int]) -> list[int]:
    """One code per cell, made once for every distinct spelling."""
    if len(cells) >= _SMALL and set(map(type, cells)) <= _TEXT:
        known = {cell: code(cell) for cell in set(cells)}
        return [known[cell] for cell in cells]
    return [code(cell) for cell in cells]


def multi_hot(cells: Sequence[Any], vocabulary: Mapping[str, int], separator: str) -> np.ndarray:
    """List cells → the items that they hold.

    Args:
        cells: Lists, or texts that hold lists.
        vocabulary: Item → its position, from 0.
        separator: What stands between the items of a text.

    Returns:
        Float32 [rows, 1 + items]: the number of items outside the vocabulary, then 1 for every item of the list; NaN
        where the cell is missing.
    """
    places: dict[Any, int] = {}
    rows: list[int] | slice = slice(None)
    distinct = cells
    if set(map(type, cells)) <= _TEXT:
        rows = [places.setdefault(cell, len(places)) for cell in cells]
        distinct = list(places)
    found = np.zeros((len(distinct), 1 + len(vocabulary)), np.float32)
    for row, cell in enumerate(distinct):
        if is_null(cell):
            found[row] = np.nan
            continue
        for item in lists.items(cell, separator):
            found[row, 1 + vocabulary.get(item, -1)] += 1
    return found[rows]


def _one_by_one(cells: Sequence[Any], parse: Callable[[Any], float | None]) -> Read:
    values = [None if is_null(cell) else parse(cell) for cell in cells]
    bad = [at for at, value in enumerate(values) if value is None and not is_null(cells[at])]
    return Read([np.nan if value is None else value for value in values], bad)


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
    parts = calendar(np.where(known, seconds, 0))
    turns = np.stack([parts["month"] / 12, parts["weekday"] / 7, parts["hour"] / 24, parts["yearday"] / 366], 1)
    turns *= 2 * np.pi  # [rows, 4]
    return (np.concatenate([np.sin(turns), np.cos(turns)], 1) * known[:, None]).astype(np.float32)


def calendar(seconds: np.ndarray) -> dict[str, np.ndarray]:
    """Times → where they stand in the calendar.

    Args:
        seconds: Seconds since 1970, [rows], without NaN.

    Returns:
        "year"; "month", "day", "weekday" (Monday) and "yearday" from 0; "hour" with its fraction; [rows] each.
    """
    moments = np.floor(seconds).astype("datetime64[s]")
    days = moments.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    years = days.astype("datetime64[Y]")
    return {
        "year": years.astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12,
        "day": (days - months).astype(np.int64),
        "weekday": (days.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
        "hour": (moments - days).astype(np.int64) / 3600,
        "yearday": (days - years).astype(np.int64),
    }
