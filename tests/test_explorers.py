"""The freeze explorer and the unfreezing timeline: what they say is what the plans and `train` do."""

import html

import numpy as np
import pytest
import torch

from tlcourse import explorers, views
from tlcourse.backbones import attach_head
from tlcourse.explorers import PlanExplorer, UnfreezingTimeline, explore_plans, unfreezing_timeline
from tlcourse.memory import training_memory
from tlcourse.plans import Plan, Rule, describe_plan
from tlcourse.rates import slanted_triangular, warmup_cosine
from tlcourse.strategies import feature_extraction, full_fine_tune, gradual_unfreezing, lora, lp_ft
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

BAD_PLANS = [  # plans, error, words
    (lambda model: {}, ValueError, "no plan to explore"),
    (lambda model: {"none": full_fine_tune(model)}, ValueError, "cannot be called 'none'"),
    (lambda model: {"slow": gradual_unfreezing(model)}, TypeError, "'slow' is no Plan but tuple.*unfreezing_timeline"),
    (
        lambda model: {"wrong": Plan("wrong", (Rule("trunk", 0.1), Rule("*", 0.0)))},
        ValueError,
        "'trunk' matches nothing",
    ),
]
CHOICES = [  # choice, words of the error
    ({"plan": "all"}, "no plan 'all'; there are: head only, everything"),
    ({"plan": "none"}, "no plan 'none'"),
    ({"plan": "none", "other": "none"}, "no plan 'none'"),
    ({"other": "LoRA"}, "no plan 'LoRA'"),
]
ALONE = Plan("alone", (Rule("*", 0.1),))
BAD_TIMES = [  # what is changed, error, words
    ({"steps_an_epoch": 0}, ValueError, "steps_an_epoch=0"),
    ({"steps_an_epoch": 2.5}, ValueError, "steps_an_epoch=2.5"),
    ({"step": 12}, ValueError, "no step 12: they run from 0 to 11"),
    ({"schedule": ()}, ValueError, "no phase"),
    ({"schedule": ALONE}, TypeError, r"such as \(\(plan, epochs\),\), not Plan"),
    ({"schedule": [(ALONE, 2)]}, TypeError, "not list"),
    ({"schedule": (ALONE, ALONE)}, TypeError, "each phase is a pair of a plan and how many epochs"),
    ({"schedule": ((ALONE, 2), (ALONE, 0))}, ValueError, "'alone' has 0 epochs"),
    ({"schedule": ((ALONE, 1.5),)}, ValueError, "'alone' has 1.5 epochs"),
    ({"rates": lambda step, total: -0.5}, ValueError, "factors of your own rates must be finite"),
    ({"rates": lambda step, total: float("nan")}, ValueError, "factors of your own rates must be finite"),
]
SCHEDULES = {
    "gradual": (lambda model: gradual_unfreezing(model, lr=0.01), slanted_triangular),
    "two epochs a stage": (lambda model: gradual_unfreezing(model, lr=0.01, epochs_a_stage=2), warmup_cosine),
    "LP-FT": (lambda model: lp_ft(model, head_epochs=2, epochs=3), warmup_cosine),
    "LoRA after the head": (
        lambda model: ((feature_extraction(model), 1), (lora(model, rank=2, lr=0.02), 2)),
        lambda step, total: 1.0,
    ),
}


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.fixture
def explorer(model, tiny_task):
    plans = {"head only": feature_extraction(model), "everything": full_fine_tune(model, lr=0.02)}
    return PlanExplorer(model, plans, example=tiny_task.train.inputs[:1], batch_size=4)


@pytest.fixture
def timeline(model):
    return UnfreezingTimeline(model, gradual_unfreezing(model, lr=0.01), steps_an_epoch=3)


@pytest.fixture
def displayed(monkeypatch):
    """The widgets that are displayed, with IPython there and somebody who watches."""
    shown = []
    monkeypatch.delenv("TLCOURSE_PROGRESS", raising=False)
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr(views, "display_widget", lambda widget, text: shown.append(widget))
    return shown


def parts_of(box):
    """The picture, the line of text, and the controls by their descriptions."""
    row, picture, status = box.children
    return picture, status, {control.description: control for control in row.children}


def test_the_explorer_shows_what_the_plans_say(explorer, model, tiny_task):
    example, plan = tiny_task.train.inputs[:1], full_fine_tune(model, lr=0.02)
    assert explorer.rows["everything"] == describe_plan(model, plan, example=example)
    assert explorer.memory["everything"] == training_memory(model, plan, example, batch_size=4)
    words = explorer.alt()
    assert words.startswith("head only: 26 of ")
    assert "frozen: stem, block1, block10." in words
    assert "with 4 samples" in words
    explorer.choose(plan="everything")
    assert "frozen: nothing" in explorer.alt()
    assert "costs 100 % of" in explorer.alt()


