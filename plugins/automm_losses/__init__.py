"""Built-in losses: one value per row, unreduced; automm weights and averages them."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_losses.classes import CrossEntropy, WeightedCrossEntropy
from automm_losses.focal import Focal
from automm_losses.labels import Bce, WeightedBce
from automm_losses.numbers import Huber, Mse

__all__ = ["Bce", "CrossEntropy", "Focal", "Huber", "Mse", "WeightedBce", "WeightedCrossEntropy"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the losses."""
    for loss in (CrossEntropy, WeightedCrossEntropy, Focal, Bce, WeightedBce, Mse, Huber):
        register(loss)
