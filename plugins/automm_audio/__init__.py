"""Built-in components for audio."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the modality, its processors and its encoders."""
    del register
