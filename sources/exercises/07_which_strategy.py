# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 07 · Which strategy?
#
# Five tasks on giving advice and on judging it: the rules of thumb taken at their word, a score that ranks networks
# before any training, an advisor who is asked where it has not been, the overlap of masks, and what a ranking of five
# candidates is worth. About an hour and a quarter. Do lesson 07 before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("07.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import itertools
import math

import numpy as np
import torch

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="07.1"
# Before anybody measures how good the rules of thumb are, they have to say something definite. There are three
# strategies, here from the cheapest to the dearest: `"probe"` (a frozen backbone and a simple classifier), `"last
# stages"` and `"full"` (everything moves). Each rule that speaks gives *one vote*:
#
# - fewer than 100 labels: `"probe"`; from 100 to 10,000 labels, both included: `"last stages"`; more than 10,000:
#   `"full"`;
# - similarity `"near"`, the domain of the source: `"probe"`; `"far"`, another domain: `"full"`; `None`, nobody knows:
#   no vote;
# - complexity `"two classes"`: `"probe"`; `"pixels"`, a label for each pixel: `"full"`; `"several classes"`: no vote.
#
# **Write `ranked(labels, similarity, complexity)`**: it returns a list of all three strategies, the one with the most
# votes first; of those with as many votes, the cheapest comes first. `labels` is a whole number, at least 1; the other
# two are as above.
#
# When it works: in how many of the three bands do a near domain and two classes put another strategy first than the
# labels alone would?


# %% tags=["answer"] task="07.1"
def ranked(labels, similarity, complexity):
    # BEGIN SOLUTION
    votes = {"probe": 0, "last stages": 0, "full": 0}  # the cheapest first
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    if similarity is not None:
        votes[{"near": "probe", "far": "full"}[similarity]] += 1
    if complexity != "several classes":
        votes[{"two classes": "probe", "pixels": "full"}[complexity]] += 1
    return sorted(votes, key=lambda name: -votes[name])  # stable: of equals, the cheapest
    # END SOLUTION


# %% tags=["check"]
check("07.1", ranked)

# %% tags=["solution"]
for labels in (50, 5_000, 50_000):
    print(labels, ranked(labels, None, "several classes")[0], "->", ranked(labels, "near", "two classes")[0])
assert all(ranked(labels, "near", "two classes")[0] == "probe" for labels in (50, 5_000, 50_000))


# %% tags=["right"] task="07.1"
def ranked(labels, similarity, complexity):
    voices = [(labels < 100) + (similarity == "near") + (complexity == "two classes")]
    voices.append(int(100 <= labels <= 10_000))
    voices.append((labels > 10_000) + (similarity == "far") + (complexity == "pixels"))
    order = np.argsort(-np.array(voices), kind="stable")
    return [("probe", "last stages", "full")[place] for place in order]


# %% tags=["right"] task="07.1"
def ranked(labels, similarity, complexity):
    """Take the best of those that are left, three times."""
    named = [("few", "probe"), ("middle", "last stages"), ("many", "full"), ("near", "probe"), ("far", "full")]
    named = dict(named) | {"two classes": "probe", "pixels": "full"}
    size = "many" if labels > 10_000 else "few" if labels <= 99 else "middle"
    ballots = [named[said] for said in (size, similarity, complexity) if said in named]
    left, order = ["probe", "last stages", "full"], []
    while left:
        order.append(max(left, key=ballots.count))  # the first of equals
        left.remove(order[-1])
    return tuple(order)


# %% tags=["wrong"] task="07.1" misconception="a hundred is fewer than a hundred"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels <= 100 else "last stages" if labels <= 10_000 else "full"] += 1
    for said, name in {"near": "probe", "far": "full", "two classes": "probe", "pixels": "full"}.items():
        votes[name] += said in (similarity, complexity)
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="ten thousand is more than ten thousand"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels < 10_000 else "full"] += 1
    for said, name in {"near": "probe", "far": "full", "two classes": "probe", "pixels": "full"}.items():
        votes[name] += said in (similarity, complexity)
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="the labels alone decide"
def ranked(labels, similarity, complexity):
    names = ["probe", "last stages", "full"]
    first = "probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"
    return [first, *(name for name in names if name != first)]


