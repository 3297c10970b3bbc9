"""Bottleneck tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Context, Features, Tune, nn, torch
from automm_fusion.base import TokenFusion, needs_two


class Bottleneck(TokenFusion):
    """Attention bottlenecks (MBT): each input attends to itself and to a few shared tokens, which carry all exchange.

    Nagrani et al. 2021, "Attention Bottlenecks for Multimodal Fusion": in every layer each input has a transformer
    layer of its own over its class token, its tokens and the bottleneck; the bottleneck becomes the mean of what the
    inputs made of it. The class tokens go through an MLP (the paper averages decisions on each, which needs far more
    rows to learn what only inputs together tell). Cheaper than attention over all tokens.
    """

    preference = 0.2

    class Config(TokenFusion.Config):
        """Settings of bottleneck fusion."""

        layers: Annotated[int, Field(ge=2, le=12), Tune(2, 4)] = 2
        """Layers with a bottleneck; in the first it is written, so exchange begins with the second."""
        before: Annotated[int, Field(ge=0, le=12), Tune(0, 2)] = 0
        """Layers before them, in which every input sees itself only."""
        bottlenecks: Annotated[int, Field(ge=1), Tune(1, 16)] = 4
        """Number of bottleneck tokens."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """A bottleneck lies between inputs."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Block, embedding, mlp

        super().__init__(config, widths)
        self.summary = embedding(len(widths), config.hidden)
        # At the usual small scale the layer norms would blow up differences that are hardly there.
        self.bottleneck = nn.Parameter(torch.randn(config.bottlenecks, config.hidden))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            [
                nn.ModuleList([Block(config.hidden, config.heads, config.dropout) for _ in widths])
                for _ in range(config.before + config.layers)
            ]
        )
        self.mlp = mlp(len(widths) * config.hidden, config.hidden, 1, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        from automm_fusion._modules import joined

        read = self.read(self.hide(inputs))
        size, batch = self.config.bottlenecks, read[0].mask.shape[0]
        # A class token starts from the mean of its input: attention alone is slow to find a signal on few rows.
        own = [joined([Features.vector(f.mean() + s), f]) for s, f in zip(self.summary, read, strict=True)]
        own = [Features(self.dropout(f.tokens), f.mask) for f in own]
        shared = self.bottleneck.expand(batch, -1, -1)
        open_mask = own[0].mask[:, :1].expand(-1, size)  # a class token is always real
        for at, blocks in enumerate(self.blocks):
            if at < self.config.before:
                own = [block(f) for block, f in zip(blocks, own, strict=True)]
                continue
            both = [joined([Features(shared, open_mask), f]) for f in own]
            both = [block(f) for block, f in zip(blocks, both, strict=True)]
            shared = torch.stack([f.tokens[:, :size] for f in both], 1).mean(1)
            own = [Features(f.tokens[:, size:], f.mask[:, size:]) for f in both]
        return Features.vector(self.mlp(torch.cat([f.tokens[:, 0] for f in own], 1)))
