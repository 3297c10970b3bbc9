"""Built-in components that learn in one go."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the learners."""
    del register