# %% tags=["wrong"] task="07.1" misconception="the labels break a tie"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1.5
    for said, name in {"near": "probe", "far": "full", "two classes": "probe", "pixels": "full"}.items():
        votes[name] += said in (similarity, complexity)
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="the dearest of equals"
def ranked(labels, similarity, complexity):
    votes = {"full": 0, "last stages": 0, "probe": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    for said, name in {"near": "probe", "far": "full", "two classes": "probe", "pixels": "full"}.items():
        votes[name] += said in (similarity, complexity)
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="what is not known counts as near"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    votes["full" if similarity == "far" else "probe"] += 1
    for said, name in {"two classes": "probe", "pixels": "full"}.items():
        votes[name] += said == complexity
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="what is not known counts as far"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    votes["probe" if similarity == "near" else "full"] += 1
    for said, name in {"two classes": "probe", "pixels": "full"}.items():
        votes[name] += said == complexity
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="pixels as if they were two classes"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    votes["probe"] += (similarity == "near") + (complexity in ("two classes", "pixels"))
    votes["full"] += similarity == "far"
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="the domain has no vote"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    for said, name in {"two classes": "probe", "pixels": "full"}.items():
        votes[name] += said == complexity
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["wrong"] task="07.1" misconception="the task has no vote"
def ranked(labels, similarity, complexity):
    votes = {"probe": 0, "last stages": 0, "full": 0}
    votes["probe" if labels < 100 else "last stages" if labels <= 10_000 else "full"] += 1
    for said, name in {"near": "probe", "far": "full"}.items():
        votes[name] += said == similarity
    return sorted(votes, key=lambda name: -votes[name])


# %% tags=["hidden"] task="07.1"
def draw_07_1(rng):
    """The bounds and their neighbours with every kind of vote, a single label, very many."""
    similarity, complexity = ("near", "far", None), ("two classes", "several classes", "pixels")
    numbers = rng.permutation([1, 99, 100, 101, 9_999, 10_000, 10_001, 1_000_000]).tolist()
    cases = [[n, similarity[int(rng.integers(3))], complexity[int(rng.integers(3))]] for n in numbers]
    return {"cases": cases[:4], "bounds": cases[4:]}


# %% [markdown] tags=["task"] task="07.2"
# A network has a classifier for its old classes $z$, and you have samples of a new task with labels $y$. LEEP (Nguyen
# et al. 2020) says, without any training, how well the one foretells the other:
#
# $$\frac1n \sum_i \log \sum_z p(y_i \mid z)\, p(z \mid x_i), \qquad
# p(y \mid z) = \frac{p(y, z)}{p(z)}, \quad p(y, z) = \frac1n \sum_{i:\, y_i = y} p(z \mid x_i), \quad
# p(z) = \sum_y p(y, z)$$
#
# **Write `leep(probabilities, labels)`**: `probabilities` is a numpy array of shape `(n, source classes)`, its row i
# holds $p(z \mid x_i)$ and sums to 1; `labels` is an array of n whole numbers, which need not be 0, 1, 2, …: the
# classes are those that occur, two at least. A class of the source may have probability zero for *all* samples; it is
# then left out of the sum over z. Return a number, with the natural logarithm.


# %% tags=["answer"] task="07.2"
def leep(probabilities, labels):
    # BEGIN SOLUTION
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[number == y].sum(axis=0) for y in range(len(classes))])  # (classes, source classes), times n
    given = joint / joint.sum(axis=0)
    return np.log((p * given[number]).sum(axis=1)).mean()
    # END SOLUTION


# %% tags=["check"]
check("07.2", leep)


