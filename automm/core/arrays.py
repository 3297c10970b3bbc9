"""Arrays that go into the model: their specification and how rows become a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class ArraySpec(NamedTuple):
    """One array of a processor, without its batch axis.

    Attributes:
        dtype: NumPy dtype name ("float32", "int64", "uint8", "bool").
        shape: Sizes; a string names a size that varies by row and is padded in a batch ("time").
        pad: What padding holds.
    """

    dtype: str
    shape: tuple[int | str, ...]
    pad: float = 0

    @property
    def fixed(self) -> bool:
        """Whether every row has the same shape."""
        return not any(isinstance(size, str) for size in self.shape)


def collate(items: Sequence[Mapping[str, np.ndarray]], specs: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """Stacks rows into batch arrays, padding the sizes that vary.

    Args:
        items: One mapping of arrays per row, shaped as `specs` says.
        specs: Array name → specification.

    Returns:
        Array name → [rows, …].
    """
    batch = {}
    for name, spec in specs.items():
        rows = [np.asarray(item[name], spec.dtype) for item in items]
        if spec.fixed:
            shape = tuple(int(s) for s in spec.shape)
            batch[name] = np.stack(rows) if rows else np.empty((0, *shape), spec.dtype)
            continue
        sizes = [
            max((row.shape[axis] for row in rows), default=1) if isinstance(size, str) else size
            for axis, size in enumerate(spec.shape)
        ]
        out = np.full((len(rows), *sizes), spec.pad, spec.dtype)
        for target, row in zip(out, rows, strict=True):
            target[tuple(slice(size) for size in row.shape)] = row
        batch[name] = out
    return batch
