"""Hidden draws of 00_start_here, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_00_1(rng):
    """The fewest seeds, many seeds, differences that are all but equal, a that is worse."""
    n = int(rng.choice([2, 50]))
    b = rng.normal(0.8, 0.05, n)
    return {"a": b - 0.03 + rng.normal(0, rng.choice([1e-4, 0.05]), n), "b": b}


def draw_00_2(rng):
    """Bars at zero, bars that nothing can reach, an interval wider than both bars."""
    low = float(rng.uniform(-1, 1))
    above, below = [(0.0, None), (None, 0.0), (-5.0, 5.0), (-1e-3, 1e-3), (3.0, None)][rng.integers(5)]
    return {"low": low, "high": low + float(rng.uniform(0.01, 2)), "above": above, "below": below}


def draw_00_3(rng):
    """A gain far above the spread takes two seeds; one far below it takes many."""
    return {"spread": 0.02, "gain": float(0.02 * rng.choice([50, 3, 0.1]))}


def draw_00_4(rng):
    """All scores equal, scores outside of 0 to 1, one cell of a class."""
    n = int(rng.integers(2, 40))
    labels = np.arange(n) == 0
    scores = np.zeros(n) if rng.integers(2) else rng.normal(0, 5, n)
    return {"scores": scores, "labels": labels.astype(int)}


def draw_00_5(rng):
    """A single run; one cell looked at; one cell left."""
    runs, cells = int(rng.integers(1, 4)), 6
    looked_at = int(rng.choice([1, 5])) if runs == 1 else 3
    correct = rng.random((runs, cells)) < 0.5
    correct[:, :looked_at] = False
    correct[rng.integers(runs), 0] = True
    return {"correct": correct, "looked_at": looked_at}
