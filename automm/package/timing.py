"""How long a package takes for one row, on its own examples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automm.errors import PackageError
from automm.runtime.predictor import Predictor, load
from automm.runtime.rows import decode_rows

CALLS = 50
SECONDS = 2.0
"""After this time per package no further call is measured."""


def golden_latency(packages: Sequence[Path]) -> list[float]:
    """Median milliseconds of `predict` on one row, of packages timed in turn, so that a busy machine slows all alike.

    Raises:
        PackageError: If a package has no examples, or refuses one.
    """
    ready = [_ready(package) for package in packages]
    times: list[list[float]] = [[] for _ in ready]
    started = time.perf_counter()
    for call in range(CALLS):
        for (predictor, rows, folder), found in zip(ready, times, strict=True):
            start = time.perf_counter()
            predictor.predict([rows[call % len(rows)]], folder=folder)
            found.append(time.perf_counter() - start)
        if time.perf_counter() - started > SECONDS * len(ready):
            break
    return [1000 * statistics.median(found[len(found) // 10 :]) for found in times]


def _ready(package: Path) -> tuple[Predictor, list[dict[str, Any]], Path]:
    predictor = load(package)
    opened = predictor.package
    golden = opened.manifest.golden
    if golden is None:
        raise PackageError(f"{package}: has no examples to time")
    folder = opened.path / "golden"
    return predictor, decode_rows(opened.files.read(golden.inputs), folder, golden.inputs), folder
