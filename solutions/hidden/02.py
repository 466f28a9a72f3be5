"""Hidden draws of 02_feature_hierarchy, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_02_1(rng):
    """A single layer, kernels of even side, larger strides."""
    count = int(rng.integers(1, 8))
    return {
        "kernels": [int(value) for value in rng.integers(1, 8, size=count)],
        "strides": [int(value) for value in rng.integers(1, 5, size=count)],
    }


def draw_02_2(rng):
    """A single picture, a single stage, many stages."""
    return {
        "images": rng.normal(size=(1, 3, 5, 2)).astype(np.float32),
        "stages": int(rng.choice([1, 5])),
        "width": int(rng.integers(1, 4)),
        "seed": int(rng.integers(1000)),
    }


def draw_02_3(rng):
    """Two seeds, or many; a single stage."""
    shape = (int(rng.choice([2, 3, 20])), int(rng.choice([1, 9])))
    return {"trained": rng.random(shape), "random": rng.random(shape)}


def draw_02_4(rng):
    """More columns than rows, as in a late stage; and features that are turned and scaled, which must give 1."""
    x = rng.normal(size=(int(rng.integers(8, 16)), 30))
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(30, 30)))[0]
    return {"x": x, "y": turned if rng.integers(2) else rng.normal(size=(len(x), 40))}


def draw_02_5(rng):
    """All stages but the head; a single one."""
    stages = int(rng.integers(1, 5))
    return {
        "stages": stages,
        "width": int(rng.integers(2, 8)),
        "n": int(rng.choice([1, stages])),
        "seed": int(rng.integers(1000)),
    }
