"""Several honest choices from one set of labels: validation is drawn anew, the test split never is. Lesson 13 uses it.

A score over resampled splits varies less than over fresh data, since the training sets overlap; the plain t-interval is
too narrow then. `over_splits` widens it as Nadeau and Bengio proposed.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tlcourse.data import Split, Task
from tlcourse.estimates import Estimate
from tlcourse.masked import join

__all__ = ["SHARE", "over_splits", "resplit"]

SHARE = 0.2  # of what is not the test goes to validation


def resplit(task: Task, *, seed: int, groups: Tensor | None = None, share: float = SHARE) -> Task:
    """The same task and test split; training and validation are pooled and dealt anew, stratified.

    Parameters
    ----------
    groups
        int64, a number for each row that the task's ``index`` names: samples of one group stay in one split.
    share
        Of the pool, for validation, between 0 and 1; of each class one group at least.

    Raises
    ------
    ValueError
        If the share is out of range, or some class has no two groups.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> task = load_task("digits8")
    >>> again = resplit(task, seed=1)
    >>> len(again.train) + len(again.val) == len(task.train) + len(task.val), again.test is task.test
    (True, True)
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: between 0 and 1 of the samples are for validation")
    index = torch.cat([task.train.index, task.val.index])
    labels = torch.cat([task.train.labels, task.val.labels])
    inputs = join([task.train.inputs, task.val.inputs])
    owners = index if groups is None else groups[index]
    chosen = _chosen(labels.numpy(), owners.numpy(), share, np.random.default_rng([seed, 13]))

    def pick(rows: Tensor) -> Split:
        return Split(inputs[rows], labels[rows], index[rows])

    parts = [torch.from_numpy(np.flatnonzero(mask)) for mask in (~chosen, chosen)]
    for part, rows in zip(("training", "validation"), parts, strict=True):
        absent = sorted(set(range(len(task.class_names))) - set(labels[rows].tolist()))
        if absent:
            raise ValueError(
                f"class {task.class_names[absent[0]]!r} of task {task.name!r} has too few groups of samples to be in "
                f"training and validation: the {part} split would hold none"
            )
    return replace(task, train=pick(parts[0]), val=pick(parts[1]), seed=seed)


def over_splits(scores: Sequence[float], *, share: float = SHARE, level: float = 0.95) -> Estimate:
    """The mean of scores over resampled splits, with the corrected t-interval of Nadeau and Bengio 2003, section 3.

    The variance of the mean is taken as ``(1 / n + share / (1 - share)) s^2`` in place of ``s^2 / n``.

    Parameters
    ----------
    scores
        One a split, in its unit; differences of two strategies on the same splits are scores too.
    share
        The validation's share that they were made with.

    Raises
    ------
    ValueError
        With fewer than 2 scores.

    Examples
    --------
    >>> over_splits([0.80, 0.84, 0.82])
    Estimate(0.8200 [0.7543, 0.8857], 95 % over n = 3 splits)
    """
    from scipy.stats import t

    values = np.asarray(scores, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"{len(values)} score(s): an interval needs at least 2 splits")
    width = t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1)
    half = float(width * (1 / len(values) + share / (1 - share)) ** 0.5)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, n=len(values), resampled="splits", level=level)


def _chosen(labels: np.ndarray, owners: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """True for validation: whole groups in random order, as long as no class has more than its share of them."""
    _, owners = np.unique(owners, return_inverse=True)
    members = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1])
    held = np.stack([np.bincount(labels[rows], minlength=labels.max() + 1) for rows in members])  # (groups, classes)
    smallest = np.where(held > 0, held, len(labels)).min(axis=0)  # of each class: else large groups would never fit
    room = np.maximum(smallest, np.round(share * held.sum(axis=0)))
    chosen = np.zeros(len(labels), dtype=bool)
    for group in rng.permutation(len(members)):
        if (held[group] <= room).all():
            room = room - held[group]
            chosen[members[group]] = True
    return chosen
