"""How probabilities are read as classes and labels, and how that reading is tuned on validation rows. Torch-free.

A reading is plain JSON: {"weights": [one per class]}, {"cuts": [one fewer than classes]} or {"thresholds": [one per
label]}. A tuned one is kept only if it raises the metric on halves of the rows that did not tune it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from automm.api import gain_of, halves
from automm_tasks.scores import CLASS_SCORES, LABEL_SCORES, confusion, f1, label_score

Reading = dict[str, Any]
Tuner = Callable[[np.ndarray, np.ndarray], Reading]

FEWEST_ROWS = 30
"""With fewer validation rows nothing is tuned."""
MOST_ROWS = 10_000
"""Of more validation rows a sample is tuned on."""
MOST_CLASSES = 50
"""With more classes nothing is tuned: a class has too few rows."""


def classes(
    probabilities: np.ndarray, weights: Sequence[float] | None = None, cuts: Sequence[float] | None = None
) -> np.ndarray:
    """Probabilities [rows, classes] → class indices [rows].

    Args:
        probabilities: One row per row of the table.
        weights: The class with the largest weight times probability is taken; None: the most probable one.
        cuts: For ordered classes: the expected class number is cut here, ascending; class k lies above k cuts.
    """
    if cuts is not None:
        return np.searchsorted(np.asarray(cuts, float), expected(probabilities), side="right")
    if weights is not None:
        probabilities = probabilities * np.asarray(weights, probabilities.dtype)
    return probabilities.argmax(1)


def expected(probabilities: np.ndarray) -> np.ndarray:
    """The expected class number [rows]."""
    found: np.ndarray = (probabilities.astype(float) * np.arange(probabilities.shape[1])).sum(1)
    return found


def labels(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Probabilities [rows, labels] → whether each label is predicted, bool [rows, labels]."""
    found: np.ndarray = probabilities >= np.asarray(thresholds, probabilities.dtype)
    return found


def decide(
    probabilities: np.ndarray,
    target: np.ndarray,
    tuners: Sequence[Tuner],
    score: Callable[[np.ndarray, np.ndarray, Reading], float],
    seed: int,
) -> Reading:
    """The tuned reading that raises the score most on rows that did not tune it, with that `gain`; empty if none does.

    Args:
        probabilities: [rows, size].
        target: [rows] or [rows, size].
        tuners: From (probabilities, target) to a reading.
        score: (probabilities, target, reading) → larger is better; an empty reading is the usual one.
        seed: Of the halves.
    """
    rows = len(probabilities)
    if rows < FEWEST_ROWS or not tuners or not np.isfinite(probabilities).all():
        return {}
    if rows > MOST_ROWS:
        sample = np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False)
        probabilities, target, rows = probabilities[sample], target[sample], MOST_ROWS
    gains: list[list[float]] = [[] for _ in tuners]
    for choose, judge in halves(rows, seed):
        usual = score(probabilities[judge], target[judge], {})
        for tune, found in zip(tuners, gains, strict=True):
            reading = tune(probabilities[choose], target[choose])
            found.append(score(probabilities[judge], target[judge], reading) - usual)
    paying = [(gain, -at) for at, found in enumerate(gains) if (gain := gain_of(found)) is not None]
    if not paying:
        return {}
    gain, at = max(paying)
    return {**tuners[-at](probabilities, target), "gain": round(gain, 6)}


def class_score(metric: str) -> Callable[[np.ndarray, np.ndarray, Reading], float]:
    """A metric of classes under a reading."""

    def score(probabilities: np.ndarray, target: np.ndarray, reading: Reading) -> float:
        predicted = classes(probabilities, reading.get("weights"), reading.get("cuts"))
        return float(CLASS_SCORES[metric](confusion(predicted, target, probabilities.shape[1])))

    return score


def class_tuners(metric: str, size: int) -> list[Tuner]:
    """What may be tuned for a metric of classes."""
    if metric not in CLASS_SCORES or size > MOST_CLASSES:
        return []
    if size == 2:
        return [lambda p, y: {"weights": _pair(best_threshold(p[:, 1], y == 1, _of_pair(metric)))}]
    tuners: list[Tuner] = [
        lambda p, y: {"weights": temper(p, y, metric)},
        lambda p, y: {"weights": tune_weights(p, y, metric)},
    ]
    if metric == "quadratic_kappa":
        tuners.insert(0, lambda p, y: {"cuts": tune_cuts(p, y, metric)})
    return tuners


