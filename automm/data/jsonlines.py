"""JSON lines: one object per line. Read twice, because a column may first appear in the last line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from automm.data.delimited import CHARS_PER_BATCH, ROWS_PER_BATCH, TextFile, scan_text
from automm.errors import DataError

_INT64 = 2**63
_TYPES = {
    frozenset({"boolean"}): pa.bool_(),
    frozenset({"integer"}): pa.int64(),
    frozenset({"float"}): pa.float64(),
    frozenset({"integer", "float"}): pa.float64(),
    frozenset({"numbers"}): pa.list_(pa.float64()),
    frozenset({"matrix"}): pa.list_(pa.list_(pa.float64())),
    frozenset({"strings"}): pa.list_(pa.string()),
}


@dataclass(frozen=True)
class JsonLines:
    """A JSON lines file, ready to be read.

    Attributes:
        schema: Its columns: booleans, numbers, lists of numbers or strings; everything else is text.
        notes: What was guessed.
        digest: Hash of its bytes.
    """

    text: TextFile
    schema: pa.Schema
    notes: tuple[str, ...]
    digest: str

    @property
    def count(self) -> int | None:
        """The lines."""
        return self.text.lines

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows."""
        rows: list[dict[str, Any]] = []
        chars = 0
        for size, row in _objects(self.text):
            rows.append(row)
            chars += size
            if len(rows) == ROWS_PER_BATCH or chars > CHARS_PER_BATCH:
                yield self._batch(rows)
                rows, chars = [], 0
        if rows:
            yield self._batch(rows)

    def _batch(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        arrays = []
        for column in self.schema:
            cells = [row.get(column.name) for row in rows]
            if pa.types.is_string(column.type):
                cells = [cell if cell is None or isinstance(cell, str) else _dump(cell) for cell in cells]
            elif pa.types.is_floating(column.type):
                cells = [None if cell is None else float(cell) for cell in cells]
            arrays.append(pa.array(cells, column.type))
        return pa.record_batch(arrays, schema=self.schema)


def open_jsonlines(path: Path) -> JsonLines:
    """Finds the columns of a JSON lines file and their types.

    Raises:
        DataError: If the file is empty, or a line is not a JSON object; with the line number.
    """
    text = scan_text(path)
    kinds: dict[str, set[str]] = {}
    for _, row in _objects(text):
        for name, cell in row.items():
            found = kinds.setdefault(name, set())
            if cell is not None:
                found.add(_kind(cell))
    if not kinds:
        raise DataError(f"{path}: no JSON object in the file")
    schema = pa.schema([(name, _TYPES.get(frozenset(found - {"empty"}), pa.string())) for name, found in kinds.items()])
    return JsonLines(text, schema, text.notes, text.digest)


def _kind(cell: Any) -> str:
    if isinstance(cell, str):
        return "string"
    if isinstance(cell, bool):
        return "boolean"
    if isinstance(cell, int):
        return "integer" if -_INT64 <= cell < _INT64 else "string"
    if isinstance(cell, float):
        return "float"
    if isinstance(cell, list):
        if not cell:
            return "empty"
        inner = {_kind(item) for item in cell if item is not None}
        if inner <= {"integer", "float"}:
            return "numbers"
        if inner <= {"numbers"}:
            return "matrix"
        return "strings" if inner == {"string"} and all(isinstance(item, str | None) for item in cell) else "other"
    return "other"


def _objects(text: TextFile) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with text.open() as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line, parse_constant=_not_a_number)
                except (ValueError, RecursionError) as problem:
                    raise DataError(f"{text.path}: line {number}: not JSON: {problem}{_hint(line)}") from None
                if not isinstance(row, dict):
                    raise DataError(f"{text.path}: line {number}: not a JSON object{_hint(line)}")
                yield len(line), row
    except UnicodeDecodeError as problem:
        raise DataError(f"{text.path}: line {number + 1}: not {text.encoding}: {problem.reason}") from None


def _hint(line: str) -> str:
    return "; JSON lines are expected: one object per line" if line.lstrip()[0] in "[{" else ""


def _not_a_number(word: str) -> None:
    """NaN and Infinity are not JSON; many writers use them for a missing number."""
    del word


def _dump(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False)
