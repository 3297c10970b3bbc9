"""The encoders of tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from automm.api import Encoder, Features, InputInfo, Processor, Tune, VectorEncoder, nn, torch
from automm_tracks.figures import Figures
from automm_tracks.steps import CHANNELS, Steps


class TrackFigures(VectorEncoder):
    """Fixed figures of a track with one trained layer; trees and linear models read the figures as they are."""

    modality = "track"
    preference = 2.0

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Figures:
        """The figures."""
        del config, info
        return Figures(Figures.Config())


class TrackNetwork(Encoder):
    """Convolutions over the steps of a track, trained from scratch."""

    modality = "track"
    preference = 1.0

    class Config(Encoder.Config):
        """Length of the track and size of the network."""

        points: Annotated[int, Field(ge=2, le=10_000)] = 256
        """Most points of a track; longer tracks are thinned evenly."""
        size: Annotated[int, Field(ge=4, le=512), Tune(16, 64, step=16)] = 32
        """Width of the features."""
        blocks: Annotated[int, Field(ge=1, le=8), Tune(1, 4)] = 2
        """Convolutional blocks; each sees twice as far as the one before."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of the features dropped in training."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Steps:
        """The steps of a track of at most this many points."""
        del info
        return Steps(Steps.Config(points=config.points))

    def __init__(self, config: Any, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_tracks.layers import Block

        self.width = config.size
        self.entry = nn.Linear(CHANNELS, config.size)
        self.blocks = nn.ModuleList(Block(config.size, 2**at) for at in range(config.blocks))
        self.join = nn.Linear(2 * config.size, config.size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Steps [batch, time, 4] and mask [batch, time] → features [batch, 1, width]."""
        mask = arrays["mask"]
        x = self.entry(arrays["steps"])  # [batch, time, width]
        for block in self.blocks:
            x = block(x, mask)
        mean = Features(x, mask).mean()
        peak = x.masked_fill(~mask[..., None], -1e4).amax(1) * mask.any(1, keepdim=True)
        return Features.vector(self.dropout(self.join(nn.functional.gelu(torch.cat([mean, peak], 1)))))
