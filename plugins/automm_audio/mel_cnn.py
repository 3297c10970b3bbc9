"""A small residual network on log-mel spectrograms, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from automm.api import Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_audio.mel import Mel


class MelCnn(Encoder):
    """A residual network on log-mel spectrograms of any length, for a thousand sounds and more.

    Trained from scratch, with spans of time and bands masked (SpecAugment, Park et al. 2019). A row's features depend
    neither on padding nor on the other rows.
    """

    name = "mel_cnn"
    modality = "audio"
    preference = 1.0

    class Config(Encoder.Config):
        """The spectrogram, the size of the network, and the masking."""

        mels: Annotated[int, Field(ge=16, le=256, multiple_of=8), Tune(choices=[40, 64])] = 64
        """Bands of the spectrogram."""
        hop: Annotated[float, Field(ge=0.002, le=0.1)] = 0.010
        """Seconds from frame to frame; the cost falls with it."""
        max_seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
        """What is kept of a sound: its first seconds."""
        width: Annotated[int, Field(ge=8, le=128, multiple_of=8), Tune(8, 32, step=8)] = 16
        """Channels of the first layer; each of the three stages doubles them."""
        depth: Annotated[int, Field(ge=1, le=4), Tune(1, 2)] = 1
        """Residual blocks in each stage."""
        masking: Annotated[float, Field(ge=0, le=1), Tune(0.0, 1.0)] = 0.5
        """Strength of the masking in training: at 1 each of two spans covers up to a fifth of the bands, and as much of
        the time."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.2
        """Share of the features dropped in training."""
        tokens: bool = False
        """Give a token for every 8 frames instead of one for the whole sound."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Mel:
        """Spectrograms of the first seconds."""
        del info
        return Mel(Mel.Config(mels=config.mels, hop=config.hop, max_seconds=config.max_seconds))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_audio.blocks import FrameNorm, ResidualBlock

        width = config.width
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        for _ in range(3):
            blocks = [ResidualBlock(width, 2 * width, 2)]
            width *= 2
            blocks += [ResidualBlock(width, width, 1) for _ in range(config.depth - 1)]
            self.stages.append(nn.ModuleList(blocks))
        self.norm = FrameNorm(width)
        self.width = width
        flat = width * (config.mels // 8)
        self.level = nn.Linear(2, width)
        self.join = nn.Linear(flat if config.tokens else 2 * flat, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Decibels [batch, time, mels] and mask [batch, time] → features."""
        from automm_audio.blocks import mask_spans

        mel, real = arrays["mel"], arrays["mask"][..., None].to(arrays["mel"].dtype)  # real: [batch, time, 1]
        count = real.sum(1, keepdim=True).clamp(min=1) * mel.shape[2]
        mean = (mel * real).sum((1, 2), keepdim=True) / count  # [batch, 1, 1]
        spread = (((mel - mean).square() * real).sum((1, 2), keepdim=True) / count + 1).sqrt()
        x = (mel - mean) / spread * real
        if self.training and self.config.masking:
            x = mask_spans(x, real, self.config.masking)
        x, real = self.stem(x[:, None]), real[:, None]  # [batch, width, time, mels], [batch, 1, time, 1]
        x = x * real
        for stage in self.stages:
            for block in stage:
                x, real = block(x, real)
        x = torch.relu(self.norm(x, real)) * real
        x = x.permute(0, 2, 1, 3).flatten(2)  # [batch, time / 8, width · mels / 8]
        mask = real[:, 0, :, 0] > 0
        level = self.level(torch.cat([mean[:, 0] / 40, spread[:, 0] / 20], 1))  # what the normalisation took away
        if self.config.tokens:
            tokens = torch.relu(self.join(self.dropout(x)) + level[:, None])
            return Features(tokens * mask[..., None].to(x.dtype), mask)
        both = torch.cat([Features(x, mask).mean(), x.amax(1)], 1)  # not below 0, so padding never wins
        return Features.vector(torch.relu(self.join(self.dropout(both)) + level))

    def layers(self) -> list[nn.Module]:
        """Stem, stages, what follows with the last stage."""
        *early, last = self.stages
        return [self.stem, *early, nn.ModuleList([last, self.norm, self.level, self.join])]
