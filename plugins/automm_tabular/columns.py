"""What the processors of tables share: typed columns and how their cells are read. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from automm.api import BadCells, Processor
from automm_tabular import reading

Type = Literal["number", "category", "date", "boolean", "list"]
"""How the cells of a column are read."""

SAMPLE = 50_000
"""Training values per column that quantiles are computed from."""

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


def _shown(cell: Any) -> str:
    return repr(cell) if len(str(cell)) <= 40 else repr(str(cell)[:40]) + "…"
