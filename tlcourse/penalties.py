"""Terms of the loss that hold a model back: L2-SP, elastic weight consolidation, distillation.

Each has a function of plain values and a binder, whose result ``penalty(model, state, logits)`` goes into
``train(penalties=...)``. Lesson 09 compares them, lesson 10 takes consolidation apart.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.masked import Masked
from tlcourse.norms import is_batch_norm
from tlcourse.plans import Plan

__all__ = [
    "Consolidation",
    "consolidate",
    "distill",
    "distillation_loss",
    "ewc",
    "ewc_penalty",
    "l2_sp",
    "l2_sp_penalty",
    "penalty_scales",
    "stability",
    "without_decay",
]

Penalty = Callable[[nn.Module, Tensor | Masked, Tensor], Tensor]


def ewc_penalty(
    model: nn.Module, anchor: Mapping[str, Tensor], fisher: Mapping[str, Tensor], *, strength: float
) -> Tensor:
    """``strength / 2 * sum F (theta - anchor)^2``, the half included (Kirkpatrick et al. 2017, equation 3).

    Parameters
    ----------
    anchor, fisher
        Parameter name -> tensor like it: where the old task left it, and how much that task minds. What ``fisher`` does
        not name is free. Buffers, such as the statistics of BatchNorm, are never held: freeze them.
    strength
        0 or more.

    Raises
    ------
    ValueError
        If a name is missing, shapes differ, the strength is negative, or the anchor is the model's own tensors.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = model.weight.fill_(3.0)
    >>> ewc_penalty(model, {"weight": torch.ones(1, 2)}, {"weight": torch.tensor([[1.0, 0.5]])}, strength=2).item()
    6.0
    """
    _check_strength(strength=strength)
    parameters, total = dict(model.named_parameters()), _zero(model)
    for name, importance in fisher.items():
        value = _parameter(parameters, name)
        if name not in anchor:
            raise ValueError(f"the anchor has no {name!r}, which the Fisher information names")
        away = value - _fitting(anchor[name], name, value, "anchor")
        total = total + (_fitting(importance, name, value, "Fisher information") * away.square()).sum()
    return strength / 2 * total


def l2_sp_penalty(
    model: nn.Module, anchor: Mapping[str, Tensor], *, strength: float, head_strength: float = 0.01
) -> Tensor:
    """``strength / 2 * sum (theta - anchor)^2 + head_strength / 2 * sum theta^2`` (Li et al. 2018, equation 3).

    The first sum is over what the anchor names, the second over what is new; tensors of one dimension that are new
    (biases) are free. The authors' code anchors weights alone: leave biases out of the anchor for that.

    Raises
    ------
    ValueError
        As in `ewc_penalty`.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = model.weight.fill_(3.0)
    >>> l2_sp_penalty(model, {"weight": torch.ones(1, 2)}, strength=0.5).item()
    2.0
    """
    _check_strength(strength=strength, head_strength=head_strength)
    parameters, total = dict(model.named_parameters()), _zero(model)
    for name, value in anchor.items():
        parameter = _parameter(parameters, name)
        total = total + strength / 2 * (parameter - _fitting(value, name, parameter, "anchor")).square().sum()
    for name, parameter in parameters.items():
        if name not in anchor and parameter.dim() > 1:
            total = total + head_strength / 2 * parameter.square().sum()
    return total


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
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: a number above 0 is needed")
    if student_logits.dim() != 2 or student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        raise ValueError(f"the logits of student and teacher are {shapes}: both must be (n, classes), the same")
    student, teacher = (
        logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (student_logits, teacher_logits)
    )
    answers = F.log_softmax(student / temperature, dim=1)
    wanted = F.log_softmax(teacher.detach() / temperature, dim=1)
    return temperature**2 * F.kl_div(answers, wanted, reduction="batchmean", log_target=True)


@dataclass(frozen=True, eq=False)
class Consolidation:
    """What a penalty of EWC holds on to: parameter name -> tensor, for the anchor and for the Fisher information."""

    anchor: dict[str, Tensor]
    fisher: dict[str, Tensor]


def consolidate(
    model: nn.Module,
    fisher: Mapping[str, Tensor],
    *,
    previous: Sequence[Consolidation] = (),
    mode: Literal["separate", "online"] = "separate",
    gamma: float = 1.0,
) -> tuple[Consolidation, ...]:
    """Anchor what a task just taught; everything is cloned, nothing changes later.

    Parameters
    ----------
    fisher
        Parameter name -> tensor like it, at the present weights.
    previous
        What this function gave for the tasks before.
    mode
        ``"separate"`` adds a term for the task (Kirkpatrick et al. 2017). ``"online"`` keeps one: the anchor is the
        latest, and the Fisher is ``gamma`` times the one before plus the new (Schwarz et al. 2018, section 4).

    Raises
    ------
    ValueError
        If a name is missing, shapes differ, the mode is none, or gamma lies outside of 0..1 or means nothing.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> first = consolidate(model, {"weight": torch.ones(1, 2)})
    >>> len(consolidate(model, {"weight": torch.ones(1, 2)}, previous=first))
    2
    """
    if mode not in ("separate", "online"):
        raise ValueError(f"mode={mode!r}: it is 'separate' or 'online'")
    if not 0 <= gamma <= 1 or (mode == "separate" and gamma != 1):
        raise ValueError(f"gamma={gamma}: between 0 and 1, and for mode='online' alone")
    if mode == "online" and len(previous) > 1:
        raise ValueError(f"mode='online' keeps one term, but previous holds {len(previous)}")
    parameters = dict(model.named_parameters())
    for name, value in fisher.items():
        _fitting(value, name, _parameter(parameters, name), "Fisher information")
    held = {name: value.detach().clone() for name, value in fisher.items()}
    for name, before in previous[0].fisher.items() if mode == "online" and previous else ():
        earlier = gamma * _fitting(before, name, _parameter(parameters, name), "earlier Fisher information")
        held[name] = held[name] + earlier if name in held else earlier
    term = Consolidation({name: parameters[name].detach().clone() for name in held}, held)
    return (term,) if mode == "online" else (*previous, term)


def ewc(tasks: Sequence[Consolidation], *, strength: float) -> Penalty:
    """Bind `ewc_penalty` to what `consolidate` gave: the sum over its terms.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> penalty = ewc(consolidate(model, {"weight": torch.ones(1, 2)}), strength=100.0)
    >>> penalty(model, None, None).item()
    0.0
    """
    _check_strength(strength=strength)
    return partial(_ewc, tasks=tuple(Consolidation(dict(t.anchor), dict(t.fisher)) for t in tasks), strength=strength)


def l2_sp(model: Model, *, strength: float, head_strength: float = 0.01, head: str | None = None) -> Penalty:
    """Bind `l2_sp_penalty` to a clone of the present weights; the new head (default: the only one) goes to zero.

    Train with `without_decay`, else the optimiser pulls to zero what this pulls to its start.
    """
    _check_strength(strength=strength, head_strength=head_strength)
    new = f"heads.{model.head_name(head)}."
    anchor = {name: value.detach().clone() for name, value in model.named_parameters() if not name.startswith(new)}
    return partial(_l2_sp, anchor=anchor, strength=strength, head_strength=head_strength)


def distill(
    model: Model, *, strength: float, temperature: float = 2.0, head: str | None = None, start: int | None = None
) -> Penalty:
    """Keep the answers of the present model, on the inputs of the new task (Li and Hoiem 2016).

    The teacher is a frozen copy in eval mode, which gets the student's own state.

    Parameters
    ----------
    head
        The old head whose answers are kept; the student's come from a second pass, which leaves statistics alone. None:
        the model's only head is trained on, and where it was expanded its old outputs are kept.
    start
        Number of the stage that the state enters: `caching.frozen_depth` of the plan with the cache, 0 without it or
        with augmentation. None is enough where the plan freezes no leading stage.

    Raises
    ------
    ValueError
        If strength or temperature is out of range; when called, if the start cannot be told.
    """
    _check_strength(strength=strength)
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: a number above 0 is needed")
    if start is not None and not 0 <= start <= len(model.backbone.stages):
        raise ValueError(f"start={start}: the backbone has {len(model.backbone.stages)} stages")
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
        start=start,
    )


def without_decay(plan: Plan) -> Plan:
    """The same plan without weight decay, for L2-SP, which takes its place (AdamW's is decoupled from the loss)."""
    return Plan(plan.name, tuple(replace(rule, decay=0.0) for rule in plan.rules), plan.prepare)


def stability(fisher: Mapping[str, Tensor], *, lr: float, strength: float) -> float:
    """``lr * strength * max F``, with a warning above 2, where plain SGD diverges on the penalty alone.

    Separate terms add: give the sum of their Fishers. Adam divides by the gradient's size, and is not judged by this.

    Examples
    --------
    >>> stability({"weight": torch.tensor([0.5, 4.0])}, lr=0.1, strength=2.0)
    0.8
    """
    _check_strength(lr=lr, strength=strength)
    if not fisher:
        raise ValueError("the Fisher information names no parameter")
    name, largest = max(((name, value.max().item()) for name, value in fisher.items()), key=lambda pair: pair[1])
    figure = lr * strength * largest
    if figure > 2:
        warnings.warn(
            f"plain SGD diverges: lr * strength * max F = {figure:.3g}, above 2, at {name!r}; "
            f"a rate below {2 / (strength * largest):.3g} does not",
            stacklevel=2,
        )
    return figure


def penalty_scales(
    model: Model,
    penalties: Sequence[Penalty],
    inputs: Tensor | Masked,
    labels: Tensor,
    *,
    head: str | None = None,
    start: int = 0,
) -> dict[str, float]:
    """The task loss and each penalty beside it, in nats, on raw inputs in eval mode; ``print`` shows the scale.

    Names that occur twice are numbered. ``start`` is the stage at which the penalties get the state: see `distill`.
    """
    with evaluating(model):
        state = model.backbone.run(model.backbone.preprocessing(inputs), stop=start)
        logits = model.run(state, start=start, head=head)
        found = {"task": F.cross_entropy(logits, labels).item()}
        for number, penalty in enumerate(penalties, start=1):
            name = getattr(getattr(penalty, "func", penalty), "__name__", type(penalty).__name__).strip("_")
            found[f"{name} {number}" if name in found else name] = float(penalty(model, state, logits))
    return found


def _ewc(model: nn.Module, state, logits, *, tasks: tuple[Consolidation, ...], strength: float) -> Tensor:
    total = _zero(model)
    for term in tasks:
        _move(term.anchor, total.device)
        _move(term.fisher, total.device)
        total = total + ewc_penalty(model, term.anchor, term.fisher, strength=strength)
    return total


def _l2_sp(model: nn.Module, state, logits, *, anchor: dict[str, Tensor], strength, head_strength) -> Tensor:
    _move(anchor, _zero(model).device)
    return l2_sp_penalty(model, anchor, strength=strength, head_strength=head_strength)


def _distill(model: Model, state, logits, *, teacher: Model, strength, temperature, old, again, start) -> Tensor:
    start, device = _entry(model, start), logits.device
    if next(teacher.parameters()).device != device:
        teacher.to(device)
    with torch.no_grad():
        wanted = teacher.run(state, start=start, head=old)
    if again:
        with _statistics_still(model):
            logits = model.run(state, start=start, head=old)
    return strength * distillation_loss(logits[:, : wanted.shape[1]], wanted, temperature=temperature)


def _entry(model: Model, start: int | None) -> int:
    """The stage that a state enters. The signature of a penalty does not tell it where the prefix may be cached."""
    if start is None and next(iter(model.stages)) in model.frozen_stages:
        raise ValueError(
            "the plan freezes leading stages, so a state enters the first moving stage with the cache and stage 0 "
            "without it: say which with distill(start=...)"
        )
    return start or 0


@contextmanager
def _statistics_still(model: nn.Module) -> Iterator[None]:
    """BatchNorm goes on normalising as it does, and updates nothing: these inputs were counted already."""
    layers = [part for part in model.modules() if is_batch_norm(part) and part.training and part.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def _zero(model: nn.Module) -> Tensor:
    return next(model.parameters()).new_zeros(())


def _move(values: dict[str, Tensor], device: torch.device) -> None:
    """Once, not at every step: the model may move after the penalty was bound."""
    for name, value in values.items():
        if value.device != device:
            values[name] = value.to(device)


def _parameter(parameters: dict[str, nn.Parameter], name: str) -> nn.Parameter:
    if name not in parameters:
        raise ValueError(f"the model has no parameter {name!r}; it has {', '.join(list(parameters)[:4])}, ...")
    return parameters[name]


def _fitting(value: Tensor, name: str, parameter: nn.Parameter, what: str) -> Tensor:
    if value.shape != parameter.shape:
        raise ValueError(f"the {what} of {name!r} is {tuple(value.shape)}, the parameter {tuple(parameter.shape)}")
    if value.data_ptr() == parameter.data_ptr() != 0:
        raise ValueError(f"the {what} of {name!r} is the model's own tensor and would move with it: clone it")
    return value.detach().to(parameter.device)


def _check_strength(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value}: a number, 0 or more, is needed")
