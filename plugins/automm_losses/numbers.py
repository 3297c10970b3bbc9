"""Losses for numbers. The target is standardised, so an error of 1 is one standard deviation of the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from automm.api import Context, F, Tune, torch
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


class Mae(TargetLoss):
    """Absolute error: its minimum is the median, which is what mae asks for; outliers pull little."""

    targets = frozenset({"number"})
    metrics = frozenset({"mae", "mape"})
    preference = 0.3

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, 1], target [batch] → [batch]."""
        return F.l1_loss(output[:, 0].float(), target.float(), reduction="none")


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


class Quantile(TargetLoss):
    """Pinball loss: the model predicts a quantile of the target in place of its mean (Koenker and Bassett 1978).

    `quantile: 0.9` gives a number that the true one stays below in nine of ten rows like this. Logarithms in the task
    (`transform`) keep quantiles what they are. It is taken only where the recipe names it with a quantile; `mae` is the
    metric that suits 0.5, and no built-in metric measures the others, which r2 and rmse judge too harshly.
    """

    targets = frozenset({"number"})

    class Config(TargetLoss.Config):
        """Settings of the quantile loss."""

        quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
        """Share of rows whose true number lies below the prediction; 0.5 is the median."""

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """Why the loss does not fit: the target's kind, or no quantile was asked for."""
        if reason := super().unsuited(context, config):
            return reason
        if "quantile" not in config.model_fields_set:
            return "no quantile is asked for (model: {loss: {name: quantile, quantile: 0.9}})"
        return None

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Output [batch, 1], target [batch] → [batch]."""
        over = target.float() - output[:, 0].float()  # above 0 where the prediction is too low
        quantile = self.config.quantile
        return torch.maximum(quantile * over, (quantile - 1) * over)
