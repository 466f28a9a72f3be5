"""Lesson 07: the surface of strategies over labels and distance, and what a longer budget changes: which are kept."""

from tlcourse.experiments.digit_strategies import run_digit_strategy
from tlcourse.experiments.surface import IMAGES_SEEN, STRATEGIES, run_apart, run_world
from tlcourse.results import Experiment

__all__ = [
    "APART",
    "DIGIT_LABELS",
    "DIGIT_STRATEGIES",
    "DISTANCES",
    "LABELS",
    "LONGER",
    "LONGER_LABELS",
    "PAIRS",
    "SURFACE",
]

DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
LABELS = (30, 100, 300, 1000, 3000)
LONGER, LONGER_LABELS = 5 * IMAGES_SEEN, (300, 3000)
DIGIT_LABELS = (50, 500, 2000)
PAIRS = (100, 1000)  # labels of the worlds with two classes

# Sizes and rates were looked for on seeds 100 and 101.
SURFACE = Experiment(
    "surface",
    run_world,
    settings=(
        *(
            {"strategy": strategy, "distance": distance, "labels": labels, "classes": 6, "images": IMAGES_SEEN}
            for distance in DISTANCES
            for labels in LABELS
            for strategy in STRATEGIES
        ),
        *(
            {"strategy": strategy, "distance": 0.5, "labels": labels, "classes": 2, "images": IMAGES_SEEN}
            for labels in PAIRS
            for strategy in STRATEGIES
        ),
        *(
            {"strategy": strategy, "distance": 1.0, "labels": labels, "classes": 6, "images": LONGER}
            for labels in LONGER_LABELS
            for strategy in STRATEGIES[2:]
        ),
    ),
    seeds=tuple(range(5)),
    data=(),
)

APART = Experiment(
    "worlds_apart",
    run_apart,
    settings=tuple({"distance": distance} for distance in DISTANCES),
    seeds=SURFACE.seeds,
    data=(),
)

DIGIT_STRATEGIES = Experiment(
    "digit_strategies",
    run_digit_strategy,
    settings=tuple({"strategy": strategy, "labels": labels} for labels in DIGIT_LABELS for strategy in STRATEGIES),
    seeds=tuple(range(5)),
    data=("digits", "efficientnet_lite0"),
)
