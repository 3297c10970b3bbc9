"""What a graph is worth: its metric with an interval beside that of another graph, its latency, its size."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from automm.core.kinds import Metric
from automm.runtime.session import Session
from automm.train.bench import View

RESAMPLES = 200
"""Bootstrap samples of the validation rows."""
LEVEL = 0.95
CHUNK = 64
"""Rows in a batch."""
CALLS = 60
"""Calls that are timed, of each graph and number of threads."""
SECONDS = 6.0
"""After this time no further call is made; slow graphs do with fewer."""


class Latency(NamedTuple):
    """Milliseconds of one row through the graph: median and 95th percentile."""

    p50: float
    p95: float


def arrays_of(view: View, positions: np.ndarray) -> dict[str, np.ndarray]:
    """Rows as a graph takes them: "slug.array" → [rows, …]."""
    found = {}
    for slug, store in view.stores.items():
        found.update({f"{slug}.{name}": array for name, array in store.batch(positions).items()})
        found[f"{slug}.present"] = store.present[positions]
    return found


def answers_of(session: Session, view: View) -> dict[str, np.ndarray]:
    """A graph's answers on all usable rows of a view."""
    pieces = [session(arrays_of(view, view.positions[at : at + CHUNK])) for at in range(0, len(view.positions), CHUNK)]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


class Loss(NamedTuple):
    """How much of a metric is lost, as a share of it (negative: gained), with the bootstrap interval.

    Attributes:
        value: The loss.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Paired:
    """The full model's metric on bootstrap samples of the rows, for comparison with others on the same samples.

    Args:
        metric: The metric.
        full: The full model's answers, [rows, …] each.
        target: Coded target.
        seed: Of the samples.
    """

    def __init__(self, metric: Metric, full: Mapping[str, np.ndarray], target: np.ndarray, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._metric, self._target = metric, torch.from_numpy(target)
        self._samples = [torch.from_numpy(random.integers(len(target), size=len(target))) for _ in range(RESAMPLES)]
        self._full = self._values(full)

    def _values(self, answers: Mapping[str, np.ndarray]) -> np.ndarray:
        """The metric on all rows, then on every sample."""
        tensors = {name: torch.from_numpy(array) for name, array in answers.items()}
        samples = [torch.arange(len(self._target)), *self._samples]
        return np.array(
            [
                float(self._metric.compute({name: tensor[at] for name, tensor in tensors.items()}, self._target[at]))
                for at in samples
            ]
        )

    def loss(self, other: Mapping[str, np.ndarray]) -> Loss:
        """How much of the metric other answers to the same rows lose (paired bootstrap, Efron 1979)."""
        sign = 1.0 if self._metric.maximize else -1.0
        lost = sign * (self._full - self._values(other)) / (abs(self._full[0]) or 1.0)
        known = lost[1:][np.isfinite(lost[1:])]  # a sample may lack a class that the metric needs
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (math.nan, math.nan)
        return Loss(float(lost[0]), float(low), float(high))


@dataclass(frozen=True)
class Speed:
    """Latency of one row at a time on one thread and on all.

    Attributes:
        one: One thread.
        all: A thread per core.
    """

    one: Latency
    all: Latency

    def json(self) -> dict[str, dict[str, float]]:
        """Plain JSON, milliseconds."""
        return {
            name: {"p50": round(latency.p50, 4), "p95": round(latency.p95, 4)}
            for name, latency in (("one_thread", self.one), ("all_threads", self.all))
        }


def speeds(graphs: Sequence[tuple[bytes, View]]) -> list[Speed]:
    """Times graphs in turn, row by row, so that whatever else the machine does slows all of them alike.

    Args:
        graphs: Graph, and the rows in the arrays that it takes; the same rows for all.
    """
    found: list[list[Latency]] = [[] for _ in graphs]
    for threads in (1, len(os.sched_getaffinity(0))):
        sessions = [Session(graph, "graph", threads) for graph, _ in graphs]
        rows = [[arrays_of(view, at[None]) for at in view.positions[:CALLS]] for _, view in graphs]
        times: list[list[float]] = [[] for _ in graphs]
        for session, own in zip(sessions, rows, strict=True):
            session(own[0])
        began = time.monotonic()
        for call in range(CALLS):
            for session, own, taken in zip(sessions, rows, times, strict=True):
                row = own[call % len(own)]
                start = time.perf_counter()
                session(row)
                taken.append(1000 * (time.perf_counter() - start))
            if time.monotonic() - began > SECONDS:
                break
        for latencies, taken in zip(found, times, strict=True):
            latencies.append(Latency(*(float(q) for q in np.quantile(taken, [0.5, 0.95]))))
    return [Speed(*latencies) for latencies in found]


def frontier(points: Sequence[tuple[float, float, float]]) -> list[bool]:
    """Which points no other one beats: smaller is better in every coordinate."""
    return [
        not any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        for point in points
    ]
