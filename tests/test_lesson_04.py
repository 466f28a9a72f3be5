"""Lesson 04: the plans and budgets of its experiments, and which points are kept."""

import math

import pytest

from tlcourse.backbones import attach_head, load_backbone
from tlcourse.data import load_task
from tlcourse.experiments import fine_tuning
from tlcourse.experiments.fine_tuning import EPOCHS, HEAD_EPOCHS, IMAGES_SEEN, MONO_LABELS, depth_plan, run_depth
from tlcourse.experiments.lesson04 import DEPTH, LABELS, RATES, SHIFT
from tlcourse.plans import parameter_groups
from tlcourse.results import load_results

# Strategy, rate; how many stages move, the lowest rate, the highest.
PLANS = [
    ("feature extraction", None, 1, 1e-3, 1e-3),
    ("last 2 stages", 1e-5, 3, 1e-5, 1e-3),
    ("last 5 stages", 1e-4, 6, 1e-4, 1e-3),
    ("full fine-tuning", 1e-4, 10, 1e-4, 1e-3),
    ("discriminative", 1e-5, 10, 1e-5, 1e-3),
]


@pytest.fixture(scope="module")
def model():
    return attach_head(load_backbone("efficientnet_lite0", pretrained=False), load_task("digits8", labels=20))


@pytest.mark.parametrize(("strategy", "lr", "count", "lowest", "highest"), PLANS)
def test_a_name_stands_for_its_plan(model, strategy, lr, count, lowest, highest):
    groups = parameter_groups(model, depth_plan(model, strategy, lr))
    rates = {group["stage"]: group["lr"] for group in groups}
    assert len(rates) == count
    assert rates["head"] == pytest.approx(highest)
    assert min(rates.values()) == pytest.approx(lowest)
    assert {group["weight_decay"] for group in groups} == {0.0, fine_tuning.DECAY}


def test_unknown_strategies_are_refused(model):
    with pytest.raises(KeyError, match="wishful thinking"):
        depth_plan(model, "wishful thinking")


def test_every_size_sees_the_same_images():
    assert [round(IMAGES_SEEN / labels) * labels for labels in LABELS] == [IMAGES_SEEN] * len(LABELS)
    # "20 passes over 100 labels or 4 passes over 500", 64 steps, head epochs that LP-FT has on top
    assert [round(IMAGES_SEEN / labels) for labels in LABELS] == [20, 4]
    assert 4 * math.ceil(500 / 32) == 64
    assert (HEAD_EPOCHS, EPOCHS, MONO_LABELS) == (20, 4, 500)


def test_the_kept_settings_are_those_that_the_lesson_compares():
    rates = {}
    for setting in DEPTH.settings:
        rates.setdefault((setting["strategy"], setting["labels"]), []).append(setting["lr"])
    assert len(rates) == len(PLANS) * len(LABELS)
    assert rates["last 2 stages", 500] == list(RATES)
    assert {setting["lr"] for setting in SHIFT.settings if setting["strategy"] == "LP-FT"} == {1e-4, 1e-3}


def test_the_seed_decides_a_run(monkeypatch):
    monkeypatch.setattr(fine_tuning, "IMAGES_SEEN", 25)
    first, again, other = (run_depth("feature extraction", 25, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first["log_loss"] != other["log_loss"]
    assert set(first) == {"auc", "balanced_accuracy", "log_loss", "train_auc", "images"}
    assert first["images"] == 25


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("experiment", [DEPTH, SHIFT], ids=lambda experiment: experiment.name)
def test_a_point_can_be_made_again(experiment):
    assert load_results(experiment).rerun()
