"""How far apart are two sets of features, such as those of the source's pictures and the target's? Lesson 07 uses it.

Two measures, because each fails where the other does not. The maximum mean discrepancy is about how far: it goes on
growing, but its size depends on the kernel. The proxy A-distance is about how surely one can tell: it has a fixed
scale, 0 to 2, but says 2 of everything that can be told apart, near or far.

Distance is a matter of the features: name the stage that they come from. Where the two sets hold classes in other
shares, part of the distance is that.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tlcourse.estimates import Estimate
from tlcourse.evidence import checked_features

__all__ = ["DomainDistance", "domain_distance", "median_bandwidth", "mmd_squared", "proxy_a_distance"]

LARGEST = 1000  # samples of each side: the kernel's matrix holds the squares of both together
RESAMPLES = 1000
FEWEST = 10
STRENGTH = 0.1  # C of the classifier on standardised features: 5,000 numbers of noise are not fitted


@dataclass(frozen=True)
class DomainDistance:
    """Both measures of `domain_distance`, each with its interval.

    Attributes
    ----------
    mmd_squared
        0 in expectation where both sets come from one distribution; single values fall below 0 then.
    a_distance
        0 where no classifier tells the sets apart, 2 where it always does.
    """

    mmd_squared: Estimate
    a_distance: Estimate


def domain_distance(
    features_a: Tensor,
    features_b: Tensor,
    *,
    bandwidth: float | None = None,
    level: float = 0.95,
    largest: int = LARGEST,
    seed: int = 0,
) -> DomainDistance:
    """The squared maximum mean discrepancy and the proxy A-distance of two sets of features.

    Parameters
    ----------
    features_a, features_b
        Floats (n, p) and (m, p) of the same network: 10 samples or more each. They are not paired.
    bandwidth
        Of the kernel, as in `mmd_squared`. To compare several distances, name one for all: the median of each pair
        grows with the distance and may turn the order around.
    level
        Nominal coverage of both intervals.
    largest
        Of more samples than this on a side, so many are drawn. Compare distances at the same number: the A-distance
        grows with it, since a classifier learns more from more.
    seed
        Draws the samples, the halves and the resamples.

    Raises
    ------
    ValueError
        If the widths differ, there are too few samples, a feature is not finite, all samples are equal, or an option is
        out of range.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = torch.randn(200, 3, generator=generator), torch.randn(200, 3, generator=generator)
    >>> near, far = domain_distance(a, b), domain_distance(a, b + 2)
    >>> near.a_distance.value < 0.5 < far.a_distance.value, near.mmd_squared.value < 0.02 < far.mmd_squared.value
    (True, True)
    """
    options = {"level": level, "largest": largest, "seed": seed}
    return DomainDistance(
        mmd_squared(features_a, features_b, bandwidth=bandwidth, **options),
        proxy_a_distance(features_a, features_b, **options),
    )


def mmd_squared(
    features_a: Tensor,
    features_b: Tensor,
    *,
    bandwidth: float | None = None,
    level: float = 0.95,
    largest: int = LARGEST,
    seed: int = 0,
) -> Estimate:
    """The unbiased squared maximum mean discrepancy with the kernel ``exp(-|x - y|^2 / (2 bandwidth^2))``.

    Gretton et al. 2012, equation 3: no sample is compared with itself, so that the expectation is 0 for two sets of one
    distribution. The interval is the basic bootstrap over the samples of each side, a sample and its copies
    not being compared either; near 0, where the estimate is degenerate, it is too wide rather than too narrow.

    Parameters
    ----------
    bandwidth
        Above 0. None takes `median_bandwidth` of both sets together.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = torch.randn(300, 2, generator=generator), torch.randn(300, 2, generator=generator) + 1
    >>> found = mmd_squared(a, b, bandwidth=1.0)  # 2 / 3 * (1 - exp(-1 / 3)) is expected
    >>> found.low < 0.189 < found.high
    True
    """
    a, b, rng = _prepared(features_a, features_b, level, largest, seed)
    if bandwidth is not None and not 0 < bandwidth < float("inf"):
        raise ValueError(f"bandwidth={bandwidth}: a length above 0 is needed, or None for the median")
    width = median_bandwidth(a, b) if bandwidth is None else bandwidth
    both = torch.cat([a, b])
    kernel = (-_squared_distances(both) / (2 * width**2)).exp().fill_diagonal_(0).numpy()
    n, m = len(a), len(b)
    value = _mmd_of_counts(kernel, np.ones((1, n)), np.ones((1, m)))[0]
    counts = [rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES) for size in (n, m)]
    drawn = _mmd_of_counts(kernel, *(each.astype(float) for each in counts))
    high, low = (2 * value - end for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
    return Estimate(float(value), float(low), float(high), n=n + m, resampled="samples", level=level)


def median_bandwidth(features_a: Tensor, features_b: Tensor) -> float:
    """The median distance between two samples of both sets together (Gretton et al. 2012, section 8).

    Examples
    --------
    >>> median_bandwidth(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]]))
    2.0
    """
    both = torch.cat([checked_features(features_a), checked_features(features_b)])
    first, second = torch.triu_indices(len(both), len(both), offset=1)
    width = float(_squared_distances(both)[first, second].sqrt().median())
    if width == 0:
        raise ValueError("half of all pairs of samples are equal: the median bandwidth would be 0, name one")
    return width


def proxy_a_distance(
    features_a: Tensor, features_b: Tensor, *, level: float = 0.95, largest: int = LARGEST, seed: int = 0
) -> Estimate:
    """``2 (1 - 2 error)`` of a classifier that tells the two sets apart (Ben-David et al. 2007, section 4).

    A logistic regression on standardised features is fitted to one half of the samples, and its error counted on the
    other; as many of each side, so that chance is 0. Values below 0 are chance too and are kept. The interval is the
    exact one of a binomial share (Clopper and Pearson 1934), for this classifier: with more samples to learn from,
    another one may find more. Cross-validation would use every sample, but its folds are not independent, and its
    interval missed 0 for one pair in seven of equal distributions. Near-duplicates in both halves make the distance too
    large.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> a, b = torch.randn(100, 2, generator=generator), torch.randn(100, 2, generator=generator)
    >>> proxy_a_distance(a, b + 9)
    Estimate(2.0000 [1.8551, 2.0000], 95 % over n = 100 held-out samples)
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    a, b, rng = _prepared(features_a, features_b, level, largest, seed)
    half = min(len(a), len(b)) // 2
    a, b = (each[torch.from_numpy(rng.permutation(len(each))[: 2 * half])] for each in (a, b))
    side = np.repeat([0, 1], half)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=5000))
    classifier.fit(torch.cat([a[:half], b[:half]]).numpy(), side)
    wrong = int((classifier.predict(torch.cat([a[half:], b[half:]]).numpy()) != side).sum())
    error = binomtest(wrong, 2 * half).proportion_ci(level)
    value, low, high = (2 - 4 * share for share in (wrong / (2 * half), error.high, error.low))
    return Estimate(value, float(low), float(high), n=2 * half, resampled="held-out samples", level=level)


