"""What the neural encoders of tables share: the processor, and an embedding of every column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.api import Encoder, InputInfo, Processor, torch
from automm_tabular.processor import Table
from automm_tabular.reading import UNKNOWN

if TYPE_CHECKING:
    from torch import Tensor

    from automm_tabular._modules import Columns


class EmbeddedColumns(Encoder, abstract=True):
    """An encoder that begins with an embedding of every column (Gorishniy et al. 2022)."""

    modality = "tabular"

    class Config(Encoder.Config):
        """Fields of every neural encoder of tables."""

        numeric: Literal["piecewise_linear", "periodic"] = "piecewise_linear"
        """How numbers are embedded."""
        bins: Annotated[int, Field(ge=2)] = 48
        """Most quantile bins per number."""
        min_count: Annotated[int, Field(ge=1)] = 2
        """Categories and list items seen less often in training are treated as unknown."""
        max_categories: Annotated[int, Field(ge=1)] = 10_000
        """Most categories per column."""
        max_items: Annotated[int, Field(ge=1)] = 128
        """Most items per list column."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Processor:
        """The unfitted table; a column without a type is read as a category, which takes any cell."""
        types = {column: info.types.get(column, "category") for column in info.columns}
        fields = {name: getattr(config, name) for name in ("bins", "min_count", "max_categories", "max_items")}
        return Table(Table.Config(columns=info.columns, types=types, **fields))

    def embedding_of(self, processor: Table, width: int) -> Columns:
        """Embeddings of the table's columns, `width` wide; its `count` says how many there are (two for a date)."""
        from automm_tabular._modules import Columns

        self._sizes = processor.sizes
        specs = processor.specs()
        dates = specs["cyclic"].shape[0] if "cyclic" in specs else 0
        bins = processor.bins if "number" in specs else []
        return Columns(bins, dates, processor.sizes, processor.lengths, width, self.config.numeric)

    def adopt(self, weights: dict[str, Tensor], before: Processor) -> dict[str, Tensor]:
        """Every known category keeps its embedding; a new one starts as what was unknown so far."""
        assert isinstance(before, Table)
        now = self._sizes
        if now == before.sizes:
            return weights
        return {
            name: _with_room(tensor, before.sizes, now) if name.endswith("categories.weight") else tensor
            for name, tensor in weights.items()
        }


def _with_room(rows: Tensor, before: list[int], now: list[int]) -> Tensor:
    """Embeddings of all columns' codes, [sum(before), width], with room for new codes after each column's own."""
    parts = []
    for old, size in zip(rows.split(before), now, strict=True):
        parts += [old, old[UNKNOWN : UNKNOWN + 1].expand(size - len(old), -1)]
    return torch.cat(parts)
