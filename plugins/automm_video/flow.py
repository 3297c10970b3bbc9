"""Optical flow and gradients of whole batches of small pictures; NumPy only."""

from __future__ import annotations

import numpy as np

EPS = 1e-6


def blur(x: np.ndarray, radius: int, times: int = 2) -> np.ndarray:
    """Repeated box filter over the last two axes, edges repeated; two passes come near to a Gaussian."""
    size = 2 * radius + 1
    for axis in (-2, -1) * times:
        pad = [(0, 0)] * x.ndim
        pad[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(x, pad, mode="edge"), axis, dtype=np.float32)
        length = sums.shape[axis]
        x = (np.take(sums, range(size, length), axis) - np.take(sums, range(length - size), axis)) / size
    return x


def halve(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 blocks over the last two (even) axes."""
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def warp(x: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Pictures [n, height, width] read at positions moved by flow [2, n, height, width] (x, y), bilinearly."""
    n, height, width = x.shape
    across = np.clip(np.arange(width, dtype=np.float32) + flow[0], 0, width - 1.001)
    down = np.clip(np.arange(height, dtype=np.float32)[:, None] + flow[1], 0, height - 1.001)
    left, top = across.astype(np.int32), down.astype(np.int32)
    a, b = across - left, down - top
    at = (np.arange(n, dtype=np.int32)[:, None, None] * height + top) * width + left
    flat = x.ravel()
    upper = flat[at] * (1 - a) + flat[at + 1] * a
    lower = flat[at + width] * (1 - a) + flat[at + width + 1] * a
    return upper * (1 - b) + lower * b


def optical_flow(before: np.ndarray, after: np.ndarray, levels: int = 3, rounds: int = 2) -> np.ndarray:
    """Dense Lucas-Kanade flow, coarse to fine with warping (Bouguet 2001).

    Args:
        before: Grey pictures [n, height, width], float32, 0 to 1; sides divisible by 2 ** (levels - 1).
        after: The pictures that follow.
        levels: Steps of the pyramid.
        rounds: Refinements per step.

    Returns:
        Flow in pixels [2, n, height, width], x and y: `before` at p is found in `after` at p + flow.
    """
    pyramid = [(before, after)]
    for _ in range(levels - 1):
        pyramid.append((halve(pyramid[-1][0]), halve(pyramid[-1][1])))
    flow = np.zeros((2, *pyramid[-1][0].shape), np.float32)
    for step, (one, two) in enumerate(reversed(pyramid)):
        if step:
            flow = 2 * flow.repeat(2, -2).repeat(2, -1)
        dy, dx = np.gradient(one, axis=(-2, -1))
        xx, xy, yy = (blur(part, 2) for part in (dx * dx, dx * dy, dy * dy))
        floor = 1e-3  # flat regions stay at rest; in units of squared grey values
        xx, yy = xx + floor, yy + floor
        bottom = xx * yy - xy * xy
        for _ in range(rounds):
            change = warp(two, flow) - one
            x, y = blur(dx * change, 2), blur(dy * change, 2)
            update = np.stack([xy * y - yy * x, xy * x - xx * y]) / bottom
            flow = flow + np.clip(update, -2, 2)
        flow = blur(flow, 1, 1)
    return flow


def without_camera(flow: np.ndarray, rounds: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Takes out what an affine motion of the whole picture explains, fitted robustly.

    Args:
        flow: [2, n, height, width]; sides divisible by 4.

    Returns:
        The rest of the flow, and the affine motion [n, 6] (of x, then y: shift, then change across and down).
    """
    _, n, height, width = flow.shape
    coarse = cells(flow, height // 4, width // 4)
    field = coarse.reshape(2, n, -1)
    design = _affine(height // 4, width // 4)
    weight = np.ones_like(field[0])
    for _ in range(rounds):
        weighted = weight[:, :, None] * design  # [n, positions, 3]
        left = weighted.mT @ design + EPS * np.eye(3, dtype=np.float32)
        right = weighted.mT @ field.transpose(1, 2, 0)  # [n, 3, 2]
        motion = np.linalg.solve(left, right)
        explained = (design @ motion).transpose(2, 0, 1)
        size = np.hypot(*(field - explained))
        weight = 1 / (1 + (size / (np.median(size, 1, keepdims=True) + 0.1)) ** 2)
    explained = (_affine(height, width) @ motion).transpose(2, 0, 1).reshape(flow.shape)
    return (flow - explained).astype(np.float32), motion.mT.reshape(n, 6)


def _affine(height: int, width: int) -> np.ndarray:
    """Per position 1, x and y, from -1 to 1 at the edges of the picture: [height * width, 3]."""
    y, x = ((np.arange(side, dtype=np.float32) * 2 + 1) / side - 1 for side in (height, width))
    y, x = np.meshgrid(y, x, indexing="ij")
    return np.stack([np.ones_like(x), x, y], -1).reshape(-1, 3)


def cells(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means over a grid: [..., height, width] → [..., rows, columns]; sides divisible."""
    *before, height, width = x.shape
    return x.reshape(*before, rows, height // rows, columns, width // columns).mean((-3, -1))


def oriented(dx: np.ndarray, dy: np.ndarray, bins: int, signed: bool) -> np.ndarray:
    """Lengths of vectors, spread over the two nearest of `bins` directions: [...] → [bins, ...]."""
    turn = 2 * np.pi if signed else np.pi
    where = np.mod(np.arctan2(dy, dx), turn) * (bins / turn)
    low = np.floor(where)
    share, low = where - low, low.astype(np.int32) % bins
    size = np.sqrt(dx * dx + dy * dy)
    found = np.zeros((bins, *dx.shape), np.float32)
    for one in range(bins):
        found[one] = size * ((low == one) * (1 - share) + ((low + 1) % bins == one) * share)
    return found
