"""The journal file of a study: read past what a kill or a bad disk left in it."""

from __future__ import annotations

import json
from pathlib import Path


def mend_journal(path: Path) -> str | None:
    """Cuts a journal before its first line that cannot be read; what was cut is kept beside it, as `.damaged`.

    Operations name trials by their number in the file, so those after a lost one cannot be used. Trials that ended are
    taken over from their folders when the search asks for them again.

    Args:
        path: The journal; it may be absent.

    Returns:
        What was wrong, or None. A last line without its end is what a kill leaves: it is cut without a word.
    """
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)  # of a killed run: the run folder's own lock is ours
    if not path.exists():
        return None
    data = path.read_bytes()
    *lines, _ = data.split(b"\n")  # what follows the last line's end is empty, or the beginning of a line
    number = next((number for number, line in enumerate(lines) if not _readable(line)), len(lines))
    good, torn = sum(len(line) + 1 for line in lines[:number]), number == len(lines)
    if good < len(data):
        if not torn:
            path.with_name(f"{path.name}.damaged").write_bytes(data[good:])
        with path.open("r+b") as file:
            file.truncate(good)
    if torn:
        return None
    return (
        f"{path}: line {number + 1} cannot be read; the search goes on from the lines before it, and takes over the "
        f"trials that ended since (the rest of the file is kept as {path.name}.damaged)"
    )


def _readable(line: bytes) -> bool:
    """Whether a line is one operation of Optuna's journal."""
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and isinstance(entry.get("op_code"), int)
