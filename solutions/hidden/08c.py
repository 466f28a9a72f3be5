"""Hidden draws of 08c_clinic, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_08c_1(rng):
    """One sample, batches of one, a batch larger than everything, batches that fit exactly."""
    count = int(rng.choice([1, 4, 8]))
    return {
        "logits": rng.normal(size=(count, 5)).astype(np.float32),
        "labels": rng.integers(0, 5, count),
        "batch_size": int(rng.choice([1, 4, 100])),
    }


def draw_08c_2(rng):
    """Two tasks, many tasks, scores that only rise, scores below zero."""
    tasks = int(rng.choice([2, 3, 9]))
    R = rng.normal(size=(tasks, tasks))
    return {"R": np.sort(R, axis=0) if rng.integers(2) else R}


def draw_08c_3(rng):
    """One epoch, many epochs, an old task that only falls, all epochs equal."""
    epochs = int(rng.choice([1, 3, 20]))
    names = ("new_val", "new_test", "old_val", "old_test")
    if rng.random() < 0.2:
        return {name: [0.5] * epochs for name in names}
    made = {name: (rng.integers(0, 64, epochs) / 64).tolist() for name in names}
    return made | {"old_val": sorted(made["old_val"], reverse=True)}


def draw_08c_4(rng):
    """One task, or four; of one sample, or of many."""
    names = ["a", "b", "c", "d"][: int(rng.choice([1, 4]))]
    count = int(rng.choice([1, 30]))
    tasks = {
        name: {"x": rng.normal(size=(count, 4)).astype(np.float32), "y": rng.integers(0, 2, count)}
        for name in rng.permutation(names).tolist()
    }
    return {"names": names, "tasks": tasks, "training": bool(rng.integers(2)), "seed": int(rng.integers(1000))}


def draw_08c_5(rng):
    """Other numbers of samples, no epoch at all, many epochs."""
    return {
        "x": (rng.normal(size=(int(rng.integers(2, 20)), 4)) * 2).astype(np.float32),
        "lr": float(rng.choice([0.01, 0.3])),
        "epochs": int(rng.choice([0, 1, 20])),
        "seed": int(rng.integers(1000)),
    }
