"""Early fusion: a transformer over the tokens of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Features, Tune, nn, torch
from automm_fusion.base import TokenFusion


class Transformer(TokenFusion):
    """Early fusion: self-attention over the tokens of all inputs and a class token, which becomes the joint vector.

    Each token carries a learned embedding of its input (Kim et al. 2021, "ViLT"; Xu et al. 2023, "Multimodal Learning
    with Transformers: A Survey" call it early concatenation). With one input it is a transformer over its tokens.
    """

    gives = frozenset({"vector", "tokens"})
    preference = 0.3

    class Config(TokenFusion.Config):
        """Settings of the transformer fusion."""

        layers: Annotated[int, Field(ge=1, le=12), Tune(1, 3)] = 2
        """Transformer layers."""

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Block, embedding

        super().__init__(config, widths)
        self.summary = embedding(config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config.hidden, config.heads, config.dropout) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.hidden)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row, or into the tokens of all inputs if the task needs tokens."""
        from automm_fusion._modules import joined

        read = self.read(self.hide(inputs))
        summary = Features.vector(self.summary.expand(read[0].mask.shape[0], -1))
        x = joined([summary, *read])  # [batch, 1 + time, hidden]
        x = Features(self.dropout(x.tokens), x.mask)
        for block in self.blocks:
            x = block(x)
        if self.needs == "vector":
            return Features.vector(self.norm(x.tokens[:, 0]))
        # Tokens that stand for a missing input helped, but they are no tokens of the row.
        mask = torch.cat([inputs[name].mask for name in self.names], 1)
        return Features(self.norm(x.tokens[:, 1:]), mask)
