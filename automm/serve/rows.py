"""`/predict`: rows of raw cells, as JSON or as a form with files, into the table that the model reads."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from automm.runtime.predictor import Predictions
from automm.serve.problems import Problem
from automm.serve.schema import Column, Schema
from automm.serve.settings import Limits

DEEPEST = 4
"""Nesting of a list in a cell: a series is [time, channels]."""

BRACKETS = 1_000_000
"""Lists and objects in a body: parsed, each takes 20 times the bytes it takes in JSON."""


@dataclass
class Rows:
    """A request's rows.

    Attributes:
        table: Column → cells of the rows that were not refused, complete.
        count: Number of these rows.
        total: Number of all rows.
        refused: Position of a refused row → why.
    """

    table: dict[str, list[Any]]
    count: int
    total: int
    refused: dict[int, str] = field(default_factory=dict)

    def spread(self, found: Predictions) -> Predictions:
        """Predictions of the rows that went to the model → predictions or refusals of all rows."""
        if not self.refused:
            return found
        kept = [at for at in range(self.total) if at not in self.refused]
        columns = {name: [None] * self.total for name in found.columns}
        for name, values in found.columns.items():
            for at, value in zip(kept, values, strict=True):
                columns[name][at] = value
        reasons = self.refused | {kept[at]: reason for at, reason in found.refused.items()}
        return Predictions(columns, dict(sorted(reasons.items())), self.total)


def parse_json(body: bytes, what: str = "the body") -> Any:
    """Strict JSON of bounded size in memory.

    Raises:
        Problem: 400, if it is not JSON (NaN is not), or holds too many lists; 413 for the latter.
    """
    if body.count(b"[") + body.count(b"{") > BRACKETS:
        raise Problem(413, f"{what} holds more than {BRACKETS:,} lists and objects")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        # The position only: the decoder's message may quote the data.
        raise Problem(400, f"{what} is not strict JSON (line {problem.lineno}, column {problem.colno})") from None


def read_json(body: bytes, schema: Schema, limits: Limits, allow_missing: bool) -> Rows:
    """Rows from JSON: one object, a list of objects, or `{"rows": [...]}`.

    Raises:
        Problem: If the body is not that, holds too many rows, or none of them has a column that the model reads.
    """
    value = parse_json(body)
    if isinstance(value, dict):
        inner = value.get("rows")
        value = inner if isinstance(inner, list) and "rows" not in schema.columns else [value]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Problem(400, 'send one row as an object, or several as a list of objects or {"rows": [...]}')
    return read_rows(value, schema, limits, allow_missing)


def read_rows(rows: Sequence[Mapping[str, Any]], schema: Schema, limits: Limits, allow_missing: bool) -> Rows:
    """Rows of parsed JSON → the table. A cell that cannot be used refuses its row by name.

    Raises:
        Problem: 413 for too many rows, 422 for none, or for columns that no row has.
    """
    if not rows:
        raise Problem(422, "there are no rows")
    if len(rows) > limits.rows:
        raise Problem(413, f"{len(rows):,} rows are over the limit of {limits.rows:,}; send them in several requests")
    if not allow_missing:
        require([name for name in schema.columns if any(name in row for row in rows)], schema)
    refused: dict[int, str] = {}
    table: dict[str, list[Any]] = {name: [] for name in schema.columns}
    for at, row in enumerate(rows):
        cells = []
        reasons = []
        for name, column in schema.columns.items():
            try:
                cells.append(read_cell(row.get(name), column, limits))
            except ValueError as problem:
                reasons.append(f"column {name!r}: {problem}")
        if reasons:
            refused[at] = "; ".join(reasons)
            continue
        for name, cell in zip(table, cells, strict=True):
            table[name].append(cell)
    return Rows(table, len(rows) - len(refused), len(rows), refused)


def require(there: Sequence[str], schema: Schema) -> None:
    """Checks that every column is there.

    Raises:
        Problem: 422, naming those that are not.
    """
    absent = [name for name in schema.columns if name not in there]
    if absent:
        names = ", ".join(repr(name) for name in absent[:20]) + (", …" if len(absent) > 20 else "")
        raise Problem(
            422,
            f"the model reads {len(absent)} column{'s' * (len(absent) > 1)} that the request does not have: {names}; "
            "add them (null for an unknown value), or predict without them by ?allow_missing=true",
        )


def read_cell(cell: Any, column: Column, limits: Limits) -> Any:
    """A cell of parsed JSON as the runtime takes it.

    Raises:
        ValueError: Saying why it cannot be used.
    """
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    if isinstance(cell, str):
        if not column.media and len(cell) > limits.characters:
            raise ValueError(f"text of {len(cell):,} characters is over the limit of {limits.characters:,}")
        return cell
    if isinstance(cell, list):
        if _deeper(cell, DEEPEST):
            raise ValueError(f"a list nested deeper than {DEEPEST} levels")
        return cell
    if isinstance(cell, bytes):
        return cell if column.media else as_text(cell, limits)
    if not isinstance(cell, dict) or set(cell) != {"base64"} or not isinstance(cell["base64"], str):
        raise ValueError('an object in a cell is a file: {"base64": "…"}')
    if not column.media:
        raise ValueError("is no file; send its text or number itself")
    return from_base64(cell["base64"])


def from_base64(text: str) -> bytes:
    """The bytes of base64.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the base64 is damaged") from None


def as_text(data: bytes, limits: Limits) -> str:
    """The text of UTF-8.

    Raises:
        ValueError: If it is none, or too long.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if len(text) > limits.characters:
        raise ValueError(f"text of {len(text):,} characters is over the limit of {limits.characters:,}")
    return text


def _deeper(value: list[Any], depth: int) -> bool:
    level: list[Any] = [value]
    for _ in range(depth):
        level = [item for outer in level for item in outer if isinstance(item, list | dict)]
        if any(isinstance(item, dict) for item in level):
            return True
        if not level:
            return False
    return True


class _InMemory(MultiPartParser):
    """Files stay in memory: bodies are small, and the server may have no disk to write to."""

    spool_max_size = 2**40


async def read_form(body: bytes, headers: Headers, schema: Schema, limits: Limits, allow_missing: bool) -> Rows:
    """One row from a form: file parts are files, other parts text; a part's name is the column.

    Raises:
        Problem: If the form is damaged, names a column twice, or lacks columns.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    most = len(schema.columns) + 100
    parser = _InMemory(headers, stream(), max_files=most, max_fields=most, max_part_size=limits.body)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise Problem(400, f"the form cannot be read: {problem.message}") from None
    try:
        row = await _form_row(form, schema)
    finally:
        await form.close()
    return read_rows([row], schema, limits, allow_missing)


async def _form_row(form: FormData, schema: Schema) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, part in form.multi_items():
        if name not in schema.columns:
            continue
        if name in row:
            raise Problem(400, f"the form has the part {name!r} twice; it describes one row")
        # A browser sends an empty part for a file that was not chosen.
        row[name] = (await part.read() or None) if isinstance(part, UploadFile) else part
    return row
