"""The metrics of the built-in tasks. They agree with scikit-learn; where the rows leave one undefined it is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from automm.api import Metric, torch

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[["Tensor", "Tensor"], "Tensor | float"]


def _metric(answer: str, maximize: bool, score: Score) -> Metric:
    """A metric of one answer, computed in double precision on the CPU; NaN if the answer is not finite."""

    def compute(answers: Mapping[str, Tensor], target: Tensor) -> float:
        values = answers[answer].detach().cpu().double()
        if not len(values) or not bool(values.isfinite().all()):
            return math.nan
        return float(score(values, target.detach().cpu()))

    return Metric(maximize, compute)


def _confusion(p: Tensor, y: Tensor) -> Tensor:
    """Rows are true classes, columns predicted ones: [classes, classes]."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    return multiclass_confusion_matrix(p.argmax(1), y, p.shape[1]).double()


def _accuracy(p: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_accuracy

    return multiclass_accuracy(p, y, p.shape[1], average="micro")


def _balanced_accuracy(p: Tensor, y: Tensor) -> Tensor:
    """Mean recall of the classes that the rows hold."""
    confusion = _confusion(p, y)
    rows = confusion.sum(1)
    return (confusion.diagonal() / rows)[rows > 0].mean()


def _f1(average: str) -> Score:
    def score(p: Tensor, y: Tensor) -> Tensor:
        from torchmetrics.functional.classification import multiclass_f1_score

        return multiclass_f1_score(p, y, p.shape[1], average=average)

    return score


def _log_loss(p: Tensor, y: Tensor) -> Tensor:
    """Mean −log p of the true class; probabilities are kept off 0 by the float32 epsilon, as scikit-learn does."""
    tiny = torch.finfo(torch.float32).eps
    return -p.gather(1, y[:, None]).clamp(tiny, 1 - tiny).log().mean()


def _quadratic_kappa(p: Tensor, y: Tensor) -> Tensor:
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    return multiclass_cohen_kappa(p, y, p.shape[1], weights="quadratic")


def _mcc(p: Tensor, y: Tensor) -> Tensor | float:
    """Matthews correlation; 0 where truth or prediction is constant, as in scikit-learn."""
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    if len(y.unique()) == 1 or len(p.argmax(1).unique()) == 1:
        return 0.0
    return multiclass_matthews_corrcoef(p, y, p.shape[1])


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


CLASS: dict[str, Metric] = {
    "accuracy": _metric("probabilities", True, _accuracy),
    "balanced_accuracy": _metric("probabilities", True, _balanced_accuracy),
    "macro_f1": _metric("probabilities", True, _f1("macro")),
    "micro_f1": _metric("probabilities", True, _f1("micro")),
    "roc_auc": _metric("probabilities", True, _of_classes(_binary_roc_auc)),
    "average_precision": _metric("probabilities", True, _of_classes(_binary_average_precision)),
    "log_loss": _metric("probabilities", False, _log_loss),
    "quadratic_kappa": _metric("probabilities", True, _quadratic_kappa),
    "mcc": _metric("probabilities", True, _mcc),
}


def label_metrics(thresholds: Sequence[float]) -> dict[str, Metric]:
    """The metrics of several labels per row.

    Args:
        thresholds: Smallest probability at which a label is predicted, one per label (or one for all).
    """

    def predicted(p: Tensor) -> Tensor:
        # Compared as float32, like the decoder does.
        return (p.float() >= torch.tensor(tuple(thresholds), dtype=torch.float32)).long()

    def f1(average: str) -> Score:
        def score(p: Tensor, y: Tensor) -> Tensor:
            from torchmetrics.functional.classification import binary_f1_score, multilabel_f1_score

            on = y.long()
            if average == "micro":
                return binary_f1_score(predicted(p).flatten(), on.flatten())
            return multilabel_f1_score(predicted(p), on, p.shape[1], average=average)

        return score

    def exact(p: Tensor, y: Tensor) -> Tensor:
        return (predicted(p) == y.long()).all(1).double().mean()

    return {
        "average_precision": _metric("probabilities", True, _of_labels(_binary_average_precision)),
        "micro_f1": _metric("probabilities", True, f1("micro")),
        "macro_f1": _metric("probabilities", True, f1("macro")),
        "roc_auc": _metric("probabilities", True, _of_labels(_binary_roc_auc)),
        "accuracy": _metric("probabilities", True, exact),
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
