"""The generalised cross-entropy."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from automm.api import Context, F, Loss, Tune, torch


class GeneralizedCrossEntropy(Loss):
    """Cross-entropy that believes labels less, the less probable they are.

    (1 − p^q) / q of the true class's probability p: Zhang and Sabuncu 2018, "Generalized Cross Entropy Loss for
    Training Deep Neural Networks with Noisy Labels".
    """

    targets = frozenset({"class"})

    class Config(Loss.Config):
        """How far labels are doubted.

        Attributes:
            q: Near 0 it is the cross-entropy; 1 is the mean absolute error of the probability, which doubts most.
        """

        q: Annotated[float, Field(gt=0, le=1), Tune(0.1, 0.9)] = 0.7

    @classmethod
    def unsuited(cls, context: Context, config: Any) -> str | None:
        """It needs one class per row."""
        del config
        if context.target is None or context.target.kind in cls.targets:
            return None
        return f"it needs one class per row as target, the task is {context.task}"

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Output [batch, classes] and target int64 [batch] → loss [batch], between 0 and 1 / q."""
        log_p = F.log_softmax(output.float(), dim=1).gather(1, target[:, None])[:, 0]  # [batch]
        return (1 - (self.config.q * log_p).exp()) / self.config.q
