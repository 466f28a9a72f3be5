"""Which pre-trained network will do best? Scores that answer before anything is trained. Lesson 07 tests them.

Each takes what a network makes of the target's samples, and their labels; higher is better. They rank candidates on one
task: a score says nothing across tasks. `kendall` says how well a ranking was met. All is computed in float64.

Where ours differ from the authors' code (thuml/LogME, thuml/Transfer-Learning-Library) is said at each. Common to all:
classes are those that occur. Theirs count from 0 to the highest label, and an absent one adds a term or a NaN.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tlcourse.estimates import Estimate
from tlcourse.evidence import checked_features, log_evidence, principal

__all__ = ["h_score", "kendall", "leep", "logme", "nce", "transrate"]

FEWEST_CANDIDATES = 5
RESAMPLES = 2000
SUM_TOLERANCE = 1e-3  # of probabilities: float32 softmax is within 1e-6, half precision within 1e-3


def logme(features: Tensor, labels: Tensor) -> float:
    """LogME (You et al. 2021, section 4): the log evidence of each class against the rest, a sample, and their mean.

    It is converged: the evidence is at its maximum, found to 1e-9 (`evidence.log_evidence`, which also takes
    regression targets). The authors stop after at most 11 steps, at a change of 1 % or 0.1 % of alpha / beta, and add
    1e-5 to two denominators, so that their value depends on the scale of the features and this one does not.

    Parameters
    ----------
    features
        Floats (n, p) of any rank, not centred: the model has no intercept.
    labels
        int64 (n,), two classes or more.

    Returns
    -------
    float
        In nats a sample; ``inf`` where fewer dimensions than samples fit a class to the last digit.

    Raises
    ------
    ValueError
        If features and labels do not pair, a feature is not finite, or there is one class only.

    Examples
    --------
    >>> labels = torch.arange(40) % 2
    >>> noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    >>> logme(noise + 2 * labels[:, None], labels) > logme(noise, labels)
    True
    """
    x = checked_features(features)
    _, number = _classes(labels, len(x), "features")
    return float(log_evidence(x, torch.nn.functional.one_hot(number).double()).mean())


def leep(source_probabilities: Tensor, labels: Tensor) -> float:
    """LEEP (Nguyen et al. 2020, section 3): mean log of ``sum_z p(y | z) p(z | x)``, z the classes of the source.

    p(y | z) is counted on the same samples. Never above 0. For certain probabilities (zeros and ones) it is `nce`. A
    source class that no sample gives any probability adds nothing; the authors' code divides by its zero.

    Parameters
    ----------
    source_probabilities
        Floats (n, source classes): rows of probabilities that the source's own classifier gives.
    labels
        int64 (n,), two classes or more.

    Returns
    -------
    float
        In nats a sample.

    Raises
    ------
    ValueError
        If the lengths differ, there is one class only, or a row is no distribution (logits, for example).

    Examples
    --------
    >>> certain = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> leep(certain, torch.tensor([0, 0, 1, 1])), round(leep(certain, torch.tensor([0, 1, 0, 1])), 4)
    (0.0, -0.6931)
    """
    p = checked_features(source_probabilities)
    wrong = ((p.sum(dim=1) - 1).abs() > SUM_TOLERANCE) | (p < 0).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"row {row} of source_probabilities sums to {p[row].sum():.4g}, its smallest entry is {p[row].min():.4g}: "
            "give probabilities, not logits"
        )
    _, number = _classes(labels, len(p), "source_probabilities")
    joint = torch.zeros(int(number.max()) + 1, p.shape[1], dtype=p.dtype).index_add_(0, number, p)  # (y, z), times n
    used = joint.sum(dim=0) > 0
    given = joint[:, used] / joint[:, used].sum(dim=0)  # p(y | z)
    return float((p[:, used] * given[number]).sum(dim=1).log().mean())


def nce(source_labels: Tensor, labels: Tensor) -> float:
    """Negative conditional entropy (Tran et al. 2019, section 4): ``-H(target label | source label)``, counted.

    Parameters
    ----------
    source_labels
        int64 (n,): for each sample of the target the label that the source's classifier gives it.
    labels
        int64 (n,), two classes or more.

    Returns
    -------
    float
        In nats: 0 where the source label settles the target's, else below.

    Raises
    ------
    ValueError
        If the lengths differ, labels are not whole numbers, or there is one target class only.

    Examples
    --------
    >>> nce(torch.tensor([7, 7, 3, 3]), torch.tensor([0, 0, 1, 1]))
    0.0
    """
    source = _whole(source_labels, "source_labels")
    _, number = _classes(labels, len(source), "source_labels")
    _, z = source.unique(return_inverse=True)
    joint = torch.zeros(int(number.max()) + 1, int(z.max()) + 1, dtype=torch.float64)
    joint.index_put_((number, z), torch.ones(len(z), dtype=joint.dtype), accumulate=True)
    return float(torch.xlogy(joint, joint / joint.sum(dim=0)).sum() / len(z))


def h_score(features: Tensor, labels: Tensor, *, shrinkage: bool = False) -> float:
    """H-score (Bao et al. 2019, section 3): ``tr(cov(f)^-1 cov(E[f | y]))``, with the pseudo-inverse.

    Both covariances are divided by n, which cancels. Directions are kept as `torch.linalg.matrix_rank` counts them. The
    authors' code cuts at 1e-15 of the covariance, below float64's own rounding, and so inverts noise where features
    have less than full rank.

    Parameters
    ----------
    features
        Floats (n, p) of any rank.
    labels
        int64 (n,), two classes or more.
    shrinkage
        True takes Ibrahim et al. 2021, section 4: the covariance of Ledoit and Wolf in place of the sample's,
        and the factor ``1 - shrinkage``. With fewer samples than features the plain score is at its largest whatever
        the labels are, and only this one tells networks apart.

    Returns
    -------
    float
        From 0 to the number of classes - 1, or the rank if that is less.

    Raises
    ------
    ValueError
        As in `logme`.

    Examples
    --------
    >>> round(h_score(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([5, 5, 9, 9])), 6)
    1.0
    """
    x = checked_features(features)
    classes, number = _classes(labels, len(x), "features")
    x = _centred(x)
    basis, values = principal(x)
    means = torch.stack([basis[number == label].sum(dim=0) for label in range(len(classes))])
    between = (means.square() / number.bincount()[:, None]).sum(dim=0)  # (rank,): of each direction, in 0..1
    if shrinkage and len(values):
        from sklearn.covariance import ledoit_wolf_shrinkage

        variances, share = values.square() / len(x), ledoit_wolf_shrinkage(x.numpy(), assume_centered=True)
        kept = (1 - share) * variances
        between = between * kept / (kept + share * variances.sum() / x.shape[1])
    return float(between.sum())


def transrate(features: Tensor, labels: Tensor, *, eps: float = 1e-4) -> float:
    """TransRate (Huang et al. 2022, section 3): the coding rate of all features less that within the classes.

    ``R(Z) - sum_c n_c / n R(Z_c)`` with ``R(Z) = 1/2 log det(I + Z^T Z / (n eps))``, Z centred once, over all classes:
    an estimate of the mutual information between features and labels, and so never below 0. The authors' listing weighs
    the classes equally, which is the same for classes of one size and may fall below 0 for others. In both, two classes
    of one size whose means differ and nothing else score as if they did not differ: centred over both, their means lie
    at m and -m, and ``Z_c^T Z_c`` cannot tell these apart.

    Parameters
    ----------
    features
        Floats (n, p). The value depends on their scale: compare networks after scaling each, by the mean squared norm
        for example.
    labels
        int64 (n,), two classes or more.
    eps
        The distortion, above 0.

    Returns
    -------
    float
        In nats.

    Raises
    ------
    ValueError
        As in `logme`, and if eps is not above 0.

    Examples
    --------
    >>> labels = torch.arange(60) % 3
    >>> noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    >>> transrate(noise + 2 * torch.eye(3)[labels], labels) > transrate(noise, labels) > 0
    True
    """
    if not 0 < eps < float("inf"):
        raise ValueError(f"eps={eps}: a distortion above 0 is needed")
    x = checked_features(features)
    classes, number = _classes(labels, len(x), "features")
    z = _centred(x)
    parts = [z[number == label] for label in range(len(classes))]
    return _coding_rate(z, eps) - sum(len(part) / len(z) * _coding_rate(part, eps) for part in parts)


def kendall(scores: Sequence[float], truths: Sequence[float], *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Kendall's tau-b between what was foretold of candidates and what came of them, with an interval.

    The interval is the percentile bootstrap over candidates: how far tau would move with other candidates of the
    same kind, not with other seeds. Where every pair agrees (or every pair disagrees) there is nothing to resample:
    Fieller et al. 1957 then gives the interval, of tau moved in by half a pair. Over draws from bivariate normals,
    nominal 95 % covered 92 to 98 % with 8 and 20 candidates, true tau 0 to 0.8, and all but every draw with 5.

    Parameters
    ----------
    scores, truths
        One number a candidate, in the same order; at least 5.
    level
        The nominal coverage, between 0 and 1.
    seed
        Draws the resamples.

    Raises
    ------
    ValueError
        If the lengths differ, there are fewer than 5 candidates, a value is not finite, or all scores or all truths are
        equal.

    Examples
    --------
    >>> kendall([0.1, 0.4, 0.2, 0.8, 0.9, 0.7], [61, 70, 72, 80, 85, 83]).value.__round__(3)
    0.733
    """
    from scipy.stats import kendalltau

    a, b = (np.asarray(values, dtype=np.float64) for values in (scores, truths))
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"scores {a.shape} and truths {b.shape}: one number a candidate is needed in both")
    if len(a) < FEWEST_CANDIDATES:
        raise ValueError(
            f"{len(a)} candidates: a rank correlation needs at least {FEWEST_CANDIDATES}, and 8 to say much"
        )
    if not 0 < level < 1:
        raise ValueError(f"level={level}: between 0 and 1, such as 0.95")
    for name, values in (("scores", a), ("truths", b)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} holds {values[~np.isfinite(values)][0]} for a candidate: leave that candidate out"
            )
        if np.ptp(values) == 0:
            raise ValueError(f"all {len(values)} {name} are {values[0]}: there is no order to compare")
    value = float(kendalltau(a, b).statistic)
    if abs(value) > 1 - 1e-9:
        low, high = _of_full_agreement(value, len(a), level)
    else:
        low, high = _resampled(a, b, level, np.random.default_rng(seed))
    return Estimate(value, low, high, n=len(a), resampled="candidates", level=level)


