"""From what a recipe names (files, folders, hub names) to a `Table` in the cache."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from automm.data.columnar import (
    is_dataset_folder,
    open_arrow,
    open_dataset_folder,
    open_hub,
    open_parquet,
    plain,
    plain_type,
    unify,
)
from automm.data.delimited import open_delimited
from automm.data.jsonlines import JsonLines, open_jsonlines
from automm.data.stream import Stream
from automm.data.table import Table, write_table
from automm.errors import DataError, StorageError

VERSION = 1
"""Raised whenever the same sources would give another table."""


class Source(Protocol):
    """One file (or dataset), ready to be read."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or repaired."""

    @property
    def digest(self) -> str:
        """Hash of its content."""

    @property
    def count(self) -> int | None:
        """About how many rows it has, if that is known."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows."""


OPENERS: dict[str, Callable[[Path], Source]] = {
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".txt": open_delimited,
    ".jsonl": open_jsonlines,
    ".ndjson": open_jsonlines,
    ".json": open_jsonlines,
    ".parquet": open_parquet,
    ".pq": open_parquet,
    ".feather": open_arrow,
    ".arrow": open_arrow,
    ".ipc": open_arrow,
}


def open_table(sources: Sequence[str], folder: Path, cache: Path) -> Table:
    """Opens files, a folder of part files, a `datasets` folder or a hub name as one table.

    The sources are converted once, in bounded memory, into an Arrow file in the cache; later calls find it there as
    long as size and modification time of every file are unchanged.

    Args:
        sources: Paths relative to `folder`, read one after the other; or one `hf://name[:config][#split]`.
        folder: The folder of the recipe.
        cache: Where converted tables are kept.

    Raises:
        DataError: If a source is missing, empty, damaged or of an unknown format, or if columns differ.
        StorageError: If the cache cannot be written.
    """
    if not sources:
        raise DataError("no data file is named")
    if any(source.startswith("hf://") for source in sources):
        if len(sources) > 1:
            raise DataError(f"a hub name stands alone; {len(sources)} sources are named: {', '.join(sources)}")
        return _convert([open_hub(sources[0])], [sources[0]], sources[0], cache, cache, key=None)
    files = [file for source in sources for file in _expand(folder / source)]
    stamps = [(str(file.resolve()), *_stamp(file)) for file in files]
    key = hashlib.blake2b(json.dumps([VERSION, stamps]).encode(), digest_size=12).hexdigest()
    first = folder / sources[0]
    start = first if first.is_dir() else files[0].parent
    name = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
    path = cache / f"{key}.arrow"
    if path.is_file():
        return Table(path, name, start.resolve())
    unpacked = cache / f"{key}.{uuid.uuid4().hex[:8]}.unpacked"
    try:
        opened = [_open(file, unpacked / str(at)) for at, file in enumerate(files)]
        return _convert(opened, [str(file) for file in files], name, start.resolve(), cache, key)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


@contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    """Opens a file, a folder of part files or a `datasets` folder for reading it once; nothing is copied.

    Args:
        path: The file or folder. A gzip file is unpacked to the temporary folder first.

    Raises:
        DataError: If it is missing, empty, damaged or of an unknown format.
    """
    files = _expand(path)
    names = [str(file) for file in files]
    with tempfile.TemporaryDirectory(prefix="automm-unpacked-") as unpacked:
        opened = [_open(file, Path(unpacked) / str(at)) for at, file in enumerate(files)]
        schema = _common_schema(opened, names)
        counts = [source.count for source in opened]
        about = None if None in counts else sum(count for count in counts if count is not None)
        folder = (path if path.is_dir() else path.parent).resolve()
        yield Stream(str(path), folder, tuple(schema.names), about, lambda: _batches(opened, names, schema))


def _expand(path: Path) -> list[Path]:
    """A file as itself, a folder as its part files."""
    if not path.exists():
        raise DataError(_missing(path))
    if not path.is_dir() or is_dataset_folder(path):
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    files = [file for file in files if _suffix(file) in OPENERS]
    formats = {_suffix(file) for file in files}
    if not files:
        raise DataError(f"{path}: no table in the folder (looked for {', '.join(OPENERS)}, also .gz)")
    if len(formats) > 1:
        raise DataError(f"{path}: files of different formats ({', '.join(sorted(formats))}); name the ones to read")
    return files


