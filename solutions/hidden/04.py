"""Hidden draws of 04_fine_tuning, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_04_1(rng):
    """Two stages only; many stages; one rate for all."""
    lowest = float(rng.choice([1e-7, 1e-5, 1e-3]))
    return {"lowest": lowest, "highest": 1e-3, "stages": int(rng.choice([2, 3, 12]))}


def draw_04_2(rng):
    """Nothing shared; the head alone; everything at rates of its own."""
    rates = {"head": 1e-3} if rng.integers(2) else {"head": 1e-3, "stem": 1e-6, "neck": 1e-4, "block": 1e-5}
    return {"rates": rates, "decay": 0.05, "tied": False, "seed": int(rng.integers(1000))}


def draw_04_3(rng):
    """A stage that has not moved at all; one that has moved by more than its own length."""
    by = {"stem": 0.0, "block": float(rng.uniform(2, 3)), "head": 0.0 if rng.integers(2) else 0.001}
    return {"by": by, "batches": 0, "width": int(rng.integers(2, 9)), "seed": int(rng.integers(1000))}


def draw_04_4(rng):
    """A single phase; a single step an epoch; a short phase after a long one."""
    phases = [[3], [1, 1], [20, 1], [1, 4, 1]][int(rng.integers(4))]
    steps = int(rng.choice([1, 3]))
    return {"lr": 1.0, "phases": phases, "steps_an_epoch": steps, "one_curve": bool(rng.integers(2))}


def draw_04_5(rng):
    """A single rate, rates that fall, a network in training mode."""
    count = int(rng.integers(2, 6))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "labels": rng.integers(2, size=count),
        "rates": [[0.5], [0.4, 0.2, 0.1], [0.0, 0.3]][int(rng.integers(3))],
        "training": True,
        "seed": int(rng.integers(1000)),
    }
