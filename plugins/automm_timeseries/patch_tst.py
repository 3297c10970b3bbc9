"""PatchTST, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from automm.api import Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_timeseries.values import Values


class PatchTst(Encoder):
    """Transformer over patches of time steps, with the level and spread that its normalisation removes.

    Nie et al. 2023, "A Time Series is Worth 64 Words". Each series is standardised by itself, so that shapes are
    compared; its mean, deviation, extremes, last value and slope are encoded beside the patches, because level matters
    in regression. Patches are numbered from the series' end, which stays the same place in series of any length.
    """

    name = "patch_tst"
    modality = "series"
    preference = 0.5

    class Config(Encoder.Config):
        """Length of the series, patches, and size of the network."""

        max_length: Annotated[int, Field(ge=1, le=100_000)] = 512
        """Most time steps; the cost of attention grows with the square of the number of patches."""
        longer: Literal["last", "resample"] = "last"
        """What happens to longer series (see the processor `series.values`)."""
        clock: Annotated[Literal["auto", "drop", "keep"], Tune(choices=["auto", "drop"])] = "auto"
        """What happens to a table's time axis (see the processor `series.values`)."""
        timing: Literal["auto", "steps", "gaps", "grid"] = "auto"
        """What uneven time steps mean (see the processor `series.values`)."""
        patch: Annotated[int, Field(ge=1, le=512), Tune(choices=[8, 16, 32])] = 16
        """Time steps of a patch."""
        stride: Annotated[int, Field(ge=1, le=512)] = 8
        """Time steps from one patch to the next; at most `patch`."""
        channels: Annotated[Literal["independent", "mixed"], Tune(choices=["independent", "mixed"])] = "mixed"
        """`independent`: one transformer reads each channel by itself, as in the paper; `mixed`: a patch holds all."""
        size: Annotated[int, Field(ge=16, le=512, multiple_of=16), Tune(choices=[32, 64, 128])] = 64
        """Width of the tokens."""
        layers: Annotated[int, Field(ge=1, le=12), Tune(1, 4)] = 2
        """Transformer layers."""
        heads: Literal[1, 2, 4, 8, 16] = 4
        """Attention heads."""
        width: Annotated[int, Field(ge=1)] = 128
        """Width of the features."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of values dropped in training."""
        tokens: bool = False
        """Give every patch as a token instead of one pooled token."""

        @model_validator(mode="after")
        def _overlap(self) -> PatchTst.Config:
            if self.stride > self.patch:
                raise ValueError(f"stride {self.stride} would skip time steps between patches of {self.patch}")
            return self

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Values:
        """Series of at most this length."""
        del info
        fields = ("max_length", "longer", "clock", "timing")
        return Values(Values.Config(**{name: getattr(config, name) for name in fields}))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_timeseries.blocks import Statistics
        from automm_timeseries.patches import Block, InstanceNorm, PatchEmbedding

        channels = processor.specs()["values"].shape[1]
        self.apart = config.channels == "independent"
        self.normalise = InstanceNorm()
        most = -(-config.max_length // config.stride)
        self.embed = PatchEmbedding(1 if self.apart else channels, config.size, config.patch, config.stride, most)
        self.blocks = nn.ModuleList(Block(config.size, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.size)
        self.statistics = Statistics(channels, config.width)
        self.join = nn.Linear(config.size * (channels if self.apart else 1), config.width)
        self.finish = nn.Sequential(nn.GELU(), nn.Dropout(config.dropout), nn.Linear(config.width, config.width))
        self.width = config.width

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Values [batch, time, channels] and mask [batch, time] → features."""
        values, mask = arrays["values"], arrays["mask"]
        series = self.normalise(values, mask[..., None].to(values.dtype)).mT  # [batch, channels, time]
        channels = series.shape[1]
        if self.apart:
            tokens, real = self.embed(series.flatten(0, 1)[:, None], mask.repeat_interleave(channels, 0))
        else:
            tokens, real = self.embed(series, mask)
        for block in self.blocks:
            tokens = block(tokens, real)
        tokens = self.norm(tokens)
        if self.apart:  # [batch × channels, patches, size] → [batch, patches, channels × size]
            tokens = tokens.unflatten(0, (-1, channels)).transpose(1, 2).flatten(2)
            real = real.unflatten(0, (-1, channels))[:, 0]
        features = Features(tokens, real)
        summary = self.statistics(values, mask)  # [batch, width]
        if self.config.tokens:
            joined = self.finish(self.join(tokens) + summary[:, None])
            return Features(joined * real[..., None].to(joined.dtype), real)
        return Features.vector(self.finish(self.join(features.mean()) + summary))

    def layers(self) -> list[nn.Module]:
        """Patch embedding, transformer layers, and what joins them with the statistics."""
        return [self.embed, *self.blocks, nn.ModuleList([self.norm, self.statistics, self.join, self.finish])]
