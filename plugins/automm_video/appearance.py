"""What frames look like, pooled over time."""

from __future__ import annotations

import numpy as np

from automm_video.flow import cells, oriented

BINS = 6


def appearance(rgb: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Gradients, colours and brightness of frames; mean and standard deviation over the frames.

    Args:
        rgb: Float32 [n, height, width, 3], 0 to 1.
        grey: Float32 [n, height, width], 0 to 1.

    Returns:
        Float32 [266].
    """
    n = len(rgb)
    dy, dx = np.gradient(grey, axis=(-2, -1))
    gradients = oriented(dx, dy, 9, signed=False)  # [9, n, height, width]
    blocks = cells(gradients, 2, 3).transpose(1, 2, 3, 0)  # [n, 2, 3, 9]
    blocks = blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-3)
    edges = gradients.mean((-2, -1)).T  # [n, 9]
    edges = np.sqrt(edges / (edges.sum(1, keepdims=True) + 1e-6))

    value = rgb.max(-1)
    saturation = value - rgb.min(-1)
    colour = cells(rgb.transpose(0, 3, 1, 2), 3, 4)  # [n, 3, 3, 4]
    contrast = cells(grey**2, 3, 4) - cells(grey, 3, 4) ** 2
    parts = [blocks, edges, colour, contrast, cells(saturation, 2, 2)]
    parts += [_histogram(picture) for picture in (grey, value, saturation)]
    found = np.concatenate([part.reshape(n, -1) for part in parts], 1)
    return np.concatenate([found.mean(0), found.std(0)]).astype(np.float32)


def _histogram(picture: np.ndarray) -> np.ndarray:
    """Shares of values in equal bins from 0 to 1: [n, height, width] → [n, BINS]."""
    level = np.minimum((picture * BINS).astype(np.int8), BINS - 1)
    return np.stack([(level == one).mean((-2, -1)) for one in range(BINS)], 1)
