"""Lesson 02: the grafts of Yosinski et al. 2014 on digits: which points are kept."""

from tlcourse.experiments.grafting import run_graft
from tlcourse.results import Experiment

__all__ = ["GRAFTS"]

GRAFTS = Experiment(
    "grafts",
    run_graft,
    settings=(
        {"name": "B"},
        *({"name": f"{donor}{stages}B"} for stages in range(1, 6) for donor in "AB"),
        *({"name": f"{donor}{stages}B+"} for stages in (3, 5) for donor in "AB"),
    ),
    seeds=tuple(range(10)),
    data=("digits",),
)
