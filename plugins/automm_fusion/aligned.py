"""Vectors of all inputs in one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Context, F, Features, Tune, nn, torch
from automm_fusion.base import VectorFusion, needs_two


class Aligned(VectorFusion):
    """One unit vector per input, all in one space, for retrieval: the inner product of two is their cosine similarity.

    Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (CLIP). A missing input
    has no vector: its mask is False.
    """

    gives = frozenset({"aligned"})
    preference = 1.0

    class Config(VectorFusion.Config):
        """Settings of aligned vectors."""

        layers: Annotated[int, Field(ge=0, le=12), Tune(0, 3)] = 1
        """Hidden layers of each input's projection."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """A space is shared by at least two."""
        del config
        return needs_two(context)

    def __init__(self, config: Any, widths: Mapping[str, int]) -> None:
        from automm_fusion._modules import mlp

        super().__init__(config, widths)
        self.networks = nn.ModuleList(
            [mlp(config.hidden, config.hidden, config.layers, config.dropout) for _ in widths]
        )

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """One token per input, [batch, inputs, hidden]."""
        vectors, present = self.read(self.hide(inputs))
        found = [network(vector) for network, vector in zip(self.networks, vectors.unbind(1), strict=True)]
        return Features(F.normalize(torch.stack(found, 1), dim=2), present)
