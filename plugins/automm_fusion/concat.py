"""Concatenation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automm.api import Features, nn, torch
from automm_fusion.base import InputFusion


class Concat(InputFusion):
    """The mean of each input's tokens, projected, side by side, through an MLP. A missing input is a learned vector."""

    preference = 1.0

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Project, embedding, mlp

        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.project = nn.ModuleList([Project(width, config.hidden) for width in widths.values()])
        self.missing = embedding(len(widths), config.hidden)
        self.mlp = mlp(len(widths) * config.hidden, config.hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        inputs = self.hide(inputs)
        parts = []
        for name, project, missing in zip(self.names, self.project, self.missing, strict=True):
            vector = project(inputs[name].mean())  # [batch, hidden]
            parts.append(torch.where(inputs[name].present[:, None], vector, missing))
        return Features.vector(self.mlp(torch.cat(parts, 1)))
