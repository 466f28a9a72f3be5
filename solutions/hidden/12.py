"""Hidden draws of 12_adapters_and_large_models, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_12_1(rng):
    """Rank one, a rank above both sides, texts of several tokens, an alpha that is no whole number."""
    rank, inputs, outputs = int(rng.choice([1, 6])), int(rng.integers(2, 5)), int(rng.integers(1, 5))
    return {
        "x": (0.1 + rng.random(size=(2, int(rng.integers(1, 4)), inputs))).astype(np.float32),
        "A": rng.normal(size=(rank, inputs)).astype(np.float32),
        "B": rng.normal(size=(outputs, rank)).astype(np.float32),
        "alpha": float(rng.choice([0.5, 1.0, 3.0])),
        "bias": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


def draw_12_2(rng):
    """A base in float32, rank one, a change so small that rounding takes all of it."""
    rank, outputs, inputs = int(rng.choice([1, 2, 8])), int(rng.integers(1, 6)), int(rng.integers(1, 6))
    size = float(rng.choice([2.0**-12, 0.25]))
    return {
        "weight": (rng.integers(65, 128, (outputs, inputs)) / 64).astype(np.float32),
        "A": rng.choice([-2.0, -1.0, 1.0, 3.0], size=(rank, inputs)).astype(np.float32),
        "B": (size * rng.choice([1.0, 3.0, 5.0], size=(outputs, 1)) * (np.arange(rank) == 0)).astype(np.float32),
        "alpha": float(rank),
        "dtype": str(rng.choice(["bfloat16", "float32"])),
    }


def draw_12_3(rng):
    """No head, one layer, budgets that are met to the byte, and nothing but the head."""
    layers = [[int(side) for side in rng.integers(1, 9, 2)] for _ in range(int(rng.integers(1, 4)))]
    head = int(rng.integers(0, 3))
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = 16 * sum(i + o for i, o in layers)
    return {"layers": layers, "head": head, "scarce": [fixed, fixed + each, fixed + each - 1], "ample": [10**9]}


def draw_12_4(rng):
    """Texts of one token, a batch without any prediction, no padding at all, a single batch."""
    vocabulary, batches = int(rng.integers(2, 6)), []
    for number in range(int(rng.integers(1, 4))):
        texts, length = int(rng.integers(1, 4)), int(rng.integers(2, 5))
        lengths = np.full(texts, length) if number == 0 else rng.integers(1, length + 1, texts)
        lengths = np.ones(texts, dtype=int) if number == 1 else lengths
        logits = (3 * rng.normal(size=(texts, length, vocabulary))).astype(np.float32)
        tokens = rng.integers(vocabulary, size=(texts, length))
        batches.append({"logits": logits, "tokens": tokens, "mask": np.arange(length) < lengths[:, None]})
    return {"batches": batches}


def draw_12_5(rng):
    """One number a word, two words, the same word twice."""
    vocabulary = int(rng.integers(2, 9))
    return {
        "vocabulary": vocabulary,
        "width": int(rng.integers(1, 6)),
        "tokens": rng.integers(vocabulary, size=4),
        "next_tokens": rng.integers(vocabulary, size=4),
        "seed": int(rng.integers(1000)),
    }
