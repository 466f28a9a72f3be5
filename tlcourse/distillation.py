"""Distillation: the answers of an earlier model are held, not its weights. Lesson 09 compares the two.

`distillation_loss` is a function of logits; `distill` binds it to a frozen copy of a model, the teacher, as a penalty
``penalty(model, state, logits)`` for ``train(penalties=...)``.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.norms import is_batch_norm
from tlcourse.penalties import Penalty, _check_strength, entry_stage

__all__ = ["distill", "distillation_loss"]


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """``T^2 * KL(teacher || student)`` of the softened answers, mean over samples (Hinton et al. 2015, section 2).

    Its gradient is T (softmax(student / T) - softmax(teacher / T)) / n: of the order of the task's at any temperature.

    Parameters
    ----------
    student_logits, teacher_logits
        (n, classes). The teacher's have no gradient.

    Raises
    ------
    ValueError
        If the shapes differ or are not (n, classes), or the temperature is not above 0.

    Examples
    --------
    >>> distillation_loss(torch.zeros(3, 2), torch.zeros(3, 2), temperature=2.0).item()
    0.0
    """
    _check_temperature(temperature)
    if student_logits.dim() != 2 or student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"the logits of student and teacher are {shapes}: both must be (n, classes), the same")
    student, teacher = (
        logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (student_logits, teacher_logits)
    )
    answers = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher.detach() / temperature, dim=1)
    return temperature**2 * F.kl_div(answers, wanted, reduction="batchmean", log_target=True)


def distill(model: Model, *, strength: float, temperature: float = 2.0, head: str | None = None) -> Penalty:
    """Keep the answers of the present model, on the inputs of the new task (Li and Hoiem 2016).

    The teacher is a frozen copy in eval mode, which gets the student's own state, at the stage that it enters.

    Parameters
    ----------
    head
        The old head whose answers are kept; the student's come from a second pass, which leaves statistics alone. None:
        the model's only head is trained on, and where it was expanded its old outputs are kept.

    Raises
    ------
    ValueError
        If strength or temperature is out of range; when called, if the kept output of the frozen stages is given, and
        they have changed since.
    """
    _check_strength(strength=strength)
    _check_temperature(temperature)
    old = model.head_name(head)
    teacher = copy.deepcopy(model).requires_grad_(False).eval()
    teacher.zero_grad(set_to_none=True)
    return partial(
        _distill,
        teacher=teacher,
        strength=strength,
        temperature=temperature,
        old=old,
        again=head is not None,
        compared=set(),
    )


def _distill(model: Model, state, logits, *, teacher: Model, strength, temperature, old, again, compared) -> Tensor:
    start, device = entry_stage(model, state), logits.device
    if next(teacher.parameters()).device != device:
        teacher.to(device)
    if start not in compared:
        _check_prefix(model, teacher, start)
        compared.add(start)
    with torch.no_grad():
        wanted = teacher.run(state, start=start, head=old)
    if again:
        with _statistics_still(model):
            logits = model.run(state, start=start, head=old)
    return strength * distillation_loss(logits[:, : wanted.shape[1]], wanted, temperature=temperature)


def _check_prefix(model: Model, teacher: Model, start: int) -> None:
    """What the student's frozen stages put out tells the teacher's answers only where both have the same ones."""
    stages = zip(list(model.backbone.stages.items())[:start], teacher.backbone.stages.values(), strict=False)
    for (name, stage), before in stages:
        now, then = stage.state_dict(), before.state_dict()
        if now.keys() != then.keys() or not all(torch.equal(now[key], then[key]) for key in now):
            raise ValueError(
                f"the frozen stage {name!r} is no longer what it was when distill() was called, so the teacher cannot "
                "use its kept output: call distill() again, or train with cache=False"
            )


@contextmanager
def _statistics_still(model: nn.Module) -> Iterator[None]:
    """BatchNorm goes on normalising as it does, and updates nothing: these inputs were counted already."""
    layers = [part for part in model.modules() if is_batch_norm(part) and part.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: a number above 0 is needed")
