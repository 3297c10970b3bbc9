"""Focal loss: rows that are already easy count less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.api import Context, F, TargetInfo, Tune, torch
from automm_losses.base import TargetLoss
from automm_losses.classes import class_weights

if TYPE_CHECKING:
    from torch import Tensor


class Focal(TargetLoss):
    """−α (1 − p)^γ log p of the truth (Lin et al. 2017, "Focal Loss for Dense Object Detection").

    For classes p is the softmax probability of the true class; for labels it is the sigmoid probability of each label's
    true value, and the loss is the mean over the labels.
    """

    targets = frozenset({"class", "labels"})
    remedy = "focal"

    class Config(TargetLoss.Config):
        """Settings of the focal loss."""

        gamma: Annotated[float, Field(ge=0), Tune(0.5, 4.0)] = 2.0
        """How strongly easy rows are discounted; 0: not at all."""
        alpha: Annotated[
            Literal["balanced", "none"] | Annotated[float, Field(gt=0, lt=1)], Tune(choices=["balanced", "none"])
        ] = "balanced"
        """Weight per class: `balanced` is inverse frequency, `none` weighs all alike, and a number (two classes, or
        labels) is the positive's weight, with 1 − alpha for the negative, as in the paper."""

    alpha: Tensor

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Why the loss does not fit: the target's kind, or a single `alpha` for many classes."""
        if reason := super().unsuited(context, config):
            return reason
        target = context.target
        if target and target.kind == "class" and target.size != 2 and isinstance(config.alpha, float):
            return f"alpha: {config.alpha} is for two classes, there are {target.size}; write balanced or none"
        return None

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        self.many = target.kind == "labels"
        self.register_buffer("alpha", torch.tensor(_alpha(config.alpha, target), dtype=torch.float32))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, size], target int64 [batch] or 0/1 [batch, size] → [batch]."""
        output = output.float()
        if self.many:
            true = target.float()  # [batch, labels]
            log_p = -F.binary_cross_entropy_with_logits(output, true, reduction="none")
            weight = torch.where(true > 0.5, self.alpha[1], self.alpha[0])
            return self._focus(log_p, weight).mean(1)
        log_p = F.log_softmax(output, 1).gather(1, target[:, None])[:, 0]  # [batch]
        return self._focus(log_p, self.alpha[target])

    def _focus(self, log_p: Tensor, weight: Tensor) -> Tensor:
        # 1 − p without cancellation; kept off 0, where a power below 1 has no gradient.
        miss = (-torch.expm1(log_p)).clamp(min=1e-7)
        return -weight * miss**self.config.gamma * log_p


def _alpha(alpha: str | float, target: TargetInfo) -> list[float] | list[list[float]]:
    """Weights: [classes] for classes, [2, labels] (negative, positive) for labels."""
    if target.kind == "labels":
        pairs = [(target.rows - positives, positives) for positives in target.counts]
        if alpha == "balanced":
            columns = [class_weights(pair) for pair in pairs]
        else:
            columns = [[1.0, 1.0] if alpha == "none" else [1 - float(alpha), float(alpha)] for _ in pairs]
        return [list(row) for row in zip(*columns, strict=True)]
    if alpha == "balanced":
        return class_weights(target.counts)
    return [1.0] * target.size if alpha == "none" else [1 - float(alpha), float(alpha)]
