import dataclasses
import json

import pytest
import torch
from torch import nn

from tlcourse.backbones import attach_head
from tlcourse.norms import Norm
from tlcourse.plans import (
    Plan,
    Rule,
    apply_plan,
    describe_plan,
    format_plan,
    parameter_groups,
)
from tlcourse.strategies import discriminative, feature_extraction, full_fine_tune, last_stages

pytestmark = pytest.mark.usefixtures("one_thread")
PLANS = {
    "features": lambda model: feature_extraction(model, lr=1e-3),
    "last": lambda model: last_stages(model, 2, lr=1e-4, head_lr=1e-3),
    "discriminative": lambda model: discriminative(model, lr=1e-3),
    "full": lambda model: full_fine_tune(model, lr=1e-4, head_lr=1e-2),
    "biases": lambda model: Plan("biases", (Rule("*bias", 1e-3), Rule("*", 0.0))),
}
RATES = {  # stage -> rate; the neck has no parameters
    "features": {"stem": 0, "block1": 0, "block10": 0, "head": 1e-3},
    "last": {"stem": 0, "block1": 1e-4, "block10": 1e-4, "head": 1e-3},
    "discriminative": {"stem": 1e-3 / 2.6**3, "block1": 1e-3 / 2.6**2, "block10": 1e-3 / 2.6, "head": 1e-3},
    "full": {"stem": 1e-4, "block1": 1e-4, "block10": 1e-4, "head": 1e-2},
}
OLD_JSON = (
    '{"name": "old", "rules": [{"pattern": "head", "lr": 0.1, "decay": 0.0}, '
    '{"pattern": "*", "lr": 0.0, "decay": 0.01}]}'
)
NORMS = {  # plan -> what the normalisation of stem (BatchNorm), block1 (GroupNorm) and block10 (BatchNorm) does
    "features": ["frozen", "frozen", "frozen"],
    "last": ["frozen", "affine", "train"],
    "full": ["train", "affine", "train"],
    "biases": ["train", "affine", "train"],
}
FROZEN = {  # a stage without parameters is frozen with what precedes it
    "features": {"stem", "block1", "block10", "neck"},
    "last": {"stem"},
    "discriminative": set(),
    "full": set(),
    "biases": set(),
}
PATTERNS = [  # pattern, the parameters that it moves
    ("block1", ["block1/0.weight", "block1/0.bias", "block1/1.weight", "block1/1.bias"]),
    ("block10/0.*", ["block10/0.weight", "block10/0.bias"]),
    ("block1/*.bias", ["block1/0.bias", "block1/1.bias"]),
    ("head", ["head/bright.weight", "head/bright.bias"]),
    ("*/0.bias", ["stem/0.bias", "block1/0.bias", "block10/0.bias"]),
]
UNMATCHED = ["block2", "layer4", "Head", "block1/9.*", "fc"]
BAD_PLANS = [  # what is made, the error's words
    (lambda model: Plan("open", (Rule("head", 1e-3),)), r"'open' must end in Rule\('\*'"),
    (lambda model: Plan("empty", ()), r"'empty' must end in Rule\('\*'"),
    (lambda model: Rule("head", -1e-3), r"'head': lr=-0.001"),
    (lambda model: Rule("head", float("nan")), r"'head': lr=nan"),
    (lambda model: Rule("head", float("inf")), r"'head': lr=inf"),
    (lambda model: Rule("head", 1e-3, decay=-1.0), r"decay=-1.0"),
    (lambda model: last_stages(model, 0), r"last_stages\(model, 0\): the backbone has 3 stages.*block10"),
    (lambda model: last_stages(model, 4), r"last_stages\(model, 4\): the backbone has 3"),
    (lambda model: discriminative(model, factor=0.5), r"factor=0.5"),
    (
        lambda model: Plan("odd", (Rule("*", 0.1),), prepare=(("shake",),)),
        r"\('shake',\) prepares nothing.*lora",
    ),
    (lambda model: Plan("odd", (Rule("*", 0.1),), prepare=("untie",)), r"'untie' prepares nothing"),
    (lambda model: apply_plan(model, Plan("odd", (Rule("*", 0.1),), (("reset", "top"),))), r"resets 'top'; the stages"),
    (lambda model: parameter_groups(model, Plan("ice", (Rule("*", 0.0),))), r"'ice' freezes everything"),
]


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_a_value(name, model):
    plan = PLANS[name](model)
    assert Plan.from_json(plan.to_json()) == plan == PLANS[name](model)
    assert hash(plan) == hash(PLANS[name](model))
    assert plan != dataclasses.replace(plan, rules=(Rule("head", 0.5), *plan.rules))
    assert json.loads(plan.to_json())["rules"][-1]["pattern"] == "*"
    assert len(str(plan).splitlines()) == 1 + len(plan.rules)