def _prepared(
    features_a: Tensor, features_b: Tensor, level: float, largest: int, seed: int
) -> tuple[Tensor, Tensor, np.random.Generator]:
    a, b = checked_features(features_a), checked_features(features_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features_a are of {a.shape[1]} numbers each and features_b of {b.shape[1]}: one network's")
    if min(len(a), len(b)) < FEWEST or largest < FEWEST:
        raise ValueError(f"{len(a)} and {len(b)} samples, largest={largest}: at least {FEWEST} of each are needed")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: between 0 and 1, such as 0.95")
    both = torch.cat([a, b])
    if (both == both[0]).all():
        raise ValueError(f"all {len(both)} samples are equal: there is no distance between constant features")
    rng = np.random.default_rng(seed)
    a, b = (each[torch.from_numpy(np.sort(rng.permutation(len(each))[:largest]))] for each in (a, b))
    return a, b, rng


def _squared_distances(x: Tensor) -> Tensor:
    """(n, n), after centring: what is far from 0 would lose its digits in the products."""
    x = x - x.mean(dim=0)
    squares = x.square().sum(dim=1)
    return (squares[:, None] + squares - 2 * x @ x.T).clamp_(min=0).fill_diagonal_(0)


def _mmd_of_counts(kernel: np.ndarray, counts_a: np.ndarray, counts_b: np.ndarray) -> np.ndarray:
    """(resamples,) from how often each sample was drawn, with a kernel whose diagonal is 0."""
    n = counts_a.shape[1]

    def mean(left: np.ndarray, block: np.ndarray, right: np.ndarray, *, same: bool) -> np.ndarray:
        pairs = left.sum(axis=1) * right.sum(axis=1) - (np.square(left).sum(axis=1) if same else 0)
        return np.einsum("ri,ri->r", left @ block, right) / pairs

    within_a = mean(counts_a, kernel[:n, :n], counts_a, same=True)
    within_b = mean(counts_b, kernel[n:, n:], counts_b, same=True)
    return within_a + within_b - 2 * mean(counts_a, kernel[:n, n:], counts_b, same=False)
