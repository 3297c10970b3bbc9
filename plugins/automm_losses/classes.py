"""Losses for one class per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.api import F, TargetInfo, Tune, torch
from automm_losses.base import TargetLoss

if TYPE_CHECKING:
    from torch import Tensor


def class_weights(counts: Sequence[int], weighting: str = "balanced", beta: float = 0.999) -> list[float]:
    """One weight per class, scaled so that the mean weight of the training rows is 1.

    Args:
        counts: Training rows per class; an empty class counts as one row.
        weighting: "balanced" is inverse frequency, rows / (classes · count), as in scikit-learn. "effective" is the
            inverse effective number of samples, (1 − β) / (1 − β^count) (Cui et al. 2019, "Class-Balanced Loss Based on
            Effective Number of Samples").
        beta: β of "effective"; 0 weighs all classes alike, 1 tends to inverse frequency.
    """
    filled = [max(count, 1) for count in counts]
    raw = [1 / n if weighting == "balanced" else (1 - beta) / (1 - beta**n) for n in filled]
    scale = sum(filled) / sum(n * w for n, w in zip(filled, raw, strict=True))
    return [w * scale for w in raw]


class CrossEntropy(TargetLoss):
    """Softmax cross-entropy."""

    targets = frozenset({"class"})
    preference = 1.0

    class Config(TargetLoss.Config):
        """Settings of the cross-entropy."""

        label_smoothing: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.2)] = 0.0
        """Share of the target's probability that is spread over all classes (Szegedy et al. 2016)."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """−log p of the true class; output [batch, classes], target int64 [batch] → [batch]."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(output.float(), target, reduction="none", label_smoothing=smoothing)


class WeightedCrossEntropy(TargetLoss):
    """Cross-entropy in which rare classes weigh more."""

    targets = frozenset({"class"})
    remedy = "weights"

    class Config(CrossEntropy.Config):
        """Settings of the weighted cross-entropy."""

        weighting: Annotated[Literal["balanced", "effective"], Tune(choices=["balanced", "effective"])] = "balanced"
        """`balanced`: inverse class frequency; `effective`: inverse effective number of samples, which is milder."""
        beta: Annotated[float, Field(gt=0, lt=1)] = 0.999
        """β of `effective`: how soon more rows of a class stop counting (about 1 / (1 − β) rows)."""

    weight: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        weights = class_weights(target.counts, config.weighting, config.beta)
        self.register_buffer("weight", torch.tensor(weights, dtype=torch.float32))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """−w log p of the true class; output [batch, classes], target int64 [batch] → [batch]."""
        smoothing = self.config.label_smoothing
        return F.cross_entropy(output.float(), target, self.weight, reduction="none", label_smoothing=smoothing)
