"""Hidden draws of 06_transfer_in_text, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_06_1(rng):
    """No padding at all, a single text, a text of one token, values of both signs, large padding."""
    texts, width = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    lengths = np.full(texts, width) if rng.integers(2) else rng.integers(1, width + 1, texts)
    mask = np.arange(width) < lengths[:, None]
    values = rng.normal(size=(texts, width, 5))
    return {"values": np.where(mask[:, :, None], values, 1e3 * values).astype(np.float32), "mask": mask}


def draw_06_2(rng):
    """No padding, texts of one token, wider vectors, large scores."""
    texts, width, features = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 9))
    lengths = np.full(texts, width) if rng.integers(2) else rng.integers(1, width + 1, texts)
    size = float(rng.choice([0.1, 1.0, 3.0]))
    named = {
        name: (size * rng.normal(size=(texts, width, features))).astype(np.float32)
        for name in ("query", "key", "value")
    }
    return {**named, "mask": np.arange(width) < lengths[:, None]}


def draw_06_3(rng):
    """Batches that fit exactly, many texts of one length, batches of one text."""
    size, batches = int(rng.integers(1, 5)), int(rng.integers(6, 10))
    return {
        "lengths": rng.integers(2, 6, size * batches).tolist(),
        "batch_size": size,
        "seeds": rng.choice(10_000, 8, replace=False).tolist(),
    }


def draw_06_4(rng):
    """One sample a class, far more of one class than of others, a single query, features far from zero."""
    each = np.array([1, 1, 1]) if rng.integers(2) else np.array([1, 2, 9])
    return {
        "features": rng.normal(size=(each.sum(), 6)) + 1,
        "labels": rng.permutation(np.repeat(np.arange(3), each)),
        "queries": rng.normal(size=(int(rng.choice([1, 5])), 6)),
    }


def draw_06_5(rng):
    """A single gradient, gradients of both signs, many steps, sizes far apart."""
    count = int(rng.choice([1, 3, 40]))
    sizes = rng.uniform(0.5, 2.0, count) * rng.choice([-1, 1], count) * rng.choice([0.01, 1.0, 100.0], count)
    return {"gradients": sizes.tolist()}
