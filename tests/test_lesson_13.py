"""Lesson 13: the experiment that judges the choices of `transfer`, and the lesson's own functions."""

from dataclasses import replace

import pytest
import torch

from tests.lesson_functions import cut_out
from tlcourse import fit_probe, load_task, make_task, metrics, rules, trials
from tlcourse.experiments import choosing
from tlcourse.experiments.choosing import HELD_OUT, SAMPLES, chosen_by_validation, run_choice, sampled_set
from tlcourse.experiments.lesson13 import CHOICES_CELLS, CHOICES_TEXTS
from tlcourse.intervals import Scores
from tlcourse.results import load_results
from tlcourse.transfer import transfer
from tlcourse.trials import STRATEGIES

PROBE, LAST, FULL = STRATEGIES
pytestmark = pytest.mark.usefixtures("one_thread")


def rows_of(task):
    return torch.cat([task.train.index, task.val.index, task.test.index])


@pytest.mark.parametrize("name", HELD_OUT)
def test_a_set_and_what_is_beside_it_share_nothing(name):
    _, _, groups = choosing._whole(name)
    given, own_groups, beside = sampled_set(name, seed=100)
    assert sorted(rows_of(given).tolist()) == list(range(SAMPLES))
    assert len(beside) == min(HELD_OUT[name], len(groups) - SAMPLES)
    assert len(beside.index.unique()) == len(beside)
    # The groups of the set are those of the whole, so that none of them stands beside it.
    assert not set(own_groups.tolist()) & set(groups[beside.index].tolist())
    assert not set(own_groups[given.test.index].tolist()) & set(own_groups[given.train.index].tolist())
    again, _, same = sampled_set(name, seed=100)
    other, _, _ = sampled_set(name, seed=101)
    assert torch.equal(again.train.labels, given.train.labels) and torch.equal(same.index, beside.index)
    assert not torch.equal(other.train.labels[:50], given.train.labels[:50])


