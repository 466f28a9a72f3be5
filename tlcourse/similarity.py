"""Do two sets of features hold the same thing? Centred kernel alignment (CKA), debiased. Lesson 02 teaches it.

CKA compares which samples are alike for one network with which are alike for another, so that neither the order of the
units nor the width of the layer matters. The plain estimator says "alike" about any two wide layers once samples are
few: between independent features it has a floor of order (width / samples). The debiased one has none, and is the
default.
"""

import torch
from torch import Tensor

__all__ = ["MinibatchCKA", "cka_matrix", "linear_cka"]

NEGLIGIBLE = 1e-12  # relative to the size of the values: float64 resolves 1e-16, float32 features 1e-7


def linear_cka(X: Tensor, Y: Tensor, *, debiased: bool = True, form: str | None = None) -> float:
    """Similarity of two representations of the same samples: 1 for the same up to rotation and scale, 0 for unrelated.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) with linear kernels, computed in float64. The biased HSIC is
    Kornblith et al. 2019, section 3; the debiased one Song et al. 2012, equation 5, as used by Nguyen et al. 2021.

    Parameters
    ----------
    X, Y
        (n, p) and (n, q): row i of both is the same sample. Pool images over space and texts over tokens first.
    debiased
        False gives the biased estimator, for comparison with older results and for the lesson.
    form
        ``"features"`` multiplies what is p x q, ``"gram"`` what is n x n; None takes the cheaper. They agree.

    Returns
    -------
    float
        In 0..1; debiased, in -1..1: independent features give values around 0.

    Raises
    ------
    ValueError
        If the rows do not pair, are too few (debiased 4, biased 2), hold a value that is not finite, or do not vary.

    Examples
    --------
    >>> X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    >>> round(linear_cka(X, 3 * X.flip(1)), 6)  # the units in another order and on another scale
    1.0
    """
    x, y = _centred(X, "X"), _centred(Y, "Y")
    _check_pairs(x, y, debiased=debiased)
    if form not in (None, "features", "gram"):
        raise ValueError(f"form={form!r}: use 'features', 'gram', or None for the cheaper")
    return _cka(*_alignments(x, y, debiased=debiased, form=form), [_spread(x), _spread(y)])


def cka_matrix(features_a: dict[str, Tensor], features_b: dict[str, Tensor], *, debiased: bool = True) -> Tensor:
    """CKA between every two of two sets of features, such as all stages of two networks.

    Parameters
    ----------
    features_a, features_b
        Name -> (n, width), as `hierarchy.stage_features` returns them: of the same n samples in the same order.

    Returns
    -------
    Tensor
        float64 (len(features_a), len(features_b)), rows and columns in the order of the dictionaries.

    Raises
    ------
    ValueError
        As `linear_cka`; the message names the features.

    Examples
    --------
    >>> X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    >>> cka_matrix({"early": X}, {"early": X, "late": X**2}).shape
    torch.Size([1, 2])
    """
    rows = {name: _centred(features, f"features_a[{name!r}]") for name, features in features_a.items()}
    columns = {name: _centred(features, f"features_b[{name!r}]") for name, features in features_b.items()}
    for a, x in rows.items():
        for b, y in columns.items():
            _check_pairs(x, y, debiased=debiased, names=(a, b))
    own_rows = {name: _alignment(x, x, debiased=debiased) for name, x in rows.items()}
    own_columns = {name: _alignment(y, y, debiased=debiased) for name, y in columns.items()}
    result = torch.empty(len(rows), len(columns), dtype=torch.float64)
    for i, (a, x) in enumerate(rows.items()):
        for j, (b, y) in enumerate(columns.items()):
            cross = _alignment(x, y, debiased=debiased)
            result[i, j] = _cka(cross, own_rows[a], own_columns[b], [_spread(x), _spread(y)], names=(a, b))
    return result


