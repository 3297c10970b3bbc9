"""Three made-up inputs of several lengths, in which every combination of inputs is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automm.api import torch
from automm.core.features import Features

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = {"words": 6, "picture": 4, "table": 3}
LENGTHS = {"words": 4, "picture": 3, "table": 1}


def some_inputs(rows: int = 16, seed: int = 0, missing: bool = True) -> dict[str, Features]:
    """Features of the three inputs; row n misses those whose bit of n is set, row 7 all."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for bit, (name, width) in enumerate(WIDTHS.items()):
        time = LENGTHS[name]
        mask = torch.arange(time) < torch.randint(1, time + 1, (rows, 1), generator=generator)
        if missing:
            mask &= (torch.arange(rows)[:, None] >> bit) % 2 == 0
        tokens = torch.randn(rows, time, width, generator=generator)
        made[name] = Features(tokens * mask[:, :, None], mask)
    return made


def rows_of(inputs: Mapping[str, Features], rows: Any) -> dict[str, Features]:
    """Some rows."""
    return {name: Features(tokens[rows], mask[rows]) for name, (tokens, mask) in inputs.items()}


def tensors_of(inputs: Mapping[str, Features]) -> dict[str, Tensor]:
    """The features as plain tensors by name."""
    return {f"{name}.{part}": tensor for name, f in inputs.items() for part, tensor in f._asdict().items()}


def noisy(inputs: Mapping[str, Features]) -> dict[str, Features]:
    """The same with other values behind the masks."""
    return {name: Features(tokens + 5.0 * ~mask[:, :, None], mask) for name, (tokens, mask) in inputs.items()}


def longer(inputs: Mapping[str, Features]) -> dict[str, Features]:
    """The same with more padding."""
    pad = torch.nn.functional.pad
    return {name: Features(pad(tokens, (0, 0, 0, 3)), pad(mask, (0, 3))) for name, (tokens, mask) in inputs.items()}
