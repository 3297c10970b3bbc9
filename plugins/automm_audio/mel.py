"""Sound → log-mel spectrogram."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from automm.api import ArraySpec
from automm_audio.sound import Sound
from automm_audio.spectra import decibels, mel_filters, power


class Mel(Sound):
    """The log-mel spectrogram of a sound in decibels, as librosa computes it, and which frames are real.

    Equal to `librosa.power_to_db(librosa.feature.melspectrogram(…))` with the window as n_fft.
    """

    op = "audio.mel"
    name = "audio.mel"

    class Config(Sound.Config):
        """Frames and bands."""

        window: Annotated[float, Field(ge=0.001, le=1)] = 0.032
        """Length of a frame in seconds."""
        hop: Annotated[float, Field(ge=0.0005, le=1)] = 0.010
        """From frame to frame in seconds."""
        mels: Annotated[int, Field(ge=4, le=256)] = 64
        """Bands."""

    def specs(self) -> dict[str, ArraySpec]:
        """`mel`: float32 [time, mels] in decibels; `mask`: bool [time]."""
        return {"mel": ArraySpec("float32", ("time", self.config.mels)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One sound → its spectrogram.

        Raises:
            BadCell: If the file cannot be used.
        """
        return self._arrays(self.wave(cell))

    def blank(self) -> dict[str, np.ndarray]:
        """One frame of silence, which counts as real."""
        return self._arrays(np.zeros(1, np.float32))

    def _arrays(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        n_fft, hop = 2 * round(self.rate * self.config.window / 2), max(1, round(self.rate * self.config.hop))
        filters = mel_filters(self.rate, n_fft, self.config.mels, 0.0, self.rate / 2)
        mel = decibels(power(wave, n_fft, hop, filters))
        return {"mel": mel, "mask": np.ones(len(mel), bool)}
