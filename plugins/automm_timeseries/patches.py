"""Modules of the patch transformer; padded steps and patches never reach a row's features."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class InstanceNorm(nn.Module):
    """Standardises every channel of a series by its own mean and deviation (Kim et al. 2022, RevIN)."""

    def forward(self, values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """[batch, time, channels] and real steps [batch, time, 1] → [batch, time, channels], zero at padded steps."""
        length = real.sum(1, keepdim=True).clamp(min=1)
        centred = (values - (values * real).sum(1, keepdim=True) / length) * real
        # The floor keeps a (nearly) constant channel from becoming noise of size one.
        return centred / (centred.square().sum(1, keepdim=True) / length + 1e-3).sqrt()


class PatchEmbedding(nn.Module):
    """Cuts channels into patches of time steps and embeds each, with its distance from the series' end.

    Args:
        channels: Channels embedded together.
        width: Width of the tokens.
        patch: Steps of a patch.
        stride: Steps from one patch to the next.
        most: Most patches of a series.
    """

    def __init__(self, channels: int, width: int, patch: int, stride: int, most: int) -> None:
        super().__init__()
        self.patch, self.stride = patch, stride
        # One more channel tells real steps from padding in a patch that is partly filled.
        self.embed = nn.Conv1d(channels + 1, width, patch, stride)
        self.position = nn.Parameter(0.02 * torch.randn(most, width))

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch, channels, time] and mask [batch, time] → tokens [batch, patches, width] and mask [batch, patches]."""
        both = torch.cat([values, mask[:, None].to(values.dtype)], 1)
        tokens = self.embed(F.pad(both, (0, self.patch - 1))).mT
        # (max_pool1d would fix the length in the exported graph.)
        steps = F.pad(mask[:, None, None].to(values.dtype), (0, self.patch - 1))
        real = F.max_pool2d(steps, (1, self.patch), (1, self.stride))[:, 0, 0] > 0  # [batch, patches]
        later = real.sum(1, keepdim=True) - real.long().cumsum(1)  # patches that follow
        return tokens + self.position[later.clamp(0, len(self.position) - 1)], real


class Block(nn.Module):
    """Self-attention and a two-layer network, each after a layer normalisation and beside a shortcut.

    Args:
        width: Width of the tokens.
        heads: Attention heads.
        dropout: Share of values dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Tokens [batch, patches, width] and mask [batch, patches] → tokens."""
        read = self.read(self.before(tokens)).unflatten(-1, (3, self.heads, -1))  # [batch, patches, 3, heads, part]
        query, key, value = (part.transpose(1, 2) for part in read.unbind(2))
        # Finite, so that a row without any real patch stays free of NaN.
        hidden = (~mask)[:, None, None].to(tokens.dtype) * -1e4
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden)
        tokens = tokens + self.dropout(self.write(heard.transpose(1, 2).flatten(2)))
        return tokens + self.dropout(self.network(self.between(tokens)))
