"""What lesson 07 asks of pictures and of pixels, with which plans, and one drawn point again."""

import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.experiments import pixels
from tlcourse.experiments.lesson07_ranking import PIXELS
from tlcourse.experiments.pixels import (
    CLASSES,
    HEAD_LR,
    LABELS,
    LR,
    OPENED,
    QUESTIONS,
    SAMPLES,
    opening_plan,
    pasted_tasks,
)
from tlcourse.pasted import paste_digits
from tlcourse.plans import apply_plan, parameter_groups
from tlcourse.results import load_results
from tlcourse.segmentation import attach_dense_head

# opened -> the backbone's stages that move
MOVING = {
    "frozen": [],
    "last 4 blocks": ["block4", "block5", "block6", "block7"],
    "everything": ["stem", *(f"block{number}" for number in range(1, 8))],
}


@pytest.fixture(scope="module")
def tasks():
    return pasted_tasks(0)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(pixels, "SAMPLES", 200)
    monkeypatch.setattr(pixels, "LABELS", 60)
    monkeypatch.setattr(pixels, "EPOCHS", {"picture": 1, "pixels": 1})
    pasted_tasks.cache_clear()
    yield
    pasted_tasks.cache_clear()


def test_both_questions_are_about_the_same_pictures(tasks):
    for part in ("train", "val", "test"):
        picture, masks = (getattr(tasks[question], part) for question in QUESTIONS)
        assert torch.equal(picture.inputs, masks.inputs)
        pasted = getattr(paste_digits(samples=SAMPLES, classes=CLASSES, digits=(1, 1), labels=LABELS, seed=0), part)
        assert torch.equal(pasted.labels > 0, masks.labels == 1)
        for label, mask in zip(picture.labels, pasted.labels, strict=True):
            assert mask.unique().tolist() == [0, label + 1]
    assert len(tasks["picture"].train) == LABELS
    assert tasks["picture"].class_names == tuple("01234")[:CLASSES]
    assert tasks["pixels"].class_names == ("background", "digit")


@pytest.mark.parametrize("seed", PIXELS.seeds)
def test_every_mask_holds_its_digit_and_every_digit_occurs(seed):
    task = pasted_tasks(seed)["picture"]
    for split in (task.train, task.val, task.test):
        assert split.labels.unique().tolist() == list(range(CLASSES))


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(("opened", "stages"), MOVING.items())
def test_the_same_stages_are_opened_for_both_questions(lite0, tasks, question, opened, stages):
    attach = attach_dense_head if question == "pixels" else attach_head
    model = attach(lite0, tasks[question])
    plan = opening_plan(model, opened)
    apply_plan(model, plan)
    moving = [name for name in model.stages if name not in model.frozen_stages]
    neck = ["neck"] if question == "picture" and stages else []
    assert moving == [*stages, *neck, "head"]
    rates = {(group["stage"] == "head", group["lr"]) for group in parameter_groups(model, plan)}
    assert rates == ({(True, HEAD_LR), (False, LR)} if stages else {(True, HEAD_LR)})


def test_unknown_openings_are_refused(lite0, tasks):
    with pytest.raises(KeyError, match="ajar"):
        opening_plan(attach_head(lite0, tasks["picture"]), "ajar")


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_run_scores_the_test_pictures(few, one_thread, question):
    scores = pixels.run_pixels(question, "frozen", seed=3)
    assert set(scores) == {"score", "train_score"}
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores == pixels.run_pixels(question, "frozen", seed=3)
    assert scores != pixels.run_pixels(question, "everything", seed=3)


@pytest.mark.slow
def test_a_point_that_is_run_again_falls_among_the_kept_ones(one_thread):
    """Not close to its own seed, as `Kept.rerun` asks: another processor moves single runs at the usual rate far."""
    kept = load_results(PIXELS)
    setting, seed = kept.drawn()
    live = pixels.run_pixels(seed=seed, **setting)
    for metric in ("score", "train_score"):
        scores = kept.scores(metric, **setting)
        low, high = scores.prediction_interval(0.99)
        floor = 0.002 * abs(scores.mean)
        assert low - floor <= live[metric] <= high + floor, (metric, setting, seed)


def test_every_opening_is_kept_for_both_questions():
    kept = {(setting["question"], setting["opened"]) for setting in PIXELS.settings}
    assert kept == {(question, opened) for question in QUESTIONS for opened in OPENED}
