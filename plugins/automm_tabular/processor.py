"""Table: columns of numbers, categories, dates, truth values and lists → fixed arrays. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import ArraySpec
from automm_tabular import lists, reading, statistics
from automm_tabular.columns import SAMPLE, TypedColumns


class Table(TypedColumns):
    """Many columns → `number`, `number_missing`, `cyclic`, `category` and `items`, each only if some column gives it.

    - number [n] float32: number columns, then the times of date columns; robustly scaled and smoothly clipped to
      (-3, 3); 0 where missing.
    - number_missing [n] float32: 1 where missing.
    - cyclic [d, 8] float32: sine and cosine of month, weekday, hour and day of the year of each date column.
    - category [m] int64: category columns, then truth values: 0 missing, 1 outside the vocabulary.
    - items [k] float32: the list columns side by side: how many items outside the vocabulary, then 1 for each item of
      the vocabulary that the list holds.

    A number, date or truth value that cannot be read is a bad cell; a category or list item never seen is not.
    """

    op = "tabular.table"

    class Config(TypedColumns.Config):
        """The columns and how they are read."""

        max_categories: Annotated[int, Field(ge=1)] = 10_000
        """Most categories per column; rarer ones are treated as unknown."""
        max_items: Annotated[int, Field(ge=1)] = 128
        """Most items per list column; rarer ones are treated as unknown."""
        bins: Annotated[int, Field(ge=2)] = 48
        """Most quantile bins per number."""

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._dates, self._lists = self.of("date"), self.of("list")
        self._numeric = [*self.of("number"), *self._dates]
        self._coded = [*self.of("category"), *self.of("boolean")]
        self._load()

    def _load(self) -> None:
        """Look-ups made from the state once, not per batch."""
        self._centre = np.asarray(self.state.get("centre", ()), np.float64)
        self._scale = np.asarray(self.state.get("scale", ()), np.float64)
        self._vocabularies = {
            column: {value: code for code, value in enumerate(values, reading.FIRST)}
            for column, values in self.state.get("categories", {}).items()
        }
        self._items = {
            column: {item: at for at, item in enumerate(known)} for column, known in self.state.get("items", {}).items()
        }

    @property
    def bins(self) -> list[list[float]]:
        """Bin edges of every entry of `number` (known after `fit`)."""
        return [list(edges) for edges in self.state["bins"]]

    @property
    def sizes(self) -> list[int]:
        """Number of codes of every entry of `category` (known after `fit`)."""
        return [reading.FIRST + len(self._vocabularies.get(column, (False, True))) for column in self._coded]

    @property
    def lengths(self) -> list[int]:
        """Number of entries of every list column in `items` (known after `fit`)."""
        return [1 + len(known) for known in self._items.values()]

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Learns scales, bins and vocabularies. Cells that cannot be read are passed over here and refused in calls."""
        samples = {column: statistics.Sample(SAMPLE, seed) for seed, column in enumerate(self._numeric)}
        most = max(200_000, 4 * self.config.max_categories)
        frequencies = {column: statistics.Frequencies(most) for column in self.of("category")}
        tallies = {column: lists.Tally() for column in self._lists}
        for chunk in chunks:
            for column, sample in samples.items():
                values = np.asarray(self.read(chunk, column).values, np.float64)
                sample.add(values[np.isfinite(values)])
            for column, frequency in frequencies.items():
                frequency.add(reading.counts(chunk[column]))
            for column, tally in tallies.items():
                tally.add(chunk[column])

        values = [sample.values for sample in samples.values()]
        scales = [statistics.centre_and_scale(known) for known in values]
        self.state = {
            "centre": [centre for centre, _ in scales],
            "scale": [scale for _, scale in scales],
            "bins": [
                statistics.bin_edges(statistics.squash(known, np.float64(centre), np.float64(scale)), self.config.bins)
                for known, (centre, scale) in zip(values, scales, strict=True)
            ],
            "categories": {
                column: frequency.top(self.config.max_categories, self.config.min_count)
                for column, frequency in frequencies.items()
            },
            "separators": {column: tally.separator for column, tally in tallies.items()},
            "items": {
                column: tally.top(self.config.max_items, self.config.min_count) for column, tally in tallies.items()
            },
        }
        self._load()

    def extend(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Adds the categories that later rows hold; the known ones keep their codes, scales and list items stay."""
        most = max(200_000, 4 * self.config.max_categories)
        frequencies = {column: statistics.Frequencies(most) for column in self.of("category")}
        for chunk in chunks:
            for column, frequency in frequencies.items():
                frequency.add(reading.counts(chunk[column]))
        categories = {}
        for column, frequency in frequencies.items():
            known = dict.fromkeys(self.state["categories"][column])
            new = [name for name in frequency.top(most, self.config.min_count) if name not in known]
            categories[column] = [*known, *new[: max(self.config.max_categories - len(known), 0)]]
        self.state = {**self.state, "categories": categories}
        self._load()

    def specs(self) -> dict[str, ArraySpec]:
        """The arrays it gives."""
        specs = {}
        if self._numeric:
            specs["number"] = ArraySpec("float32", (len(self._numeric),))
            specs["number_missing"] = ArraySpec("float32", (len(self._numeric),))
        if self._dates:
            specs["cyclic"] = ArraySpec("float32", (len(self._dates), 8))
        if self._coded:
            specs["category"] = ArraySpec("int64", (len(self._coded),))
        if self._lists:
            specs["items"] = ArraySpec("float32", (sum(self.lengths),))
        return specs

    def blank(self) -> dict[str, np.ndarray]:
        """A row in which every cell is missing."""
        return {name: array[0] for name, array in self({column: [None] for column in self.config.columns}).items()}

    def __call__(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Column → cells, to arrays [rows, …].

        Raises:
            BadCells: For rows with a number, date or truth value that cannot be read.
        """
        columns = self.checked(cells)
        arrays = {}
        if self._numeric:
            values = np.array([columns[column] for column in self._numeric], np.float64).T  # [rows, n]
            missing = np.isnan(values)
            scaled = statistics.squash(values, self._centre, self._scale)
            scaled[missing] = 0
            arrays["number"] = scaled.astype(np.float32)
            arrays["number_missing"] = missing.astype(np.float32)
        if self._dates:
            arrays["cyclic"] = np.stack([reading.cyclic(columns[column]) for column in self._dates], 1)
        if self._coded:
            columns |= {name: reading.codes(cells[name], known) for name, known in self._vocabularies.items()}
            arrays["category"] = np.array([columns[column] for column in self._coded], np.int64).T
        if self._lists:
            separators = self.state["separators"]
            found = [reading.multi_hot(cells[name], self._items[name], separators[name]) for name in self._lists]
            arrays["items"] = np.nan_to_num(np.concatenate(found, 1))
        return arrays
