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
        self._at = {column: at for at, column in enumerate(self.columns)}
        self._batches = [self._reader.get_batch(at) for at in range(self._reader.num_record_batches)]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        self.rows = int(self._starts[-1])
        self._row_bytes = path.stat().st_size / max(self.rows, 1)
        self._touched = 0.0

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"Table({self.name!r}, rows={self.rows}, columns={len(self.columns)})"

    @property
    def row_bytes(self) -> float:
        """Mean size of a row in bytes."""
        return self._row_bytes

    def array(self, column: str, rows: Rows = None) -> pa.Array:
        """Cells of one column as an Arrow array, in the order of `rows`.

        Args:
            column: Column name.
            rows: Row numbers from 0, a slice with step 1, or None for all rows.

        Raises:
            DataError: If there is no such column.
        """
        if column not in self._at:
            raise DataError(f"{self.name}: no column {column!r} (there are: {', '.join(self.columns)})")
        at = self._at[column]
        if rows is None or isinstance(rows, slice):
            start, stop, _ = (rows or slice(None)).indices(self.rows)
            return self._concat([batch.column(at) for batch in self._slices(start, stop)], column)
        rows = np.asarray(rows, np.int64)
        parts = [self._batches[which].column(at).take(pa.array(local)) for which, local in self._pieces(rows)]
        if len(parts) <= 1:
            return self._concat(parts, column)
        # The pieces follow the batches; the inverse permutation brings the caller's order back.
        order = np.argsort(np.searchsorted(self._starts, rows, side="right"), kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return self._concat(parts, column).take(pa.array(back))

    def cells(self, column: str, rows: Rows = None) -> list[Any]:
        """Cells of one column as Python values; see `array`."""
        values = to_python(self.array(column, rows))
        self._release(len(values))
        return values

    def take(self, columns: Sequence[str], rows: Rows) -> dict[str, list[Any]]:
        """Cells of some columns: column → one value per row, in the order of `rows`."""
        return {column: self.cells(column, rows) for column in columns}

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

    def _slices(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        for which in range(max(first, 0), len(self._batches)):
            low, high = int(self._starts[which]), int(self._starts[which + 1])
            if low >= stop:
                return
            begin = max(start, low)
            yield self._batches[which].slice(begin - low, min(stop, high) - begin)

    def _pieces(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Batch number and row numbers inside it, for every batch that `rows` touches."""
        if not len(rows):
            return
        if rows.min() < 0 or rows.max() >= self.rows:
            raise IndexError(f"{self.name}: row {rows.min()}..{rows.max()} of {self.rows}")
        which = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(which, kind="stable")
        found, begins = np.unique(which[order], return_index=True)
        for batch, piece in zip(found, np.split(order, begins[1:]), strict=True):
            yield int(batch), rows[piece] - self._starts[batch]

    def _concat(self, parts: list[pa.Array], column: str) -> pa.Array:
        if not parts:
            return pa.array([], self.types[column])
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)

    def _release(self, rows: int) -> None:
        self._touched += rows * self._row_bytes
        if self._touched > _RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            # Drops this process's view of the pages only; they stay in the system's page cache.
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
