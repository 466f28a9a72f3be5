"""How fast: the factor of the rates at each step, and the range test that looks for a rate. Lesson 04 uses the test."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice

import torch
import torch.nn.functional as F
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.data import Task
from tlcourse.plans import Plan, apply_plan, parameter_groups
from tlcourse.run import _Run
from tlcourse.runtime import autocast, seeded

__all__ = ["RateCurve", "find_rate", "slanted_triangular", "warmup_cosine"]

MEMORY = 0.9  # share of the average before that the smoothed loss keeps at each step
DIVERGED = 4  # times the lowest smoothed loss so far


def warmup_cosine(step: int, total: int, *, warmup: float = 0.1) -> float:
    """Factor of the rate at a step (from 0): linear over the first share ``warmup``, then half a cosine down to 0.

    Examples
    --------
    >>> warmup_cosine(4, 100), warmup_cosine(10, 100), warmup_cosine(55, 100)
    (0.5, 1.0, 0.5)
    """
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def slanted_triangular(step: int, total: int, *, cut: float = 0.1, ratio: float = 32) -> float:
    """Factor of the rate at a step (from 0): a short way up from ``1 / ratio`` to 1, and a long way down to it again.

    Equation 3 of Howard & Ruder 2018 (ULMFiT). Its peak lies at step ``floor(cut * total)``. That rounding can leave
    the peak at step 0, and take the end below ``1 / ratio``: here the way up is at least one step, and the factor at
    least ``1 / ratio``.

    Raises
    ------
    ValueError
        If ``cut`` is not between 0 and 1, or ``ratio`` is below 1.

    Examples
    --------
    >>> [round(slanted_triangular(step, 100), 3) for step in (0, 5, 10, 55, 100)]
    [0.031, 0.516, 1.0, 0.516, 0.031]
    """
    if not 0 < cut < 1 or not ratio >= 1:
        raise ValueError(f"cut={cut} must lie between 0 and 1, and ratio={ratio} be 1 or more")
    peak = max(1, math.floor(cut * total))
    height = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
    return (1 + max(0.0, height) * (ratio - 1)) / ratio


@dataclass(frozen=True)
class RateCurve:
    """What the range test saw.

    Attributes
    ----------
    rates
        The rate of the plan's fastest group at each step, rising by a constant factor.
    losses
        The loss of the batch at each step, in nats, before the step was taken; finite.
    smoothed
        Their exponential average.
    suggestion
        A tenth of the rate at which the smoothed loss was lowest; None where it never fell below the first loss.
    diverged
        Whether the loss ended the test before the highest rate. If it did not, the suggestion is a cautious one.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    diverged: bool


def find_rate(
    model: Model,
    task: Task,
    plan: Plan,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 32,
    seed: int = 0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    penalties: tuple[Callable, ...] = (),
    head: str | None = None,
    cache: bool = True,
    device: str | torch.device | None = None,
) -> RateCurve:
    """Learning rate range test: train a copy at rates that rise from step to step, and watch the loss.

    Smith 2017 (Cyclical learning rates), section 3.3. It is the loop of `train`, with its batches and its AdamW, under
    rates that grow. Where the plan has several rates they grow together; the curve gives the fastest. The model, its
    gradients, modes and device, and all random states are as before: a copy is trained. Only training samples are used.

    The test ends early where the loss is no number, or where the smoothed loss is both worse than guessing and more
    than four times its lowest value.

    Parameters
    ----------
    lowest, highest
        Rates of the fastest group at the first and at the last step.
    steps
        How many; the training samples are gone through as often as that takes.
    batch_size, seed, augment, penalties, head, cache, device
        As in `train`.

    Raises
    ------
    ValueError
        If not ``0 < lowest < highest``, there are fewer than 2 steps, or the plan does not fit the model.

    Examples
    --------
    >>> from tlcourse import attach_head, feature_extraction, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> curve = find_rate(model, task, feature_extraction(model), steps=5, highest=1e-2)
    >>> [f"{rate:.0e}" for rate in curve.rates]
    ['1e-06', '1e-05', '1e-04', '1e-03', '1e-02']
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"lowest={lowest} and highest={highest}: 0 < lowest < highest is needed")
    if steps < 2:
        raise ValueError(f"steps={steps}: at least 2 are needed")
    model = copy.deepcopy(model)
    apply_plan(model, plan)
    fastest = max(group["lr"] for group in parameter_groups(model, plan))
    wanted = [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]
    run = _Run(
        model,
        task,
        plan,
        epochs=steps,  # more than enough: an epoch has at least one step
        batch_size=batch_size,
        rates=lambda step, total: wanted[min(step, steps - 1)] / fastest,
        patience=None,
        seed=seed,
        augment=augment,
        penalties=penalties,
        head=head,
        bucket=False,
        device=device,
    )
    run.prepare_inputs(cache=cache)
    losses, smoothed, average, diverged = [], [], 0.0, False
    with seeded(seed, run.device):
        model.train()
        for state, labels in islice(chain.from_iterable(run.batches() for _ in range(steps)), steps):
            with autocast(run.device):
                logits = model.run(state, start=run.depth, head=run.head)
                loss = F.cross_entropy(logits, labels)
                for penalty in penalties:
                    loss = loss + penalty(model, state, logits)
            diverged = not math.isfinite(loss.item())
            if not diverged:
                losses.append(loss.item())
                average = MEMORY * average + (1 - MEMORY) * losses[-1]
                smoothed.append(average / (1 - MEMORY ** len(losses)))  # as if it had not started from 0
                diverged = smoothed[-1] > max(DIVERGED * min(smoothed), math.log(len(task.class_names)))
            if diverged:
                break
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            run.step(loss.detach(), len(labels))
    best = min(range(len(smoothed)), key=smoothed.__getitem__, default=0)
    return RateCurve(
        rates=tuple(wanted[: len(losses)]),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        suggestion=wanted[best] / 10 if best else None,
        diverged=diverged,
    )
