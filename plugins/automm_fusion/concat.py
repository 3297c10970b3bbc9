"""Concatenation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automm.api import Features
from automm_fusion.base import VectorFusion


class Concat(VectorFusion):
    """The mean of each input's tokens, projected, side by side, through an MLP. A missing input is a learned vector."""

    preference = 0.8

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import mlp

        super().__init__(config, widths)
        self.mlp = mlp(len(widths) * config.hidden, config.hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        vectors, _ = self.read(self.hide(inputs))
        return Features.vector(self.mlp(vectors.flatten(1)))
