"""Losses that move the logits of rare classes while training. Serving reads the logits as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import F, TargetInfo, Tune, torch
from automm_losses.base import TargetLoss
from automm_losses.classes import class_weights

if TYPE_CHECKING:
    from torch import Tensor


def log_priors(target: TargetInfo) -> list[float]:
    """Log frequencies of the classes, or log odds of the labels, in the training rows; smoothed by half a row."""
    if target.kind == "labels":
        return [math.log((count + 0.5) / (max(target.rows - count, 0) + 0.5)) for count in target.counts]
    total = sum(target.counts) + 0.5 * len(target.counts)
    return [math.log((count + 0.5) / total) for count in target.counts]


class LogitAdjustment(TargetLoss):
    """Cross-entropy of logits to which τ log priors are added (Menon et al. 2021).

    "Long-Tail Learning via Logit Adjustment". Only the training loss adds them. So the network's own logits learn to do
    without the class frequencies, and the most probable class is the one that lowers the balanced error. The
    probabilities are those of equally frequent classes. For labels the prior is the log odds of each label, and the
    loss is the mean over the labels.
    """

    targets = frozenset({"class", "labels"})
    remedy = "logit_adjustment"
    preference = 1.0

    class Config(TargetLoss.Config):
        """Settings of the logit adjustment."""

        tau: Annotated[float, Field(ge=0), Tune(0.5, 1.5)] = 1.0
        """How much of the priors is taken out; 1: all, 0: plain cross-entropy."""

    prior: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        self.many = target.kind == "labels"
        self.register_buffer("prior", torch.tensor(log_priors(target), dtype=torch.float32))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, size], target int64 [batch] or 0/1 [batch, size] → [batch]."""
        moved = output.float() + self.config.tau * self.prior
        if self.many:
            return F.binary_cross_entropy_with_logits(moved, target.float(), reduction="none").mean(1)
        return F.cross_entropy(moved, target, reduction="none")


class BalancedSoftmax(TargetLoss):
    """Cross-entropy of a softmax that counts every class as often as it occurs (Ren et al. 2020).

    "Balanced Meta-Softmax for Long-Tailed Visual Recognition": −log(n_y e^{z_y} / Σ n_j e^{z_j}). Without the paper's
    meta-learned sampler it is logit adjustment with τ = 1 and nothing to tune.
    """

    targets = frozenset({"class"})
    remedy = "logit_adjustment"

    log_count: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        counts = torch.tensor([max(count, 1) for count in target.counts], dtype=torch.float32)
        self.register_buffer("log_count", counts.log())

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, classes], target int64 [batch] → [batch]."""
        return F.cross_entropy(output.float() + self.log_count, target, reduction="none")


class Ldam(TargetLoss):
    """Cross-entropy in which the true class must win by a margin, the larger the rarer it is (Cao et al. 2019).

    "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss": the margin of a class is proportional to
    count^(-1/4). The paper scales a normalised head by 30; here the head is linear, and margins are in units of its
    logits. Margins alone move the decision little; the weights that join late in the training (LDAM-DRW) do.
    """

    targets = frozenset({"class"})
    remedy = "logit_adjustment"

    class Config(TargetLoss.Config):
        """Settings of LDAM."""

        margin: Annotated[float, Field(ge=0), Tune(0.2, 2.0)] = 1.0
        """Margin of the rarest class, in logits."""
        deferred: Annotated[float, Field(ge=0, le=1)] | None = 0.8
        """Share of the training after which classes also weigh by their inverse effective number ("deferred
        re-weighting"); None: never."""
        beta: Annotated[float, Field(gt=0, lt=1)] = 0.9999
        """β of the effective number of the deferred weights."""

    margins: Tensor
    weight: Tensor

    def __init__(self, config: Any, target: TargetInfo) -> None:
        super().__init__(config, target)
        raw = [max(count, 1) ** -0.25 for count in target.counts]
        margins = [config.margin * value / max(raw) for value in raw]
        self.register_buffer("margins", torch.tensor(margins, dtype=torch.float32))
        weights = class_weights(target.counts, "effective", config.beta)
        self.register_buffer("weight", torch.tensor(weights, dtype=torch.float32))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, classes], target int64 [batch] → [batch]."""
        output = output.float()
        moved = output - F.one_hot(target, output.shape[1]) * self.margins
        late = self.config.deferred is not None and self.progress >= self.config.deferred
        return F.cross_entropy(moved, target, self.weight if late else None, reduction="none")
