import pytest
import torch

from tlcourse.backbones import attach_head
from tlcourse.costs import layer_costs
from tlcourse.plans import Plan, Rule, describe_plan
from tlcourse.strategies import bias_only, feature_extraction, full_fine_tune, last_stages

pytestmark = pytest.mark.usefixtures("one_thread")
# 12 x 12 images with three channels: positions x outputs x inputs x kernel, and the head's 12 x 2.
STEM, BLOCK1, BLOCK10, HEAD = 36 * 8 * 3 * 9, 36 * 8 * 8 * 9, 36 * 12 * 8 * 9, 24
WHOLE = STEM + 2 * (BLOCK1 + BLOCK10 + HEAD)
SHARES = {  # plan -> multiply-accumulates of the backward pass: weights that move, inputs behind something that moves
    "features": (feature_extraction, (0, 0, 0, 0, HEAD)),
    "last": (lambda model: last_stages(model, 1), (0, 0, BLOCK10, 0, 2 * HEAD)),
    "full": (full_fine_tune, (STEM, 2 * BLOCK1, 2 * BLOCK10, 0, 2 * HEAD)),
    "biases": (bias_only, (0, BLOCK1, BLOCK10, 0, 2 * HEAD)),  # cheap in parameters, half the price in time
    "first": (lambda model: Plan("first", (Rule("stem", 0.1), Rule("*", 0.0))), (STEM, BLOCK1, BLOCK10, 0, HEAD)),
}


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.mark.parametrize("count", [1, 3])
def test_layers_cost_their_multiply_accumulates(count, model, tiny_task):
    costs = layer_costs(model, tiny_task.train.inputs[:count])
    assert [(cost.stage, cost.layer) for cost in costs] == [
        ("stem", "0"),
        ("block1", "0"),
        ("block10", "0"),
        ("head", "bright"),
    ]
    assert [cost.count for cost in costs] == [count * cost for cost in (STEM, BLOCK1, BLOCK10, HEAD)]


def test_measuring_leaves_the_model_alone(model, tiny_task):
    model.train()
    model.stages["stem"].eval()
    modes = [part.training for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layer_costs(model, tiny_task.train.inputs[:2])
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("name", SHARES)
def test_a_plan_needs_its_share_of_the_backward_pass(name, model, tiny_task):
    make, costs = SHARES[name]
    rows = describe_plan(model, make(model), example=tiny_task.train.inputs[:2])
    assert [row["backward"] for row in rows] == pytest.approx([cost / WHOLE for cost in costs])
    assert [row["backward"] for row in describe_plan(model, make(model))] == [None] * 5


def test_texts_have_costs_too(minilm, lines):
    rows = describe_plan(attach_head(minilm, lines), Plan("all", (Rule("*", 0.1),)), example=lines.train.inputs[0:1])
    shares = [row["backward"] for row in rows]
    assert shares[2:7] == pytest.approx([shares[2]] * 5)  # encoder layers of one size
    assert shares[0] == 0  # an embedding is a look-up
    assert sum(shares) == pytest.approx(1)