@pytest.mark.parametrize("name", RATES)
def test_each_stage_gets_its_rate(name, model):
    rows = {row["stage"]: row for row in describe_plan(model, PLANS[name](model))}
    assert list(rows) == ["stem", "block1", "block10", "neck", "head"]
    for stage, rate in RATES[name].items():
        size = sum(parameter.numel() for parameter in model.stages[stage].parameters())
        assert rows[stage]["lr"] == pytest.approx([rate])
        assert (rows[stage]["parameters"], rows[stage]["trainable"]) == (size, size if rate else 0)
    neck = {"stage": "neck", "parameters": 0, "trainable": 0, "lr": [], "decay": [], "norm": [], "backward": None}
    assert rows["neck"] == {**neck, "frozen": "neck" in FROZEN[name]}


@pytest.mark.parametrize("name", PLANS)
def test_groups_hold_each_moving_tensor_once_and_nothing_else(name, model):
    plan = PLANS[name](model)
    apply_plan(model, plan)
    groups = parameter_groups(model, plan)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert all(len(group["names"]) == len(group["params"]) for group in groups)
    torch.optim.AdamW(groups)  # an optimiser takes them as they are


@pytest.mark.parametrize("name", PLANS)
def test_tensors_of_one_dimension_are_not_decayed(name, model):
    for group in parameter_groups(model, PLANS[name](model)):
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.01 if parameter.dim() > 1 else 0.0)


@pytest.mark.parametrize("name", PLANS)
def test_a_frozen_stage_is_frozen_whole(name, model):
    apply_plan(model, PLANS[name](model))
    model.train()
    assert model.frozen_stages == FROZEN[name]
    for stage, module in model.stages.items():
        assert all(part.training is (stage not in FROZEN[name]) for part in module.modules())


def test_a_plan_replaces_the_one_before(model):
    apply_plan(model, feature_extraction(model))
    apply_plan(model, full_fine_tune(model))
    assert model.frozen_stages == frozenset()
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_applying_a_plan_keeps_the_mode_and_the_weights(training, model):
    before = {key: value.clone() for key, value in model.train(training).state_dict().items()}
    apply_plan(model, last_stages(model, 1))
    assert model.training is training
    assert model.stages["head"].training is training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("pattern", "names"), PATTERNS)
def test_a_pattern_matches_whole_names(pattern, names, model):
    groups = parameter_groups(model, Plan("one", (Rule(pattern, 1e-3), Rule("*", 0.0))))
    assert sorted(name for group in groups for name in group["names"]) == sorted(names)


def test_the_first_match_wins(model):
    plan = Plan("first", (Rule("block1/0.*", 0.0), Rule("block1", 0.1), Rule("block*", 0.2), Rule("*", 0.0)))
    rates = {name: group["lr"] for group in parameter_groups(model, plan) for name in group["names"]}
    assert rates == {
        **dict.fromkeys(["block1/1.weight", "block1/1.bias"], 0.1),
        **dict.fromkeys(["block10/0.weight", "block10/0.bias", "block10/1.weight", "block10/1.bias"], 0.2),
    }


@pytest.mark.parametrize("pattern", UNMATCHED)
def test_a_pattern_without_a_match_is_named(pattern, model):
    plan = Plan("mistyped", (Rule("head", 1e-3), Rule(pattern, 1e-4), Rule("*", 0.0)))
    for use in (describe_plan, apply_plan, parameter_groups):
        with pytest.raises(ValueError) as error:
            use(model, plan)
        assert repr(pattern) in str(error.value)
        assert "stem, block1, block10, neck, head" in str(error.value)


def test_a_pattern_behind_a_wider_one_is_named(model):
    plan = Plan("shadowed", (Rule("block*", 1e-3), Rule("block10", 1e-4), Rule("*", 0.0)))
    with pytest.raises(ValueError, match="'block10' matches nothing that an earlier rule left"):
        parameter_groups(model, plan)


@pytest.mark.parametrize(("make", "words"), BAD_PLANS)
def test_what_is_no_plan_is_refused(make, words, model):
    with pytest.raises(ValueError, match=words):
        make(model)


