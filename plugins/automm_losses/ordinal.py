"""Losses for classes that have an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import Context, F, TargetInfo, Tune, torch
from automm_losses.base import TargetLoss

if TYPE_CHECKING:
    from torch import Tensor


class SquaredEarthMover(TargetLoss):
    """Squared distance of the cumulative probabilities from the truth: a class far off costs more than a neighbour.

    Hou et al. 2016, "Squared Earth Mover's Distance-based Loss for Training Deep Neural Networks": the sum over k of
    (P(class ≤ k) − [y ≤ k])², which is also the ranked probability score. It works on the logits of an ordinary head,
    so probabilities, metrics and package stay those of a classification. A share of cross-entropy is added, because
    far-off outputs have almost no gradient otherwise.
    """

    targets = frozenset({"class"})
    metrics = frozenset({"quadratic_kappa"})

    class Config(TargetLoss.Config):
        """Settings of the squared earth mover's distance."""

        cross_entropy: Annotated[float, Field(ge=0, le=1), Tune(0.0, 0.5)] = 0.1
        """Weight of the cross-entropy that is added; 0: the distance alone."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Why the loss does not fit: the target's kind, or classes without an order."""
        if reason := super().unsuited(context, config):
            return reason
        target = context.target
        if target is None or (target.size > 2 and target.extra.get("ordered")):
            return None
        if target.size <= 2:
            return "two classes need no order"
        return "the classes have no order (they are no numbers, and task.order does not name it)"

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        self.size = target.size

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, classes], target int64 [batch] → [batch]."""
        output = output.float()
        steps = torch.arange(self.size - 1, device=output.device)
        reached = (target[:, None] <= steps).float()  # [batch, classes - 1]
        cumulative = output.softmax(1).cumsum(1)[:, :-1]
        distance = (cumulative - reached).square().sum(1)
        if self.config.cross_entropy:
            distance = distance + self.config.cross_entropy * F.cross_entropy(output, target, reduction="none")
        return distance
