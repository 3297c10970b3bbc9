"""What a column of each type gives to a vector for trees and linear models. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from automm_tabular import lists, reading, statistics


class Part(Protocol):
    """The entries of one column.

    Attributes:
        names: What each entry is.
    """

    names: list[str]

    def __call__(self, values: Any) -> np.ndarray:
        """Values as `reading` gives them, or cells of categories and lists, [rows] → [rows, entries]."""
        ...


class Number:
    """A number: its value, robustly scaled (see `statistics.soften`)."""

    names: ClassVar[list[str]] = ["value"]

    def __init__(self, centre: float, scale: float) -> None:
        self._centre, self._scale = centre, scale

    @classmethod
    def learn(cls, sample: statistics.Sample, config: Any) -> dict[str, Any] | None:
        """The state; None if all values are equal."""
        del config
        values = sample.values
        if not len(values) or values[0] == values[-1]:
            return None
        centre, scale = statistics.centre_and_scale(values)
        return {"centre": centre, "scale": scale}

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Numbers [rows] → [rows, 1]."""
        return statistics.soften(values, self._centre, self._scale)[:, None]


class Date:
    """A date: elapsed time, its parts as they are (for trees) and on circles (for linear models).

    Only what varies in training: dates without a time have no hour.
    """

    def __init__(self, centre: float, scale: float, parts: Sequence[str]) -> None:
        self._elapsed = Number(centre, scale)
        self.names = ["elapsed", *parts]

    @classmethod
    def learn(cls, sample: statistics.Sample, config: Any) -> dict[str, Any] | None:
        """The state; None if all dates are equal."""
        found = Number.learn(sample, config)
        if found is None:
            return None
        varying = [name for name, part in cls._all(sample.values).items() if np.ptp(part) > 1e-6]
        return {**found, "parts": varying}

    @staticmethod
    def _all(seconds: np.ndarray) -> dict[str, np.ndarray]:
        found = reading.calendar(seconds)
        for name, turn in (("month", 12), ("weekday", 7), ("hour", 24), ("yearday", 366)):
            angle = found[name] * (2 * np.pi / turn)
            found |= {f"sin {name}": np.sin(angle), f"cos {name}": np.cos(angle)}
        return found

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Seconds since 1970 [rows] → [rows, entries]."""
        known = np.isfinite(values)
        parts = self._all(np.where(known, values, 0))
        found = np.stack([self._elapsed(values)[:, 0], *(parts[name] for name in self.names[1:])], 1)
        found[~known] = np.nan
        return found


class Boolean:
    """A truth value: 0 or 1."""

    names: ClassVar[list[str]] = ["true"]

    @classmethod
    def learn(cls, sample: statistics.Sample, config: Any) -> dict[str, Any] | None:
        """The state; None unless both values occur."""
        del config
        return {} if {reading.FALSE_CODE, reading.TRUE_CODE} <= set(sample.values) else None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Codes [rows] → [rows, 1]."""
        return np.where(values == reading.MISSING, np.nan, values == reading.TRUE_CODE)[:, None]


class Category:
    """A category: 0/1 for each of the frequent ones; where there are more, its rank by frequency and its frequency too.

    One never seen is none of the frequent ones, has no rank and the frequency 0.
    """

    def __init__(self, categories: Sequence[str], counts: Sequence[int], levels: int) -> None:
        self._vocabulary = {category: code for code, category in enumerate(categories, reading.FIRST)}
        self._levels = min(levels, len(categories))
        self._many = len(categories) > levels
        self._ranks = np.array([np.nan, np.nan, *range(len(categories))])
        self._frequencies = np.log1p([np.nan, 0, *counts])
        self.names = [f"is {category}" for category in categories[:levels]]
        self.names += ["rank", "frequency"] if self._many else []

    @classmethod
    def learn(cls, frequencies: statistics.Frequencies, config: Any) -> dict[str, Any] | None:
        """The state; None if there is only one category."""
        known = frequencies.top(config.max_categories, config.min_count)
        if len(known) < 2 and frequencies.distinct < 2:
            return None
        return {"categories": known, "counts": [frequencies.count(value) for value in known], "levels": config.levels}

    def __call__(self, values: Sequence[Any]) -> np.ndarray:
        """Cells [rows] → [rows, entries]."""
        codes = np.array(reading.codes(values, self._vocabulary), np.int64)
        found = np.zeros((len(codes), len(self.names)))
        own = np.flatnonzero((codes >= reading.FIRST) & (codes < reading.FIRST + self._levels))
        found[own, codes[own] - reading.FIRST] = 1
        if self._many:
            found[:, -2], found[:, -1] = self._ranks[codes], self._frequencies[codes]
        found[codes == reading.MISSING] = np.nan
        return found


class Items:
    """A list: 0/1 for each of the frequent items, how many others it holds, and how many items."""

    def __init__(self, items: Sequence[str], separator: str) -> None:
        self._vocabulary = {item: at for at, item in enumerate(items)}
        self._separator = separator
        self.names = ["others", *(f"has {item}" for item in items), "items"]

    @classmethod
    def learn(cls, tally: lists.Tally, config: Any) -> dict[str, Any] | None:
        """The state; None if no item is known."""
        known = tally.top(config.items, config.min_count)
        return {"items": known, "separator": tally.separator} if known else None

    def __call__(self, values: Sequence[Any]) -> np.ndarray:
        """Cells [rows] → [rows, entries]."""
        found = reading.multi_hot(values, self._vocabulary, self._separator)
        return np.concatenate([found, found.sum(1, keepdims=True)], 1)


PARTS: dict[str, Any] = {"number": Number, "date": Date, "boolean": Boolean, "category": Category, "list": Items}
"""Column type → its part."""
