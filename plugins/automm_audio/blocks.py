"""Modules of the spectrogram network; none of them lets padded frames into a row's features."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class FrameNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics come from real frames only."""

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """[batch, width, time, bands], `real` [batch, 1, time, 1] of 0 and 1 → the same shape."""
        if self.training:
            count = (real.sum() * x.shape[3]).clamp(min=1)
            mean = (x * real).sum((0, 2, 3)) / count
            var = ((x - mean[:, None, None]).square() * real).sum((0, 2, 3)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(var.to(self.running_var.dtype), self.momentum)
                self.num_batches_tracked += 1
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, normalised before each; halves time and bands.

    He et al. 2016, "Identity Mappings in Deep Residual Networks".

    Args:
        width: Channels in.
        out: Channels out.
        stride: 2 halves time and bands.
    """

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = FrameNorm(width)
        self.conv1 = nn.Conv2d(width, out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = FrameNorm(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        nn.init.zeros_(self.conv2.weight)  # every block starts as its shortcut
        self.shortcut = (
            nn.Identity() if (width, stride) == (out, 1) else nn.Conv2d(width, out, 1, stride=stride, bias=False)
        )

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch, width, time, bands] and which frames are real [batch, 1, time, 1] → both, after the stride."""
        y = self.conv1(torch.relu(self.norm1(x, real)) * real)
        after = F.max_pool2d(real, (1, 1), stride=(self.stride, 1))
        y = self.conv2(torch.relu(self.norm2(y, after)) * after)
        return (self.shortcut(x) + y) * after, after


def mask_spans(mel: torch.Tensor, real: torch.Tensor, strength: float) -> torch.Tensor:
    """Silences two spans of bands and two of time in every row (SpecAugment, Park et al. 2019), without its warping.

    Draws from torch's global generator, so a seed fixes the result.

    Args:
        mel: Float tensor [batch, time, mels], normalised to mean 0.
        real: Float tensor [batch, time, 1] of 0 and 1.
        strength: 0 (nothing) to 1 (each span up to a fifth of the bands or of the real frames).

    Returns:
        A tensor of the same shape.
    """
    batch, time, mels = mel.shape
    length = real.sum(1)  # [batch, 1]
    keep = torch.ones_like(mel)
    for _ in range(2):
        for axis, size in ((2, torch.full_like(length, mels)), (1, length)):
            wide = torch.rand(batch, 1, device=mel.device) * 0.2 * strength * size
            start = torch.rand(batch, 1, device=mel.device) * (size - wide)
            place = torch.arange(mels if axis == 2 else time, device=mel.device)
            inside = (place >= start) & (place < start + wide)  # [batch, mels or time]
            keep = keep * (~inside).to(mel.dtype).unsqueeze(3 - axis)
    return mel * keep
