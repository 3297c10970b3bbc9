"""Losses for several labels per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.api import F, TargetInfo, Tune, torch
from automm_losses.base import TargetLoss
from automm_losses.classes import class_weights

if TYPE_CHECKING:
    from torch import Tensor


class Bce(TargetLoss):
    """Binary cross-entropy, averaged over the labels."""

    targets = frozenset({"labels"})
    preference = 1.0

    class Config(TargetLoss.Config):
        """Settings of the binary cross-entropy."""

        label_smoothing: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.2)] = 0.0
        """How far targets are moved from 0 and 1 towards one half: 0.1 makes them 0.05 and 0.95."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, labels], target 0/1 [batch, labels] → [batch]."""
        smoothing = self.config.label_smoothing
        wanted = target.float() * (1 - smoothing) + 0.5 * smoothing
        return F.binary_cross_entropy_with_logits(output.float(), wanted, reduction="none").mean(1)


class WeightedBce(TargetLoss):
    """Binary cross-entropy in which the positives of a rare label weigh more than its negatives."""

    targets = frozenset({"labels"})
    remedy = "weights"

    class Config(TargetLoss.Config):
        """Settings of the weighted binary cross-entropy."""

        weighting: Annotated[
            Literal["balanced", "sqrt", "effective"], Tune(choices=["balanced", "sqrt", "effective"])
        ] = "balanced"
        """Weight of a positive: `balanced` is negatives / positives, `sqrt` its square root, and `effective` the ratio
        of their effective numbers of samples (Cui et al. 2019)."""
        beta: Annotated[float, Field(gt=0, lt=1)] = 0.999
        """β of `effective`: how soon more rows stop counting (about 1 / (1 − β) rows)."""
        largest_weight: Annotated[float, Field(ge=1)] = 100.0
        """Bound of a label's weight (and, inverted, its lower bound), so that a label with one positive row does not
        take over."""

    positive_weight: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        ratio = torch.tensor([_ratio(config, target.rows - on, on) for on in target.counts], dtype=torch.float32)
        bound = config.largest_weight
        self.register_buffer("positive_weight", ratio.clamp(1 / bound, bound))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, labels], target 0/1 [batch, labels] → [batch]."""
        loss = F.binary_cross_entropy_with_logits(
            output.float(), target.float(), reduction="none", pos_weight=self.positive_weight
        )
        return loss.mean(1)


def _ratio(config: Any, negatives: int, positives: int) -> float:
    """The weight of a positive, relative to that of a negative."""
    if config.weighting == "effective":
        off, on = class_weights((negatives, positives), "effective", config.beta)
        return on / off
    ratio = negatives / max(positives, 1)
    return ratio**0.5 if config.weighting == "sqrt" else ratio


class Asymmetric(TargetLoss):
    """Focal loss that discounts easy negatives more than easy positives, and drops the easiest (Ridnik et al. 2021).

    "Asymmetric Loss For Multi-Label Classification": −(1 − p)^γ₊ log p for labels that are on, and −q^γ₋ log(1 − q)
    with q = max(p − clip, 0) for those that are off; the mean over the labels.
    """

    targets = frozenset({"labels"})
    remedy = "focal"
    preference = -0.5

    class Config(TargetLoss.Config):
        """Settings of the asymmetric loss."""

        gamma_negative: Annotated[float, Field(ge=0), Tune(1.0, 5.0)] = 4.0
        """How strongly easy negatives are discounted."""
        gamma_positive: Annotated[float, Field(ge=0), Tune(0.0, 1.0)] = 0.0
        """How strongly easy positives are discounted; the paper takes 0 or 1."""
        clip: Annotated[float, Field(ge=0, lt=1), Tune(choices=[0.0, 0.05, 0.2])] = 0.05
        """Negatives with a probability up to this cost nothing."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, labels], target 0/1 [batch, labels] → [batch]."""
        output, config = output.float(), self.config
        positive = -F.logsigmoid(output) * _power(torch.sigmoid(-output), config.gamma_positive)
        if config.clip:
            probability = (torch.sigmoid(output) - config.clip).clamp(min=0)
            cost = -torch.log1p(-probability)
        else:  # log(1 - p) without cancellation
            probability, cost = torch.sigmoid(output), -F.logsigmoid(-output)
        negative = cost * _power(probability, config.gamma_negative)
        return torch.where(target > 0.5, positive, negative).mean(1)


def _power(probability: Tensor, gamma: float) -> Tensor:
    """probability^gamma, kept off 0, where a power below 1 has no gradient."""
    return probability.clamp(min=1e-7) ** gamma
