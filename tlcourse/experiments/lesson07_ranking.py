"""Lesson 07, two of its parts: candidates ranked before training, pixels against pictures; which points are kept."""

from tlcourse.experiments.pixels import OPENED, QUESTIONS, run_pixels
from tlcourse.experiments.ranking import CUTS, SOURCES, TRUTH, UNTRAINED, run_candidate
from tlcourse.results import Experiment

__all__ = ["PIXELS", "RANKING"]

# Candidate by candidate, not target by target: a small network is trained on its source once and kept for the next.
# A fine-tune on solar cells takes six times as long as one on digits: there a probe has to do. Seeds 0 to 3 were seen
# while the protocol was still changing, so these are fresh.
RANKING = Experiment(
    "ranking",
    run_candidate,
    settings=tuple(
        {"name": name, "target": target, "tuned": target == "digits"}
        for name in (*CUTS, *UNTRAINED, *SOURCES)
        for target in TRUTH
    ),
    seeds=tuple(range(5, 10)),
    data=("solar", "digits", "efficientnet_lite0"),
)

PIXELS = Experiment(
    "pixels",
    run_pixels,
    settings=tuple({"question": question, "opened": opened} for question in QUESTIONS for opened in OPENED),
    seeds=tuple(range(5)),
    data=("solar", "digits", "efficientnet_lite0"),
)
