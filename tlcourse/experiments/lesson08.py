"""Lesson 08: news and then tweets at four rates, mono and then poly cells for some epochs: which points are kept."""

from tlcourse.experiments.two_tasks import run_cells, run_texts
from tlcourse.results import Experiment

__all__ = ["CELLS_IN_TURN", "POLY_EPOCHS", "TEXTS_IN_TURN", "TWEET_RATES"]

TWEET_RATES = (2e-5, 1e-4, 2e-4, 5e-4)
POLY_EPOCHS = (0, 1, 4, 12)

TEXTS_IN_TURN = Experiment(
    "texts_in_turn",
    run_texts,
    settings=tuple({"lr": lr} for lr in TWEET_RATES),
    seeds=tuple(range(5)),
    data=("news", "sentiment", "minilm"),
)

CELLS_IN_TURN = Experiment(
    "cells_in_turn",
    run_cells,
    settings=tuple({"epochs": epochs} for epochs in POLY_EPOCHS),
    seeds=tuple(range(10)),
    data=("solar", "efficientnet_lite0"),
)
