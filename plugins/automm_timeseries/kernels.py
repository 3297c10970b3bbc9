"""The fixed dictionary of convolution kernels of MINIROCKET. Torch-free."""

from __future__ import annotations

from itertools import combinations

import numpy as np

LENGTH = 9
"""Weights of a kernel."""

KERNELS = np.full((84, LENGTH), -1, np.float32)
"""All kernels of nine weights of which three are 2 and six are -1, [84, 9]: their weights add up to zero."""
for _row, _places in enumerate(combinations(range(LENGTH), 3)):
    KERNELS[_row, list(_places)] = 2


def dilations(time: int, most: int) -> list[int]:
    """Distances between a kernel's weights: up to `most` powers of two whose span is at most `time` steps.

    Args:
        time: Steps of a typical series.
        most: Most dilations; the largest are left out.
    """
    largest = max((time - 1) // (LENGTH - 1), 1)
    return [2**power for power in range(most) if 2**power <= largest]


def convolve(series: np.ndarray, dilation: int) -> np.ndarray:
    """Convolves row k with kernel k; edges are repeated, so a constant series gives zeros.

    Args:
        series: Float32 [84, time].
        dilation: Steps between the weights.

    Returns:
        Float32 [84, time].
    """
    time, reach = series.shape[1], dilation * (LENGTH // 2)
    padded = np.pad(series, ((0, 0), (reach, reach)), mode="edge")
    # Six weights of -1 and three of 2 are minus the sum of all nine and three times that of three.
    shifted = np.lib.stride_tricks.as_strided(
        padded,
        (len(series), LENGTH, time),
        (padded.strides[0], dilation * padded.strides[1], padded.strides[1]),
        writeable=False,
    )
    return np.einsum("kj,kjt->kt", KERNELS, shifted)


def positive_share(responses: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """Share of the steps at which a response exceeds each of its biases (PPV).

    Args:
        responses: [kernels, time].
        biases: [kernels, biases].

    Returns:
        [kernels, biases], between 0 and 1.
    """
    return (responses[:, None, :] > biases[:, :, None]).mean(2, dtype=np.float32)
