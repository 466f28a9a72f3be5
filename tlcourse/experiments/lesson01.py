"""Lesson 01: what pre-training is worth, in labels and in compute, on solar cells: which points are kept."""

from tlcourse.experiments.solar import PRETRAINED, PROBES, run_strategy
from tlcourse.results import Experiment

__all__ = ["BUDGETS", "LABELS", "LEARNING_CURVE", "REFERENCE", "TRAINED_LABELS"]

LABELS = (25, 50, 200, 1000, 2000)
TRAINED_LABELS = (25, 200, 1000, 2000)  # training the whole network costs minutes a point: one size fewer
# Five at first. They left more than a third of the lesson's claims inconclusive, so five more were added, once.
SEEDS = tuple(range(10))

LEARNING_CURVE = Experiment(
    "learning_curve",
    run_strategy,
    settings=tuple(
        {"strategy": strategy, "labels": labels}
        for strategy in PRETRAINED
        for labels in (LABELS if strategy in PROBES else TRAINED_LABELS)
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)

BUDGETS = Experiment(
    "budgets",
    run_strategy,
    settings=(
        {"strategy": "full fine-tuning", "labels": 1000, "epochs": 1},
        {"strategy": "from scratch", "labels": 1000, "epochs": 8},
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)

REFERENCE = Experiment(
    "reference",
    run_strategy,
    settings=(
        *({"strategy": "probe", "labels": labels, "size": 96} for labels in (50, 200, 1000)),
        {"strategy": "full fine-tuning", "labels": 1000, "epochs": 8, "size": 96},
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)
