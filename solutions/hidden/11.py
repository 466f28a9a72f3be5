"""Hidden draws of 11_the_zoo, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_11_1(rng):
    """No padding at all, one token in each text, a single text, a single position."""
    width = int(rng.integers(1, 5))
    lengths = [np.full(2, width), np.ones(3, dtype=int), rng.integers(1, width + 1, 1)][int(rng.integers(3))]
    places = np.arange(width)
    sides = rng.integers(2, size=len(lengths))
    rows = [places < length if side else places >= width - length for length, side in zip(lengths, sides, strict=True)]
    return {"mask": np.stack(rows).astype(int).tolist()}


def draw_11_2(rng):
    """A single layer, strides of three, even sides, sides of one pixel, groups with more outputs than inputs."""
    groups, layers, channels = int(rng.integers(1, 4)), [], 6
    for _ in range(int(rng.integers(1, 4))):
        outputs = 6 * int(rng.integers(1, 4))
        kernel, stride = int(rng.choice([1, 3, 7])), int(rng.integers(1, 4))
        layers.append({"inputs": channels, "outputs": outputs, "kernel": kernel, "stride": stride, "groups": groups})
        channels = outputs
    return {"layers": layers, "side": int(rng.choice([1, 8, 10, 32]))}


def draw_11_3(rng):
    """No prefix; a prefix with which a name of the network begins; a statistic of another shape."""
    return {
        "prefix": str(rng.choice(["", "stem.", "a.b."])),
        "width": int(rng.integers(2, 7)),
        "lacks_weight": str(rng.choice(["stem.0.bias", "block.1.weight"])),
        "lacks_statistic": str(rng.choice(["stem.1.running_var", "block.1.running_mean"])),
        "other_shape": str(rng.choice(["stem.1.weight", "block.1.running_mean"])),
        "seed": int(rng.integers(1000)),
    }


def draw_11_4(rng):
    """More words' features than seen classes, two unseen classes, strengths far apart."""
    classes = int(rng.integers(6, 9))
    words = rng.normal(size=(classes, int(rng.integers(6, 12))))
    rows = words @ rng.normal(size=(words.shape[1], 5)) + rng.normal(size=(classes, 5)) + 1
    return {
        "words": words,
        "rows": rows,
        "seen": rng.permutation(classes)[2:],
        "strength": float(rng.choice([0.01, 3.0, 100.0])),
    }


def draw_11_5(rng):
    """A single candidate, one that costs exactly the budget, several equal ones, scores below zero."""
    count, budget = int(rng.integers(1, 5)), 2.0
    costs = rng.permutation([2.0, 0.5, 3.0, 1.0][:count]).tolist()
    names = [f"net{index}" for index in range(count)]
    rows = rng.choice([-0.2, 0.1, 0.4], (2, count)).tolist()
    return {
        "candidates": [
            {"name": name, "multiply_adds": cost, "imagenet": float(rng.integers(60, 90))}
            for name, cost in zip(names, costs, strict=True)
        ],
        "budget": budget,
        "scores": {split: dict(zip(names, row, strict=True)) for split, row in zip(("val", "test"), rows, strict=True)},
    }
