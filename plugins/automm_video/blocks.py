"""Modules of the video encoders."""

from __future__ import annotations

import torch
from torch import nn

from automm.api import Features


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, normalised before each (He et al. 2016, "Identity Mappings").

    Args:
        width: Channels in.
        out: Channels out; height and width are halved.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)  # every block starts as its shortcut
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, out, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width, height, width] → [batch, out, height / 2, width / 2]."""
        y = self.conv1(torch.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(torch.relu(self.norm2(y)))


class Temporal(nn.Module):
    """Joins the features of frames: their mean, a transformer over them, or all of them as tokens.

    Args:
        how: "mean", "transformer" or "tokens".
        width: Width of the features.
        frames: Number of frames.
        dropout: Of the transformer.
    """

    def __init__(self, how: str, width: int, frames: int, dropout: float) -> None:
        super().__init__()
        self.how = how
        if how == "transformer":
            self.positions = nn.Parameter(0.02 * torch.randn(frames, width))
            heads = next(count for count in (8, 4, 2, 1) if width % count == 0)
            layer = nn.TransformerEncoderLayer(
                width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, 1, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> Features:
        """[batch, frames, width] → features; one token unless "tokens"."""
        if self.how == "tokens":
            return Features(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        if self.how == "transformer":
            x = self.layers(x + self.positions)
        return Features.vector(x.mean(1))
