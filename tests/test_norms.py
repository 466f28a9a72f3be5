import copy

import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, Model
from tlcourse.caching import frozen_depth
from tlcourse.norms import NORM_PRESETS, Norm, normalisation_layers
from tlcourse.plans import Plan, Rule, apply_plan, describe_plan, parameter_groups

pytestmark = pytest.mark.usefixtures("one_thread")
POLICIES = {  # name -> policy, (scales move, statistics are updated, batch statistics are used)
    "frozen": ("frozen", (False, False, False)),
    "statistics": ("statistics", (False, True, True)),
    "affine": ("affine", (True, False, False)),
    "train": ("train", (True, True, True)),
    "batch alone": (Norm(affine=False, update=False, use="batch"), (False, False, True)),
    "batch and affine": (Norm(affine=True, update=False, use="batch"), (True, False, True)),
}
SHAPES = {"1d": (6, 4), "2d": (6, 4, 3, 3), "3d": (6, 4, 2, 2, 2)}
LAYERS = {
    "1d": lambda affine: nn.BatchNorm1d(4, affine=affine),
    "2d": lambda affine: nn.BatchNorm2d(4, affine=affine),
    "3d": lambda affine: nn.BatchNorm3d(4, affine=affine),
}
REFUSED = [  # what is made, the error's words
    (lambda: Norm(update=True, use="running"), "update=True with use='running'.*adapt them first"),
    (lambda: Norm(use="both"), "use='both'"),
    (lambda: Rule("stem", 1e-3, norm="half"), "no normalisation policy 'half'; there are: frozen, statistics"),
    (lambda: Rule("stem", 0.0, norm="train"), "'stem': norm='train' lets scales.*lr is 0"),
    (lambda: Rule("stem", 0.0, norm="affine"), "'stem': norm='affine' lets scales.*lr is 0"),
]
# What stays bit for bit the same while a stage is frozen, and the layers whose mode would otherwise change it.
FROZEN_LAYERS = {
    "batch 1d": (nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)),
    "batch 1d, no affine": (nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
    "batch 2d": (nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Flatten()),
    "batch 3d": (nn.Unflatten(1, (1, 1, 2, 2)), nn.Conv3d(1, 4, (1, 2, 2)), nn.BatchNorm3d(4), nn.Flatten()),
    "group": (nn.Unflatten(1, (4, 1)), nn.GroupNorm(2, 4), nn.Flatten(), nn.Dropout(0.5)),
    "layer": (nn.Linear(4, 4), nn.LayerNorm(4), nn.Dropout(0.5)),
}


def make_model(*middle, last=None):
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    stages = {"stem": nn.Sequential(*copy.deepcopy(middle)), "top": last or nn.Linear(4, 4)}
    model = Model(Backbone("small", stages, feature_dim=4, preprocessing=grey, pretrained=False))
    model.add_head("pairs", 2)
    return model


def train_by_hand(model, plan, state, steps=3):
    """What a user's own loop does: `model.train()` before every step."""
    apply_plan(model, plan)
    optimizer = torch.optim.SGD(parameter_groups(model, plan))
    for _ in range(steps):
        model.train()
        loss = model.run(state).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", POLICIES)
def test_each_switch_does_what_it_says(name, kind, affine):
    policy, (scales_move, updated, by_batch) = POLICIES[name]
    model = make_model(LAYERS[kind](affine), nn.Flatten(), nn.LazyLinear(4))
    layer = model.stages["stem"][0]
    state = 3 + 2 * torch.randn(SHAPES[kind])
    model.backbone.run(state)  # makes the lazy layer
    layer.reset_running_stats()
    plan = Plan("one", (Rule("head", 0.01), Rule("stem", 0.01, norm=policy), Rule("*", 0.0)))
    before = copy.deepcopy(layer)
    apply_plan(model, plan)
    model.train()
    seen = layer(state).detach()
    layer.load_state_dict(before.state_dict())
    assert torch.allclose(seen, before.train(by_batch)(state), atol=1e-6)
    before = copy.deepcopy(layer)
    train_by_hand(model, plan, state)
    assert (not torch.equal(layer.running_mean, before.running_mean)) is updated
    assert (not torch.equal(layer.running_var, before.running_var)) is updated
    assert (layer.num_batches_tracked.item() > 0) is updated
    if affine:
        assert (not torch.equal(layer.weight, before.weight)) is scales_move
        assert layer.bias.requires_grad is scales_move
    mean = layer.running_mean.clone()
    model.eval()
    assert torch.equal(layer(state), copy.deepcopy(layer)(state))
    assert torch.equal(layer.running_mean, mean)  # in eval mode nothing is updated, whatever the policy


