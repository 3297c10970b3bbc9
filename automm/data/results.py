"""Result files, written piece by piece: CSV, JSON lines or Parquet by their ending."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from automm.errors import StorageError, UsageError


class ResultFile(Protocol):
    """An open result file."""

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Appends rows: column → values."""

    def close(self) -> None:
        """Writes what is left."""


class _Csv:
    def __init__(self, path: Path, types: Mapping[str, str]) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._names = list(types)
        self._rows.writerow(self._names)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        lists = [[_text(value) for value in columns[name]] for name in self._names]
        self._rows.writerows(zip(*lists, strict=True))

    def close(self) -> None:
        self._file.close()


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


class _JsonLines:
    def __init__(self, path: Path, types: Mapping[str, str]) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._names = list(types)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        for row in zip(*(columns[name] for name in self._names), strict=True):
            line = dict(zip(self._names, row, strict=True))
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """Lists become JSON text, because their element type is not known before the first row."""

    TYPES = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}  # noqa: RUF012
    GROUP = 2**14
    """Rows per row group: a file of many small ones is large, and slow to read."""

    def __init__(self, path: Path, types: Mapping[str, str]) -> None:
        self._types = types
        self._schema = pa.schema([(name, self.TYPES.get(kind, pa.string())) for name, kind in types.items()])
        self._file = pq.ParquetWriter(path, self._schema)
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        arrays = [
            pa.array([_text(v) if kind == "list" else v for v in columns[name]], self._schema.field(name).type)
            for name, kind in self._types.items()
        ]
        self._waiting.append(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows += self._waiting[-1].num_rows
        if self._rows >= self.GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting, self._rows = [], 0

    def close(self) -> None:
        self._flush()
        self._file.close()


FORMATS: dict[str, type[_Csv | _JsonLines | _Parquet]] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    ".ndjson": _JsonLines,
    ".parquet": _Parquet,
}


def check_ending(path: Path) -> None:
    """Refuses a result file of unknown ending before any work is done.

    Raises:
        UsageError: With the endings there are.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: unknown ending {path.suffix!r} for results; there are {', '.join(FORMATS)}")


@contextmanager
def open_results(path: Path, types: Mapping[str, str]) -> Iterator[ResultFile]:
    """A result file that appears under its name only when it is complete.

    Args:
        path: The file.
        types: Column → "string", "integer", "number", "boolean" or "list".

    Raises:
        UsageError: If its ending is unknown.
        StorageError: If it cannot be written.
    """
    check_ending(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        file = FORMATS[path.suffix.lower()](temporary, types)
        try:
            yield file
        finally:
            file.close()
        temporary.replace(path)
    except OSError as problem:
        raise StorageError(f"cannot write {path}: {problem.strerror}") from problem
    finally:
        temporary.unlink(missing_ok=True)
