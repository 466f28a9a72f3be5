"""Lesson 12: LoRA of several ranks beside full fine-tuning, on a language model: which points are kept."""

from tlcourse.experiments.languages import run_language
from tlcourse.results import Experiment

__all__ = ["LANGUAGE_RANKS", "RANKS"]

RANKS = (1, 4, 16, 64)

# Sizes and rates were looked for on seed 100, which is not among these.
LANGUAGE_RANKS = Experiment(
    "language_ranks",
    run_language,
    settings=(
        {"method": "full", "rank": None},
        *({"method": method, "rank": None} for method in ("small rate", "replay", "head")),
        *({"method": "LoRA", "rank": rank} for rank in RANKS),
    ),
    seeds=tuple(range(5)),
    data=("news", "minilm"),
)