def test_synchronised_batch_norm_obeys_too():
    model = make_model(nn.SyncBatchNorm(4))
    for policy, trains in (("frozen", False), ("train", True), (Norm(update=False), True)):
        apply_plan(model, Plan("one", (Rule("stem", 0.1, norm=policy), Rule("*", 0.1))))
        model.train()
        assert model.stages["stem"][0].training is trains
        assert model.stages["stem"][0].track_running_stats is (policy != Norm(update=False))


def test_a_later_plan_gives_a_layer_its_own_way_back():
    model = make_model(nn.BatchNorm1d(4))
    for norm in (Norm(update=False), "frozen", None):
        apply_plan(model, Plan("one", (Rule("stem", 0.1, norm=norm), Rule("*", 0.1))))
    model.train()
    layer = model.stages["stem"][0]
    assert (layer.training, layer.track_running_stats, model.norm_modes) == (True, True, {})


@pytest.mark.parametrize(
    ("policy", "depth"), [(None, 2), ("frozen", 2), ("statistics", 0), (Norm(affine=False, update=False), 0)]
)
def test_a_stage_that_reads_its_batch_ends_the_prefix(policy, depth):
    """Nothing in it moves, but what it puts out changes."""
    model = make_model(nn.Linear(4, 4), nn.BatchNorm1d(4))
    plan = Plan("one", (Rule("head", 0.1), Rule("stem", 0.0, norm=policy), Rule("*", 0.0)))
    apply_plan(model, plan)
    assert frozen_depth(model, plan) == depth
    assert ("stem" in model.frozen_stages) is (depth == 2)
    assert describe_plan(model, plan)[0]["frozen"] is (depth == 2)
    assert describe_plan(model, plan)[0]["trainable"] == 0


def test_a_stage_without_batch_norm_has_no_statistics_to_adapt():
    model = make_model(nn.Linear(4, 4), nn.LayerNorm(4))
    assert frozen_depth(model, Plan("one", (Rule("head", 0.1), Rule("*", 0.0, norm="statistics")))) == 2


def test_a_rule_reaches_a_layer_without_parameters():
    model = make_model(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False))
    plan = Plan("one", (Rule("stem/1", 0.0, norm="frozen"), Rule("*", 0.1)))
    apply_plan(model, plan)
    model.train()
    assert [part.training for part in model.stages["stem"]] == [True, False]
    with pytest.raises(ValueError, match="'stem/1' matches nothing"):
        apply_plan(model, Plan("one", (Rule("stem/1", 0.1), Rule("*", 0.1))))


def test_running_statistics_that_are_not_kept_cannot_be_used():
    model = make_model(nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="keeps no running statistics"):
        apply_plan(model, Plan("one", (Rule("stem", 0.1, norm="affine"), Rule("*", 0.1))))


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_combinations_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name", NORM_PRESETS)
def test_a_preset_is_its_name(name):
    assert str(Norm.named(name)) == name
    assert Rule("stem", 0.1, norm=name) == Rule("stem", 0.1, norm=NORM_PRESETS[name])


@pytest.mark.parametrize("name", FROZEN_LAYERS)
def test_frozen_means_bit_identical(name):
    """Under the user's own `model.train()`: parameters, statistics, and what the stage puts out, dropout included."""
    model = make_model(*FROZEN_LAYERS[name])
    state = torch.randn(6, 4)
    stage = model.stages["stem"]
    before = copy.deepcopy(stage.state_dict())
    expected = stage.eval()(state)
    train_by_hand(model, Plan("one", (Rule("head", 0.1), Rule("top", 0.1), Rule("*", 0.0))), state)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in stage.state_dict().items())
    assert all(parameter.grad is None for parameter in stage.parameters())
    assert torch.equal(stage(state), expected)
    assert not torch.equal(model.stages["top"].weight, make_model(*FROZEN_LAYERS[name]).stages["top"].weight)


def test_layers_are_known_by_type_or_name():
    class TextRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

    class PreNorm(nn.Sequential):
        """Ends in Norm, but only holds one."""

    module = nn.Sequential(nn.Linear(4, 4), TextRMSNorm(), PreNorm(nn.LayerNorm(4)), nn.InstanceNorm2d(4, affine=True))
    assert [name for name, _ in normalisation_layers(module)] == ["1", "2.0", "3"]