# %% tags=["right"] task="07.2"
def leep(probabilities, labels):
    """Sample by sample and class by class."""
    total, n = 0.0, len(labels)
    for i in range(n):
        explained = 0.0
        for z in range(probabilities.shape[1]):
            everything = sum(probabilities[j, z] for j in range(n))
            same = sum(probabilities[j, z] for j in range(n) if labels[j] == labels[i])
            if everything > 0:
                explained += same / everything * probabilities[i, z]
        total += math.log(explained)
    return total / n


# %% tags=["right"] task="07.2"
def leep(probabilities, labels):
    """By one matrix: who shares a label with whom."""
    p = torch.from_numpy(probabilities)
    y = torch.as_tensor(labels)
    same = (y[:, None] == y[None, :]).to(p.dtype)
    given = torch.nan_to_num((same @ p) / p.sum(dim=0))
    return (given * p).sum(dim=1).log().mean()


# %% tags=["wrong"] task="07.2" misconception="divided by a class that never occurs"
def leep(probabilities, labels):
    p, y = torch.from_numpy(probabilities), torch.as_tensor(labels)
    joint = torch.stack([p[y == label].sum(dim=0) for label in y.unique()])
    given = joint / joint.sum(dim=0)
    number = y.unique(return_inverse=True)[1]
    return (p * given[number]).sum(dim=1).log().mean()


# %% tags=["wrong"] task="07.2" misconception="given the target's class"
def leep(probabilities, labels):
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([probabilities[labels == y].sum(axis=0) for y in classes])
    given = joint / joint.sum(axis=1, keepdims=True)
    return np.log((probabilities * given[number]).sum(axis=1)).mean()


# %% tags=["wrong"] task="07.2" misconception="the joint instead of the conditional"
def leep(probabilities, labels):
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([probabilities[labels == y].sum(axis=0) for y in classes]) / len(labels)
    return np.log((probabilities * joint[number]).sum(axis=1)).mean()


# %% tags=["wrong"] task="07.2" misconception="only the most probable class"
def leep(probabilities, labels):
    hard = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    hard = hard[:, hard.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([hard[labels == y].sum(axis=0) for y in classes])
    return np.log((hard * (joint / joint.sum(axis=0))[number]).sum(axis=1)).mean()


# %% tags=["wrong"] task="07.2" misconception="the logarithm inside the sum"
def leep(probabilities, labels):
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[labels == y].sum(axis=0) for y in classes])
    return (p * np.log(joint / joint.sum(axis=0))[number]).sum(axis=1).mean()


# %% tags=["wrong"] task="07.2" misconception="the logarithm of the mean"
def leep(probabilities, labels):
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[labels == y].sum(axis=0) for y in classes])
    return np.log((p * (joint / joint.sum(axis=0))[number]).sum(axis=1).mean())


# %% tags=["wrong"] task="07.2" misconception="the sum over the samples"
def leep(probabilities, labels):
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[labels == y].sum(axis=0) for y in classes])
    return np.log((p * (joint / joint.sum(axis=0))[number]).sum(axis=1)).sum()


# %% tags=["wrong"] task="07.2" misconception="the sign turned round"
def leep(probabilities, labels):
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[labels == y].sum(axis=0) for y in classes])
    return -np.log((p * (joint / joint.sum(axis=0))[number]).sum(axis=1)).mean()


# %% tags=["wrong"] task="07.2" misconception="in bits"
def leep(probabilities, labels):
    p = probabilities[:, probabilities.any(axis=0)]
    classes, number = np.unique(labels, return_inverse=True)
    joint = np.stack([p[labels == y].sum(axis=0) for y in classes])
    return np.log2((p * (joint / joint.sum(axis=0))[number]).sum(axis=1)).mean()


# %% tags=["hidden"] task="07.2"
def draw_07_2(rng):
    """Certain probabilities, where LEEP is NCE; one class of the source; as many classes as samples."""
    n, sources = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    if rng.integers(2):
        probabilities = np.eye(sources)[rng.integers(sources, size=n)]
    else:
        probabilities = rng.dirichlet(np.ones(sources), size=n)
    labels = rng.permutation(n) * 3 if rng.integers(2) else np.where(np.arange(n) % 2, 7, 1)
    return {"probabilities": probabilities, "labels": labels}


