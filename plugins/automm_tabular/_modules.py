"""Network parts of the tabular encoder. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from rtdl_num_embeddings import PeriodicEmbeddings, PiecewiseLinearEmbeddings
from torch import nn


class Columns(nn.Module):
    """A table's arrays → one embedding for each number, date and category.

    Numbers get piecewise-linear or periodic embeddings (Gorishniy et al. 2022, "On embeddings for numerical features in
    tabular deep learning"). What was never seen in training (a missing cell, an unknown category) starts as zero and so
    counts as the median or as no category.

    Args:
        bins: Bin edges of each number.
        dates: Number of date columns.
        sizes: Number of codes of each category column.
        width: Width of an embedding.
        numeric: "piecewise_linear" or "periodic".
    """

    def __init__(self, bins: list[list[float]], dates: int, sizes: list[int], width: int, numeric: str) -> None:
        super().__init__()
        self.count = len(bins) + dates + len(sizes)
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
