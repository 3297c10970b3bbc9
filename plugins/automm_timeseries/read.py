"""Reading one series: .npy, CSV, Parquet, JSON or a list in the cell → numbers [time, channels]."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from automm.api import BadCell, is_null, parse_date, parse_number, read_media

LARGEST = 1e30


class Bounds(NamedTuple):
    """What is refused.

    Attributes:
        values: Most numbers in a series (time × channels).
        channels: Most channels.
        bytes: Largest file, or longest text in a cell.
    """

    values: int = 5_000_000
    channels: int = 1024
    bytes: int = 100_000_000


class Reading(NamedTuple):
    """A series as it was found.

    Attributes:
        values: Float64 [time, channels]; NaN where a sample is missing.
        names: Column names of a table (positions where it has no header); None for arrays and lists.
        dates: A table's columns of dates without a gap, in seconds since 1970: name → float64 [time].
    """

    values: np.ndarray
    names: tuple[str, ...] | None = None
    dates: Mapping[str, np.ndarray] = MappingProxyType({})


def read_cell(cell: Any, bounds: Bounds) -> Reading:
    """A path, the bytes of a file, JSON text, or a list or array of numbers → the series.

    Files are told apart by their first bytes, not by their name. Samples that are not finite, or beyond 1e30 (where
    fill values lie), count as missing.

    Raises:
        BadCell: If it is none of these, is damaged, empty, or over the bounds.
    """
    if isinstance(cell, Path | bytes | bytearray):
        reading = _read_file(read_media(cell, bounds.bytes), bounds)
    elif isinstance(cell, str):
        if len(cell) > bounds.bytes:
            raise BadCell(f"text of {len(cell):,} characters is over the limit of {bounds.bytes:,}")
        reading = _read_json(cell, bounds)
    elif isinstance(cell, list | tuple | np.ndarray):
        reading = Reading(_from_list(cell, bounds))
    else:
        raise BadCell(f"a {type(cell).__name__} is not a series; write a list of numbers or a path")
    values = reading.values
    if values.size == 0:
        raise BadCell("the series has no samples")
    _check(*values.shape, bounds)
    return reading._replace(values=np.where(np.abs(values) < LARGEST, values, np.nan))


def _check(time: int, channels: int, bounds: Bounds) -> None:
    if channels > bounds.channels:
        raise BadCell(f"series of {channels:,} channels is over the limit of {bounds.channels:,}")
    if time * channels > bounds.values:
        raise BadCell(f"series of {time:,} x {channels:,} samples is over the limit of {bounds.values:,}")


def _read_file(data: bytes, bounds: Bounds) -> Reading:
    if data.startswith(b"\x93NUMPY"):
        return Reading(_read_npy(data, bounds))
    if data.startswith(b"PAR1"):
        return _read_parquet(data, bounds)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadCell("not a series file (.npy, CSV, Parquet or JSON)") from None
    return _read_json(text, bounds) if text.lstrip()[:1] in ("[", "{") else _read_csv(text, bounds)


def _read_npy(data: bytes, bounds: Bounds) -> np.ndarray:
    """The array of a .npy file; its header is judged before the data are touched."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} is not supported")
    # The header is a Python literal; its parsers raise SyntaxError, TokenError, RecursionError and more.
    except Exception as problem:
        raise BadCell(f"damaged .npy header: {str(problem)[:100]}") from None
    if dtype.hasobject or dtype.kind not in "fiub" or len(shape) not in (1, 2) or min(shape) < 0:
        raise BadCell(f"a .npy series holds numbers [time] or [time, channels], not {dtype} {list(shape)}")
    _check(shape[0], shape[1] if len(shape) == 2 else 1, bounds)
    size, rest = int(np.prod(shape, dtype=object)) * dtype.itemsize, len(data) - stream.tell()
    if rest < size:
        raise BadCell(f"truncated .npy: {rest:,} of {size:,} bytes")
    flat = np.frombuffer(data, dtype, count=size // dtype.itemsize, offset=stream.tell())
    values = flat.reshape(shape, order="F" if fortran else "C").astype(np.float64)
    return values if values.ndim == 2 else values[:, None]


def _read_json(text: str, bounds: Bounds) -> Reading:
    _check(text.count(",") + 1, 1, bounds)
    try:
        cell = json.loads(text)
    except (ValueError, RecursionError):
        raise BadCell("not a JSON list of numbers") from None
    if isinstance(cell, list) and cell and all(isinstance(row, dict) for row in cell):
        names = dict.fromkeys(name for row in cell for name in row)
        _check(len(cell), len(names), bounds)
        return _from_cells({name: [row.get(name) for row in cell] for name in names}, bounds)
    if isinstance(cell, dict) and cell and all(isinstance(column, list) for column in cell.values()):
        return _from_cells(cell, bounds)
    if not isinstance(cell, list):
        raise BadCell("the JSON is not a list of numbers, a list of lists, or a table of columns or records")
    return Reading(_from_list(cell, bounds))


def _from_list(cell: Sequence[Any] | np.ndarray, bounds: Bounds) -> np.ndarray:
    """[time] or [time, channels] of numbers; None and the spellings of null are missing."""
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "fiub":
        values = cell.astype(np.float64)
    else:
        rows = [row if isinstance(row, list | tuple | np.ndarray) else [row] for row in cell]
        if not rows:
            return np.empty((0, 1))
        widths = {len(row) for row in rows}
        if len(widths) > 1:
            raise BadCell(f"the steps of the series have {min(widths)} to {max(widths)} channels")
        _check(len(rows), widths.pop(), bounds)
        values = np.array([[_number(value, at) for value in row] for at, row in enumerate(rows)], np.float64)
    if values.ndim not in (1, 2):
        raise BadCell(f"a series has shape [time] or [time, channels], not {list(values.shape)}")
    return values if values.ndim == 2 else values[:, None]


def _number(value: Any, at: int) -> float:
    if is_null(value):
        return np.nan
    if isinstance(value, float):
        return value
    number = None if isinstance(value, list | dict | tuple) else parse_number(value)
    if number is None:
        raise BadCell(f"sample {at} of the series is not a number: {str(value)[:40]!r}")
    return number


def _read_csv(text: str, bounds: Bounds) -> Reading:
    """A table of text with or without a header, delimited by comma, semicolon, tab, bar or blanks."""
    first = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    _check(text.count("\n"), first.count(delimiter) + 1, bounds)
    try:
        if delimiter not in first and len(first.split()) > 1:
            rows = [line.split() for line in text.splitlines() if line.strip()]
        else:
            rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    except csv.Error as problem:
        raise BadCell(f"damaged CSV: {problem}") from None
    if not rows:
        raise BadCell("the series has no samples")
    if _is_header(rows):
        header = [cell.strip() for cell in rows[0]]
        header = [f"{name}#{at}" if name in header[:at] else name for at, name in enumerate(header)]
        rows = rows[1:]
    else:
        header = [str(at) for at in range(len(rows[0]))]
    if not rows:
        raise BadCell("the series has no samples")
    for line, row in enumerate(rows):
        if len(row) != len(header):
            raise BadCell(f"row {line} of the CSV has {len(row)} cells, not {len(header)}")
    return _from_cells(dict(zip(header, zip(*rows, strict=True), strict=True)), bounds, delimiter == ";")


def _from_cells(table: Mapping[str, Sequence[Any]], bounds: Bounds, decimal_comma: bool = False) -> Reading:
    """A table's columns of numbers and of dates; columns of words are left out."""
    lengths = {len(cells) for cells in table.values()}
    if len(lengths) > 1:
        raise BadCell(f"the columns of the series have {min(lengths)} to {max(lengths)} samples")
    _check(lengths.pop(), len(table), bounds)
    columns, dates = {}, {}
    for name, cells in table.items():
        if (values := _column(cells, decimal_comma)) is not None:
            columns[name] = values
        elif (seconds := _dates(cells)) is not None:
            dates[name] = seconds
    return _from_columns(columns, dates)


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: it has a word above a number, or holds nothing but words."""
    words = [not is_null(cell) and parse_number(cell) is None and parse_date(cell) is None for cell in rows[0]]
    below = rows[1] if len(rows) > 1 else []
    return all(words) or any(word and parse_number(cell) is not None for word, cell in zip(words, below, strict=False))


def _column(cells: Sequence[Any], decimal_comma: bool) -> np.ndarray | None:
    """A column's numbers; None for a column of dates or words."""
    try:
        values = np.array(cells, np.float64)
    except (TypeError, ValueError):
        values = None
    if values is not None and values.ndim == 1:
        return values
    if decimal_comma:
        cells = [cell.replace(",", ".") for cell in cells]
    numbers = [parse_number(cell) for cell in cells]
    if all(number is None for number in numbers) and not all(is_null(cell) for cell in cells):
        return None
    return np.array([np.nan if number is None else number for number in numbers], np.float64)


def _dates(cells: Sequence[Any]) -> np.ndarray | None:
    """A column's dates in seconds since 1970; None if a cell is none."""
    found = []
    for cell in cells:  # a column of words is left at its first cell
        moment = parse_date(cell)
        if moment is None:
            return None
        found.append(moment.timestamp())
    return np.array(found, np.float64)


def _read_parquet(data: bytes, bounds: Bounds) -> Reading:
    """The numeric columns of a Parquet file; its footer is judged before the data are touched."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        names = [f.name for f in file.schema_arrow if _is_numeric(f.type)]
        times = [f.name for f in file.schema_arrow if pa.types.is_timestamp(f.type) or pa.types.is_date(f.type)]
        _check(file.metadata.num_rows, len(names) + len(times), bounds)
        table = file.read(columns=names + times, use_threads=False)
        columns = {name: table[name].cast(pa.float64(), safe=False).to_numpy() for name in names}
        moments = {
            name: table[name].cast(pa.timestamp("us"), safe=False) for name in times if not table[name].null_count
        }
        dates = {name: column.cast(pa.int64()).to_numpy() / 1e6 for name, column in moments.items()}
    except BadCell:
        raise
    # Besides its own errors pyarrow lets UnicodeDecodeError and others of a damaged schema through.
    except Exception as problem:
        raise BadCell(f"damaged Parquet file: {problem}") from None
    return _from_columns(columns, dates)


def _is_numeric(kind: Any) -> bool:
    from pyarrow import types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _from_columns(columns: dict[str, np.ndarray], dates: dict[str, np.ndarray]) -> Reading:
    if not columns:
        raise BadCell("the table has no column of numbers")
    return Reading(np.stack(list(columns.values()), 1).astype(np.float64), tuple(columns), dates)
