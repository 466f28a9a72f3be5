"""Lesson 04: depth, rate and labels; the recipe's statistics; LP-FT from mono to poly cells: which points are kept."""

from tlcourse.experiments.fine_tuning import run_depth, run_shift
from tlcourse.experiments.recipe import run_recipe
from tlcourse.results import Experiment

__all__ = ["DEPTH", "LABELS", "RATES", "RECIPE", "SHIFT"]

LABELS = (100, 500)
RATES = (1e-5, 1e-4, 1e-3)

DEPTH = Experiment(
    "depth",
    run_depth,
    settings=tuple(
        {"strategy": strategy, "labels": labels, "lr": lr}
        for labels in LABELS
        for strategy, rates in (
            ("feature extraction", (None,)),
            ("last 2 stages", RATES),
            ("last 5 stages", RATES[1:]),
            ("full fine-tuning", RATES[1:]),
            ("discriminative", (1e-5,)),
        )
        for lr in rates
    ),
    seeds=tuple(range(10)),
    data=("solar", "efficientnet_lite0"),
)

# The question arose from seeds below 20, so these are fresh.
RECIPE = Experiment(
    "recipe",
    run_recipe,
    settings=({"norm": "train"}, {"norm": "affine"}),
    seeds=tuple(range(20, 25)),
    data=("solar", "efficientnet_lite0"),
)

SHIFT = Experiment(
    "shift",
    run_shift,
    settings=(
        {"strategy": "linear probing", "lr": None},
        *({"strategy": strategy, "lr": lr} for strategy in ("full fine-tuning", "LP-FT") for lr in RATES[1:]),
    ),
    seeds=tuple(range(16)),
    data=("solar", "efficientnet_lite0"),
)
