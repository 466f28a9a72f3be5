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
# # Exercises 13 · Your own data
#
# Five tasks that every project of your own begins or ends with: labels brought into one spelling, near-duplicates
# found, a split that leaks nothing, a line of the report, and a choice that looks at the test once. About an hour and a
# quarter. Do lesson 13 before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("13.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math
import re
from collections import Counter

import numpy as np
from scipy import stats

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="13.1"
# A table of labels that three people have typed: `"Dead cell"`, `"dead cell"`, `"Dead  cell "`, and rows where nothing
# stands. A network would take them for so many classes. **Write `clean(labels)`**: `labels` is a list of texts. Return
# `cleaned, counts`.
#
# First *tidy* each label: take the white space at both ends off, and put one space for every run of white space within.
# Whoever is empty then has no label. Two labels are one class if they are the same, when tidied, but for case (compare
# with `str.casefold`). Each class gets one spelling: the tidied one that occurs most often in it; of those that occur
# equally often, the one that `sorted` puts first.
#
# - `cleaned` is a list as long as `labels`: for each row the spelling of its class, or `None` where there is no label;
# - `counts` is a dict: spelling -> how many rows have it. Rows without a label are not in it.


# %% tags=["answer"] task="13.1"
def clean(labels):
    # BEGIN SOLUTION
    tidy = [" ".join(label.split()) for label in labels]
    spellings = {}
    for label in filter(None, tidy):
        spellings.setdefault(label.casefold(), Counter())[label] += 1
    chosen = {key: max(sorted(counts), key=counts.get) for key, counts in spellings.items()}
    cleaned = [chosen[label.casefold()] if label else None for label in tidy]
    return cleaned, dict(Counter(label for label in cleaned if label is not None))
    # END SOLUTION


# %% tags=["check"]
check("13.1", clean)


# %% tags=["right"] task="13.1"
def clean(labels):
    """For each row, a look at all rows of its class."""
    tidy = [re.sub(r"\s+", " ", label.strip()) for label in labels]
    cleaned, counts = [], {}
    for label in tidy:
        same = [other for other in tidy if other.casefold() == label.casefold()]
        spelling = min(same, key=lambda name: (-same.count(name), name)) if label else None
        cleaned.append(spelling)
        if spelling is not None:
            counts[spelling] = counts.get(spelling, 0) + 1
    return cleaned, counts


# %% tags=["right"] task="13.1"
def clean(labels):
    """By numpy: classes are the distinct keys, spellings the distinct texts."""
    tidy = np.array([" ".join(label.split()) for label in labels])
    keys = np.array([label.casefold() for label in tidy])
    cleaned, counts = [None] * len(labels), {}
    for key in np.unique(keys[tidy != ""]):
        names, often = np.unique(tidy[keys == key], return_counts=True)  # sorted; argmax takes the first of equals
        name = str(names[often.argmax()])
        counts[name] = int(often.sum())
        for row in np.flatnonzero(keys == key):
            cleaned[row] = name
    return cleaned, counts


# %% tags=["wrong"] task="13.1" misconception="rows without a label were dropped"
def clean(labels):
    tidy = [" ".join(label.split()) for label in labels if label.strip()]
    chosen = {}
    for key in {label.casefold() for label in tidy}:
        counts = Counter(label for label in tidy if label.casefold() == key)
        chosen[key] = max(sorted(counts), key=counts.get)
    cleaned = [chosen[label.casefold()] for label in tidy]
    return cleaned, dict(Counter(cleaned))


# %% tags=["wrong"] task="13.1" misconception="no label became a class"
def clean(labels):
    tidy = [" ".join(label.split()) for label in labels]
    chosen = {}
    for key in {label.casefold() for label in tidy}:
        counts = Counter(label for label in tidy if label.casefold() == key)
        chosen[key] = max(sorted(counts), key=counts.get)
    cleaned = [chosen[label.casefold()] for label in tidy]
    return cleaned, dict(Counter(cleaned))


