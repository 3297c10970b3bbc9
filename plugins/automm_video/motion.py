"""How things move in short runs of frames, pooled over time and space."""

from __future__ import annotations

import numpy as np

from automm_video.flow import cells, optical_flow, oriented, without_camera

TOP = 12
"""Of the cells of a grid, so many with the most motion are kept."""
DIRECTIONS = 8
BANDS = 4
LEVELS = (10, 25, 50, 75, 90, 97, 99.5)


def motion(grey: np.ndarray) -> np.ndarray:
    """Descriptors of the motion in runs of frames.

    Args:
        grey: Float32 [runs, length, height, width], 0 to 1; at least four frames a run.

    Returns:
        Float32 [591].
    """
    runs, length, height, width = grey.shape
    before, after = (part.reshape(-1, height, width) for part in (grey[:, :-1], grey[:, 1:]))
    raw = optical_flow(before, after)  # [2, pairs, height, width]
    flow, camera = without_camera(raw)
    size = np.hypot(*flow)  # [pairs, height, width]
    parts = [
        _pooled(_differences(np.abs(after - before)), runs),
        _pooled(_levels(size), runs),
        _pooled(_levels(np.hypot(*raw)), runs),
        _pooled(np.abs(camera), runs),
        *_strongest_cells(size, runs),
        *_directions(flow, runs),
        *_boundaries(flow, runs),
        *_changes(flow.reshape(2, runs, length - 1, height, width), size.reshape(runs, length - 1, height, width)),
        _coherence(flow, size),
        _pooled(_concentration(size), runs),
        _spectrum(size.mean((-2, -1)).reshape(runs, -1)),
        _pooled(_divergence_and_curl(flow), runs),
    ]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _levels(x: np.ndarray, levels: tuple[float, ...] = LEVELS) -> np.ndarray:
    """Logarithms of percentiles: [n, height, width] → [n, levels]."""
    return np.log1p(np.percentile(x.reshape(len(x), -1), levels, axis=1).T)


def _pooled(x: np.ndarray, runs: int) -> np.ndarray:
    """[pairs, k] → [4 k]: mean, spread, mean of the three highest, mean change from one pair to the next."""
    steps = np.abs(np.diff(x.reshape(runs, -1, x.shape[1]), axis=1)).mean((0, 1))
    return np.concatenate([x.mean(0), x.std(0), np.sort(x, 0)[-3:].mean(0), steps])


def _top(x: np.ndarray, count: int = TOP) -> np.ndarray:
    """The highest cells of a grid in falling order: [..., rows, columns] → [..., count]."""
    return np.sort(x.reshape(*x.shape[:-2], -1), -1)[..., ::-1][..., :count]


def _differences(change: np.ndarray) -> np.ndarray:
    where = np.log1p(20 * cells(change, 3, 4)).reshape(len(change), -1)
    return np.concatenate([where, _levels(20 * change, (25, 50, 75, 90, 97))], 1)


def _strongest_cells(size: np.ndarray, runs: int) -> list[np.ndarray]:
    grid = np.log1p(cells(size, 6, 8))  # [pairs, 6, 8]
    return [_pooled(_top(grid), runs), _top(grid.mean(0)), _top(grid.std(0))]


def _directions(flow: np.ndarray, runs: int) -> list[np.ndarray]:
    """Histograms of directions: of the whole picture, of a grid, and of the grid's four liveliest cells."""
    turned = oriented(flow[0], flow[1], DIRECTIONS, signed=True)
    grid = cells(turned, 3, 4).mean(1).reshape(DIRECTIONS, -1).T  # [12, directions]
    liveliest = np.argsort(-grid.sum(1), kind="stable")[:4]
    return [*_whole(turned, runs), np.sqrt(grid), np.sqrt(grid[liveliest])]


def _boundaries(flow: np.ndarray, runs: int) -> list[np.ndarray]:
    parts = []
    for part in flow:
        dy, dx = np.gradient(part, axis=(-2, -1))
        turned = oriented(dx, dy, DIRECTIONS, signed=True)
        strength = np.sqrt(cells(turned, 3, 4).mean(1)).mean(0)  # [3, 4]
        parts += [*_whole(turned, runs), _top(strength, 6)]
    return parts


def _whole(turned: np.ndarray, runs: int) -> list[np.ndarray]:
    """Directions [directions, pairs, height, width] of whole pictures: how much, and in which shares."""
    total = turned.mean((-2, -1)).T  # [pairs, directions]
    return [_pooled(np.sqrt(total), runs), np.sqrt(total / (total.sum(1, keepdims=True) + 1e-3)).mean(0)]


def _changes(flow: np.ndarray, size: np.ndarray) -> list[np.ndarray]:
    """Changes of the flow, and where its length changes significantly; both [..., runs, pairs, height, width]."""
    jerk = np.hypot(*np.diff(flow, axis=2)).reshape(-1, *size.shape[2:])
    levels = _levels(jerk, LEVELS[1:])
    steps = np.abs(np.diff(size, axis=1))
    violent = (steps > steps.mean((1, 2, 3), keepdims=True)).mean((0, 1))  # [height, width]
    shares = np.histogram(violent, bins=8, range=(0, 1))[0] / violent.size
    grid = _top(np.log1p(cells(jerk, 6, 8)).mean(0))
    return [levels.mean(0), levels.std(0), levels.max(0), grid, cells(violent, 3, 4), shares]


def _coherence(flow: np.ndarray, size: np.ndarray) -> np.ndarray:
    """How far the motion in a cell goes one way: mean, mean by strength, percentiles."""
    strength = cells(size, 6, 8)
    agreement = np.hypot(*cells(flow, 6, 8)) / (strength + 0.05)
    weighted = (agreement * strength).sum() / (strength.sum() + 1e-6)
    return np.array([agreement.mean(), weighted, *np.percentile(agreement, (10, 50, 90))])


def _concentration(size: np.ndarray) -> np.ndarray:
    """Spread, entropy and centre of the motion: [pairs, 4]."""
    share = cells(size, 6, 8)
    share = share / (share.sum((-2, -1), keepdims=True) + 1e-6)
    y, x = np.mgrid[:6, :8]
    down, across = ((share * axis).sum((-2, -1)) for axis in (y, x))
    distance = (y - down[:, None, None]) ** 2 + (x - across[:, None, None]) ** 2
    entropy = -(share * np.log(share + 1e-9)).sum((-2, -1))
    return np.stack([np.sqrt((share * distance).sum((-2, -1))), entropy, down, across], 1)


def _spectrum(energy: np.ndarray) -> np.ndarray:
    """Amplitudes of the energy [runs, pairs] in bands of frequency, and their shares."""
    energy = np.log1p(energy)
    power = np.abs(np.fft.rfft(energy - energy.mean(1, keepdims=True), n=2 * max(energy.shape[1] // 2, BANDS), axis=1))
    bands = np.array([band.mean() for band in np.array_split(power.mean(0)[1:], BANDS)])
    return np.concatenate([bands, bands / (bands.sum() + 0.05)])


def _divergence_and_curl(flow: np.ndarray) -> np.ndarray:
    (down_x, across_x), (down_y, across_y) = (np.gradient(part, axis=(-2, -1)) for part in flow)
    both = (across_x + down_y, across_y - down_x)
    return np.concatenate([_levels(np.abs(part), (50, 75, 90, 97)) for part in both], 1)
