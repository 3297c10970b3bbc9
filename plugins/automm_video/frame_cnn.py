"""A small network over frames and their differences, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from automm.api import Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_video.augment import augment
from automm_video.frames import Frames

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CHANGE = 0.1
"""By how much a change from one frame to the next is divided."""


class FrameCnn(Encoder):
    """A residual network shared by all frames, which sees every frame and its change since the one before.

    The two streams of Simonyan & Zisserman 2014 ("Two-Stream Convolutional Networks") in one: appearance in three
    channels, motion in three more. The frames are joined by their mean or a small transformer. Training clips are
    augmented on the device, all frames of a clip alike.
    """

    name = "frame_cnn"
    modality = "video"
    preference = 1.0

    class Config(Encoder.Config):
        """Size of the clips, of the network, and of the augmentation."""

        frames: Annotated[int, Field(ge=2, le=128), Tune(choices=[8, 16])] = 8
        """Frames of a clip, taken evenly; the cost grows with their number."""
        size: Annotated[int, Field(ge=32, le=256, multiple_of=16), Tune(choices=[48, 64])] = 48
        """Height and width of the frames in pixels; the cost grows with its square."""
        width: Annotated[int, Field(ge=8, le=128, multiple_of=8), Tune(8, 32, step=8)] = 16
        """Channels of the first layer; each of the three stages doubles them."""
        temporal: Annotated[Literal["mean", "transformer", "tokens"], Tune(choices=["mean", "transformer"])] = "mean"
        """How frames are joined: their mean, a transformer over them, or not at all (`tokens`: for a fusion that
        attends to them)."""
        strength: Annotated[float, Field(ge=0, le=1), Tune(0.0, 1.0)] = 0.2
        """Strength of the augmentation (scale, shift, colour) in training."""
        flip: bool = True
        """Mirroring in training; off where left and right differ in meaning."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of the features dropped in training."""

    @classmethod
    def processor(cls, config: Any, info: InputInfo) -> Frames:
        """So many frames at this size."""
        del info
        return Frames(Frames.Config(frames=config.frames, size=config.size))

    def __init__(self, config: Any, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_video.blocks import ResidualBlock, Temporal

        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        widths = [config.width * 2**step for step in range(4)]
        self.stem = nn.Conv2d(6, widths[0], 3, stride=2, padding=1, bias=False)
        self.stages = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(config.dropout)
        self.temporal = Temporal(config.temporal, widths[-1], config.frames, config.dropout)
        self.width = widths[-1]
        self.to(memory_format=torch.channels_last)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 frames [batch, frames, size, size, 3] → features."""
        x = arrays["frames"].permute(0, 1, 4, 2, 3).float() / 255  # [batch, frames, 3, size, size]
        if self.training:
            x = augment(x, self.config.strength, self.config.flip)
        # The first frame has none before it: its change is the one that follows.
        change = x[:, 1:] - x[:, :-1]
        change = torch.cat([change[:, :1], change], 1) / CHANGE
        x = torch.cat([(x - self.mean) / self.std, change], 2).flatten(0, 1)  # [batch * frames, 6, size, size]
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        x = self.dropout(torch.relu(self.norm(x)).mean((2, 3)))  # [batch * frames, width]
        return self.temporal(x.reshape(-1, self.config.frames, self.width))

    def layers(self) -> list[nn.Module]:
        """Stem, stages, what joins the frames with the last stage."""
        *early, last = self.stages
        return [self.stem, *early, nn.ModuleList([last, self.norm, self.temporal])]
