"""Lesson 04: its experiments, the functions that it writes by hand, and what its prose says about the code."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.lesson_functions import cut_out
from tlcourse.backbones import attach_head
from tlcourse.data import load_task
from tlcourse.experiments import fine_tuning, recipe
from tlcourse.experiments.fine_tuning import EPOCHS, HEAD_EPOCHS, IMAGES_SEEN, MONO_LABELS, depth_plan, run_depth
from tlcourse.experiments.lesson04 import DEPTH, LABELS, RATES, RECIPE, SHIFT
from tlcourse.experiments.recipe import run_recipe
from tlcourse.memory import training_memory
from tlcourse.norms import is_batch_norm
from tlcourse.plans import apply_plan, describe_plan, parameter_groups
from tlcourse.rates import warmup_cosine
from tlcourse.results import load_results
from tlcourse.strategies import last_stages, lp_ft, norm_only
from tlcourse.zoo import load_backbone

# Strategy, rate; how many stages move, the lowest rate, the highest.
PLANS = [
    ("feature extraction", None, 1, 1e-3, 1e-3),
    ("last 2 stages", 1e-5, 3, 1e-5, 1e-3),
    ("last 5 stages", 1e-4, 6, 1e-4, 1e-3),
    ("full fine-tuning", 1e-4, 10, 1e-4, 1e-3),
    ("discriminative", 1e-5, 10, 1e-5, 1e-3),
]

# What is changed in a copy of a small network; children with a moved parameter, and with a moved buffer.
MOVES = [
    ((), [], []),
    (("0.weight",), ["0"], []),
    (("1.running_mean",), [], ["1"]),
    (("1.bias", "1.num_batches_tracked", "2.bias"), ["1", "2"], ["1"]),
]

# Weights before and after, which are chosen; length of the change over the length that was there.
DISTANCES = [
    ((3.0, 4.0), (3.0, 4.0), 0.0),
    ((3.0, 4.0), (6.0, 8.0), 1.0),
    ((3.0, 4.0), (3.0, 4.5), 0.1),
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


@pytest.mark.parametrize(("norm", "held"), [("train", False), ("affine", True)])
def test_the_recipe_moves_two_stages_and_holds_their_statistics_if_asked(monkeypatch, norm, held):
    trained = []
    monkeypatch.setattr(recipe, "train", lambda model, task, plan, **named: trained.append((model, plan, named)))
    assert set(run_recipe(norm, seed=20)) == {"auc"}
    ((model, plan, named),) = trained
    assert (named["epochs"], named["seed"]) == (4, 20)
    assert {g["stage"]: g["lr"] for g in parameter_groups(model, plan)} == {"block7": 1e-5, "neck": 1e-5, "head": 1e-3}
    apply_plan(model, plan)
    model.train()
    follow = {
        stage: {layer.training for layer in model.stages[stage].modules() if is_batch_norm(layer)}
        for stage in ("stem", "block6", "block7", "neck")
    }
    assert follow == {"stem": {False}, "block6": {False}, "block7": {not held}, "neck": {not held}}
    # The points that made us ask are of other seeds.
    assert not set(RECIPE.seeds) & (set(DEPTH.seeds) | set(SHIFT.seeds))


def test_a_norm_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="no normalisation policy 'moving'"):
        run_recipe("moving", seed=20)


def test_groups_by_hand_are_those_of_the_plan(model):
    as_set = cut_out("04", "as_set")
    groups = cut_out("04", "groups_by_hand")(model)
    plan = last_stages(model, 2, lr=1e-5, head_lr=1e-3, decay=1e-4)
    assert as_set(groups) == as_set(parameter_groups(model, plan))
    groups[0]["lr"] = 1e-4
    assert as_set(groups) != as_set(parameter_groups(model, plan))


@pytest.mark.parametrize(("changed", "parameters", "buffers"), MOVES)
def test_what_moved_is_found_by_child(changed, parameters, buffers):
    before, after = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)) for _ in range(2))
    after.load_state_dict(before.state_dict())
    for name in changed:
        after.state_dict()[name].add_(1)
    assert cut_out("04", "moved_children", torch=torch)(before, after) == (parameters, buffers)


@pytest.mark.parametrize(("old", "new", "expected"), DISTANCES)
def test_distance_is_relative_and_of_the_chosen_tensors(old, new, expected):
    class Network:
        def __init__(self, values):
            part = nn.Linear(2, 1)
            part.weight.data = torch.tensor([values])
            self.stages = {"stem": nn.Linear(2, 1), "block7": part, "neck": nn.Identity()}

    # The biases are drawn, so the result would depend on them if they were not left out.
    found = cut_out("04", "distance", math=math)(Network(old), Network(new), lambda name, tensor: tensor.dim() > 1)
    assert found == pytest.approx(expected)


def test_one_cosine_leaves_the_second_phase_its_tail(model):
    (_, head_epochs), (_, epochs) = lp_ft(model, head_epochs=HEAD_EPOCHS, epochs=EPOCHS)
    steps = math.ceil(MONO_LABELS / 32)
    factors = np.array([warmup_cosine(step, (head_epochs + epochs) * steps) for step in range(24 * steps)])
    # "less than a tenth of it"
    assert factors[head_epochs * steps :].max() < 0.1
    assert factors[head_epochs * steps :].sum() < 0.1 * sum(warmup_cosine(step, 64) for step in range(64))


def test_the_recipe_of_resnet_is_its_last_stage_with_parameters():
    resnet = attach_head(load_backbone("resnet50", pretrained=False), load_task("digits8", labels=20))
    moving = {group["stage"] for group in parameter_groups(resnet, last_stages(resnet, 1))}
    assert moving == {"layer4", "head"}


def test_what_the_prose_says_of_few_parameters_and_much_work():
    task = load_task("solar", labels=50, size=64)
    model, example = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task), task.train.inputs[:1]
    few, deep = last_stages(model, 2), norm_only(model)
    moving = {plan.name: sum(row["trainable"] for row in describe_plan(model, plan)) for plan in (few, deep)}
    assert 20 < moving[few.name] / moving[deep.name] < 30
    work = [sum(row["backward"] for row in describe_plan(model, plan, example=example)) for plan in (few, deep)]
    assert work[0] < work[1] == pytest.approx(0.5, abs=0.05)
    held = [training_memory(model, plan, example, batch_size=4) for plan in (few, deep)]
    assert held[0].activations < held[1].activations


def test_what_the_lesson_takes_away_from_the_kept_points():
    kept = load_results(DEPTH)

    def mean(metric, labels, lr, strategy):
        return kept.scores(metric, strategy=strategy, labels=labels, lr=lr).mean

    opened = [(s["lr"], s["strategy"]) for s in DEPTH.settings if s["labels"] == 100 and s["lr"] is not None]
    # "with 100 labels nothing that we opened had a higher mean AUC ..., and all of it had a worse log-loss"
    frozen = {metric: mean(metric, 100, None, "feature extraction") for metric in ("auc", "log_loss")}
    assert max(mean("auc", 100, *plan) for plan in opened) <= frozen["auc"]
    assert min(mean("log_loss", 100, *plan) for plan in opened) > frozen["log_loss"]
    # "With 500 labels, 1e-3 drew level at every depth"
    for strategy in ("last 2 stages", "last 5 stages", "full fine-tuning"):
        pair = [kept.scores("auc", strategy=s, labels=500, lr=lr) for s, lr in ((strategy, 1e-3), (PLANS[0][0], None))]
        low, high = (pair[0] - pair[1]).interval()
        assert low < 0 < high


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_point_of_the_shift_can_be_made_again():
    # The lesson re-runs a point of the depth experiment; this one too could take it over its four minutes.
    assert set(load_results(SHIFT).rerun()) == {"auc_in", "auc_out", "moved_in", "moved_out"}
