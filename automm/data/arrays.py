"""What a fitted processor gives for the rows of a table, stored once and read in batches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automm.core.arrays import ArraySpec
from automm.core.processor import BadCells, Processor
from automm.core.profile import InputInfo
from automm.data.table import Table
from automm.data.writing import StoreWriter
from automm.errors import StorageError
from automm.runtime.media import input_cells, takes_columns
from automm.runtime.state import split_state

VERSION = 1
IN_MEMORY = 2**30
"""Stores below this many bytes are read into memory, larger ones are mapped."""
CHUNK = 4096
MEDIA_CHUNK = 64

OnBad = Callable[[int, str, str], None]
Progress = Callable[[int, int], None]
Compute = Callable[[np.ndarray], Mapping[str, Sequence[np.ndarray]]]


@dataclass(frozen=True)
class InputCells:
    """The cells of one input, piece by piece, as its processor takes them; what `Processor.fit` is given.

    A media cell that cannot be resolved is None here; `ArrayStore.build` reports it.

    Attributes:
        processor: Decides on the form of the cells.
        info: The input.
        table: The table.
        rows: Row numbers.
    """

    processor: Processor
    info: InputInfo
    table: Table
    rows: np.ndarray

    def __iter__(self) -> Iterator[Any]:
        for _, cells, _ in self.chunks():
            yield cells

    def chunks(self) -> Iterator[tuple[np.ndarray, Any, dict[int, str]]]:
        """Row numbers, cells, and position → reason for the media cells that cannot be resolved."""
        size = MEDIA_CHUNK if self.processor.media else CHUNK
        columns = self.info.columns
        for rows, cells in self.table.chunks(columns, self.rows, size):
            try:
                yield rows, input_cells(self.processor, columns, cells, self.table.folder), {}
            except BadCells as problem:
                kept = _without(cells, problem.reasons)
                yield rows, input_cells(self.processor, columns, kept, self.table.folder), problem.reasons


class ArrayStore:
    """Arrays of one input for some rows of a table.

    Attributes:
        rows: Row numbers in the table, [n].
        present: Whether the row has the input, bool [n].
        bad: Whether its cell could not be used, bool [n]; such a row is stored blank and is not present.
        specs: Array name → specification.
        firsts: Positions of the rows whose arrays are stored; files that several rows name are read and stored once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        self.specs = {name: ArraySpec(dtype, tuple(shape), pad) for name, (dtype, shape, pad) in meta["specs"].items()}
        self.rows, self.present, self.bad = (_load(folder / f"{name}.npy") for name in ("rows", "present", "bad"))
        self._at = _load(folder / "at.npy") if (folder / "at.npy").exists() else np.arange(len(self.rows))
        self.firsts = np.unique(self._at, return_index=True)[1]
        self.nbytes = sum(file.stat().st_size for file in folder.glob("*.npy"))
        keep = self.nbytes < IN_MEMORY
        self._values = {name: _load(folder / f"array_{name}.npy", keep) for name in self.specs}
        varying = [name for name, spec in self.specs.items() if not spec.fixed]
        self._shapes = {name: _load(folder / f"shapes_{name}.npy") for name in varying}
        self._offsets = {
            name: np.concatenate([[0], np.cumsum(shapes.prod(1, dtype=np.int64))])
            for name, shapes in self._shapes.items()
        }

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray | None:
        """The longest varying size of every row, int64 [n]; None if all rows have the same shapes."""
        longest = [
            shapes[:, [axis for axis, size in enumerate(self.specs[name].shape) if isinstance(size, str)]].max(1)
            for name, shapes in self._shapes.items()
        ]
        return np.max(longest, axis=0)[self._at] if longest else None

    def batch(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Some rows as batch arrays, padded to the longest of them.

        Args:
            positions: Positions in `rows`, int [batch].

        Returns:
            Array name → [batch, …].
        """
        at = self._at[positions]
        return {name: self._array(name, spec, at) for name, spec in self.specs.items()}

    def _array(self, name: str, spec: ArraySpec, positions: np.ndarray) -> np.ndarray:
        values = self._values[name]
        if spec.fixed:
            return values.take(positions, axis=0)
        shapes = self._shapes[name][positions]
        starts, ends = self._offsets[name][positions].tolist(), self._offsets[name][positions + 1].tolist()
        longest = shapes.max(0, initial=1) if len(positions) else np.ones(len(spec.shape), np.int64)
        sizes = [int(most) if isinstance(size, str) else size for size, most in zip(spec.shape, longest, strict=True)]
        out = np.full((len(positions), *sizes), spec.pad, spec.dtype)
        if len(sizes) == 1:
            for at, (start, end) in enumerate(zip(starts, ends, strict=True)):
                out[at, : end - start] = values[start:end]
            return out
        for at, (start, end, shape) in enumerate(zip(starts, ends, shapes.tolist(), strict=True)):
            out[at][tuple(slice(size) for size in shape)] = values[start:end].reshape(shape)
        return out

    @classmethod
    def build(
        cls,
        folder: Path,
        processor: Processor,
        info: InputInfo,
        table: Table,
        rows: np.ndarray,
        on_bad: OnBad,
        progress: Progress | None = None,
    ) -> ArrayStore:
        """Processes the rows, or finds what an earlier run stored for the same processor, cells and files.

        Args:
            folder: Where stores are kept, each in a subfolder of its own.
            processor: Fitted.
            info: The input.
            table: The table.
            rows: Row numbers, from 0.
            on_bad: Told row number, column and reason of every cell that cannot be used, also when a store is reused.
            progress: Told after every piece how many of how many rows are done.

        Raises:
            StorageError: If the disk is full or not writable.
        """
        rows = np.asarray(rows, np.int64)
        home = folder / _digest(processor, info, table, rows)
        if not (home / "meta.json").is_file():
            part = folder / f"{home.name}.{uuid.uuid4().hex[:8]}.part"
            try:
                part.mkdir(parents=True)
                _write(part, InputCells(processor, info, table, rows), progress)
                _publish(part, home)
            except OSError as problem:
                raise StorageError(f"cannot write arrays of input {info.name!r} into {folder}: {problem}") from problem
            finally:
                shutil.rmtree(part, ignore_errors=True)
        for position, column, reason in json.loads((home / "bad.json").read_text("utf-8")):
            on_bad(int(rows[position]), column, reason)
        return cls(home)

    @classmethod
    def derive(cls, home: Path, source: ArrayStore, specs: Mapping[str, ArraySpec], compute: Compute) -> ArrayStore:
        """Stores what is computed from another store's rows, or finds what an earlier run stored.

        Args:
            home: The folder of the new store; its name says everything that the values depend on.
            source: The other store.
            specs: Array name → specification.
            compute: Positions in `source` → array name → one entry per position.

        Raises:
            StorageError: If the disk is full or not writable.
        """
        if not (home / "meta.json").is_file():
            part = home.with_name(f"{home.name}.{uuid.uuid4().hex[:8]}.part")
            try:
                part.mkdir(parents=True)
                writer = StoreWriter(part, specs)
                with writer:
                    for start in range(0, len(source.firsts), CHUNK):
                        writer.append(compute(source.firsts[start : start + CHUNK]))
                writer.finish(source.rows, source.present, source.bad, [], source._at)
                _publish(part, home)
            except OSError as problem:
                raise StorageError(f"cannot write features into {home}: {problem}") from problem
            finally:
                shutil.rmtree(part, ignore_errors=True)
        return cls(home)


def _publish(part: Path, home: Path) -> None:
    try:
        os.rename(part, home)
    except OSError:
        if not (home / "meta.json").is_file():  # else another process was faster with the same content
            raise


def _load(path: Path, in_memory: bool = True) -> np.ndarray:
    # A plain view of the mapping: indexing `np.memmap` itself costs several times as much.
    array = np.load(path, allow_pickle=False) if in_memory else np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)


def _digest(processor: Processor, info: InputInfo, table: Table, rows: np.ndarray) -> str:
    """Changes with the operation, its configuration and state, the cells, and the files that they name."""
    config = processor.config.model_dump(mode="json") if hasattr(processor.config, "model_dump") else processor.config
    state, arrays = split_state(processor.state)
    what = [
        VERSION,
        processor.op,
        processor.version,
        config,
        state,
        table.digest,
        str(table.folder),
        info.columns,
        info.types,
    ]
    digest = hashlib.blake2b(json.dumps(what, sort_keys=True, default=str).encode(), digest_size=16)
    for array in (*arrays.values(), rows):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    if processor.media:
        for _, columns in table.chunks(info.columns, rows):
            for cells in columns.values():
                digest.update(repr([_file_stamp(table.folder, cell) for cell in cells]).encode())
    return digest.hexdigest()


def _file_stamp(folder: Path, cell: Any) -> tuple[int, int] | None:
    if not isinstance(cell, str):
        return None  # part of the table's own digest
    try:
        found = os.stat(os.path.join(folder, cell.strip()))
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns


def _write(folder: Path, cells: InputCells, progress: Progress | None) -> None:
    specs = cells.processor.specs()
    fixed = all(spec.fixed for spec in specs.values())
    firsts, at = _distinct(cells)
    stored = replace(cells, rows=cells.rows[firsts])
    present, bad = np.zeros(len(firsts), bool), np.zeros(len(firsts), bool)
    refused: dict[int, str] = {}
    done = 0
    where = cells.info.columns[0] if len(cells.info.columns) == 1 else cells.info.name
    writer = StoreWriter(folder, specs)
    with writer:
        for rows, piece, reasons in stored.chunks():
            piece, arrays, more = _process(cells.processor, piece, fixed)
            reasons |= more
            writer.append(arrays)
            span = slice(done, done + len(rows))
            present[span] = _present(piece, len(rows))
            bad[[done + at for at in reasons]] = True
            refused |= {done + position: reason for position, reason in reasons.items()}
            done += len(rows)
            if progress is not None:
                progress(done, len(firsts))
    refusals = [(row, where, refused[entry]) for row, entry in enumerate(at.tolist()) if entry in refused]
    writer.finish(cells.rows, (present & ~bad)[at], bad[at], refusals, at)


def _distinct(cells: InputCells) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows to process, and for every row which of these it is like: files are read once each."""
    rows = np.arange(len(cells.rows))
    if not cells.processor.media or len(cells.info.columns) > 1:
        return rows, rows
    entries: dict[Any, int] = {}
    firsts: list[int] = []
    at = np.empty(len(rows), np.int64)
    row = 0
    for _, columns in cells.table.chunks(cells.info.columns, cells.rows):
        for cell in columns[cells.info.columns[0]]:
            key = cell if cell is None or isinstance(cell, str | bytes) else row  # anything else stands for itself
            if key not in entries:
                entries[key] = len(firsts)
                firsts.append(row)
            at[row] = entries[key]
            row += 1
    return np.array(firsts, np.int64), at


def _process(processor: Processor, cells: Any, fixed: bool) -> tuple[Any, Mapping[str, Any], dict[int, str]]:
    """The arrays of a piece; cells that the processor refuses become blank.

    Returns:
        The cells as used, array name → one entry per row, and position → reason.
    """
    reasons: dict[int, str] = {}
    while True:
        try:
            if fixed or takes_columns(processor):
                return cells, processor(cells), reasons
            items = processor.items(cells)
        except BadCells as problem:
            if not problem.reasons or set(problem.reasons) <= set(reasons):
                raise  # refusing what is already None would never end
            reasons |= problem.reasons
            cells = _without(cells, problem.reasons)
            continue
        return cells, {name: [np.asarray(item[name]) for item in items] for name in processor.specs()}, reasons


def _without(cells: Any, positions: Mapping[int, str]) -> Any:
    if isinstance(cells, Mapping):
        return {column: _without(values, positions) for column, values in cells.items()}
    return [None if at in positions else cell for at, cell in enumerate(cells)]


def _present(cells: Any, rows: int) -> np.ndarray:
    if isinstance(cells, Mapping):
        columns = [[cell is not None for cell in values] for values in cells.values()]
        return np.any(columns, axis=0) if columns else np.zeros(rows, bool)
    return np.array([cell is not None for cell in cells], bool)
