"""How much better one model is than another on the same rows, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from automm.core.kinds import Metric

RESAMPLES = 200
FEWEST_RESAMPLES = 50
MOST_DRAWN = 4_000_000
"""Rows drawn in all, if that leaves `FEWEST_RESAMPLES`: the interval of a large table is narrow anyhow."""
LEVEL = 0.95


class Answered(NamedTuple):
    """A model's answers on some rows.

    Attributes:
        metric: The metric as the model's answers are read.
        answers: By name, [rows, …].
        rows: Row numbers [rows], ascending.
        target: Coded target [rows] or [rows, size].
    """

    metric: Metric
    answers: Mapping[str, torch.Tensor]
    rows: torch.Tensor
    target: torch.Tensor


def difference(one: Answered, other: Answered, seed: int) -> dict[str, Any]:
    """How much better one model is than another: the paired bootstrap (Efron 1979) on the rows that both can read.

    Args:
        one: A model.
        other: The model that it is compared with.
        seed: Of the samples.

    Returns:
        "gain" (the metric of one minus that of the other, with the sign turned where less is better: more than 0 is
        better), "low" and "high" (ends of its 95 % interval), "rows"; None where the metric is not defined.
    """
    common, at_one, at_other = np.intersect1d(one.rows.numpy(), other.rows.numpy(), return_indices=True)
    count = len(common)
    if not count:
        return {"gain": None, "low": None, "high": None, "rows": 0}
    sign, random = 1.0 if one.metric.maximize else -1.0, np.random.default_rng(seed)

    def gain(at: np.ndarray) -> float:
        values = []
        for model, positions in ((one, at_one), (other, at_other)):
            own = torch.from_numpy(positions[at])
            answers = {name: tensor[own] for name, tensor in model.answers.items()}
            values.append(float(model.metric.compute(answers, model.target[own])))
        return sign * (values[0] - values[1])

    resamples = max(FEWEST_RESAMPLES, min(RESAMPLES, MOST_DRAWN // count))
    drawn = np.array([gain(random.integers(count, size=count)) for _ in range(resamples)])
    known = drawn[np.isfinite(drawn)]  # a sample may lack a class that the metric needs
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    found = {"gain": gain(np.arange(count)), "low": float(low), "high": float(high)}
    return {**{name: value if np.isfinite(value) else None for name, value in found.items()}, "rows": count}
