"""Modules that the fusions are built from."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Project(nn.Sequential):
    """Brings one input's features, of whatever scale, to the joint width."""

    def __init__(self, width: int, hidden: int) -> None:
        # The norm comes second: before the linear map it would wipe out the mean and the scale of narrow features.
        super().__init__(nn.Linear(width, hidden), nn.LayerNorm(hidden))


def mlp(width: int, hidden: int, layers: int, dropout: float) -> nn.Sequential:
    """A linear map to `hidden`, then `layers` residual blocks, then a layer norm."""
    blocks = [Residual(hidden, dropout) for _ in range(layers)]
    start = nn.Linear(width, hidden) if width != hidden else nn.Identity()
    return nn.Sequential(start, *blocks, nn.LayerNorm(hidden))


class Residual(nn.Module):
    """x + dropout(W₂ GELU(W₁ norm(x)))."""

    def __init__(self, width: int, dropout: float, expand: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expand * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expand * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any shape [..., width] → the same shape."""
        return x + self.net(x)


class Attention(nn.Module):
    """x + self-attention(norm(x)) over real tokens, with plain operations that every exporter knows."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens [batch, time, width] and mask [batch, time] (at least one True a row) → [batch, time, width]."""
        split = self.query_key_value(self.norm(x)).unflatten(2, (3, self.heads, -1))  # [batch, time, 3, heads, size]
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # [batch, heads, time, size] each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """One pre-norm transformer layer (Vaswani et al. 2017; pre-norm: Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = Residual(width, dropout, expand=4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens [batch, time, width] and mask [batch, time] → [batch, time, width]."""
        return self.feed_forward(self.attention(x, mask))


def embedding(*shape: int) -> nn.Parameter:
    """A learned vector (or several) with the usual small start."""
    return nn.Parameter(torch.randn(shape) * 0.02)
