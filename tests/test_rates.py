import copy
import dataclasses
import math
import random
from functools import partial

import numpy as np
import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.data import random_flips
from tlcourse.plans import Plan, Rule
from tlcourse.rates import find_rate, slanted_triangular, warmup_cosine
from tlcourse.strategies import discriminative, feature_extraction, full_fine_tune, last_stages, lora
from tlcourse.training import train

TRIANGLE = [  # step, steps in all, options, factor
    (0, 100, {}, 1 / 32),
    (5, 100, {}, 0.515625),  # half of the way up: (1 + 31 / 2) / 32
    (10, 100, {}, 1.0),
    (55, 100, {}, 0.515625),
    (100, 100, {}, 1 / 32),
    (0, 40, {"cut": 0.5, "ratio": 5}, 0.2),
    (20, 40, {"cut": 0.5, "ratio": 5}, 1.0),
    (30, 40, {"cut": 0.5, "ratio": 5}, 0.6),
    (7, 40, {"ratio": 1}, 1.0),
]
PRINTED = [(100, 0.1, 32), (1000, 0.1, 32), (1055, 0.1, 32), (64, 0.25, 10), (33, 0.3, 4)]  # total, cut, ratio
BAD_TRIANGLES = [({"cut": 0}, "cut=0"), ({"cut": 1.0}, "cut=1.0"), ({"ratio": 0.5}, "ratio=0.5")]
BAD_TESTS = [  # options, words
    ({"lowest": 0.0}, "lowest=0.0 and highest=1.0"),
    ({"lowest": 1e-2, "highest": 1e-3}, "0 < lowest < highest"),
    ({"highest": math.inf}, "highest=inf"),
    ({"steps": 1}, "steps=1: at least 2"),
    ({"batch_size": 0}, "batch_size=0: a whole number, at least 1"),
]
pytestmark = pytest.mark.usefixtures("one_thread")


class Stop(Exception):
    """Stands for an error in the middle of a test."""


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.fixture
def curve(model, tiny_task):
    def found(plan=full_fine_tune, **options):
        return find_rate(model, tiny_task, plan(model), **{"steps": 12, "device": "cpu"} | options)

    return found


@pytest.mark.parametrize(("step", "total", "options", "factor"), TRIANGLE)
def test_the_triangle_at_steps_computed_by_hand(step, total, options, factor):
    assert slanted_triangular(step, total, **options) == pytest.approx(factor)


@pytest.mark.parametrize(("total", "cut", "ratio"), PRINTED)
def test_the_triangle_is_equation_3(total, cut, ratio):
    """Howard & Ruder 2018, word for word, for all steps at which its p is not below 0."""
    compared = 0
    for t in range(total):
        peak = math.floor(total * cut)
        p = t / peak if t < peak else 1 - (t - peak) / (peak * (1 / cut - 1))
        if p >= 0:
            assert slanted_triangular(t, total, cut=cut, ratio=ratio) == pytest.approx((1 + p * (ratio - 1)) / ratio)
            compared += 1
    assert compared > 0.9 * total


@pytest.mark.parametrize("total", range(1, 40))
def test_the_triangle_of_a_short_run_keeps_its_bounds(total):
    factors = [slanted_triangular(step, total) for step in range(total)]
    assert factors[0] == 1 / 32
    assert all(1 / 32 <= factor <= 1 for factor in factors)
    assert total == 1 or max(factors) == 1


@pytest.mark.parametrize(("options", "words"), BAD_TRIANGLES)
def test_bad_triangles_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        slanted_triangular(0, 10, **options)


@pytest.mark.parametrize("rates", [warmup_cosine, slanted_triangular])
def test_every_schedule_ends_low_and_peaks_at_one(rates):
    factors = [rates(step, 200) for step in range(200)]
    assert max(factors) == 1
    assert factors[-1] < 0.05


def test_the_rates_of_the_test_rise_by_a_constant_factor(curve):
    found = curve(lowest=1e-6, highest=1e-3, steps=7)
    assert found.rates == pytest.approx([1e-6 * 10 ** (step / 2) for step in range(7)])
    assert len(found.losses) == len(found.smoothed) == 7
    assert not found.diverged


@pytest.mark.parametrize(
    "options", [{}, {"augment": random_flips}, {"penalties": (lambda m, s, logits: logits.mean(),)}]
)
@pytest.mark.parametrize("make", [full_fine_tune, lambda model: last_stages(model, 1), feature_extraction])
def test_it_is_training_under_rates_that_grow(make, options, model, curve, tiny_task):
    """The mean of its losses over an epoch is what `train` records under the same rates."""
    found = curve(make, lowest=1e-5, highest=1e-1, steps=9, **options)
    fastest = max(rule.lr for rule in make(model).rules)
    growing = train(
        model,
        tiny_task,
        make(model),
        epochs=3,
        rates=lambda step, total: found.rates[step] / fastest,
        device="cpu",
        progress=False,
        **options,
    )
    by_epoch = np.array(found.losses).reshape(3, 3).mean(1)  # three batches of 30 an epoch
    assert growing.train_loss == pytest.approx(by_epoch.tolist(), abs=1e-5)


