"""What the processors of tables share: typed columns and how their cells are read. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from automm.api import BadCells, Figure, Processor, as_text
from automm_tabular import lists, reading

Type = Literal["number", "category", "date", "boolean", "list"]
"""How the cells of a column are read."""

SAMPLE = 50_000
"""Training values per column that quantiles are computed from."""

YEAR = 365.2425 * 86_400
"""Seconds of a mean year; times are counted from 1970."""

_NOUNS = {"number": "a number", "date": "a date", "boolean": "a true/false value"}


class TypedColumns(Processor, abstract=True):
    """A processor of many columns, each with a type.

    A number, date or truth value that cannot be read is a bad cell; a category or a list item never seen is not.
    """

    class Config(Processor.Config):
        """The columns and how they are read."""

        columns: tuple[str, ...]
        """The columns, in order."""
        types: dict[str, Type]
        """Column → type."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Categories and list items seen less often are treated as unknown, so that unknown ones mean something."""

        @model_validator(mode="after")
        def _typed(self) -> TypedColumns.Config:
            untyped = [column for column in self.columns if column not in self.types]
            if untyped or not self.columns:
                raise ValueError(f"columns without a type: {untyped}" if untyped else "a table needs columns")
            return self

    def of(self, *kinds: str) -> list[str]:
        """The columns of some types, in order."""
        return [column for column in self.config.columns if self.config.types[column] in kinds]

    def read(self, cells: Mapping[str, Sequence[Any]], column: str) -> reading.Read:
        """A column of numbers, dates or truth values as an array: NaN or `reading.MISSING` where nothing is known."""
        match self.config.types[column]:
            case "number":
                return reading.numbers(cells[column])
            case "date":
                return reading.times(cells[column])
            case _:
                return reading.booleans(cells[column])

    def checked(self, cells: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """All columns of numbers, dates and truth values as arrays [rows].

        Raises:
            BadCells: For rows with a number, date or truth value that cannot be read.
        """
        reasons: dict[int, str] = {}
        found: dict[str, np.ndarray] = {}
        for column in self.of("number", "date", "boolean"):
            values, bad = self.read(cells, column)
            found[column] = np.asarray(values)
            for at in bad:
                noun = _NOUNS[self.config.types[column]]
                reasons.setdefault(at, f"column {column!r}: {_shown(cells[column][at])} is not {noun}")
        if reasons:
            raise BadCells(dict(sorted(reasons.items())))
        return found

    def figures(self, field: str, cells: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Figure]:
        """Numbers and times by their value (a time in years), the others by their names; lists by their items."""
        del arrays
        match self.config.types[field]:
            case "number":
                return {"value": _watched(reading.numbers(cells).values, 1.0)}
            case "date":
                return {"year": _watched(reading.times(cells).values, YEAR)}
            case "list":
                learned = self.state.get("columns", {}).get(field, {}).get("separator")
                separator = self.state.get("separators", {}).get(field) or learned or lists.SEPARATORS[0]
                found = [None if cell is None else lists.items(cell, separator) for cell in cells]
                return {"items": Figure("category", found)}
            case _:
                return {"value": Figure("category", [None if cell is None else as_text(cell) for cell in cells])}


def _watched(values: Any, unit: float) -> Figure:
    """Numbers as a figure; what is unknown is None."""
    found = np.asarray(values, np.float64) / unit
    return Figure("number", [float(value) if np.isfinite(value) else None for value in found])


def _shown(cell: Any) -> str:
    return repr(cell) if len(str(cell)) <= 40 else repr(str(cell)[:40]) + "…"
