"""What is learned from the training rows, in one pass and bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

LINEAR = 3.0
GAP = 0.01  # narrower bins would amplify rounding (the encoding divides by the width)


class Sample:
    """A uniform random sample of a stream of numbers, the same for any way of cutting the stream into chunks.

    Every value gets a random key; the values with the smallest keys stay (reservoir sampling by keys, Efraimidis and
    Spirakis 2006, with equal weights).
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._random = np.random.default_rng(seed)
        self._values = np.empty(0)
        self._keys = np.empty(0)

    def add(self, values: np.ndarray) -> None:
        """Adds numbers, [count]."""
        self._values = np.concatenate([self._values, values])
        self._keys = np.concatenate([self._keys, self._random.random(len(values))])
        if len(self._values) > self._size:
            kept = np.sort(np.argpartition(self._keys, self._size)[: self._size])
            self._values, self._keys = self._values[kept], self._keys[kept]

    @property
    def values(self) -> np.ndarray:
        """The sampled numbers, ascending."""
        return np.sort(self._values)


class Frequencies:
    """Counts of values; where there are too many distinct ones, the rarer half is forgotten.

    Lossy counting (Manku and Motwani 2002) in its simplest form: frequent values survive with (nearly) exact counts.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def add(self, values: Mapping[str, int]) -> None:
        """Adds values with how often they came."""
        for value, count in values.items():
            self._counts[value] += count
        if len(self._counts) > self._most:
            self._counts = Counter(dict(self._ranked()[: self._most // 2]))

    def top(self, most: int, least: int) -> list[str]:
        """The at most `most` values seen at least `least` times, most frequent first; ties by spelling."""
        return [value for value, count in self._ranked()[:most] if count >= least]

    def count(self, value: str) -> int:
        """How often a value was seen."""
        return self._counts[value]

    @property
    def distinct(self) -> int:
        """Number of distinct values that are remembered."""
        return len(self._counts)

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


def centre_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range; where half the values are equal, the next wider range that is not zero.

    Args:
        values: Finite numbers, ascending.
    """
    if not len(values):
        return 0.0, 1.0
    centre = float(np.median(values))
    for low, high, width in ((0.25, 0.75, 1.0), (0.1, 0.9, 2.0), (0.01, 0.99, 2.0), (0.0, 1.0, 2.0)):
        # Halves first: the difference of two huge numbers would overflow.
        scale = 2 * (float(np.quantile(values, high)) / 2 - float(np.quantile(values, low)) / 2) / width
        if np.isfinite(scale) and scale > 1e-12 * max(1.0, abs(centre)):
            return centre, scale
    return centre, 1.0


def squash(values: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Robust scaling and smooth clipping to (-3, 3) (Holzmüller et al. 2024, "Better by default"); NaN stays NaN."""
    with np.errstate(over="ignore"):
        scaled = np.clip((values - centre) / scale, -1e6, 1e6)
    return scaled / np.sqrt(1 + (scaled / 3) ** 2)


def soften(values: np.ndarray, centre: float, scale: float) -> np.ndarray:
    """Robust scaling that is linear up to `LINEAR` scales from the centre and logarithmic beyond.

    It keeps the order of all numbers (trees see no difference) and spares linear models the tails. Subtracting before
    numbers become float32 keeps apart what is large and close together. NaN stays NaN.
    """
    with np.errstate(over="ignore"):
        scaled = np.clip((values - centre) / scale, -1e300, 1e300)
    beyond = np.abs(scaled) - LINEAR
    return np.where(beyond > 0, np.sign(scaled) * (LINEAR + np.log1p(np.maximum(beyond, 0))), scaled)


def bin_edges(values: np.ndarray, bins: int) -> list[float]:
    """Edges for piecewise-linear encoding: the distinct values if they are few, quantiles otherwise.

    Args:
        values: Squashed training values.
        bins: Most bins.

    Returns:
        At least three ascending edges, at least `GAP` apart.
    """
    edges = np.unique(values)
    if len(edges) > bins + 1:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    kept: list[float] = []
    for edge in edges.tolist():
        if not kept or edge - kept[-1] >= GAP:
            kept.append(edge)
    if len(kept) < 2:
        middle = kept[0] if kept else 0.0
        return [middle - 1, middle, middle + 1]
    if len(kept) == 2:
        kept.insert(1, (kept[0] + kept[1]) / 2)
    return kept
