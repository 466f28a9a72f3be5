import copy

import pytest
import torch
from torch import nn

from tlcourse.averaging import average_weights, interpolate, recompute_statistics
from tlcourse.backbones import attach_head
from tlcourse.norms import Norm
from tlcourse.plans import Plan, Rule, apply_plan
from tlcourse.strategies import feature_extraction, full_fine_tune, last_stages

ALPHAS = [0.0, 0.1, 0.5, 0.73, 1.0]
MISMATCHES = [  # second state, words
    ({"weight": torch.zeros(3)}, "'weight' is (2,) in state 1, (3,) in 2"),
    ({}, "'weight' is (2,) in state 1, absent in 2"),
    ({"weight": torch.zeros(2), "bias": torch.zeros(1)}, "'bias' is absent in state 1, (1,) in 2"),
]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def models(tiny_backbone, tiny_task):
    """A model and two others with a different upper half, statistics and count of batches."""
    first = attach_head(tiny_backbone, tiny_task)
    found = [first]
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        other = copy.deepcopy(first)
        for name in ("block10", "head"):
            for parameter in other.stages[name].parameters():
                parameter.data += torch.randn(parameter.shape, generator=generator)
        norm = other.backbone.stages["block10"][1]
        norm.running_mean += seed
        norm.num_batches_tracked += 10 * seed
        found.append(other)
    return found


