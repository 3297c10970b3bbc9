"""A package's golden rows as example requests. They are training rows: shown only where the operator says so."""

from __future__ import annotations

import base64
from datetime import date
from typing import Any

from automm.core.cells import is_null
from automm.runtime.media import inside
from automm.runtime.package import Package
from automm.runtime.rows import decode_rows
from automm.serve.schema import Schema

MOST = 5
LARGEST = 2**20
"""Bytes of a media file in an example."""


def examples(package: Package, schema: Schema) -> list[dict[str, Any]]:
    """Up to five rows, as `/predict` takes them; rows with large files are left out."""
    golden = package.manifest.golden
    if golden is None:
        return []
    folder = package.path / "golden"
    rows = decode_rows(package.files.read(golden.inputs), folder, golden.inputs)
    found = []
    for row in rows:
        try:
            cells = {
                name: _cell(row.get(name), column.media, column.inline, folder)
                for name, column in schema.columns.items()
            }
        except ValueError:
            continue
        found.append(cells)
    return found[:MOST]


def _cell(cell: Any, media: bool, inline: bool, folder: Any) -> Any:
    if is_null(cell):
        return None
    if isinstance(cell, date):
        return cell.isoformat()
    if media and isinstance(cell, str) and not (inline and cell.lstrip().startswith("[")):
        path = inside(folder, cell)
        if path is None or not path.is_file() or path.stat().st_size > LARGEST:
            raise ValueError
        cell = path.read_bytes()
    if isinstance(cell, bytes):
        if len(cell) > LARGEST:
            raise ValueError
        return {"base64": base64.b64encode(cell).decode("ascii")}
    return cell
