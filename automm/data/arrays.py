"""What a fitted processor gives for the rows of a table, stored once and read in batches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automm.cache.contents import KEY, Contents, digest_of
from automm.cache.entries import Entries, EntriesWriter, load_npy
from automm.cache.space import Gathered, Piece, Space
from automm.core.processor import BadCells, Processor
from automm.core.profile import InputInfo
from automm.data.table import Table
from automm.errors import StorageError
from automm.runtime.media import input_cells, takes_columns
from automm.runtime.state import split_state

VERSION = 1
INDEX = "index.json"
"""Written last: says where the entries are."""
CHUNK = 4096
MEDIA_CHUNK = 64
FIRST = 16
GROWTH = 4
"""Pieces that are processed begin with `FIRST` rows and grow: the first ones tell how long all will take."""

OnBad = Callable[[int, str, str], None]
Progress = Callable[[int, int], None]
Compute = Callable[[np.ndarray, Progress], Mapping[str, Sequence[np.ndarray]]]
Share = tuple[int, int]
"""A rank's number and the number of ranks."""


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

    def chunks(self, first: int = CHUNK) -> Iterator[tuple[np.ndarray, Any, dict[int, str]]]:
        """Row numbers, cells, and position → reason for the media cells that cannot be resolved.

        Args:
            first: Most rows of the first piece; those after it grow.
        """
        most = MEDIA_CHUNK if self.processor.media else CHUNK
        columns, start, size = self.info.columns, 0, min(first, most)
        while start < len(self.rows):
            rows = self.rows[start : start + size]
            cells = self.table.take(columns, rows)
            start, size = start + size, min(GROWTH * size, most)
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
        firsts: Positions of the rows whose arrays are stored; cells that hold the same are read and stored once.

    Raises:
        OSError: If the cache that holds the arrays was cleared.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        told = json.loads((folder / INDEX).read_text("utf-8"))
        self.rows, self.present, self.bad = (load_npy(folder / f"{name}.npy") for name in ("rows", "present", "bad"))
        self._at = load_npy(folder / "at.npy")
        self.firsts = np.unique(self._at, return_index=True)[1]
        self.entries = Entries(Path(told["entries"]) if told["entries"] else folder)
        self.specs, self.nbytes = self.entries.specs, self.entries.nbytes

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray | None:
        """The longest varying size of every row, int64 [n]; None if all rows have the same shapes."""
        longest = self.entries.lengths
        return longest if longest is None else longest[self._at]

    def batch(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Some rows as batch arrays, padded to the longest of them.

        Args:
            positions: Positions in `rows`, int [batch].

        Returns:
            Array name → [batch, …].
        """
        return self.entries.batch(self._at[positions])

    def keys(self, positions: np.ndarray) -> list[bytes]:
        """The digests of what the rows' arrays hold."""
        return [_arrays_digest(self.entries.entry(at)) for at in self._at[positions].tolist()]

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
        cache: Path | None = None,
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
            cache: Folder of the cache, which keeps what media give; None: `cache` beside `folder`.

        Raises:
            StorageError: If the disk is full or not writable.
        """
        rows = np.asarray(rows, np.int64)
        home = folder / _digest(processor, info, table, rows)
        found = _opened(cls, home)
        if found is None:
            cells = InputCells(processor, info, table, rows)
            with _published(home, f"arrays of input {info.name!r}") as part:
                if processor.media:
                    _write_cached(part, cells, progress, cache or folder.with_name("cache"))
                else:
                    _write(part, cells, progress)
            found = cls(home)
        for position, column, reason in json.loads((home / "bad.json").read_text("utf-8")):
            on_bad(int(rows[position]), column, reason)
        return found

    @classmethod
    def open(cls, home: Path) -> ArrayStore | None:
        """A complete store; None if there is none, or the cache that it refers to was cleared."""
        return _opened(cls, home)

    @classmethod
    def derive(
        cls, home: Path, source: ArrayStore, space: Space, compute: Compute, progress: Progress | None = None
    ) -> ArrayStore:
        """Stores what is computed from another store's rows.

        Args:
            home: The folder of the new store; its name says everything that the values depend on.
            source: The other store.
            space: Where computed values are kept, by what the source holds.
            compute: Positions in `source` → array name → one entry per position; to be told how far it is.
            progress: Told now and then how many of how many rows are done.

        Raises:
            StorageError: If the disk is full or not writable.
        """
        at = np.searchsorted(np.unique(source._at), source._at)
        with _published(home, "features") as part:
            gathered = cache_derived(source, source.firsts, space, compute, progress)
            _write_index(part, source.rows, source.present, source.bad, [], *_located(part, gathered, at))
        return cls(home)


def cache_derived(
    source: ArrayStore, positions: np.ndarray, space: Space, compute: Compute, progress: Progress | None = None
) -> Gathered:
    """Has the cache hold what is computed from some rows of a store; see `ArrayStore.derive`."""

    def pieces(missing: np.ndarray) -> Iterator[Piece]:
        for start in range(0, len(missing), CHUNK):
            own = positions[missing[start : start + CHUNK]]

            def told(done: int, _: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, len(missing))

            yield Piece(compute(own, told), np.ones(len(own), bool))

    return space.gather(source.keys(positions), pieces)


def _opened(cls: type[ArrayStore], home: Path) -> ArrayStore | None:
    """A complete store; None if there is none, or the cache that it refers to was cleared."""
    if (home / INDEX).is_file():
        try:
            return cls(home)
        except (OSError, ValueError):
            shutil.rmtree(home, ignore_errors=True)
    return None


@contextmanager
def _published(home: Path, what: str) -> Iterator[Path]:
    """A folder that takes the place of `home` when it is complete."""
    part = home.with_name(f"{home.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.mkdir(parents=True)
        yield part
        try:
            os.rename(part, home)
        except OSError:
            if not (home / INDEX).is_file():  # else another process was faster with the same content
                shutil.rmtree(home, ignore_errors=True)  # what an older version left
                os.rename(part, home)
    except OSError as problem:
        raise StorageError(f"cannot write {what} into {home.parent}: {problem}") from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _arrays_digest(arrays: Mapping[str, np.ndarray]) -> bytes:
    digest = hashlib.blake2b(digest_size=KEY)
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


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
    """Every row is an entry of its own, in the store's folder."""
    present, bad = np.zeros(len(cells.rows), bool), np.zeros(len(cells.rows), bool)
    refused: dict[int, str] = {}
    done = 0
    with EntriesWriter(folder, cells.processor.specs()) as writer:
        for piece in _pieces(cells):
            count = len(piece.present)
            writer.append(piece.arrays, count)
            present[done : done + count] = piece.present
            refused |= {done + position: reason for position, reason in piece.refused.items()}
            done += count
            if progress is not None:
                progress(done, len(cells.rows))
        writer.finish()
    bad[list(refused)] = True
    _write_index(folder, cells.rows, present & ~bad, bad, _refusals(cells, refused), np.arange(len(present)), None)


def cache_share(
    folder: Path, processor: Processor, info: InputInfo, table: Table, rows: np.ndarray, cache: Path, share: Share
) -> None:
    """Has the cache hold a rank's share of what `ArrayStore.build` needs, unless the store is there already.

    Args:
        folder: Where stores are kept.
        processor: Fitted; without media nothing is done.
        info: The input.
        table: The table.
        rows: Row numbers.
        cache: Folder of the cache.
        share: This rank's number and the number of ranks.
    """
    if processor.media and not (folder / _digest(processor, info, table, rows) / INDEX).is_file():
        _gathered(InputCells(processor, info, table, rows[share[0] :: share[1]]), None, cache)


def _write_cached(folder: Path, cells: InputCells, progress: Progress | None, cache: Path) -> None:
    """Cells that hold the same share an entry, and entries are kept in the cache."""
    gathered, at = _gathered(cells, progress, cache)
    refused = {row: gathered.refused[entry] for row, entry in enumerate(at.tolist()) if entry in gathered.refused}
    bad = np.zeros(len(at), bool)
    bad[list(refused)] = True
    present = gathered.present[at] & ~bad
    _write_index(folder, cells.rows, present, bad, _refusals(cells, refused), *_located(folder, gathered, at))


def _gathered(cells: InputCells, progress: Progress | None, cache: Path) -> tuple[Gathered, np.ndarray]:
    """The entries of the distinct cells, and which of them every row has."""
    processor = cells.processor
    contents = Contents(cache)
    try:
        keys = []
        for _, piece, reasons in cells.chunks():
            found = contents(_each(piece))
            # A cell that cannot be resolved comes as None, like one that is missing.
            keys += [digest_of([reasons[row]]) if row in reasons else key for row, key in enumerate(found)]
    finally:
        contents.close()
    numbers: dict[bytes, int] = {}
    at = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    firsts = np.unique(at, return_index=True)[1]

    def compute(missing: np.ndarray) -> Iterator[Piece]:
        done = 0
        for piece in _pieces(replace(cells, rows=cells.rows[firsts[missing]])):
            yield piece
            done += len(piece.present)
            if progress is not None:
                progress(done, len(missing))

    state, arrays = split_state(processor.state)
    learned = [f"{array.dtype} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()}"
               for array in arrays.values()]  # fmt: skip
    config = processor.config.model_dump(mode="json") if hasattr(processor.config, "model_dump") else processor.config
    how = [VERSION, processor.op, processor.version, config, state, learned]
    return Space(cache, how, processor.specs(), processor.op).gather(list(numbers), compute), at


def _each(cells: Any) -> Iterable[Any]:
    """The cells of a piece, one per row."""
    return zip(*cells.values(), strict=True) if isinstance(cells, Mapping) else cells


def _pieces(cells: InputCells) -> Iterator[Piece]:
    """What the processor makes of the cells."""
    fixed = all(spec.fixed for spec in cells.processor.specs().values())
    for rows, piece, reasons in cells.chunks(FIRST):
        used, arrays, more = _process(cells.processor, piece, fixed)
        yield Piece(arrays, _present(used, len(rows)), reasons | more)


def _refusals(cells: InputCells, refused: Mapping[int, str]) -> list[tuple[int, str, str]]:
    where = cells.info.columns[0] if len(cells.info.columns) == 1 else cells.info.name
    return [(row, where, refused[row]) for row in sorted(refused)]


def _located(folder: Path, gathered: Gathered, at: np.ndarray) -> tuple[np.ndarray, Path | None]:
    """Where the rows' entries are: in the one folder that has them all, or else copied into the store's own."""
    if len(gathered.sources) == 1:
        return gathered.at[at], gathered.sources[0]
    sources = [Entries(source) for source in gathered.sources]
    specs = sources[0].specs
    with EntriesWriter(folder, specs) as writer:
        for start in range(0, len(gathered.at), MEDIA_CHUNK):
            span = slice(start, start + MEDIA_CHUNK)
            pairs = zip(gathered.source[span], gathered.at[span], strict=True)
            found = [sources[number].entry(entry) for number, entry in pairs]
            arrays = {name: [entry[name] for entry in found] for name in specs}
            writer.append({n: np.stack(v) if specs[n].fixed else v for n, v in arrays.items()}, len(found))
        writer.finish()
    return at, None


def _write_index(
    folder: Path,
    rows: np.ndarray,
    present: np.ndarray,
    bad: np.ndarray,
    refused: Sequence[tuple[int, str, str]],
    at: np.ndarray,
    entries: Path | None,
) -> None:
    """Writes what is known of all rows, and where the entry of each is; the store is complete then."""
    for name, array in (("rows", rows), ("present", present), ("bad", bad), ("at", at)):
        np.save(folder / f"{name}.npy", array)
    (folder / "bad.json").write_text(json.dumps(refused, ensure_ascii=False), "utf-8")
    told = {"entries": str(entries) if entries is not None else None}
    (folder / INDEX).write_text(json.dumps(told), "utf-8")


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
