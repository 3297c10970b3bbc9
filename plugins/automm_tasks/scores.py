"""Figures of merit of decided classes and labels, many decisions at once. Torch-free.

A score is NaN where the rows leave it undefined. All of them agree with scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def confusion(predicted: np.ndarray, true: np.ndarray, size: int) -> np.ndarray:
    """Rows are true classes, columns predicted ones.

    Args:
        predicted: Class indices [rows], or [decisions, rows] for several decisions on the same rows.
        true: Class indices [rows].
        size: Number of classes.

    Returns:
        Counts [size, size], or [decisions, size, size].
    """
    many = np.atleast_2d(predicted)
    codes = (np.arange(len(many))[:, None] * size + true) * size + many
    counts = np.bincount(codes.ravel(), minlength=len(many) * size * size).reshape(-1, size, size).astype(float)
    return counts if predicted.ndim == 2 else counts[0]


def _ratio(over: np.ndarray, under: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(over, under, out=np.full(np.shape(over), otherwise), where=under > 0)


def _mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the last axis where `known`."""
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(float), np.nan)


def _parts(c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits, true rows and predicted rows per class."""
    return np.diagonal(c, axis1=-2, axis2=-1), c.sum(-1), c.sum(-2)


def _accuracy(c: np.ndarray) -> np.ndarray:
    return _ratio(_parts(c)[0].sum(-1), c.sum((-1, -2)), np.nan)


def _balanced_accuracy(c: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that the rows hold."""
    hits, true, _ = _parts(c)
    return _mean(_ratio(hits, true, 0.0), true > 0)


def _macro_f1(c: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur among truth or predictions."""
    hits, true, predicted = _parts(c)
    return _mean(_ratio(2 * hits, true + predicted, 0.0), true + predicted > 0)


def _mcc(c: np.ndarray) -> np.ndarray:
    """Matthews correlation; 0 where truth or prediction is constant, as in scikit-learn."""
    hits, true, predicted = _parts(c)
    rows = c.sum((-1, -2))
    spread = (rows**2 - (true**2).sum(-1)) * (rows**2 - (predicted**2).sum(-1))
    return _ratio(hits.sum(-1) * rows - (true * predicted).sum(-1), np.sqrt(spread), 0.0)


def _quadratic_kappa(c: np.ndarray) -> np.ndarray:
    _, true, predicted = _parts(c)
    at = np.arange(c.shape[-1])
    cost = (at[:, None] - at) ** 2.0
    chance = (true[..., :, None] * predicted[..., None, :] * cost).sum((-1, -2)) / c.sum((-1, -2))
    return 1.0 - _ratio((c * cost).sum((-1, -2)), chance, np.nan)


CLASS_SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "micro_f1": _accuracy,  # every row has one class and one prediction
    "quadratic_kappa": _quadratic_kappa,
    "mcc": _mcc,
}
"""Metric → from confusions [..., classes, classes] to scores [...]."""


def f1(hits: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 from counts; 0 where there is neither truth nor prediction."""
    return _ratio(2.0 * hits, np.asarray(predicted + true, float), 0.0)


def label_score(metric: str, predicted: np.ndarray, on: np.ndarray) -> float:
    """A score of labels.

    Args:
        metric: "micro_f1", "macro_f1" or "accuracy" (rows with all labels right).
        predicted: Bool [rows, labels].
        on: Bool [rows, labels].
    """
    if metric == "accuracy":
        return float((predicted == on).all(1).mean())
    counts = (predicted & on).sum(0), predicted.sum(0), on.sum(0)
    if metric == "micro_f1":
        return float(f1(*(np.asarray(count.sum()) for count in counts)))
    return float(f1(*counts).mean())


LABEL_SCORES = ("micro_f1", "macro_f1", "accuracy")


def by_class(names: tuple[str, ...], predicted: np.ndarray, true: np.ndarray) -> dict[str, dict[str, float]]:
    """Class or label → rows, precision, recall and F1; 0 where there is nothing to divide by.

    Args:
        names: Of the columns.
        predicted: Bool [rows, names].
        true: Bool [rows, names].
    """
    hits, said, rows = (predicted & true).sum(0).astype(float), predicted.sum(0), true.sum(0)
    columns = {"precision": _ratio(hits, said, 0.0), "recall": _ratio(hits, rows, 0.0), "f1": f1(hits, said, rows)}
    return {
        name: {"rows": int(rows[at]), **{key: round(float(values[at]), 6) for key, values in columns.items()}}
        for at, name in enumerate(names)
    }
