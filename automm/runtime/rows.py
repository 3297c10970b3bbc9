"""Raw rows on disk: table cells as JSON, with bytes and media in files beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from automm.errors import PackageError
from automm.runtime import strictjson

LARGEST = 256 * 2**20


def encode_rows(rows: Sequence[Mapping[str, Any]], keep: Callable[[bytes], str]) -> bytes:
    """Rows → JSON. A date becomes `{"$date": …}`, bytes become `{"$bytes": file name}`; media paths stay strings.

    Args:
        rows: Column → cell for each row.
        keep: Stores bytes and gives the name of the file that holds them.

    Raises:
        ValueError: If a cell is of a type that tables do not hold.
    """

    def plain(cell: Any) -> Any:
        if isinstance(cell, np.ndarray | np.generic):
            cell = cell.tolist()
        if isinstance(cell, bytes | bytearray):
            return {"$bytes": keep(bytes(cell))}
        if isinstance(cell, datetime | date):
            return {"$date": cell.isoformat()}
        if isinstance(cell, float) and not math.isfinite(cell):
            return None if math.isnan(cell) else str(cell)
        if cell is None or isinstance(cell, str | bool | int | float):
            return cell
        if isinstance(cell, Mapping):
            return {"$map": {str(key): plain(item) for key, item in cell.items()}}
        if isinstance(cell, Sequence):
            return [plain(item) for item in cell]
        if hasattr(cell, "__float__"):
            return float(cell)
        raise ValueError(f"a cell of type {type(cell).__name__} cannot be stored")

    return strictjson.dumps({"rows": [{column: plain(cell) for column, cell in row.items()} for row in rows]})


def decode_rows(data: bytes, folder: Path, what: str) -> list[dict[str, Any]]:
    """The reverse of `encode_rows`.

    Args:
        data: The JSON.
        folder: Where `keep` stored its files.
        what: Name of the JSON, for messages.

    Raises:
        PackageError: If it is damaged.
    """

    def cell(value: Any) -> Any:
        if isinstance(value, list):
            return [cell(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((mark, inner),) = value.items()
        if mark == "$map":
            return {key: cell(item) for key, item in inner.items()}
        if mark == "$date":
            return datetime.fromisoformat(inner)
        if mark != "$bytes" or ".." in Path(inner).parts or Path(inner).is_absolute():
            raise ValueError(f"unknown cell {mark!r}")
        return (folder / inner).read_bytes()

    value = strictjson.loads(data, what, most=LARGEST)
    try:
        return [{column: cell(item) for column, item in row.items()} for row in value["rows"]]
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as problem:
        raise PackageError(f"{what}: not a list of rows: {problem}") from None
