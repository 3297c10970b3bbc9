"""Judging a choice on rows that did not make it: chosen on one half of the validation rows, judged on the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

import numpy as np

SPLITS = 6
"""How often the rows are halved; each half chooses once and judges once."""


def halves(rows: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of row positions: those to choose on, and those to judge on.

    Args:
        rows: Number of rows.
        seed: Of the splits.
    """
    random = np.random.default_rng(seed)
    for _ in range(SPLITS):
        order = random.permutation(rows)
        one, two = order[: rows // 2], order[rows // 2 :]
        yield one, two
        yield two, one


def gain_of(gains: Sequence[float]) -> float | None:
    """The mean gain on the judging halves if it exceeds its standard error, None if the choice does not pay.

    Gains that are not finite are left out: a half may lack a class that the metric needs.
    """
    known = [gain for gain in gains if math.isfinite(gain)]
    if len(known) < 2:
        return None
    mean = statistics.fmean(known)
    return mean if mean > statistics.stdev(known) / math.sqrt(len(known)) else None
