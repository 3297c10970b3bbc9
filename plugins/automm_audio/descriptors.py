"""Sound → one vector of classical descriptors, nothing of it learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from automm.api import ArraySpec
from automm_audio.figures import describe, size
from automm_audio.sound import Sound


class Descriptors(Sound):
    """Timbre, its course in time, its rhythm and its level, as one vector (see `automm_audio.figures`)."""

    op = "audio.descriptors"
    name = "audio.descriptors"

    class Config(Sound.Config):
        """Bands."""

        mels: Annotated[int, Field(ge=20, le=128)] = 40
        """Mel bands of the spectrogram that everything is computed from."""

    def specs(self) -> dict[str, ArraySpec]:
        """`vector`: float32 [n]."""
        return {"vector": ArraySpec("float32", (size(self.config.mels),))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One sound → its descriptors.

        Raises:
            BadCell: If the file cannot be used.
        """
        return {"vector": describe(self.wave(cell), self.rate, self.config.mels)}

    def blank(self) -> dict[str, np.ndarray]:
        """Nothing is known of a missing sound."""
        return {"vector": np.full(size(self.config.mels), np.nan, np.float32)}
