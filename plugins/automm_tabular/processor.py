"""Table: columns of numbers, categories, dates and truth values → fixed arrays. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from automm.api import ArraySpec, BadCells, Processor, as_text, is_null
from automm_tabular import reading, statistics

SAMPLE = 50_000
"""Training values per column that quantiles are computed from."""

_NOUNS = {"number": "a number", "date": "a date", "boolean": "a true/false value"}


class Table(Processor):
    """Many columns → `number`, `number_missing`, `cyclic` and `category`, each only if some column gives it.

    - number [n] float32: number columns, then the times of date columns; robustly scaled and smoothly clipped to
      (-3, 3); 0 where missing.
    - number_missing [n] float32: 1 where missing.
    - cyclic [d, 8] float32: sine and cosine of month, weekday, hour and day of the year of each date column.
    - category [m] int64: category columns, then truth values: 0 missing, 1 outside the vocabulary.

    A number, date or truth value that cannot be read is a bad cell; a category never seen is not.
    """

    op = "tabular.table"

    class Config(Processor.Config):
        """The columns and how they are read."""

        columns: tuple[str, ...]
        """The columns, in order."""
        types: dict[str, Literal["number", "category", "date", "boolean"]]
        """Column → type."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Categories seen less often are treated as unknown, so that unknown ones mean something."""
        max_categories: Annotated[int, Field(ge=1)] = 10_000
        """Most categories per column; rarer ones are treated as unknown."""
        bins: Annotated[int, Field(ge=2)] = 48
        """Most quantile bins per number."""

        @model_validator(mode="after")
        def _typed(self) -> Table.Config:
            untyped = [column for column in self.columns if column not in self.types]
            if untyped or not self.columns:
                raise ValueError(f"columns without a type: {untyped}" if untyped else "a table needs columns")
            return self

    def __init__(self, config: Any, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(config, state)
        self._dates = self._of("date")
        self._numeric = [*self._of("number"), *self._dates]
        self._coded = [*self._of("category"), *self._of("boolean")]
        self._load()

    def _of(self, kind: str) -> list[str]:
        return [column for column in self.config.columns if self.config.types[column] == kind]

    def _load(self) -> None:
        """Look-ups made from the state once, not per batch."""
        self._centre = np.asarray(self.state.get("centre", ()), np.float64)
        self._scale = np.asarray(self.state.get("scale", ()), np.float64)
        self._vocabularies = {
            column: {value: code for code, value in enumerate(values, reading.FIRST)}
            for column, values in self.state.get("categories", {}).items()
        }

    @property
    def bins(self) -> list[list[float]]:
        """Bin edges of every entry of `number` (known after `fit`)."""
        return [list(edges) for edges in self.state["bins"]]

    @property
    def sizes(self) -> list[int]:
        """Number of codes of every entry of `category` (known after `fit`)."""
        return [reading.FIRST + len(self._vocabularies.get(column, (False, True))) for column in self._coded]

    def fit(self, chunks: Iterable[Mapping[str, Sequence[Any]]]) -> None:
        """Learns scales, bins and vocabularies. Cells that cannot be read are passed over here and refused in calls."""
        samples = {column: statistics.Sample(SAMPLE, seed) for seed, column in enumerate(self._numeric)}
        most = max(200_000, 4 * self.config.max_categories)
        frequencies = {column: statistics.Frequencies(most) for column in self._of("category")}
        for chunk in chunks:
            for column, sample in samples.items():
                values = np.asarray(self._read(column, chunk[column]).values, np.float64)
                sample.add(values[np.isfinite(values)])
            for column, frequency in frequencies.items():
                frequency.add(as_text(cell) for cell in chunk[column] if not is_null(cell))

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
        }
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
        return specs

    def blank(self) -> dict[str, np.ndarray]:
        """A row in which every cell is missing."""
        return {name: array[0] for name, array in self({column: [None] for column in self.config.columns}).items()}

    def __call__(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Column → cells, to arrays [rows, …].

        Raises:
            BadCells: For rows with a number, date or truth value that cannot be read.
        """
        reasons: dict[int, str] = {}
        columns: dict[str, np.ndarray | list[Any]] = {}
        for column in (*self._numeric, *self._coded):
            columns[column], bad = self._read(column, cells[column])
            for at in bad:
                noun = _NOUNS[self.config.types[column]]
                reasons.setdefault(at, f"column {column!r}: {_shown(cells[column][at])} is not {noun}")
        if reasons:
            raise BadCells(dict(sorted(reasons.items())))

        arrays = {}
        if self._numeric:
            values = np.array([columns[column] for column in self._numeric], np.float64).T  # [rows, n]
            missing = np.isnan(values)
            scaled = statistics.squash(values, self._centre, self._scale)
            scaled[missing] = 0
            arrays["number"] = scaled.astype(np.float32)
            arrays["number_missing"] = missing.astype(np.float32)
        if self._dates:
            arrays["cyclic"] = np.stack([reading.cyclic(np.array(columns[column])) for column in self._dates], 1)
        if self._coded:
            arrays["category"] = np.array([columns[column] for column in self._coded], np.int64).T
        return arrays

    def _read(self, column: str, cells: Sequence[Any]) -> reading.Read:
        match self.config.types[column]:
            case "number":
                return reading.numbers(cells)
            case "date":
                return reading.times(cells)
            case "boolean":
                return reading.booleans(cells)
            case _:
                return reading.codes(cells, self._vocabularies[column])


def _shown(cell: Any) -> str:
    return repr(cell) if len(str(cell)) <= 40 else repr(str(cell)[:40]) + "…"
