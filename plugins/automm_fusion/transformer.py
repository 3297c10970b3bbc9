"""A transformer over the tokens of all inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from automm.api import Features, Tune, nn, torch
from automm_fusion.base import InputFusion


class Transformer(InputFusion):
    """Self-attention over the tokens of all inputs and a class token, which becomes the joint vector."""

    gives = frozenset({"vector", "tokens"})
    preference = 0.3

    class Config(InputFusion.Config):
        """Settings of the transformer fusion."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the joint features; a multiple of `heads`."""
        layers: Annotated[int, Field(ge=1, le=12), Tune(1, 3)] = 2
        """Transformer layers."""
        heads: Annotated[int, Field(ge=1), Tune(choices=[2, 4, 8])] = 4
        """Attention heads."""

        @model_validator(mode="after")
        def _divisible(self) -> Self:
            if self.hidden % self.heads:
                raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
            return self

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Block, Project, embedding

        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.project = nn.ModuleList([Project(width, config.hidden) for width in widths.values()])
        self.origin = embedding(len(widths), config.hidden)
        self.summary = embedding(config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config.hidden, config.heads, config.dropout) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.hidden)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row, or into the tokens of all inputs if the task needs tokens."""
        inputs = self.hide(inputs)
        batch = inputs[self.names[0]].mask.shape[0]
        # The class token is always real, so attention has something to look at when every input is missing.
        tokens = [self.summary.expand(batch, 1, -1)]
        masks = [torch.ones_like(inputs[self.names[0]].mask[:, :1])]
        for name, project, origin in zip(self.names, self.project, self.origin, strict=True):
            tokens.append(project(inputs[name].tokens) + origin)
            masks.append(inputs[name].mask)
        x, mask = (
            self.dropout(torch.cat(tokens, 1)),
            torch.cat(masks, 1),
        )  # [batch, 1 + time, hidden], [batch, 1 + time]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return Features.vector(x[:, 0]) if self.needs == "vector" else Features(x[:, 1:], mask[:, 1:])
