"""Sound → the spectrogram that a pretrained model was trained on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from automm.api import ArraySpec
from automm_audio.sound import Sound
from automm_audio.spectra import BLOCK, mel_filters, power

KALDI_FRAME, KALDI_FFT, KALDI_HOP = 400, 512, 160
KALDI_LOW = 20.0
KALDI_FLOOR = 1.192092955078125e-07
KALDI_EMPHASIS = 0.97


class Filterbank(Sound):
    """The log-mel spectrogram of Whisper, or the Kaldi filter bank of the Audio Spectrogram Transformer.

    Both models see a fixed length, filled up with silence; only the frames that hold sound are stored, and the encoder
    fills them up.
    """

    op = "audio.filterbank"
    name = "audio.filterbank"

    class Config(Sound.Config):
        """What the checkpoint's preprocessor_config.json says."""

        rate: Annotated[int, Field(ge=2000, le=192_000)] = 16000
        """Samples per second that every sound is resampled to."""
        kind: Literal["whisper", "kaldi"] = "whisper"
        """`whisper`: Slaney's mel bands, log10, at most 80 dB below the loudest; `kaldi`: frames without mean and with
        pre-emphasis, HTK's mel bands, natural logarithm."""
        mels: Annotated[int, Field(ge=4, le=512)] = 80
        """Bands."""
        frames: Annotated[int, Field(ge=2)] = 3000
        """Most frames; the rest is cut off."""
        n_fft: Annotated[int, Field(ge=16, le=8192)] = 400
        """Samples of a frame (`whisper`)."""
        hop: Annotated[int, Field(ge=1)] = 160
        """Samples from frame to frame (`whisper`)."""
        mean: float = 0.0
        """What is subtracted (`kaldi`)."""
        scale: Annotated[float, Field(gt=0)] = 1.0
        """What it is then divided by (`kaldi`)."""

    def specs(self) -> dict[str, ArraySpec]:
        """`bands`: float32 [time, mels]; `mask`: bool [time]."""
        return {"bands": ArraySpec("float32", ("time", self.config.mels)), "mask": ArraySpec("bool", ("time",))}

    def load(self, cell: Path | bytes) -> dict[str, np.ndarray]:
        """One sound → its spectrogram.

        Raises:
            BadCell: If the file cannot be used.
        """
        return self._arrays(self.wave(cell))

    def blank(self) -> dict[str, np.ndarray]:
        """A moment of silence, which counts as real."""
        return self._arrays(np.zeros(1, np.float32))

    def _arrays(self, wave: np.ndarray) -> dict[str, np.ndarray]:
        bands = self._whisper(wave) if self.config.kind == "whisper" else self._kaldi(wave)
        bands = bands[: self.config.frames]
        return {"bands": bands, "mask": np.ones(len(bands), bool)}

    def _whisper(self, wave: np.ndarray) -> np.ndarray:
        config = self.config
        most, half = config.frames * config.hop, config.n_fft // 2
        wave = wave[:most]
        frames = min(config.frames, -(-(len(wave) + half) // config.hop))  # later ones hold nothing of the sound
        wave = np.pad(wave, (0, min(most - len(wave), config.n_fft + 1)))
        filters = mel_filters(config.rate, config.n_fft, config.mels, 0.0, 8000.0)
        bands = np.log10(np.maximum(power(wave, config.n_fft, config.hop, filters, "reflect")[:frames], 1e-10))
        return (np.maximum(bands, bands.max() - 8) + 4) / 4

    def _kaldi(self, wave: np.ndarray) -> np.ndarray:
        config = self.config
        wave = np.pad(wave, (0, max(0, KALDI_FRAME - len(wave))))
        frames = np.lib.stride_tricks.sliding_window_view(wave, KALDI_FRAME)[::KALDI_HOP][: config.frames]
        filters, window = _kaldi_filters(config.rate, config.mels), _kaldi_window()
        found = np.empty((len(frames), config.mels), np.float32)
        for start in range(0, len(frames), BLOCK):
            part = frames[start : start + BLOCK] - frames[start : start + BLOCK].mean(1, keepdims=True)
            before = np.concatenate([part[:, :1], part[:, :-1]], 1)
            spectrum = np.fft.rfft((part - KALDI_EMPHASIS * before) * window, KALDI_FFT)
            found[start : start + BLOCK] = (spectrum.real**2 + spectrum.imag**2) @ filters
        return (np.log(np.maximum(found, KALDI_FLOOR)) - np.float32(config.mean)) / np.float32(config.scale)


@functools.cache
def _kaldi_window() -> np.ndarray:
    return np.hanning(KALDI_FRAME).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _kaldi_filters(rate: int, mels: int) -> np.ndarray:
    """Filters that are triangles on HTK's mel scale, float32 [257, mels]."""

    def mel(hertz: np.ndarray) -> np.ndarray:
        return 1127 * np.log1p(hertz / 700)

    ends = np.linspace(*mel(np.array([KALDI_LOW, rate // 2])), mels + 2)
    bins = mel(np.arange(KALDI_FFT // 2 + 1) * rate / KALDI_FFT)[:, None]
    rise = (bins - ends[:-2]) / (ends[1:-1] - ends[:-2])
    fall = (ends[2:] - bins) / (ends[2:] - ends[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)
