"""Built-in losses: one value per row, unreduced; automm weights and averages them."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_losses.classes import CrossEntropy, WeightedCrossEntropy
from automm_losses.focal import Focal
from automm_losses.labels import Asymmetric, Bce, WeightedBce
from automm_losses.margins import BalancedSoftmax, Ldam, LogitAdjustment
from automm_losses.numbers import Huber, Mae, Mse, Quantile
from automm_losses.ordinal import SquaredEarthMover

LOSSES = (
    CrossEntropy,
    WeightedCrossEntropy,
    Focal,
    LogitAdjustment,
    BalancedSoftmax,
    Ldam,
    SquaredEarthMover,
    Bce,
    WeightedBce,
    Asymmetric,
    Mse,
    Mae,
    Huber,
    Quantile,
)

__all__ = [
    "LOSSES",
    "Asymmetric",
    "BalancedSoftmax",
    "Bce",
    "CrossEntropy",
    "Focal",
    "Huber",
    "Ldam",
    "LogitAdjustment",
    "Mae",
    "Mse",
    "Quantile",
    "SquaredEarthMover",
    "WeightedBce",
    "WeightedCrossEntropy",
]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the losses."""
    for loss in LOSSES:
        register(loss)
