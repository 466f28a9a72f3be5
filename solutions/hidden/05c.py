"""Hidden draws of 05c_clinic, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_05c_1(rng):
    """A single phase; two children that open together; the stem before the block."""
    phases = ([["block"]], [["head"], ["head", "block", "stem"]], [["stem"], ["head", "stem"]])[rng.integers(3)]
    return {
        "phases": phases,
        "images": rng.normal(size=(4, 4)).astype(np.float32),
        "labels": np.array([0, 0, 1, 1]),
        "width": int(rng.integers(2, 7)),
        "seed": int(rng.integers(1000)),
    }


def draw_05c_2(rng):
    """A head that lies deep; one whose name holds a dot where another has a letter; one that is all there is."""
    head, modules = (
        ("a.b.c", ["a.b.c", "a.b.c1", "a.bXc", "b.c", "x.a.b.c", "a.b.c.d"]),
        ("out", ["out", "out.out", "dropout", "output", "in.out"]),
        ("fc", ["fc", "fc.fc", "fc.norm"]),
    )[rng.integers(3)]
    return {"modules": modules, "head": head, "lr": 1e-5, "head_lr": 1e-4}


def draw_05c_3(rng):
    """Phases of one step, and long ones."""
    return {
        "steps": [int(rng.choice([1, 2, 20])) for _ in range(3)],
        "images": rng.normal(size=(5, 4)).astype(np.float32),
        "width": int(rng.integers(2, 8)),
        "seed": int(rng.integers(1000)),
    }


def draw_05c_4(rng):
    """One epoch; a loss that falls to the end; one that never falls again; a patience of 1, and one without end."""
    count = int(rng.integers(1, 7))
    rising = np.arange(count) / 10
    losses = (rising, rising[::-1], rng.random(count))[rng.integers(3)]
    return {"losses": losses.tolist(), "patience": int(rng.choice([1, 2, 100]))}


def draw_05c_5(rng):
    """The first phase and the last; an order of its own; another width."""
    order = (["head", "neck", "block", "stem"], ["head", "stem", "neck", "block"])[rng.integers(2)]
    return {
        "order": order,
        "phase": int(rng.choice([0, 2])),
        "width": int(rng.integers(2, 6)),
        "seed": int(rng.integers(1000)),
    }
