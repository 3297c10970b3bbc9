"""What a processor is given: cells in its form, and paths to files resolved inside the data folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automm.core.processor import BadCell, BadCells, Processor
from automm.runtime.limits import CHARACTERS, limits_of, too_large

_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]+)://")
LONGEST_PATH = 4096
BOUNDED = {"characters": CHARACTERS}


def inside(folder: Path, cell: str | Path) -> Path | None:
    """The path that a cell names, links resolved; None if it lies outside the folder.

    Args:
        folder: The data folder.
        cell: A path relative to it, or an absolute one; a backslash also separates its parts.
    """
    text = os.fspath(cell)
    if "\\" in text and os.sep == "/" and not os.path.lexists(os.path.join(folder, text)):
        text = text.replace("\\", "/")
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, text))
    return Path(path) if path.startswith(os.path.join(root, "")) else None


def resolve(processor: Processor, cell: Any, folder: Path | None) -> Any:
    """A media cell as `pathlib.Path` or `bytes`; what is not a string (a list of numbers, say) passes as it is.

    Args:
        processor: Says which strings are the data themselves.
        cell: The cell.
        folder: Where relative paths start; None: paths are refused.

    Raises:
        BadCell: For URLs, and for paths that lie outside the folder.
    """
    if isinstance(cell, memoryview | bytearray):
        return bytes(cell)
    if not isinstance(cell, str | Path) or (isinstance(cell, str) and processor.inline(cell)):
        return cell
    text = str(cell).strip()
    if url := _URL.match(text):
        raise BadCell(f"{url[1].lower()} addresses are not read; download the file and name its path")
    if len(text) > LONGEST_PATH or "\0" in text:
        raise BadCell("not a path")
    if folder is None:
        raise BadCell("paths to files are not accepted here; send the file's bytes")
    path = inside(folder, text)
    if path is None:
        raise BadCell(f"outside the data folder: {text[:200]}")
    return path


def resolve_cells(
    processor: Processor, cells: Sequence[Any], folder: Path | None, limits: Mapping[str, float] | None = None
) -> list[Any]:
    """The cells as the processor reads them: `resolve` for every cell that is present, if it reads media.

    Args:
        processor: The processor.
        cells: Cells of one column.
        folder: Where relative paths start; None: paths are refused.
        limits: What is refused, name → bound; by default what `limits_of` says.

    Raises:
        BadCells: For all cells that cannot be used or are over the limits.
    """
    found: list[Any] = list(cells)
    reasons: dict[int, str] = {}
    if processor.media:
        for at, cell in enumerate(found):
            try:
                found[at] = None if cell is None else resolve(processor, cell, folder)
            except BadCell as problem:
                found[at] = None
                reasons[at] = str(problem)
    reasons |= too_large(found, processor.media, limits_of(processor) if limits is None else limits)
    if reasons:
        raise BadCells(dict(sorted(reasons.items())))
    return found


def takes_columns(processor: Processor) -> bool:
    """Whether the processor is given column → cells (it has no `load` for one cell), and not a list of cells."""
    return type(processor).load is Processor.load


def input_cells(
    processor: Processor,
    columns: Sequence[str],
    cells: Mapping[str, Sequence[Any]],
    folder: Path | None,
    limits: Mapping[str, float] | None = None,
) -> Any:
    """The cells of an input in the form that its processor takes, with media cells resolved.

    Args:
        processor: The processor.
        columns: The input's columns, in order.
        cells: Column → cells.
        folder: Where relative media paths start; None: paths are refused.
        limits: What is refused, name → bound; by default what `limits_of` says.

    Returns:
        Column → cells for a processor of many columns; a list of cells for one column; else a list with, per row, the
        list of its values (never paths), or None if all of them are missing.

    Raises:
        BadCells: For all rows with a cell that cannot be resolved or is over the limits.
    """
    if len(columns) > 1 and not takes_columns(processor):
        large = too_large([cell for column in columns for cell in cells[column]], False, BOUNDED)
        count = len(cells[columns[0]])
        if large:
            raise BadCells({at % count: reason for at, reason in large.items()})
        rows = zip(*(cells[column] for column in columns), strict=True)
        return [None if all(value is None for value in row) else list(row) for row in rows]
    resolved: dict[str, list[Any]] = {}
    reasons: dict[int, str] = {}
    for column in columns:
        try:
            resolved[column] = resolve_cells(processor, cells[column], folder, limits)
        except BadCells as problem:
            named = "" if len(columns) == 1 else f"column {column!r}: "
            reasons |= {at: named + reason for at, reason in problem.reasons.items()}
    if reasons:
        raise BadCells(dict(sorted(reasons.items())))
    return resolved if takes_columns(processor) else resolved[columns[0]]
