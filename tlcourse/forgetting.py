"""What a sequence of tasks left of each: the scores of the matrix R. Lesson 08 defines them, 09 and 10 use them.

R has a row for each state of the model and a column for each task: ``R[i, j]`` is the score on task j, higher is
better, after training on tasks 0 to i.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["forgetting_scores"]


def forgetting_scores(R: ArrayLike, *, baselines: ArrayLike | None = None) -> dict[str, float]:
    """Accuracy, forgetting and transfer of a sequence of T tasks, each a mean over tasks.

    Parameters
    ----------
    R
        (T, T): row after task i, column score on task j, such as an accuracy in 0..1. What lies above the diagonal
        counts for the forward transfer alone, which takes its first diagonal; NaN is allowed where nothing is read.
    baselines
        (T,): the score on each task of a model that learned none, for the forward transfer; the first is not read.

    Returns
    -------
    dict
        - ``accuracy``: mean of the last row.
        - ``learning_accuracy``: mean of the diagonal, each task right after it was learned (Riemer et al. 2019).
        - ``forgetting``: mean over all tasks but the last of the best earlier score minus the last one, negative where
          the task got better (Chaudhry et al. 2018, section 3). Earlier means from the row on that learned the task.
        - ``backward_transfer``: mean over all tasks but the last of the last row minus the diagonal (Lopez-Paz and
          Ranzato 2017, section 2).
        - ``forward_transfer``, with ``baselines`` only: mean over all tasks but the first of the score right before
          the task was learned, minus its baseline (same section).

        Means over no task, as all but the accuracies are for T = 1, are NaN.

    Raises
    ------
    ValueError
        If R is not square or is empty, the baselines do not fit it, or a number that is read is not finite.

    Examples
    --------
    >>> scores = forgetting_scores([[0.9, 0.5], [0.6, 0.8]], baselines=[0.5, 0.5])
    >>> {name: round(score, 2) for name, score in scores.items()}  # doctest: +NORMALIZE_WHITESPACE
    {'accuracy': 0.7, 'learning_accuracy': 0.85, 'forgetting': 0.3, 'backward_transfer': -0.3, 'forward_transfer': 0.0}
    """
    scores = np.asarray(R, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not scores.size:
        raise ValueError(f"R is {scores.shape}; a row and a column for each task are needed: (T, T), T at least 1")
    _check_finite(scores, np.tril(np.ones_like(scores, dtype=bool)), "R")
    learned, last = scores.diagonal(), scores[-1]
    best = [scores[task:-1, task].max() for task in range(len(scores) - 1)]
    found = {
        "accuracy": _mean(last),
        "learning_accuracy": _mean(learned),
        "forgetting": _mean(best - last[:-1]),
        "backward_transfer": _mean(last[:-1] - learned[:-1]),
    }
    if baselines is not None:
        start = np.asarray(baselines, dtype=np.float64)
        if start.shape != (len(scores),):
            raise ValueError(f"baselines are {start.shape}; one for each of {len(scores)} task(s) is needed")
        _check_finite(scores, np.eye(len(scores), k=1, dtype=bool), "R")
        _check_finite(start, np.arange(len(start)) > 0, "baselines")
        found["forward_transfer"] = _mean(scores.diagonal(1) - start[1:])
    return found


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _check_finite(values: np.ndarray, read: np.ndarray, name: str) -> None:
    bad = np.argwhere(read & ~np.isfinite(values))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(f"{name}[{', '.join(map(str, where))}] is {values[where]}: the scores need it")
