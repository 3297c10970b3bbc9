"""Losses for numbers. The target is standardised, so an error of 1 is one standard deviation of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automm.api import F, Tune
from automm_losses.base import TargetLoss

if TYPE_CHECKING:
    from torch import Tensor


class Mse(TargetLoss):
    """Squared error: its minimum is the mean, which is what r2 and rmse ask for."""

    targets = frozenset({"number"})
    preference = 1.0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, 1], target [batch] → [batch]."""
        return F.mse_loss(output[:, 0].float(), target.float(), reduction="none")


class Huber(TargetLoss):
    """Squared for small errors, linear for large ones, so outliers pull less (Huber 1964)."""

    targets = frozenset({"number"})
    preference = 0.5

    class Config(TargetLoss.Config):
        """Settings of the Huber loss."""

        delta: Annotated[float, Field(gt=0), Tune(0.3, 2.0, log=True)] = 1.0
        """Where squared turns into linear, in standard deviations of the target."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, 1], target [batch] → [batch]."""
        return F.huber_loss(output[:, 0].float(), target.float(), reduction="none", delta=self.config.delta)
