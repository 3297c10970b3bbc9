"""The tabular encoder: column embeddings and a residual MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import Features, Tune, nn, torch
from automm_tabular.embedded import EmbeddedColumns
from automm_tabular.processor import Table

if TYPE_CHECKING:
    from torch import Tensor


class TabularMlp(EmbeddedColumns):
    """Embeds every column (numbers piecewise-linearly, Gorishniy et al. 2022) and mixes them with a residual MLP.

    Gives one token; with `tokens`, one more for each column (two for a date: its time, and its place in day and year).
    """

    preference = 1.0

    class Config(EmbeddedColumns.Config):
        """Fields of the tabular encoder."""

        embedding: Annotated[int, Field(ge=1), Tune(8, 32, step=8)] = 16
        """Width of a column's embedding."""
        width: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the features."""
        layers: Annotated[int, Field(ge=0), Tune(1, 4, step=1)] = 2
        """Residual blocks."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of hidden features dropped in training."""
        tokens: bool = False
        """Also give one token per column, for fusions that attend to tokens."""

    def __init__(self, config: Any, processor: Table) -> None:
        from automm_tabular._modules import Block

        super().__init__(config, processor)
        self.columns = self.embedding_of(processor, config.embedding)
        self.join = nn.Sequential(
            nn.Linear(self.columns.count * config.embedding, config.width), nn.Dropout(config.dropout)
        )
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        if config.tokens:
            self.project = nn.Linear(config.embedding, config.width)
        self.width = config.width

    def layers(self) -> list[Any]:
        """Embeddings with the joining layer, then the blocks; the last one with what follows it."""
        first = [self.columns, self.join]
        last = [self.norm, *([self.project] if self.config.tokens else [])]
        groups = [first, *([block] for block in self.blocks)]
        groups[-1] = [*groups[-1], *last]
        return [nn.ModuleList(group) for group in groups]

    def forward(self, arrays: Mapping[str, Tensor]) -> Features:
        """The table's arrays, [batch, …] each, to features with time = 1 (or more, with `tokens`)."""
        columns = self.columns(arrays)  # [batch, entries, embedding]
        x = self.join(columns.flatten(1))  # [batch, width]
        for block in self.blocks:
            x = block(x)
        pooled = Features.vector(self.norm(x))
        if not self.config.tokens:
            return pooled
        tokens = torch.cat([pooled.tokens, self.project(columns)], 1)  # [batch, 1 + entries, width]
        return Features(tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool))
