"""Vector: columns of a table → one vector that boosted trees and linear models read well. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, is_null
from automm_tabular import describing, lists, reading, statistics
from automm_tabular.columns import SAMPLE, TypedColumns

NULLS = 0.01
"""From this share of missing cells in training on, a column says which cells are missing."""


class Vector(TypedColumns):
    """Many columns → `vector` [n] float32; see `automm_tabular.describing` for what each type gives.

    NaN is an unknown value; a row in which all cells are missing is all NaN. A column that never varies in training
    gives nothing: what it holds later cannot be judged. A category or item never seen is none of the known ones. A
    number, date or truth value that cannot be read is a bad cell, as in `Table`.
    """

    op = "tabular.vector"

    class Config(TypedColumns.Config):
        """The columns and how they are read."""

        levels: Annotated[int, Field(ge=1)] = 32
        """Most categories of a column that get an entry of their own; a column with more is also coded by frequency."""
        max_categories: Annotated[int, Field(ge=1)] = 10_000
        """Most categories of a column that are coded by frequency."""
        items: Annotated[int, Field(ge=1)] = 64
        """Most items of a list column that get an entry of their own."""
        pairs: Annotated[int, Field(ge=0)] = 8
        """Up to so many number columns give the product and the difference of every pair as well, which a tree would
        have to build from many splits (power = torque × speed)."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._load()

    def _load(self) -> None:
        """Made from the state once, not per batch."""
        learned, pairs = self.state.get("columns", {}), self.state.get("pairs", {})
        self._parts = {
            column: describing.PARTS[self.config.types[column]](**learned[column])
            for column in self.config.columns
            if column in learned
        }
        self._pairs = {name: describing.Number(**pairs[name]) for name in self._paired() if name in pairs}
        self._missing = list(self.state.get("missing", ()))

    @property
    def names(self) -> list[str]:
        """What each entry of the vector is, "column: part" (known after `fit`)."""
        found = [f"{column}: {name}" for column, part in self._parts.items() for name in part.names]
        return [*found, *self._pairs, *(f"{column}: missing" for column in self._missing)]

    def _paired(self) -> dict[str, tuple[str, str, np.ufunc]]:
        """Name of a pair → its columns, and how they are joined."""
        numbers = self.of("number")
        return {
            f"{a} {sign} {b}": (a, b, join)
            for a, b in itertools.combinations(numbers if len(numbers) <= self.config.pairs else (), 2)
            for sign, join in (("×", np.multiply), ("−", np.subtract))
        }

    def _join(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with np.errstate(over="ignore"):
            return {name: join(values[a], values[b]) for name, (a, b, join) in self._paired().items()}

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Learns scales and vocabularies. Cells that cannot be read are passed over here and refused in calls."""
        plain = self.of("number", "date", "boolean")
        samples = {column: statistics.Sample(SAMPLE, seed) for seed, column in enumerate(plain)}
        joined = {name: statistics.Sample(SAMPLE // 5, seed) for seed, name in enumerate(self._paired())}
        frequencies = {column: statistics.Frequencies(200_000) for column in self.of("category")}
        tallies = {column: lists.Tally() for column in self.of("list")}
        rows, nulls = 0, dict.fromkeys(self.config.columns, 0)
        for chunk in chunks:
            rows += len(chunk[self.config.columns[0]])
            for column in self.config.columns:
                nulls[column] += int(_nulls(chunk[column]).sum())
            values = {column: np.asarray(self.read(chunk, column).values, np.float64) for column in plain}
            for kept, arrays in ((samples, values), (joined, self._join(values))):
                for name, array in arrays.items():
                    kept[name].add(array[np.isfinite(array)])
            for column, frequency in frequencies.items():
                frequency.add(reading.counts(chunk[column]))
            for column, tally in tallies.items():
                tally.add(chunk[column])

        config = self.config
        sources = {**samples, **frequencies, **tallies}
        learned = {
            column: describing.PARTS[config.types[column]].learn(sources[column], config) for column in config.columns
        }
        pairs = {
            name: describing.Number.learn(joined[name], config)
            for name, (a, b, _) in self._paired().items()
            if learned[a] is not None and learned[b] is not None
        }
        missing = [column for column, count in nulls.items() if max(1, NULLS * rows) <= count < rows]
        self.state = {
            "columns": {column: found for column, found in learned.items() if found is not None},
            "pairs": {name: found for name, found in pairs.items() if found is not None},
            "missing": missing,
        }
        self._load()

    def specs(self) -> dict[str, ArraySpec]:
        """The vector; one entry without meaning if no column varies."""
        return {"vector": ArraySpec("float32", (max(len(self.names), 1),))}

    def blank(self) -> dict[str, np.ndarray]:
        """All NaN."""
        return {"vector": np.full(self.specs()["vector"].shape, np.nan, np.float32)}

    def __call__(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Column → cells, to `vector` [rows, n].

        Raises:
            BadCells: For rows with a number, date or truth value that cannot be read.
        """
        values = self.checked(cells)
        joined = self._join(values) if self._pairs else {}
        nulls = {column: _nulls(cells[column]) for column in self.config.columns}
        entries = [part(values.get(column, cells[column])) for column, part in self._parts.items()]
        entries += [pair(joined[name]) for name, pair in self._pairs.items()]
        entries += [nulls[column][:, None] for column in self._missing]
        rows = len(cells[self.config.columns[0]])
        found = np.concatenate(entries or [np.full((rows, 1), np.nan)], 1).astype(np.float32)
        found[np.logical_and.reduce(list(nulls.values()))] = np.nan
        return {"vector": found}


def _nulls(cells: Sequence[Any]) -> np.ndarray:
    """Which cells are missing, bool [rows]."""
    if set(map(type, cells)) <= {str, type(None)}:
        known = {cell for cell in set(cells) if is_null(cell)}
        return np.array([cell in known for cell in cells], bool)
    return np.array([is_null(cell) for cell in cells], bool)
