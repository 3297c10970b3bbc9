"""A table on disk: Arrow, memory-mapped, so that memory does not grow with its rows."""

from __future__ import annotations

import json
import mmap
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from automm.errors import DataError, StorageError

Rows = np.ndarray | slice | None
_META = b"automm"
_RELEASE = 32 * 2**20
"""After reading this many bytes the mapped pages are handed back, so that the process stays small."""
_NEIGHBOURHOOD = 2**16


class Table:
    """Rows and named columns.

    Cells are Python values: strings, numbers, booleans, dates, lists, bytes. Missing cells, in any of the usual
    spellings, are None.

    Args:
        path: An Arrow file written by `write_table`.
        name: What messages call the table.
        folder: Where relative media paths start.

    Attributes:
        rows: Number of rows.
        columns: Column names, in order.
        digest: Hash of the sources' content.
        types: Column → Arrow type.
        row_bytes: Mean size of a row in bytes.
        notes: What was guessed or repaired when the sources were read, for the report.
    """

    def __init__(self, path: Path, name: str, folder: Path) -> None:
        self.path, self.name, self.folder = path, name, folder
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
        schema = self._reader.schema
        self.columns: list[str] = list(schema.names)
        self.types: dict[str, pa.DataType] = dict(zip(schema.names, schema.types, strict=True))
        meta = json.loads(schema.metadata[_META])
        self.digest: str = meta["digest"]
        self.notes: tuple[str, ...] = tuple(meta["notes"])
        self._batches = [self._reader.get_batch(at) for at in range(self._reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self.rows = int(self._starts[-1])
        self.row_bytes = path.stat().st_size / max(self.rows, 1)
        self._touched = 0.0

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"Table({self.name!r}, rows={self.rows}, columns={len(self.columns)})"

    def array(self, column: str, rows: Rows = None) -> pa.Array:
        """Cells of one column as an Arrow array, in the order of `rows`.

        Args:
            column: Column name.
            rows: Row numbers from 0, a slice with step 1, or None for all rows.

        Raises:
            DataError: If there is no such column.
        """
        return self._read([column], rows)[0]

    def cells(self, column: str, rows: Rows = None) -> list[Any]:
        """Cells of one column as Python values; see `array`."""
        return to_python(self.array(column, rows))

    def take(self, columns: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
        """Cells of some columns: column → one value per row, in the order of `rows`."""
        return dict(zip(columns, map(to_python, self._read(columns, rows)), strict=True))

    def chunks(
        self, columns: Sequence[str], rows: np.ndarray | None = None, size: int = 4096
    ) -> Iterator[tuple[np.ndarray, dict[str, list[Any]]]]:
        """Goes through the table piece by piece.

        Args:
            columns: What to read.
            rows: Row numbers; None: all.
            size: Rows per piece.

        Yields:
            The row numbers, and column → cells.
        """
        total = self.rows if rows is None else len(rows)
        for start in range(0, total, size):
            stop = min(start + size, total)
            if rows is None:
                yield np.arange(start, stop), self.take(columns, slice(start, stop))
            else:
                yield rows[start:stop], self.take(columns, rows[start:stop])

    def _read(self, columns: Sequence[str], rows: Rows) -> list[pa.Array]:
        """The columns as arrays that do not point into the mapped file."""
        for column in columns:
            if column not in self.types:
                raise DataError(f"{self.name}: no column {column!r} (there are: {', '.join(self.columns)})")
        if rows is None or isinstance(rows, slice):
            start, stop, _ = (rows or slice(None)).indices(self.rows)
            rows = np.arange(start, stop)
        else:
            rows = np.asarray(rows, np.int64)
        if not len(rows):
            return [pa.array([], self.types[column]) for column in columns]
        if rows.min() < 0 or rows.max() >= self.rows:
            raise IndexError(f"{self.name}: row {rows.min()}..{rows.max()} of {self.rows}")
        which = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(which, kind="stable")
        found, begins = np.unique(which[order], return_index=True)
        parts = []
        for at, piece in zip(found, np.split(order, begins[1:]), strict=True):
            batch = self._batches[at].select(list(columns))
            parts.append(batch.take(pa.array(rows[piece] - self._starts[at])))
            self._release(len(columns), len(piece), batch.num_rows)
        if len(parts) == 1:
            return parts[0].columns  # type: ignore[no-any-return]
        joined = pa.concat_batches(parts)
        if (np.diff(order) == 1).all():
            return joined.columns  # type: ignore[no-any-return]
        # The pieces follow the batches; the inverse permutation brings the caller's order back.
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return joined.take(pa.array(back)).columns  # type: ignore[no-any-return]

    def _release(self, columns: int, rows: int, of: int) -> None:
        """Counts what reading has mapped into the process, and drops it when it is much.

        A scattered read maps a neighbourhood of some pages around every cell. What is dropped is this process's view of
        the pages only; they stay in the system's page cache.
        """
        self._touched += min(of * self.row_bytes * columns / len(self.columns), rows * columns * _NEIGHBOURHOOD)
        if self._touched > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0.0


def to_python(array: pa.Array) -> list[Any]:
    """An Arrow array as Python values; `{"bytes", "path"}` structs become their bytes, or else their path."""
    kind = array.type
    if is_media(kind):
        data, paths = array.field("bytes").to_pylist(), array.field("path").to_pylist()
        present = array.is_valid().to_pylist()
        return [(d if d is not None else p) if ok else None for d, p, ok in zip(data, paths, present, strict=True)]
    if _is_list(kind) and pa.types.is_primitive(kind.value_type) and not array.flatten().null_count:
        # Slicing one NumPy array is ten times faster than visiting every number.
        values = array.flatten().to_numpy(zero_copy_only=False)
        ends = np.cumsum(np.nan_to_num(pc.list_value_length(array).to_numpy(zero_copy_only=False))).astype(int)
        starts = [0, *ends[:-1]]
        present = array.is_valid().to_pylist()
        return [values[a:b].tolist() if ok else None for a, b, ok in zip(starts, ends, present, strict=True)]
    return array.to_pylist()  # type: ignore[no-any-return]


def is_media(kind: pa.DataType) -> bool:
    """Whether a column holds `{"bytes", "path"}` structs, as `datasets` stores pictures and sound."""
    return bool(pa.types.is_struct(kind)) and {field.name for field in kind} == {"bytes", "path"}


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def write_table(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], digest: str, notes: Sequence[str] = ()
) -> None:
    """Writes batches to an Arrow file, which appears under its name only when it is whole.

    Args:
        path: The file.
        schema: Its columns.
        batches: Its rows; consumed one at a time.
        digest: Hash of the sources' content.
        notes: Remarks on how the sources were read.

    Raises:
        StorageError: If the disk is full or not writable.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    meta = json.dumps({"digest": digest, "notes": list(notes)}, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        described = schema.with_metadata({_META: meta.encode()})
        with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, described) as writer:
            for batch in batches:
                writer.write_batch(batch)
        os.replace(part, path)
    except OSError as problem:
        raise StorageError(f"cannot write the table cache {path.parent}: {problem}") from problem
    finally:
        part.unlink(missing_ok=True)
