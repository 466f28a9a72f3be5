"""Lesson 05: ULMFiT's recipe and all that is left of it when parts are taken away: which points are kept."""

from tlcourse.experiments.unfreezing import FACTORS, run_recipe
from tlcourse.results import Experiment

__all__ = ["RECIPES"]

RECIPES = Experiment(
    "recipes",
    run_recipe,
    settings=tuple(
        {"opening": opening, "rates": rates, "schedule": schedule}
        for opening in ("gradual", "at once")
        for rates in FACTORS
        for schedule in ("slanted triangular", "constant")
        if rates != "2.6 cubed in all" or schedule == "slanted triangular"
    ),
    seeds=tuple(range(5)),
    data=("solar", "efficientnet_lite0"),
)
