import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from tlcourse.evidence import log_evidence


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def doubled(x):
    return torch.cat([x, x])


FEATURES = {  # every kind that a network may put out
    "tall": normal(30, 4),
    "wide": normal(12, 40),
    "square": normal(15, 15),
    "rank-deficient": normal(30, 3) @ normal(3, 8, seed=1),
    "constant": torch.full((20, 3), 2.5, dtype=torch.float64),
    "zero": torch.zeros(20, 3, dtype=torch.float64),
    "one column constant": torch.cat([normal(25, 3), torch.ones(25, 1)], dim=1),
    "duplicated": doubled(normal(15, 4)),
    "small": 1e-6 * normal(30, 4),
    "large": 1e6 * normal(30, 4),
    "float32": normal(30, 4).float(),
}


def targets_for(x):
    """A line of the features with noise, noise alone, and a class."""
    x = x.double()
    scale = x.abs().max().clamp(min=1e-12)
    noise = normal(len(x), 3, seed=7)
    classes = (noise[:, 2] > 0.3).double()
    return torch.stack([x[:, 0] / scale + 0.3 * noise[:, 0], noise[:, 1], classes], dim=1)


def slow_log_evidence(x, y, log_alpha, log_beta):
    """Bishop 2006, equation 3.86, written out: the matrix of the posterior and its determinant."""
    alpha, beta, (n, p) = math.exp(log_alpha), math.exp(log_beta), x.shape
    precision = alpha * np.eye(p) + beta * x.T @ x
    mean = beta * np.linalg.solve(precision, x.T @ y)
    misfit = beta / 2 * np.square(y - x @ mean).sum() + alpha / 2 * np.square(mean).sum()
    return (p * log_alpha + n * log_beta - np.linalg.slogdet(precision)[1] - n * math.log(2 * math.pi)) / 2 - misfit


def slow_maximum(x, y):
    """The top of equation 3.86 over alpha and beta, from many starts, a sample. Features are scaled, which is free."""
    x = x / np.abs(x).max() if x.any() else x
    bounds = [(-14, 20), (-8, 14)]
    starts = [(a, b) for a in (-8, -2, 2, 6, 15) for b in (0, 3)]
    found = [
        minimize(lambda v: -slow_log_evidence(x, y, *v), start, bounds=bounds, method="L-BFGS-B", tol=1e-14)
        for start in starts
    ]
    best = min(found, key=lambda result: result.fun)
    polished = minimize(
        lambda v: -slow_log_evidence(x, y, *v), best.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}
    )
    return -min(best.fun, polished.fun) / len(x)


@pytest.mark.parametrize("name", FEATURES)
def test_it_is_the_largest_evidence_of_the_written_out_form(name):
    x = FEATURES[name]
    y = targets_for(x)
    for column, value in enumerate(log_evidence(x, y)):
        assert value.item() == pytest.approx(slow_maximum(x.double().numpy(), y[:, column].numpy()), abs=1e-6)


def test_it_is_the_normal_density_at_the_best_variances():
    """For features of one direction the maximum is known: each of two variances is its mean square."""
    x = torch.zeros(40, 1, dtype=torch.float64)
    x[0] = 3.0
    y = normal(40, 1)
    y[0] = 20.0
    noise = y[1:].square().mean().item()
    logs = math.log(20.0**2) + 39 * math.log(noise)
    assert log_evidence(x, y).item() == pytest.approx(-(logs / 40 + math.log(2 * math.pi) + 1) / 2, abs=1e-9)


TWO_TOPS = [  # squared lengths of two groups of directions, how many, squares of the target along each, beyond them
    ((1e4, 1e-4), (4, 2), (1e4, 1e4), 1e-3),
    ((1e2, 1e-5), (4, 2), (1e-4, 1e3), 1e-4),
]


@pytest.mark.parametrize(("lengths", "counts", "along", "beyond"), TWO_TOPS)
def test_of_two_tops_the_higher_is_found(lengths, counts, along, beyond):
    """The variances of y along the axes are known; the fixed point from alpha = beta = 1 ends at the lower top."""
    lengths, along = np.repeat(lengths, counts), np.repeat(along, counts)
    axes = torch.linalg.qr(normal(11, 11))[0]
    x = axes[:, :6] * torch.from_numpy(lengths).sqrt()
    y = axes[:, :6] @ torch.from_numpy(along).sqrt() + beyond**0.5 * axes[:, 6]

    def top(ratio):
        spread = 1 + lengths / ratio  # times beta: a variance
        beta = 11 / ((along / spread).sum() + beyond)
        return (math.log(beta / (2 * math.pi)) - 1 - np.log(spread).sum() / 11) / 2

    tops = np.array([top(math.exp(log_ratio)) for log_ratio in np.linspace(-40, 40, 8001)])
    found = log_evidence(x, y[:, None]).item()
    assert found == pytest.approx(tops.max(), abs=1e-4)  # of the grid
    alpha = beta = 1.0
    for _ in range(5000):
        ratio = alpha / beta
        if ratio > 1e12:
            break
        gamma = (lengths / (lengths + ratio)).sum()
        alpha = gamma / (lengths * along / (ratio + lengths) ** 2).sum()
        beta = (11 - gamma) / ((along / (1 + lengths / ratio) ** 2).sum() + beyond)
    assert top(alpha / beta) < found - 0.5


def test_it_ignores_scale_and_rotation_of_the_features():
    x, y = normal(30, 4), targets_for(normal(30, 4))
    turn = torch.linalg.qr(normal(4, 4, seed=3))[0]
    for changed in (1e3 * x, 1e-5 * x, x @ turn, x.repeat(1, 3)):
        assert torch.allclose(log_evidence(changed, y), log_evidence(x, y), atol=1e-9)


def test_float32_features_are_computed_in_float64():
    x, y = normal(30, 4).float() + 100, targets_for(normal(30, 4))
    assert torch.equal(log_evidence(x, y), log_evidence(x.double(), y))
    assert log_evidence(x, y.float()).dtype == torch.float64


UNBOUNDED = [  # features, target
    (torch.eye(2).repeat(6, 1), torch.tensor([1.0, 0.0]).repeat(6)),
    (doubled(normal(10, 30)), doubled(normal(10, seed=2))),
    (normal(10, 3), torch.zeros(10)),
]


@pytest.mark.parametrize(("x", "y"), UNBOUNDED)
def test_a_perfect_fit_with_few_dimensions_has_no_bound(x, y):
    assert log_evidence(x, y[:, None]).tolist() == [math.inf]


def test_a_fit_with_as_many_dimensions_as_samples_has_one():
    assert math.isfinite(log_evidence(normal(10, 30), normal(10, 1)).item())


BAD = [  # features, targets, words
    (normal(5, 2), normal(4, 1), r"targets \(4, 1\) for features \(5, 2\)"),
    (normal(5, 2), normal(5), r"targets \(5,\) for features"),
    (normal(5, 2, 2), normal(5, 1), r"features must be \(samples, width\), not \(5, 2, 2\)"),
    (normal(0, 2), normal(0, 1), r"features must be \(samples, width\), not \(0, 2\)"),
    (normal(5, 2).fill_(math.nan), normal(5, 1), "the features of 5 of 5 samples are not finite"),
    (normal(5, 2), normal(5, 1).fill_(math.inf), "the targets hold 5 values that are not finite"),
]


@pytest.mark.parametrize(("x", "y", "words"), BAD)
def test_bad_input_is_named(x, y, words):
    with pytest.raises(ValueError, match=words):
        log_evidence(x, y)
