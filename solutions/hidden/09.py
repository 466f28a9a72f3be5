"""Hidden draws of 09_remembering, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_09_1(rng):
    """One of the two terms switched off, or both; a wider network."""
    return {
        "strength": float(rng.choice([0.0, 10.0])),
        "head_strength": float(rng.choice([0.0, 0.01, 10.0])),
        "width": int(rng.integers(2, 12)),
        "seed": int(rng.integers(1000)),
    }


def draw_09_2(rng):
    """One image, a temperature of 1 or below, a teacher that comes in evaluation mode."""
    rows, training = int(rng.choice([1, 5])), bool(rng.integers(2))
    return {
        "images": rng.normal(size=(rows, 4)).astype(np.float32),
        "student_logits": rng.normal(size=(rows, int(rng.integers(3, 9)))).astype(np.float32),
        "temperature": float(rng.choice([0.5, 1.0, 10.0])),
        "training": training,
        "width": int(rng.integers(3, 9)),
        "seed": int(rng.integers(1000)),
    }


def draw_09_3(rng):
    """Fewer samples than fit, exactly as many, a buffer of one, a single sample."""
    capacity = int(rng.integers(1, 4))
    return {"samples": int(rng.choice([1, capacity, capacity + 1, capacity + 3])), "capacity": capacity}


def draw_09_4(rng):
    """One epoch, losses that only rise or only fall, a plateau, a patience longer than the training."""
    epochs = int(rng.choice([1, 4, 9]))
    losses = (rng.integers(1, 6, epochs) / 4).tolist()
    kind = int(rng.integers(4))
    losses = [losses, sorted(losses), sorted(losses, reverse=True), [0.5] * epochs][kind]
    return {"losses": losses, "patience": int(rng.choice([1, 2, 20])), "epochs": epochs}


def draw_09_5(rng):
    """The two ends, the middle, and states that are the same."""

    def state(counted):
        return {
            "layer.weight": rng.normal(size=(2, 3)).astype(np.float32),
            "norm.running_mean": rng.normal(size=2).astype(np.float32),
            "norm.running_var": rng.uniform(0.1, 9.0, 2).astype(np.float32),
            "norm.num_batches_tracked": np.array(counted),
        }

    start = state(5)
    end = {name: value.copy() for name, value in start.items()} if rng.random() < 0.2 else state(12)
    return {"start": start, "end": end, "alpha": float(rng.choice([0.0, 0.25, 0.5, 1.0]))}


def draw_09_6(rng):
    """One remedy, all alike, one that beats everything, other numbers of values."""
    count, kind = int(rng.choice([1, 3, 6])), int(rng.integers(3))
    trials, scores = {}, {}
    for number in range(count):
        name, tried = f"remedy {number}", int(rng.integers(1, 5))
        order = rng.permutation(tried)
        trials[name] = [10.0 ** (k - 2) for k in range(tried)]
        test = [[0.5, 0.25]] * tried if kind == 0 else (rng.integers(1, 8, (tried, 2)) / 8).tolist()
        if kind == 1 and number == 0:
            test = [[1.0, 1.0]] * tried
        scores[name] = {"val": [[(k + 1) / 16, 0.5] for k in order.tolist()], "test": test}
    return {"trials": trials, "scores": scores}
