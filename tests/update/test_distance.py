"""Distances against their definitions and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from automm.runtime.distance import chi_squared, kolmogorov, kolmogorov_smirnov, psi, upper_gamma

stats = pytest.importorskip("scipy.stats")
special = pytest.importorskip("scipy.special")


def test_psi_by_hand():
    # (10.5, 30.5) / 41 against (20.5, 20.5) / 41
    p, q = 10.5 / 41, 20.5 / 41
    expected = (q - p) * math.log(q / p) + ((1 - q) - (1 - p)) * math.log((1 - q) / (1 - p))
    assert psi(np.array([10, 30]), np.array([20, 20])) == pytest.approx(expected, rel=1e-12)
    assert psi(np.array([10, 30]), np.array([1000, 3000])) == pytest.approx(0, abs=1e-3)


def test_psi_of_an_empty_bin_is_finite():
    assert 1 < psi(np.array([50, 50, 0]), np.array([10, 10, 80])) < 10


@pytest.mark.parametrize("seed", range(4))
def test_ks_is_that_of_scipy_on_binned_values(seed):
    random = np.random.default_rng(seed)
    one, other = random.integers(0, 10, 400), random.integers(0, 9 + seed % 2, 300)
    counts = [np.bincount(values, minlength=10) for values in (one, other)]
    distance, p = kolmogorov_smirnov(*counts)
    expected = stats.ks_2samp(one, other, method="asymp")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    # SciPy rounds the effective number of rows in its own asymptotic formula.
    assert p == pytest.approx(stats.kstwobign.sf(math.sqrt(400 * 300 / 700) * distance), abs=1e-12)
    assert p == pytest.approx(expected.pvalue, abs=0.03)


@pytest.mark.parametrize("x", [0.05, 0.3, 0.5, 1.0, 2.0, 4.0])
def test_kolmogorov(x):
    assert kolmogorov(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_chi_squared_is_that_of_scipy(seed):
    random = np.random.default_rng(seed)
    table = random.integers(20, 80, (2, 6))
    statistic, p = chi_squared(*table)
    expected = stats.chi2_contingency(table, correction=False)
    assert statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)


def test_rare_bins_are_tested_together():
    reference, found = np.array([500, 400, 3, 2, 4]), np.array([50, 40, 1, 0, 3])
    statistic, _ = chi_squared(reference, found)
    joined = np.array([[500, 400, 9], [50, 40, 4]])
    assert statistic == pytest.approx(stats.chi2_contingency(joined, correction=False).statistic, rel=1e-12)


def test_nothing_to_compare():
    assert chi_squared(np.array([3, 4]), np.array([0, 0])) == (0.0, 1.0)
    assert chi_squared(np.array([7]), np.array([9])) == (0.0, 1.0)
    assert kolmogorov_smirnov(np.array([3, 4]), np.array([0, 0])) == (0.0, 1.0)


@pytest.mark.parametrize("a", [0.5, 1.0, 3.0, 24.5, 200.0])
@pytest.mark.parametrize("x", [0.0, 0.01, 1.0, 24.0, 190.0, 260.0])
def test_upper_gamma(a, x):
    assert upper_gamma(a, x) == pytest.approx(special.gammaincc(a, x), rel=1e-9, abs=1e-14)
