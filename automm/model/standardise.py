"""Standardisation that learns its statistics while training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REACH = 5.0
"""Standardised values are cut off at so many standard deviations."""


class Standardise(nn.Module):
    """Subtracts the mean and divides by the standard deviation of all rows seen in training; NaN becomes 0.

    Unlike batch normalisation it uses the running statistics in training as well, so that a batch of one row works and
    rows do not depend on each other. Statistics are merged batch by batch (Chan et al. 1979).

    Args:
        size: Number of columns.
    """

    count: Tensor
    mean: Tensor
    square: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(size))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("square", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """Values [batch, size], NaN where unknown → [batch, size] without NaN."""
        if self.training:
            with torch.no_grad():
                self._see(x)
        deviation = (self.square / self.count.clamp(min=1)).sqrt()
        scaled = (x - self.mean) / torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        return torch.where(torch.isnan(scaled), torch.zeros_like(scaled), scaled).clamp(-REACH, REACH)

    def _see(self, x: Tensor) -> None:
        known = ~torch.isnan(x)
        n = known.sum(0)
        values = torch.where(known, x, torch.zeros_like(x))
        mean = values.sum(0) / n.clamp(min=1)
        square = (torch.where(known, x - mean, torch.zeros_like(x)) ** 2).sum(0)
        total = self.count + n
        share = n / total.clamp(min=1)
        shift = mean - self.mean
        self.square += square + shift**2 * self.count * share
        self.mean += shift * share
        self.count.copy_(total)
