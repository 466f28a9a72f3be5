"""Hidden draws of 05_gradual_unfreezing, made by `make build`: more inputs, which only a grader tries."""


def draw_05_1(rng):
    """A single step, a cut that fits exactly, an even triangle, a ratio that is no whole number."""
    return {
        "total": int(rng.choice([1, 2, 3, 8, 16, 40])),
        "cut": float(rng.choice([0.125, 0.25, 0.5, 0.75])),
        "ratio": float(rng.choice([1.5, 32.0, 100.0])),
    }


def draw_05_2(rng):
    """A single step before; the schedule at its top; a newcomer whose peak is the head's."""
    return {
        "head_peak": 1e-3,
        "peak": float(rng.choice([1e-3, 1e-5])),
        "factor": float(rng.choice([1.0, 0.03125])),
        "steps": 1,
        "width": int(rng.integers(1, 4)),
        "seed": int(rng.integers(1000)),
    }


def draw_05_3(rng):
    """Open from the start, opened at the last step, gradients that agree, other averages."""
    count = int(rng.integers(1, 9))
    return {
        "gradients": rng.uniform(0.5, 2.0, size=count) * rng.choice([1, -1]),
        "joined": int(rng.choice([0, count - 1])),
        "beta1": float(rng.choice([0.0, 0.5, 0.95])),
        "beta2": float(rng.choice([0.5, 0.999])),
    }


def draw_05_4(rng):
    """A stage alone, all open at once, two that open together, one that opens at the last step, one rate for all."""
    total = int(rng.integers(3, 9))
    opened = ([0], [0, 0, 0], [0, 2, 2], [0, total - 1])[rng.integers(4)]
    return {
        "factors": rng.uniform(0.05, 1.0, size=total),
        "opened": opened,
        "fall": float(rng.choice([1.0, 2.6])),
    }


def draw_05_5(rng):
    """One stage alone, nothing open, one stage in the middle, numbers in another order."""
    stages = int(rng.integers(1, 6))
    some = rng.permutation(stages)[: int(rng.integers(1, stages + 1))].tolist()
    return {"costs": rng.uniform(0.5, 9, size=stages).tolist(), "phases": [[], some, [stages // 2]]}
