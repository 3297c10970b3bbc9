"""Encoders whose processor does all the describing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from automm.core.config import Tune
from automm.core.features import Features
from automm.core.kinds import Encoder
from automm.core.lazy import LazyModule
from automm.core.processor import Processor

if TYPE_CHECKING:
    import torch
    from torch import nn
else:
    torch, nn = LazyModule("torch"), LazyModule("torch.nn")


class VectorEncoder(Encoder, abstract=True):
    """An encoder over fixed descriptors: its processor gives `vector` [n] per cell, one trained layer makes features.

    The author writes `processor` only. `vector` is float32; NaN stands for an unknown value, and a blank cell is all
    NaN. Descriptors are computed once and stored, so a trial costs a matrix product, and learners that are no networks
    read them as they are.
    """

    completing = frozenset({"width", "dropout"})

    class Config(Encoder.Config):
        """Fields of every encoder over fixed descriptors."""

        adapt: Literal["full"] = "full"
        """The layer on the descriptors is trained; the descriptors are fixed."""
        width: Annotated[int, Field(ge=1), Tune(choices=[64, 128, 256])] = 128
        """Width of the features."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.7)] = 0.3
        """Share of descriptor values dropped in training."""

    def __init__(self, config: Any, processor: Processor) -> None:
        from automm.model.standardise import Standardise

        super().__init__(config, processor)
        size = processor.specs()["vector"].shape[0]
        assert isinstance(size, int)
        self.standardise = Standardise(size)
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(size, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.width = config.width

    @classmethod
    def extracts(cls, config: Any) -> bool:
        """Always: the processor computed everything."""
        del config
        return True

    def extract(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """`vector` [batch, n] as one token."""
        return Features.vector(arrays["vector"])

    def complete(self, features: Features) -> Features:
        """Descriptors [batch, 1, n] → features [batch, 1, width]."""
        x = self.standardise(features.tokens[:, 0])  # [batch, n]
        return Features.vector(nn.functional.gelu(self.norm(self.project(self.dropout(x)))))
