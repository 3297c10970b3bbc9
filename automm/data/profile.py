"""Facts about the columns of a table, measured on a sample of its rows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automm.core.cells import FALSE, TRUE, as_text, parse_date, parse_number
from automm.core.profile import ColumnProfile
from automm.data.table import Table, is_media
from automm.runtime.media import inside

EXACT = 100_000
"""Rows up to which distinct values are counted exactly."""
CLOSE_LOOK = 2000
"""Distinct values looked at where a look is slow (words, dates)."""
FILES = 50
MOST_BYTES = 64 * 2**20
FAMILY = 8

_PLAIN_NUMBER = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
_DATE_LIKE = r"^\s*([0-9]|[A-Za-z]{3} [0-9])"
_WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"
_EXTENSION = r"(?P<end>\.[A-Za-z][A-Za-z0-9]{0,4})$"
_INFINITE = re.compile(r"(?i)[+-]?inf(inity)?")
_NUMBERED = re.compile(r"(?P<stem>.*?)(?P<gap>[_\-. ]?)(?P<number>0|[1-9]\d*|0\d+)")
_TRUTH = pa.array(sorted(TRUE | FALSE))


def profile_table(table: Table, sample: int = 20_000) -> dict[str, ColumnProfile]:
    """Measures every column.

    Args:
        table: The table.
        sample: Most rows to look at; fewer if rows are large. They are drawn at random, the same in every run.

    Returns:
        Column name → facts.
    """
    most = min(sample, max(1000, int(MOST_BYTES / max(table.row_bytes, 1))))
    rows = None
    if table.rows > most:
        rows = np.sort(np.random.default_rng(0).choice(table.rows, most, replace=False))
    return {column: _profile(table, column, rows) for column in table.columns}


def _profile(table: Table, column: str, rows: np.ndarray | None) -> ColumnProfile:
    kind = table.types[column]
    if pa.types.is_binary(kind) or is_media(kind):
        rows = np.arange(min(table.rows, 100)) if rows is None else rows[:100]
        array = table.array(column, rows)
        cells = [cell for cell in table.cells(column, rows[:20]) if cell is not None]
        return _facts(column, "binary", array, sample=tuple(cells[:5]), distinct=len(array) - array.null_count)
    array = table.array(column, rows)
    filled = array.drop_null()
    if pa.types.is_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind):
        numeric = pa.types.is_list(kind) and _is_numeric_list(kind)
        storage = "list" if pa.types.is_list(kind) else "other"
        shares = {"list_share": float(numeric and len(filled) > 0)}
        return _facts(column, storage, array, sample=tuple(filled[:5].to_pylist()), distinct=len(filled), **shares)
    counted = pc.value_counts(filled)
    values, counts = counted.field("values"), counted.field("counts").to_numpy()
    distinct = len(values)
    if rows is not None and table.rows <= EXACT:
        distinct = int(pc.count_distinct(table.array(column), mode="only_valid").as_py())
    order = np.argsort(-counts, kind="stable")[:50]
    raw = values.take(pa.array(order)).to_pylist()
    texts = [cell if isinstance(cell, str) else as_text(cell) for cell in raw]
    facts: dict[str, Any] = {
        "distinct": distinct,
        "top": tuple((text, int(counts[at])) for text, at in zip(texts, order, strict=True)),
        "sample": tuple(filled[:5].to_pylist()),
    }
    if not len(filled):
        return _facts(column, _storage(kind), array, **facts)
    if pa.types.is_string(kind):
        return _facts(column, "string", array, **facts, **_text_facts(values, counts, table.folder))
    lengths = [len(text) for text in texts]
    facts |= {"mean_chars": float(np.mean(lengths)), "max_chars": max(lengths), "mean_words": 1.0}
    if pa.types.is_boolean(kind):
        whole = {"boolean_share": 1.0, "number_share": 1.0, "integer_share": 1.0}
        return _facts(column, "boolean", array, **facts, **whole)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
        return _facts(column, "number", array, **facts, **_number_facts(numbers, counts, len(filled)))
    dates = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    return _facts(column, _storage(kind), array, **facts, date_share=float(dates))


def _storage(kind: pa.DataType) -> str:
    for storage, test in (
        ("string", pa.types.is_string),
        ("boolean", pa.types.is_boolean),
        ("number", pa.types.is_integer),
        ("number", pa.types.is_floating),
        ("date", pa.types.is_date),
        ("date", pa.types.is_timestamp),
    ):
        if test(kind):
            return storage
    return "other"


def _facts(column: str, storage: str, array: pa.Array, **facts: Any) -> ColumnProfile:
    return ColumnProfile(column, storage, rows=len(array), nulls=array.null_count, **facts)


def _is_numeric_list(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _number_facts(numbers: np.ndarray, counts: np.ndarray, filled: int) -> dict[str, Any]:
    # An infinite cell speaks neither for nor against a column of numbers: a division by zero among many figures.
    filled -= int(counts[np.isinf(numbers)].sum())
    finite = np.isfinite(numbers)
    numbers, counts = numbers[finite], counts[finite]
    if not len(numbers):
        return {}
    share = counts.sum() / filled
    facts: dict[str, Any] = {
        "number_share": float(share),
        "integer_share": float(counts[numbers == np.floor(numbers)].sum() / filled),
        "boolean_share": float(counts[(numbers == 0) | (numbers == 1)].sum() / filled),
    }
    if share >= 0.5:
        facts |= {"minimum": float(numbers.min()), "maximum": float(numbers.max())}
    return facts


def _text_facts(values: pa.Array, counts: np.ndarray, folder: Path) -> dict[str, Any]:
    """Facts about strings, from the distinct values and how often each occurs."""
    filled = int(counts.sum())
    chars = pc.utf8_length(values).to_numpy()
    facts = _number_facts(_numbers(values, chars), counts, filled)
    lowered = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    facts["boolean_share"] = float(counts[_mask(pc.is_in(lowered, _TRUTH))].sum() / filled)
    few = (
        np.arange(len(values)) if len(values) <= CLOSE_LOOK else np.linspace(0, len(values) - 1, CLOSE_LOOK).astype(int)
    )
    looked, weight = values.take(pa.array(few)), counts[few]
    words = pc.count_substring_regex(looked, _WORD).to_numpy()
    dates = _mask(pc.match_substring_regex(looked, _DATE_LIKE)) & (chars[few] <= 40)
    dates[dates] = [parse_date(cell) is not None for cell in looked.filter(pa.array(dates)).to_pylist()]
    lists = _mask(pc.match_substring_regex(looked, r"^\s*\[[\s\[\]0-9eE+\-.,]*\]\s*$"))
    lists[lists] = [_is_number_list(cell) for cell in looked.filter(pa.array(lists)).to_pylist()]
    facts |= {
        "mean_chars": float((chars * counts).sum() / filled),
        "max_chars": int(chars.max()),
        "mean_words": float((words * weight).sum() / weight.sum()),
        "date_share": float(weight[dates].sum() / weight.sum()),
        "list_share": float(weight[lists].sum() / weight.sum()),
    }
    return facts | _file_facts(looked, weight, folder)


def _mask(array: pa.Array) -> np.ndarray:
    return np.array(array.to_numpy(zero_copy_only=False), bool)


def _numbers(values: pa.Array, chars: np.ndarray) -> np.ndarray:
    """The strings as numbers, NaN where they are none; equal to `parse_number` but for infinite ones."""
    numbers = np.full(len(values), np.nan)
    ordinary = _mask(pc.match_substring_regex(values, _PLAIN_NUMBER))
    if ordinary.any():
        trimmed = pc.utf8_trim_whitespace(values.filter(pa.array(ordinary)))
        numbers[ordinary] = pc.cast(pc.utf8_ltrim(trimmed, "+"), pa.float64()).to_numpy()
    # Currency signs, thousands separators and digits of other scripts are rare: one by one.
    rest = np.flatnonzero(~ordinary & (chars <= 40))[: 5 * CLOSE_LOOK]
    for at, cell in zip(rest, values.take(pa.array(rest)).to_pylist(), strict=True):
        number = math.inf if _INFINITE.fullmatch(cell.strip()) else parse_number(cell)
        if number is not None:
            numbers[at] = number
    return numbers


def _is_number_list(cell: str) -> bool:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, list) and bool(found)


def _file_facts(values: pa.Array, counts: np.ndarray, folder: Path) -> dict[str, Any]:
    """File extensions, and how many of the cells name an existing file."""
    short = _mask(pc.less_equal(pc.utf8_length(values), 300))
    ends = pc.extract_regex(values, _EXTENSION).field("end").to_pylist()
    found: dict[str, int] = {}
    for end, count, fits in zip(ends, counts.tolist(), short, strict=True):
        if end and fits:
            found[end.lower()] = found.get(end.lower(), 0) + count
    paths = np.flatnonzero(short & (_mask(pc.match_substring(values, "/")) | np.array([bool(end) for end in ends])))
    if not len(paths):
        return {}
    tried = paths[np.linspace(0, len(paths) - 1, min(FILES, len(paths))).astype(int)]
    existing = np.mean([_is_file(folder, cell) for cell in values.take(pa.array(tried)).to_pylist()])
    common = sorted(found, key=lambda end: -found[end])[:20]
    return {
        "extensions": {end: found[end] / int(counts.sum()) for end in common},
        "exists_share": float(existing * counts[paths].sum() / counts.sum()),
    }


def _is_file(folder: Path, cell: str) -> bool:
    try:
        path = inside(folder, cell)
        return path is not None and path.is_file()
    except (OSError, ValueError):
        return False


def families(profiles: Mapping[str, ColumnProfile]) -> dict[str, list[str]]:
    """Numbered numeric columns (`t_0 … t_127`) that may be one series.

    Args:
        profiles: Column name → facts.

    Returns:
        Prefix ("t") → its columns in the order of their numbers; at least 8, without a gap.
    """
    groups: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
    for name, column in profiles.items():
        match = _NUMBERED.fullmatch(name)
        if match and column.storage in ("string", "number") and column.number_share >= 0.95:
            digits = match["number"]
            padded = len(digits) if digits.startswith("0") and len(digits) > 1 else 0
            groups.setdefault((match["stem"], match["gap"], padded), []).append((int(digits), name))
    found: dict[str, list[str]] = {}
    for (stem, _, _), members in _merge_padded(groups).items():
        members.sort()
        breaks = [at for at in range(1, len(members)) if members[at][0] != members[at - 1][0] + 1]
        for start, stop in zip([0, *breaks], [*breaks, len(members)], strict=True):
            run = [name for _, name in members[start:stop]]
            if len(run) >= FAMILY:
                prefix = stem if stem and stem not in profiles and stem not in found else f"{run[0]}-{run[-1]}"
                found[prefix] = run
    return found


def _merge_padded(
    groups: Mapping[tuple[str, str, int], list[tuple[int, str]]],
) -> dict[tuple[str, str, int], list[tuple[int, str]]]:
    """`t_08, t_09, t_10`: numbers padded with zeros and those that need no padding belong together."""
    merged = {key: list(members) for key, members in groups.items() if key[2]}
    for (stem, gap, padded), members in groups.items():
        if padded:
            continue
        widths = [width for (s, g, width) in merged if (s, g) == (stem, gap)]
        for number, name in members:
            width = next((w for w in widths if len(str(number)) == w), 0)
            merged.setdefault((stem, gap, width), []).append((number, name))
    return merged
