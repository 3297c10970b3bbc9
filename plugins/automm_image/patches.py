"""A dictionary of small patches, learned without labels.

Coates & Ng 2011, "The Importance of Encoding Versus Training with Sparse Coding and Vector Quantization": patches with
their contrast normalised and their values decorrelated, k-means, and an activation that leaves far centroids at 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

SIZE = 6
"""Side of a patch in pixels."""
VALUES = 3 * SIZE * SIZE
ROUNDS = 12
"""Rounds of k-means."""
NOISE = 0.1
"""Added to the variances when decorrelating; contrast-normalised values have variance 1."""

Dictionary = Mapping[str, np.ndarray]
"""`bias` [values], `whiten` [values, values], `centroids` [words, values]; float32."""


def cut(pixels: np.ndarray) -> np.ndarray:
    """All patches of a picture, each with its own mean and contrast taken out.

    Args:
        pixels: Float array [side, side, 3], 0 to 1.

    Returns:
        Float32 array [places, places, values].
    """
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (SIZE, SIZE), axis=(0, 1))
    rows = windows.reshape(*windows.shape[:2], VALUES)
    rows = rows - rows.mean(2, keepdims=True)
    variance = np.einsum("yxv,yxv->yx", rows, rows)[:, :, None] / VALUES
    return rows / np.sqrt(variance + np.float32(10 / 255**2))  # the paper's 10, for values of 0 to 255


def empty(words: int) -> Dictionary:
    """A dictionary that answers 0 to everything."""
    return {
        "bias": np.zeros(VALUES, np.float32),
        "whiten": np.zeros((VALUES, VALUES), np.float32),
        "centroids": np.zeros((words, VALUES), np.float32),
    }


def learn(patches: np.ndarray, words: int) -> Dictionary:
    """Learns a dictionary.

    Args:
        patches: Float array [patches, values], as `cut` gives them; at least one.
        words: Number of centroids.
    """
    generator = np.random.default_rng(0)
    mean = patches.mean(0)
    centred = patches - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(patches))
    whiten = ((axes / np.sqrt(variances.clip(0) + NOISE)) @ axes.T).astype(np.float32)
    points = centred @ whiten
    centroids = points[generator.choice(len(points), words, replace=len(points) < words)]
    for _ in range(ROUNDS):
        nearest = (points @ centroids.T - (centroids**2).sum(1) / 2).argmax(1)
        sizes = np.bincount(nearest, minlength=words)
        used = sizes > 0
        starts = (np.cumsum(sizes) - sizes)[used]
        sums = np.add.reduceat(points[np.argsort(nearest, kind="stable")], starts, axis=0)
        centroids[used] = sums / sizes[used, None]
        centroids[~used] = points[generator.choice(len(points), int((~used).sum()))]
    return {"bias": mean @ whiten, "whiten": whiten, "centroids": centroids}


def activate(patches: np.ndarray, dictionary: Dictionary) -> np.ndarray:
    """How much nearer than the average centroid each one is, 0 if farther: [places, places, words]."""
    centroids = dictionary["centroids"]
    points = patches.reshape(-1, VALUES) @ dictionary["whiten"] - dictionary["bias"]
    squares = np.einsum("pv,pv->p", points, points)[:, None] - 2 * (points @ centroids.T)
    squares += (centroids**2).sum(1)
    distances = np.sqrt(squares.clip(0, out=squares), out=squares)
    nearer = distances.mean(1, keepdims=True) - distances
    return nearer.clip(0, out=nearer).reshape(*patches.shape[:2], len(centroids))


def pool(activation: np.ndarray, cells: int) -> np.ndarray:
    """The largest activation of every word in every cell of a grid, [cells * cells * words]."""
    at = np.arange(cells) * len(activation) // cells
    return np.maximum.reduceat(np.maximum.reduceat(activation, at, axis=0), at, axis=1).ravel()
