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
# # Exercises 01 · Why transfer learning
#
# Five tasks on a comparison like that of lesson 01: the rival that you must not forget, the control that tells weights
# from architecture, labels saved, computing saved, and what choosing on the test split adds. About an hour and a
# quarter. Do lesson 01 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("01.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy
import math
from statistics import median

import numpy as np
import torch
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="01.1"
# With 25 labels, no network of lesson 01 did better than a rule without any learning: *the darker a cell, the more
# likely it is defective*. Measure that rule yourself. **Write `darkness_auc(images, defective)`**: `images` is a numpy
# array of bytes (`uint8`, 0 is black) of shape `(n, height, width)`, `defective` one of whole numbers of shape `(n,)`,
# 1 for a defective cell and 0 for an intact one; there is at least one of each. Return the AUC of the rule, a number
# from 0 to 1.
#
# A cell is the darker, the lower the mean of its pixels. The AUC is the share of all pairs of one defective and one
# intact cell in which the defective one is the darker; a pair of equally dark cells counts one half.


# %% tags=["answer"] task="01.1"
def darkness_auc(images, defective):
    # BEGIN SOLUTION
    grey = images.reshape(len(images), -1).astype(float).sum(axis=1)
    broken, intact = grey[defective == 1][:, None], grey[defective == 0]
    return ((broken < intact) + 0.5 * (broken == intact)).mean()
    # END SOLUTION


# %% tags=["check"]
check("01.1", darkness_auc)


# %% tags=["right"] task="01.1"
def darkness_auc(images, defective):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(defective, 1 - images.mean(axis=(1, 2)) / 255)


# %% tags=["right"] task="01.1"
def darkness_auc(images, defective):
    points, pairs = 0.0, 0
    for one, broken in zip(images, defective, strict=True):
        for other, also in zip(images, defective, strict=True):
            if broken == 1 and also == 0:
                pairs += 1
                points += 1.0 if one.mean() < other.mean() else 0.5 if one.mean() == other.mean() else 0.0
    return points / pairs


# %% tags=["wrong"] task="01.1" misconception="darkness wrapped round"
def darkness_auc(images, defective):
    dark = (-images).mean(axis=(1, 2))
    broken, intact = dark[defective == 1][:, None], dark[defective == 0]
    return ((broken > intact) + 0.5 * (broken == intact)).mean()


# %% tags=["wrong"] task="01.1" misconception="the direction was chosen by the labels"
def darkness_auc(images, defective):
    from sklearn.metrics import roc_auc_score

    auc = roc_auc_score(defective, -images.mean(axis=(1, 2)))
    return max(auc, 1 - auc)


# %% tags=["wrong"] task="01.1" misconception="the brighter, the more defective"
def darkness_auc(images, defective):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(defective, images.mean(axis=(1, 2)))


# %% tags=["wrong"] task="01.1" misconception="ties counted as won"
def darkness_auc(images, defective):
    grey = images.mean(axis=(1, 2))
    return (grey[defective == 1][:, None] <= grey[defective == 0]).mean()


# %% tags=["wrong"] task="01.1" misconception="ties counted as lost"
def darkness_auc(images, defective):
    grey = images.mean(axis=(1, 2))
    return (grey[defective == 1][:, None] < grey[defective == 0]).mean()


# %% tags=["wrong"] task="01.1" misconception="accuracy, not AUC"
def darkness_auc(images, defective):
    return ((1 - images.mean(axis=(1, 2)) / 255 > 0.5) == defective).mean()


# %% tags=["hidden"] task="01.1"
def draw_01_1(rng):
    """All cells equally dark; one cell of a kind; larger images that are not square."""
    kind = rng.integers(3)
    if kind == 0:
        return {"images": np.full((5, 2, 3), 7, dtype=np.uint8), "defective": np.array([0, 1, 1, 0, 0])}
    if kind == 1:
        return {"images": rng.integers(0, 256, (2, 1, 1)).astype(np.uint8), "defective": rng.permutation([0, 1])}
    return {
        "images": rng.integers(0, 256, (20, 9, 7)).astype(np.uint8),
        "defective": rng.permutation([0, 1, *rng.integers(2, size=18)]),
    }


