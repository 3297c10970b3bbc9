"""Built-in fusions, from concatenation and averaged decisions to attention across inputs."""

from __future__ import annotations

from collections.abc import Callable

from automm.api import hookimpl
from automm_fusion.aligned import Aligned
from automm_fusion.attention import Attention, HardAttention
from automm_fusion.bottleneck import Bottleneck
from automm_fusion.concat import Concat
from automm_fusion.gated import Gated
from automm_fusion.graph import GraphNetwork
from automm_fusion.late import Hybrid, Late
from automm_fusion.low_rank import LowRank
from automm_fusion.mult import Mult
from automm_fusion.transformer import Transformer

FUSIONS = (
    Concat,
    Gated,
    Late,
    Hybrid,
    Transformer,
    Attention,
    HardAttention,
    Mult,
    Bottleneck,
    LowRank,
    GraphNetwork,
    Aligned,
)

__all__ = ["FUSIONS", *(fusion.__name__ for fusion in FUSIONS)]


@hookimpl
def automm_register(register: Callable[[type], type]) -> None:
    """Registers the fusions."""
    for fusion in FUSIONS:
        register(fusion)
