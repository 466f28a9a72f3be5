import copy
import math

import numpy as np
import pytest
import torch

from tlcourse.forgetting import forgetting_scores

NAN = math.nan
# By hand. The best score of task 0 came after task 1; task 1 got better in the end, so its forgetting is negative.
SEQUENCE = [[0.8, 0.3, 0.2], [0.9, 0.6, 0.4], [0.5, 0.7, 1.0]]
BASELINES = [0.1, 0.2, 0.5]
BY_HAND = {
    "accuracy": (0.5 + 0.7 + 1.0) / 3,
    "learning_accuracy": (0.8 + 0.6 + 1.0) / 3,
    "forgetting": ((0.9 - 0.5) + (0.6 - 0.7)) / 2,
    "backward_transfer": ((0.5 - 0.8) + (0.7 - 0.6)) / 2,
    "forward_transfer": ((0.3 - 0.2) + (0.4 - 0.5)) / 2,
}
IMPROVING = [[0.5, 0.0], [0.75, 1.0]]
REFUSED = [  # R, baselines, words
    ([[1.0, 2.0]], None, r"R is \(1, 2\)"),
    ([1.0, 2.0], None, r"R is \(2,\)"),
    (np.zeros((2, 2, 2)), None, r"R is \(2, 2, 2\)"),
    (np.zeros((0, 0)), None, r"R is \(0, 0\)"),
    ([[1.0, 0.0], [NAN, 1.0]], None, r"R\[1, 0\] is nan"),
    ([[math.inf, 0.0], [0.0, 1.0]], None, r"R\[0, 0\] is inf"),
    (SEQUENCE, [0.1, 0.2], r"baselines are \(2,\); one for each of 3 task"),
    (SEQUENCE, 0.1, r"baselines are \(\)"),
    ([[1.0, NAN], [0.0, 1.0]], [0.0, 0.0], r"R\[0, 1\] is nan"),
    (SEQUENCE, [0.1, 0.2, NAN], r"baselines\[2\] is nan"),
]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_scores_are_those_computed_by_hand(kind):
    assert forgetting_scores(kind(SEQUENCE), baselines=kind(BASELINES)) == pytest.approx(BY_HAND, abs=1e-6)


def test_without_baselines_there_is_no_forward_transfer():
    assert forgetting_scores(SEQUENCE) == pytest.approx({k: BY_HAND[k] for k in BY_HAND if k != "forward_transfer"})


def test_a_task_that_gets_better_has_negative_forgetting():
    scores = forgetting_scores(IMPROVING)
    assert (scores["forgetting"], scores["backward_transfer"]) == (-0.25, 0.25)


def test_what_lies_above_the_diagonal_counts_for_forward_transfer_alone():
    lower = [[value if j <= i else NAN for j, value in enumerate(row)] for i, row in enumerate(SEQUENCE)]
    high = [[value if j <= i else 1.0 for j, value in enumerate(row)] for i, row in enumerate(SEQUENCE)]
    assert forgetting_scores(lower) == forgetting_scores(high) == forgetting_scores(SEQUENCE)
    first = copy.deepcopy(SEQUENCE)
    first[0][2] = NAN  # forward transfer takes the score right before each task
    assert forgetting_scores(first, baselines=[NAN, 0.2, 0.5]) == pytest.approx(BY_HAND)


def test_one_task_forgets_nothing_that_could_be_averaged():
    scores = forgetting_scores([[0.75]], baselines=[0.5])
    assert scores["accuracy"] == scores["learning_accuracy"] == 0.75
    assert all(math.isnan(scores[name]) for name in ("forgetting", "backward_transfer", "forward_transfer"))


def test_the_inputs_stay():
    R, baselines = np.array(SEQUENCE), np.array(BASELINES)
    forgetting_scores(R, baselines=baselines)
    assert R.tolist() == SEQUENCE
    assert baselines.tolist() == BASELINES


@pytest.mark.parametrize(("R", "baselines", "words"), REFUSED)
def test_what_cannot_be_scored_is_refused(R, baselines, words):
    with pytest.raises(ValueError, match=words):
        forgetting_scores(R, baselines=baselines)