@pytest.fixture
def small(monkeypatch, tiny_task, tiny_backbone):
    """The experiment on a tiny task, network and training, in place of 500 cells and EfficientNet."""
    parts = (tiny_task.train, tiny_task.val, tiny_task.test)
    inputs, labels = torch.cat([part.inputs for part in parts]), torch.cat([part.labels for part in parts])
    monkeypatch.setattr(choosing, "_whole", lambda name: (inputs, labels, torch.arange(len(labels)) // 2))
    monkeypatch.setattr(choosing, "SAMPLES", len(labels) // 2)
    monkeypatch.setattr(choosing, "load_embedded", lambda name: tiny_backbone)
    monkeypatch.setattr("tlcourse.advice._seconds", lambda *_: 1.0)
    real = trials.recipes
    monkeypatch.setattr(
        trials, "recipes", lambda model: {name: replace(each, epochs=2) for name, each in real(model).items()}
    )
    return tiny_backbone


def test_a_group_that_does_not_fit_stands_beside_the_set(small, monkeypatch):
    monkeypatch.setattr(choosing, "SAMPLES", 21)
    for seed in range(3):
        given, own_groups, beside = sampled_set("solar", seed=seed)
        assert len(rows_of(given)) == 20  # pairs
        assert not set(own_groups.tolist()) & set((beside.index // 2).tolist())


def test_the_experiment_chooses_as_the_command_does(small, tmp_path):
    """The same scores on validation, the same choice, the same model: only the clock is missing."""
    found = {strategy: run_choice("solar", strategy, seed=1) for strategy in STRATEGIES}
    task, groups, _ = sampled_set("solar", seed=1)
    outcome = transfer(task, small, tmp_path, groups=groups, seeds=3, minutes=60, progress=False)
    for strategy, by_split in outcome.scores().items():
        assert {n: found[strategy][f"val_{n}"] for n in range(3)} == by_split
    assert chosen_by_validation(found) == outcome.chosen
    assert found[outcome.chosen]["own_test"] == outcome.test["balanced_accuracy"]
    assert STRATEGIES[found[PROBE]["advised"]] == outcome.advice.ranking[0].strategy


def test_what_is_held_out_is_judged_by_the_same_model(small):
    given, groups, beside = sampled_set("solar", seed=1)
    model = trials.trained(given, small, FULL, seed=0)
    found = run_choice("solar", FULL, seed=1)
    assert found["held_out"] == trials.evaluate(model, beside)["balanced_accuracy"]
    assert "advised" not in found and found["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [CHOICES_CELLS, CHOICES_TEXTS], ids=lambda experiment: experiment.name)
def test_a_point_that_is_run_again_falls_among_the_kept_ones(experiment):
    kept = load_results(experiment)
    setting, seed = kept.drawn()
    live = run_choice(seed=seed, **setting)
    assert set(live) == set(kept.points(**setting)[0]["scores"])
    for metric in ("val_0", "val_1", "val_2", "own_test", "held_out"):
        low, high = kept.scores(metric, **setting).prediction_interval(0.99)
        assert low <= live[metric] <= high, (metric, setting, seed)


@pytest.mark.parametrize(("experiment", "task"), [(CHOICES_CELLS, "solar"), (CHOICES_TEXTS, "news")])
def test_the_declared_points(experiment, task):
    assert [setting["strategy"] for setting in experiment.settings] == list(STRATEGIES)
    assert {setting["task"] for setting in experiment.settings} == {task}
    assert experiment.seeds == tuple(range(10))


# Set -> strategy -> (mean on validation, held out), made up.
SETS = {
    0: {PROBE: (0.7, 0.72), LAST: (0.8, 0.75), FULL: (0.6, 0.80)},
    1: {PROBE: (0.7, 0.70), LAST: (0.6, 0.73), FULL: (0.8, 0.74)},
}


@pytest.fixture
def space():
    """What the lesson's functions use, with the sets above."""

    def over_seeds(run, seeds):
        return Scores(tuple(run(seed) for seed in seeds), tuple(seeds))

    sets = {
        seed: {
            name: {"val_0": val, "val_1": val, "val_2": val, "held_out": held, "advised": 2.0}
            for name, (val, held) in scores.items()
        }
        for seed, scores in SETS.items()
    }
    names = {"sets": sets, "STRATEGIES": STRATEGIES, "rules": rules, "over_seeds": over_seeds}
    names["chosen_by_validation"] = chosen_by_validation
    names["scored"] = cut_out("13", "scored", **names)
    return names


def test_regret_is_counted_from_the_best_of_each_set_and_from_one_strategy(space):
    scored, sets = space["scored"], space["sets"]
    choices = cut_out("13", "choices", **space)(sets, "two classes")
    assert choices["the trial of `transfer`"] == {0: LAST, 1: FULL}
    assert choices["its advice alone"] == dict.fromkeys(SETS, FULL)
    assert choices["the rules alone"] == choices["always probe"] == dict.fromkeys(SETS, PROBE)
    best = cut_out("13", "best_of_each", **space)(sets)
    assert best.values == (0.80, 0.74)
    assert (best - scored(sets, choices["the trial of `transfer`"])).values == pytest.approx((0.05, 0.0))
    assert cut_out("13", "best_in_hindsight", **space)(sets).values == (0.80, 0.74)


@pytest.fixture
def noise():
    """Features without a signal: whatever is above a guess was learnt by heart."""
    first = torch.randn(2624, 700, generator=torch.Generator().manual_seed(0))
    nearly = [first + 0.01 * torch.randn(first.shape, generator=torch.Generator().manual_seed(n)) for n in (1, 2)]
    names = {"torch": torch, "load_task": load_task, "make_task": make_task, "fit_probe": fit_probe, "metrics": metrics}
    dealt = {"by files": None, "by groups": torch.arange(200).repeat(3)}
    return names | {"features": [first, *nearly], "DEALT": dealt, "VERSIONS": 20, "WIDTH": 64}


def test_files_dealt_at_random_leak_and_groups_do_not(noise):
    too_much = cut_out("13", "too_much", **noise)
    assert too_much("by files", 100) > 0.3
    assert abs(sum(too_much("by groups", seed) for seed in (100, 101, 102)) / 3) < 0.15


def test_the_best_of_many_loses_its_lead_where_all_are_alike(noise):
    lost = cut_out("13", "lead_lost", **noise)(100)
    assert 0.03 < lost < 0.3
