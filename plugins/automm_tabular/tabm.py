"""TabM: many MLPs that share most of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import Features, Tune, nn
from automm_tabular.embedded import EmbeddedColumns
from automm_tabular.processor import Table

if TYPE_CHECKING:
    from torch import Tensor


class Tabm(EmbeddedColumns):
    """TabM: an ensemble of MLPs that share their weights but for scales and biases (Gorishniy et al. 2025, ICLR).

    Every member projects its own representation; their mean is the features. A linear head on them averages the
    members' predictions, as TabM does.
    """

    preference = 0.8

    class Config(EmbeddedColumns.Config):
        """Fields of TabM."""

        embedding: Annotated[int, Field(ge=1), Tune(8, 32, step=8)] = 16
        """Width of a column's embedding."""
        members: Annotated[int, Field(ge=1), Tune(choices=[8, 16, 32])] = 16
        """MLPs in the ensemble."""
        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the MLPs."""
        width: Annotated[int, Field(ge=1)] = 128
        """Width of the features."""
        layers: Annotated[int, Field(ge=1), Tune(1, 3, step=1)] = 2
        """Layers of the MLPs."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of hidden features dropped in training."""

    def __init__(self, config: Any, processor: Table) -> None:
        from tabm import EnsembleView, LinearEnsemble, make_tabm_backbone

        super().__init__(config, processor)
        self.columns = self.embedding_of(processor, config.embedding)
        self.view = EnsembleView(k=config.members)
        self.backbone = make_tabm_backbone(
            d_in=self.columns.count * config.embedding,
            n_blocks=config.layers,
            d_block=config.hidden,
            dropout=config.dropout,
            k=config.members,
            start_scaling_init="normal",  # as the library does with numeric embeddings
            start_scaling_init_chunks=[config.embedding] * self.columns.count,
        )
        self.project = LinearEnsemble(config.hidden, config.width, k=config.members)
        self.norm = nn.LayerNorm(config.width)
        self.width = config.width

    def layers(self) -> list[Any]:
        """Embeddings, then the layers of the MLPs; the last one with the projection that follows it."""
        *blocks, last = self.backbone.blocks
        return [self.columns, *blocks, nn.ModuleList([last, self.project, self.norm])]

    def forward(self, arrays: Mapping[str, Tensor]) -> Features:
        """The table's arrays, [batch, …] each, to features with time = 1."""
        x = self.view(self.columns(arrays).flatten(1))  # [batch, members, entries × embedding]
        return Features.vector(self.norm(self.project(self.backbone(x)).mean(1)))
