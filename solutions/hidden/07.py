"""Hidden draws of 07_which_strategy, made by `make build`: more inputs, which only a grader tries."""

import numpy as np


def draw_07_1(rng):
    """The bounds and their neighbours with every kind of vote, a single label, very many."""
    similarity, complexity = ("near", "far", None), ("two classes", "several classes", "pixels")
    numbers = rng.permutation([1, 99, 100, 101, 9_999, 10_000, 10_001, 1_000_000]).tolist()
    cases = [[n, similarity[int(rng.integers(3))], complexity[int(rng.integers(3))]] for n in numbers]
    return {"cases": cases[:4], "bounds": cases[4:]}


def draw_07_2(rng):
    """Certain probabilities, where LEEP is NCE; one class of the source; as many classes as samples."""
    n, sources = int(rng.integers(2, 9)), int(rng.integers(1, 5))
    if rng.integers(2):
        probabilities = np.eye(sources)[rng.integers(sources, size=n)]
    else:
        probabilities = rng.dirichlet(np.ones(sources), size=n)
    labels = rng.permutation(n) * 3 if rng.integers(2) else np.where(np.arange(n) % 2, 7, 1)
    return {"probabilities": probabilities, "labels": labels}


def draw_07_3(rng):
    """Two cells, one seed, one number a cell, many strategies."""
    cells, strategies, seeds = int(rng.integers(2, 8)), int(rng.integers(2, 6)), int(rng.integers(1, 4))
    return {
        "cells": rng.normal(size=(cells, int(rng.integers(1, 4)))),
        "scores": rng.random((cells, strategies, seeds)),
    }


def draw_07_4(rng):
    """Two classes, a single image, an image of background only, nothing found at all."""
    shape, classes = (
        (int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(2, 6))),
        int(rng.integers(2, 6)),
    )
    masks = rng.integers(classes, size=shape) * rng.integers(2, size=shape)
    masks[0, 0, 0] = classes - 1
    masks[1:2] = 0
    predictions = [masks.copy(), np.zeros(shape, dtype=int), rng.integers(classes, size=shape)][int(rng.integers(3))]
    return {"masks": masks, "predictions": predictions, "classes": classes}


def draw_07_5(rng):
    """Two and three candidates, a perfect order, one that is the wrong way round, values below zero."""
    count = int(rng.integers(2, 6))
    scores = rng.normal(size=count)
    return {"scores": scores, "truths": [np.exp(scores), -scores, rng.permutation(count) - 1.0][int(rng.integers(3))]}
