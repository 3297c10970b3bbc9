"""FT-Transformer: attention over the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from automm.api import Context, Features, Tune, nn, torch
from automm_tabular.embedded import EmbeddedColumns
from automm_tabular.processor import Table

if TYPE_CHECKING:
    from torch import Tensor

MOST = 300
"""Columns up to which attention between all pairs of them is affordable."""


class FtTransformer(EmbeddedColumns):
    """FT-Transformer: a transformer over one token per column and a CLS token (Gorishniy et al. 2021).

    Gives the CLS token; with `tokens`, also what became of every column's token (two for a date).
    """

    preference = 0.2

    class Config(EmbeddedColumns.Config):
        """Fields of the FT-Transformer."""

        width: Annotated[int, Field(ge=1), Tune(choices=[32, 64, 128])] = 64
        """Width of a token and of the features."""
        layers: Annotated[int, Field(ge=1), Tune(1, 3, step=1)] = 2
        """Transformer blocks."""
        heads: Annotated[int, Field(ge=1)] = 8
        """Attention heads; they divide the width."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of attention weights and hidden features dropped in training."""
        tokens: bool = False
        """Also give the columns' tokens, for fusions that attend to tokens."""

        @model_validator(mode="after")
        def _divides(self) -> FtTransformer.Config:
            if self.width % self.heads:
                raise ValueError(f"width: {self.width} cannot be divided among {self.heads} heads")
            return self

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Attention between all pairs of very many columns takes too long."""
        del config
        most = max((len(one.columns) for one in context.inputs if one.modality == cls.modality), default=0)
        return f"attention over {most:,} columns, more than {MOST}, takes too long" if most > MOST else None

    def __init__(self, config: Any, processor: Table) -> None:
        from automm_tabular._modules import TransformerBlock

        super().__init__(config, processor)
        width = config.width
        self.columns = self.embedding_of(processor, width)
        self.start = nn.ParameterDict(
            {
                "cls": nn.Parameter(torch.randn(1, 1, width) * width**-0.5),
                "column": nn.Parameter(torch.randn(self.columns.count, width) * width**-0.5),
            }
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, config.dropout, first=at == 0) for at in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.width = width

    def layers(self) -> list[Any]:
        """Embeddings, then the blocks; the last one with the norm that follows it."""
        *blocks, last = self.blocks
        return [nn.ModuleList([self.columns, self.start]), *blocks, nn.ModuleList([last, self.norm])]

    def forward(self, arrays: Mapping[str, Tensor]) -> Features:
        """The table's arrays, [batch, …] each, to features with time = 1 (or more, with `tokens`)."""
        columns = self.columns(arrays) + self.start["column"]  # [batch, entries, width]
        x = torch.cat([self.start["cls"].expand(columns.shape[0], 1, -1), columns], 1)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        x = self.norm(last(x, None if self.config.tokens else 1))
        return Features(x, torch.ones_like(x[..., 0], dtype=torch.bool))
