"""One layer on random convolutions and channel statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from automm.api import InputInfo, Tune, VectorEncoder
from automm_timeseries.rocket import Rocket


class RocketVector(VectorEncoder):
    """Fixed random convolutions (MiniRocket) and statistics of every channel, with one trained layer.

    Dempster et al. 2021, "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series Classification";
    Tan et al. 2022, "MultiRocket". See the processor `series.rocket` for what the vector holds.
    """

    name = "rocket"
    modality = "series"
    preference = 2.0

    class Config(VectorEncoder.Config):
        """Length of the series and size of the vector."""

        max_length: Annotated[int, Field(ge=1, le=100_000)] = 4096
        """Most time steps that are described."""
        longer: Literal["last", "resample"] = "last"
        """What happens to longer series (see the processor `series.values`)."""
        clock: Annotated[Literal["auto", "drop", "keep"], Tune(choices=["auto", "drop"])] = "auto"
        """What happens to a table's time axis (see the processor `series.values`)."""
        timing: Literal["auto", "steps", "gaps", "grid"] = "auto"
        """What uneven time steps mean (see the processor `series.values`)."""
        dilations: Annotated[int, Field(ge=1, le=12)] = 6
        """Most dilations of the kernels; series of at least 257 steps have room for six."""
        biases: Annotated[int, Field(ge=1, le=20), Tune(choices=[1, 2])] = 1
        """Values that each of the 84 kernels gives at each dilation."""
        differences: bool = True
        """Whether the differences between neighbouring steps are convolved as well."""
        figures: Annotated[int, Field(ge=0, le=10_000)] = 1000
        """Most statistics of channels in the vector; with many channels each keeps only the most useful ones."""

    @classmethod
    def processor(cls, config: Config, info: InputInfo) -> Rocket:
        """The convolutions and statistics."""
        del info
        shared = cls.Config.model_fields.keys() & Rocket.Config.model_fields.keys()
        return Rocket(Rocket.Config(**{name: getattr(config, name) for name in shared}))
