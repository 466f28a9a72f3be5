import copy

import pytest
import torch

from tlcourse.backbones import Model
from tlcourse.experiments import remedied
from tlcourse.experiments.lesson09 import CHOSEN, REMEDIES_CHOSEN, REMEDIES_COMPARED, TRIALS
from tlcourse.experiments.remedied import EPOCHS, LR, REMEDIES, remedied_schedule
from tlcourse.plans import apply_plan, parameter_groups
from tlcourse.results import load_results


@pytest.fixture
def model():
    model = Model(copy.deepcopy(remedied._with_dropout()))
    model.add_head("solar", 2)
    model.add_head("digits", 10)
    return model


# remedy, value -> the backbone's highest rate in the last epoch, decay of its matrices, moving parameters there
PLANS = [
    ("plain", None, LR, 0.0, True),
    ("small rate", 1e-4, 1e-4, 0.0, True),
    ("weight decay", 0.1, LR, 0.1, True),
    ("EWC", 1e3, LR, 0.0, True),
    ("LoRA", 2, LR, 0.0, False),
    ("gradual unfreezing", 2.0, LR / 2, 0.0, True),
]


@pytest.mark.parametrize(("remedy", "value", "lr", "decay", "whole"), PLANS)
def test_what_a_remedy_changes_in_the_plan(model, remedy, value, lr, decay, whole):
    schedule = remedied_schedule(model, remedy, value)
    assert sum(epochs for _, epochs in schedule) == EPOCHS
    plan, _ = schedule[-1]
    apply_plan(model, plan)
    groups = [group for group in parameter_groups(model, plan) if group["stage"] != "head"]
    assert max(group["lr"] for group in groups) == pytest.approx(lr)
    assert {group["weight_decay"] for group in groups if any(p.dim() > 1 for p in group["params"])} == {decay}
    stages = {group["stage"] for group in groups}
    assert ("stem" in stages) or not whole


def test_statistics_follow_in_one_reference_alone(model):
    for remedy in REMEDIES:
        value = 1.6 if remedy == "gradual unfreezing" else 4
        fresh = Model(copy.deepcopy(remedied._with_dropout()))
        fresh.add_head("digits", 10)
        plan, _ = remedied_schedule(fresh, remedy, value)[-1]
        apply_plan(fresh, plan)
        fresh.train()
        layers = [m for m in fresh.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert any(layer.training for layer in layers) is (remedy == "statistics follow"), remedy


def test_dropout_has_a_layer_and_the_weights_are_the_backbones(model, lite0):
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.backbone.eval()(images), lite0(images))
    assert isinstance(model.backbone.stages["neck"][-1], torch.nn.Dropout)


def test_gradual_unfreezing_opens_the_head_first_and_all_in_the_end(model):
    opened = []
    for plan, _ in remedied_schedule(model, "gradual unfreezing", 1.6):
        apply_plan(model, plan)
        opened.append([name for name in model.stages if name not in model.frozen_stages])
    assert opened[0] == ["head"] and opened[-1] == list(model.stages)
    assert [len(stages) for stages in opened] == [1, 4, 7, 10, 10, 10]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [REMEDIES_COMPARED, REMEDIES_CHOSEN], ids=lambda experiment: experiment.name)
def test_a_point_that_is_run_again_falls_among_the_kept_ones(experiment, one_thread):
    """Not close to its own seed, as `Kept.rerun` asks: another processor moves single runs of plain training far."""
    kept = load_results(experiment)
    setting, seed = kept.drawn()
    live = remedied.run_remedy(seed=seed, **setting)
    assert set(live) == set(kept.points(**setting)[0]["scores"])
    for metric in ("old_before", "old", "new", "old_val", "new_val"):
        low, high = kept.scores(metric, **setting).prediction_interval(0.99)
        assert low <= live[metric] <= high, (metric, setting, seed)


def test_every_remedy_has_three_trials_and_what_was_chosen_is_one():
    assert set(TRIALS) == set(REMEDIES) - {"plain", "statistics follow"}
    assert {len(set(values)) for values in TRIALS.values()} == {3}
    assert all(value in TRIALS[remedy] for remedy, value in CHOSEN.items())
    assert not set(REMEDIES_CHOSEN.seeds) & set(REMEDIES_COMPARED.seeds)
