"""What the processors of sound share: reading, the rate, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from automm.api import Processor
from automm_audio.reading import Limits, native_rate, read

GRID = (8000, 16000, 24000, 32000)
"""Rates to choose from, in hertz; above 16 kHz hearing is poor and sounds tell little."""
LOOKS = 200
"""Files whose headers are read to choose the rate."""


class Sound(Processor, abstract=True):
    """Base of the processors of sound: `wave(cell)` gives the samples.

    `fit` learns `rate`, unless the configuration names it: the lowest that keeps what most training files hold.
    """

    media = True

    class Config(Processor.Config):
        """The rate, how much of a sound is kept, and what is refused."""

        rate: Annotated[int, Field(ge=2000, le=192_000)] | None = None
        """Samples per second that every sound is resampled to; None: chosen by the training files."""
        max_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
        """What is kept of a sound: its first seconds."""
        longest: Annotated[float, Field(gt=0)] = 1800.0
        """Seconds above which a sound is refused."""
        max_bytes: Annotated[int, Field(ge=1)] = 100_000_000
        """File size above which a sound is refused."""

    @property
    def limits(self) -> dict[str, float]:
        """Largest file in bytes, longest sound in seconds."""
        return {"bytes": self.config.max_bytes, "seconds": self.config.longest}

    @property
    def rate(self) -> int:
        """Samples per second (known after `fit`)."""
        return int(self.config.rate or self.state["rate"])

    def fit(self, chunks: Iterable[Any]) -> None:
        """Chooses the rate."""
        if self.config.rate is None:
            self.state["rate"] = self._choose(chunks)

    def _choose(self, chunks: Iterable[Any]) -> int:
        found: list[int] = []
        for chunk in chunks:
            for cell in chunk:
                if len(found) == LOOKS:
                    break
                if cell is not None and (rate := native_rate(cell, self._limits)):
                    found.append(rate)
        middle = sorted(found)[len(found) // 2] if found else GRID[1]
        return next((rate for rate in GRID if rate >= middle), GRID[-1])

    @property
    def _limits(self) -> Limits:
        return Limits(self.config.max_bytes, self.config.max_seconds, self.config.longest)

    def wave(self, cell: Path | bytes) -> np.ndarray:
        """The samples, float32 [samples], at `rate`.

        Raises:
            BadCell: If the file cannot be used.
        """
        return read(cell, self.rate, self._limits)
