"""Trials that another job of a shared study trained."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from automm.report.folder import storage_errors, write_json

ELSEWHERE = "elsewhere"
"""State of a trial that completed in a folder that cannot be read from here."""
FILES = ("weights.safetensors", "answers.safetensors")
"""What a winner is made of."""


def bring(report: dict[str, Any], there: Path, here: Path) -> dict[str, Any]:
    """Brings a trial's files into the own run folder, as hard links where the disk is the same.

    Args:
        report: The trial's report.
        there: Its folder in the other job's run folder.
        here: Its folder in the own one.

    Returns:
        The report; if the trial completed but its files cannot be read, its state is `elsewhere`.

    Raises:
        StorageError: If the own disk is full or not writable.
    """
    if report["state"] == "complete":
        with storage_errors(here):
            here.mkdir(parents=True, exist_ok=True)
        try:
            for name in FILES:
                _copy(there / name, here / name)
        except OSError:
            text = f"trained by another job in {there.parents[1]}, which cannot be read from here: share the disk"
            report = {**report, "state": ELSEWHERE, "error": f"{text}, or name a search.study of your own"}
    write_json(here / "report.json", report)
    return report


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    if not os.access(source, os.R_OK):
        raise FileNotFoundError(source)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        with storage_errors(target):
            shutil.copyfile(source, partial)
            partial.replace(target)
