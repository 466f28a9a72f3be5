"""Each library's formula is written here as its code computes it, on a softmax model of few weights."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from tlcourse.conventions import LIBRARIES, convert_ewc
from tlcourse.penalties import consolidate, ewc, ewc_penalty

N, BATCH = 7, 3  # the last batch is short


@pytest.fixture
def model():
    return torch.nn.Linear(4, 3).double()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (N,), generator=generator)


def gradients(model, loss):
    return dict(zip(("weight", "bias"), torch.autograd.grad(loss, [model.weight, model.bias]), strict=True))


def avalanche(model, x, y):
    """EWCPlugin.compute_importances: the square of each batch's mean gradient, over the number of batches."""
    importances, batches = {name: torch.zeros_like(p) for name, p in model.named_parameters()}, 0
    for rows in torch.arange(N).split(BATCH):
        loss, batches = F.cross_entropy(model(x[rows]), y[rows]), batches + 1
        for name, gradient in gradients(model, loss).items():
            importances[name] += gradient**2
    return {name: value / batches for name, value in importances.items()}


def mammoth(model, x, y):
    """EwcOn.end_task."""
    fish = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for example, label in zip(x, y, strict=True):
        loss = -F.nll_loss(model(example[None]).log_softmax(1), label[None], reduction="none")
        probability = loss.detach().exp().mean()
        for name, gradient in gradients(model, loss.mean()).items():
            fish[name] += probability * gradient**2
    return {name: value / (math.ceil(N / BATCH) * BATCH) for name, value in fish.items()}


def van_de_ven(model, x, y):
    """ContinualLearner.estimate_fisher with fisher_labels="all" and batches of one: ``index`` ends at n - 1."""
    fisher = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    index = 0
    for index, example in enumerate(x):  # noqa: B007 - used after the loop, as they do
        weights = model(example[None]).softmax(1).detach()[0]
        for label, weight in enumerate(weights):
            loss = F.cross_entropy(model(example[None]), torch.tensor([label]))
            for name, gradient in gradients(model, loss).items():
                fisher[name] += weight * gradient**2
    return {name: value / index for name, value in fisher.items()}


def exact(model, x, y):
    """The mean over samples of the sum over labels, from the closed form of a softmax model."""
    p = model(x).softmax(1).detach()
    spread = p * (1 - p)  # E over labels of (p - onehot)^2
    return {"weight": spread.T @ x**2 / N, "bias": spread.mean(0)}


def weighted(model, x, y):
    """The mean over samples of p(y|x) times the square of the gradient."""
    p = model(x).softmax(1).detach()
    away = p[torch.arange(N), y][:, None] * (p - F.one_hot(y, 3)) ** 2
    return {"weight": away.T @ x**2 / N, "bias": away.mean(0)}


THEIRS = [  # library, its Fisher, what stands before strength * F d^2, and the mean over samples that F is of
    ("avalanche", avalanche, 1.0, None),
    ("mammoth", mammoth, 1.0, weighted),
    ("van_de_ven", van_de_ven, 0.5, exact),
]


@pytest.mark.parametrize("gamma", [1.0, 0.6])
@pytest.mark.parametrize(("library", "estimate", "constant", "mean"), THEIRS)
def test_the_penalty_is_theirs(library, estimate, constant, mean, gamma, model, data):
    fisher = estimate(model, *data)
    anchor = {name: value.detach().clone() for name, value in model.named_parameters()}
    expected_fisher = fisher if mean is None else mean(model, *data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    squares = sum((fisher[name] * (p - anchor[name]) ** 2).sum() for name, p in model.named_parameters())
    theirs = 0.3 * constant * squares * (gamma if library == "van_de_ven" else 1)
    options = {"samples": N, "batch_size": BATCH, "gamma": gamma}
    strength, ours = convert_ewc(0.3, fisher, source=library, **options)
    assert ewc_penalty(model, anchor, ours, strength=strength).item() == pytest.approx(theirs.item(), rel=1e-12)
    for name in ours:
        assert torch.allclose(ours[name], expected_fisher[name], rtol=1e-12)


def test_van_de_vens_online_mode_multiplies_twice(model):
    """estimate_fisher adds gamma times the old Fisher to the new one, and ewc_loss takes gamma times the sum."""
    first, second = ({"bias": torch.rand(3, dtype=torch.float64)} for _ in range(2))
    kept = second["bias"] + 0.5 * first["bias"]
    strength, _ = convert_ewc(4.0, {}, source="van_de_ven", samples=math.inf, gamma=0.5)
    tasks = consolidate(model, first, mode="online")
    tasks = consolidate(model, second, previous=tasks, mode="online", gamma=0.5)
    with torch.no_grad():
        model.bias += 2
    theirs = 4.0 * 0.5 * (0.5 * kept * 2.0**2).sum()
    assert ewc(tasks, strength=strength)(model, None, None).item() == pytest.approx(theirs.item(), rel=1e-12)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(LIBRARIES, LIBRARIES)))
def test_the_way_back_is_the_inverse(source, target):
    options = {"samples": N, "batch_size": BATCH, "gamma": 0.7}
    fisher = {"weight": torch.rand(3, dtype=torch.float64)}
    there = convert_ewc(0.3, fisher, source=source, target=target, **options)
    strength, back = convert_ewc(*there, source=target, target=source, **options)
    assert strength == pytest.approx(0.3, rel=1e-12)
    assert torch.allclose(back["weight"], fisher["weight"], rtol=1e-12)
    assert back["weight"] is not fisher["weight"]


REFUSED = [
    ({"source": "avalanch"}, "no convention 'avalanch'; there are: tlcourse, avalanche"),
    ({"source": "avalanche", "target": "ours"}, "no convention 'ours'"),
    ({"source": "van_de_ven"}, "samples=None: 'van_de_ven' needs"),
    ({"source": "van_de_ven", "samples": 1}, "samples=1"),
    ({"source": "mammoth", "samples": 5}, "batch_size=None, samples=5: 'mammoth'"),
    ({"source": "mammoth", "samples": 5, "batch_size": 0}, "batch_size=0, samples=5: 'mammoth'"),
    ({"source": "mammoth", "samples": math.inf, "batch_size": 4}, "batch_size=4, samples=inf"),
    ({"source": "van_de_ven", "samples": 5, "gamma": 0.0}, "gamma=0.0"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_cannot_be_converted_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        convert_ewc(1.0, {}, **options)
    with pytest.raises(ValueError, match="strength=-1"):
        convert_ewc(-1.0, {}, source="avalanche")


def test_no_strength_stays_none():
    assert convert_ewc(0.0, {}, source="avalanche") == (0.0, {})
