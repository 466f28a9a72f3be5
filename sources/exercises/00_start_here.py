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
# # Exercises 00 · Start here
#
# Five tasks on when to believe a score: the interval of a paired comparison, its verdict, the seeds that it takes, the
# AUC by its meaning, and what a score is worth that has chosen. About an hour. Do lesson 00 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("00.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math

import numpy as np
from scipy.stats import t as student

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="00.1"
# Settings `a` and `b` were run with the same seeds. **Write `paired_interval(a, b)`**: `a` and `b` are numpy arrays of
# shape `(n,)`, the scores by seed in the same order. Return the pair `(low, high)`: the t-interval of the mean of a - b,
# paired within seeds, at the level that is named above. The level is in per cent, and no argument: your cell holds it
# as a number.


# %% tags=["answer"] task="00.1"
def paired_interval(a, b):
    # BEGIN SOLUTION
    d = a - b
    half_width = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half_width, d.mean() + half_width
    # END SOLUTION


# %% tags=["check"]
check("00.1", paired_interval)


# %% tags=["right"] task="00.1"
def paired_interval(a, b):
    from scipy.stats import ttest_rel

    interval = ttest_rel(a, b).confidence_interval(0.95)
    return [interval.low, interval.high]


# %% tags=["right"] task="00.1"
def paired_interval(a, b):
    from tlcourse import Scores

    seeds = range(len(a))
    return (Scores(tuple(a), seeds=seeds, name="a") - Scores(tuple(b), seeds=seeds, name="b")).interval()


# %% tags=["wrong"] task="00.1" misconception="b minus a"
def paired_interval(a, b):
    d = b - a
    half_width = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half_width, d.mean() + half_width


# %% tags=["wrong"] task="00.1" misconception="not paired"
def paired_interval(a, b):
    variances = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
    half_width = student.ppf(0.975, 2 * len(a) - 2) * math.sqrt(variances)
    return a.mean() - b.mean() - half_width, a.mean() - b.mean() + half_width


# %% tags=["wrong"] task="00.1" misconception="1.96 for every n"
def paired_interval(a, b):
    d = a - b
    half_width = 1.96 * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half_width, d.mean() + half_width


# %% tags=["wrong"] task="00.1" misconception="the spread of the seeds, not of the mean"
def paired_interval(a, b):
    d = a - b
    half_width = student.ppf(0.975, len(d) - 1) * d.std(ddof=1)
    return d.mean() - half_width, d.mean() + half_width


# %% tags=["wrong"] task="00.1" misconception="divided by n"
def paired_interval(a, b):
    d = a - b
    half_width = student.ppf(0.975, len(d) - 1) * d.std() / math.sqrt(len(d))
    return d.mean() - half_width, d.mean() + half_width


# %% tags=["wrong"] task="00.1" misconception="a degree of freedom too many"
def paired_interval(a, b):
    d = a - b
    half_width = student.ppf(0.975, len(d)) * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half_width, d.mean() + half_width


# %% tags=["hidden"] task="00.1"
def draw_00_1(rng):
    """The fewest seeds, many seeds, differences that are all but equal, a that is worse."""
    n = int(rng.choice([2, 50]))
    b = rng.normal(0.8, 0.05, n)
    return {"a": b - 0.03 + rng.normal(0, rng.choice([1e-4, 0.05]), n), "b": b}


# %% [markdown] tags=["task"] task="00.2"
# **Write `verdict(low, high, above, below)`**: `low` and `high` are the ends of an interval; `above` and `below` are
# the bars of a claim, of which one may be `None`: "the effect lies above `above`", "below `below`", or between the two.
# Return `"supported"`, `"refuted"` or `"inconclusive"`, as lesson 00 defines them. (The bars are never exactly on an
# end.)


