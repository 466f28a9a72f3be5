"""The training loop, on one screen. Lesson 03 builds it by hand and then prints it.

A plan says which stages move, a schedule of plans says when; the frozen prefix is computed once; batches are an
iterator; the steps are taken by an object with a ``step``; what follows an epoch is one function. There are no hooks.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.data import Task
from tlcourse.plans import Plan
from tlcourse.rates import warmup_cosine
from tlcourse.run import History, _Run
from tlcourse.runtime import autocast

__all__ = ["train"]


def train(
    model: Model,
    task: Task,
    plan: Plan | tuple[tuple[Plan, int], ...],
    *,
    epochs: int | None = None,
    batch_size: int = 32,
    rates: Callable[[int, int], float] = warmup_cosine,
    patience: int | None = None,
    seed: int = 0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    penalties: tuple[Callable, ...] = (),
    head: str | None = None,
    cache: bool = True,
    bucket: bool = False,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool | Callable[[History], object] = True,
) -> History:
    """Train a model on a task as the plan says: AdamW, cross-entropy, cosine rates after a warm-up.

    Parameters
    ----------
    model
        Changed in place, and left on the device in eval mode.
    plan
        A plan, or a schedule: a tuple of pairs of a plan and how many epochs it holds. Where the next one begins, what
        goes on moving keeps its momentum; what is opened starts without any, at the present factor of the rates.
    epochs
        Passes over the training samples; default: 6, or the sum of the schedule.
    rates
        ``rates(step, total)`` is the factor of all rates at a step, from 0, of ``total`` steps in all phases together;
        `rates.warmup_cosine`, `rates.slanted_triangular`, or your own.
    patience
        Stop after this many epochs in a row without a lower validation log-loss, counted through all phases, and go
        back to the weights, statistics and optimiser of ``history.best_epoch``, also where it never came to the stop.
        None trains to the end and keeps what came out last.
    augment
        ``augment(images, generator)`` changes raw inputs at random; the frozen prefix is then run for every batch.
    penalties
        Each ``penalty(model, state, logits)`` is added to the loss; ``state`` is what enters the first trained stage.
    head
        Which head; default: the task's own.
    cache
        Compute the frozen prefix once for each depth that it has. The losses are the same without it, only later.
    bucket
        Put texts of similar length into a batch, which needs less padding then: `batching.bucketed_order`.
    checkpoint, resume
        Write everything to this file after each epoch; go on from such a file, to the same weights as without a stop.
    progress
        True for a bar, or a function that is called with the history after each epoch.

    Raises
    ------
    ValueError
        If an argument is out of range, ``epochs`` contradicts the schedule, or the checkpoint is none or is of another
        run.
    TypeError
        If ``plan`` is neither a plan nor a schedule.
    FloatingPointError
        If the loss stops being a number.
    KeyboardInterrupt
        If interrupted; the message says what is left. The model keeps its last step's weights.

    Examples
    --------
    >>> from tlcourse import attach_head, feature_extraction, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> history = train(model, task, feature_extraction(model), epochs=2, progress=False)
    >>> len(history.train_loss), history.cached_stages
    (2, 9)
    """
    run = _Run(
        model,
        task,
        plan,
        epochs=epochs,
        batch_size=batch_size,
        rates=rates,
        patience=patience,
        seed=seed,
        augment=augment,
        penalties=penalties,
        head=head,
        bucket=bucket,
        device=device,
    )
    if resume is not None:
        run.load(Path(resume))
    run.prepare_inputs(cache=cache)
    with run.session(checkpoint=checkpoint, progress=progress) as after_epoch:
        for epoch in run.epochs_left():
            model.train()
            for state, labels in run.batches():
                with autocast(run.device):
                    logits = model.run(state, start=run.depth, head=run.head)
                    loss = F.cross_entropy(logits, labels)
                    for penalty in penalties:
                        loss = loss + penalty(model, state, logits)
                run.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                run.step(loss.detach(), len(labels))
            if not after_epoch(epoch):
                break
    return run.history
