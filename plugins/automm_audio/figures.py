"""The figures that describe a sound."""

from __future__ import annotations

import functools

import numpy as np

from automm_audio.spectra import cosines, decibels, mel_filters, power

CEPSTRUM = 20
"""MFCC."""
ENVELOPE = 16
"""Cosines that hold the spectral envelope of a segment."""
SEGMENTS = 16
"""Equal parts of a sound."""
OPENING, STEPS = 60, 20
"""Frames of the beginning, which isolated sounds (words, knocks) are told apart by, and its parts."""
JOINT = 14
"""MFCC whose covariances with each other and with their changes are taken."""
RHYTHM, RHYTHM_FRAMES = 16, 128
QUIET = 25.0
"""Decibels below the loudest frame at which a sound's edges count as silence."""
WINDOW, HOP = 0.032, 0.010
QUANTILES = (0.1, 0.5, 0.9)


@functools.cache
def size(mels: int) -> int:
    """Length of the vector."""
    return len(describe(np.zeros(800, np.float32), 8000, mels))


def describe(wave: np.ndarray, rate: int, mels: int) -> np.ndarray:
    """Describes a sound of any length.

    From the log-mel spectrogram: the envelope's course over the whole sound, without its silent edges, and over the
    first 0.6 s; mean, deviation, quantiles and roughness of the MFCC (Davis & Mermelstein 1980) and the covariances of
    MFCC and their changes; the modulation spectrum of every band (Greenberg & Kingsbury 1997). From the power spectrum:
    centroid, spread, roll-off, flatness and flux. From the samples: level, crest, zero crossings and duration.

    Args:
        wave: Float32 [samples].
        rate: Samples per second.
        mels: Bands.

    Returns:
        Float32 [size(mels)], finite.
    """
    n_fft, hop = 2 * round(rate * WINDOW / 2), round(rate * HOP)
    spectrum = power(wave, n_fft, hop)
    bands = decibels(spectrum @ mel_filters(rate, n_fft, mels, 0.0, rate / 2))  # [time, mels]
    loud = _without_edges(bands)
    opening = np.full((OPENING, mels), bands.min(), np.float32)
    opening[: len(bands)] = bands[:OPENING]
    envelope = cosines(mels, ENVELOPE)
    cepstrum = bands @ cosines(mels, CEPSTRUM)
    parts = [
        _segments(bands, SEGMENTS) @ envelope,
        _segments(loud, SEGMENTS) @ envelope,
        _segments(opening, STEPS) @ envelope,
        _cepstral(cepstrum),
        _modulation(bands),
        _shape(spectrum, rate),
        _level(wave, rate, len(loud) / len(bands)),
    ]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _without_edges(bands: np.ndarray) -> np.ndarray:
    """The frames between the first and the last that are not quiet."""
    level = bands.mean(1)
    loud = np.flatnonzero(level >= level.max() - QUIET)
    return bands[loud[0] : loud[-1] + 1]


def _segments(frames: np.ndarray, count: int) -> np.ndarray:
    """Means of `count` equal parts, [count, width]; a part shorter than a frame takes its share of it."""
    total = np.zeros((len(frames) + 1, frames.shape[1]))
    np.cumsum(frames, 0, out=total[1:])
    ends = np.linspace(0, len(frames), count + 1)
    before = np.minimum(ends.astype(int), len(frames) - 1)
    until = total[before] + (ends - before)[:, None] * frames[before]
    return np.diff(until, axis=0) * (count / len(frames))


def _cepstral(cepstrum: np.ndarray) -> np.ndarray:
    change = np.gradient(cepstrum, axis=0) if len(cepstrum) > 1 else np.zeros_like(cepstrum)
    both = np.concatenate([cepstrum[:, :JOINT], change[:, :JOINT]], 1)
    both = both - both.mean(0)
    covariance = both.T @ both / max(1, len(both) - 1)
    quantiles = np.quantile(cepstrum, QUANTILES, axis=0)
    parts = [cepstrum.mean(0), cepstrum.std(0), change.std(0), quantiles.ravel()]
    return np.concatenate([*parts, covariance[np.triu_indices(2 * JOINT)]])


def _modulation(bands: np.ndarray) -> np.ndarray:
    """How strongly the bands swing at 0.8 to 12.5 Hz, in the mean over stretches of 1.28 s; envelope over the bands."""
    bands = bands - bands.mean(0)
    short = -len(bands) % RHYTHM_FRAMES
    stretches = np.pad(bands, ((0, short), (0, 0))).reshape(-1, RHYTHM_FRAMES, bands.shape[1])
    swing = np.abs(np.fft.rfft(stretches, axis=1))[:, 1 : RHYTHM + 1].mean(0)
    scale = np.sqrt(len(bands) / len(stretches))
    return np.log1p(swing / scale) @ cosines(bands.shape[1], 12)


def _shape(spectrum: np.ndarray, rate: int) -> np.ndarray:
    """Mean, deviation, quantiles of five figures per frame; frequencies as shares of the highest."""
    power = spectrum + 1e-10
    share = power / power.sum(1, keepdims=True)  # [time, bins]
    place = np.linspace(0, 1, power.shape[1], dtype=np.float32)
    centroid = share @ place
    spread = np.sqrt(np.maximum(0, share @ place**2 - centroid**2))
    rolloff = (np.cumsum(share, 1) < 0.85).mean(1)
    flatness = np.log(power).mean(1) - np.log(power.mean(1))
    flux = np.abs(np.diff(share, axis=0, prepend=share[:1])).sum(1)
    figures = np.stack([centroid, spread, rolloff, flatness, flux], 1)
    return np.concatenate([figures.mean(0), figures.std(0), np.quantile(figures, QUANTILES, axis=0).ravel()])


def _level(wave: np.ndarray, rate: int, loud: float) -> np.ndarray:
    root = np.sqrt(np.mean(wave.astype(np.float64) ** 2))
    peak = float(np.abs(wave).max())
    crossings = np.mean(np.signbit(wave[1:]) != np.signbit(wave[:-1])) if len(wave) > 1 else 0.0
    return np.array(
        [np.log(root + 1e-6), np.log(peak + 1e-6), peak / (root + 1e-6), crossings, np.log(len(wave) / rate), loud]
    )
