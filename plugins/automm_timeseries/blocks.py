"""Modules of the series encoder; none of them lets padded steps into a row's features."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Inception(nn.Module):
    """One inception module: a bottleneck, three convolutions of different lengths, and a pooled branch.

    Args:
        channels: Channels in.
        filters: Channels of each branch; four times as many come out.
        kernel: Longest convolution in steps.
    """

    def __init__(self, channels: int, filters: int, kernel: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(channels, filters, 1, bias=False) if channels > filters else nn.Identity()
        lengths = [2 * (kernel // part // 2) + 1 for part in (1, 2, 4)]  # odd, so that a step stays in the middle
        width = min(channels, filters)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, filters, length, padding=length // 2, bias=False) for length in lengths
        )
        self.pooled = nn.Conv1d(channels, filters, 1, bias=False)
        self.norm = nn.LayerNorm(4 * filters)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """[batch, channels, time], zero where `real` [batch, 1, time] is → [batch, 4 × filters, time], likewise."""
        narrow = self.bottleneck(x)
        branches = [convolution(narrow) for convolution in self.convolutions]
        # Padding must not win the maximum of the last real step.
        # (max_pool1d would fix the length in the exported graph.)
        peaks = F.max_pool2d(x.masked_fill(real == 0, -1e4)[:, :, None], (1, 3), stride=1, padding=(0, 1))
        branches.append(self.pooled(peaks[:, :, 0]))
        return torch.relu(self.norm(torch.cat(branches, 1).mT).mT) * real


def describe(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Eight figures of every channel, and the length.

    Mean, standard deviation, smallest, largest, first and last value, slope over the series, and mean absolute step.

    Args:
        values: [batch, time, channels].
        mask: Bool [batch, time].

    Returns:
        [batch, 8 × channels + 1].
    """
    real = mask[..., None].to(values.dtype)  # [batch, time, 1]
    length = real.sum(1).clamp(min=1)  # [batch, 1]
    mean = (values * real).sum(1) / length
    centred = (values - mean[:, None]) * real
    spread = (centred.square().sum(1) / length + 1e-6).sqrt()
    low = values.masked_fill(real == 0, 1e4).amin(1)
    high = values.masked_fill(real == 0, -1e4).amax(1)
    time = (real.cumsum(1) - 1) * real / length[:, None]  # 0 to almost 1
    away = (time - (time * real).sum(1, keepdim=True) / length[:, None]) * real
    slope = (away * centred).sum(1) / (away.square().sum(1) + 1e-2)
    before, real_before = (F.pad(x, (0, 0, 1, 0))[:, :-1] for x in (values, real))  # one step earlier
    step = ((values - before).abs() * real * real_before).sum(1) / length
    last = (values * (real.cumsum(1) == length[:, None]).to(values.dtype) * real).sum(1)
    first = values[:, 0] * real[:, 0]
    figures = [mean, spread, low.clamp(-100, 100), high.clamp(-100, 100), first, last, slope, step]
    return torch.cat([*figures, length.log1p() / 4], 1)


class Statistics(nn.Module):
    """The figures of `describe` as one vector.

    Args:
        channels: Channels in.
        width: Width out.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8 * channels + 1, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[batch, time, channels] and bool mask [batch, time] → [batch, width]."""
        return self.layers(describe(values, mask))