def _pair(threshold: float) -> list[float]:
    """Weights under which the second of two classes is taken from this probability on."""
    return [threshold, 1.0 - threshold]


def _of_pair(metric: str) -> Callable[..., np.ndarray]:
    """The score of two classes from hits and false alarms of the second, its rows, and all rows."""

    def score(hits: np.ndarray, alarms: np.ndarray, on: int, rows: int) -> np.ndarray:
        table = np.stack([rows - on - alarms, alarms, on - hits, hits], -1).reshape(*hits.shape, 2, 2)
        return CLASS_SCORES[metric](table.astype(float))

    return score


def best_threshold(probability: np.ndarray, on: np.ndarray, score: Callable[..., np.ndarray]) -> float:
    """The threshold with the best score, half-way between two rows; of equal ones that nearest to one half.

    Args:
        probability: [rows].
        on: Bool [rows]: what is to be predicted.
        score: From hits and false alarms (one entry per threshold), rows that are on, and all rows, to scores.
    """
    order = np.argsort(-probability, kind="stable")
    falling, true = probability[order].astype(float), on[order]
    hits = np.concatenate([[0], np.cumsum(true)])
    alarms = np.concatenate([[0], np.cumsum(~true)])
    thresholds = (np.concatenate([[1.0], falling]) + np.concatenate([falling, [0.0]])) / 2  # above k rows
    apart = np.concatenate([[1.0], falling]) > np.concatenate([falling, [0.0]])
    values = np.where(apart, np.nan_to_num(score(hits, alarms, int(on.sum()), len(on)), nan=-np.inf), -np.inf)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(thresholds[best[np.abs(thresholds[best] - 0.5).argmin()]])


def temper(probabilities: np.ndarray, target: np.ndarray, metric: str) -> list[float]:
    """Weights count^(−τ) with the best τ between 0 and 1.5; they add to 1.

    One number is tuned, so it also pays where rare classes have too few rows for weights of their own. τ = 1 takes the
    class frequencies out of the probabilities, which is best for the balanced error.
    """
    size = probabilities.shape[1]
    counts = np.maximum(np.bincount(target, minlength=size), 1)
    powers = counts[None] ** -np.linspace(0.0, 1.5, 31)[:, None]
    weights = powers / powers.sum(1, keepdims=True)  # [powers, classes]
    predicted = np.stack([classes(probabilities, one) for one in weights])
    values = np.nan_to_num(CLASS_SCORES[metric](confusion(predicted, target, size)), nan=-np.inf)
    return [float(weight) for weight in weights[int(values.argmax())]]


def tune_weights(probabilities: np.ndarray, target: np.ndarray, metric: str) -> list[float]:
    """One weight per class, by coordinate ascent on their logarithms; they add to 1.

    It starts from what `temper` finds.
    """
    size = probabilities.shape[1]
    score, p = CLASS_SCORES[metric], probabilities.astype(float)
    counts = np.bincount(target, minlength=size)
    weights = np.array(temper(probabilities, target, metric))
    for reach in (2.0, 1.0, 0.5):
        steps = np.linspace(-reach, reach, 17)
        steps = np.exp(steps[np.argsort(np.abs(steps), kind="stable")])  # of equal scores the smallest change
        for at in np.flatnonzero(counts):
            weighted = p * weights
            own, weighted[:, at] = weighted[:, at].copy(), -1.0
            rival, most = weighted.argmax(1), weighted.max(1)
            predicted = np.where(steps[:, None] * own > most, at, rival)  # [steps, rows]
            weights[at] *= steps[int(np.nan_to_num(score(confusion(predicted, target, size))).argmax())]
    return [float(weight) for weight in weights / weights.sum()]