# %% tags=["wrong"] task="13.1" misconception="case still tells classes apart"
def clean(labels):
    cleaned = [" ".join(label.split()) or None for label in labels]
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["wrong"] task="13.1" misconception="spaces at the ends still tell classes apart"
def clean(labels):
    tidy = [re.sub(r"(\S)\s+(?=\S)", r"\1 ", label) if label.strip() else "" for label in labels]
    chosen = {}
    for key in {label.casefold() for label in tidy}:
        counts = Counter(label for label in tidy if label.casefold() == key)
        chosen[key] = max(sorted(counts), key=counts.get) or None
    cleaned = [chosen[label.casefold()] for label in tidy]
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["wrong"] task="13.1" misconception="spaces within still tell classes apart"
def clean(labels):
    tidy = [label.strip() for label in labels]
    chosen = {}
    for key in {label.casefold() for label in tidy}:
        counts = Counter(label for label in tidy if label.casefold() == key)
        chosen[key] = max(sorted(counts), key=counts.get) or None
    cleaned = [chosen[label.casefold()] for label in tidy]
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["wrong"] task="13.1" misconception="everything in small letters"
def clean(labels):
    cleaned = [" ".join(label.split()).casefold() or None for label in labels]
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["wrong"] task="13.1" misconception="the first spelling won"
def clean(labels):
    chosen, cleaned = {}, []
    for label in labels:
        tidy = " ".join(label.split())
        cleaned.append(chosen.setdefault(tidy.casefold(), tidy) if tidy else None)
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["wrong"] task="13.1" misconception="the alphabet chose"
def clean(labels):
    tidy = [" ".join(label.split()) for label in labels]
    chosen = {label.casefold(): label for label in sorted(tidy, reverse=True)}
    cleaned = [chosen[label.casefold()] if label else None for label in tidy]
    return cleaned, dict(Counter(filter(None, cleaned)))


# %% tags=["hidden"] task="13.1"
def draw_13_1(rng):
    """Tabs and line breaks, an empty text, one class, spellings that occur equally often, letters with two small "
    "forms."""
    names = ["STRASSE", "straße", "Straße", "a b", "A\tb", "A  B", "\n a  b", "", "\t", "c"]
    return {"labels": [str(name) for name in rng.choice(names, size=int(rng.integers(1, 9)))]}


# %% [markdown] tags=["task"] task="13.2"
# Two exposures of one solar cell, one on each side of a split, and the test asks what it has already been told. So
# near-duplicates have to be found first, and dealt together. **Write `near_duplicates(likeness, threshold)`**:
# `likeness` is a numpy array of shape `(n, n)`, symmetric, with ones on its diagonal: how alike each two samples are.
# Two samples are alike if their likeness is *above* the threshold. A group holds what is alike, and what is alike to
# those, and so on: two samples are in one group if one gets from the one to the other in steps, each of which goes from
# a sample to one that it is alike to. A sample that is like no other is a group of its own.
#
# Return a list of n whole numbers, the group of each sample. Groups are numbered from 0 in the order of their first
# samples: sample 0 is in group 0, the next sample that is not in group 0 is in group 1, and so on.


# %% tags=["answer"] task="13.2"
def near_duplicates(likeness, threshold):
    # BEGIN SOLUTION
    groups, count = [None] * len(likeness), 0
    for sample in range(len(likeness)):
        if groups[sample] is not None:
            continue
        reached = [sample]
        while reached:
            row = reached.pop()
            if groups[row] is None:
                groups[row] = count
                reached += np.flatnonzero(likeness[row] > threshold).tolist()
        count += 1
    return groups
    # END SOLUTION


# %% tags=["check"]
check("13.2", near_duplicates)


# %% tags=["right"] task="13.2"
def near_duplicates(likeness, threshold):
    """Merge pair after pair, and number anew at the end."""
    groups = list(range(len(likeness)))
    for i in range(len(likeness)):
        for j in range(i):
            if likeness[i, j] > threshold:
                old, new = groups[i], groups[j]
                groups = [new if group == old else group for group in groups]
    names = list(dict.fromkeys(groups))
    return [names.index(group) for group in groups]


