"""Low-rank factorisation of linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automm.api import ModelCompressor, NotCompressible

if TYPE_CHECKING:
    from torch import Tensor, nn


class LowRank(ModelCompressor):
    """Replaces large linear layers by two thin ones, chosen for the inputs that the layer really gets.

    The factors are the truncated singular value decomposition of weights times the root of the inputs' second moments
    (DRONE, Chen et al. 2021), so that directions that never occur cost no rank.
    """

    preference = 0.5

    class Config(ModelCompressor.Config):
        """How much goes."""

        share: Annotated[float, Field(gt=0, lt=1)] = 0.5
        """Share of a layer's weights that stay."""
        smallest: Annotated[int, Field(ge=1)] = 40_000
        """Layers of fewer weights stay as they are."""

    def shrink(self, model: nn.Module, batches: Sequence[dict[str, Tensor]]) -> None:
        """Factorises every large linear layer."""
        from automm_compress._factors import factorise

        if not factorise(model, batches, self.config.share, self.config.smallest):
            raise NotCompressible(f"there is no linear layer of {self.config.smallest:,} weights or more")
