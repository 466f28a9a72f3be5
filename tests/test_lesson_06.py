"""Lesson 06: the strategies of its experiment, and which points are kept."""

import pytest
import torch

from tlcourse.backbones import attach_head, load_backbone
from tlcourse.data import make_task
from tlcourse.experiments.lesson06 import NEWS, RATES, USUAL_RATE
from tlcourse.experiments.texts import EPOCHS, HEAD_LR, MAX_LENGTH, text_schedule
from tlcourse.masked import Masked
from tlcourse.plans import describe_plan
from tlcourse.results import load_results

# Strategy, rate: how many plans, epochs in all at 100 labels, the stages that the last plan moves.
LAYERS = [f"layer{number}" for number in range(1, 7)]
EVERYTHING = {"embeddings", *LAYERS, "head"}
SCHEDULES = [
    ("feature extraction", None, 1, 8, {"head"}),
    ("last stages", 5e-5, 1, 8, {"layer5", "layer6", "head"}),
    ("full fine-tuning", 5e-5, 1, 8, EVERYTHING),
    ("discriminative", None, 1, 8, EVERYTHING),
    ("gradual unfreezing", None, 8, 8, EVERYTHING),
]


@pytest.fixture(scope="module")
def model():
    tokens = Masked(torch.ones(10, 4, dtype=torch.int64), torch.ones(10, 4, dtype=torch.bool))
    task = make_task("lines", tokens, torch.arange(10) % 2, class_names=("a", "b"), preprocessing_name="minilm")
    return attach_head(load_backbone("minilm", pretrained=False), task)


@pytest.mark.parametrize(("strategy", "lr", "plans", "epochs", "moving"), SCHEDULES)
def test_a_strategy_moves_what_its_name_says(strategy, lr, plans, epochs, moving, model):
    schedule = text_schedule(model, strategy, lr, EPOCHS[100])
    assert (len(schedule), sum(length for _, length in schedule)) == (plans, epochs)
    rows = {row["stage"]: row for row in describe_plan(model, schedule[-1][0])}
    assert {stage for stage, row in rows.items() if row["trainable"]} == moving
    assert rows["head"]["lr"] == [HEAD_LR]
    if lr is not None:
        assert {rate for stage in moving - {"head"} for rate in rows[stage]["lr"]} == {lr}


def test_an_unknown_strategy_is_refused(model):
    with pytest.raises(KeyError, match="thawing"):
        text_schedule(model, "thawing", 1e-3, 1)


def test_the_experiment_has_the_points_that_the_lesson_reads():
    full = [setting for setting in NEWS.settings if setting["strategy"] == "full fine-tuning"]
    assert {setting["labels"] for setting in full if setting["lr"] == USUAL_RATE} == set(EPOCHS)
    assert {setting["lr"] for setting in full if setting["labels"] == 100} == set(RATES)
    assert (MAX_LENGTH, NEWS.seeds) == (32, tuple(range(10)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_point_can_be_made_again():
    assert load_results(NEWS).rerun()
