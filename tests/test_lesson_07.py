import pytest
import torch

from tests.lesson_functions import cut_out
from tlcourse.advice import rules
from tlcourse.backbones import attach_head
from tlcourse.experiments import digit_strategies, surface
from tlcourse.experiments.lesson07 import APART, DIGIT_STRATEGIES, DISTANCES, LABELS, SURFACE
from tlcourse.experiments.surface import (
    STRATEGIES,
    learn_source,
    run_apart,
    run_world,
    target_world,
    world_network,
    world_plan,
)
from tlcourse.plans import apply_plan
from tlcourse.results import load_results

MOVING = {  # strategy -> the first stage that its plan moves
    "last 2 stages": "conv4",
    "full fine-tuning": "conv1",
    "from scratch": "conv1",
}


@pytest.fixture
def small(monkeypatch):
    """Worlds and networks that are made in a second; nothing is kept of what others have learnt."""
    monkeypatch.setattr(surface, "SOURCE_SAMPLES", 300)
    monkeypatch.setattr(surface, "SOURCE_EPOCHS", 1)
    monkeypatch.setattr(surface, "TARGET_SAMPLES", 400)
    learn_source.cache_clear()
    yield
    learn_source.cache_clear()


def test_every_distance_asks_about_the_same_scenes(small):
    tasks = [target_world(distance, labels=30, seed=3) for distance in (0.0, 1.0)]
    for part in ("train", "val", "test"):
        near, far = (getattr(task, part) for task in tasks)
        assert torch.equal(near.index, far.index) and torch.equal(near.labels, far.labels)
        assert not torch.equal(near.inputs, far.inputs)
    assert tasks[0].val.labels.bincount().tolist() == [2] * 6
    assert len(tasks[0].train) == 30
    assert not set(tasks[0].train.index.tolist()) & set(tasks[0].test.index.tolist())


def test_the_source_has_other_glyphs_and_other_scenes_than_the_targets(small):
    source, target = surface.source_world(0), target_world(0.0, labels=30, seed=0)
    assert source.options["alphabet"] != target.options["alphabet"]
    assert not torch.equal(source.train.inputs[:6], target.train.inputs[:6])
    assert {key: source.options[key] for key in surface.WORLD} == {key: target.options[key] for key in surface.WORLD}


@pytest.mark.parametrize("strategy", MOVING)
def test_what_a_strategy_moves(strategy, small):
    model = attach_head(world_network(0), target_world(0.0, labels=30, seed=0))
    apply_plan(model, world_plan(model, strategy))
    moving = [name for name, stage in model.backbone.stages.items() if any(p.requires_grad for p in stage.parameters())]
    assert moving[0] == MOVING[strategy] and moving[-1] == "conv5"


def test_an_unknown_strategy_is_refused(small):
    with pytest.raises(KeyError, match="last stage"):
        run_world("last stage", 0.0, 30, seed=0)


def test_only_training_from_scratch_needs_no_source(small, monkeypatch):
    monkeypatch.setattr(surface, "learn_source", lambda seed: pytest.fail("the source was asked"))
    assert 0 <= run_world("from scratch", 1.0, 30, images=30, seed=0)["accuracy"] <= 1
    for strategy in STRATEGIES[:-1]:
        with pytest.raises(pytest.fail.Exception):
            run_world(strategy, 1.0, 30, images=30, seed=0)


def test_the_budget_counts_pictures_and_the_seed_draws_all(small, monkeypatch):
    epochs = []
    monkeypatch.setattr(surface, "train", lambda *args, **options: epochs.append(options["epochs"]))
    for labels, images in ((30, 60), (30, 70), (60, 30)):
        run_world("from scratch", 0.0, labels, images=images, seed=0)
    assert epochs == [2, 3, 1]


def test_a_run_repeats_itself_and_leaves_the_source_as_it_was(small):
    first = run_world("full fine-tuning", 0.5, 30, images=60, seed=1)
    kept = {name: value.clone() for name, value in learn_source(1).state_dict().items()}
    assert run_world("full fine-tuning", 0.5, 30, images=60, seed=1) == first
    assert all(torch.equal(value, kept[name]) for name, value in learn_source(1).state_dict().items())


def test_the_measured_distance_grows(small, monkeypatch):
    monkeypatch.setattr(surface, "COMPARED", 50)
    near, far = (run_apart(distance, seed=0) for distance in (0.0, 1.0))
    assert near["mmd"] < far["mmd"] and near["a_distance"] <= far["a_distance"]


def test_digits_from_scratch_start_from_random_weights(monkeypatch):
    asked = []
    real = digit_strategies.load_embedded
    monkeypatch.setattr(
        digit_strategies, "load_embedded", lambda name, **options: asked.append(options) or real(name, **options)
    )
    monkeypatch.setattr(digit_strategies, "train", lambda model, task, plan, **options: asked.append(plan.name))
    monkeypatch.setattr(digit_strategies, "evaluate", lambda model, split: {"accuracy": 0.5})
    for strategy in ("from scratch", "last 2 stages"):
        digit_strategies.run_digit_strategy(strategy, 50, seed=4)
    assert [each["pretrained"] for each in asked if isinstance(each, dict)] == [False, True]
    assert len({each for each in asked if isinstance(each, str)}) == 2


def test_the_grid_is_whole_and_pairs():
    kept = load_results(SURFACE)
    assert {(p["setting"]["distance"], p["setting"]["labels"]) for p in kept.points()} >= {
        (distance, labels) for distance in DISTANCES for labels in LABELS
    }


# labels, distance -> what the rules say of the worlds, by hand
RULED = {
    (30, 0.0): "probe",
    (30, 0.5): "probe",
    (30, 1.0): "probe",  # a vote each for the probe and for full fine-tuning: the cheaper one
    (300, 0.5): "last 2 stages",
    (300, 0.25): "probe",  # a vote each for the probe and the last stages: the cheaper one
    (3000, 1.0): "last 2 stages",
}


@pytest.mark.parametrize("cell", RULED)
def test_the_rules_are_told_what_the_lesson_says(cell):
    assert cut_out("07", "ruled", rules=rules)(cell) == RULED[cell]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [APART, DIGIT_STRATEGIES])
def test_a_kept_point_runs_again(experiment):
    assert load_results(experiment).rerun()
