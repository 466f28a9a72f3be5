"""The bare loop against the same steps written out by hand, on a network with dropout and batches of two sizes."""

import copy
import doctest

import pytest
import torch
from torch import nn

from tlcourse import loops
from tlcourse.backbones import attach_head
from tlcourse.loops import run_epochs
from tlcourse.plans import apply_plan
from tlcourse.rates import warmup_cosine
from tlcourse.strategies import last_stages

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS, EPOCHS, BATCH, BETAS = 11, 3, 4, (0.9, 0.95)  # batches of 4, 4 and 3
OPTIONS = {"rows": ROWS, "epochs": EPOCHS, "batch_size": BATCH, "seed": 5, "device": torch.device("cpu")}


@pytest.fixture
def start(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task, seed=1)
    plan = last_stages(model, 2, lr=1e-2, head_lr=3e-2, decay=0.1)
    apply_plan(model, plan)
    return model, plan


def losses(model, task):
    inputs, labels = task.train.inputs[:ROWS], task.train.labels[:ROWS]

    def loss_of(index, generator):
        noise = torch.rand(len(index), 1, generator=generator)  # a loss may draw, from the generator that shuffles
        loss = (nn.functional.cross_entropy(model(inputs[index]), labels[index], reduction="none") * noise).mean()
        return loss, len(index)

    return loss_of


def by_hand(model, plan, task):
    """AdamW with one group for each moving tensor, and what the plan says of its stage."""
    rates = {"head": 3e-2, "block1": 1e-2, "block10": 1e-2}
    groups = [
        {"params": [tensor], "lr": rates[stage], "weight_decay": 0.1 if tensor.dim() > 1 else 0.0, "rate": rates[stage]}
        for stage, part in model.stages.items()
        for tensor in part.parameters()
        if tensor.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, betas=BETAS)
    generator, step, means = torch.Generator().manual_seed(5), 0, []
    loss_of = losses(model, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for _ in range(EPOCHS):
            model.train()
            total = 0.0
            for index in torch.randperm(ROWS, generator=generator).split([4, 4, 3]):
                for group in optimizer.param_groups:
                    group["lr"] = group["rate"] * warmup_cosine(step, 9)
                loss, size = loss_of(index, generator)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total, step = total + size * loss.item(), step + 1
            means.append(total / ROWS)
    return means


def test_the_example():
    assert doctest.testmod(loops).failed == 0


def test_it_is_the_loop_written_out(start, tiny_task):
    model, plan = start
    written = copy.deepcopy(model)
    means = by_hand(written, plan, tiny_task)
    state = torch.get_rng_state()
    history = run_epochs(model, plan, losses(model, tiny_task), betas=BETAS, **OPTIONS)
    assert torch.equal(state, torch.get_rng_state())
    assert history.train_loss == pytest.approx(means, abs=1e-6)
    assert all(
        torch.allclose(value, written.state_dict()[name], atol=1e-6) for name, value in model.state_dict().items()
    )
    last = warmup_cosine(8, 9)
    assert history.epochs == [1, 2, 3]
    assert history.lr[-1] == pytest.approx({"block1": 1e-2 * last, "block10": 1e-2 * last, "head": 3e-2 * last})
    assert len(history.seconds) == 3 and all(seconds > 0 for seconds in history.seconds)
    assert not model.training and not history.val


def test_an_epoch_weighs_its_batches_as_it_is_told(start):
    """A loss without a gradient that matters, whose values are known: the mean of the numbers of all rows."""
    model, plan = start
    weight = model.heads["bright"].weight
    seen = []

    def numbers(index, generator, weigh):
        seen.append(index.double().mean().item())
        return index.double().mean() + 0 * weight.sum(), len(index) if weigh else 1

    weighed = run_epochs(model, plan, lambda *given: numbers(*given, True), **OPTIONS)
    assert weighed.train_loss == pytest.approx([5.0] * 3)
    seen.clear()
    alike = run_epochs(model, plan, lambda *given: numbers(*given, False), **OPTIONS)
    assert alike.train_loss == pytest.approx([sum(seen[at : at + 3]) / 3 for at in (0, 3, 6)])
    assert alike.train_loss != pytest.approx([5.0] * 3)


def test_the_score_sees_the_model_at_rest_after_each_epoch(start, tiny_task):
    model, plan = start

    def score():
        return {"training": float(model.training), "first": model.heads["bright"].weight[0, 0].item()}

    history = run_epochs(model, plan, losses(model, tiny_task), score=score, **OPTIONS)
    assert [found["training"] for found in history.val] == [0.0] * 3
    assert len({found["first"] for found in history.val}) == 3


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_a_number_below_one_is_refused(name, start, tiny_task):
    model, plan = start
    with pytest.raises(ValueError, match=f"{name}=0: a whole number, at least 1"):
        run_epochs(model, plan, losses(model, tiny_task), **{**OPTIONS, name: 0})


def test_a_loss_that_is_no_number_ends_it(start):
    model, plan = start
    weight = model.heads["bright"].weight
    with pytest.raises(FloatingPointError, match=f"nan in epoch 1: lower the rates of '{plan.name}'"):
        run_epochs(model, plan, lambda index, generator: (weight.sum() * float("nan"), 1), **OPTIONS)
