"""Low-rank tensor fusion."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Context, Features, Tune, nn, torch
from automm_fusion.base import VectorFusion, needs_two


class LowRank(VectorFusion):
    """Low-rank tensor fusion: a linear map of the products of the features of all inputs, with a factorised weight.

    Liu et al. 2018, "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors": the outer product of all
    vectors, each with a 1 appended, times a weight tensor of the given rank, without making either tensor. So the joint
    vector holds every product of features of different inputs. An MLP follows.
    """

    preference = 0.7

    class Config(VectorFusion.Config):
        """Settings of low-rank fusion."""

        hidden: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of each input's vector and of the joint features."""
        rank: Annotated[int, Field(ge=1), Tune(2, 16)] = 4
        """Rank of the weight tensor."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Products are taken between inputs."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import mlp

        super().__init__(config, widths)
        hidden = config.hidden
        start = torch.randn(len(widths), config.rank, hidden + 1, hidden) * hidden**-0.5
        start[:, :, hidden] = 1.0  # the row of the appended 1: products begin near 1 and neither vanish nor blow up
        self.factors = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.mlp = mlp(hidden, hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        vectors, _ = self.read(self.hide(inputs))  # [batch, inputs, hidden]
        return Features.vector(self.mlp(self.product(vectors)))

    def product(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors [batch, inputs, hidden] → the weight tensor times their outer product, [batch, hidden]."""
        extended = torch.cat([vectors, torch.ones_like(vectors[:, :, :1])], 2)
        parts = torch.einsum("bmi,mrio->bmro", extended, self.factors)
        return functools.reduce(torch.mul, parts.unbind(1)).sum(1) + self.bias