# %% tags=["right"] task="13.2"
def near_duplicates(likeness, threshold):
    """Powers of a matrix: who is reached in n steps; the first one reached names the group."""
    near = (likeness > threshold) | np.eye(len(likeness), dtype=bool)
    for _ in range(len(near)):
        near = (near.astype(int) @ near.astype(int)) > 0
    return np.unique(near.argmax(axis=1), return_inverse=True)[1]


# %% tags=["wrong"] task="13.2" misconception="those alone are one group"
def near_duplicates(likeness, threshold):
    near = (likeness > threshold) & ~np.eye(len(likeness), dtype=bool)
    groups = list(range(len(likeness)))
    for i, j in np.argwhere(near):
        groups = [groups[i] if group == groups[j] else group for group in groups]
    groups = [group if near[row].any() else -1 for row, group in enumerate(groups)]
    names = list(dict.fromkeys(groups))
    return [names.index(group) for group in groups]


# %% tags=["wrong"] task="13.2" misconception="at the threshold counts as above"
def near_duplicates(likeness, threshold):
    groups = list(range(len(likeness)))
    for i, j in np.argwhere(likeness >= threshold):
        groups = [groups[i] if group == groups[j] else group for group in groups]
    names = list(dict.fromkeys(groups))
    return [names.index(group) for group in groups]


# %% tags=["wrong"] task="13.2" misconception="numbers of samples, not of groups"
def near_duplicates(likeness, threshold):
    groups = list(range(len(likeness)))
    for i, j in np.argwhere(likeness > threshold):
        low, high = sorted((groups[i], groups[j]))
        groups = [low if group == high else group for group in groups]
    return groups


# %% tags=["wrong"] task="13.2" misconception="two groups that meet stay two"
def near_duplicates(likeness, threshold):
    groups, count = [], 0
    for row in likeness:
        alike = [group for group, value in zip(groups, row, strict=False) if value > threshold]
        groups.append(alike[0] if alike else count)
        count += not alike
    return groups


# %% tags=["wrong"] task="13.2" misconception="one step and no further"
def near_duplicates(likeness, threshold):
    groups, count = np.full(len(likeness), -1), 0
    for row in range(len(likeness)):
        if groups[row] < 0:
            groups[(likeness[row] > threshold) & (groups < 0)] = count
            count += 1
    return groups


# %% tags=["hidden"] task="13.2"
def draw_13_2(rng):
    """One sample, all alike, none alike, a long chain in any order, likeness below zero."""
    count = int(rng.integers(1, 9))
    likeness, order = np.full((count, count), -0.5), rng.permutation(count)
    kind = int(rng.integers(3))
    if kind == 1:
        likeness[:] = 1.0
    elif kind == 2:
        likeness[order[:-1], order[1:]] = likeness[order[1:], order[:-1]] = 0.6
    np.fill_diagonal(likeness, 1.0)
    return {"likeness": likeness, "threshold": 0.5}


# %% [markdown] tags=["task"] task="13.3"
# Now the split. **Write `hold_out(groups, labels, order, share)`**: `groups` and `labels` are lists of n whole numbers,
# the group and the class of each sample; `order` is a list in which each group's number stands once, shuffled by
# whoever wants another split; `share` is a number between 0 and 1.
#
# Go through the groups as they stand in `order`. A group goes into the test, whole, if with it the test holds *at most*
# that share of the samples of each class: at most `share` times the number of samples that have the class in all.
# Otherwise it goes into training, and you go on to the next one. Return `train, test`: two lists of the numbers of the
# samples, 0 to n - 1, each in ascending order.


# %% tags=["answer"] task="13.3"
def hold_out(groups, labels, order, share):
    # BEGIN SOLUTION
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        tried = in_test | (groups == group)
        if all((tried & (labels == c)).sum() <= share * (labels == c).sum() for c in np.unique(labels)):
            in_test = tried
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()
    # END SOLUTION


