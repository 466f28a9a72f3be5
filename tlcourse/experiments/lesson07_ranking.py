"""Lesson 07, two of its parts: candidates ranked before training, pixels against pictures; which points are kept."""

from tlcourse.experiments.pixels import OPENED, QUESTIONS, run_pixels
from tlcourse.experiments.ranking import CUTS, SOURCES, TRUTH, UNTRAINED, run_foretold, run_tuned
from tlcourse.results import Experiment

__all__ = ["FORETOLD", "PIXELS", "TUNED_ON_CELLS", "TUNED_ON_DIGITS"]

# Candidate by candidate, not target by target: a small network is trained on its source once and kept for the next.
FORETOLD = Experiment(
    "ranking_foretold",
    run_foretold,
    settings=tuple({"name": name, "target": target} for name in (*CUTS, *UNTRAINED, *SOURCES) for target in TRUTH),
    seeds=tuple(range(5)),
    data=("solar", "digits", "efficientnet_lite0"),
)

TUNED_ON_DIGITS = Experiment(
    "ranking_digits",
    run_tuned,
    settings=tuple({"name": name, "target": "digits"} for name in (*CUTS, *UNTRAINED, *SOURCES)),
    seeds=tuple(range(5)),
    data=("digits", "efficientnet_lite0"),
)

# A fine-tune on solar cells takes several times as long: there only the cuts are tuned.
TUNED_ON_CELLS = Experiment(
    "ranking_cells",
    run_tuned,
    settings=tuple({"name": name, "target": "solar"} for name in CUTS),
    seeds=tuple(range(5)),
    data=("solar", "efficientnet_lite0"),
)

PIXELS = Experiment(
    "pixels",
    run_pixels,
    settings=tuple({"question": question, "opened": opened} for question in QUESTIONS for opened in OPENED),
    seeds=tuple(range(5)),
    data=("solar", "digits", "efficientnet_lite0"),
)