def _whole(labels: Tensor, name: str) -> Tensor:
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"{name} must be whole numbers (n,), not {labels.dtype} {tuple(labels.shape)}")
    return labels.detach().cpu().long()


def _classes(labels: Tensor, samples: int, of: str) -> tuple[Tensor, Tensor]:
    """The classes that occur, and each sample's place among them (n,)."""
    y = _whole(labels, "labels")
    if len(y) != samples:
        raise ValueError(f"{of} has {samples} rows and labels {len(y)}: row i of both must be the same sample")
    classes, number = y.unique(return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"all {len(y)} labels are {classes.tolist()}: there is nothing to tell apart")
    return classes, number


def _centred(x: Tensor) -> Tensor:
    """Columns of mean zero; of a constant one, what rounding leaves is set to zero, lest it be inverted."""
    centred = x - x.mean(dim=0)
    return centred * (centred.abs().amax(dim=0) > 1e-12 * x.abs().amax(dim=0))


def _coding_rate(z: Tensor, eps: float) -> float:
    """From singular values: I + Z^T Z / (n eps) and its smaller twin have the same determinant."""
    return float((torch.linalg.svdvals(z).square() / (len(z) * eps)).log1p().sum() / 2)


def _of_full_agreement(value: float, n: int, level: float) -> tuple[float, float]:
    from scipy.stats import norm

    moved = 1 - 2 / (n * (n - 1))  # one pair in disagreement would take 4 / (n (n - 1))
    low = float(np.tanh(np.arctanh(moved) - norm.ppf((1 + level) / 2) * (0.437 / (n - 4)) ** 0.5))
    return (low, 1.0) if value > 0 else (-1.0, -low)


def _resampled(a: np.ndarray, b: np.ndarray, level: float, rng: np.random.Generator) -> tuple[float, float]:
    """Ends of the percentile interval; resamples in which all scores, or all truths, tie have no tau."""
    rows = rng.integers(len(a), size=(RESAMPLES, len(a)))
    signs = [np.sign(values[:, None] - values) for values in (a, b)]  # (n, n): the order of every two candidates
    agreement, pairs_a, pairs_b = signs[0] * signs[1], signs[0] ** 2, signs[1] ** 2
    counts = np.stack([np.bincount(row, minlength=len(a)) for row in rows]).astype(float)  # (resamples, n)
    totals = [np.einsum("ri,ij,rj->r", counts, each, counts, optimize=True) for each in (agreement, pairs_a, pairs_b)]
    ordered = (totals[1] > 0) & (totals[2] > 0)
    taus = totals[0][ordered] / np.sqrt(totals[1][ordered] * totals[2][ordered])
    return tuple(float(end) for end in np.quantile(taus, [(1 - level) / 2, (1 + level) / 2]))
