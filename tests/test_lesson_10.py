import pytest

from tlcourse.backbones import Model
from tlcourse.dense import dense_network
from tlcourse.experiments import digits_in_turn
from tlcourse.experiments.digits_in_turn import digit_plan, five_tasks, run_digits
from tlcourse.experiments.lesson10 import DECADES, THREE_SCENARIOS
from tlcourse.plans import parameter_groups

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(digits_in_turn, "DIGIT_LABELS", 100)
    monkeypatch.setattr(digits_in_turn, "DIGIT_EPOCHS", 2)


def test_the_five_tasks_hold_each_digit_once_in_an_order_of_their_own():
    orders = [[name for task in five_tasks(seed) for name in task.class_names] for seed in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == [str(digit) for digit in range(10)]
    assert orders[0] != orders[1]


def test_nothing_decays():
    model = Model(dense_network())
    model.add_head("a", 2)
    assert {group["weight_decay"] for group in parameter_groups(model, digit_plan(model))} == {0.0}


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_every_setting_runs(few, scenario):
    for remedy in ("plain", "EWC", "replay", "joint"):
        scores = run_digits(scenario, remedy, seed=3)
        assert 0 < scores["accuracy"] <= 1
        assert set(scores) == ({"accuracy"} if remedy == "joint" else {"accuracy", "learning_accuracy", "forgetting"})


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical", "batched"])
def test_the_strength_reaches_the_penalty(few, kind):
    loose, held = (run_digits("task", "EWC", strength, kind, seed=3) for strength in (0.0, 1e6))
    plain = run_digits("task", "plain", seed=3)
    assert loose == plain
    assert held != plain


def test_the_declared_points():
    assert len(THREE_SCENARIOS.settings) == 12 and len(THREE_SCENARIOS.seeds) == 20
    assert len(DECADES.settings) == 24
