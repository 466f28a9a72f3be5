"""Lesson 02: the grafts of its experiment, and which points are kept."""

import pytest
import torch

from tlcourse.experiments import grafting
from tlcourse.experiments.grafting import EPOCHS, LABELS, run_graft
from tlcourse.experiments.lesson02 import GRAFTS
from tlcourse.plans import parameter_groups
from tlcourse.strategies import full_fine_tune

# Name; which half the donor learns, how many of the five stages are frozen in the graft; None: there is no graft.
RUNS = [("B", "B", None), ("A3B", "A", 3), ("B5B", "B", 5), ("A1B", "A", 1), ("A3B+", "A", 0), ("B5B+", "B", 0)]
UNKNOWN = ["A", "A6B", "A0B", "C3B", "A3A", "A3B++", "a3b", ""]


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, in order: (model, task, plan, named arguments)."""
    calls = []

    def train(model, task, plan, **named):
        calls.append((model, task, plan, named))

    monkeypatch.setattr(grafting, "train", train)
    return calls


@pytest.mark.parametrize(("name", "half", "frozen"), RUNS)
def test_a_graft_has_its_donor_and_its_stages(trained, name, half, frozen):
    (scores, again) = (run_graft(name, seed=seed) for seed in (0, 0))
    assert scores == again
    assert 0 <= scores["accuracy"] <= 1
    model, task, plan, named = trained[0]
    assert (named["epochs"], named["seed"], len(task.train.labels)) == (EPOCHS, 0, LABELS)
    assert [rule.lr for rule in plan.rules] == [rule.lr for rule in full_fine_tune(model, lr=grafting.LR).rules]
    if frozen is None:
        assert len(trained) == 2
        return
    grown, goal, plan, named = trained[1]
    assert (goal.class_names == task.class_names) is (half == "B")
    assert (named["epochs"], len(goal.train.labels)) == (EPOCHS, LABELS)
    stages = list(grown.backbone.stages)
    kept = int(name[1])
    inherited = [
        all(
            torch.equal(tensor, grown.backbone.stages[stage].state_dict()[key])
            for key, tensor in model.backbone.stages[stage].state_dict().items()
        )
        for stage in stages[:5]
    ]
    assert inherited == [number < kept for number in range(5)]
    moving = {group["stage"] for group in parameter_groups(grown, plan)}
    assert [stage in moving for stage in stages[:5]] == [number >= frozen for number in range(5)]


def test_the_seed_draws_the_digits(trained):
    for seed in (0, 1):
        run_graft("A3B", seed=seed)
    first, second = (trained[number][1].class_names for number in (0, 2))
    assert first != second


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_graft_is_refused(name):
    with pytest.raises(KeyError, match="use 'B', or such as 'A3B'"):
        run_graft(name, seed=0)


def test_the_experiment_has_the_points_that_the_lesson_reads():
    names = [setting["name"] for setting in GRAFTS.settings]
    assert names[0] == "B"
    assert {f"{donor}{n}B" for donor in "AB" for n in range(1, 6)} < set(names)
    assert {f"{donor}{n}B+" for donor in "AB" for n in (3, 5)} < set(names)
    assert GRAFTS.seeds == tuple(range(10))