# %% tags=["answer"] task="00.2"
def verdict(low, high, above, below):
    # BEGIN SOLUTION
    floor = -math.inf if above is None else above
    ceiling = math.inf if below is None else below
    if floor < low and high < ceiling:
        return "supported"
    if high < floor or low > ceiling:
        return "refuted"
    return "inconclusive"
    # END SOLUTION


# %% tags=["check"]
check("00.2", verdict)


# %% tags=["right"] task="00.2"
def verdict(low, high, above, below):
    inside = [(above is None or end > above) and (below is None or end < below) for end in (low, high)]
    if all(inside):
        return "supported"
    outside = (above is not None and high < above) or (below is not None and low > below)
    return "refuted" if outside else "inconclusive"


# %% tags=["right"] task="00.2"
def verdict(low, high, above, below):
    bars = [bar for bar in (above, below) if bar is not None]
    if any(low <= bar <= high for bar in bars):
        return "inconclusive"
    middle = (low + high) / 2
    return "supported" if (above is None or middle > above) and (below is None or middle < below) else "refuted"


# %% tags=["wrong"] task="00.2" misconception="the mean decides"
def verdict(low, high, above, below):
    middle = (low + high) / 2
    return "supported" if (above is None or middle > above) and (below is None or middle < below) else "refuted"


# %% tags=["wrong"] task="00.2" misconception="inconclusive taken for refuted"
def verdict(low, high, above, below):
    return "supported" if (above is None or low > above) and (below is None or high < below) else "refuted"


# %% tags=["wrong"] task="00.2" misconception="zero taken for the bar"
def verdict(low, high, above, below):
    floor, ceiling = -math.inf if above is None else 0.0, math.inf if below is None else 0.0
    if floor < low and high < ceiling:
        return "supported"
    return "refuted" if high < floor or low > ceiling else "inconclusive"


# %% tags=["wrong"] task="00.2" misconception="the upper bar was passed over"
def verdict(low, high, above, below):
    if above is None or low > above:
        return "supported"
    return "refuted" if high < above else "inconclusive"


# %% tags=["wrong"] task="00.2" misconception="one end is enough"
def verdict(low, high, above, below):
    if (above is None or high > above) and (below is None or low < below):
        return "supported"
    return "refuted"


# %% tags=["hidden"] task="00.2"
def draw_00_2(rng):
    """Bars at zero, bars that nothing can reach, an interval wider than both bars."""
    low = float(rng.uniform(-1, 1))
    above, below = [(0.0, None), (None, 0.0), (-5.0, 5.0), (-1e-3, 1e-3), (3.0, None)][rng.integers(5)]
    return {"low": low, "high": low + float(rng.uniform(0.01, 2)), "above": above, "below": below}


# %% [markdown] tags=["task"] task="00.3"
# From a pilot you expect that the paired differences will have the mean `gain` and the standard deviation `spread`.
# **Write `seeds_needed(spread, gain)`**: the smallest number of seeds, at least 2, for which the t-interval of such
# differences, at the level that is named above, lies above zero. Both are numbers above zero; return a whole number.
#
# When it works: how many seeds does a gain take that is half as large as the spread? Twice as large? (In a real
# experiment the mean of the pilot is itself a guess, so take more.)


# %% tags=["answer"] task="00.3"
def seeds_needed(spread, gain):
    # BEGIN SOLUTION
    n = 2
    while student.ppf(0.975, n - 1) * spread / math.sqrt(n) >= gain:
        n += 1
    return n
    # END SOLUTION


# %% tags=["check"]
check("00.3", seeds_needed)


# %% tags=["right"] task="00.3"
def seeds_needed(spread, gain):
    n = np.arange(2, 5000)
    half_widths = student.ppf(0.975, n - 1) * spread / np.sqrt(n)
    return n[half_widths < gain][0]


