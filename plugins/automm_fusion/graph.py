"""A graph network over the tokens of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from automm.api import Context, Features, Tune, nn
from automm_fusion.base import TokenFusion, needs_two


class GraphNetwork(TokenFusion):
    """Multimodal graph network: nodes are the tokens of all inputs, edges have a type, and the graph is pooled.

    Every token hears all tokens of its own input and, along edges of another type for each pair of inputs, those of the
    other; messages of all types are averaged (Schlichtkrull et al. 2018, "Modeling Relational Data with Graph
    Convolutional Networks"; attention: Veličković et al. 2018, "Graph Attention Networks"). The layers are
    torch_geometric's. Memory grows with the square of the number of tokens; `max` is linear in it.
    """

    name = "graph"
    preference = 0.12

    class Config(TokenFusion.Config):
        """Settings of the graph network."""

        layers: Annotated[int, Field(ge=1, le=12), Tune(1, 3)] = 2
        """Rounds of messages."""
        aggregation: Annotated[Literal["attention", "mean", "max"], Tune(choices=["attention", "mean", "max"])] = (
            "attention"
        )
        """How a node joins what its neighbours say."""
        pooling: Annotated[Literal["attention", "mean", "max"], Tune(choices=["attention", "mean", "max"])] = "mean"
        """How the nodes become the joint vector."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Edges across inputs take two of them."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._graph import Pooling, TypedLayer

        super().__init__(config, widths)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            [
                TypedLayer(len(widths), config.hidden, config.aggregation, config.heads, config.dropout)
                for _ in range(config.layers)
            ]
        )
        self.pool = Pooling(config.pooling, config.hidden)
        self.norm = nn.LayerNorm(config.hidden)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        from automm_fusion._modules import joined

        nodes = [Features(self.dropout(f.tokens), f.mask) for f in self.read(self.hide(inputs))]
        for layer in self.layers:
            nodes = layer(nodes)
        return Features.vector(self.norm(self.pool(joined(nodes))))
