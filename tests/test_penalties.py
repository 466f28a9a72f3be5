import pytest
import torch
from torch import nn

from tlcourse.backbones import attach_head
from tlcourse.penalties import (
    consolidate,
    distill,
    distillation_loss,
    ewc,
    ewc_penalty,
    l2_sp,
    l2_sp_penalty,
    stability,
    without_decay,
)
from tlcourse.strategies import full_fine_tune, last_stages
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
ONES = {"weight": torch.ones(1, 3)}
REFUSED = [  # anchor, fisher, strength, words
    ({}, ONES, 1.0, "the anchor has no 'weight'"),
    (ONES, {"bias": torch.ones(1)}, 1.0, "no parameter 'bias'"),
    (ONES, {"weight": torch.ones(3)}, 1.0, r"the Fisher information of 'weight' is \(3,\)"),
    ({"weight": torch.ones(3)}, ONES, 1.0, r"the anchor of 'weight' is \(3,\)"),
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


def test_it_is_avalanches_penalty_at_twice_the_strength():
    """Avalanche 0.6.0a, training/plugins/ewc.py: lambda * sum importance * difference^2, without a half."""
    model, fisher = linear(), torch.tensor([[0.1, 2.0, 0.5]])
    theirs = 0.4 * (fisher * (model.weight - ONES["weight"]).square()).sum()
    assert torch.allclose(ewc_penalty(model, ONES, {"weight": fisher}, strength=0.8), theirs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_gradient_of_distillation_is_the_difference_of_softmaxes(temperature):
    student = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    distillation_loss(student, teacher, temperature=temperature).backward()
    difference = (student / temperature).softmax(1) - (teacher / temperature).softmax(1)
    assert torch.allclose(student.grad, temperature * difference / 6)
    assert teacher.grad is None


def test_the_anchor_does_not_move_with_the_model():
    model = linear()
    tasks = consolidate(model, ONES)
    model.weight.data += 1
    assert ewc(tasks, strength=2.0)(model, None, None).item() == 3
    with pytest.raises(ValueError, match="the model's own tensor"):
        ewc_penalty(model, dict(model.state_dict()), ONES, strength=1.0)


@pytest.mark.parametrize("name", ["ewc", "l2_sp", "distill"])
def test_the_cache_changes_no_loss(name, tiny_backbone, tiny_task):
    losses = {}
    for cache in (False, True, None):
        model = attach_head(tiny_backbone, tiny_task)
        fisher = {key: torch.ones_like(value) for key, value in model.named_parameters()}
        penalty = {
            "ewc": lambda m=model, f=fisher: ewc(consolidate(m, f), strength=5.0),
            "l2_sp": lambda m=model: l2_sp(m, strength=5.0, head_strength=5.0),
            "distill": lambda m=model, c=cache: distill(m, strength=5.0, start=2 if c else 0),
        }[name]()
        used = () if cache is None else (penalty,)
        plan = without_decay(last_stages(model, 1))
        history = train(
            model, tiny_task, plan, epochs=3, cache=bool(cache), penalties=used, device="cpu", progress=False
        )
        losses[cache] = history.train_loss
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert losses[True] != pytest.approx(losses[None], abs=1e-5)


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


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match="temperature="):
        distillation_loss(torch.zeros(2, 2), torch.zeros(2, 2), temperature=temperature)
