"""Gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automm.api import Features, nn, torch
from automm_fusion.base import InputFusion


class Gated(InputFusion):
    """Gated multimodal unit: every feature of the joint vector is a weighted mean over the present inputs.

    The weights are a softmax over the inputs, computed from all of them; with two inputs that is the z and 1 − z of
    Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion".
    """

    preference = 0.5

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import Project, embedding, mlp

        super().__init__(config, widths)
        self.width = config.hidden
        self.names = list(widths)
        self.project = nn.ModuleList([Project(width, config.hidden) for width in widths.values()])
        self.gate = nn.Linear(len(widths) * config.hidden, len(widths) * config.hidden)
        self.nothing = embedding(config.hidden)
        self.mlp = mlp(config.hidden, config.hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        inputs = self.hide(inputs)
        present = torch.stack([inputs[name].present for name in self.names], 1)[:, :, None]  # [batch, inputs, 1]
        vectors = [project(inputs[name].mean()) for name, project in zip(self.names, self.project, strict=True)]
        values = torch.stack(vectors, 1) * present  # [batch, inputs, hidden]
        scores = self.gate(values.flatten(1)).unflatten(1, (len(self.names), -1))
        # A finite floor: a row without any input then gets equal weights and not NaN.
        weights = scores.float().masked_fill(~present, -1e9).softmax(1)
        joint = (weights * torch.tanh(values)).sum(1)  # [batch, hidden]
        return Features.vector(self.mlp(torch.where(present.any(1), joint, self.nothing)))