# %% [markdown] tags=["task"] task="07.3"
# An advisor has learnt from a grid of measurements which strategy to take. Does it advise well, where nobody has
# measured yet? **Write `regret(cells, scores, learn)`.**
#
# - `cells` is a numpy array of shape `(n, k)`, n at least 2: each row describes a cell of the grid (how many labels,
#   how far the domain) by k numbers.
# - `scores` is an array of shape `(n, strategies, seeds)`: what each strategy reached in each cell with each seed.
# - `learn(some_cells, means)` teaches an advisor: it takes rows of cells `(m, k)` and for the same cells the mean score
#   of each strategy over the seeds `(m, strategies)`. It returns a function, which takes one row of cells and returns
#   the number of the strategy that it advises there.
#
# What a strategy *costs you* in a cell is its regret: the mean score of the best strategy in that cell less its own,
# both over all seeds. Return `advised, fixed`:
#
# - `advised`, a number: the mean over the cells of the regret of what is advised, where the advisor for each cell has
#   learnt from all other cells and not from that one;
# - `fixed`, an array of shape `(strategies,)`: the mean regret over the cells of whoever takes that strategy always.
#
# An advisor has earned its keep where `advised` is below every entry of `fixed`.


# %% tags=["answer"] task="07.3"
def regret(cells, scores, learn):
    # BEGIN SOLUTION
    means = scores.mean(axis=2)
    lost = means.max(axis=1, keepdims=True) - means  # (n, strategies)
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        advise = learn(cells[others], means[others])
        total += lost[row, advise(cells[row])]
    return total / len(cells), lost.mean(axis=0)
    # END SOLUTION


# %% tags=["check"]
check("07.3", regret)


# %% tags=["right"] task="07.3"
def regret(cells, scores, learn):
    means = np.array([[sum(seeds) / len(seeds) for seeds in cell] for cell in scores])
    best = means.max(axis=1)
    advised = [
        best[row] - means[row][learn(np.delete(cells, row, axis=0), np.delete(means, row, axis=0))(cells[row])]
        for row in range(len(cells))
    ]
    fixed = [float(np.mean([best[row] - means[row][k] for row in range(len(cells))])) for k in range(len(means[0]))]
    return float(np.mean(advised)), fixed


# %% tags=["right"] task="07.3"
def regret(cells, scores, learn):
    """The means of what is best and of what is taken, and one subtraction at the end."""
    means = torch.from_numpy(scores).mean(dim=2)
    reached = []
    for row in range(len(cells)):
        keep = [other for other in range(len(cells)) if other != row]
        reached.append(means[row, learn(cells[keep], means[keep].numpy())(cells[row])])
    best = means.amax(dim=1).mean()
    return best - torch.stack(reached).mean(), best - means.mean(dim=0)


# %% tags=["wrong"] task="07.3" misconception="the advisor had been there"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = means.max(axis=1, keepdims=True) - means
    advise = learn(cells, means)
    return np.mean([lost[row, advise(cells[row])] for row in range(len(cells))]), lost.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="the best of each seed"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = (scores.max(axis=1, keepdims=True) - scores).mean(axis=2)
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), lost.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="compared with the best fixed strategy"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = means[:, [means.mean(axis=0).argmax()]] - means
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), lost.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="how often, not how much"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = means < means.max(axis=1, keepdims=True)
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), lost.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="the sign turned round"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = means - means.max(axis=1, keepdims=True)
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), lost.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="the sum over the cells"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    lost = means.max(axis=1, keepdims=True) - means
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total, lost.sum(axis=0)


# %% tags=["wrong"] task="07.3" misconception="the score instead of what is lost"
def regret(cells, scores, learn):
    means = scores.mean(axis=2)
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += means[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), means.mean(axis=0)


