"""Distances of two histograms over the same bins, and how likely chance alone gives them. Without torch or SciPy."""

from __future__ import annotations

import math

import numpy as np

EXPECTED = 5.0
"""Bins of which the smaller sample should hold fewer rows than this are tested together (Cochran 1954)."""


def psi(reference: np.ndarray, found: np.ndarray) -> float:
    """The population stability index, Σ (q − p) · ln(q / p), with half a row added to every bin.

    Args:
        reference: Rows per bin, [bins].
        found: The same of the rows that are compared.
    """
    p = (reference + 0.5) / (reference.sum() + 0.5 * len(reference))
    q = (found + 0.5) / (found.sum() + 0.5 * len(found))
    return float(((q - p) * np.log(q / p)).sum())


def kolmogorov_smirnov(reference: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """The largest distance of the cumulative shares at the bins' edges, and its asymptotic p-value.

    What lies between two edges is not seen, so both are on the cautious side (Conover 1972).

    Args:
        reference: Rows per bin, the bins in ascending order.
        found: The same of the rows that are compared.
    """
    rows, others = reference.sum(), found.sum()
    if not rows or not others:
        return 0.0, 1.0
    distance = float(np.abs(np.cumsum(reference) / rows - np.cumsum(found) / others).max())
    return distance, kolmogorov(math.sqrt(rows * others / (rows + others)) * distance)


def kolmogorov(x: float) -> float:
    """P(K > x) of the Kolmogorov distribution."""
    if x < 0.2:  # 1 to twelve digits; here the series would converge slowly
        return 1.0
    total = sum(math.exp(-2.0 * k * k * x * x) * (1 if k % 2 else -1) for k in range(1, 101))
    return min(max(2.0 * total, 0.0), 1.0)


def chi_squared(reference: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """χ² of the 2 × bins table and its p-value; rare bins are taken together.

    Args:
        reference: Rows per bin.
        found: The same of the rows that are compared.
    """
    table = np.stack([reference, found]).astype(float)
    sizes = table.sum(1)
    if not sizes.all():
        return 0.0, 1.0
    expected = table.sum(0) / sizes.sum() * sizes.min()
    rare = expected < EXPECTED
    if rare.sum() > 1:
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], 1)
    table = table[:, table.sum(0) > 0]
    freedom = table.shape[1] - 1
    if freedom < 1:
        return 0.0, 1.0
    expected = np.outer(sizes, table.sum(0)) / sizes.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, upper_gamma(freedom / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x) (Press et al., Numerical Recipes, 6.2)."""
    if x <= 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:  # series of P
        term = total = 1.0 / a
        n = a
        while abs(term) > abs(total) * 1e-15:
            n += 1
            term *= x / n
            total += term
        return max(1.0 - total * front, 0.0)
    tiny = 1e-300  # Lentz's continued fraction
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for i in range(1, 10_000):
        b += 2
        step = -i * (i - a)
        d = 1 / (step * d + b or tiny)
        c = b + step / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * value
