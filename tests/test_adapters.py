import copy

import pytest
import torch
from torch import nn

from tlcourse.adapters import inject_lora, lora_layers, merge_lora, unmerge_lora
from tlcourse.backbones import attach_head
from tlcourse.caching import frozen_depth
from tlcourse.plans import Plan, Rule, apply_plan, describe_plan, parameter_groups
from tlcourse.strategies import feature_extraction, lora
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
SCALES = [(4, 8, False, 2.0), (4, 8, True, 4.0)]  # rank, alpha, rank-stabilised, factor of B A
TARGETS = [  # patterns, the layers that get adapters
    ((), ["stem.0", "block1.0", "block10.0"]),
    (("block1/*",), ["block1.0"]),
    (("block1*/0",), ["block1.0", "block10.0"]),
    (("0",), ["stem.0", "block1.0", "block10.0"]),
]
REFUSED = [  # what is done, the error's words
    (lambda model: inject_lora(model, targets=("query",)), r"LoRA on \['query'\]: no linear layer.*block10"),
    (lambda model: inject_lora(model, targets=("0", "block1/1")), r"LoRA on \['block1/1'\]"),
    (lambda model: inject_lora(model, rank=0), "rank=0"),
    (lambda model: merge_lora(model), "has no LoRA"),
    (lambda model: unmerge_lora(model), "has no LoRA"),
]


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.fixture
def images(tiny_task):
    return tiny_task.test.inputs


