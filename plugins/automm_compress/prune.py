"""Structured pruning: whole hidden units, channels and attention heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automm.api import ModelCompressor, NotCompressible

if TYPE_CHECKING:
    from torch import Tensor, nn


class Prune(ModelCompressor):
    """Takes out the hidden units, channels and attention heads that tell least; the others take over what they can.

    What can go is found by trying what a unit reaches, so it works on the modules of any plugin. Single weights (sparse
    matrices) are not pruned: that makes no model faster on a CPU.
    """

    preference = 1.0

    class Config(ModelCompressor.Config):
        """How much goes."""

        units: Annotated[float, Field(ge=0, lt=1)] = 0.4
        """Share of the hidden units of feed-forward layers and of the channels of convolutions."""
        heads: Annotated[float, Field(ge=0, lt=1)] = 0.25
        """Share of the attention heads of each layer."""

    def shrink(self, model: nn.Module, batches: Sequence[dict[str, Tensor]]) -> None:
        """Prunes every group of layers that share hidden units."""
        from automm_compress._coupling import find_groups, moments_of, probe
        from automm_compress._slicing import kept_units, scores, take_out

        few = probe(batches)
        groups = find_groups(model, few)
        moments = moments_of(model, batches, [module for group in groups for module in group.consumers])
        done = 0
        for group in groups:
            share = self.config.units if group.block == 1 else self.config.heads
            keep = kept_units(group, scores(group, moments), share)
            done += len(keep) < group.units and take_out(model, group, keep, moments, few)
        if not done:
            raise NotCompressible("no hidden units were found that can be taken out by themselves")
