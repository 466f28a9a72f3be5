"""Lesson 01: reading a curve sideways, the budget that the lesson has no time to repeat, the picture in the README."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from PIL import Image

from tests.lesson_functions import cut_out
from tlcourse.experiments.lesson01 import BUDGETS, LEARNING_CURVE, REFERENCE, TRAINED_LABELS
from tlcourse.experiments.solar import epochs_for
from tlcourse.intervals import Scores
from tlcourse.results import load_results
from tools import readme_picture

# What a processor without more than AVX2 computes with, on any that has more.
AVX2 = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
}
# From scratch at 25, 200, 1,000 and 2,000 labels; the score asked for; the labels at which it is reached.
SIDEWAYS = [
    ((0.5, 0.7, 0.8, 0.9), 0.7, 200),
    ((0.5, 0.7, 0.8, 0.9), 0.6, 71),  # half way from 25 to 200 on the logarithm
    ((0.5, 0.7, 0.8, 0.9), 0.85, 1414),
    ((0.5, 0.7, 0.8, 0.9), 0.9, 2000),
    ((0.5, 0.7, 0.8, 0.9), 0.91, None),
    ((0.5, 0.7, 0.6, 0.9), 0.65, 119),  # a dip later does not undo that it was reached
    ((0.5, 0.6, 0.6, 0.6), 0.6, 200),
    ((0.5, 0.6, 0.6, 0.7), 0.4, 25),  # reached before the first point
]

# At 96 px: what the course's design expects, which the mean reaches or the interval holds.
DESIGN = [
    ("probe", 50, 0.73),
    ("probe", 200, 0.80),
    ("probe", 1000, 0.87),
    pytest.param(
        "full fine-tuning",
        1000,
        0.905,
        marks=pytest.mark.xfail(
            strict=True, reason="measured 0.890 [0.878, 0.903] over 10 seeds: the bar is missed, and the lesson says so"
        ),
    ),
]


@pytest.mark.parametrize(("curve", "score", "expected"), SIDEWAYS)
def test_labels_are_read_off_sideways(curve, score, expected):
    # The seeds are out of order on purpose: a curve belongs to a seed, not to a place in the list.
    points = {n: Scores((0.0, score_at_n), seeds=(7, 3)) for n, score_at_n in zip(TRAINED_LABELS, curve, strict=True)}
    labels_needed = cut_out("01", "labels_needed", pairwise=pairwise, curves={"from scratch": points})
    assert labels_needed(score, "from scratch", 3) == expected


def test_the_lesson_says_the_budget_that_the_experiment_gives():
    assert [epochs_for(labels) for labels in TRAINED_LABELS] == [40, 20, 4, 2]
    assert [setting["epochs"] * setting["labels"] for setting in BUDGETS.settings] == [1000, 8000]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("experiment", [BUDGETS, REFERENCE], ids=lambda experiment: experiment.name)
def test_a_point_can_be_made_again(experiment):
    """With the instructions that made it: another processor's last digits move fine-tuning at the usual rate far.

    The lesson re-runs a point of the learning curve; one of these too could take it over its four minutes.
    """
    assert [maker["cpu_capability"] for maker in load_results(experiment).made_by] == ["AVX2"]
    program = (
        f"from tlcourse.experiments.lesson01 import {experiment.name.upper()} as experiment\n"
        "from tlcourse.results import load_results\n"
        "print(*load_results(experiment).rerun())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **AVX2}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {"auc", "images"} <= set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(("strategy", "labels", "expected"), DESIGN)
def test_the_scores_at_96_pixels_reach_what_the_design_expects(strategy, labels, expected):
    scores = load_results(REFERENCE).scores("auc", strategy=strategy, labels=labels)
    assert scores.interval()[1] >= expected


def test_the_picture_in_the_readme_is_of_the_kept_results():
    with Image.open(readme_picture.PICTURE) as picture:
        assert picture.text[readme_picture.MARK] == readme_picture.mark(), "run: python -m tools.readme_picture"


def test_the_picture_shows_every_kept_point():
    drawn = readme_picture.curves(load_results(LEARNING_CURVE))
    assert sum(len(curve) for curve in drawn.values()) == len(LEARNING_CURVE.settings)
