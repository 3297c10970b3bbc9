"""The training-free encoder of tables."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from automm.api import InputInfo, Tune, VectorEncoder
from automm_tabular.vector import Vector


class TabularVector(VectorEncoder):
    """Describes a row for boosted trees and linear models: robustly scaled numbers, date parts, one-hot and frequency
    codes of categories, multi-hot lists.
    """

    modality = "tabular"
    preference = 0.5

    class Config(VectorEncoder.Config):
        """Fields of the training-free encoder of tables."""

        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.0
        """Share of descriptor values dropped in training."""
        levels: Annotated[int, Field(ge=1)] = 32
        """Most categories of a column that get an entry of their own; a column with more is also coded by frequency."""
        items: Annotated[int, Field(ge=1)] = 64
        """Most items of a list column that get an entry of their own."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Categories and list items seen less often in training are treated as unknown."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Vector:
        """The unfitted vector; a column without a type is read as a category, which takes any cell."""
        types = {column: info.types.get(column, "category") for column in info.columns}
        fields = {name: getattr(config, name) for name in ("levels", "items", "min_count")}
        return Vector(Vector.Config(columns=info.columns, types=types, **fields))