# %% tags=["wrong"] task="07.3" misconception="one seed alone"
def regret(cells, scores, learn):
    means = scores[:, :, 0]
    lost = means.max(axis=1, keepdims=True) - means
    total = 0.0
    for row in range(len(cells)):
        others = np.arange(len(cells)) != row
        total += lost[row, learn(cells[others], means[others])(cells[row])]
    return total / len(cells), lost.mean(axis=0)


# %% tags=["hidden"] task="07.3"
def draw_07_3(rng):
    """Two cells, one seed, one number a cell, many strategies."""
    cells, strategies, seeds = int(rng.integers(2, 8)), int(rng.integers(2, 6)), int(rng.integers(1, 4))
    return {
        "cells": rng.normal(size=(cells, int(rng.integers(1, 4)))),
        "scores": rng.random((cells, strategies, seeds)),
    }


# %% [markdown] tags=["task"] task="07.4"
# In pictures with digits pasted on solar cells, nine pixels of ten may be background: a network that sees no digit at
# all is right about those nine. **Write `foreground_iou(masks, predictions, classes)`**, which is not impressed.
# `masks` and `predictions` are numpy arrays of one shape `(n, height, width)` of whole numbers from 0 to `classes - 1`:
# what each pixel is, and what was predicted. 0 is the background.
#
# The overlap (IoU) of a class is the number of pixels that have it in the mask *and* in the prediction, divided by the
# number of those that have it in the mask *or* in the prediction, counted over all n images together. Return the mean
# overlap of the classes from 1 on, each with the same weight. A class that occurs in neither, nowhere, is left out of
# the mean; one that occurs in only one of the two counts 0. (Some pixel, in a mask or in a prediction, is no
# background.)


# %% tags=["answer"] task="07.4"
def foreground_iou(masks, predictions, classes):
    # BEGIN SOLUTION
    overlaps = []
    for label in range(1, classes):
        true, said = masks == label, predictions == label
        union = (true | said).sum()
        if union:
            overlaps.append((true & said).sum() / union)
    return np.mean(overlaps)
    # END SOLUTION


# %% tags=["check"]
check("07.4", foreground_iou)


# %% tags=["right"] task="07.4"
def foreground_iou(masks, predictions, classes):
    """From the confusion matrix."""
    pairs = np.bincount((masks * classes + predictions).ravel(), minlength=classes**2).reshape(classes, classes)
    both = np.diag(pairs)[1:]
    either = (pairs.sum(axis=0) + pairs.sum(axis=1))[1:] - both
    return (both[either > 0] / either[either > 0]).mean()


# %% tags=["right"] task="07.4"
def foreground_iou(masks, predictions, classes):
    """By sets of places."""
    found = []
    for label in set(masks.ravel().tolist()) | set(predictions.ravel().tolist()):
        if label != 0:
            true, said = (set(zip(*np.where(values == label), strict=True)) for values in (masks, predictions))
            found.append(len(true & said) / len(true | said))
    return sum(found) / len(found)


# %% tags=["wrong"] task="07.4" misconception="accuracy of the pixels"
def foreground_iou(masks, predictions, classes):
    return (masks == predictions).mean()


# %% tags=["wrong"] task="07.4" misconception="the background counts"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in range(classes):
        union = ((masks == label) | (predictions == label)).sum()
        if union:
            overlaps.append(((masks == label) & (predictions == label)).sum() / union)
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="an absent class counts nothing"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in range(1, classes):
        union = ((masks == label) | (predictions == label)).sum()
        overlaps.append(((masks == label) & (predictions == label)).sum() / max(union, 1))
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="an absent class counts as found"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in range(1, classes):
        union = ((masks == label) | (predictions == label)).sum()
        overlaps.append((((masks == label) & (predictions == label)).sum() + 1e-9) / (union + 1e-9))
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="what is only predicted was passed over"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in np.unique(masks)[1:]:
        union = ((masks == label) | (predictions == label)).sum()
        overlaps.append(((masks == label) & (predictions == label)).sum() / union)
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="image by image"
def foreground_iou(masks, predictions, classes):
    images = []
    for mask, prediction in zip(masks, predictions, strict=True):
        overlaps = []
        for label in range(1, classes):
            union = ((mask == label) | (prediction == label)).sum()
            if union:
                overlaps.append(((mask == label) & (prediction == label)).sum() / union)
        images.append(np.mean(overlaps))
    return np.mean(images)


