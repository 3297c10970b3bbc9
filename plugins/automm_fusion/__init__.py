"""Built-in fusions: concatenation, gates, and a transformer over all tokens."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_fusion.concat import Concat
from automm_fusion.gated import Gated
from automm_fusion.transformer import Transformer

__all__ = ["Concat", "Gated", "Transformer"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the fusions."""
    for fusion in (Concat, Gated, Transformer):
        register(fusion)