def _missing(path: Path) -> str:
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    if parent != path.parent:
        return f"{path}: folder not found: {path.parent}"
    names = [entry.name for entry in parent.iterdir()]
    near = (
        difflib.get_close_matches(path.name, names, 3, 0.5)
        or sorted(n for n in names if _suffix(Path(n)) in OPENERS)[:5]
    )
    return f"{path}: file not found" + (f"; in that folder there are: {', '.join(near)}" if near else "")


def _suffix(file: Path) -> str:
    name = file.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time; of a folder, those of everything in it."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    stats = [file.stat() for file in files]
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def _open(path: Path, unpacked: Path) -> Source:
    if path.is_dir():
        return open_dataset_folder(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    if not head:
        raise DataError(f"{path}: the file is empty")
    if head.startswith(b"\x1f\x8b"):
        return _open(_unpack(path, unpacked), unpacked / "inner")
    # What a file holds counts more than what it is called.
    if head.startswith(b"PAR1"):
        return open_parquet(path)
    if head.startswith((b"ARROW1", b"FEA1")):
        return open_arrow(path)
    opener = OPENERS.get(_suffix(path))
    if opener is None:
        raise DataError(f"{path}: unknown file format {path.suffix!r}; known are {', '.join(OPENERS)}, also .gz")
    return opener(path)


def _unpack(path: Path, folder: Path) -> Path:
    target = folder / (path.name[:-3] if path.name.lower().endswith(".gz") else path.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with gzip.open(path) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 2**20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise DataError(f"{path}: damaged gzip file: {problem}") from None
    except OSError as problem:
        raise StorageError(f"cannot unpack {path} into {folder}: {problem}") from problem
    return target


def _convert(
    sources: Sequence[Source], names: Sequence[str], name: str, start: Path, cache: Path, key: str | None
) -> Table:
    schema = _common_schema(sources, names)
    digest = hashlib.blake2b(
        json.dumps([VERSION, schema.names, [source.digest for source in sources]]).encode(), digest_size=16
    ).hexdigest()
    path = cache / f"{key or digest}.arrow"
    if path.is_file():
        return Table(path, name, start)
    notes = list(dict.fromkeys(note for source in sources for note in source.notes))
    write_table(path, schema, _batches(sources, names, schema), digest, notes)
    table = Table(path, name, start)
    if table.rows == 0:
        os.unlink(path)
        raise DataError(f"{names[0]}: the table has a header but no rows")
    return table


def _common_schema(sources: Sequence[Source], names: Sequence[str]) -> pa.Schema:
    """The columns that all sources share, in the order of the first.

    Raises:
        DataError: If a source lacks a column or has one more. JSON lines may lack some: a key that is left out is null.
    """
    types: dict[str, list[pa.DataType]] = {}
    for source in sources:
        for column in source.schema:
            types.setdefault(column.name, []).append(plain_type(column.type))
    first = sources[0].schema.names
    for source, name in zip(sources, names, strict=True):
        have = source.schema.names
        if repeated := {column for column in have if have.count(column) > 1}:
            raise DataError(f"{name}: two columns are called {min(repeated)!r}")
        lacking, more = [c for c in first if c not in have], [c for c in have if c not in first]
        if (lacking or more) and not isinstance(source, JsonLines):
            said = [f"it has no column {', '.join(map(repr, lacking[:5]))}"] if lacking else []
            said += [f"it has a column {', '.join(map(repr, more[:5]))} besides"] if more else []
            raise DataError(f"{name}: its columns differ from those of {names[0]}: {' and '.join(said)}")
    return pa.schema([(column, unify(kinds)) for column, kinds in types.items()])


def _batches(sources: Sequence[Source], names: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for source, name in zip(sources, names, strict=True):
        have = set(source.schema.names)
        for batch in source.batches():
            arrays = []
            for column in schema:
                if column.name not in have:
                    arrays.append(pa.nulls(batch.num_rows, column.type))
                    continue
                try:
                    arrays.append(plain(batch.column(column.name), column.type))
                except pa.ArrowException as problem:
                    raise DataError(f"{name}, column {column.name!r}: {problem}") from None
            yield pa.record_batch(arrays, schema=schema)