class MinibatchCKA:
    """Debiased CKA of features that are too large to keep, such as unpooled maps: add batches, then ask for the value.

    The debiased HSIC of a batch has the same expectation whatever the size of the batch, so its mean over batches (each
    weighted by its samples) estimates HSIC, and the ratio of three such means CKA (Nguyen et al. 2021, equations 2
    and 3). The biased estimator has no such form.

    Examples
    --------
    >>> cka = MinibatchCKA()
    >>> for seed in range(3):
    ...     x = torch.randn(20, 4, generator=torch.Generator().manual_seed(seed))
    ...     cka.add(x, -x)
    >>> round(cka.value(), 6)
    1.0
    """

    def __init__(self) -> None:
        self._samples, self._sums, self._spreads = 0, [0.0, 0.0, 0.0], [0.0, 0.0]

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add one batch: (n, ...) and (n, ...), n at least 4; what follows the first axis is flattened."""
        x, y = (_centred(part.flatten(1) if part.dim() > 1 else part, name) for part, name in ((x, "x"), (y, "y")))
        _check_pairs(x, y, debiased=True)
        for number, value in enumerate(_alignments(x, y, debiased=True)):
            self._sums[number] += len(x) * value
        for number, part in enumerate((x, y)):
            self._spreads[number] += len(x) * _spread(part)
        self._samples += len(x)

    def value(self) -> float:
        """CKA over all batches so far."""
        if not self._samples:
            raise ValueError("no batch was added: call add(x, y) first")
        return _cka(*self._sums, self._spreads)


def _centred(features: Tensor, name: str) -> Tensor:
    """float64 features (n, p) whose columns have mean zero."""
    if features.dim() != 2:
        raise ValueError(f"{name} must be (samples, width), not {tuple(features.shape)}: pool it to one row a sample")
    if not len(features):
        raise ValueError(f"{name} holds no samples")
    x = features.detach().cpu().double()
    if not x.isfinite().all():
        raise ValueError(f"{name} holds {int((~x.isfinite()).sum())} values that are not finite")
    centred = x - x.mean(dim=0)
    # What a constant column leaves is the rounding of its mean: far below what float32 features can vary by.
    return centred * (centred.abs().amax(dim=0) > NEGLIGIBLE * x.abs().amax(dim=0))


def _check_pairs(x: Tensor, y: Tensor, *, debiased: bool, names: tuple[str, str] = ("X", "Y")) -> None:
    if len(x) != len(y):
        raise ValueError(
            f"{names[0]} has {len(x)} rows and {names[1]} has {len(y)}: row i of both must be the same sample"
        )
    needed = 4 if debiased else 2
    if len(x) < needed:
        raise ValueError(f"{len(x)} sample(s): {'debiased' if debiased else 'biased'} CKA needs at least {needed}")


def _alignments(x: Tensor, y: Tensor, *, debiased: bool, form: str | None = None) -> tuple[float, float, float]:
    """HSIC of (x, y), (x, x) and (y, y)."""
    return tuple(_alignment(a, b, debiased=debiased, form=form) for a, b in ((x, y), (x, x), (y, y)))


def _alignment(x: Tensor, y: Tensor, *, debiased: bool, form: str | None = None) -> float:
    """HSIC with linear kernels of centred features (n, p) and (n, q)."""
    n, p, q = len(x), x.shape[1], y.shape[1]
    if form is None:
        form = "features" if p * q < n * (p + q) else "gram"
    if form == "gram":
        return _alignment_of_grams(x @ x.T, y @ y.T, debiased=debiased)
    total = (x.T @ y).square().sum()  # trace of K L
    if not debiased:
        return float(total) / (n - 1) ** 2
    # Taking the diagonals away from K and L: with centred features the rows of K - diag(K) add up to -diag(K).
    a, b = x.square().sum(dim=1), y.square().sum(dim=1)  # (n,): the diagonals
    total = total - (a @ b) * n / (n - 2) + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return float(total) / (n * (n - 3))


def _alignment_of_grams(k: Tensor, l: Tensor, *, debiased: bool) -> float:  # noqa: E741 - K and L are the papers' names
    """HSIC of the Gram matrices (n, n) of centred features."""
    n = len(k)
    if not debiased:
        return float((k * l).sum()) / (n - 1) ** 2
    k, l = k - k.diag().diag(), l - l.diag().diag()  # noqa: E741
    total = (k * l).sum() + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(dim=0) @ l.sum(dim=0))
    return float(total) / (n * (n - 3))


def _spread(x: Tensor) -> float:
    """The scale of HSIC(x, x), to tell features that do not vary from small ones."""
    return float(x.square().sum() / len(x)) ** 2


def _cka(cross: float, own_x: float, own_y: float, spreads: list[float], names: tuple[str, str] = ("X", "Y")) -> float:
    for own, spread, name in zip((own_x, own_y), spreads, names, strict=True):
        if own <= NEGLIGIBLE * spread:
            raise ValueError(f"{name} does not vary between the samples (or one alone differs): CKA is undefined")
    return cross / (own_x * own_y) ** 0.5
