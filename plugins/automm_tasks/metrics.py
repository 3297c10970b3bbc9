"""The metrics of the built-in tasks. They agree with scikit-learn; where the rows leave one undefined it is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automm.api import Metric, torch
from automm_tasks import decisions
from automm_tasks.scores import LABEL_SCORES, label_score

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[["Tensor", "Tensor"], "Tensor | float"]


def _metric(answer: str, maximize: bool, score: Score, guide: str | None = None) -> Metric:
    """A metric of one answer, computed in double precision on the CPU; NaN if the answer is not finite."""

    def compute(answers: Mapping[str, Tensor], target: Tensor) -> float:
        values = answers[answer].detach().cpu().double()
        if not len(values) or not bool(values.isfinite().all()):
            return math.nan
        return float(score(values, target.detach().cpu()))

    return Metric(maximize, compute, guide)


def _log_loss(p: Tensor, y: Tensor) -> Tensor:
    """Mean −log p of the true class; probabilities are kept off 0 by the float32 epsilon, as scikit-learn does."""
    tiny = torch.finfo(torch.float32).eps
    return -p.gather(1, y[:, None]).clamp(tiny, 1 - tiny).log().mean()


def _over_columns(p: Tensor, on: Tensor, score: Score) -> float:
    """The mean of a binary score over the columns that hold both values."""
    both = [at for at in range(p.shape[1]) if 0 < int(on[:, at].sum()) < len(on)]
    if not both:
        return math.nan
    return float(torch.stack([torch.as_tensor(score(p[:, at], on[:, at])) for at in both]).mean())


def _binary_roc_auc(p: Tensor, on: Tensor) -> Tensor:
    from torchmetrics.functional.classification import binary_auroc

    return binary_auroc(p, on.long())


def _binary_average_precision(p: Tensor, on: Tensor) -> Tensor:
    from torchmetrics.functional.classification import binary_average_precision

    return binary_average_precision(p, on.long())


def _of_classes(score: Score) -> Score:
    """Two classes: the score of the second. More: the mean of one against the rest."""

    def over(p: Tensor, y: Tensor) -> float:
        on = torch.nn.functional.one_hot(y, p.shape[1]).bool()
        return _over_columns(p[:, 1:], on[:, 1:], score) if p.shape[1] == 2 else _over_columns(p, on, score)

    return over


def _of_labels(score: Score) -> Score:
    return lambda p, y: _over_columns(p, y > 0.5, score)


def class_metrics(reading: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of one class per row.

    Args:
        reading: How probabilities become classes; see `automm_tasks.decisions`.
    """

    def decided(name: str) -> Metric:
        score = decisions.class_score(name)
        # As float32, like the decoder reads them.
        return _metric(
            "probabilities", True, lambda p, y: score(p.float().numpy(), y.numpy(), dict(reading)), guide="log_loss"
        )

    return {
        "accuracy": decided("accuracy"),
        "balanced_accuracy": decided("balanced_accuracy"),
        "macro_f1": decided("macro_f1"),
        "micro_f1": decided("micro_f1"),
        "roc_auc": _metric("probabilities", True, _of_classes(_binary_roc_auc)),
        "average_precision": _metric("probabilities", True, _of_classes(_binary_average_precision)),
        "log_loss": _metric("probabilities", False, _log_loss),
        "quadratic_kappa": decided("quadratic_kappa"),
        "mcc": decided("mcc"),
    }


def label_metrics(thresholds: Sequence[float]) -> dict[str, Metric]:
    """The metrics of several labels per row.

    Args:
        thresholds: Smallest probability at which a label is predicted, one per label (or one for all).
    """

    def decided(name: str) -> Metric:
        def score(p: Tensor, y: Tensor) -> float:
            # As float32, like the decoder reads them.
            return label_score(name, decisions.labels(p.float().numpy(), thresholds), y.numpy() > 0.5)

        return _metric("probabilities", True, score, guide="average_precision")

    scores = {name: decided(name) for name in LABEL_SCORES}
    return {
        "average_precision": _metric("probabilities", True, _of_labels(_binary_average_precision)),
        "micro_f1": scores["micro_f1"],
        "macro_f1": scores["macro_f1"],
        "roc_auc": _metric("probabilities", True, _of_labels(_binary_roc_auc)),
        "accuracy": scores["accuracy"],
    }


def _r2(p: Tensor, y: Tensor) -> Tensor | float:
    from torchmetrics.functional.regression import r2_score

    y = y.double()
    if len(y) < 2 or bool((y == y[0]).all()):
        return math.nan
    return r2_score(p - y.mean(), y - y.mean())  # centred: its sums of squares cancel badly otherwise


def _rmse(p: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.regression import mean_squared_error

    return mean_squared_error(p, y.double(), squared=False)


def _mae(p: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.regression import mean_absolute_error

    return mean_absolute_error(p, y.double())


def _mape(p: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.regression import mean_absolute_percentage_error

    return mean_absolute_percentage_error(p, y.double())


NUMBER: dict[str, Metric] = {
    "r2": _metric("number", True, _r2),
    "rmse": _metric("number", False, _rmse),
    "mae": _metric("number", False, _mae),
    "mape": _metric("number", False, _mape),
}
"""r2 comes first: it ranks models as rmse does and can be read without knowing the target's units."""
