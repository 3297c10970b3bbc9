"""Batches of NumPy arrays from stored inputs: shuffled, resampled, and shared out over processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from automm.data.arrays import ArrayStore

WINDOW = 16
"""Batches among which rows are sorted by length."""


def sampling_weights(classes: np.ndarray, method: Literal["over", "under", "sqrt"]) -> tuple[np.ndarray, int]:
    """Weights with which rows are drawn against class imbalance, and how many are drawn in an epoch.

    Args:
        classes: Class number per row, int [n].
        method: "over": all classes equally often, n draws; "under": the same, with as many draws as the smallest class
            allows without repetition; "sqrt": in proportion to the square root of the class's size, n draws.

    Returns:
        Weights, float [n], and the number of draws.
    """
    _, at, counts = np.unique(classes, return_inverse=True, return_counts=True)
    weights = 1.0 / np.sqrt(counts)[at] if method == "sqrt" else 1.0 / counts[at]
    return weights, int(counts.min() * len(counts)) if method == "under" else len(classes)


class Batches:
    """Iterates over batches; every process gets its share of each, and all get the same number.

    The order depends on seed and epoch only, not on the number of processes: step s trains on the same rows whether one
    process holds them or eight. The rows are spread evenly over the steps, so there is no small last batch and no row
    is dropped.

    A batch is a dictionary: "<slug>.<array>" and "<slug>.present" for every input, "target" (if there is one), "row"
    (row number in the table, int64) and "valid" (bool; False on rows that only fill up a process's share in evaluation
    and must not be counted).

    Args:
        stores: Slug → arrays; all over the same rows.
        target: Coded target, one entry per stored row.
        batch_size: Rows per step over all processes.
        positions: Stored rows to use; all by default.
        shuffle: Training: a new order in every epoch, and filling rows count. Otherwise the order of `positions`.
        seed: Seed of the order.
        rank: Number of this process.
        world: Number of processes.
        weights: With `shuffle`: how often each of `positions` is drawn, relative to the others; see `sampling_weights`.
        draws: Rows drawn per epoch; by default as many as there are positions.
        by_length: With `shuffle`: put rows of similar length in a batch, which saves padding.

    Raises:
        ValueError: If there are no rows, or the stores' rows differ.
    """

    def __init__(
        self,
        stores: Mapping[str, ArrayStore],
        target: np.ndarray | None,
        batch_size: int,
        *,
        positions: np.ndarray | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        weights: np.ndarray | None = None,
        draws: int | None = None,
        by_length: bool = False,
    ) -> None:
        first = next(iter(stores.values()))
        if any(not np.array_equal(store.rows, first.rows) for store in stores.values()):
            raise ValueError("the inputs' stores hold different rows")
        if target is not None and len(target) != len(first):
            raise ValueError(f"{len(target)} targets for {len(first)} rows")
        self.stores, self.target = dict(stores), target
        self.positions = np.arange(len(first)) if positions is None else np.asarray(positions, np.int64)
        if not len(self.positions):
            raise ValueError("there are no rows")
        if weights is not None and (
            len(weights) != len(self.positions) or not np.all(weights >= 0) or not weights.any()
        ):
            raise ValueError(
                f"{len(weights)} weights for {len(self.positions)} rows; none may be negative, nor all zero"
            )
        self.batch_size, self.shuffle, self.seed, self.rank, self.world = batch_size, shuffle, seed, rank, world
        self.weights, self.epoch = weights, 0
        self.draws = draws if draws is not None and weights is not None else len(self.positions)
        lengths = [store.lengths for store in stores.values()] if by_length else []
        known = [length for length in lengths if length is not None]
        self._lengths: np.ndarray | None = np.sum(known, axis=0) if known else None

    def __len__(self) -> int:
        return -(-self.draws // self.batch_size)

    @property
    def rows(self) -> int:
        """Rows per epoch over all processes, filling rows not counted."""
        return self.draws

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch, and with it the order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        random = np.random.default_rng((self.seed, self.epoch))
        for step in self._steps(random):
            fill = -len(step) % self.world
            mine = np.resize(step, len(step) + fill)[self.rank :: self.world]
            valid = np.arange(len(step) + fill)[self.rank :: self.world] < len(step)
            yield self._batch(mine, valid | self.shuffle)

    def _steps(self, random: np.random.Generator) -> list[np.ndarray]:
        """The positions of each step, over all processes."""
        if not self.shuffle:
            return np.array_split(self.positions, len(self))
        order = self._draw(random) if self.weights is not None else random.permutation(self.positions)
        if self._lengths is None:
            return np.array_split(order, len(self))
        windows = np.array_split(order, -(-len(self) // WINDOW))
        order = np.concatenate([window[np.argsort(self._lengths[window], kind="stable")] for window in windows])
        steps = np.array_split(order, len(self))
        return [steps[at] for at in random.permutation(len(steps))]

    def _draw(self, random: np.random.Generator) -> np.ndarray:
        """Systematic sampling: a row that is to come x times on average comes floor(x) or ceil(x) times."""
        assert self.weights is not None
        order = random.permutation(len(self.positions))
        order = order[
            np.argsort(self.weights[order], kind="stable")
        ]  # classes in one piece: their counts come out, too
        ends = np.cumsum(self.weights[order] / self.weights.sum() * self.draws)
        picks = np.searchsorted(ends, random.random() + np.arange(self.draws), side="right")
        drawn = order[np.minimum(picks, len(order) - 1)]
        return random.permutation(self.positions[drawn])

    def _batch(self, positions: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
        batch: dict[str, np.ndarray] = {}
        for slug, store in self.stores.items():
            for name, array in store.batch(positions).items():
                batch[f"{slug}.{name}"] = array
            batch[f"{slug}.present"] = store.present[positions]
        if self.target is not None:
            batch["target"] = self.target[positions]
        batch["row"] = next(iter(self.stores.values())).rows[positions]
        batch["valid"] = valid
        return batch