# %% tags=["check"]
check("13.3", hold_out)


# %% tags=["right"] task="13.3"
def hold_out(groups, labels, order, share):
    """By what is left of each class's allowance."""
    room = {label: share * labels.count(label) for label in set(labels)}
    train, test = [], []
    for group in order:
        rows = [row for row, owner in enumerate(groups) if owner == group]
        needed = Counter(labels[row] for row in rows)
        if all(needed[label] <= room[label] for label in needed):
            test += rows
            for label, count in needed.items():
                room[label] -= count
        else:
            train += rows
    return sorted(train), sorted(test)


# %% tags=["right"] task="13.3"
def hold_out(groups, labels, order, share):
    """With a table of groups and classes."""
    table = np.zeros((max(groups) + 1, max(labels) + 1), dtype=int)
    np.add.at(table, (groups, labels), 1)
    chosen = []
    for group in order:
        if (table[[*chosen, group]].sum(axis=0) <= share * table.sum(axis=0)).all():
            chosen.append(group)
    where = np.isin(groups, chosen)
    return np.where(~where)[0], np.where(where)[0]


# %% tags=["wrong"] task="13.3" misconception="train and test changed places"
def hold_out(groups, labels, order, share):
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        tried = in_test | (groups == group)
        if all((tried & (labels == c)).sum() <= share * (labels == c).sum() for c in np.unique(labels)):
            in_test = tried
    return np.flatnonzero(in_test).tolist(), np.flatnonzero(~in_test).tolist()


# %% tags=["wrong"] task="13.3" misconception="a group is on both sides"
def hold_out(groups, labels, order, share):
    room = {label: int(share * labels.count(label)) for label in set(labels)}
    test = []
    for row in sorted(range(len(groups)), key=lambda row: order.index(groups[row])):
        if room[labels[row]] > 0:
            room[labels[row]] -= 1
            test.append(row)
    return [row for row in range(len(groups)) if row not in test], sorted(test)


# %% tags=["wrong"] task="13.3" misconception="a share of the groups"
def hold_out(groups, labels, order, share):
    chosen = set(order[: int(share * len(order))])
    rows = range(len(groups))
    return [row for row in rows if groups[row] not in chosen], [row for row in rows if groups[row] in chosen]


# %% tags=["wrong"] task="13.3" misconception="the order was not followed"
def hold_out(groups, labels, order, share):
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        tried = in_test | (groups == group)
        if all((tried & (labels == c)).sum() <= share * (labels == c).sum() for c in np.unique(labels)):
            in_test = tried
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()


# %% tags=["wrong"] task="13.3" misconception="stopped at the first that did not fit"
def hold_out(groups, labels, order, share):
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        tried = in_test | (groups == group)
        if any((tried & (labels == c)).sum() > share * (labels == c).sum() for c in np.unique(labels)):
            break
        in_test = tried
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()


# %% tags=["wrong"] task="13.3" misconception="one share for all classes together"
def hold_out(groups, labels, order, share):
    groups = np.array(groups)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        tried = in_test | (groups == group)
        if tried.sum() <= share * len(groups):
            in_test = tried
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()


# %% tags=["wrong"] task="13.3" misconception="filled beyond the share"
def hold_out(groups, labels, order, share):
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        if all((in_test & (labels == c)).sum() < share * (labels == c).sum() for c in np.unique(labels)):
            in_test = in_test | (groups == group)
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()


# %% tags=["wrong"] task="13.3" misconception="exactly the share was refused"
def hold_out(groups, labels, order, share):
    groups, labels = np.array(groups), np.array(labels)
    in_test = np.zeros(len(groups), dtype=bool)
    for group in order:
        tried = in_test | (groups == group)
        if all((tried & (labels == c)).sum() < share * (labels == c).sum() for c in np.unique(labels)):
            in_test = tried
    return np.flatnonzero(~in_test).tolist(), np.flatnonzero(in_test).tolist()


