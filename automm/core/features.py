"""What encoders give and fusions take."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Features(NamedTuple):
    """Encoded tokens of one input (a NamedTuple, so that `torch.export` sees a pytree).

    Attributes:
        tokens: Float tensor [batch, time, width]; pooled encoders give time = 1.
        mask: Bool tensor [batch, time]; True where a token is real. A missing modality is an all-False row.
    """

    tokens: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def vector(cls, values: torch.Tensor) -> Features:
        """Features with one token per row.

        Args:
            values: Float tensor [batch, width].
        """
        return cls(values[:, None, :], values.new_ones(values.shape[0], 1).bool())

    def mean(self) -> torch.Tensor:
        """The mean of the real tokens, [batch, width]; zeros for a row without any."""
        weight = self.mask.to(self.tokens.dtype)[:, :, None]  # [batch, time, 1]
        return (self.tokens * weight).sum(1) / weight.sum(1).clamp(min=1.0)

    @property
    def present(self) -> torch.Tensor:
        """Bool tensor [batch]: rows with at least one real token."""
        return self.mask.any(1)
