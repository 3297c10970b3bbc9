"""Series whose steps are not equally far apart: finding the time axis, gaps, and regular grids. Torch-free."""

from __future__ import annotations

import numpy as np

UNEVEN = 0.05
"""Share of the typical interval by which an interval may differ in a regular series."""


def interval(time: np.ndarray) -> float:
    """The typical interval: the median of the positive ones; 1 where there is none.

    Args:
        time: Ascending times [time].
    """
    steps = np.diff(time)
    steps = steps[steps > 0]
    return float(np.median(steps)) if len(steps) else 1.0


def is_uneven(time: np.ndarray) -> bool:
    """Whether some interval differs from the typical one by more than 5 %."""
    steps = np.diff(time)
    return bool(len(steps) and np.abs(steps / interval(time) - 1).max() > UNEVEN)


def gaps(time: np.ndarray, typical: float) -> np.ndarray:
    """Logarithm of every step's distance from the one before, over the typical distance; 0 at the first.

    Args:
        time: Ascending times [time].
        typical: The training series' typical interval.

    Returns:
        [time]; between -5 and 5, so that twin samples and long pauses stay finite.
    """
    steps = np.diff(time, prepend=time[0] - typical)
    return np.clip(np.log(np.maximum(steps / typical, 1e-9)), -5, 5)


def to_grid(values: np.ndarray, time: np.ndarray, typical: float, most: int, last: bool) -> np.ndarray:
    """Resamples an irregular series to equal steps by linear interpolation.

    A grid point is missing in a channel whose nearest sample is farther than the typical interval.

    Args:
        values: Samples [time, channels], NaN where missing.
        time: Ascending times [time].
        typical: Step of the grid.
        most: Most points of the grid.
        last: Whether a series that needs more points keeps its last ones; otherwise the steps become wider.

    Returns:
        [points, channels], the last point at the last sample; NaN where missing.
    """
    points = int(min((time[-1] - time[0]) / typical + 1e-6, 1e12)) + 1
    if points > most and not last:
        typical, points = (time[-1] - time[0]) / max(most - 1, 1), most
    grid = time[-1] - typical * np.arange(min(points, most))[::-1]
    found = np.full((len(grid), values.shape[1]), np.nan)
    for channel, samples in enumerate(values.T):
        known = ~np.isnan(samples)
        if not known.any():
            continue
        moments = time[known]
        after = np.searchsorted(moments, grid).clip(0, len(moments) - 1)
        before = (after - 1).clip(0)
        distance = np.minimum(np.abs(moments[after] - grid), np.abs(grid - moments[before]))
        near = distance <= typical * (1 + 1e-6)
        found[near, channel] = np.interp(grid[near], moments, samples[known])
    return found
