import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tlcourse.distances import domain_distance, median_bandwidth, mmd_squared, proxy_a_distance


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shifted(n, width, by, *, seed=0):
    b = normal(n, width, seed=seed)
    b[:, 0] += by
    return b


def expected_mmd(shift, width, bandwidth):
    """Of two unit normals with means this far apart: integrals of products of Gaussians."""
    wide = bandwidth**2 + 2
    return 2 * (bandwidth**2 / wide) ** (width / 2) * (1 - math.exp(-(shift**2) / (2 * wide)))


def slow_mmd(a, b, bandwidth):
    """Gretton et al. 2012, equation 3, pair by pair."""

    def kernel(x, y):
        return math.exp(-((x - y).square().sum().item()) / (2 * bandwidth**2))

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(kernel(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize(("n", "m", "width", "bandwidth"), [(10, 13, 3, 0.7), (12, 12, 1, 5.0), (11, 10, 40, None)])
def test_mmd_is_its_sum_over_pairs(n, m, width, bandwidth, offset):
    a, b = normal(n, width) + offset, normal(m, width, seed=1) * 1.5 + offset
    expected = slow_mmd(a, b, bandwidth or median_bandwidth(a, b))
    assert mmd_squared(a, b, bandwidth=bandwidth).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("shift", "width", "bandwidth"), [(0.0, 2, 1.0), (1.0, 2, 1.0), (2.0, 5, 2.0), (8.0, 1, 1.0)])
def test_mmd_is_the_closed_form_of_shifted_normals_on_average(shift, width, bandwidth):
    """Mean of 60 draws of 60 samples a side, within 4 of its standard errors."""
    draws = [(normal(60, width, seed=2 * s), shifted(60, width, shift, seed=2 * s + 1)) for s in range(60)]
    values = [mmd_squared(a, b, bandwidth=bandwidth).value for a, b in draws]
    error = np.std(values, ddof=1) / 60**0.5
    assert error < 0.02
    assert np.mean(values) == pytest.approx(expected_mmd(shift, width, bandwidth), abs=4 * error)


@pytest.mark.parametrize(("shift", "least"), [(0.3, 0.85), (1.0, 0.85), (0.0, 0.95)])
def test_the_interval_of_mmd_covers_the_closed_form(shift, least):
    """60 draws; nominal 95 %. At 0, where the estimate is degenerate, the interval is too wide."""
    hits = 0
    for seed in range(60):
        found = mmd_squared(normal(60, 2, seed=2 * seed), shifted(60, 2, shift, seed=2 * seed + 1), bandwidth=1.0)
        hits += found.low <= expected_mmd(shift, 2, 1.0) <= found.high
    assert hits / 60 >= least


def test_the_interval_shrinks_with_samples_and_level():
    few, many = (mmd_squared(normal(n, 2), shifted(n, 2, 1.0, seed=1), bandwidth=1.0) for n in (40, 400))
    assert many.high - many.low < 0.5 * (few.high - few.low)
    narrow = mmd_squared(normal(40, 2), shifted(40, 2, 1.0, seed=1), bandwidth=1.0, level=0.5)
    assert few.low < narrow.low < few.value < narrow.high < few.high


def test_the_median_bandwidth_is_the_median_distance():
    a, b = normal(7, 3), normal(6, 3, seed=1)
    both = torch.cat([a, b])
    distances = [(both[i] - both[j]).norm().item() for i in range(13) for j in range(i)]
    assert median_bandwidth(a, b) == pytest.approx(sorted(distances)[(len(distances) - 1) // 2])


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 2.0])
def test_a_distance_of_shifted_normals_is_that_of_the_best_error(shift):
    """The best classifier errs with Phi(-shift / 2), and in one dimension a logistic regression finds it."""
    found = proxy_a_distance(normal(1000, 1), shifted(1000, 1, shift, seed=1))
    assert found.low < 2 - 4 * norm.cdf(-shift / 2) < found.high
    assert found.high - found.low < 0.26
    assert found.n == 1000
    narrow = proxy_a_distance(normal(1000, 1), shifted(1000, 1, shift, seed=1), level=0.5)
    assert found.low < narrow.low < found.value < narrow.high < found.high


@pytest.mark.parametrize(("n", "width"), [(100, 20), (40, 120)])
def test_a_distance_of_one_distribution_is_zero(n, width):
    """40 draws, wide features too: the mean within 4 standard errors, and the interval about as good as it says."""
    found = [proxy_a_distance(normal(n, width, seed=2 * s), normal(n, width, seed=2 * s + 1)) for s in range(40)]
    values = [each.value for each in found]
    assert abs(np.mean(values)) < 4 * np.std(values, ddof=1) / 40**0.5
    assert np.mean([each.low <= 0 <= each.high for each in found]) >= 0.87


def test_a_distance_of_what_can_be_told_apart_is_two_and_its_interval_is_no_point():
    found = proxy_a_distance(normal(50, 3), shifted(70, 3, 60.0, seed=1))
    assert (found.value, found.high) == (2, 2)
    assert found.low == pytest.approx(2 - 4 * (1 - 0.025 ** (1 / 50)))  # Clopper and Pearson of no error in 50


def test_the_scale_of_single_features_does_not_matter_to_the_a_distance():
    a, b = normal(100, 4), shifted(100, 4, 1.0, seed=1)
    scale = torch.tensor([1e-3, 1.0, 50.0, 1e4]).double()
    assert proxy_a_distance(a * scale, b * scale) == proxy_a_distance(a, b)


def test_both_are_returned_and_come_from_the_seed():
    a, b = normal(80, 4).float(), shifted(60, 4, 1.5, seed=1).float()
    found = domain_distance(a, b, seed=3, level=0.9)
    assert found == domain_distance(a, b, seed=3, level=0.9)
    assert found.mmd_squared == mmd_squared(a, b, seed=3, level=0.9)
    assert found.a_distance == proxy_a_distance(a, b, seed=3, level=0.9)
    assert found.mmd_squared.low > 0
    assert found.a_distance.low > 0


def test_of_many_samples_some_are_drawn():
    a, b = normal(90, 2), normal(50, 2, seed=1)
    small = domain_distance(a, b, largest=30)
    assert (small.mmd_squared.n, small.a_distance.n) == (60, 30)
    assert small.mmd_squared != domain_distance(a, b, largest=30, seed=1).mmd_squared
    whole = domain_distance(a, b)
    assert (whole.mmd_squared.n, whole.a_distance.n) == (140, 50)


X = normal(20, 3)
BAD = [  # a call, words
    (lambda: domain_distance(X, normal(20, 4)), "features_a are of 3 numbers each and features_b of 4"),
    (lambda: domain_distance(X, X[:9]), "20 and 9 samples, largest=1000: at least 10 of each"),
    (lambda: domain_distance(X, X, largest=4), "largest=4: at least 10 of each"),
    (lambda: domain_distance(X, X * math.nan), "the features of 20 of 20 samples are not finite"),
    (lambda: domain_distance(X, X[0]), r"features must be \(samples, width\), not \(3,\)"),
    (lambda: domain_distance(X * 0 + 1, X * 0 + 1), "all 40 samples are equal"),
    (lambda: domain_distance(X, X, level=1), "level=1: between 0 and 1"),
    (lambda: mmd_squared(X, X, bandwidth=0), "bandwidth=0: a length above 0"),
    (lambda: median_bandwidth(X * 0, X * 0), "half of all pairs of samples are equal"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
