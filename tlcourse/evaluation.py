"""How good is a model, measured on a split it has not seen. Lesson 00 explains each score."""

import numpy as np
import torch
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.data import Split
from tlcourse.masked import Masked

__all__ = ["evaluate", "metrics", "predict_probabilities"]


def evaluate(model: Model, split: Split, *, head: str | None = None, batch_size: int = 128) -> dict[str, float]:
    """Scores of a model on a split, in eval mode and float32; the model is left as it was.

    Returns
    -------
    dict
        What `metrics` returns.
    """
    return metrics(split.labels, predict_probabilities(model, split.inputs, head=head, batch_size=batch_size))


def predict_probabilities(
    model: Model,
    inputs: Tensor | Masked,
    *,
    start: int = 0,
    head: str | None = None,
    batch_size: int = 128,
) -> Tensor:
    """Class probabilities (n, classes), on the CPU.

    ``inputs`` is raw where ``start`` is 0, else the state that enters stage number ``start`` (see `caching`).
    """
    where = next(model.parameters()).device
    parts = []
    with evaluating(model):
        for first in range(0, len(inputs), batch_size):
            state = inputs[first : first + batch_size].to(where)
            state = state if start else model.backbone.preprocessing(state)
            parts.append(model.run(state, start=start, head=head).softmax(dim=1).cpu())
    return torch.cat(parts)


def metrics(labels: Tensor, probabilities: Tensor | np.ndarray) -> dict[str, float]:
    """Scores from true labels (n,) and class probabilities (n, classes).

    Returns
    -------
    dict
        ``accuracy``; ``balanced_accuracy`` (mean recall over the classes); ``auc`` (area under the ROC curve; with more
        than two classes the mean of one-against-the-rest); ``log_loss`` in nats; ``calibration_error`` (expected
        calibration error over 15 bins of equal width: Guo et al. 2017, section 2).

    Raises
    ------
    ValueError
        If a class does not occur among the labels, or a probability is not finite.

    Examples
    --------
    >>> scores = metrics(torch.tensor([0, 1]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    >>> scores["accuracy"], scores["auc"]
    (1.0, 1.0)
    """
    from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

    y, p = labels.cpu().numpy(), np.asarray(probabilities, dtype=np.float64)
    classes = np.arange(p.shape[1])
    if not np.isfinite(p).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(p))} predicted probabilities are not finite: training diverged"
        )
    absent = sorted(set(classes) - set(y.tolist()))
    if absent:
        raise ValueError(
            f"class {absent[0]} of {len(classes)} does not occur in these {len(y)} labels: no score can be given"
        )
    p = p / p.sum(axis=1, keepdims=True)
    guess = p.argmax(axis=1)
    auc = roc_auc_score(y, p[:, 1]) if len(classes) == 2 else roc_auc_score(y, p, multi_class="ovr", labels=classes)
    return {
        "accuracy": float((guess == y).mean()),
        "balanced_accuracy": float(balanced_accuracy_score(y, guess)),
        "auc": float(auc),
        "log_loss": float(log_loss(y, p, labels=classes)),
        "calibration_error": _calibration_error(p.max(axis=1), guess == y),
    }


def _calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by how many fall in each."""
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[number == b].sum() - correct[number == b].sum()) for b in np.unique(number)]
    return float(sum(gaps) / len(confidence))