def stir(model):
    """Adapters that do something, as after training."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(3))
    return model


def test_it_starts_as_the_model_that_it_is_added_to(model, images):
    expected, generator = model(images), torch.get_rng_state()
    inject_lora(model)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model.training
    assert torch.equal(model(images), expected)
    assert not torch.allclose(stir(model)(images), expected, atol=1e-2)


@pytest.mark.parametrize(("rank", "alpha", "stabilised", "factor"), SCALES)
def test_it_adds_the_scaled_product(rank, alpha, stabilised, factor, model):
    """The oracle is the formula: W + factor B A, on a convolution's weight as a matrix."""
    weight = model.stages["block1"][0].weight.clone()
    inject_lora(model, rank=rank, alpha=alpha, targets=("block1/0",), rank_stabilised=stabilised)
    layer = stir(model).stages["block1"][0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = weight + factor * (b.flatten(1) @ a.flatten(1)).view_as(weight)
    merge_lora(model)
    assert torch.allclose(layer.base_layer.weight, expected, atol=1e-6)


def test_it_gives_what_a_model_of_peft_gives(model):
    from peft import LoraConfig, get_peft_model

    network = nn.Sequential(copy.deepcopy(model.stages["block1"]), copy.deepcopy(model.stages["block10"]))
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0.0", "1.0"], use_rslora=True)
    theirs = get_peft_model(network, config).eval()
    inject_lora(model, rank=4, alpha=8, targets=("block1*/0",), rank_stabilised=True)
    stir(model)
    kept = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(kept.pop(0))
    assert not kept
    state = torch.randn(5, 8, 6, 6)
    ours = model.stages["block10"](model.stages["block1"](state))
    assert torch.allclose(ours, theirs(state), atol=1e-6)


@pytest.mark.parametrize(("targets", "names"), TARGETS)
def test_patterns_choose_the_layers(targets, names, model):
    inject_lora(model, targets=targets)
    found = [name for name, layer in model.backbone.stages.named_modules() if hasattr(layer, "lora_A")]
    assert found == names
    assert len(lora_layers(model)) == len(names)


def test_merging_gives_the_same_outputs_and_can_be_undone(model, images):
    """In float32 to 1e-5, a few units of the last place of the outputs; in bfloat16 it would be 1e-2."""
    inject_lora(model)
    stir(model)
    expected, weight = model(images), model.stages["stem"][0].base_layer.weight.clone()
    merge_lora(model)
    assert not torch.equal(model.stages["stem"][0].base_layer.weight, weight)
    assert torch.allclose(model(images), expected, atol=1e-5)
    with pytest.raises(ValueError, match="merged already"):
        merge_lora(model)
    with pytest.raises(ValueError, match=r"unmerge_lora\(model\)"):
        apply_plan(model, lora_plan())
    apply_plan(model, feature_extraction(model))
    unmerge_lora(model)
    assert torch.allclose(model.stages["stem"][0].base_layer.weight, weight, atol=1e-6)
    with pytest.raises(ValueError, match="not merged"):
        unmerge_lora(model)
    apply_plan(model, lora_plan())


def lora_plan():
    return Plan("by hand", (Rule("*lora_*", 0.1), Rule("*", 0.0)))


@pytest.mark.parametrize(("act", "words"), REFUSED)
def test_what_cannot_be_done_is_refused(act, words, model):
    with pytest.raises(ValueError, match=words):
        act(model)
    assert not lora_layers(model)


def test_training_moves_the_adapters_and_the_head_alone(model, tiny_task):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plan = lora(model, rank=2, lr=0.01, head_lr=0.02)
    assert Plan.from_json(plan.to_json()) == plan
    assert hash(Plan.from_json(plan.to_json())) == hash(plan)
    history = train(model, tiny_task, plan, epochs=2, device="cpu", progress=False)
    assert history.cached_stages == 0
    after = model.state_dict()
    assert {key for key in after if key.replace(".base_layer", "") not in before} == {
        key for key in after if "lora_" in key
    }
    for key, value in after.items():
        if "lora_B" in key:
            assert value.abs().max() > 0
        elif "lora_" not in key:
            moved = key.startswith("heads")
            assert torch.equal(value, before[key.replace(".base_layer", "")]) is not moved, key
    assert history.train_loss[1] < history.train_loss[0]


def test_a_plan_adds_it_once(model):
    plan = lora(model, rank=2)
    with pytest.raises(ValueError, match=r"'\*lora_\*' matches nothing.*apply_plan prepares"):
        parameter_groups(model, plan)
    for _ in range(2):
        apply_plan(model, plan)
    assert len(lora_layers(model)) == 3
    names = {name for group in parameter_groups(model, plan) for name in group["names"]}
    assert len(names) == 2 + 6
    apply_plan(copy.deepcopy(model), plan)
    with pytest.raises(ValueError, match="has LoRA already"):
        apply_plan(model, lora(model, rank=4))


def test_describing_the_plan_leaves_the_model_alone(model):
    plan = lora(model, rank=2, targets=("block10/0",))
    rows = {row["stage"]: row for row in describe_plan(model, plan)}
    assert not lora_layers(model)
    assert rows["block10"]["trainable"] == 2 * (8 * 9) + 12 * 2
    assert rows["block10"]["norm"] == ["frozen"]
    assert rows["stem"]["trainable"] == 0
    assert frozen_depth(model, plan) == 2


def test_queries_and_values_of_a_text_encoder(minilm, lines):
    model = attach_head(minilm, lines)
    few = lines.train.inputs[0:2]
    expected = model(few)
    plan = lora(model, rank=2, targets=("query", "value"))
    apply_plan(model, plan)
    assert len(lora_layers(model)) == 12
    assert torch.equal(model(few), expected)


def test_a_stage_that_is_drawn_anew_keeps_the_start_of_its_lora():
    from tlcourse.backbones import Backbone, ImagePreprocessing, Model

    stages = {"flat": torch.nn.Flatten(), "layer": torch.nn.Linear(12, 4)}
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Model(Backbone("one layer", stages, feature_dim=4, preprocessing=grey, pretrained=False))
    model.add_head("any", 2)
    plan = lora(model, rank=2)  # a stage that is one layer
    before = model.backbone.stages["layer"].weight.clone()
    apply_plan(model, Plan("anew", plan.rules, prepare=(*plan.prepare, ("reset", "layer", 1))))
    layer = model.backbone.stages["layer"]
    assert not torch.equal(layer.base_layer.weight, before)
    assert all((part.weight == 0).all() for part in layer.lora_B.values())
    assert {group["stage"] for group in parameter_groups(model, plan)} == {"layer", "head"}
