"""Modules that the fusions are built from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automm.api import Features


class Project(nn.Sequential):
    """Brings one input's features, of whatever scale, to the joint width."""

    def __init__(self, width: int, hidden: int) -> None:
        # The norm comes second: before the linear map it would wipe out the mean and the scale of narrow features.
        super().__init__(nn.Linear(width, hidden), nn.LayerNorm(hidden))


class Vectors(nn.Module):
    """One vector per input: the projected mean of its tokens, or a learned vector where it is missing."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([Project(width, hidden) for width in widths])
        self.missing = embedding(len(widths), hidden)

    def forward(self, inputs: Sequence[Features]) -> tuple[Tensor, Tensor]:
        """Features of every input → vectors [batch, inputs, hidden] and which are present [batch, inputs]."""
        present = torch.stack([features.present for features in inputs], 1)
        means = [project(features.mean()) for project, features in zip(self.project, inputs, strict=True)]
        return torch.where(present[:, :, None], torch.stack(means, 1), self.missing), present


class Tokens(nn.Module):
    """The projected tokens of every input, marked by where they come from; a learned token where it is missing."""

    def __init__(self, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.project = nn.ModuleList([Project(width, hidden) for width in widths])
        self.origin = embedding(len(widths), hidden)
        self.missing = embedding(len(widths), hidden)

    def forward(self, inputs: Sequence[Features]) -> list[Features]:
        """Features of every input → the same of width hidden, with at least one real token per row."""
        found = []
        for features, project, origin, missing in zip(inputs, self.project, self.origin, self.missing, strict=True):
            absent = ~features.present[:, None]  # [batch, 1]
            tokens = project(features.tokens) + origin
            first = torch.where(absent[:, :, None], missing, tokens[:, :1])
            mask = torch.cat([features.mask[:, :1] | absent, features.mask[:, 1:]], 1)
            found.append(Features(torch.cat([first, tokens[:, 1:]], 1), mask))
        return found


def joined(inputs: Sequence[Features]) -> Features:
    """The tokens of several inputs one after the other."""
    return Features(torch.cat([f.tokens for f in inputs], 1), torch.cat([f.mask for f in inputs], 1))


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
    """x + attention(norm(x), norm(context)) over real tokens, with plain operations that every exporter knows."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Features) -> Tensor:
        """Tokens [batch, time, width] look at a context (at least one real token a row) → [batch, time, width]."""
        query = self.query(self.norm(x)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [batch, heads, time, size]
        split = self.key_value(self.norm(context.tokens)).unflatten(2, (2, self.heads, -1))
        key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # [batch, heads, context, size] each
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=context.mask[:, None, None, :])
        return x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """One pre-norm transformer layer (Vaswani et al. 2017; pre-norm: Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.feed_forward = Residual(width, dropout, expand=4)

    def forward(self, x: Features, context: Features | None = None) -> Features:
        """Tokens look at a context, by default at themselves."""
        tokens = self.feed_forward(self.attention(x.tokens, x if context is None else context))
        return Features(tokens, x.mask)


class Weights(nn.Module):
    """What each decision counts: `learned`, one number each, or `confidence`, told row by row by the decision."""

    def __init__(self, kind: str, decisions: int, width: int) -> None:
        super().__init__()
        shape = (decisions,) if kind == "learned" else (decisions, width)
        self.score = nn.Parameter(torch.zeros(shape))  # all count the same at first

    def forward(self, joint: Features) -> Tensor:
        """Decisions [batch, decisions, width] → weights [batch, decisions]."""
        scores = self.score if self.score.ndim == 1 else (joint.tokens * self.score).sum(2)
        floor = torch.full((), float("-inf"), device=joint.tokens.device)
        return torch.where(joint.mask, scores.float(), floor).softmax(1)


def embedding(*shape: int) -> nn.Parameter:
    """A learned vector (or several) with the usual small start."""
    return nn.Parameter(torch.randn(shape) * 0.02)
