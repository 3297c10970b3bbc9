"""Spectra of sound, in NumPy alone: short-time power, mel bands, decibels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 256
"""Frames transformed at a time: what they need stays in a core's cache."""


def hz_to_mel(hertz: np.ndarray) -> np.ndarray:
    """Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above."""
    linear = hertz * 3 / 200
    return np.where(hertz < 1000, linear, 15 + np.log(np.maximum(hertz, 1e-9) / 1000) * 27 / np.log(6.4))


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@functools.lru_cache(maxsize=32)
def mel_filters(rate: int, n_fft: int, mels: int, low: float, high: float) -> np.ndarray:
    """Triangular filters of unit area, evenly spaced on the mel scale.

    Args:
        rate: Samples per second.
        n_fft: Samples of a frame.
        mels: Number of filters.
        low: Lower end of the first filter in hertz.
        high: Upper end of the last filter in hertz.

    Returns:
        Float32 [1 + n_fft // 2, mels], read-only.
    """
    ends = mel_to_hz(np.linspace(*hz_to_mel(np.array([low, high])), mels + 2))
    bins = np.fft.rfftfreq(n_fft, 1 / rate)[:, None]
    left, middle, right = ends[:-2], ends[1:-1], ends[2:]
    rise, fall = (bins - left) / (middle - left), (right - bins) / (right - middle)
    filters = (np.maximum(0, np.minimum(rise, fall)) * 2 / (right - left)).astype(np.float32)
    filters.flags.writeable = False
    return filters


@functools.lru_cache(maxsize=32)
def hann(size: int) -> np.ndarray:
    """The periodic Hann window, float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def power(
    wave: np.ndarray, n_fft: int, hop: int, filters: np.ndarray | None = None, edges: str = "constant"
) -> np.ndarray:
    """Short-time power spectrum; frame t is centred on sample t · hop.

    Args:
        wave: Float32 [samples].
        n_fft: Samples of a frame.
        hop: Samples between frames.
        filters: Joined into bands by these, [1 + n_fft // 2, bands].
        edges: What surrounds the sound: "constant" (silence) or "reflect" (its mirror image).

    Returns:
        Float32 [1 + samples // hop, 1 + n_fft // 2 or bands].
    """
    frames = sliding_window_view(np.pad(wave, n_fft // 2, edges), n_fft)[::hop]  # [time, n_fft], a view
    window = hann(n_fft)
    width = 1 + n_fft // 2 if filters is None else filters.shape[1]
    found = np.empty((len(frames), width), np.float32)
    for start in range(0, len(frames), BLOCK):
        spectrum = np.fft.rfft(frames[start : start + BLOCK] * window)
        squares = spectrum.real**2 + spectrum.imag**2
        found[start : start + BLOCK] = squares if filters is None else squares @ filters
    return found


def decibels(power: np.ndarray, floor: float = 1e-10, span: float = 80.0) -> np.ndarray:
    """10 · log10 of a power, at least `floor`, and at most `span` below the largest value."""
    found = 10 * np.log10(np.maximum(power, floor))
    return np.maximum(found, found.max(initial=-np.inf) - span)


@functools.lru_cache(maxsize=32)
def cosines(size: int, count: int) -> np.ndarray:
    """The first `count` orthonormal cosines (DCT-II) over `size` points, float32 [size, count]."""
    phase = np.pi * (np.arange(size)[:, None] + 0.5) * np.arange(count) / size
    found = np.cos(phase) * np.sqrt(2 / size)
    found[:, 0] /= np.sqrt(2)
    return found.astype(np.float32)
