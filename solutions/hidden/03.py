"""Hidden draws of 03_feature_extraction, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_03_1(rng):
    """Batches that fit exactly, a single batch, no epoch at all."""
    batch = int(rng.integers(1, 5))
    return {
        "images": batch * int(rng.integers(1, 4)),
        "batch_size": batch,
        "epochs": int(rng.integers(0, 3)),
        "momentum": float(rng.choice([0.0, 0.1, 0.5])),
    }


def draw_03_2(rng):
    """The ends of the range."""
    return {
        "features": int(rng.integers(1, 9)),
        "momentum": float(rng.choice([0.001, 0.9, 0.99])),
        "training": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


def draw_03_3(rng):
    """What an earlier phase has frozen must open; and the network is wider."""
    return {
        "frozen": ["stem", "block"],
        "frozen_before": True,
        "width": int(rng.integers(8, 12)),
        "seed": int(rng.integers(1000)),
    }


def draw_03_4(rng):
    """A single image, a batch larger than everything, a network that comes in evaluation mode."""
    count = int(rng.choice([1, 2, 5]))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "batch_size": int(rng.choice([1, 5, 100])),
        "training": False,
        "width": 5,
        "seed": int(rng.integers(1000)),
    }


def draw_03_5(rng):
    """A width that is not three, and two preparations that are the same."""
    used = {"mean": rng.random(3).tolist(), "std": (0.1 + rng.random(3)).tolist()}
    right = used if rng.integers(2) else {"mean": rng.random(3).tolist(), "std": (0.1 + rng.random(3)).tolist()}
    return {"image": rng.random((3, 2, int(rng.integers(4, 7)))), "used": used, "right": right}