# %% tags=["wrong"] task="07.4" misconception="Dice, not overlap"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in range(1, classes):
        areas = (masks == label).sum() + (predictions == label).sum()
        if areas:
            overlaps.append(2 * ((masks == label) & (predictions == label)).sum() / areas)
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="the intersection is in the union twice"
def foreground_iou(masks, predictions, classes):
    overlaps = []
    for label in range(1, classes):
        areas = (masks == label).sum() + (predictions == label).sum()
        if areas:
            overlaps.append(((masks == label) & (predictions == label)).sum() / areas)
    return np.mean(overlaps)


# %% tags=["wrong"] task="07.4" misconception="divided by the mask alone"
def foreground_iou(masks, predictions, classes):
    return np.mean([(predictions[masks == label] == label).mean() for label in range(1, classes) if label in masks])


# %% tags=["wrong"] task="07.4" misconception="all classes in one fraction"
def foreground_iou(masks, predictions, classes):
    return ((masks == predictions) & (masks > 0)).sum() / sum(
        ((masks == label) | (predictions == label)).sum() for label in range(1, classes)
    )


# %% tags=["hidden"] task="07.4"
def draw_07_4(rng):
    """Two classes, a single image, an image of background only, nothing found at all."""
    shape, classes = (
        (int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(2, 6))),
        int(rng.integers(2, 6)),
    )
    masks = rng.integers(classes, size=shape) * rng.integers(2, size=shape)
    masks[0, 0, 0] = classes - 1
    masks[1:2] = 0
    predictions = [masks.copy(), np.zeros(shape, dtype=int), rng.integers(classes, size=shape)][int(rng.integers(3))]
    return {"masks": masks, "predictions": predictions, "classes": classes}


# %% [markdown] tags=["task"] task="07.5"
# A score has ranked a handful of networks before training, and you know what became of them. Kendall's tau says how
# well the two orders agree: of all pairs of candidates, the number that both put in the same order, less the number
# that they put in the opposite order, divided by the number of pairs.
#
# **Write `by_chance(scores, truths)`**: both are numpy arrays of n numbers, one a candidate, from 2 to 6 of them; in
# neither are two numbers equal. Return `tau, chance`: Kendall's tau, and which share of *all* n! orders of the scores
# would reach at least this tau. That is how often chance alone ranks as well.
#
# When it works, and before you believe a tau of 0.6: how often does it come by chance with 5 candidates?


