"""Gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automm.api import Context, Features, nn, torch
from automm_fusion.base import VectorFusion, needs_two


class Gated(VectorFusion):
    """Gated multimodal unit: every feature of the joint vector is a weighted mean over the present inputs.

    The weights are a softmax over the inputs, computed from all of them; with two inputs that is the z and 1 − z of
    Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion". The gates see a learned vector in place of a
    missing input, whose own weight is 0.
    """

    preference = 0.5

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Gates choose between inputs."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import mlp

        super().__init__(config, widths)
        self.gate = nn.Linear(len(widths) * config.hidden, len(widths) * config.hidden)
        self.mlp = mlp(config.hidden, config.hidden, config.layers, config.dropout)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Joins a batch into one vector per row."""
        values, present = self.read(self.hide(inputs))  # [batch, inputs, hidden]
        scores = self.gate(values.flatten(1)).unflatten(1, (len(self.names), -1))
        # A finite floor: a row without any input then gets equal weights and not NaN.
        weights = scores.float().masked_fill(~present[:, :, None], -1e9).softmax(1)
        return Features.vector(self.mlp((weights * torch.tanh(values)).sum(1)))
