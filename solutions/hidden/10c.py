"""Hidden draws of 10c_clinic, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_10c_1(rng):
    """Some weights of no importance; the weights move a little, and the other way; strength 0."""
    return {
        "fisher": {
            "weight": (rng.integers(0, 2, (2, 2)) * rng.uniform(0, 3, (2, 2))).astype(np.float32),
            "bias": rng.uniform(0, 3, 2).astype(np.float32),
        },
        "moves": rng.normal(size=2),
        "strength": float(rng.choice([0.0, 1.0, 100.0])),
        "seed": int(rng.integers(1000)),
    }


def draw_10c_2(rng):
    """One sample; batches of one; a batch larger than everything; batches that fit exactly."""
    count = int(rng.choice([1, 6]))
    return {
        "x": rng.normal(size=(count, 2)).astype(np.float32),
        "y": rng.integers(0, 3, count),
        "batch_size": int(rng.choice([1, 3, 100])),
        "seed": int(rng.integers(1000)),
    }


def draw_10c_3(rng):
    """One sample; everything in training mode, or nothing."""
    return {
        "x": rng.normal(size=(int(rng.choice([1, 4])), 4)).astype(np.float32),
        "training": ["stem", "block", "head"] if rng.integers(2) else [],
        "gradient": float(rng.choice([0.1, 3.0])),
        "seed": int(rng.integers(1000)),
    }


def draw_10c_4(rng):
    """A stream that fits, one sample, one more than there is room for, a single place."""
    capacity, length = [(3, 3), (5, 2), (1, 1), (2, 3), (1, 5), (4, 7)][int(rng.integers(6))]
    return {"stream": list("klmnopq")[:length], "capacity": capacity}


def draw_10c_5(rng):
    """One step, many; no decay; a wider network; a strong penalty."""
    return {
        "x": rng.normal(size=(5, 2)),
        "strength": float(rng.choice([0.5, 100.0])),
        "lr": 0.02,
        "decay": float(rng.choice([0.0, 0.1, 1.0])),
        "steps": int(rng.choice([1, 12])),
        "width": 5,
        "seed": int(rng.integers(1000)),
    }