# %% [markdown] tags=["task"] task="01.2"
# Is it the learnt weights that help, or would any network of this architecture do? The control of lesson 01 is a twin:
# the same layers, and nothing learnt. **Write `random_twin(network, seed)`**: `network` is an `nn.Module` made of
# linear layers, batch normalisations, activations and dropout, and it has been trained. Return another module of the
# same architecture, in which *every* number is as in a new network:
#
# - weights and biases of linear layers are random, as PyTorch draws them when such a layer is made;
# - batch normalisations scale by 1 and shift by 0; their stored means are 0, their stored variances 1.
#
# The same `seed` (a whole number) always gives the same twin, another seed another one. The network that you are given
# stays as it is.


# %% tags=["answer"] task="01.2"
def random_twin(network, seed):
    # BEGIN SOLUTION
    twin = copy.deepcopy(network)
    torch.manual_seed(seed)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return twin
    # END SOLUTION


# %% tags=["check"]
check("01.2", random_twin)


# %% tags=["right"] task="01.2"
@torch.no_grad()
def random_twin(network, seed):
    twin, generator = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    for module in twin.modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm1d):
            module.running_mean.zero_()
            module.running_var.fill_(1)
            module.weight.fill_(1)
            module.bias.zero_()
    return twin


# %% tags=["right"] task="01.2"
def random_twin(network, seed):
    """Each layer made anew from what it says of itself."""
    torch.manual_seed(seed)

    def new(module):
        if isinstance(module, nn.Sequential):
            copied = nn.Sequential()
            for name, child in module.named_children():
                copied.add_module(name, new(child))
            return copied
        if isinstance(module, nn.Linear):
            return nn.Linear(module.in_features, module.out_features)
        if isinstance(module, nn.BatchNorm1d):
            return nn.BatchNorm1d(module.num_features)
        return copy.deepcopy(module)

    return new(network)


# %% tags=["wrong"] task="01.2" misconception="the network itself was overwritten"
def random_twin(network, seed):
    torch.manual_seed(seed)
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return network


# %% tags=["wrong"] task="01.2" misconception="a part was left as it was"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    torch.manual_seed(seed)
    twin.head.reset_parameters()
    return twin


# %% tags=["wrong"] task="01.2" misconception="the normalisations were left as they were"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    torch.manual_seed(seed)
    for module in twin.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return twin


# %% tags=["wrong"] task="01.2" misconception="the statistics were left as they were"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    torch.manual_seed(seed)
    for module in twin.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    return twin


# %% tags=["wrong"] task="01.2" misconception="another twin each time"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return twin


# %% tags=["wrong"] task="01.2" misconception="one twin for all seeds"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    torch.manual_seed(0)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return twin


# %% tags=["wrong"] task="01.2" misconception="drawn on another scale"
def random_twin(network, seed):
    twin = copy.deepcopy(network)
    torch.manual_seed(seed)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
    return twin


# %% tags=["hidden"] task="01.2"
def draw_01_2(rng):
    """A wider network."""
    return {"width": int(rng.integers(20, 30)), "seed": int(rng.integers(10_000))}


# %% [markdown] tags=["task"] task="01.3"
# How many labels does a network need from scratch to reach a given score? Some seeds never reach it with the labels
# that there were, and so no mean can be taken. The *middle* seed can be asked for all the same. **Write
# `typical_need(labels, curves, targets)`**: `labels` is a rising list of k sizes, `curves` a numpy array of shape
# `(seeds, k)`, a learning curve in each row, the number of seeds odd; `targets` is a list of scores. Return a list with
# one answer for each target: the **median**, over the seeds, of the labels that a seed needs; `None` where the middle
# seed never gets there.
#
# A seed needs the first size, if its curve begins at the target or above it. Otherwise it needs what it has where its
# curve *first* reaches the target: between two sizes the curve is a straight line on the **logarithm** of the labels,
# as in the lesson (not rounded). Beyond the last size nothing is known.


# %% tags=["answer"] task="01.3"
def typical_need(labels, curves, targets):
    # BEGIN SOLUTION
    def needed(curve, target):
        if curve[0] >= target:
            return labels[0]
        for k in range(1, len(labels)):
            few, many, low, high = labels[k - 1], labels[k], curve[k - 1], curve[k]
            if low < target <= high:
                return few * (many / few) ** ((target - low) / (high - low))
        return math.inf

    middles = [median(needed(curve, target) for curve in curves) for target in targets]
    return [None if math.isinf(middle) else middle for middle in middles]
    # END SOLUTION


# %% tags=["check"]
check("01.3", typical_need)


