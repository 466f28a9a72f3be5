"""Experiments that need longer than their lesson has: made by ``make experiments``, kept under ``results/``."""

from tlcourse.experiments.lesson01 import BUDGETS, LEARNING_CURVE, REFERENCE
from tlcourse.experiments.lesson02 import GRAFTS
from tlcourse.experiments.lesson04 import DEPTH, RECIPE, SHIFT
from tlcourse.experiments.lesson05 import RECIPES
from tlcourse.experiments.lesson06 import NEWS
from tlcourse.experiments.lesson07 import APART, DIGIT_STRATEGIES, SURFACE
from tlcourse.experiments.lesson07_ranking import PIXELS, RANKING
from tlcourse.experiments.lesson08 import CELLS_IN_TURN, TEXTS_IN_TURN
from tlcourse.experiments.lesson09 import REMEDIES_CHOSEN, REMEDIES_COMPARED
from tlcourse.experiments.lesson10 import DECADES, HELD_TEXTS, THREE_SCENARIOS
from tlcourse.experiments.lesson12 import LANGUAGE_RANKS
from tlcourse.experiments.lesson13 import CHOICES_CELLS, CHOICES_TEXTS

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (
    LEARNING_CURVE,
    BUDGETS,
    REFERENCE,
    GRAFTS,
    DEPTH,
    RECIPE,
    SHIFT,
    RECIPES,
    NEWS,
    SURFACE,
    APART,
    DIGIT_STRATEGIES,
    RANKING,
    PIXELS,
    TEXTS_IN_TURN,
    CELLS_IN_TURN,
    REMEDIES_COMPARED,
    REMEDIES_CHOSEN,
    THREE_SCENARIOS,
    DECADES,
    HELD_TEXTS,
    LANGUAGE_RANKS,
    CHOICES_CELLS,
    CHOICES_TEXTS,
)