def test_two_plans_are_compared(explorer):
    alone = explorer.picture()
    explorer.choose(other="everything")
    assert explorer.alt().count("parameters move") == 2
    assert "Compared with everything" in explorer.alt()
    assert explorer.picture() != alone
    explorer.choose(other="head only")  # with itself: shown once
    assert explorer.picture() == alone


def test_the_first_choice_can_be_given(model, tiny_task):
    plans = {"head only": feature_extraction(model), "everything": full_fine_tune(model)}
    common = {"example": tiny_task.train.inputs[:1], "batch_size": 2}
    state = explore_plans(model, plans, **common, plan="everything", other="head only")
    assert (state.plan, state.other) == ("everything", "head only")
    with pytest.raises(KeyError, match="no plan 'all'"):
        explore_plans(model, plans, **common, plan="all")
    assert unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=3, step=5).step == 5


@pytest.mark.parametrize(("choice", "words"), CHOICES)
def test_an_unknown_plan_is_refused_and_nothing_changes(explorer, choice, words):
    with pytest.raises(KeyError, match=words):
        explorer.choose(**choice)
    assert (explorer.plan, explorer.other) == ("head only", "none")


@pytest.mark.parametrize(("make", "error", "words"), BAD_PLANS)
def test_the_explorer_refuses(model, tiny_task, make, error, words):
    with pytest.raises(error, match=words):
        explore_plans(model, make(model), example=tiny_task.train.inputs[:1])


def test_the_explorer_leaves_the_model_alone(model, tiny_task):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explore_plans(model, {"LoRA": lora(model, rank=2)}, example=tiny_task.train.inputs[:1], batch_size=2).picture()
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_timeline_is_what_train_does(model, tiny_task, name):
    make, rates = SCHEDULES[name]
    schedule = make(model)
    timeline = UnfreezingTimeline(model, schedule, steps_an_epoch=6, rates=rates)  # 90 samples in batches of 16
    history = train(model, tiny_task, schedule, batch_size=16, rates=rates, progress=False)
    assert timeline.total == 6 * len(history.lr)
    for epoch, recorded in enumerate(history.lr):
        last = 6 * epoch + 5
        told = {stage: timeline.rate(stage, last) for stage in timeline.stages}
        assert {stage: rate for stage, rate in told.items() if stage in recorded} == pytest.approx(recorded)
        assert all(rate == 0 for stage, rate in told.items() if stage not in recorded)
    assert timeline.moving(timeline.total - 1) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_stage_opens_at_the_first_step_of_its_phase(timeline):
    opened = {stage: [timeline.rate(stage, step) > 0 for step in range(12)] for stage in timeline.stages}
    assert opened == {
        stage: [step >= first for step in range(12)]
        for stage, first in {"stem": 9, "block1": 6, "block10": 3, "neck": 12, "head": 0}.items()
    }


@pytest.mark.parametrize("rates", [slanted_triangular, lambda step, total: float(step > 4)])
def test_what_is_drawn_is_what_the_timeline_says(monkeypatch, model, rates):
    drawn = {}
    monkeypatch.setattr(explorers, "rate_timeline", lambda *values, **named: drawn.update(named, values=values))
    monkeypatch.setattr(explorers, "png", lambda figure: b"")
    timeline = UnfreezingTimeline(model, gradual_unfreezing(model, lr=0.01), steps_an_epoch=3, rates=rates)
    timeline.picture()
    told = np.array([[timeline.rate(stage, step) for step in range(12)] for stage in timeline.stages])
    assert np.allclose(drawn["values"][0], told)
    assert np.allclose(drawn["values"][1], [rates(step, 12) for step in range(12)])
    assert (~drawn["frozen"]).sum(axis=1).tolist() == [3, 6, 9, 0, 12]


def test_all_plans_are_drawn_on_one_scale(monkeypatch, explorer):
    drawn = {}
    monkeypatch.setattr(explorers, "plan_diagram", lambda *values, **named: drawn.update(named))
    monkeypatch.setattr(explorers, "png", lambda figure: b"")
    explorer.picture()
    assert drawn["most"] == explorer.memory["everything"].total > explorer.memory["head only"].total
    assert drawn["rates"] == (1e-3, 0.02)


