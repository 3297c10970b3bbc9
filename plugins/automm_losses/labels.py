"""Losses for several labels per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import F, TargetInfo, torch
from automm_losses.base import TargetLoss

if TYPE_CHECKING:
    from torch import Tensor


class Bce(TargetLoss):
    """Binary cross-entropy, averaged over the labels."""

    targets = frozenset({"labels"})
    preference = 1.0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, labels], target 0/1 [batch, labels] → [batch]."""
        return F.binary_cross_entropy_with_logits(output.float(), target.float(), reduction="none").mean(1)


class WeightedBce(TargetLoss):
    """Binary cross-entropy in which the positives of a rare label weigh negatives / positives."""

    targets = frozenset({"labels"})
    remedy = "weights"

    class Config(TargetLoss.Config):
        """Settings of the weighted binary cross-entropy."""

        largest_weight: Annotated[float, Field(ge=1)] = 100.0
        """Bound of a label's weight (and, inverted, its lower bound), so that a label with one positive row does not
        take over."""

    positive_weight: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        positives = torch.tensor(target.counts, dtype=torch.float32)
        ratio = (target.rows - positives) / positives.clamp(min=1)
        bound = config.largest_weight
        self.register_buffer("positive_weight", ratio.clamp(1 / bound, bound))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, labels], target 0/1 [batch, labels] → [batch]."""
        loss = F.binary_cross_entropy_with_logits(
            output.float(), target.float(), reduction="none", pos_weight=self.positive_weight
        )
        return loss.mean(1)
