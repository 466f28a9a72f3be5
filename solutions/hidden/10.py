"""Hidden draws of 10_ewc, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_10_1(rng):
    """One input, two classes, a number that is always 0, inputs of both signs, a model that is nearly certain."""
    classes, size, count = int(rng.integers(2, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    x = rng.normal(size=(count, size)).round(2)
    x[:, 0] *= int(rng.integers(2))
    return {
        "W": (float(rng.choice([0.0, 1.0, 4.0])) * rng.normal(size=(classes, size))).round(2),
        "b": rng.normal(size=classes).round(2),
        "x": x,
    }


def draw_10_2(rng):
    """One sample, two classes, nothing frozen."""
    return {
        "x": rng.normal(size=(int(rng.choice([1, 7])), 3)).round(2).astype(np.float32),
        "width": int(rng.integers(1, 5)),
        "classes": int(rng.choice([2, 5])),
        "frozen": "",
        "seed": int(rng.integers(1000)),
    }


def draw_10_3(rng):
    """A single tensor, all of them, weights without any importance, strength 0."""
    shapes = {"hidden.weight": (2, 2), "hidden.bias": (2,), "head.weight": (2, 2), "head.bias": (2,)}
    names = list(shapes) if rng.integers(2) else [str(rng.choice(list(shapes)))]
    return {
        "fisher": {
            name: (rng.integers(0, 2, shapes[name]) * rng.uniform(0, 3, shapes[name])).astype(np.float32)
            for name in names
        },
        "strength": float(rng.choice([0.0, 0.5, 100.0])),
        "seed": int(rng.integers(1000)),
    }


def draw_10_4(rng):
    """One task, two, many; the ends of the ranges of strength and gamma."""
    shape = (int(rng.choice([1, 2, 6])), int(rng.integers(1, 4)))
    return {
        "optima": rng.normal(size=shape),
        "curvatures": rng.uniform(0.1, 5, shape),
        "strength": float(rng.choice([0.0, 1.0, 100.0])),
        "gamma": float(rng.choice([0.0, 0.5, 1.0])),
    }


def draw_10_5(rng):
    """No earlier task, one, many; strength 0; a tensor of one weight, and one with two axes."""
    shapes = {"one": (1,), "wide": (2, 3), "unused": (2,)}
    return {
        "curvature": {name: rng.uniform(0.5, 3, shape) * (name != "unused") for name, shape in shapes.items()},
        "fishers": [
            {name: rng.uniform(0, 3, shapes[name]) for name in ("wide", "unused")[: int(rng.integers(1, 3))]}
            for _ in range(int(rng.choice([0, 1, 5])))
        ],
        "strength": float(rng.choice([0.0, 1.0, 1000.0])),
    }


def draw_10_6(rng):
    """Two tasks, tasks of one class, one sample, no sample of the last task."""
    tasks, size, count = int(rng.choice([2, 5])), int(rng.integers(1, 4)), int(rng.choice([1, 6]))
    return {
        "logits": rng.normal(size=(count, tasks * size)),
        "labels": rng.integers(0, (tasks - 1) * size, count),
        "per_task": size,
    }