# %% tags=["hidden"] task="13.3"
def draw_13_3(rng):
    """One class, each sample alone, one group that can never fit, three classes."""
    count, classes = int(rng.integers(3, 12)), int(rng.integers(1, 4))
    groups = [list(range(count)), [0] * count, [row // 3 for row in range(count)]][int(rng.integers(3))]
    return {
        "groups": groups,
        "labels": rng.integers(classes, size=count).tolist(),
        "order": rng.permutation(max(groups) + 1).tolist(),
        "share": float(rng.choice([0.125, 0.25, 0.5, 0.75])),
    }


# %% [markdown] tags=["task"] task="13.4"
# A report says: "balanced accuracy 0.81, 95 % interval 0.77 to 0.85". **Write `report_line(splits, classes, share)`,
# which finds those three numbers.** `splits` is a list of n pairs `(labels, predicted)`, n at least 2, one for each
# time that the data were dealt anew: two numpy arrays of whole numbers from 0 to `classes - 1`, the true and the
# predicted class of each held-out sample. `share` is the share of the data that was held out each time, between 0 and
# 1.
#
# The score of a split is its balanced accuracy: the mean over the classes of their recalls, where the recall of a class
# is the share of its samples that are predicted right. A class of which the split has no sample is left out of the
# mean. The splits are no fresh data: their training samples overlap. Nadeau and Bengio (2003) widen the t-interval for
# that,
#
# $$\bar x \pm t\, s\, \sqrt{\frac1n + \frac{\text{share}}{1 - \text{share}}}$$
#
# with $\bar x$ the mean of the n scores, $s$ their standard deviation with n - 1 in the denominator, and $t$ the 97.5 %
# quantile of Student's distribution with n - 1 degrees of freedom, `stats.t.ppf(0.975, n - 1)`. Return `mean, low,
# high`; with so few splits the ends may well lie outside of 0 to 1.


# %% tags=["answer"] task="13.4"
def report_line(splits, classes, share):
    # BEGIN SOLUTION
    scores = []
    for labels, predicted in splits:
        recalls = [(predicted[labels == c] == c).mean() for c in range(classes) if (labels == c).any()]
        scores.append(np.mean(recalls))
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half
    # END SOLUTION


# %% tags=["check"]
check("13.4", report_line)


# %% tags=["right"] task="13.4"
def report_line(splits, classes, share):
    """Without arrays, and by the variance."""
    scores = []
    for labels, predicted in splits:
        samples = Counter(labels.tolist())
        found = Counter(int(true) for true, said in zip(labels, predicted, strict=True) if true == said)
        scores.append(sum(found[c] / samples[c] for c in samples) / len(samples))
    n = len(scores)
    mean = sum(scores) / n
    variance = sum((score - mean) ** 2 for score in scores) / (n - 1)
    half = stats.t(n - 1).ppf(0.975) * math.sqrt(variance * (1 / n + share / (1 - share)))
    return mean, mean - half, mean + half


# %% tags=["right"] task="13.4"
def report_line(splits, classes, share):
    """By confusion matrices, and scipy's interval."""
    scores = []
    for labels, predicted in splits:
        confusion = np.zeros((classes, classes))
        np.add.at(confusion, (labels, predicted), 1)
        there = confusion.sum(axis=1) > 0
        scores.append((np.diag(confusion)[there] / confusion.sum(axis=1)[there]).mean())
    scale = np.std(scores, ddof=1) * (1 / len(scores) + share / (1 - share)) ** 0.5
    low, high = np.mean(scores) + scale * np.array(stats.t.interval(0.95, len(scores) - 1))
    return [(low + high) / 2, low, high]


# %% tags=["wrong"] task="13.4" misconception="plain accuracy"
def report_line(splits, classes, share):
    scores = [(labels == predicted).mean() for labels, predicted in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="divided by what was predicted"
def report_line(splits, classes, share):
    scores = [np.mean([(y[p == c] == c).mean() for c in range(classes) if (p == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="an absent class counts as missed"
def report_line(splits, classes, share):
    scores = [sum((p[y == c] == c).mean() for c in range(classes) if (y == c).any()) / classes for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="splits taken for fresh data"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="the spread of the splits"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1)
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="the share by itself"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share)
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="the proportion turned round"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + (1 - share) / share)
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="a variance for a deviation"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores, ddof=1) * (1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="1.96 for so few splits"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.norm.ppf(0.975) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="five per cent at each end"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.95, n - 1) * np.std(scores, ddof=1) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["wrong"] task="13.4" misconception="the spread divided by n"
def report_line(splits, classes, share):
    scores = [np.mean([(p[y == c] == c).mean() for c in range(classes) if (y == c).any()]) for y, p in splits]
    mean, n = np.mean(scores), len(scores)
    half = stats.t.ppf(0.975, n - 1) * np.std(scores) * math.sqrt(1 / n + share / (1 - share))
    return mean, mean - half, mean + half


# %% tags=["hidden"] task="13.4"
def draw_13_4(rng):
    """Two splits, many splits, one sample a class, a split that holds one class, predictions that are all right."""
    classes, splits = int(rng.integers(2, 5)), []
    for number in range(int(rng.choice([2, 2, 10]))):
        labels = rng.integers(classes, size=int(rng.integers(1, 9)))
        predicted = labels if number == 0 else rng.integers(classes, size=len(labels))
        splits.append([labels.tolist(), predicted.tolist()])
    return {"splits": splits, "classes": classes, "share": float(rng.uniform(0.05, 0.6))}


# %% [markdown] tags=["task"] task="13.5"
# Time was short: dear strategies were tried on fewer splits than cheap ones. Which one do you take, and what do you
# report? **Write `conclude(trials, open_test)`.**
#
# - `trials` is a list of triples `(strategy, split, score)`, in the order in which they ran: a name, a whole number,
#   and the balanced accuracy on validation, the higher the better. No strategy was tried twice on one split, and there
#   is at least one split on which all of them were tried.
# - `open_test(strategy)` trains the strategy, opens the test split and returns the score there. Each call is written
#   down in the report.
#
# Choose the strategy with the highest mean score over *those splits on which every strategy was tried*; splits differ
# in how hard they are, and means over different splits cannot be compared. Of equals, take the one that comes first in
# `trials`. Return `chosen, reported`: its name, and its score on the test, which you open once and for no other.


# %% tags=["answer"] task="13.5"
def conclude(trials, open_test):
    # BEGIN SOLUTION
    table = {}
    for strategy, split, score in trials:
        table.setdefault(strategy, {})[split] = score
    common = set.intersection(*(set(scores) for scores in table.values()))
    means = {strategy: sum(scores[s] for s in sorted(common)) / len(common) for strategy, scores in table.items()}
    chosen = max(means, key=means.get)
    return chosen, open_test(chosen)
    # END SOLUTION


# %% tags=["check"]
check("13.5", conclude)


# %% tags=["right"] task="13.5"
def conclude(trials, open_test):
    """Split by split: how many strategies were there?"""
    names = list(dict.fromkeys(name for name, _, _ in trials))
    met = Counter(split for _, split, _ in trials)
    kept = [trial for trial in trials if met[trial[1]] == len(names)]
    sums = [math.fsum(score for name, _, score in kept if name == wanted) for wanted in names]
    best = names[int(np.argmax(sums))]  # as many splits for each: sums are as good as means
    return best, open_test(best)


# %% tags=["right"] task="13.5"
def conclude(trials, open_test):
    """A table with holes, of which whole columns are used."""
    names, splits = (list(dict.fromkeys(trial[part] for trial in trials)) for part in (0, 1))
    table = np.full((len(names), len(splits)), np.nan)
    for name, split, score in trials:
        table[names.index(name), splits.index(split)] = score
    whole = ~np.isnan(table).any(axis=0)
    chosen = names[table[:, whole].mean(axis=1).argmax()]
    reported = open_test(chosen)
    return [chosen, reported]


# %% tags=["wrong"] task="13.5" misconception="the test chose"
def conclude(trials, open_test):
    tested = {name: open_test(name) for name in dict.fromkeys(trial[0] for trial in trials)}
    chosen = max(tested, key=tested.get)
    return chosen, tested[chosen]


# %% tags=["wrong"] task="13.5" misconception="the mean over other splits"
def conclude(trials, open_test):
    table = {}
    for strategy, _, score in trials:
        table.setdefault(strategy, []).append(score)
    chosen = max(table, key=lambda name: np.mean(table[name]))
    return chosen, open_test(chosen)


# %% tags=["wrong"] task="13.5" misconception="the best single split"
def conclude(trials, open_test):
    chosen, _, _ = max(trials, key=lambda trial: trial[2])
    return chosen, open_test(chosen)


# %% tags=["wrong"] task="13.5" misconception="the lowest mean"
def conclude(trials, open_test):
    table = {}
    for strategy, split, score in trials:
        table.setdefault(strategy, {})[split] = score
    common = set.intersection(*(set(scores) for scores in table.values()))
    chosen = min(table, key=lambda name: sum(table[name][s] for s in common))
    return chosen, open_test(chosen)


# %% tags=["wrong"] task="13.5" misconception="the validation score was reported"
def conclude(trials, open_test):
    table = {}
    for strategy, split, score in trials:
        table.setdefault(strategy, {})[split] = score
    common = set.intersection(*(set(scores) for scores in table.values()))
    means = {strategy: sum(scores[s] for s in common) / len(common) for strategy, scores in table.items()}
    chosen = max(means, key=means.get)
    return chosen, means[chosen]


# %% tags=["wrong"] task="13.5" misconception="the test was opened for all"
def conclude(trials, open_test):
    table = {}
    for strategy, split, score in trials:
        table.setdefault(strategy, {})[split] = score
    common = set.intersection(*(set(scores) for scores in table.values()))
    means = {strategy: sum(scores[s] for s in common) / len(common) for strategy, scores in table.items()}
    tested = {name: open_test(name) for name in means}
    chosen = max(means, key=means.get)
    return chosen, tested[chosen]


# %% tags=["wrong"] task="13.5" misconception="the test was opened twice"
def conclude(trials, open_test):
    table = {}
    for strategy, split, score in trials:
        table.setdefault(strategy, {})[split] = score
    common = set.intersection(*(set(scores) for scores in table.values()))
    means = {strategy: sum(scores[s] for s in common) / len(common) for strategy, scores in table.items()}
    chosen = max(means, key=means.get)
    print(f"{chosen}: {open_test(chosen):.3f}")
    return chosen, open_test(chosen)


# %% tags=["hidden"] task="13.5"
def draw_13_5(rng):
    """One strategy, one common split, two strategies with the same scores."""
    names = [str(name) for name in rng.permutation(["probe", "norms", "biases", "all"])[: int(rng.integers(1, 5))]]
    splits = int(rng.integers(1, 4))
    scores = {name: rng.permutation(900)[:splits] / 1000 for name in names}
    if len(names) > 1:
        scores[names[1]] = scores[names[0]]
    trials = [[name, split, float(scores[name][split])] for split in range(splits) for name in names]
    trials += [[names[0], splits, 0.99]] if len(names) > 1 else []
    return {"trials": trials, "test": {name: float(rng.random()) for name in names}}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **13.2** and **13.3.** What is split are groups and not files: the test of lesson 13, dealt by files, was worth
# little. **13.4.** With three splits and a share of one fifth the interval is a third wider than the plain one, and it
# does not shrink to nothing however often one splits: labels do not become more by being dealt again. **13.5.** A mean
# is a claim about the splits that went into it.

# %% tags=["solution"]
ratio = math.sqrt((1 / 3 + 0.2 / 0.8) / (1 / 3))
print(f"with 3 splits and a share of 0.2: {ratio:.2f} times as wide; with 1,000 splits still 0.5 t s")
assert 1.3 < ratio < 1.35 and abs(math.sqrt(1 / 1000 + 0.25) - 0.5) < 0.002

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
