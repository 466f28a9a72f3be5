import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, Model, attach_head
from tlcourse.masked import Masked
from tlcourse.penalties import (
    consolidate,
    entry_stage,
    ewc,
    ewc_penalty,
    l2_sp,
    l2_sp_penalty,
    penalty_scales,
    stability,
    without_decay,
)
from tlcourse.plans import apply_plan
from tlcourse.strategies import feature_extraction, full_fine_tune
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
ONES = {"weight": torch.ones(1, 3)}
REFUSED = [  # anchor, fisher, strength, words
    ({}, ONES, 1.0, "the anchor has no 'weight'"),
    (ONES, {"bias": torch.ones(1)}, 1.0, "no parameter 'bias'"),
    (ONES, {"weight": torch.ones(3)}, 1.0, r"the Fisher information of 'weight' is \(3,\)"),
    ({"weight": torch.ones(3)}, ONES, 1.0, r"the anchor of 'weight' is \(3,\)"),
    ({"weight": torch.ones(0, 3)}, ONES, 1.0, r"the anchor of 'weight' is \(0, 3\), the parameter \(1, 3\)"),
    (ONES, ONES, -1.0, "strength=-1.0"),
]


def linear(values=(1.0, 2.0, 3.0)):
    model = nn.Linear(len(values), 1, bias=False).double()
    model.weight.data[0] = torch.tensor(values)
    return model


def minimum(model, loss):
    """Of a quadratic loss: one Newton step, in float64."""
    (gradient,) = torch.autograd.grad(loss(), model.weight, create_graph=True)
    rows = [torch.autograd.grad(g, model.weight, retain_graph=True)[0][0] for g in gradient[0]]
    model.weight.data[0] -= torch.linalg.solve(torch.stack(rows), gradient[0].detach())
    return model.weight.detach()[0].clone()


def hessians(correlated):
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(3):
        A = torch.randn(3, 3, generator=generator, dtype=torch.float64)
        H = A @ A.T + 0.1 * torch.eye(3)
        found.append(H if correlated else torch.diag(H.diagonal()))
    return found, torch.randn(3, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["separate", "online"])
@pytest.mark.parametrize("correlated", [False, True])
def test_online_ewc_reaches_the_joint_optimum_where_hessians_are_diagonal(correlated, mode):
    H, c = hessians(correlated)
    model, tasks = linear(), ()
    for h, centre in zip(H, c, strict=True):
        terms = ewc(tasks, strength=1.0)
        minimum(
            model, lambda h=h, x=centre, p=terms: (model.weight - x) @ h @ (model.weight - x).T / 2 + p(model, 0, 0)
        )
        tasks = consolidate(model, {"weight": h.diagonal()[None]}, previous=tasks, mode=mode)
    joint = torch.linalg.solve(sum(H), sum(h @ x for h, x in zip(H, c, strict=True)))
    reached = torch.allclose(model.weight.detach()[0], joint, atol=1e-9)
    assert reached is (mode == "online" and not correlated)


def test_gamma_counts_once():
    tasks = consolidate(linear(), ONES, mode="online")
    tasks = consolidate(linear((5.0, 5.0, 5.0)), ONES, previous=tasks, mode="online", gamma=0.5)
    assert tasks[0].fisher["weight"].tolist() == [[1.5] * 3]
    assert tasks[0].anchor["weight"].tolist() == [[5.0] * 3]


def test_l2_sp_on_ridge_regression_has_the_closed_solution():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, n, generator=generator, dtype=torch.float64) for n in (3, 1))
    model, start = linear(), linear().weight.detach().clone()
    found = minimum(
        model, lambda: (model(x) - y).square().sum() / 2 + l2_sp_penalty(model, {"weight": start}, strength=0.7)
    )
    expected = torch.linalg.solve(x.T @ x + 0.7 * torch.eye(3), x.T @ y[:, 0] + 0.7 * start[0])
    assert torch.allclose(found, expected, atol=1e-9)


