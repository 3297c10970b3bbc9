"""Computing once what an encoder never trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from automm.core.arrays import ArraySpec
from automm.core.kinds import Encoder
from automm.data.arrays import ArrayStore
from automm.model.assemble import MASK, TOKENS
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry

BATCH = 64
"""Rows that are encoded together, of similar length."""


def extracted_specs(width: int) -> dict[str, ArraySpec]:
    """The arrays of stored features; half precision is what their noise allows."""
    return {TOKENS: ArraySpec("float16", ("time", width)), MASK: ArraySpec("bool", ("time",))}


class Extraction:
    """Runs an encoder's `extract` over a store.

    Args:
        encoder: With `extract`.
        store: What its processor gave.
        device: Where to compute.
        registry: To name the owner of an encoder that raises.
    """

    def __init__(self, encoder: Encoder, store: ArrayStore, device: torch.device, registry: Registry) -> None:
        self._encoder = encoder.to(device).eval()
        self._store, self._device, self._registry = store, device, registry
        self.width = self._extract(store.firsts[:1])[0].shape[2]

    @torch.no_grad()
    def _extract(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        arrays = {
            name: torch.from_numpy(array).to(self._device) for name, array in self._store.batch(positions).items()
        }
        with blamed(self._registry, type(self._encoder), "extract"):
            tokens, mask = self._encoder.extract(arrays)
        return tokens.float().cpu().numpy(), mask.cpu().numpy()

    def __call__(self, positions: np.ndarray) -> Mapping[str, list[np.ndarray]]:
        """Tokens and mask of every row without padding; rows of similar length are computed together."""
        lengths = self._store.lengths
        order = positions if lengths is None else positions[np.argsort(lengths[positions], kind="stable")]
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            tokens, mask = self._extract(batch)
            for at, row_tokens, row_mask in zip(batch.tolist(), tokens, mask, strict=True):
                real = int(np.flatnonzero(row_mask).max(initial=0)) + 1
                found[at] = row_tokens[:real].astype(np.float16), row_mask[:real]
        rows = [found[at] for at in positions.tolist()]
        return {TOKENS: [tokens for tokens, _ in rows], MASK: [mask for _, mask in rows]}
