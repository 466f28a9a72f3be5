"""Hidden draws of 13_your_own_data, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_13_1(rng):
    """Tabs and line breaks, an empty text, one class, spellings that occur equally often, letters with two small "
    "forms."""
    names = ["STRASSE", "straße", "Straße", "a b", "A\tb", "A  B", "\n a  b", "", "\t", "c"]
    return {"labels": [str(name) for name in rng.choice(names, size=int(rng.integers(1, 9)))]}


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


def draw_13_4(rng):
    """Two splits, many splits, one sample a class, a split that holds one class, predictions that are all right."""
    classes, splits = int(rng.integers(2, 5)), []
    for number in range(int(rng.choice([2, 2, 10]))):
        labels = rng.integers(classes, size=int(rng.integers(1, 9)))
        predicted = labels if number == 0 else rng.integers(classes, size=len(labels))
        splits.append([labels.tolist(), predicted.tolist()])
    return {"splits": splits, "classes": classes, "share": float(rng.uniform(0.05, 0.6))}


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
