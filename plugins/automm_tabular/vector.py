"""Vector: columns of a table → one vector that boosted trees and linear models read well. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec, as_text, is_null
from automm_tabular import describing, lists, statistics
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

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._load()

    def _load(self) -> None:
        """Made from the state once, not per batch."""
        self._parts = {
            column: describing.PARTS[self.config.types[column]](**found)
            for column, found in self.state.get("columns", {}).items()
        }
        self._missing = list(self.state.get("missing", ()))

    @property
    def names(self) -> list[str]:
        """What each entry of the vector is, "column: part" (known after `fit`)."""
        found = [f"{column}: {name}" for column, part in self._parts.items() for name in part.names]
        return [*found, *(f"{column}: missing" for column in self._missing)]

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Learns scales and vocabularies. Cells that cannot be read are passed over here and refused in calls."""
        plain = self.of("number", "date", "boolean")
        samples = {column: statistics.Sample(SAMPLE, seed) for seed, column in enumerate(plain)}
        frequencies = {column: statistics.Frequencies(200_000) for column in self.of("category")}
        tallies = {column: lists.Tally() for column in self.of("list")}
        rows, nulls = 0, dict.fromkeys(self.config.columns, 0)
        for chunk in chunks:
            rows += len(chunk[self.config.columns[0]])
            for column in self.config.columns:
                nulls[column] += sum(map(is_null, chunk[column]))
            for column, sample in samples.items():
                values = np.asarray(self.read(chunk, column).values, np.float64)
                sample.add(values[np.isfinite(values)])
            for column, frequency in frequencies.items():
                frequency.add(as_text(cell) for cell in chunk[column] if not is_null(cell))
            for column, tally in tallies.items():
                tally.add(chunk[column])

        config = self.config
        learned = {}
        for column in config.columns:
            part = describing.PARTS[config.types[column]]
            source = samples.get(column) or frequencies.get(column) or tallies[column]
            if (found := part.learn(source, config)) is not None:
                learned[column] = found
        missing = [column for column, count in nulls.items() if max(1, NULLS * rows) <= count < rows]
        self.state = {"columns": learned, "missing": missing}
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
        found = np.full((len(cells[self.config.columns[0]]), *self.specs()["vector"].shape), np.nan, np.float32)
        at = 0
        for column, part in self._parts.items():
            stop = at + len(part.names)
            found[:, at:stop] = part(values.get(column, cells[column]))
            at = stop
        nulls = {column: np.array([is_null(cell) for cell in cells[column]], bool) for column in self.config.columns}
        for place, column in enumerate(self._missing, at):
            found[:, place] = nulls[column]
        found[np.logical_and.reduce(list(nulls.values()))] = np.nan
        return {"vector": found}
