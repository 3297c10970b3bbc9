"""Figures that describe each channel of a series: level, spread, trend, last values, rhythm. Torch-free."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LAGS = (1, 2, 4, 8)
_BANDS = 8
_TINY = 1e-6

NAMES = (
    *("mean", "std", "last_10", "slope", "min", "max", "line_end", "last_quarter_slope", "last_quarter", "last_5"),
    *(f"quantile_{int(100 * share)}" for share in _QUANTILES),
    *("step_std", "last", "first_quarter", "last_half_slope", "last_20", "last_quarter_std", "skewness", "kurtosis"),
    *(f"autocorrelation_{lag}" for lag in _LAGS),
    *("crossings", "energy"),
    *(f"band_{band}" for band in range(_BANDS)),
)
"""The figures of a channel, the more useful first."""


def figures(values: np.ndarray) -> np.ndarray:
    """The figures of every channel.

    Slopes are differences over their whole window. Bands are the logarithm of the spectrum's energy in bands that
    halve from the highest frequency downward, 0 where there is none.

    Args:
        values: Standardised samples [time, channels] without gaps.

    Returns:
        Float32 [channels, figures], in the order of `NAMES`; finite also for a series of one point.
    """
    time = len(values)
    quarter, half = values[-max(time // 4, 1) :], values[-max((time + 1) // 2, 1) :]
    mean, std = values.mean(0), values.std(0)
    centred = values - mean
    unit = centred / np.maximum(std, _TINY)
    steps = np.diff(values, axis=0)
    slope = _slope(values)
    rows = [mean, std, values[-10:].mean(0), slope, values.min(0), values.max(0)]
    rows += [mean + slope / 2, _slope(quarter), quarter.mean(0), values[-5:].mean(0)]
    rows += list(np.quantile(values, _QUANTILES, axis=0))
    rows += [np.sqrt((steps**2).sum(0) / max(len(steps), 1)), values[-1], values[: len(quarter)].mean(0), _slope(half)]
    rows += [values[-20:].mean(0), quarter.std(0), (unit**3).mean(0), (unit**4).mean(0)]
    rows += [(unit[lag:] * unit[: time - lag]).sum(0) / time if lag < time else 0 * mean for lag in _LAGS]
    rows += [((centred[1:] > 0) != (centred[:-1] > 0)).sum(0) / time, np.log((centred**2).mean(0) + _TINY)]
    rows += list(_bands(centred))
    return np.stack(rows, 1).astype(np.float32)


def _slope(values: np.ndarray) -> np.ndarray:
    """How much the least-squares line rises over the window, [channels]."""
    place = np.arange(len(values)) - (len(values) - 1) / 2
    return place @ values / max(float((place**2).sum()), 1.0) * (len(values) - 1)


def _bands(centred: np.ndarray) -> np.ndarray:
    """Log energies [bands, channels]; their exponentials add up to the variance."""
    time = len(centred)
    power = np.abs(np.fft.rfft(centred, axis=0)) ** 2 * 2 / time**2  # [frequencies, channels]
    if time % 2 == 0:
        power[-1] /= 2  # the highest frequency has no twin
    cycles = np.arange(len(power)) / time  # cycles per step, up to 0.5
    edges = 0.5 / 2.0 ** np.arange(_BANDS, -1, -1)
    edges[0] = 0
    found = [power[(cycles > low) & (cycles <= high)].sum(0) for low, high in pairwise(edges)]
    return np.log(np.stack(found) + _TINY)
