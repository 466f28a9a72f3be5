"""A logistic regression on frozen features: the cheapest strategy, and a measuring instrument. Lesson 03 teaches it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

__all__ = ["Probe", "fit_probe"]

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Probe:
    """A fitted probe: ``C`` is the inverse strength of its L2 penalty, chosen on validation."""

    C: float
    pipeline: object

    def probabilities(self, features: Tensor) -> np.ndarray:
        """Class probabilities (n, classes) of features (n, D)."""
        return self.pipeline.predict_proba(features.cpu().numpy())


def fit_probe(
    features: Tensor,
    labels: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit a logistic probe until it converges.

    Features are standardised with the mean and spread of the training samples. ``C`` is the one of ``strengths`` with
    the lowest log-loss on the validation samples.

    Parameters
    ----------
    features, labels
        float (n, D) and int64 (n,) to train on.
    validation
        The same pair for validation; may be left out where ``strengths`` holds a single value.

    Raises
    ------
    ValueError
        If there is one class only, or several strengths and nothing to choose with.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[0.0], [0.1], [0.9], [1.0]])
    >>> fit_probe(x, torch.tensor([0, 0, 1, 1]), strengths=(1.0,)).probabilities(x)[0, 0] > 0.5
    np.True_
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = features.cpu().numpy(), labels.cpu().numpy()
    if len(np.unique(y)) < 2:
        raise ValueError(f"all {len(y)} training labels are of one class: a probe needs two")
    if len(strengths) > 1 and validation is None:
        raise ValueError(f"strengths={tuple(strengths)}: give validation=(features, labels) to choose among them")
    fitted = []
    for strength in strengths:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
        probe.fit(x, y)
        loss = 0.0
        if validation is not None:
            loss = log_loss(
                validation[1].cpu().numpy(),
                probe.predict_proba(validation[0].cpu().numpy()),
                labels=probe.classes_,
            )
        fitted.append((loss, Probe(strength, probe)))
    return min(fitted, key=lambda pair: pair[0])[1]