# %% tags=["right"] task="01.3"
def typical_need(labels, curves, targets):
    """The middle seed gets there where more than half of the seeds have: bisection on the share."""
    answers, logs = [], np.log(labels)
    for target in targets:
        # So far the best score at each size or below it: such a curve never falls, and crosses where the curve does.
        needs = []
        for curve in curves:
            best = np.maximum.accumulate(curve)
            if best[-1] < target:
                needs.append(np.inf)
            elif best[0] >= target:
                needs.append(labels[0])
            else:
                k = int(np.argmax(best >= target))
                needs.append(np.exp(np.interp(target, [curve[k - 1], curve[k]], logs[k - 1 : k + 1])))
        middle = sorted(needs)[len(needs) // 2]
        answers.append(float(middle) if np.isfinite(middle) else None)
    return answers


# %% tags=["right"] task="01.3"
def typical_need(labels, curves, targets):
    def seed_needs(curve, target):
        there = [k for k, score in enumerate(curve) if score >= target]
        if not there:
            return None
        k = there[0]
        if k == 0:
            return labels[0]
        way = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
        return math.exp((1 - way) * math.log(labels[k - 1]) + way * math.log(labels[k]))

    found = []
    for target in targets:
        needs = [seed_needs(curve, target) for curve in curves]
        known = sorted(need for need in needs if need is not None)
        found.append(known[len(curves) // 2] if len(known) > len(curves) // 2 else None)
    return found


# %% tags=["wrong"] task="01.3" misconception="only the seeds that got there"
def typical_need(labels, curves, targets):
    found = []
    for target in targets:
        needs = []
        for curve in curves:
            k = next((k for k, score in enumerate(curve) if score >= target), None)
            if k == 0:
                needs.append(labels[0])
            elif k is not None:
                way = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
                needs.append(labels[k - 1] * (labels[k] / labels[k - 1]) ** way)
        found.append(float(np.median(needs)) if needs else None)
    return found


# %% tags=["wrong"] task="01.3" misconception="the end of the curve taken for an answer"
def typical_need(labels, curves, targets):
    """What np.interp does beyond the ends."""
    return [
        float(np.median([np.exp(np.interp(target, curve, np.log(labels))) for curve in curves])) for target in targets
    ]


# %% tags=["wrong"] task="01.3" misconception="one curve of means"
def typical_need(labels, curves, targets):
    curve, found = curves.mean(axis=0), []
    for target in targets:
        if target > curve[-1]:
            found.append(None)
        else:
            found.append(float(np.exp(np.interp(target, curve, np.log(labels)))))
    return found


# %% tags=["wrong"] task="01.3" misconception="a straight line in the labels"
def typical_need(labels, curves, targets):
    found = []
    for target in targets:
        needs = [np.interp(target, curve, labels) if target <= curve[-1] else np.inf for curve in curves]
        middle = float(np.median(needs))
        found.append(None if np.isinf(middle) else middle)
    return found


# %% tags=["wrong"] task="01.3" misconception="only sizes that were measured"
def typical_need(labels, curves, targets):
    found = []
    for target in targets:
        needs = [next((n for n, s in zip(labels, curve, strict=True) if s >= target), math.inf) for curve in curves]
        middle = median(needs)
        found.append(None if math.isinf(middle) else middle)
    return found


# %% tags=["wrong"] task="01.3" misconception="drawn on beyond the last point"
def typical_need(labels, curves, targets):
    found = []
    for target in targets:
        needs = []
        for curve in curves:
            k = next((k for k, score in enumerate(curve) if score >= target), len(labels) - 1)
            if curve[0] >= target:
                needs.append(labels[0])
            else:
                way = (target - curve[k - 1]) / (curve[k] - curve[k - 1])
                needs.append(labels[k - 1] * (labels[k] / labels[k - 1]) ** way)
        found.append(float(np.median(needs)))
    return found


# %% tags=["hidden"] task="01.3"
def draw_01_3(rng):
    """Curves that dip, begin above the target or reach it exactly at a size; a single seed; no seed gets there."""
    curves = np.round(0.6 + 0.2 * rng.random((int(rng.choice([1, 3, 7])), 3)), 2)
    targets = [round(float(rng.uniform(0.6, 0.8)), 3), float(rng.choice(curves.ravel())), 0.5, 0.95]
    return {"labels": [10, 100, 1000], "curves": curves, "targets": targets}


# %% [markdown] tags=["task"] task="01.4"
# Computing is a currency, and it is counted in images that pass through training. **Write `times_as_many(ours,
# theirs)`**: each of the two runs is a dict with `"labels"`, the number of images in an epoch, and `"scores"`, a list
# of validation scores: the first one before any training, then one after each epoch. The goal is the best score that
# *they* ever have. Return how many times as many images pass through training until they first reach it as pass until
# we first have at least that score; `None` if none of our scores is so high.
#
# Neither run is at the goal before any training. The check calls you twice with each pair of runs, the second time
# with the two of them changed about.


# %% tags=["answer"] task="01.4"
def times_as_many(ours, theirs):
    # BEGIN SOLUTION
    goal = max(theirs["scores"])
    if max(ours["scores"]) < goal:
        return None
    images = [
        run["labels"] * next(epoch for epoch, score in enumerate(run["scores"]) if score >= goal)
        for run in (theirs, ours)
    ]
    return images[0] / images[1]
    # END SOLUTION


# %% tags=["check"]
check("01.4", times_as_many)


# %% tags=["right"] task="01.4"
def times_as_many(ours, theirs):
    theirs_at = theirs["labels"] * int(np.argmax(theirs["scores"]))
    there = np.flatnonzero(np.array(ours["scores"]) >= np.max(theirs["scores"]))
    return theirs_at / (ours["labels"] * there[0]) if len(there) else None


# %% tags=["right"] task="01.4"
def times_as_many(ours, theirs):
    goal, bills = sorted(theirs["scores"])[-1], []
    for run in (theirs, ours):
        paid = 0
        for score in run["scores"]:
            if score >= goal:
                bills.append(paid)
                break
            paid += run["labels"]
    return bills[0] / bills[1] if len(bills) == 2 else None


# %% tags=["wrong"] task="01.4" misconception="epochs counted, not images"
def times_as_many(ours, theirs):
    goal = max(theirs["scores"])
    if max(ours["scores"]) < goal:
        return None
    first = [next(k for k, score in enumerate(run["scores"]) if score >= goal) for run in (theirs, ours)]
    return first[0] / first[1]


# %% tags=["wrong"] task="01.4" misconception="counted from one"
def times_as_many(ours, theirs):
    goal = max(theirs["scores"])
    if max(ours["scores"]) < goal:
        return None
    first = [
        run["labels"] * next(k for k, score in enumerate(run["scores"], start=1) if score >= goal)
        for run in (theirs, ours)
    ]
    return first[0] / first[1]


# %% tags=["wrong"] task="01.4" misconception="the last score instead of the best"
def times_as_many(ours, theirs):
    goal = theirs["scores"][-1]
    if max(ours["scores"]) < goal:
        return None
    first = [run["labels"] * next(k for k, s in enumerate(run["scores"]) if s >= goal) for run in (theirs, ours)]
    return first[0] / first[1]


# %% tags=["wrong"] task="01.4" misconception="upside down"
def times_as_many(ours, theirs):
    goal = max(theirs["scores"])
    if max(ours["scores"]) < goal:
        return None
    first = [run["labels"] * next(k for k, s in enumerate(run["scores"]) if s >= goal) for run in (ours, theirs)]
    return first[0] / first[1]


# %% tags=["wrong"] task="01.4" misconception="each to its own best"
def times_as_many(ours, theirs):
    first = [run["labels"] * int(np.argmax(run["scores"])) for run in (theirs, ours)]
    return first[0] / first[1]


# %% tags=["wrong"] task="01.4" misconception="never counted as the end"
def times_as_many(ours, theirs):
    goal, bills = max(theirs["scores"]), []
    for run in (theirs, ours):
        epochs = 0
        while run["scores"][epochs] < goal and epochs < len(run["scores"]) - 1:
            epochs += 1
        bills.append(epochs * run["labels"])
    return bills[0] / bills[1]


# %% tags=["hidden"] task="01.4"
def draw_01_4(rng):
    """The goal is reached exactly, in the last epoch, or twice."""
    best = round(float(rng.uniform(0.7, 0.9)), 3)
    ours = [0.5, best, 0.6, best] if rng.integers(2) else [0.5, 0.6, 0.65, best]
    return {
        "ours": {"labels": int(rng.integers(10, 50)), "scores": ours},
        "theirs": {"labels": int(rng.integers(10, 50)), "scores": [0.4, 0.6, best, best, 0.5]},
    }


# %% [markdown] tags=["task"] task="01.5"
# Whoever reads the test score after each epoch and reports the best one reports luck. How much luck? **Write
# `honest_score(val, test)`**: both are numpy arrays of shape `(seeds, epochs)`, the scores of the same trainings after
# each epoch, on validation and on the test split. Return two numbers:
#
# - the score: each seed takes the epoch at which *it* is best on validation; the mean over the seeds of their test
#   scores there;
# - the luck: how much higher that mean would be, had each seed taken the epoch at which it is best on the test split.
#
# No seed has the same best score twice.


# %% tags=["answer"] task="01.5"
def honest_score(val, test):
    # BEGIN SOLUTION
    score = test[np.arange(len(test)), val.argmax(axis=1)].mean()
    return score, test.max(axis=1).mean() - score
    # END SOLUTION


# %% tags=["check"]
check("01.5", honest_score)


# %% tags=["right"] task="01.5"
def honest_score(val, test):
    honest = [scores[int(np.argmax(seen))] for seen, scores in zip(val, test, strict=True)]
    lucky = [max(scores) - score for scores, score in zip(test, honest, strict=True)]
    return [sum(honest) / len(honest), sum(lucky) / len(lucky)]


# %% tags=["right"] task="01.5"
def honest_score(val, test):
    best = torch.from_numpy(val).max(dim=1, keepdim=True).indices
    scores = torch.from_numpy(test)
    score = scores.gather(1, best).mean()
    return torch.stack([score, scores.amax(dim=1).mean() - score])


# %% tags=["wrong"] task="01.5" misconception="chosen on the test split"
def honest_score(val, test):
    score = test[np.arange(len(test)), val.argmax(axis=1)].mean()
    return test.max(axis=1).mean(), test.max(axis=1).mean() - score


# %% tags=["wrong"] task="01.5" misconception="the validation score was reported"
def honest_score(val, test):
    score = val.max(axis=1).mean()
    return score, test.max(axis=1).mean() - score


# %% tags=["wrong"] task="01.5" misconception="the last epoch"
def honest_score(val, test):
    score = test[:, -1].mean()
    return score, test.max(axis=1).mean() - score


# %% tags=["wrong"] task="01.5" misconception="one epoch for all seeds"
def honest_score(val, test):
    score = test[:, val.mean(axis=0).argmax()].mean()
    return score, test.max(axis=1).mean() - score


# %% tags=["wrong"] task="01.5" misconception="the luck of one epoch for all seeds"
def honest_score(val, test):
    score = test[np.arange(len(test)), val.argmax(axis=1)].mean()
    return score, test.mean(axis=0).max() - score


# %% tags=["wrong"] task="01.5" misconception="how much validation promises"
def honest_score(val, test):
    score = test[np.arange(len(test)), val.argmax(axis=1)].mean()
    return score, val.max(axis=1).mean() - score


# %% tags=["hidden"] task="01.5"
def draw_01_5(rng):
    """A single seed, a single epoch, and splits that agree."""
    val = rng.permuted(np.tile(np.linspace(0.6, 0.8, int(rng.choice([1, 2, 6]))), (int(rng.choice([1, 5])), 1)), axis=1)
    return {"val": val, "test": val.copy() if rng.integers(2) else rng.permuted(val, axis=1)}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **01.3.** On nine of the lesson's seeds, from scratch against the mean score of the probe with 200 labels: `None`,
# more labels than there were. Whoever asks only the seeds that got there gets a number, and a wrong impression.
# **01.5.** Suppose that training changes nothing at all, so that the scores of all epochs scatter by 0.02 about the
# same 0.75. Choosing the best of 20 epochs on the test split then adds nearly 0.04, and choosing on validation adds
# nothing.

# %% tags=["solution"]
from tlcourse import load_results
from tlcourse.experiments.lesson01 import LEARNING_CURVE, TRAINED_LABELS

kept = load_results(LEARNING_CURVE)
scratch = [kept.scores("auc", strategy="from scratch", labels=labels).values[:9] for labels in TRAINED_LABELS]
target = kept.scores("auc", strategy="probe", labels=200).mean
assert typical_need(list(TRAINED_LABELS), np.array(scratch).T, [target]) == [None]
assert max(map(max, scratch)) > target

rng = np.random.default_rng(0)
val, test = (0.75 + 0.02 * rng.normal(size=(2000, 20)) for _ in range(2))
score, luck = honest_score(val, test)
assert abs(score - 0.75) < 0.002 and 0.035 < luck < 0.04

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
