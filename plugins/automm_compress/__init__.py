"""Built-in components: what makes a trained model smaller and faster."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import AUTOMM_API, hookimpl
from automm_compress.distill import Distill
from automm_compress.drop_layers import DropLayers
from automm_compress.fp16 import Fp16
from automm_compress.int8 import Int8
from automm_compress.low_rank import LowRank
from automm_compress.prune import Prune

__all__ = ["AUTOMM_API", "Distill", "DropLayers", "Fp16", "Int8", "LowRank", "Prune"]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the compressors."""
    for component in (Int8, Fp16, Prune, LowRank, DropLayers, Distill):
        register(component)
