"""Hidden draws of 03c_clinic, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_03c_1(rng):
    """One epoch; a wider backbone; images far from what is stored."""
    return {
        "images": (20 + 5 * rng.normal(size=(16, 4))).astype(np.float32),
        "epochs": int(rng.choice([1, 6])),
        "width": 12,
        "seed": int(rng.integers(1000)),
    }


def draw_03c_2(rng):
    """A single image; a batch larger than everything; batches of one."""
    count = int(rng.choice([1, 7]))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "labels": rng.integers(0, 2, count),
        "batch_size": int(rng.choice([1, 100])),
        "training": True,
        "seed": int(rng.integers(1000)),
    }


def draw_03c_3(rng):
    """Several images, three pixels wide; any mean and std."""
    top = int(rng.choice([1, 255]))
    mean, std = (top * rng.uniform(0.2, 0.6, 3)).tolist(), (top * rng.uniform(0.2, 0.6, 3)).tolist()
    order = str(rng.choice(["RGB", "BGR"]))
    images = rng.integers(0, 256, size=(3, 3, 2, 3)).astype(np.uint8)
    return {"images": images, "preprocessing": {"mean": mean, "std": std, "top": top, "order": order}}


def draw_03c_4(rng):
    """A single candidate; scores below zero."""
    names = ["a"] if rng.integers(2) else ["a", "b", "c", "d", "e", "f"]
    rows = {
        split: dict(zip(names, (-rng.random(len(names))).tolist(), strict=True)) for split in ("train", "val", "test")
    }
    return {"scores": rows}
