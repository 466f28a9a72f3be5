import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from tlcourse import transfer as module
from tlcourse import trials
from tlcourse.evaluation import metrics, predict_probabilities
from tlcourse.resplits import resplit
from tlcourse.saved_models import load_trained
from tlcourse.transfer import balanced_interval, transfer
from tlcourse.trials import STRATEGIES, compared

PROBE, LAST, FULL = STRATEGIES


def folder_of(out):
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


@pytest.fixture
def quick(monkeypatch, one_thread):
    """Two epochs a training, and costs that do not depend on what else this machine does."""
    real = trials.recipes
    monkeypatch.setattr(
        trials,
        "recipes",
        lambda model: {name: replace(recipe, epochs=2) for name, recipe in real(model).items()},
    )
    monkeypatch.setattr("tlcourse.advice._seconds", lambda model, task, recipe, forward: 1.0)
    return module


@pytest.fixture
def outcome(quick, tiny_task, tiny_backbone, tmp_path):
    return transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False)


def test_every_strategy_is_tried_on_the_same_splits(outcome, tmp_path):
    assert {name: sorted(scores) for name, scores in outcome.scores().items()} == dict.fromkeys(STRATEGIES, [0, 1, 2])
    assert outcome.skipped == {}
    names = [f"runs/{name}-{seed}.json" for name in ("full-fine-tuning", "last-2-stages") for seed in range(3)]
    kept = ["advice.json", "model/model.json", "model/model.safetensors", "result.json", "run.json"]
    assert folder_of(tmp_path) == sorted([*names, *kept])


def test_the_best_on_validation_is_chosen_and_its_scores_are_those_of_the_test(
    outcome, tiny_task, tiny_backbone, tmp_path
):
    assert outcome.chosen == next(iter(compared(outcome.scores())))
    saved = load_trained(tmp_path, backbone=tiny_backbone)
    probabilities = predict_probabilities(saved.model, tiny_task.test.inputs)
    assert torch.equal(probabilities, torch.tensor(outcome.probabilities))
    assert outcome.test == metrics(tiny_task.test.labels, probabilities)
    assert outcome.test_interval.value == pytest.approx(outcome.test["balanced_accuracy"])
    assert saved.card["strategy"] == outcome.chosen


def test_the_saved_model_was_trained_by_the_chosen_strategy(quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    scores = {LAST: 0.6, FULL: 1.0}  # the probe's is below
    monkeypatch.setattr(
        quick._Work, "_trial", lambda self, name, seed: quick.Trial(name, seed, scores[name] + 0.5, 0.1, 0.1)
    )
    plans, real = [], trials.train
    monkeypatch.setattr(
        trials,
        "train",
        lambda model, task, plan, **options: plans.append(plan.name) or real(model, task, plan, **options),
    )
    outcome = transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False)
    saved = load_trained(tmp_path, backbone=tiny_backbone)
    assert outcome.chosen == saved.card["strategy"] == FULL and plans == ["full fine-tuning"]
    weights = [next(stages["stem"].parameters()) for stages in (saved.model.stages, tiny_backbone.stages)]
    assert not torch.equal(*weights)


def test_the_test_split_is_read_once_after_the_choice(quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    seen, real = [], quick.predict_probabilities

    def noting(model, inputs, **options):
        assert inputs is tiny_task.test.inputs
        seen.append(sorted(path.name for path in (tmp_path / "runs").iterdir()))
        return real(model, inputs, **options)

    monkeypatch.setattr(quick, "predict_probabilities", noting)
    first = transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False)
    assert len(seen) == 1 and len(seen[0]) == 6
    assert transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False) == first
    assert len(seen) == 1


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_run_that_was_cut_off_goes_on(after, quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    whole = transfer(tiny_task, tiny_backbone, tmp_path / "whole", seeds=3, minutes=5, progress=False)
    trained, real = [], trials.train

    def training(model, task, plan, **options):
        if len(trained) == after:
            raise KeyboardInterrupt
        trained.append(plan.name)
        return real(model, task, plan, **options)

    monkeypatch.setattr(trials, "train", training)
    with pytest.raises(KeyboardInterrupt):
        transfer(tiny_task, tiny_backbone, tmp_path / "cut", seeds=3, minutes=5, progress=False)
    assert len(list((tmp_path / "cut" / "runs").iterdir())) == after
    again = []
    monkeypatch.setattr(trials, "train", lambda *a, **o: again.append(1) or real(*a, **o))
    monkeypatch.setattr(quick, "advise", lambda *a, **o: pytest.fail("the pilot is kept"))
    found = transfer(tiny_task, tiny_backbone, tmp_path / "cut", seeds=3, minutes=5, progress=False)
    assert len(again) == 6 - after + (found.chosen != PROBE)
    assert found.scores() == whole.scores() and found.test == whole.test and found.chosen == whole.chosen


def test_another_run_does_not_go_on_there(outcome, quick, tiny_task, tiny_backbone, tmp_path):
    other = resplit(tiny_task, seed=9)
    for task, options, named in (
        (other, {"seeds": 3, "minutes": 5}, "data"),
        (tiny_task, {"seeds": 4, "minutes": 5}, "seeds"),
        (tiny_task, {"seeds": 3, "minutes": 6}, "minutes"),
    ):
        with pytest.raises(ValueError, match=rf"holds another run \({named} differ\)"):
            transfer(task, tiny_backbone, tmp_path, progress=False, **options)


def test_a_damaged_record_is_named(outcome, quick, tiny_task, tiny_backbone, tmp_path):
    (tmp_path / "result.json").write_text('{"trials": [')
    with pytest.raises(ValueError, match=r"result.json is damaged .*: delete it"):
        transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False)


