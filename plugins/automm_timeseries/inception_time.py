"""InceptionTime with statistics, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from automm.api import Encoder, Features, InputInfo, Processor, Tune, nn, torch
from automm_timeseries.values import Values


class InceptionTime(Encoder):
    """Parallel convolutions of several lengths with shortcuts, and per-channel statistics beside them.

    Ismail Fawaz et al. 2020, "InceptionTime: Finding AlexNet for Time Series Classification". Two changes make a row
    independent of the padding and of the other rows of its batch: padded steps are zero before every convolution, and
    each step is normalised over its channels (layer normalisation) instead of over the batch.
    """

    name = "inception_time"
    modality = "series"
    preference = 1.0

    class Config(Encoder.Config):
        """Length of the series and size of the network."""

        max_length: Annotated[int, Field(ge=1, le=100_000)] = 512
        """Most time steps; the cost grows with it."""
        longer: Literal["last", "resample"] = "last"
        """What happens to longer series (see the processor `series.values`)."""
        clock: Annotated[Literal["auto", "drop", "keep"], Tune(choices=["auto", "drop"])] = "auto"
        """What happens to a table's time axis (see the processor `series.values`)."""
        timing: Literal["auto", "steps", "gaps", "grid"] = "auto"
        """What uneven time steps mean (see the processor `series.values`)."""
        filters: Annotated[int, Field(ge=4, le=128), Tune(8, 32, step=8)] = 16
        """Channels of each of the four branches; the features are four times as wide."""
        depth: Annotated[int, Field(ge=1, le=12), Tune(2, 6)] = 3
        """Inception modules; a shortcut spans every three."""
        kernel: Annotated[int, Field(ge=5, le=127), Tune(9, 41, step=8)] = 33
        """Longest convolution in time steps; the other two are half and a quarter of it."""
        dropout: Annotated[float, Field(ge=0, lt=1), Tune(0.0, 0.5)] = 0.1
        """Share of the features dropped in training."""
        statistics: Annotated[bool, Tune(choices=[True, False])] = True
        """Whether mean, deviation, extremes, last value, slope, roughness and length are encoded as well."""
        tokens: bool = False
        """Give every time step as a token instead of one pooled token."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Values:
        """Series of at most this length."""
        del info
        fields = ("max_length", "longer", "clock", "timing")
        return Values(Values.Config(**{name: getattr(config, name) for name in fields}))

    def __init__(self, config: Config, processor: Processor) -> None:
        super().__init__(config, processor)
        from automm_timeseries.blocks import Inception, Statistics

        channels = processor.specs()["values"].shape[1]
        self.width = 4 * config.filters
        self.blocks = nn.ModuleList(
            Inception(channels if at == 0 else self.width, config.filters, config.kernel) for at in range(config.depth)
        )
        self.shortcuts = nn.ModuleList(
            nn.Conv1d(channels if at == 0 else self.width, self.width, 1) for at in range(config.depth // 3)
        )
        self.norm = nn.LayerNorm(self.width)
        self.statistics = Statistics(channels, self.width) if config.statistics else None
        self.join = None if config.tokens else nn.Linear((2 + config.statistics) * self.width, self.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, arrays: Mapping[str, torch.Tensor]) -> Features:
        """Values [batch, time, channels] and mask [batch, time] → features."""
        mask = arrays["mask"]
        real = mask[:, None].to(arrays["values"].dtype)  # [batch, 1, time]
        x = entry = arrays["values"].mT * real  # [batch, channels, time]
        for at, block in enumerate(self.blocks):
            x = block(x, real)
            if at % 3 == 2:
                x = entry = torch.relu(x + self.shortcuts[at // 3](entry)) * real
        steps = self.norm(x.mT)  # [batch, time, width]
        summary = None if self.statistics is None else self.statistics(arrays["values"], mask)  # [batch, width]
        if self.config.tokens:
            tokens = steps if summary is None else steps + summary[:, None]
            return Features(self.dropout(tokens) * mask[..., None].to(steps.dtype), mask)
        mean = Features(steps, mask).mean()
        peak = steps.masked_fill(~mask[..., None], -1e4).amax(1) * mask.any(1, keepdim=True)
        parts = [mean, peak] if summary is None else [mean, peak, summary]
        return Features.vector(torch.relu(self.join(self.dropout(torch.cat(parts, 1)))))

    def layers(self) -> list[nn.Module]:
        """The inception modules with their shortcuts; what follows the last one and the statistics come last."""
        found = []
        for at, block in enumerate(self.blocks):
            found.append(nn.ModuleList([block, self.shortcuts[at // 3]] if at % 3 == 2 else [block]))
        tail = [self.norm, self.statistics, self.join]
        return [*found, nn.ModuleList(module for module in tail if module is not None)]
