"""Built-in components that learn in one go."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the learners."""
    from automm_learners.lightgbm import Lightgbm
    from automm_learners.linear import Linear
    from automm_learners.network import Network
    from automm_learners.stacking import Stacking

    for component in (Network, Linear, Stacking, Lightgbm):
        register(component)