# Seconds that a training of each costs, seconds there are -> how many splits each is tried on.
BUDGETS = {
    "all fit": ((1, 2), 100, {LAST: 5, FULL: 5}),
    "fewer splits": ((1, 4), 24, {LAST: 4, FULL: 4}),
    "one fits": ((1, 20), 60, {LAST: 5}),
    "none fits": ((20, 20), 60, {}),
}


@pytest.mark.parametrize("case", BUDGETS)
def test_what_does_not_fit_is_not_tried_and_said(case, quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    costs, seconds, expected = BUDGETS[case]
    by_name = dict(zip((LAST, FULL), costs, strict=True))
    names = {"last 2 stages": LAST, "full fine-tuning": FULL}
    monkeypatch.setattr(
        "tlcourse.advice._seconds", lambda model, task, recipe, forward: by_name[names[recipe.plan.name]]
    )
    monkeypatch.setattr(quick.time, "perf_counter", lambda: 0.0)  # the pilot takes no time
    tried = []
    monkeypatch.setattr(
        quick._Work,
        "_trial",
        lambda self, name, seed: tried.append(name) or quick.Trial(name, seed, 0.5, by_name[name], by_name[name]),
    )
    outcome = transfer(tiny_task, tiny_backbone, tmp_path, seeds=5, minutes=seconds / 60, progress=False)
    assert {name: tried.count(name) for name in set(tried)} == expected
    assert set(outcome.skipped) == {LAST, FULL} - set(expected)
    assert all("3 splits would take it to about" in why for why in outcome.skipped.values())


def test_where_steps_take_longer_the_trial_ends_and_is_said(quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(quick._Work, "_trial", lambda self, name, seed: quick.Trial(name, seed, 1.0, 100.0, 100.0))
    outcome = transfer(tiny_task, tiny_backbone, tmp_path, seeds=5, minutes=1, progress=False)
    assert outcome.chosen == PROBE and set(outcome.scores()) == {PROBE}
    assert all("1 splits fitted, 3 are needed" in why for why in outcome.skipped.values())


def test_what_diverges_is_no_better_than_a_guess(quick, tiny_task, tiny_backbone, tmp_path, monkeypatch):
    def diverging(*_, **__):
        raise FloatingPointError("the training loss became nan")

    monkeypatch.setattr(trials, "train", diverging)
    outcome = transfer(tiny_task, tiny_backbone, tmp_path, seeds=3, minutes=5, progress=False)
    assert outcome.chosen == PROBE and set(outcome.scores()[FULL].values()) == {0.5}


def test_two_splits_are_too_few(tiny_task, tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match="seeds=2: at least 3 splits"):
        transfer(tiny_task, tiny_backbone, tmp_path, seeds=2)


RECALLS = [((0.9, 0.6), (60, 30)), ((0.99, 0.95), (40, 40)), ((0.7, 0.8, 0.9), (20, 20, 20)), ((1.0, 0.8), (30, 10))]


@pytest.mark.parametrize(("recalls", "sizes"), RECALLS)
def test_the_interval_of_balanced_accuracy_covers(recalls, sizes):
    rng, covered, rounds = np.random.default_rng(0), 0, 1000
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for _ in range(rounds):
        right = rng.random(len(labels)) < np.asarray(recalls)[labels]
        found = balanced_interval(labels.tolist(), np.where(right, labels, (labels + 1) % len(sizes)).tolist())
        covered += found.low <= np.mean(recalls) <= found.high
    # Nominal 95 %, two points less where samples are few, and what 1,000 rounds may miss by chance.
    assert covered >= binom.ppf(0.001, rounds, 0.93)


def test_a_class_without_a_mistake_is_not_certain():
    found = balanced_interval([0] * 10 + [1] * 10, [0] * 10 + [1] * 10)
    assert found.value == 1 and found.high == pytest.approx(1) and 0.6 < found.low < 0.95


def test_advice_and_outcome_survive_the_disk(outcome, tmp_path):
    assert module._advice(json.loads((tmp_path / "advice.json").read_text())["advice"]) == outcome.advice
    assert module._outcome(json.loads((tmp_path / "result.json").read_text())) == outcome
