"""Greedy ensemble selection with replacement (Caruana et al. 2004) on validation answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from automm.core.halves import gain_of, halves

Answers = Mapping[str, Any]
Score = Callable[[Answers, np.ndarray], float]
"""(answers, row positions) → a number, larger is better; minus infinity where the metric is not defined."""
Average = Callable[[Sequence[Answers], Sequence[float]], Answers]

POOL = 16
"""Most candidates, the best first."""
MEMBERS = 5
"""Most different models: each is run at every prediction."""
ROUNDS = 15
"""Most additions of a model; the least weight is 1/15."""


def select(
    pool: Sequence[Answers],
    rows: int,
    score: Score,
    average: Average,
    seed: int,
    members: int = MEMBERS,
    guide: Score | None = None,
) -> list[float]:
    """Weights of the models, 0 for those left out.

    Selecting on the rows that also judge would always favour an ensemble. So the gain is measured on halves: models are
    selected on one half and judged on the other, several times; an ensemble is kept only if it wins there on average by
    more than the standard error of that gain. With a guide it is enough that the guide wins so clearly and the metric
    does not lose by more than its spread: a count of right rows is too coarse to tell similar models apart.

    Args:
        pool: Each model's answers on the same rows, the best model first.
        rows: Number of rows.
        score: The metric, larger is better.
        average: Weighted mean of answers.
        seed: Of the halves.
        members: Most different models.
        guide: A smooth metric to select by in place of `score`, larger is better.

    Returns:
        One weight per model, adding to 1; all on the first if nothing else pays. With a guide it may be all on another.
    """
    pool = pool[:POOL]
    alone = [1.0] + [0.0] * (len(pool) - 1)
    if len(pool) < 2 or members < 2:
        return alone
    by = guide or score
    gains, guided = [], []
    for choose, judge in halves(rows, seed):
        scores = [score(answers, choose) for answers in pool]
        single = pool[int(np.argmax(scores))]
        joint = average(pool, _greedy(pool, choose, by, average, members))
        if np.isfinite(max(scores)):  # a half may lack a class that the metric needs
            gains.append(score(joint, judge) - score(single, judge))
            guided.append(by(joint, judge) - by(single, judge))
    unharmed = len(gains) > 1 and np.mean(gains) >= -np.std(gains)
    if gain_of(gains) is None and (guide is None or not unharmed or gain_of(guided) is None):
        return alone
    return _greedy(pool, np.arange(rows), by, average, members)


def _greedy(pool: Sequence[Answers], rows: np.ndarray, score: Score, average: Average, members: int) -> list[float]:
    """Adds the model that helps most, again and again, until nothing helps; the first is added in any case."""
    counts = [0] * len(pool)
    best = -np.inf
    for _ in range(ROUNDS):
        full = sum(count > 0 for count in counts) >= members
        options = []
        for at, count in enumerate(counts):
            if full and not count:
                continue
            trial = [c + (i == at) for i, c in enumerate(counts)]
            options.append((score(average(pool, [c / sum(trial) for c in trial]), rows), -at))
        value, index = max(options)
        if any(counts) and value <= best:
            break
        best = value
        counts[-index] += 1
    return [count / sum(counts) for count in counts]
