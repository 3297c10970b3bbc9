"""Sound → samples, for encoders that begin with the waveform."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from automm.api import ArraySpec
from automm_audio.sound import Sound


class Wave(Sound):
    """The samples of a sound and which of them are real."""

    op = "audio.wave"
    name = "audio.wave"

    class Config(Sound.Config):
        """The rate, the length and the level."""

        normalize: bool = False
        """Bring every sound to mean 0 and variance 1."""
        min_samples: int = 1
        """Shorter sounds are filled up with silence to this."""

    def specs(self) -> dict[str, ArraySpec]:
        """`wave`: float32 [samples]; `mask`: bool [samples]."""
        return {"wave": ArraySpec("float32", ("samples",)), "mask": ArraySpec("bool", ("samples",))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One sound → its samples.

        Raises:
            BadCell: If the file cannot be used.
        """
        wave = self.wave(cell)
        if self.config.normalize:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        return self._arrays(wave)

    def blank(self) -> dict[str, np.ndarray]:
        """Silence that counts as real: normalisation over nothing at all would be undefined."""
        return self._arrays(np.zeros(1, np.float32))

    def _arrays(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        wave = np.pad(wave, (0, max(0, self.config.min_samples - len(wave))))
        return {"wave": wave, "mask": np.ones(len(wave), bool)}
