import copy

import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.data import load_task
from tlcourse.evaluation import evaluate
from tlcourse.grafts import digit_network, graft, split_classes
from tlcourse.plans import describe_plan
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = ["conv1", "conv2", "conv3", "conv4", "conv5", "neck"]
GRAFTS = [  # trained on, stages copied, fine-tuned, name, stages that move
    ("A", 2, False, "A2B", STAGES[2:5]),
    ("B", 2, False, "B2B", STAGES[2:5]),
    ("A", 2, True, "A2B+", STAGES[:5]),
    ("B", 4, True, "B4B+", STAGES[:5]),
    ("A", 5, False, "A5B", []),
    ("A", 0, False, "B", STAGES[:5]),
    ("A", 0, True, "B", STAGES[:5]),
]
BAD_SPLITS = [  # classes, words
    ([0, 0, 1], r"classes=\[0, 0, 1\]: name each once, out of 0 to 9"),
    ([0, 10], "out of 0 to 9"),
    ([-1, 3], "out of 0 to 9"),
    ([4], r"classes=\[4\] leaves 9 of 10: both sides need at least two"),
    ([0, 1, 2, 3, 4, 5, 6, 7, 8], "leaves 1 of 10"),
]


@pytest.fixture(scope="module")
def halves():
    return split_classes(load_task("digits8", labels=400), [7, 1, 4, 0, 9])


@pytest.fixture(scope="module")
def trained(halves):
    """A network of each half, after steps enough to move every tensor and statistic."""
    models = {}
    for number, (side, task) in enumerate(zip("AB", halves, strict=True)):
        model = attach_head(digit_network(number), task)
        train(model, task, full_fine_tune(model, lr=3e-3), epochs=2, device="cpu", progress=False)
        models[side] = model
    return models


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return all(torch.equal(a[key], b[key]) for key in a)


def differs(first, second):
    """Every matrix is another one."""
    a, b = first.state_dict(), second.state_dict()
    return not any(torch.equal(a[key], b[key]) for key in a if a[key].dim() > 1)


def test_the_halves_share_no_class_and_no_sample(halves):
    whole = load_task("digits8", labels=400)
    a, b = halves
    assert (a.name, b.name) == ("digits8-A", "digits8-B")
    assert a.class_names == ("7", "1", "4", "0", "9")
    assert b.class_names == ("2", "3", "5", "6", "8")
    for name in ("train", "val", "test"):
        full, parts = getattr(whole, name), [getattr(task, name) for task in halves]
        rows = {int(row): number for number, row in enumerate(full.index)}
        assert sorted(torch.cat([part.index for part in parts]).tolist()) == sorted(rows)
        for task, part in zip(halves, parts, strict=True):
            at = [rows[int(row)] for row in part.index]
            assert at == sorted(at)  # in the order of the whole: subsets nest
            assert torch.equal(part.inputs, full.inputs[at])
            assert [task.class_names[label] for label in part.labels] == [
                whole.class_names[label] for label in full.labels[at]
            ]
    assert a.options["classes"] != b.options["classes"]


@pytest.mark.parametrize(("classes", "words"), BAD_SPLITS)
def test_splits_that_make_no_two_tasks_are_refused(classes, words):
    with pytest.raises(ValueError, match=words):
        split_classes(load_task("digits8", labels=50), classes)


def test_a_split_without_some_class_is_refused(tiny_task):
    from dataclasses import replace

    task = replace(tiny_task, class_names=("dark", "bright", "c", "d"))
    with pytest.raises(ValueError, match="the train split of 'bright' holds no 'c': take more labels"):
        split_classes(task, [0, 1])


def test_the_network_comes_from_its_seed_and_is_small():
    state = torch.get_rng_state()
    first, again, other = digit_network(1), digit_network(1), digit_network(2)
    assert torch.equal(state, torch.get_rng_state())
    assert same(first, again)
    assert differs(first, other)
    assert list(first.stages) == STAGES
    assert sum(parameter.numel() for parameter in first.parameters()) < 80_000
    assert not first.training
    images = load_task("digits", labels=500).train.inputs
    prepared = first.preprocessing(images)
    assert prepared.mean().abs() < 0.05
    assert prepared.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("side", "count", "fine_tune", "name", "moving"), GRAFTS)
def test_a_graft_copies_the_first_stages_and_draws_the_rest(side, count, fine_tune, name, moving, trained, halves):
    source = trained[side]
    before = copy.deepcopy(source.state_dict())
    grown = graft(source, count, task=halves[1], seed=5, fine_tune=fine_tune, lr=2e-3)
    assert grown.name == grown.plan.name == name
    for number, stage in enumerate(STAGES[:5]):
        mine, theirs = grown.model.stages[stage], source.stages[stage]
        if number < count:
            assert same(mine, theirs)  # running statistics too
        else:
            assert same(mine, digit_network(5).stages[stage])
            assert differs(mine, theirs)
    assert list(grown.model.heads) == ["digits8-B"]
    rows = {row["stage"]: row for row in describe_plan(grown.model, grown.plan)}
    assert [stage for stage in STAGES if rows[stage]["trainable"]] == moving
    assert all(rows[stage]["lr"] == [2e-3] for stage in [*moving, "head"])
    # A graft is a copy: training it leaves the source alone.
    train(grown.model, halves[1], grown.plan, epochs=1, device="cpu", progress=False)
    for stage in STAGES[:count]:
        assert same(grown.model.stages[stage], source.stages[stage]) is (not fine_tune)
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())


def test_seeds_draw_other_stages_over_the_same_graft(trained, halves):
    first, again, other = (graft(trained["A"], 3, task=halves[1], seed=seed).model for seed in (1, 1, 2))
    assert same(first, again)
    assert same(first.stages["conv3"], other.stages["conv3"])
    assert differs(first.stages["conv4"], other.stages["conv4"])
    assert differs(first.heads, other.heads)


def test_a_graft_learns_the_other_half(trained, halves):
    grown = graft(trained["A"], 2, task=halves[1], seed=0, lr=3e-3)
    train(grown.model, halves[1], grown.plan, epochs=6, device="cpu", progress=False)
    assert evaluate(grown.model, halves[1].test)["accuracy"] > 0.8


@pytest.mark.parametrize("count", [-1, 6])
def test_more_stages_than_there_are_cannot_be_copied(count, trained, halves):
    with pytest.raises(ValueError, match=rf"n_stages={count}: the source has 5 stages with parameters: \['conv1'"):
        graft(trained["A"], count, task=halves[1], seed=0)


def test_another_architecture_cannot_be_grafted(trained, halves, tiny_backbone):
    with pytest.raises(ValueError, match="draw made 'tiny', whose stages are not those of the source 'digit_network'"):
        graft(trained["A"], 1, task=halves[1], seed=0, draw=lambda seed: tiny_backbone)
