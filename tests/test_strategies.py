import copy
import dataclasses

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, Model, attach_head
from tlcourse.plans import apply_plan, describe_plan, parameter_groups, schedule_from_json, schedule_to_json
from tlcourse.strategies import (
    bias_only,
    discriminative,
    feature_extraction,
    full_fine_tune,
    gradual_unfreezing,
    layerwise_decay,
    lp_ft,
    norm_only,
)
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = {  # strategy -> the parameters of the backbone that move
    norm_only: {f"{stage}/1.{part}" for stage in ("stem", "block1", "block10") for part in ("weight", "bias")},
    bias_only: {f"{stage}/{part}.bias" for stage in ("stem", "block1", "block10") for part in "01"},
}
STATISTICS = [  # strategy, options, whether BatchNorm statistics follow
    (norm_only, {}, True),
    (norm_only, {"norm": "affine"}, False),
    (bias_only, {}, False),
    (bias_only, {"norm": "train"}, True),
]
REFUSED = [
    (lambda model: layerwise_decay(model, decay=0.0), "decay=0.0"),
    (lambda model: layerwise_decay(model, decay=1.1), "decay=1.1"),
    (lambda model: discriminative(model, lr=1e-3, lowest=1e-2), "lowest=0.01"),
    (lambda model: discriminative(model, lr=1e-3, lowest=0.0), "lowest=0.0"),
    (lambda model: lp_ft(model, head_epochs=0, epochs=1), "head_epochs=0"),
    (lambda model: lp_ft(model, head_epochs=1, epochs=0), "epochs=0"),
    (lambda model: gradual_unfreezing(model, epochs_a_stage=0), "epochs_a_stage=0"),
    (lambda model: gradual_unfreezing(model, last_epochs=0), "last_epochs=0"),
]


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


def rates_of(model, plan):
    return {row["stage"]: row["lr"][-1] for row in describe_plan(model, plan) if row["lr"]}


def even_mults(start, stop, n):
    """fastai's function of this name: n rates in geometric steps."""
    return [start * (stop / start) ** (i / (n - 1)) for i in range(n)]


def test_layerwise_decay_gives_the_rates_and_decays_of_timm():
    network = timm.create_model(
        "vit_tiny_patch16_224", pretrained=False, img_size=32, patch_size=16, depth=3, embed_dim=24, num_classes=2
    )

    class Stem(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embed, self.cls_token, self.pos_embed = network.patch_embed, network.cls_token, network.pos_embed

    first, second, third = network.blocks
    stages = {"stem": Stem(), "block1": first, "block2": second, "block3": nn.Sequential(third, network.norm)}
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Model(Backbone("vit", stages, feature_dim=24, preprocessing=grey, pretrained=False))
    model.heads["task"] = network.head
    groups = parameter_groups(model, layerwise_decay(model, lr=2e-3, decay=0.65, weight_decay=0.05))
    ours = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    oracle = param_groups_layer_decay(network, weight_decay=0.05, layer_decay=0.65)
    theirs = {id(p): (2e-3 * group["lr_scale"], group["weight_decay"]) for group in oracle for p in group["params"]}
    assert ours.keys() == theirs.keys()
    assert len(ours) == len(list(network.parameters()))
    assert all(ours[key] == pytest.approx(theirs[key], rel=1e-12) for key in ours)
    assert len({rate for rate, _ in ours.values()}) == 5


@pytest.mark.parametrize(("lowest", "lr"), [(1e-5, 1e-3), (3e-4, 3e-4)])
def test_a_lowest_rate_gives_the_slice_of_fastai(lowest, lr, model):
    rates = rates_of(model, discriminative(model, lowest=lowest, lr=lr))
    assert list(rates.values()) == pytest.approx(even_mults(lowest, lr, 4), rel=1e-12)


@pytest.mark.parametrize("strategy", PARTS)
def test_only_these_parts_and_the_head_move(strategy, model, tiny_task):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plan = strategy(model, lr=0.01, head_lr=0.02)
    groups = parameter_groups(model, plan)
    names = {name: group["lr"] for group in groups for name in group["names"]}
    assert {name for name, lr in names.items() if lr == 0.01} == PARTS[strategy]
    assert {name for name, lr in names.items() if lr == 0.02} == {"head/bright.weight", "head/bright.bias"}
    train(model, tiny_task, plan, epochs=1, device="cpu", progress=False)
    for stage, module in model.stages.items():
        for name, parameter in module.named_parameters():
            prefix = "heads" if stage == "head" else f"backbone.stages.{stage}"
            assert torch.equal(parameter, before[f"{prefix}.{name}"]) is (f"{stage}/{name}" not in names)


@pytest.mark.parametrize(("strategy", "options", "follow"), STATISTICS)
def test_the_policy_says_what_statistics_do_where_a_part_moves(strategy, options, follow, model, tiny_task):
    before = model.stages["stem"][1].running_mean.clone()
    train(model, tiny_task, strategy(model, **options), epochs=1, device="cpu", progress=False)
    assert torch.equal(model.stages["stem"][1].running_mean, before) is not follow
    assert "stem" not in model.frozen_stages


def test_a_backbone_without_normalisation_is_refused(model):
    bare = copy.deepcopy(model)
    for name in ("stem", "block1", "block10"):
        bare.backbone.stages[name][1] = nn.Identity()
    with pytest.raises(ValueError, match="'tiny' has no normalisation"):
        norm_only(bare)


def test_the_head_first_and_then_everything(model):
    schedule = lp_ft(model, head_epochs=2, epochs=3, head_lr=1e-2, lr=1e-4)
    assert schedule == ((feature_extraction(model, lr=1e-2), 2), (full_fine_tune(model, lr=1e-4), 3))


def test_stages_open_from_the_last_to_the_first(model):
    schedule = gradual_unfreezing(model, lr=1e-3, factor=2.0, epochs_a_stage=2, last_epochs=5)
    assert [epochs for _, epochs in schedule] == [2, 2, 2, 5]
    order = ["head", "block10", "block1", "stem"]
    for opened, (plan, _) in enumerate(schedule, start=1):
        rates = rates_of(model, plan)
        assert [rates[name] for name in order] == pytest.approx(
            [1e-3 / 2.0**depth if depth < opened else 0.0 for depth in range(4)]
        )
        apply_plan(model, plan)
        assert "stem" in model.frozen_stages or opened == 4
    assert schedule[-1][0].rules == discriminative(model, lr=1e-3, factor=2.0).rules
    assert {epochs for _, epochs in gradual_unfreezing(model)} == {1}


def test_a_schedule_survives_as_text(model):
    partly = dataclasses.replace(norm_only(model), prepare=(("reset", "block10", 1),))
    for schedule in (lp_ft(model, head_epochs=1, epochs=2), gradual_unfreezing(model), ((partly, 3),)):
        assert schedule_from_json(schedule_to_json(schedule)) == schedule


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_makes_no_strategy_is_refused(make, words, model):
    with pytest.raises(ValueError, match=words):
        make(model)