def tune_cuts(probabilities: np.ndarray, target: np.ndarray, metric: str) -> list[float]:
    """Where the expected class number is cut, by coordinate ascent.

    It starts from rounding, and from the cuts that give classes as often as the target holds them.
    """
    size = probabilities.shape[1]
    score, number = CLASS_SCORES[metric], expected(probabilities)
    shares = np.cumsum(np.bincount(target, minlength=size))[:-1] / len(target)
    best, found = -np.inf, np.arange(size - 1) + 0.5
    for start in (np.arange(size - 1) + 0.5, np.quantile(number, shares)):
        cuts = start.astype(float)
        for _ in range(3):
            for at in range(size - 1):
                low = cuts[at - 1] if at else number.min()
                high = cuts[at + 1] if at < size - 2 else number.max()
                inside = number[(number >= low) & (number <= high)]
                tried = np.array([cuts[at], *np.quantile(inside, np.linspace(0, 1, 24))]) if len(inside) else cuts[[at]]
                trial = np.repeat(cuts[None], len(tried), 0)
                trial[:, at] = tried
                predicted = (number >= trial[:, :, None]).sum(1)  # [tried, rows]
                values = np.nan_to_num(score(confusion(predicted, target, size)), nan=-np.inf)
                cuts[at] = tried[int(values.argmax())]
                if values.max() > best:
                    best, found = float(values.max()), cuts.copy()
    return [float(cut) for cut in found]


def label_tuners(metric: str, usual: Sequence[float], tuned: Sequence[bool]) -> list[Tuner]:
    """What may be tuned for a metric of labels: one threshold for all of them, and one each.

    Args:
        metric: The metric.
        usual: The thresholds of an empty reading.
        tuned: Which labels' thresholds may change.
    """
    at = np.flatnonzero(tuned)
    if metric not in LABEL_SCORES or not len(at):
        return []

    def common(p: np.ndarray, y: np.ndarray) -> Reading:
        return {"thresholds": _common(p, y > 0.5, metric, np.asarray(usual, float), at).tolist()}

    def each(p: np.ndarray, y: np.ndarray) -> Reading:
        start = _common(p, y > 0.5, metric, np.asarray(usual, float), at)
        return {"thresholds": _each(p, y > 0.5, metric, start, at).tolist()}

    return [common, each] if len(at) > 1 else [common]


def _common(p: np.ndarray, on: np.ndarray, metric: str, usual: np.ndarray, at: np.ndarray) -> np.ndarray:
    """One threshold for the labels `at`."""
    best, found = -np.inf, usual
    levels = np.concatenate([np.linspace(0.05, 0.95, 19), np.quantile(p[:, at], 1 - np.geomspace(1e-3, 0.9, 30))])
    for level in sorted(levels, key=lambda level: abs(level - 0.5)):
        trial = usual.copy()
        trial[at] = level
        value = label_score(metric, labels(p, trial), on)
        if value > best + 1e-12:
            best, found = value, trial
    return found


def _each(p: np.ndarray, on: np.ndarray, metric: str, start: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A threshold per label of `at`; twice over all of them where the metric couples them."""
    thresholds = start.copy()
    predicted = labels(p, thresholds)
    for _ in range(1 if metric == "macro_f1" else 2):
        for label in at:
            others = np.arange(p.shape[1]) != label
            rows = np.ones(len(p), bool)
            if metric == "accuracy":  # only rows in which all other labels are right can become right
                rows = (predicted == on)[:, others].all(1)
            if rows.any():
                score = _of_label(metric, predicted[:, others], on[:, others])
                thresholds[label] = best_threshold(p[rows, label], on[rows, label], score)
                predicted[:, label] = labels(p[:, [label]], thresholds[[label]])[:, 0]
    return thresholds


def _of_label(metric: str, predicted: np.ndarray, on: np.ndarray) -> Callable[..., np.ndarray]:
    """The score as a function of one label's hits and false alarms; `predicted` and `on` are of the other labels."""
    if metric == "accuracy":
        return lambda hits, alarms, true, rows: (rows - true - alarms + hits) / rows
    if metric == "macro_f1":
        return lambda hits, alarms, true, rows: f1(hits, hits + alarms, true)
    known, said, wanted = (predicted & on).sum(), predicted.sum(), on.sum()
    return lambda hits, alarms, true, rows: f1(known + hits, said + hits + alarms, wanted + true)
