"""The gates of `require:`: what a package is held against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import automm
from automm.recipe.model import GateSpec
from automm.runtime.manifest import RESUME

LATENCY_CALLS = 30
LATENCY_SECONDS = 2.0
"""After this time no further call is measured; slow packages do with fewer."""


def served_bytes(package: Path) -> int:
    """Size of a package without what only an update reads."""
    resume = package / RESUME
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file() and not file.is_relative_to(resume))


def measure_latency(package: Path, rows: Sequence[dict[str, Any]], folder: Path) -> float:
    """Median milliseconds of a prediction of one row through the package, on this machine's CPU."""
    predictor = automm.load(package)
    predictor.predict(rows[:1], folder=folder)
    times = []
    for call in range(LATENCY_CALLS):
        start = time.perf_counter()
        predictor.predict([rows[call % len(rows)]], folder=folder)
        times.append(time.perf_counter() - start)
        if sum(times) > LATENCY_SECONDS:
            break
    return 1000 * statistics.median(times)


def check_gates(require: Sequence[GateSpec], values: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Every gate with the value it is held against: the test metric, or validation where there is no test part."""
    return [
        {
            "metric": gate.metric, "operator": gate.operator, "bound": gate.value, "value": values.get(gate.metric),
            "met": gate.met(values.get(gate.metric)),
        }
        for gate in require
    ]  # fmt: skip


def missed(gates: Sequence[Mapping[str, Any]]) -> str:
    """The gates that are missed, for people; empty if there are none."""
    told = []
    for gate in gates:
        if not gate["met"]:
            value = "not defined" if gate["value"] is None else f"{gate['value']:.4g}"
            told.append(f"require: {gate['metric']} {gate['operator']} {gate['bound']:g}, it is {value}")
    return "; ".join(told)
