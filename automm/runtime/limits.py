"""What cells may be at most. Looked at before a processor sees them, in training and in serving alike."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automm.core.processor import Processor
from automm.errors import PackageError

CHARACTERS = 1_000_000
"""Most characters of a text cell, unless its processor says otherwise."""
BYTES = 100_000_000
"""Most bytes of a media cell, unless its processor says otherwise."""
HERE = frozenset({"characters", "bytes"})
"""What is refused here; every other limit is the processor's own work."""


def limits_of(processor: Processor) -> dict[str, float]:
    """The limits of an input: what its processor refuses, and the general bound on its cells."""
    general = {"bytes": BYTES} if processor.media else {"characters": CHARACTERS}
    return {**general, **{name: float(bound) for name, bound in processor.limits.items()}}


def check_limits(processor: Processor, stated: Mapping[str, float]) -> None:
    """Compares the limits in a manifest with those that are enforced.

    Raises:
        PackageError: If a stated limit is enforced by nobody, or with another bound.
    """
    own = processor.limits
    for name, bound in stated.items():
        if name in HERE:
            continue
        if name not in own:
            raise PackageError(f"the limit {name!r} of the manifest is not one that {processor.op!r} enforces")
        if own[name] != bound:
            raise PackageError(
                f"the manifest limits {name} to {bound:,g}, {processor.op!r} refuses above {own[name]:,g}"
            )


def too_large(cells: Sequence[Any], media: bool, limits: Mapping[str, float]) -> dict[int, str]:
    """Position → reason for the cells that are over the limits.

    Args:
        cells: Cells of one column; of a media column paths, bytes, or text that is the data itself.
        media: Whether the column's processor reads media.
        limits: Name → bound.
    """
    most = limits.get("bytes") if media else limits.get("characters")
    found: dict[int, str] = {}
    if most is None:
        return found
    for at, cell in enumerate(cells):
        if isinstance(cell, str) and len(cell) <= most:  # nearly all
            continue
        if isinstance(cell, str | bytes | list | Path) and (reason := (_media if media else _text)(cell, most)):
            found[at] = reason
    return found


def _text(cell: Any, most: float) -> str:
    size = len(cell)
    if isinstance(cell, list):
        size += sum(len(item) for item in cell if isinstance(item, str))
    return f"text of {size:,} characters is over the limit of {most:,.0f}" if size > most else ""


def _media(cell: Any, most: float) -> str:
    if isinstance(cell, list):
        return ""  # the processor counts its numbers
    if isinstance(cell, str):  # base64 takes a third more than the bytes, a list of numbers as text about twice
        return f"{len(cell):,} characters are over the limit of {most:,.0f} bytes" if len(cell) > 2 * most else ""
    try:
        found = None if isinstance(cell, bytes) else os.stat(cell)
    except OSError:
        return ""  # the processor says what is wrong with the file
    if found is not None and not stat.S_ISREG(found.st_mode):
        return f"not a file: {cell.name}"  # reading a pipe or a device would wait for ever
    size = len(cell) if found is None else found.st_size
    return f"file of {size:,} bytes is over the limit of {most:,.0f}" if size > most else ""
