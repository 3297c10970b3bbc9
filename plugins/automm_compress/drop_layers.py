"""Fewer layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automm.api import ModelCompressor, NotCompressible

if TYPE_CHECKING:
    from torch import Tensor, nn


class DropLayers(ModelCompressor):
    """Takes out the layers of a deep stack (a transformer, say) without which the answers change least.

    The first layer always stays. What the others did is learned again by distillation (Sanh et al. 2019).
    """

    preference = 0.0

    class Config(ModelCompressor.Config):
        """How much goes."""

        share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        """Share of the layers of a stack that go."""

    def shrink(self, model: nn.Module, batches: Sequence[dict[str, Tensor]]) -> None:
        """Drops layers of every stack."""
        from automm_compress._stacks import drop, stacks

        found = stacks(model, batches[0])
        if not found:
            raise NotCompressible("there is no stack of three or more layers of the same kind")
        for stack in found:
            drop(model, stack, int(self.config.share * len(stack)), batches[:4])
