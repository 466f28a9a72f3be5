"""The bare loop of training: batches, a loss, a step, rates that fall. What is not a class a sample trains by it.

`training.train` has what classifiers need besides: caches, checkpoints, phases, penalties. Lessons 07 and 12 use this.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tlcourse.plans import Plan, parameter_groups
from tlcourse.rates import warmup_cosine
from tlcourse.run import History
from tlcourse.runtime import autocast, seeded

__all__ = ["run_epochs"]


def run_epochs(
    model: nn.Module,
    plan: Plan,
    loss_of: Callable[[Tensor, torch.Generator], tuple[Tensor, float]],
    *,
    rows: int,
    epochs: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    betas: tuple[float, float] = (0.9, 0.999),
    score: Callable[[], dict[str, float]] | None = None,
) -> History:
    """AdamW on shuffled batches of nearly the same size, at the plan's rates under a warm-up and a cosine.

    Parameters
    ----------
    model
        On the device already, with the plan applied. Changed in place, and left in eval mode.
    loss_of
        From the numbers of a batch's rows (b,) and the generator that shuffles, its loss and how much it weighs in the
        epoch's mean.
    rows
        How many rows there are.
    betas
        Of AdamW.
    score
        Called after each epoch, with the model in eval mode, for the history's ``val``.

    Raises
    ------
    ValueError
        If ``epochs`` or ``batch_size`` is below 1.
    FloatingPointError
        If the loss stops being a number.

    Examples
    --------
    >>> from tlcourse import apply_plan, digit_network, full_fine_tune
    >>> from tlcourse.backbones import Model
    >>> model = Model(digit_network())
    >>> model.add_head("five", 5)
    >>> plan = full_fine_tune(model, lr=1e-2)
    >>> apply_plan(model, plan)
    >>> images = torch.rand(20, 1, 28, 28)
    >>> def zeros(index, generator):
    ...     return model(images[index]).square().mean(), len(index)
    >>> options = {"rows": 20, "epochs": 4, "batch_size": 8, "seed": 0, "device": torch.device("cpu")}
    >>> history = run_epochs(model, plan, zeros, **options)
    >>> history.train_loss[-1] < history.train_loss[0]
    True
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: a whole number, at least 1, is needed")
    optimizer = torch.optim.AdamW(parameter_groups(model, plan), betas=betas)
    base = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(seed)
    batches = -(-rows // batch_size)
    history, step = History(), 0
    with seeded(seed, device):
        for epoch in range(epochs):
            started, total, weights = time.perf_counter(), 0.0, 0.0
            model.train()
            for index in torch.randperm(rows, generator=generator).tensor_split(batches):
                for group, rate in zip(optimizer.param_groups, base, strict=True):
                    group["lr"] = rate * warmup_cosine(step, epochs * batches)
                with autocast(device):
                    loss, weight = loss_of(index, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total, weights, step = total + loss.item() * weight, weights + weight, step + 1
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"the loss became {total} in epoch {epoch + 1}: lower the rates of {plan.name!r}"
                )
            model.eval()
            history.epochs.append(epoch + 1)
            history.train_loss.append(total / weights)
            if score is not None:
                history.val.append(score())
            history.lr.append({group["stage"]: group["lr"] for group in optimizer.param_groups})
            history.seconds.append(time.perf_counter() - started)
    return history