# %% tags=["right"] task="00.3"
def seeds_needed(spread, gain):
    """Bisection: the interval only shrinks as seeds are added."""
    few, enough = 1, 2**20
    while enough - few > 1:
        middle = (few + enough) // 2
        if student.ppf(0.975, middle - 1) * spread / middle**0.5 < gain:
            enough = middle
        else:
            few = middle
    return enough


# %% tags=["wrong"] task="00.3" misconception="1.96 for every n"
def seeds_needed(spread, gain):
    return max(2, math.ceil((1.959964 * spread / gain) ** 2))


# %% tags=["wrong"] task="00.3" misconception="the whole width"
def seeds_needed(spread, gain):
    n = 2
    while 2 * student.ppf(0.975, n - 1) * spread / math.sqrt(n) >= gain:
        n += 1
    return n


# %% tags=["wrong"] task="00.3" misconception="one side only"
def seeds_needed(spread, gain):
    n = 2
    while student.ppf(0.95, n - 1) * spread / math.sqrt(n) >= gain:
        n += 1
    return n


# %% tags=["wrong"] task="00.3" misconception="a degree of freedom too many"
def seeds_needed(spread, gain):
    n = 2
    while student.ppf(0.975, n) * spread / math.sqrt(n) >= gain:
        n += 1
    return n


# %% tags=["wrong"] task="00.3" misconception="one too few"
def seeds_needed(spread, gain):
    n = 2
    while student.ppf(0.975, n - 1) * spread / math.sqrt(n) >= gain:
        n += 1
    return n - 1


# %% tags=["hidden"] task="00.3"
def draw_00_3(rng):
    """A gain far above the spread takes two seeds; one far below it takes many."""
    return {"spread": 0.02, "gain": float(0.02 * rng.choice([50, 3, 0.1]))}


# %% [markdown] tags=["task"] task="00.4"
# **Write `auc(scores, labels)` from its meaning**: of all pairs of one defective and one intact cell, in which share
# does the defective one have the higher score? A pair with equal scores counts one half. `scores` is a float array of
# shape `(n,)`, `labels` an array of the same shape with 1 for defective and 0 for intact; both occur. Return a number.


# %% tags=["answer"] task="00.4"
def auc(scores, labels):
    # BEGIN SOLUTION
    defective, intact = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return ((defective > intact) + 0.5 * (defective == intact)).mean()
    # END SOLUTION


# %% tags=["check"]
check("00.4", auc)


# %% tags=["right"] task="00.4"
def auc(scores, labels):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(labels, scores)


# %% tags=["right"] task="00.4"
def auc(scores, labels):
    """By ranks (Mann and Whitney)."""
    from scipy.stats import rankdata

    count = int(labels.sum())
    ranks = rankdata(scores)[labels == 1].sum()
    return (ranks - count * (count + 1) / 2) / (count * (len(labels) - count))


# %% tags=["wrong"] task="00.4" misconception="ties count as nothing"
def auc(scores, labels):
    return (scores[labels == 1][:, None] > scores[labels == 0]).mean()


# %% tags=["wrong"] task="00.4" misconception="ties count as won"
def auc(scores, labels):
    return (scores[labels == 1][:, None] >= scores[labels == 0]).mean()


# %% tags=["wrong"] task="00.4" misconception="the order turned round"
def auc(scores, labels):
    defective, intact = scores[labels == 1][:, None], scores[labels == 0][None, :]
    return ((defective < intact) + 0.5 * (defective == intact)).mean()


# %% tags=["wrong"] task="00.4" misconception="accuracy, not AUC"
def auc(scores, labels):
    return ((scores > 0.5) == labels).mean()


# %% tags=["wrong"] task="00.4" misconception="all pairs in the denominator"
def auc(scores, labels):
    defective, intact = scores[labels == 1][:, None], scores[labels == 0][None, :]
    won = ((defective > intact) + 0.5 * (defective == intact)).sum()
    return won / (len(scores) * (len(scores) - 1) / 2)


