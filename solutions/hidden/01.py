"""Hidden draws of 01_why_transfer_learning, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


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


def draw_01_2(rng):
    """A wider network."""
    return {"width": int(rng.integers(20, 30)), "seed": int(rng.integers(10_000))}


def draw_01_3(rng):
    """Curves that dip, begin above the target or reach it exactly at a size; a single seed; no seed gets there."""
    curves = np.round(0.6 + 0.2 * rng.random((int(rng.choice([1, 3, 7])), 3)), 2)
    targets = [round(float(rng.uniform(0.6, 0.8)), 3), float(rng.choice(curves.ravel())), 0.5, 0.95]
    return {"labels": [10, 100, 1000], "curves": curves, "targets": targets}


def draw_01_4(rng):
    """The goal is reached exactly, in the last epoch, or twice."""
    best = round(float(rng.uniform(0.7, 0.9)), 3)
    ours = [0.5, best, 0.6, best] if rng.integers(2) else [0.5, 0.6, 0.65, best]
    return {
        "ours": {"labels": int(rng.integers(10, 50)), "scores": ours},
        "theirs": {"labels": int(rng.integers(10, 50)), "scores": [0.4, 0.6, best, best, 0.5]},
    }


def draw_01_5(rng):
    """A single seed, a single epoch, and splits that agree."""
    val = rng.permuted(np.tile(np.linspace(0.6, 0.8, int(rng.choice([1, 2, 6]))), (int(rng.choice([1, 5])), 1)), axis=1)
    return {"val": val, "test": val.copy() if rng.integers(2) else rng.permuted(val, axis=1)}
