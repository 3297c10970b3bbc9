"""Computing once what an encoder never trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from automm.core.arrays import ArraySpec
from automm.core.kinds import Encoder
from automm.data.arrays import ArrayStore
from automm.model.assemble import MASK, TOKENS
from automm.plugin.blame import blamed
from automm.plugin.registry import Registry

BATCH = 256
"""Most rows that are encoded together, of similar length."""
FIXED_BATCH = 64
"""The same for rows that are all alike: pictures, say."""
CPU_TOKENS = 1024
"""Rows times length that are encoded together, padding included: more do not fit a processor's caches."""
TOKENS_AT_ONCE = 8192
"""The same on any other device."""


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

    def __call__(self, positions: np.ndarray, progress: Callable[[int, int], None]) -> Mapping[str, list[np.ndarray]]:
        """Tokens and mask of every row without padding; rows of similar length are computed together.

        Args:
            positions: Rows of the store.
            progress: Told after every batch how many of them are as good as done, going by their tokens.
        """
        lengths = self._store.lengths
        order = positions if lengths is None else positions[np.argsort(lengths[positions], kind="stable")]
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        weight = np.ones(len(order)) if lengths is None else lengths[order].astype(float)
        share = np.cumsum(weight) / weight.sum()
        done = 0
        at_once = CPU_TOKENS if self._device.type == "cpu" else TOKENS_AT_ONCE
        for batch in _batches(order, None if lengths is None else lengths[order], at_once):
            tokens, mask = self._extract(batch)
            for at, row_tokens, row_mask in zip(batch.tolist(), tokens, mask, strict=True):
                real = int(np.flatnonzero(row_mask).max(initial=0)) + 1
                found[at] = row_tokens[:real].astype(np.float16), row_mask[:real]
            done += len(batch)
            progress(int(share[done - 1] * len(order)), len(order))
        rows = [found[at] for at in positions.tolist()]
        return {TOKENS: [tokens for tokens, _ in rows], MASK: [mask for _, mask in rows]}


def _batches(order: np.ndarray, lengths: np.ndarray | None, at_once: int) -> Iterator[np.ndarray]:
    """Rows in order of their length, as many at a time as their tokens allow."""
    start = 0
    while start < len(order):
        if lengths is None:
            end = start + FIXED_BATCH
        else:
            most = np.arange(1, len(order) - start + 1) * lengths[start:]  # tokens, were the batch to end there
            end = start + int(np.clip(np.searchsorted(most, at_once, "right"), 1, BATCH))
        yield order[start:end]
        start = end
