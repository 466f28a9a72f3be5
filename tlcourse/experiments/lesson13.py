"""Lesson 13: what `transfer` chooses against what it could have chosen, on sets of 500: which points are kept."""

from tlcourse.experiments.choosing import run_choice
from tlcourse.results import Experiment
from tlcourse.trials import STRATEGIES

__all__ = ["CHOICES_CELLS", "CHOICES_TEXTS", "LARGEST_REGRET"]

LARGEST_REGRET = 0.02  # of balanced accuracy: the bar, set before anything was run

CHOICES_CELLS = Experiment(
    "choices_cells",
    run_choice,
    settings=tuple({"task": "solar", "strategy": strategy} for strategy in STRATEGIES),
    seeds=tuple(range(10)),
    data=("solar", "efficientnet_lite0"),
)

CHOICES_TEXTS = Experiment(
    "choices_texts",
    run_choice,
    settings=tuple({"task": "news", "strategy": strategy} for strategy in STRATEGIES),
    seeds=CHOICES_CELLS.seeds,
    data=("news", "minilm"),
)
