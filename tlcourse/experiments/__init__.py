"""Experiments that need longer than their lesson has: made by ``make experiments``, kept under ``results/``."""

from tlcourse.experiments.lesson01 import BUDGETS, LEARNING_CURVE, REFERENCE

__all__ = ["EXPERIMENTS"]

EXPERIMENTS = (LEARNING_CURVE, BUDGETS, REFERENCE)