def test_the_groups_of_a_plan_grow_together(curve, model, monkeypatch):
    seen, original = [], torch.optim.AdamW.step

    def step(self, *args, **options):
        seen.append({group["stage"]: group["lr"] for group in self.param_groups})
        return original(self, *args, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    found = curve(partial(discriminative, lr=3e-4), highest=1e-3, steps=5)
    shares = {"stem": 2.6**-3, "block1": 2.6**-2, "block10": 2.6**-1, "head": 1}
    assert len(seen) == 5
    for row, rate in zip(seen, found.rates, strict=True):
        assert row == pytest.approx({stage: rate * share for stage, share in shares.items()})


@pytest.mark.parametrize("ends", ["well", "early", "by an error"])
def test_everything_is_as_before(ends, model, curve, tiny_task):
    """Parameters, buffers, gradients, modes, what is frozen, an optimiser at work on the model, all random states."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    model(tiny_task.train.inputs[:8]).sum().backward()
    optimizer.step()
    model.backbone.stages["block1"].eval()
    model.backbone.stages["stem"].requires_grad_(False)
    model.frozen_stages = frozenset({"stem"})
    random.seed(5)
    state = copy.deepcopy(model.state_dict())
    moments = copy.deepcopy(optimizer.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    facts = _facts(model)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    random_state = random.getstate()

    def fail(model, state, logits):
        raise Stop

    if ends == "by an error":
        with pytest.raises(Stop):
            curve(penalties=(fail,))
    else:
        assert curve(highest={"well": 1e-3, "early": 1e6}[ends], steps=40).diverged is (ends == "early")
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
    for number, moment in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, moments["state"][number][key]) for key, value in moment.items())
    assert optimizer.state_dict()["param_groups"] == moments["param_groups"]
    assert _facts(model) == facts
    assert random.getstate() == random_state
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def _facts(model):
    modes = [part.training for part in model.modules()]
    layout = [(id(parameter), parameter.requires_grad, parameter.stride()) for parameter in model.parameters()]
    return modes, layout, model.frozen_stages


def test_one_seed_gives_one_curve(curve):
    assert curve(seed=3) == curve(seed=3)
    assert curve(seed=3).losses != curve(seed=4).losses


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_test(value, curve):
    steps = iter(range(12))
    found = curve(penalties=(lambda model, state, logits: logits.sum() * (value if next(steps) == 4 else 0.0),))
    assert found.diverged
    assert len(found.losses) == len(found.rates) == 4
    assert all(map(math.isfinite, found.losses))


def test_a_loss_that_grows_ends_the_test(curve):
    found = curve(lowest=1e-4, highest=1e6, steps=40)
    assert found.diverged
    assert 3 < len(found.losses) < 40
    assert found.smoothed[-1] > max(4 * min(found.smoothed[:-1]), math.log(2)) >= max(found.smoothed[:-1])


def test_a_loss_below_guessing_is_no_divergence(curve):
    """A good model's losses are small, and one batch may well have eight times the loss of another."""
    steps = iter(range(12))

    def lowered(model, state, logits):
        return logits.new_full((), (0.05 if next(steps) < 6 else 0.4) - math.log(2))

    found = curve(penalties=(lowered,), highest=1e-5)
    assert not found.diverged
    assert 4 * min(found.smoothed) < found.smoothed[-1] < math.log(2)


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss(curve):
    found = curve(lowest=1e-5, highest=10.0, steps=40)
    best = found.rates[int(np.argmin(found.smoothed))]
    assert found.suggestion == pytest.approx(best / 10)
    assert 1e-4 < found.suggestion < 1


def test_training_at_the_suggestion_learns(model, curve, tiny_task):
    rate = curve(lowest=1e-5, highest=10.0, steps=40).suggestion
    history = train(model, tiny_task, full_fine_tune(model, lr=rate), epochs=8, device="cpu", progress=False)
    assert history.train_loss[-1] < history.train_loss[0] - 0.05


def test_where_the_loss_never_fell_nothing_is_suggested(curve):
    steps = iter(range(12))
    found = curve(penalties=(lambda model, state, logits: logits.new_full((), 0.5 * next(steps)),))
    assert found.suggestion is None


@pytest.mark.parametrize(("options", "words"), BAD_TESTS)
def test_bad_arguments_are_named(options, words, curve):
    with pytest.raises(ValueError) as raised:
        curve(**options)
    assert words in str(raised.value)


def test_a_plan_that_freezes_everything_is_refused(curve):
    with pytest.raises(ValueError, match="freezes everything"):
        curve(lambda model: Plan("nothing", (Rule("*", 0.0),)))


@pytest.mark.parametrize("cache", [True, False])
def test_the_validation_and_test_labels_are_not_looked_at(cache, model, tiny_task, curve):
    swapped = dataclasses.replace(
        tiny_task,
        val=dataclasses.replace(tiny_task.val, labels=1 - tiny_task.val.labels),
        test=dataclasses.replace(tiny_task.test, labels=1 - tiny_task.test.labels),
    )
    plan = feature_extraction(model)
    other = find_rate(model, swapped, plan, steps=12, device="cpu", cache=cache)
    assert other.losses == curve(feature_extraction, cache=cache).losses


def test_a_plan_that_prepares_the_model_is_tested_on_a_copy(model, curve):
    before = set(model.state_dict())
    assert len(curve(lambda model: lora(model, rank=2, targets=("block10/0",))).rates) == 12
    assert set(model.state_dict()) == before