def test_an_average_is_the_mean_of_each_entry(models):
    mean = average_weights(models)
    states = [model.state_dict() for model in models]
    assert mean.keys() == states[0].keys()
    for name, value in mean.items():
        if value.is_floating_point():
            expected = torch.stack([state[name] for state in states]).double().mean(0)
            assert torch.allclose(value.double(), expected, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_an_interpolation_lies_on_the_straight_way(alpha, models):
    start, end = (model.state_dict() for model in models[:2])
    between = interpolate(models[0], models[1], alpha)
    assert between.keys() == start.keys()
    for name, value in between.items():
        assert value.dtype == start[name].dtype
        if value.is_floating_point():
            expected = (1 - alpha) * start[name].double() + alpha * end[name].double()
            assert torch.allclose(value.double(), expected, atol=1e-6)
        else:
            assert torch.equal(value, (start if alpha < 0.5 else end)[name])


def test_the_ends_are_the_models_to_the_last_bit(models):
    for alpha, model in ((0, models[0]), (1, models[1])):
        between = interpolate(models[0], models[1], alpha)
        assert all(torch.equal(value, between[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.7])
def test_what_never_moved_stays_to_the_last_bit(alpha, models):
    state = models[0].state_dict()
    for result in (interpolate(models[0], models[1], alpha), average_weights(models)):
        frozen = [name for name in state if "stem" in name or "block1." in name]
        assert frozen
        assert all(torch.equal(result[name], state[name]) for name in frozen)


def test_integer_buffers_are_not_averaged(models):
    name = "backbone.stages.block10.1.num_batches_tracked"
    counts = [model.state_dict()[name].item() for model in models]
    assert counts == [0, 10, 20]
    mean = average_weights(models)[name]
    assert (mean.item(), mean.dtype) == (0, torch.int64)
    assert [interpolate(models[1], models[2], alpha)[name].item() for alpha in (0.4, 0.5)] == [10, 20]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_float32(dtype):
    values = [torch.full((4,), value, dtype=dtype) for value in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0)]
    mean = average_weights([{"weight": value} for value in values])["weight"]
    assert mean.dtype == dtype
    assert torch.equal(mean, torch.full((4,), 1.125).to(dtype))
    assert interpolate({"w": values[0]}, {"w": values[-1]}, 0.25)["w"].dtype == dtype


@pytest.mark.parametrize("make", [lambda a, b: average_weights([a, b]), lambda a, b: interpolate(a, b, 0.5)])
def test_the_inputs_stay_and_the_result_is_new(make, models):
    before = [copy.deepcopy(model.state_dict()) for model in models[:2]]
    result = make(*models[:2])
    for value in result.values():
        assert not value.requires_grad
        value.zero_()
    for model, state in zip(models[:2], before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_models_and_states_mix_and_load(models, tiny_task):
    target = copy.deepcopy(models[0])
    target.load_state_dict(average_weights([models[0], models[1].state_dict()]))
    head = models[0].heads["bright"].weight, models[1].heads["bright"].weight
    assert torch.allclose(target.heads["bright"].weight, sum(head) / 2, atol=1e-6)
    assert torch.isfinite(target(tiny_task.val.inputs)).all()


def test_one_state_is_its_own_average(models):
    assert all(torch.equal(value, models[1].state_dict()[name]) for name, value in average_weights(models[1:2]).items())


@pytest.mark.parametrize(("other", "words"), MISMATCHES)
@pytest.mark.parametrize("make", [lambda a, b: average_weights([a, b]), lambda a, b: interpolate(a, b, 0.5)])
def test_states_of_different_networks_are_refused(make, other, words):
    with pytest.raises(ValueError) as raised:
        make({"weight": torch.zeros(2)}, other)
    assert words in str(raised.value)


def test_bad_arguments_are_named(models):
    with pytest.raises(ValueError, match="no state to average"):
        average_weights([])
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"alpha={alpha}"):
            interpolate(models[0], models[1], alpha)


def test_recomputed_statistics_are_those_that_torch_finds(models, tiny_task):
    """With dropout off, which `torch.optim.swa_utils.update_bn` leaves on."""
    model, expected = models[1], copy.deepcopy(models[1])
    apply_plan(model, full_fine_tune(model))
    for part in expected.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    torch.optim.swa_utils.update_bn(tiny_task.train.inputs.split(30), expected)
    recompute_statistics(model, tiny_task.train.inputs, batch_size=30)
    for name, value in model.state_dict().items():
        assert torch.allclose(value.double(), expected.state_dict()[name].double(), atol=1e-5), name
    assert model.backbone.stages["stem"][1].num_batches_tracked == 3


@pytest.mark.parametrize(
    ("make", "kept"), [(lambda m: last_stages(m, 1), ["stem"]), (feature_extraction, ["stem", "block10"])]
)
def test_frozen_stages_keep_their_statistics(make, kept, models, tiny_task):
    model = models[1]
    apply_plan(model, make(model))
    before = copy.deepcopy(model.state_dict())
    recompute_statistics(model, tiny_task.train.inputs)
    after = model.state_dict()
    for stage in ("stem", "block10"):
        name = f"backbone.stages.{stage}.1.running_mean"
        assert torch.equal(before[name], after[name]) is (stage in kept)


def test_nothing_but_the_statistics_changes(models, tiny_task):
    model = models[1].train()
    model.backbone.stages["block1"].eval()
    modes = [part.training for part in model.modules()]
    momenta = [getattr(part, "momentum", 0) for part in model.modules()]
    before, noise = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    recompute_statistics(model, tiny_task.train.inputs)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert all("running" in name or "tracked" in name for name in changed)
    assert [part.training for part in model.modules()] == modes
    assert [getattr(part, "momentum", 0) for part in model.modules()] == momenta
    assert torch.equal(torch.get_rng_state(), noise)


def test_statistics_that_a_policy_holds_still_are_recomputed_too(models, tiny_task):
    """Batches normalise, and nothing is kept: the stored statistics fit no longer, which is what this mends."""
    model, expected = models[1], copy.deepcopy(models[1])
    apply_plan(expected, full_fine_tune(expected))
    recompute_statistics(expected, tiny_task.train.inputs)
    apply_plan(model, Plan("unkept", (Rule("*", 1e-3, norm=Norm(affine=True, update=False, use="batch")),)))
    recompute_statistics(model, tiny_task.train.inputs)
    layer = model.backbone.stages["stem"][1]
    assert torch.equal(layer.running_mean, expected.backbone.stages["stem"][1].running_mean)
    assert layer.track_running_stats is False