def test_tensors_of_equal_value_are_different_tensors(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    groups = parameter_groups(model, full_fine_tune(model))
    assert sum(len(group["params"]) for group in groups) == sum(1 for _ in model.parameters())


def test_a_tied_tensor_counts_once_and_has_one_rate(model):
    stages = model.backbone.stages
    stages["block1"][0].bias = stages["stem"][0].bias
    groups = parameter_groups(model, full_fine_tune(model))
    held = [name for group in groups for name in group["names"]]
    assert "stem/0.bias" in held
    assert "block1/0.bias" not in held
    for plan in (discriminative(model), last_stages(model, 2)):
        with pytest.raises(ValueError, match=r"'stem/0.bias' and 'block1/0.bias' are one tensor.*rates"):
            parameter_groups(model, plan)


def test_a_head_more_belongs_to_the_stage_of_the_heads(model):
    model.add_head("other", 3)
    names = [name for group in parameter_groups(model, feature_extraction(model)) for name in group["names"]]
    assert sorted(names) == [f"head/{head}.{part}" for head in ("bright", "other") for part in ("bias", "weight")]


def test_the_normalisation_between_moving_weights_moves_with_its_stage(model):
    """A stage with one moving tensor is not frozen: its statistics adapt, and the cached prefix ends before it."""
    apply_plan(model, Plan("partly", (Rule("block10/0.weight", 1e-3), Rule("*", 0.0))))
    model.train()
    assert [part.training for part in model.modules() if isinstance(part, nn.BatchNorm2d)] == [False, True]


def test_a_plan_without_policy_or_steps_is_written_as_it_always_was():
    plan = Plan("old", (Rule("head", 0.1, 0.0), Rule("*", 0.0)))
    assert plan.to_json() == OLD_JSON
    assert Plan.from_json(OLD_JSON) == plan


def test_policies_and_steps_survive_as_text():
    rules = (Rule("stem", 0.0, norm="statistics"), Rule("*", 0.1, norm=Norm(update=False)))
    plan = Plan("new", rules, prepare=[["reset", "stem", 2], ["untie"]])
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert "norm statistics" in str(plan)
    assert "first: reset stem 2" in str(plan)


@pytest.mark.parametrize("name", NORMS)
def test_the_table_says_what_normalisation_does(name, model):
    rows = describe_plan(model, PLANS[name](model))
    assert [row["norm"] for row in rows] == [[NORMS[name][0]], [NORMS[name][1]], [NORMS[name][2]], [], []]
    decays = [0.0] if name == "biases" else [0.0, 0.01]
    assert all(row["decay"] == decays for row in rows if row["trainable"])


def test_the_table_prints(model, tiny_task):
    rows = describe_plan(model, last_stages(model, 1), example=tiny_task.train.inputs[:1])
    lines = format_plan(rows).splitlines()
    assert lines[0].split() == ["stage", "parameters", "trainable", "lr", "decay", "norm", "backward"]
    assert lines[1].split() == ["stem", "240", "0", "0", "frozen", "0", "%"]
    assert lines[3].startswith("block10         900        900  0.0001  0, 0.01  train")
    assert len({len(line) for line in lines[:-2]}) == 1


def tie(model):
    """One tensor in three places."""
    stages = model.backbone.stages
    stages["block1"][0].bias = stages["stem"][0].bias
    stages["block1"][1].bias = stages["stem"][0].bias
    return stages


def test_an_untied_tensor_gets_a_copy_for_each_rate(model):
    stages = tie(model)
    plan = last_stages(model, 2).untied()
    values = stages["stem"][0].bias.clone()
    apply_plan(model, plan)
    assert stages["block1"][0].bias is stages["block1"][1].bias  # one rate, still one tensor
    assert stages["block1"][0].bias is not stages["stem"][0].bias
    assert torch.equal(stages["block1"][0].bias, values)
    assert stages["block1"][0].bias.requires_grad
    assert not stages["stem"][0].bias.requires_grad
    names = [name for group in parameter_groups(model, plan) for name in group["names"]]
    assert "block1/0.bias" in names
    kept = stages["block1"][0].bias
    apply_plan(model, plan)
    assert stages["block1"][0].bias is kept


def test_tensors_of_one_rate_stay_tied(model):
    stages = tie(model)
    apply_plan(model, full_fine_tune(model).untied())
    assert stages["block1"][0].bias is stages["stem"][0].bias


def test_the_error_about_tied_tensors_says_how_to_untie_them(model):
    tie(model)
    with pytest.raises(ValueError, match=r"plan.untied\(\)"):
        parameter_groups(model, discriminative(model))


def test_a_stage_is_reset_once(model):
    plan = dataclasses.replace(full_fine_tune(model), prepare=(("reset", "block10", 5),))
    stage = model.stages["block10"]
    with torch.no_grad():
        stage[1].running_mean.fill_(3)
    before, other, generator = stage[0].weight.clone(), model.stages["stem"][0].weight.clone(), torch.get_rng_state()
    apply_plan(model, plan)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.equal(stage[0].weight, before)
    assert stage[1].running_mean.abs().max() == 0
    assert torch.equal(model.stages["stem"][0].weight, other)
    with torch.no_grad():
        stage[0].weight.fill_(7)
    apply_plan(model, plan)  # after training, say: what was learnt stays
    assert stage[0].weight.min() == 7


def test_a_stage_whose_start_nobody_knows_is_not_reset(model):
    model.stages["block10"].scale = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="cannot reset 'block10': nothing says how scale starts"):
        apply_plan(model, Plan("again", (Rule("*", 0.1),), (("reset", "block10"),)))