def test_the_timeline_reads_out_a_step(timeline):
    assert timeline.alt().startswith("Step 0 of 12, epoch 1, phase 1 of 4 (")
    assert "frozen: stem, block1, block10" in timeline.alt()
    first = timeline.picture()
    timeline.choose(step=11)
    assert "epoch 4, phase 4 of 4" in timeline.alt()
    assert "frozen: neck." in timeline.alt()  # pooling has nothing to move
    later = timeline.picture()
    timeline.choose(curve="constant")
    assert timeline.rate("head", 11) == 0.01
    assert "factor 1.000" in timeline.alt()
    assert len({first, later, timeline.picture()}) == 3


def test_the_timeline_refuses_what_is_not_there(timeline):
    for step in (-1, 12, 1.5, 2.0):
        for ask in (lambda step: timeline.choose(step=step), timeline.moving, lambda step: timeline.rate("head", step)):
            with pytest.raises(ValueError, match=f"no step {step}: they run from 0 to 11"):
                ask(step)
    with pytest.raises(KeyError, match="no rates 'linear'; there are: slanted triangular"):
        timeline.choose(curve="linear")
    with pytest.raises(KeyError, match="no stage 'trunk'; there are: stem"):
        timeline.rate("trunk", 0)


@pytest.mark.parametrize(("change", "error", "words"), BAD_TIMES)
def test_the_timeline_refuses(model, change, error, words):
    with pytest.raises(error, match=words):
        unfreezing_timeline(model, **({"schedule": gradual_unfreezing(model), "steps_an_epoch": 3} | change))


def test_rates_of_your_own_can_be_drawn(model):
    def constant(step, total):  # of the name that one of the view's own has
        return 0.5

    timeline = UnfreezingTimeline(model, gradual_unfreezing(model, lr=0.01), steps_an_epoch=3, rates=constant)
    assert timeline.curve == "your own"
    assert timeline.rate("head", 7) == 0.005
    timeline.choose(curve="constant")
    assert timeline.rate("head", 7) == 0.01


def test_rates_of_zero_are_drawn_and_are_not_called_frozen(model):
    still = UnfreezingTimeline(model, ((full_fine_tune(model), 1),), steps_an_epoch=3, rates=lambda step, total: 0.0)
    assert still.picture()[1:4] == b"PNG"
    assert "frozen: neck." in still.alt()


def test_a_plan_that_train_would_refuse_is_refused(model, tiny_task):
    frozen = Plan("asleep", (Rule("*", 0.0),))
    with pytest.raises(ValueError, match="freezes everything"):
        explore_plans(model, {"asleep": frozen}, example=tiny_task.train.inputs[:1])


def test_a_long_schedule_is_drawn_with_fewer_columns(model):
    timeline = UnfreezingTimeline(model, gradual_unfreezing(model), steps_an_epoch=2000)
    timeline.choose(step=7999)
    assert timeline.picture()[1:4] == b"PNG"


def test_the_explorer_s_controls_change_what_is_drawn(displayed, model, tiny_task):
    plans = {"head only": feature_extraction(model), "everything": full_fine_tune(model)}
    state = explore_plans(model, plans, example=tiny_task.train.inputs[:1], batch_size=2)
    picture, status, controls = parts_of(displayed[0])
    assert list(controls) == ["plan", "compare with"]
    before = picture.value
    controls["plan"].value = "everything"
    assert state.plan == "everything"
    assert picture.value not in (before, b"")
    assert picture.tooltip == state.alt() == html.unescape(status.value)
    state.choose(other="head only")
    assert controls["compare with"].value == "head only"


def test_the_timeline_s_controls_change_what_is_drawn(displayed, model):
    state = unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=3)
    picture, status, controls = parts_of(displayed[0])
    assert (controls["step"].min, controls["step"].max) == (0, 11)
    seen = {picture.value}
    controls["step"].value = 4
    seen.add(picture.value)
    controls["rates"].value = "constant"
    seen.add(picture.value)
    assert len(seen) == 3
    assert (state.step, state.curve) == (4, "constant")
    assert html.unescape(status.value) == state.alt() == picture.tooltip


def test_where_nobody_watches_a_picture_stands_in(monkeypatch, model):
    shown = []
    monkeypatch.setenv("TLCOURSE_PROGRESS", "0")
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append((bundle, options)))
    state = unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=3)
    ((bundle, options),) = shown
    assert bundle == {"image/png": state.picture(), "text/plain": "Unfreezing timeline: 4 phases, 12 steps"}
    assert options["metadata"]["image/png"]["alt"] == state.alt()


def test_outside_of_a_notebook_a_line_is_printed(model, capsys):
    unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=3)
    assert capsys.readouterr().out == "Unfreezing timeline: 4 phases, 12 steps\n"
