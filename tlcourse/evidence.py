"""How probable are the targets under a Bayesian linear regression on the features? LogME is made of it; lesson 07.

The model is y = F w + noise with w ~ N(0, I / alpha), noise ~ N(0, I / beta) and no intercept: the evidence is what
is left when w is integrated out, at the alpha and beta that make it largest (MacKay 1992; Bishop 2006, section 3.5).
"""

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["log_evidence"]

GRID = 240  # ratios alpha / beta to start from; between neighbours the evidence is smooth
REACH = 14 * math.log(10)  # how far beyond the squared singular values they go
EXACT = 1e-24  # of the squares of y: below that, what the features leave is rounding


def log_evidence(features: Tensor, targets: Tensor) -> Tensor:
    """The largest log evidence of each column of targets, per sample, in nats.

    With F F^T = U diag(s) U^T, a target is normal with variances ``(1 + s_i / t) / beta`` along U, t = alpha / beta.
    The best beta for a t is a quotient, so that one number is left to search: over a grid of ln t, then by Brent's
    method around its best. MacKay's fixed point reaches the same top where there is one; of two, maybe the lower.

    Parameters
    ----------
    features
        Floats (n, p); they are read as float64, on the CPU. They may have any rank.
    targets
        Floats (n, k): regression targets, or classes as zeros and ones.

    Returns
    -------
    Tensor
        float64 (k,), divided by n. ``inf`` where the features fit a target to the last digit with fewer dimensions
        than samples (or the target is zero): the evidence then has no upper bound.

    Raises
    ------
    ValueError
        If the shapes do not pair, or a value is not finite.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> good, noise = log_evidence(x, torch.tensor([[0.1, 1.0], [0.9, -1.0], [2.1, -1.0], [2.9, 1.0]]))
    >>> bool(good > noise)
    True
    """
    f, y = checked_features(features), targets.detach().cpu().double()
    if y.dim() != 2 or len(y) != len(f):
        raise ValueError(f"targets {tuple(targets.shape)} for features {tuple(f.shape)}: one row a sample is needed")
    if not y.isfinite().all():
        raise ValueError(f"the targets hold {int((~y.isfinite()).sum())} values that are not finite")
    basis, values = principal(f)
    along = basis.T @ y  # (k, columns)
    beyond = (y - basis @ along).square().sum(dim=0).numpy()  # not the difference of squares, which would cancel
    beyond[beyond <= EXACT * y.square().sum(dim=0).numpy()] = 0.0
    squares, values = along.square().numpy(), values.square().numpy()
    tops = [_largest(squares[:, k], beyond[k], values, len(f)) for k in range(y.shape[1])]
    return torch.tensor(tops, dtype=torch.float64)


def checked_features(features: Tensor) -> Tensor:
    """Features (n, p) as float64 on the CPU; what is wrong with them is named."""
    if features.dim() != 2 or not features.numel():
        raise ValueError(
            f"features must be (samples, width), not {tuple(features.shape)}: pool them to one row a sample"
        )
    x = features.detach().cpu().double()
    bad = int((~x.isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"the features of {bad} of {len(x)} samples are not finite")
    return x


def principal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal columns (n, rank) that span those of ``x`` (n, p), and their singular values (rank,)."""
    left, values, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((values > max(x.shape) * torch.finfo(x.dtype).eps * values.max()).sum())  # as `matrix_rank` counts
    return left[:, :rank], values[:rank]


def _largest(squares: np.ndarray, beyond: float, values: np.ndarray, n: int) -> float:
    """Of one target, from its squares along (rank,) and beyond the features, and the squared singular values."""
    from scipy.optimize import minimize_scalar

    if squares.sum() + beyond == 0 or (beyond == 0 and len(values) < n):
        return math.inf

    def evidence(log_ratio: float | np.ndarray) -> np.ndarray:
        spread = 1 + values / np.exp(np.atleast_1d(log_ratio))[:, None]  # (ratios, rank)
        beta = n / ((squares / spread).sum(axis=1) + beyond)
        return (n * (np.log(beta) - np.log(2 * np.pi) - 1) - np.log(spread).sum(axis=1)) / 2

    candidates = [n * (math.log(n / (squares.sum() + beyond)) - math.log(2 * math.pi) - 1) / 2]  # t to infinity: noise
    if len(values) == n:  # t to 0: no noise at all
        inner = n * (math.log(n / (squares / values).sum()) - math.log(2 * math.pi) - 1) - np.log(values).sum()
        candidates.append(inner / 2)
    if len(values):
        grid = np.linspace(math.log(values.min()) - REACH, math.log(values.max()) + REACH, GRID)
        found = evidence(grid)
        best = int(found.argmax())
        ends = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
        refined = minimize_scalar(lambda t: -evidence(t)[0], bounds=ends, method="bounded", options={"xatol": 1e-9})
        candidates += [found[best], -refined.fun]
    return max(candidates) / n
