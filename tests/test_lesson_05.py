"""Lesson 05: its own functions against oracles, the loop by hand against `train`, and what the experiment runs."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from tests.lesson_functions import cut_out
from tlcourse import attach_head, gradual_unfreezing, load_backbone, load_task, slanted_triangular, train
from tlcourse.experiments.lesson05 import RECIPES
from tlcourse.experiments.unfreezing import FACTORS, LABELS, LR, constant, recipe, run_recipe
from tlcourse.intervals import Scores
from tlcourse.plans import describe_plan

PARTS = {
    "opening": ("gradual", "at once"),
    "rates": ("2.6 a stage", "one rate"),
    "schedule": ("slanted triangular", "constant"),
}

# Step, of how many, the factor by equation 3 with a ratio of 32.
EQUATION = [(0, 100, 1 / 32), (5, 100, 0.515625), (10, 100, 1.0), (55, 100, 0.515625), (100, 100, 1 / 32)]
UNKNOWN = [("gradually", "one rate"), ("gradual", "2.6")]


@pytest.fixture(scope="module")
def model():
    return attach_head(load_backbone("efficientnet_lite0", pretrained=False), load_task("digits8", labels=20))


@pytest.mark.parametrize(("step", "total", "factor"), EQUATION)
def test_equation_3(step, total, factor):
    assert cut_out("05", "equation_3", math=math)(step, total) == pytest.approx(factor)


def test_equation_3_has_the_traps_that_the_lesson_names():
    equation_3 = cut_out("05", "equation_3", math=math)
    with pytest.raises(ZeroDivisionError):
        equation_3(0, 8)
    assert equation_3(88, 89) < 0


def test_the_loop_by_hand_ends_where_train_ends():
    space = {"BATCH": 8, "PHASES": 3, "LR": LR, "FACTOR": 2.6, "slanted_triangular": slanted_triangular}
    by_hand = cut_out("05", "by_hand", math=math, torch=torch, F=F, **space)
    task = load_task("digits8", labels=20)
    backbone = load_backbone("efficientnet_lite0", pretrained=False)
    one, other = (attach_head(backbone, task, seed=0) for _ in range(2))
    by_hand(one, task)
    schedule = gradual_unfreezing(other, lr=LR)[:3]
    train(other, task, schedule, batch_size=8, rates=slanted_triangular, cache=False, progress=False)
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), backbone.parameters(), strict=False))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)  # the same sums, in the same order


def test_the_relative_step_is_what_adamw_moves():
    relative_step = cut_out("05", "relative_step", math=math)
    generator = torch.Generator().manual_seed(0)
    tensor = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = torch.optim.AdamW([tensor], lr=0.5, weight_decay=0.0)
    for _ in range(4):
        before = tensor.detach().clone()
        tensor.grad = torch.randn(50, generator=generator, dtype=torch.float64)
        optimizer.step()
        moved = (tensor.detach() - before).square().mean().sqrt().item()
        assert relative_step(optimizer, [tensor]) == pytest.approx(moved / 0.5)


@pytest.mark.parametrize("part", PARTS)
def test_a_main_effect_is_found_among_the_others(part):
    worth = {"opening": 0.1, "rates": -0.3, "schedule": 0.7}

    def scores_of(metric, **levels):
        whole = sum(worth[name] for name, level in levels.items() if level == PARTS[name][0])
        interaction = 0.5 * (levels["opening"] == "gradual") * (levels["rates"] == "2.6 a stage")
        return Scores((whole + interaction, 2 * whole + interaction), seeds=(0, 1))

    effect = cut_out("05", "main_effect", PARTS=PARTS, scores_of=scores_of)("auc", part)
    half = 0.25 if part in ("opening", "rates") else 0.0  # an interaction counts where the other part is there
    assert effect.values == pytest.approx((worth[part] + half, 2 * worth[part] + half))


def test_the_ten_recipes_are_the_eight_and_two_more():
    eight = [dict(zip(PARTS, levels, strict=True)) for levels in product(*PARTS.values())]
    assert all(setting in RECIPES.settings for setting in eight)
    assert {s["opening"] for s in RECIPES.settings if s["rates"] == "2.6 cubed in all"} == set(PARTS["opening"])
    assert len(RECIPES.settings) == 10


@pytest.mark.parametrize(("opening", "rates"), list(product(PARTS["opening"], FACTORS)))
def test_every_recipe_has_twelve_epochs_and_its_span_of_rates(model, opening, rates):
    schedule = recipe(model, opening, rates)
    assert sum(epochs for _, epochs in schedule) == 12
    assert len(schedule) == (10 if opening == "gradual" else 1)
    found = [row["lr"][0] for row in describe_plan(model, schedule[-1][0])]
    assert found[-1] == LR
    assert found[-1] / found[0] == pytest.approx(FACTORS[rates] ** 9)


def test_the_lesson_says_the_numbers_of_the_experiment():
    assert LABELS == 200
    assert 12 * math.ceil(LABELS / 32) == 84
    assert round(2.6**9, -2) == 5400
    assert (round(2.6**4), round(2.6**3)) == (46, 18)
    assert FACTORS["2.6 cubed in all"] ** 9 == pytest.approx(2.6**3)
    assert {constant(step, 84) for step in range(84)} == {1.0}


@pytest.mark.parametrize(("opening", "rates"), UNKNOWN)
def test_an_unknown_recipe_is_refused(model, opening, rates):
    with pytest.raises(KeyError):
        recipe(model, opening, rates)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(KeyError):
        run_recipe("gradual", "one rate", "cosine", seed=0)
