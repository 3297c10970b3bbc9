"""A loss for wrong labels."""

from collections.abc import Callable

from automm.api import hookimpl
from automm_robust_loss.generalized import GeneralizedCrossEntropy

AUTOMM_API = 1


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the loss."""
    register(GeneralizedCrossEntropy)
