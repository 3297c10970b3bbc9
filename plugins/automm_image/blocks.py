"""Modules of the picture encoders."""

from __future__ import annotations

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, normalised before each (He et al. 2016, "Identity Mappings").

    Args:
        width: Channels in.
        out: Channels out.
        stride: 2 halves height and width.
    """

    def __init__(self, width: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)  # every block starts as its shortcut
        self.shortcut = (
            nn.Identity()
            if (width, stride) == (out, 1)
            else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(width, out, 1, bias=False))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, height, width] → [batch, out, height / stride, width / stride]."""
        y = self.conv1(torch.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(torch.relu(self.norm2(y)))
