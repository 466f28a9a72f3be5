from dataclasses import replace

import numpy as np
import pytest
import torch

from tlcourse import attach_head, extract_features, fit_probe, make_task, resplit, trials
from tlcourse.evaluation import evaluate, predict_probabilities
from tlcourse.trials import STRATEGIES, compared, set_head, trained, validated

PROBE, LAST, FULL = STRATEGIES
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Two epochs a training."""
    real = trials.recipes
    monkeypatch.setattr(
        trials, "recipes", lambda model: {name: replace(recipe, epochs=2) for name, recipe in real(model).items()}
    )


def test_a_tie_goes_to_the_cheaper():
    assert next(iter(compared({PROBE: {0: 0.5, 1: 0.7}, FULL: {0: 0.7, 1: 0.5}}))) == PROBE


def test_splits_that_one_strategy_was_not_tried_on_do_not_count():
    assert list(compared({PROBE: {0: 0.5, 1: 1.0}, FULL: {0: 0.6}}).items()) == [(FULL, 0.6), (PROBE, 0.5)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_is_validated_on_the_split_that_its_seed_deals(strategy, tiny_task, tiny_backbone):
    groups = torch.arange(int(max(part.index.max() for part in (tiny_task.train, tiny_task.val, tiny_task.test))) + 1)
    groups //= 2
    dealt = resplit(tiny_task, seed=5, groups=groups)
    model = trained(dealt, tiny_backbone, strategy, seed=5, strength=0.1)
    expected = evaluate(model, dealt.val)["balanced_accuracy"]
    assert validated(tiny_task, tiny_backbone, strategy, seed=5, groups=groups, strength=0.1) == expected
    assert not torch.equal(dealt.val.index, resplit(tiny_task, seed=5).val.index)  # the groups have a say


@pytest.mark.parametrize(("strategy", "moving"), [(PROBE, []), (LAST, ["block10"]), (FULL, ["stem", "block10"])])
def test_what_moves_is_what_the_strategy_says(strategy, moving, tiny_task, tiny_backbone):
    before = {name: value.clone() for name, value in tiny_backbone.state_dict().items()}
    model = trained(tiny_task, tiny_backbone, strategy, seed=0)
    moved = {
        name.split(".")[1]
        for name, value in model.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert set(moving) <= moved and (moved or strategy == PROBE)
    assert ("stem" in moved) == (strategy == FULL)
    assert all(torch.equal(value, before[name]) for name, value in tiny_backbone.state_dict().items())  # a copy moved


def test_seed_and_strength_decide(tiny_task, tiny_backbone):
    def says(strategy, **options):
        return predict_probabilities(trained(tiny_task, tiny_backbone, strategy, **options), tiny_task.test.inputs)

    assert torch.equal(says(FULL, seed=3), says(FULL, seed=3))
    assert not torch.equal(says(FULL, seed=3), says(FULL, seed=4))
    assert torch.allclose(says(PROBE, seed=3), says(PROBE, seed=4))
    assert not torch.allclose(says(PROBE, seed=3, strength=1e-3), says(PROBE, seed=3, strength=10.0), atol=1e-2)


def test_what_diverges_is_no_better_than_a_guess(tiny_task, tiny_backbone, monkeypatch):
    def diverging(*_, **__):
        raise FloatingPointError("the training loss became nan")

    monkeypatch.setattr(trials, "train", diverging)
    assert validated(tiny_task, tiny_backbone, FULL, seed=0) == 0.5


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_a_linear_head(classes, tiny_backbone, tiny_task):
    labels = torch.arange(len(tiny_task.train)) % classes
    task = make_task(
        "t", tiny_task.train.inputs, labels, class_names=tuple("abc"[:classes])
    )  # the labels mean nothing, which the probe may learn all the same
    model = attach_head(tiny_backbone, task)
    features = extract_features(model, task.train.inputs)
    probe = fit_probe(features, task.train.labels, strengths=(1.0,))
    set_head(model, probe)
    ours = predict_probabilities(model, task.train.inputs).double().numpy()
    np.testing.assert_allclose(ours, probe.probabilities(features), atol=1e-5)  # float32 against float64
    assert np.ptp(ours) > 0.01
