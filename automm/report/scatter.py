"""Metric against latency as an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 130, 16, 48
TICKS = 4


class _Axis:
    """Values → pixels.

    Args:
        values: What is shown.
        start: Pixel of the least value.
        stop: Pixel of the largest.
        log: Whether equal ratios get equal lengths.
    """

    def __init__(self, values: Sequence[float], start: float, stop: float, log: bool = False) -> None:
        self._log, self._start, self._stop = log, start, stop
        low, high = self._place(min(values)), self._place(max(values))
        margin = 0.06 * (high - low) or 0.05 * abs(low) or 0.5
        self._low, self._high = low - margin, high + margin

    def _place(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def __call__(self, value: float) -> float:
        share = (self._place(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)

    def ticks(self) -> list[float]:
        """Round numbers, evenly spread."""
        if self._log:
            powers = range(math.floor(self._low), math.ceil(self._high) + 1)
            found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [value for value in found if self._low <= math.log10(value) <= self._high]
        rough = (self._high - self._low) / TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
        first, last = math.ceil(self._low / step), math.floor(self._high / step)
        return [round(at * step, 12) for at in range(first, last + 1)]


def scatter(points: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Every model as a point; those of the front are joined and named.

    Args:
        points: Models with "name", "value", "latency_ms", "size_mb", "what"; one at least.
        front: Those that no other one beats, from fast to good.
        metric: Name of the metric.
    """
    times = [max(point["latency_ms"], 1e-3) for point in points]
    across = _Axis(times, LEFT, WIDTH - RIGHT, log=max(times) > 8 * min(times))
    up = _Axis([point["value"] for point in points], HEIGHT - BOTTOM, TOP)
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)} against milliseconds of a row">'
    ]
    for value in across.ticks():
        x = across(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>')
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">CPU milliseconds of a row</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 4}" text-anchor="start" class="axis">{escape(metric)}</text>')
    line = " ".join(f"{across(max(one['latency_ms'], 1e-3)):.1f},{up(one['value']):.1f}" for one in front)
    parts.append(f'<polyline points="{line}"/>')
    named = {one["name"] for one in front}
    beside = 15 if front and front[-1]["value"] > front[0]["value"] else -6  # where the line is not
    for point in points:
        x, y = across(max(point["latency_ms"], 1e-3)), up(point["value"])
        told = f"{point['name']}: {point['value']:.4f}, {point['latency_ms']:.2f} ms, {point['size_mb']:.1f} MB"
        kind = "front" if point["name"] in named else "behind"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(told)} ({escape(point["what"])})'
            "</title></circle>"
        )
        if kind == "front":
            parts.append(f'<text x="{x + 7:.1f}" y="{y + beside:.1f}" class="name">{escape(point["name"])}</text>')
    return "".join(parts) + "</svg>"
