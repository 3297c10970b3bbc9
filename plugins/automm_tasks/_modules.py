"""The head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automm.api import Features


class Head(nn.Module):
    """Mean of the tokens → dropout → (hidden layer) → linear."""

    def __init__(self, width: int, hidden: int, dropout: float, start: Sequence[float]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden:
            layers += [nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)]
        last = nn.Linear(hidden or width, len(start))
        with torch.no_grad():
            last.bias.copy_(torch.tensor(start))
        self.net = nn.Sequential(*layers, last)

    def forward(self, joint: Features) -> Tensor:
        """Joint features → [batch, size]."""
        output: Tensor = self.net(joint.mean())
        return output
