"""Text cells → strings of a bounded length that any tokeniser can take."""

from __future__ import annotations

from typing import Any

from automm.api import BadCell, as_text


def readable(cell: Any, most: int, *, end: bool = False) -> str:
    """The first characters of a cell.

    Args:
        cell: A string, a number or a truth value.
        most: Characters to keep. Cutting comes before everything else: no later step sees a huge text.
        end: Keep as many of the last characters too.

    Raises:
        BadCell: If the cell is a list, an object or bytes.
    """
    if not isinstance(cell, str | int | float):
        raise BadCell(f"text expected, got {type(cell).__name__}")
    text = cell if isinstance(cell, str) else as_text(cell)
    if end and len(text) > 2 * most:
        text = f"{text[:most]} {text[-most:]}"
    elif not end:
        text = text[:most]
    if not text.isascii():
        # Half of a surrogate pair (possible in JSON) is not a character.
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text
