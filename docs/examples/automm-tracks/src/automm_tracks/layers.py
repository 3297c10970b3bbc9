"""Modules of the track network, which import torch."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """A convolution over neighbouring steps with a shortcut; padded steps reach no other step.

    Args:
        width: Channels in and out.
        dilation: Distance between the three steps that are joined.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[batch, time, width] and bool mask [batch, time] → [batch, time, width]."""
        real = mask[..., None].to(x.dtype)
        return x + nn.functional.gelu(self.convolution((self.norm(x) * real).mT).mT)
