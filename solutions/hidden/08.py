"""Hidden draws of 08_catastrophic_forgetting, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_08_1(rng):
    """Two tasks, many tasks, a network that gets better at everything."""
    tasks = int(rng.choice([2, 3, 8]))
    R = rng.uniform(0, 1, (tasks, tasks))
    return {"R": np.sort(R, axis=0) if rng.integers(2) else R, "baselines": rng.uniform(0, 0.5, tasks)}


def draw_08_2(rng):
    """Many tasks, and one that comes twice."""
    tasks = (rng.permutation(int(rng.integers(2, 8))) + 1.5).tolist()
    return {"tasks": [*tasks, tasks[0]]}


def draw_08_3(rng):
    """No step, one weight, the same task again, weights that a task does not use, many steps."""
    size = int(rng.choice([1, 5]))
    old = rng.normal(size=size)
    return {
        "old": old,
        "old_curvature": rng.uniform(0, 3, size) * rng.integers(0, 2, size),
        "new": old.copy() if rng.random() < 0.2 else rng.normal(size=size),
        "new_curvature": rng.uniform(0, 3, size) * rng.integers(0, 2, size),
        "lr": float(rng.choice([0.01, 0.5])),
        "steps": int(rng.choice([0, 1, 50])),
    }


def draw_08_4(rng):
    """Features that were only turned, features that gained, features that did not move."""
    counts, labels, before, after = {"train": 12, "test": 30}, {}, {}, {}
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.integers(2) else np.eye(3)
    noise = float(rng.choice([0.0, 1.5]))
    for part, count in counts.items():
        labels[part] = rng.permutation(np.arange(count) % 2)
        centred = np.outer(2 * labels[part] - 1, [0.8, 0.2, 0.1])
        before[part] = centred + rng.normal(size=(count, 3)) * float(rng.choice([0.5, 2.0]))
        after[part] = before[part] @ turn + noise * rng.normal(size=(count, 3))
    return {"before": before, "after": after, "labels": labels, "head": [1.0, 0.2, 0.1]}
