"""A small residual network, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from automm.api import Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_image.augment import augment
from automm_image.pixels import Pixels

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class SmallCnn(Encoder):
    """A residual network (He et al. 2016, pre-activation) of three stages for a few hundred pictures and more.

    Batch normalisation: with group normalisation an epoch costs a third more, and the same loss takes nearly twice as
    many. Training pictures are augmented on the device.
    """

    name = "small_cnn"
    modality = "image"
    preference = 1.0

    class Config(Encoder.Config):
        """Size of the pictures, of the network, and of the augmentation."""

        size: Annotated[int, Field(ge=32, le=512, multiple_of=16), Tune(choices=[64, 96])] = 64
        """Height and width of the pictures in pixels; the cost grows with its square."""
        fit: Literal["squash", "crop", "pad"] = "squash"
        """How other shapes become square (see the processor `image.pixels`)."""
        width: Annotated[int, Field(ge=8, le=128, multiple_of=8), Tune(16, 48, step=8)] = 24
        """Channels of the first layer; each of the three stages doubles them."""
        depth: Annotated[int, Field(ge=1, le=4), Tune(1, 2)] = 1
        """Residual blocks in each stage."""
        strength: Annotated[float, Field(ge=0, le=1), Tune(0.0, 1.0)] = 0.2
        """Strength of the augmentation (turn, scale, shift, colour, cutout) in training."""
        flip: Annotated[Literal["none", "horizontal", "both"], Tune(choices=["none", "horizontal", "both"])] = (
            "horizontal"
        )
        """Mirroring in training; `none` where left and right differ in meaning (digits, letters)."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of the features dropped in training."""
        tokens: bool = False
        """Give the cells of the last feature map as tokens instead of their mean."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Pixels:
        """Pictures at this size."""
        del info
        return Pixels(Pixels.Config(size=config.size, fit=config.fit))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_image.blocks import ResidualBlock

        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.stem = nn.Conv2d(3, config.width, 3, stride=2, padding=1, bias=False)
        self.stages = nn.ModuleList()
        width = config.width
        for _ in range(3):
            blocks = [ResidualBlock(width, 2 * width, stride=2)]
            width *= 2
            blocks += [ResidualBlock(width, width) for _ in range(config.depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(config.dropout)
        self.width = width
        self.to(memory_format=torch.channels_last)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Uint8 pixels [batch, size, size, 3] → features."""
        x = arrays["pixels"].permute(0, 3, 1, 2).float() / 255  # [batch, 3, size, size], channels last in memory
        if self.training:
            x = augment(x, self.config.strength, self.config.flip)
        x = self.stem((x - self.mean) / self.std)
        for stage in self.stages:
            x = stage(x)  # [batch, width, height / 2, width / 2]
        x = self.dropout(torch.relu(self.norm(x)).flatten(2).mT)  # [batch, cells, width]
        if not self.config.tokens:
            return Features.vector(x.mean(1))
        return Features(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))

    def layers(self) -> list[nn.Module]:
        """Stem, stages, final norm with the last stage."""
        *early, last = self.stages
        return [self.stem, *early, nn.ModuleList([last, self.norm])]