# %% tags=["hidden"] task="00.4"
def draw_00_4(rng):
    """All scores equal, scores outside of 0 to 1, one cell of a class."""
    n = int(rng.integers(2, 40))
    labels = np.arange(n) == 0
    scores = np.zeros(n) if rng.integers(2) else rng.normal(0, 5, n)
    return {"scores": scores, "labels": labels.astype(int)}


# %% [markdown] tags=["task"] task="00.5"
# Somebody trains several runs, looks at their accuracy on the first `looked_at` cells, and reports the best. **Write
# `flattery(correct, looked_at)`**: `correct` is a truth array of shape `(runs, cells)`: was the answer of that run to
# that cell right? Return how much accuracy the chosen run loses: its accuracy on the first `looked_at` cells, which
# chose it, minus its accuracy on all the others. A number; one run is always the best.


# %% tags=["answer"] task="00.5"
def flattery(correct, looked_at):
    # BEGIN SOLUTION
    used, fresh = correct[:, :looked_at], correct[:, looked_at:]
    best = used.mean(axis=1).argmax()
    return used[best].mean() - fresh[best].mean()
    # END SOLUTION


# %% tags=["check"]
check("00.5", flattery)


# %% tags=["right"] task="00.5"
def flattery(correct, looked_at):
    shares = [
        (sum(run[:looked_at]) / looked_at, sum(run[looked_at:]) / len(run[looked_at:])) for run in correct.tolist()
    ]
    on_used, on_fresh = max(shares, key=lambda share: share[0])
    return on_used - on_fresh


# %% tags=["right"] task="00.5"
def flattery(correct, looked_at):
    order = np.argsort(-correct[:, :looked_at].sum(axis=1), kind="stable")
    chosen = correct[order[0]].astype(float)
    return np.average(chosen[:looked_at]) - np.average(chosen[looked_at:])


# %% tags=["wrong"] task="00.5" misconception="the sign turned round"
def flattery(correct, looked_at):
    best = correct[:, :looked_at].mean(axis=1).argmax()
    return correct[best, looked_at:].mean() - correct[best, :looked_at].mean()


# %% tags=["wrong"] task="00.5" misconception="another winner on the fresh cells"
def flattery(correct, looked_at):
    return correct[:, :looked_at].mean(axis=1).max() - correct[:, looked_at:].mean(axis=1).max()


# %% tags=["wrong"] task="00.5" misconception="compared with the average run"
def flattery(correct, looked_at):
    return correct[:, :looked_at].mean(axis=1).max() - correct[:, looked_at:].mean()


# %% tags=["wrong"] task="00.5" misconception="chosen on every cell"
def flattery(correct, looked_at):
    best = correct.mean(axis=1).argmax()
    return correct[best, :looked_at].mean() - correct[best, looked_at:].mean()


# %% tags=["wrong"] task="00.5" misconception="chosen on the fresh cells"
def flattery(correct, looked_at):
    best = correct[:, looked_at:].mean(axis=1).argmax()
    return correct[best, :looked_at].mean() - correct[best, looked_at:].mean()


# %% tags=["hidden"] task="00.5"
def draw_00_5(rng):
    """A single run; one cell looked at; one cell left."""
    runs, cells = int(rng.integers(1, 4)), 6
    looked_at = int(rng.choice([1, 5])) if runs == 1 else 3
    correct = rng.random((runs, cells)) < 0.5
    correct[:, :looked_at] = False
    correct[rng.integers(runs), 0] = True
    return {"correct": correct, "looked_at": looked_at}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **00.3.** A gain of half the spread takes 18 seeds, one of twice the spread takes 4. Below that, each halving of the
# gain takes about four times as many seeds.

# %% tags=["solution"]
assert (seeds_needed(1.0, 0.5), seeds_needed(1.0, 2.0)) == (18, 4)
assert 3.8 < seeds_needed(1.0, 0.05) / seeds_needed(1.0, 0.1) < 4.2

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
