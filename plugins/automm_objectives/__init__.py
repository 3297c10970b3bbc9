"""Built-in objectives: what a network learns from rows alone, beside their answers."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_objectives.contrastive import Contrastive
from automm_objectives.hidden import HiddenInput

__all__ = ["Contrastive", "HiddenInput"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the objectives."""
    register(Contrastive)
    register(HiddenInput)
