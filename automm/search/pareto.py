"""Trials that no other one beats in both the metric and the time that a row takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from automm.trial import described


def points(reports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What complete trials reach and cost, as they were measured: name, value, latency_ms, size_mb, what."""
    return [
        {
            "name": report["name"], "value": report["value"], "latency_ms": report["latency_ms"],
            "size_mb": report["size_mb"], "what": described(report["resolved"]),
        }
        for report in reports
        if report["state"] == "complete" and report.get("latency_ms") is not None
    ]  # fmt: skip


def pareto(found: Sequence[Mapping[str, Any]], maximize: bool) -> list[dict[str, Any]]:
    """The points that no other one beats, from fast to good: each is better than all before it.

    Args:
        found: Points; of equal ones the first is taken.
        maximize: Whether a larger value is better.
    """
    sign = -1.0 if maximize else 1.0
    front: list[dict[str, Any]] = []
    for point in sorted(found, key=lambda point: (point["latency_ms"], sign * point["value"])):
        if not front or sign * point["value"] < sign * front[-1]["value"]:
            front.append(dict(point))
    return front