def test_l2_sp_pulls_the_new_head_to_zero(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    penalty = l2_sp(model, strength=1.0, head_strength=0.5)
    expected = 0.25 * model.heads["bright"].weight.square().sum()
    assert torch.allclose(penalty(model, None, None), expected)


def test_the_anchor_does_not_move_with_the_model():
    model = linear()
    tasks = consolidate(model, ONES)
    model.weight.data += 1
    assert ewc(tasks, strength=2.0)(model, None, None).item() == 3
    with pytest.raises(ValueError, match="the model's own tensor"):
        ewc_penalty(model, dict(model.state_dict()), ONES, strength=1.0)


def grown(model, name, classes):
    """The head with more rows, its old ones first, as class-incremental tasks need it."""
    old, new = model.heads[name], nn.Linear(model.backbone.feature_dim, classes)
    with torch.no_grad():
        new.weight[: len(old.weight)], new.bias[: len(old.bias)] = old.weight, old.bias
    model.heads[name] = new
    return model


def test_ewc_holds_the_old_rows_of_a_head_that_has_grown(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    weight = model.heads["bright"].weight
    fisher = {"heads.bright.weight": torch.rand_like(weight), "heads.bright.bias": torch.ones(2)}
    tasks = consolidate(model, fisher)
    new = grown(model, "bright", 5).heads["bright"]
    with torch.no_grad():
        new.weight += 1
        new.bias += 2
    penalty = ewc(tasks, strength=3.0)(model, None, None)
    assert penalty.item() == pytest.approx(1.5 * (fisher["heads.bright.weight"].sum().item() + 2 * 4), rel=1e-5)
    penalty.backward()
    assert torch.allclose(new.weight.grad[:2], 3 * fisher["heads.bright.weight"], rtol=1e-4)
    assert not new.weight.grad[2:].any()
    assert not new.bias.grad[2:].any()


@pytest.mark.parametrize("before", ["task", "growth"])
def test_online_ewc_adds_the_rows_that_a_head_had(before, tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    first = {"heads.bright.bias": torch.tensor([1.0, 2.0])}
    tasks = consolidate(model, first, mode="online")
    grown(model, "bright", 3)
    second = {"heads.bright.bias": torch.tensor([4.0, 4.0, 4.0])}
    if before == "growth":
        tasks = consolidate(model, second, previous=tasks, mode="online", gamma=0.5)
        assert tasks[0].fisher["heads.bright.bias"].tolist() == [4.5, 5.0, 4.0]
        assert tasks[0].anchor["heads.bright.bias"].tolist() == model.heads["bright"].bias.tolist()
    else:
        tasks = consolidate(model, first, previous=tasks, mode="online")
        assert tasks[0].fisher["heads.bright.bias"].tolist() == [2.0, 4.0]
        assert tasks[0].anchor["heads.bright.bias"].tolist() == model.heads["bright"].bias[:2].tolist()
    assert ewc(tasks, strength=1.0)(model, None, None).item() == 0


def test_l2_sp_pulls_new_rows_to_zero_and_holds_the_others(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.add_head("new", 2)
    penalty = l2_sp(model, strength=2.0, head_strength=0.5, head="new")
    head = grown(model, "bright", 4).heads["bright"]
    with torch.no_grad():
        head.weight[:2] += 1
    expected = 2 * tiny_backbone.feature_dim + 0.25 * head.weight[2:].square().sum()
    expected = expected + 0.25 * model.heads["new"].weight.square().sum()
    assert torch.allclose(penalty(model, None, None), expected)


def test_rows_of_anchor_and_fisher_belong_together(tiny_backbone, tiny_task):
    model = grown(attach_head(tiny_backbone, tiny_task), "bright", 4)
    anchor, fisher = ({"heads.bright.bias": torch.ones(rows)} for rows in (1, 3))
    with pytest.raises(ValueError, match=r"Fisher information of 'heads.bright.bias' is \(3,\), that of .* \(1,\)"):
        ewc_penalty(model, anchor, fisher, strength=1.0)
    with pytest.raises(ValueError, match=r"Fisher information of 'heads.bright.bias' is \(5,\), the parameter \(4,\)"):
        ewc_penalty(model, anchor, {"heads.bright.bias": torch.ones(5)}, strength=1.0)


@pytest.mark.parametrize("kind", ["none", "ewc", "l2_sp"])
@pytest.mark.parametrize("decay", [True, False])
def test_decay_moves_an_old_head_that_a_penalty_gives_a_gradient(decay, kind, tiny_backbone, tiny_task):
    """AdamW passes over what has no gradient, and decays what has one of zero."""
    model = attach_head(tiny_backbone, tiny_task)
    model.add_head("old", 3)
    before = model.heads["old"].weight.detach().clone()
    penalties = {
        "none": (),
        "ewc": (ewc(consolidate(model, {"heads.old.weight": torch.full_like(before, 1e-6)}), strength=1.0),),
        "l2_sp": (l2_sp(model, strength=1e-6, head="bright"),),
    }[kind]
    plan = full_fine_tune(model, lr=1e-2, decay=0.1)
    plan = plan if decay else without_decay(plan)
    train(model, tiny_task, plan, epochs=1, penalties=penalties, device="cpu", progress=False)
    drifts = not torch.equal(model.heads["old"].weight, before)
    assert drifts is (decay and kind != "none")


def raw(n=4):
    return torch.rand(n, 3, 12, 12)


ENTRIES = [  # how many stages are frozen, the state's shape, where it enters
    (0, (4, 3, 12, 12), 0),
    (0, (4, 8, 6, 6), 0),
    (1, (4, 3, 12, 12), 0),
    (1, (4, 8, 6, 6), 1),
    (2, (4, 8, 6, 6), 2),
    (4, (4, 3, 12, 12), 0),
    (4, (4, 12), 4),
    (4, (4, 3), 4),
]


@pytest.mark.parametrize(("frozen", "shape", "entry"), ENTRIES)
def test_where_an_image_state_enters_is_told_from_its_shape(frozen, shape, entry, tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.frozen_stages = frozenset(list(model.backbone.stages)[:frozen] + ["neck"] * (frozen > 2))
    modes = [part.training for part in model.train().modules()]
    assert entry_stage(model, torch.rand(shape)) == entry
    assert modes == [part.training for part in model.modules()]


@pytest.mark.parametrize(("frozen", "hidden", "entry"), [(0, False, 0), (1, False, 0), (1, True, 1), (4, True, 4)])
def test_tokens_enter_the_first_stage(frozen, hidden, entry, tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.frozen_stages = frozenset(list(model.backbone.stages)[:frozen])
    values = torch.rand(2, 3, 5) if hidden else torch.ones(2, 3, dtype=torch.int64)
    assert entry_stage(model, Masked(values, torch.ones(2, 3, dtype=torch.bool))) == entry


def test_frozen_stages_behind_a_moving_one_are_not_the_prefix(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.frozen_stages = frozenset(["block1", "neck"])
    assert entry_stage(model, torch.rand(4, 8, 6, 6)) == 0


def test_three_channels_out_of_frozen_stages_cannot_be_told_from_images():
    stages = {"colours": nn.Conv2d(3, 3, 1), "neck": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}
    half = (0.5, 0.5, 0.5)
    preprocessing = ImagePreprocessing(half, half)
    model = Model(Backbone("three", stages, feature_dim=3, preprocessing=preprocessing, pretrained=False))
    model.frozen_stages = frozenset(["colours"])
    with pytest.raises(ValueError, match="may be images, or what the frozen stages colours put out"):
        entry_stage(model, raw())
    model.frozen_stages = frozenset(["colours", "neck"])
    assert entry_stage(model, raw()) == 0
    model.frozen_stages = frozenset()
    assert entry_stage(model, raw()) == 0


def test_scales_are_those_of_the_functions_and_the_generator_stays(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    apply_plan(model, feature_extraction(model))
    inputs, labels = tiny_task.train.inputs[:8], tiny_task.train.labels[:8]
    held = l2_sp(model, strength=1.0, head_strength=0.5)
    states = []

    def drawn(model, state, logits):
        states.append(state.shape)
        return torch.rand(())

    before = torch.get_rng_state()
    scales = penalty_scales(model, (held, drawn, drawn), inputs, labels)
    assert torch.equal(before, torch.get_rng_state())
    assert list(scales) == ["task", "l2_sp", "drawn", "drawn 3"]
    assert scales["task"] == pytest.approx(nn.functional.cross_entropy(model(inputs), labels).item(), rel=1e-5)
    assert scales["l2_sp"] == pytest.approx(0.25 * model.heads["bright"].weight.square().sum().item(), rel=1e-5)
    assert states == [(8, 3, 12, 12)] * 2
    assert scales == penalty_scales(model, (held, drawn, drawn), inputs, labels)


def test_without_decay_keeps_the_rates(tiny_backbone, tiny_task):
    plan = full_fine_tune(attach_head(tiny_backbone, tiny_task))
    assert [(r.lr, r.decay) for r in without_decay(plan).rules] == [(r.lr, 0.0) for r in plan.rules]


def test_an_unstable_rate_is_named_with_its_figure():
    with pytest.warns(UserWarning, match=r"= 2\.4, above 2"):
        assert stability({"weight": torch.tensor([0.5, 4.0])}, lr=0.3, strength=2.0) == pytest.approx(2.4)


@pytest.mark.parametrize(("anchor", "fisher", "strength", "words"), REFUSED)
def test_bad_input_is_named(anchor, fisher, strength, words):
    with pytest.raises(ValueError, match=words):
        ewc_penalty(linear(), anchor, fisher, strength=strength)
