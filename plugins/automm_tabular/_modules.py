"""Network parts of the tabular encoders. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rtdl_num_embeddings import PeriodicEmbeddings, PiecewiseLinearEmbeddings
from torch import nn
from torch.nn import functional as F


class Columns(nn.Module):
    """A table's arrays → one embedding for each number, date, category and list.

    Numbers get piecewise-linear or periodic embeddings (Gorishniy et al. 2022, "On embeddings for numerical features in
    tabular deep learning"). What was never seen in training (a missing cell, an unknown category) starts as zero and so
    counts as the median or as no category.

    Args:
        bins: Bin edges of each number.
        dates: Number of date columns.
        sizes: Number of codes of each category column.
        lengths: Number of entries of each list column.
        width: Width of an embedding.
        numeric: "piecewise_linear" or "periodic".
    """

    def __init__(
        self, bins: list[list[float]], dates: int, sizes: list[int], lengths: list[int], width: int, numeric: str
    ) -> None:
        super().__init__()
        self.count = len(bins) + dates + len(sizes) + len(lengths)
        self.lengths = lengths
        if bins:
            self.numbers: nn.Module = (
                PeriodicEmbeddings(len(bins), width, lite=False, frequency_init_scale=0.1)
                if numeric == "periodic"
                else PiecewiseLinearEmbeddings([torch.tensor(e) for e in bins], width, activation=False, version="B")
            )
            self.missing = nn.Parameter(torch.zeros(len(bins), width))
        self.dates = nn.ModuleList(nn.Linear(8, width) for _ in range(dates))
        if sizes:
            self.categories = nn.Embedding(sum(sizes), width)
            offsets = torch.tensor([0, *sizes[:-1]]).cumsum(0)
            self.register_buffer("offsets", offsets, persistent=False)
            nn.init.normal_(self.categories.weight, std=width**-0.5)
            with torch.no_grad():
                self.categories.weight[offsets] = 0
                self.categories.weight[offsets + 1] = 0
        self.lists = nn.ModuleList(nn.Linear(length, width, bias=False) for length in lengths)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Arrays of the table, [batch, …] each, to [batch, entries, width]."""
        parts = []
        if "number" in arrays:
            embedded = self.numbers(arrays["number"])  # [batch, n, width]
            parts.append(embedded + arrays["number_missing"][..., None] * self.missing)
        if "cyclic" in arrays:
            parts.append(torch.stack([layer(arrays["cyclic"][:, i]) for i, layer in enumerate(self.dates)], 1))
        if "category" in arrays:
            parts.append(self.categories(arrays["category"] + self.offsets))  # [batch, m, width]
        if "items" in arrays:
            held = [
                part / part.sum(1, keepdim=True).clamp(min=1).sqrt() for part in arrays["items"].split(self.lengths, 1)
            ]
            parts.append(torch.stack([layer(part) for layer, part in zip(self.lists, held, strict=True)], 1))
        return torch.cat(parts, 1)


class Block(nn.Module):
    """A pre-norm residual block (Gorishniy et al. 2021, "Revisiting deep learning models for tabular data")."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, width] → [batch, width]."""
        return x + self.layers(x)


class TransformerBlock(nn.Module):
    """A block of the FT-Transformer (Gorishniy et al. 2021): pre-norm attention over columns, then a ReGLU layer.

    Args:
        width: Width of a token.
        heads: Attention heads; they divide the width.
        dropout: Share of attention weights and hidden features dropped in training.
        first: The first block attends to its tokens as they are, as in the paper.
    """

    def __init__(self, width: int, heads: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm: nn.Module = nn.Identity() if first else nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        hidden = width * 4 // 3
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * hidden)
        self.drop = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, asked: int | None = None) -> torch.Tensor:
        """Tokens [batch, time, width] → [batch, time, width]; only the first `asked` tokens if it is given."""
        normed = self.attention_norm(x)
        query = self.query(normed[:, :asked]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(normed).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        rate = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)  # [batch, heads, time, size]
        x = x[:, :asked] + self.out(mixed.transpose(1, 2).flatten(2))
        left, right = self.gated(self.norm(x)).chunk(2, 2)
        return x + self.down(self.drop(left * F.relu(right)))