# %% tags=["answer"] task="07.5"
def by_chance(scores, truths):
    # BEGIN SOLUTION
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return sum(np.sign((order[i] - order[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)

    found = tau(scores)
    return found, np.mean([tau(order) >= found for order in itertools.permutations(scores)])
    # END SOLUTION


# %% tags=["check"]
check("07.5", by_chance)

# %% tags=["solution"]
tau, chance = by_chance(np.array([1.0, 2.0, 3.0, 5.0, 4.0]), np.array([2.0, 1.0, 3.0, 4.0, 5.0]))
print(f"a tau of {tau:.1f} with 5 candidates: {chance:.0%} by chance")
assert abs(tau - 0.6) < 1e-9 and 0.1 < chance < 0.12


# %% tags=["right"] task="07.5"
def by_chance(scores, truths):
    """Inversions of the ranks, and how many orders have how few of them."""
    ranks = np.argsort(np.argsort(scores))[np.argsort(truths)]
    n = len(ranks)
    inversions = sum(ranks[i] > ranks[j] for i in range(n) for j in range(i + 1, n))
    counts = np.ones(1)  # orders of k candidates with 0, 1, ... inversions
    for k in range(2, n + 1):
        counts = np.convolve(counts, np.ones(k))
    return 1 - 4 * inversions / (n * (n - 1)), counts[: inversions + 1].sum() / counts.sum()


# %% tags=["right"] task="07.5"
def by_chance(scores, truths):
    s, t = torch.as_tensor(scores), torch.as_tensor(truths)
    orders = torch.tensor(list(itertools.permutations(range(len(s)))))
    truth = (t[:, None] - t[None, :]).sign()

    def balance(values):  # (..., n) -> (...): pairs that agree less those that do not, each counted twice
        return ((values[..., :, None] - values[..., None, :]).sign() * truth).sum(dim=(-1, -2))

    found = balance(s)
    return (found / (len(s) * (len(s) - 1))).item(), (balance(s[orders]) >= found).double().mean().item()


# %% tags=["wrong"] task="07.5" misconception="the share of pairs that agree"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return np.mean([(order[i] - order[j]) * (truths[i] - truths[j]) > 0 for i, j in pairs])

    return tau(scores), np.mean([tau(order) >= tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="the correlation of the values"
def by_chance(scores, truths):
    found = np.corrcoef(scores, truths)[0, 1]
    every = [np.corrcoef(order, truths)[0, 1] for order in itertools.permutations(scores)]
    return found, np.mean(np.array(every) >= found - 1e-9)


# %% tags=["wrong"] task="07.5" misconception="Spearman's coefficient"
def by_chance(scores, truths):
    a, b = (values.argsort().argsort() for values in (scores, truths))
    found = np.corrcoef(a, b)[0, 1]
    return found, np.mean([np.corrcoef(order, b)[0, 1] >= found - 1e-9 for order in itertools.permutations(a)])


# %% tags=["wrong"] task="07.5" misconception="neighbours only"
def by_chance(scores, truths):
    def tau(order):
        return np.mean(np.sign(np.diff(order) * np.diff(truths)))

    return tau(scores), np.mean([tau(order) >= tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="divided by the square"
def by_chance(scores, truths):
    def tau(order):
        signs = np.sign(np.subtract.outer(order, order)) * np.sign(np.subtract.outer(truths, truths))
        return signs.mean()

    return tau(scores), np.mean([tau(order) >= tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="only what is better"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return sum(np.sign((order[i] - order[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)

    return tau(scores), np.mean([tau(order) > tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="both directions were counted"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return sum(np.sign((order[i] - order[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)

    return tau(scores), np.mean([abs(tau(order)) >= abs(tau(scores)) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="how often chance does worse"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return sum(np.sign((order[i] - order[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)

    return tau(scores), np.mean([tau(order) < tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="exactly as well"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))

    def tau(order):
        return sum(np.sign((order[i] - order[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)

    return tau(scores), np.mean([tau(order) == tau(scores) for order in itertools.permutations(scores)])


# %% tags=["wrong"] task="07.5" misconception="the chance of a perfect order"
def by_chance(scores, truths):
    pairs = list(itertools.combinations(range(len(scores)), 2))
    found = sum(np.sign((scores[i] - scores[j]) * (truths[i] - truths[j])) for i, j in pairs) / len(pairs)
    return found, 1 / math.factorial(len(scores))


# %% tags=["hidden"] task="07.5"
def draw_07_5(rng):
    """Two and three candidates, a perfect order, one that is the wrong way round, values below zero."""
    count = int(rng.integers(2, 6))
    scores = rng.normal(size=count)
    return {"scores": scores, "truths": [np.exp(scores), -scores, rng.permutation(count) - 1.0][int(rng.integers(3))]}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **07.1.** A near domain with two classes outvotes any number of labels: the rules of thumb would probe with fifty
# thousand labels too. Lesson 07 measures where that is a mistake. **07.3.** An advisor that looks up what it has seen
# has no regret at all, and that says nothing. **07.5.** With five candidates a tau of 0.6 comes by chance in more than
# one case of ten: it takes eight candidates or more before a ranking says much.

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
