"""Terms of the loss that hold weights back: L2-SP and elastic weight consolidation.

Each has a function of plain values and a binder, whose result ``penalty(model, state, logits)`` goes into
``train(penalties=...)``, like those of `distillation` and `replay`. Lesson 09 compares them, lesson 10 takes
consolidation apart.

A head may have grown since its anchor was taken: the anchor then holds the rows that there were.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.masked import Masked
from tlcourse.plans import Plan
from tlcourse.runtime import seeded

__all__ = [
    "Consolidation",
    "consolidate",
    "entry_stage",
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
        not name is free, and so are the new rows of a head that has grown. Buffers, such as the statistics of
        BatchNorm, are never held: freeze them.
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
        held = _fitting(anchor[name], name, value, "anchor")
        importance = _fitting(importance, name, value, "Fisher information")
        if held.shape != importance.shape:
            shapes = f"{tuple(importance.shape)}, that of the anchor {tuple(held.shape)}"
            raise ValueError(f"the Fisher information of {name!r} is {shapes}")
        total = total + (importance * (_rows(value, held) - held).square()).sum()
    return strength / 2 * total


def l2_sp_penalty(
    model: nn.Module, anchor: Mapping[str, Tensor], *, strength: float, head_strength: float = 0.01
) -> Tensor:
    """``strength / 2 * sum (theta - anchor)^2 + head_strength / 2 * sum theta^2`` (Li et al. 2018, equation 3).

    The first sum is over what the anchor names, the second over what is new, the new rows of a head that has grown
    included; tensors of one dimension that are new (biases) are free. The authors' code anchors weights alone: leave
    biases out of the anchor for that.

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
        held = _fitting(value, name, parameter, "anchor")
        total = total + strength / 2 * (_rows(parameter, held) - held).square().sum()
    for name, parameter in parameters.items():
        if name in anchor and parameter.shape == anchor[name].shape:
            continue
        new = parameter[len(anchor[name]) :] if name in anchor else parameter
        if parameter.dim() > 1:
            total = total + head_strength / 2 * new.square().sum()
    return total


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
        Parameter name -> tensor like it, at the present weights; of a head that has grown since, the rows it had.
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
        held[name] = _sum(held[name], earlier) if name in held else earlier
    term = Consolidation({name: _rows(parameters[name], value).detach().clone() for name, value in held.items()}, held)
    return (term,) if mode == "online" else (*previous, term)


def ewc(tasks: Sequence[Consolidation], *, strength: float) -> Penalty:
    """Bind `ewc_penalty` to what `consolidate` gave: the sum over its terms.

    Train with `without_decay` where it names tensors that the new task does not reach, such as an old head. At its
    anchor such a tensor gets a gradient of zero from the penalty, none from the loss; AdamW, which passes over what has
    no gradient, then decays it at every step, and the old task's answers drift.

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

    Train with `without_decay`: AdamW's decoupled decay pulls to zero what this pulls to its start, old heads too, which
    no loss reaches and which would be passed over without this penalty. The anchor holds the rows that a head has now.
    """
    _check_strength(strength=strength, head_strength=head_strength)
    new = f"heads.{model.head_name(head)}."
    anchor = {name: value.detach().clone() for name, value in model.named_parameters() if not name.startswith(new)}
    return partial(_l2_sp, anchor=anchor, strength=strength, head_strength=head_strength)


def without_decay(plan: Plan) -> Plan:
    """The same plan without weight decay: for L2-SP, which takes its place, and for EWC, which would share the weights.

    AdamW's decay is decoupled from the loss: it also moves a tensor whose gradient is zero.
    """
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
    seed: int = 0,
) -> dict[str, float]:
    """The task loss and each penalty beside it, in nats, on raw inputs in eval mode; ``print`` shows the scale.

    Names that occur twice are numbered. What a penalty draws comes from ``seed``; the global random state stays.
    """
    with evaluating(model), seeded(seed):
        state = model.backbone.preprocessing(inputs)
        logits = model.run(state, head=head)
        found = {"task": F.cross_entropy(logits, labels).item()}
        for number, penalty in enumerate(penalties, start=1):
            name = getattr(getattr(penalty, "func", penalty), "__name__", type(penalty).__name__).strip("_")
            found[f"{name} {number}" if name in found else name] = float(penalty(model, state, logits))
    return found


def entry_stage(model: Model, state: Tensor | Masked) -> int:
    """The number of the stage that a penalty's ``state`` enters, told from the state itself.

    Preprocessed images (n, 3, H, W) and `Masked` token ids enter stage 0. All else is what the frozen prefix put out,
    kept by `train`: it enters the first stage that is not in ``model.frozen_stages``.

    Raises
    ------
    ValueError
        If the frozen prefix puts out images of three channels too.

    Examples
    --------
    >>> from tlcourse import attach_head, digit_network, feature_extraction, load_task
    >>> from tlcourse.plans import apply_plan
    >>> model = attach_head(digit_network(), load_task("digits8"))
    >>> apply_plan(model, feature_extraction(model))
    >>> entry_stage(model, torch.zeros(2, 3, 28, 28)), entry_stage(model, torch.zeros(2, 64))
    (0, 6)
    """
    names = list(model.backbone.stages)
    frozen = next((number for number, name in enumerate(names) if name not in model.frozen_stages), len(names))
    if isinstance(state, Masked):
        return frozen if state.values.is_floating_point() else 0
    if not frozen or state.dim() != 4 or state.shape[1] != 3:
        return frozen
    with evaluating(model.backbone):
        kept = model.backbone.run(state[:1], stop=frozen)
    if isinstance(kept, Tensor) and kept.shape[1:2] == state.shape[1:2] and kept.dim() == 4:
        raise ValueError(
            f"the state {tuple(state.shape)} may be images, or what the frozen stages {', '.join(names[:frozen])} put "
            "out: the plan must freeze more stages, or fewer"
        )
    return 0


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
    """On the parameter's device; of a head, as many rows as there were before it grew."""
    of_head = name.startswith("heads.") and value.shape[1:] == parameter.shape[1:] and len(value) <= len(parameter)
    if value.shape != parameter.shape and not of_head:
        raise ValueError(f"the {what} of {name!r} is {tuple(value.shape)}, the parameter {tuple(parameter.shape)}")
    if value.data_ptr() == parameter.data_ptr() != 0:
        raise ValueError(f"the {what} of {name!r} is the model's own tensor and would move with it: clone it")
    return value.detach().to(parameter.device)


def _rows(parameter: Tensor, held: Tensor) -> Tensor:
    """The part of a parameter that was there when ``held`` was taken."""
    return parameter if parameter.shape == held.shape else parameter[: len(held)]


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """Of values from before and after a head grew."""
    if one.shape == other.shape:
        return one + other
    shorter, longer = sorted((one, other), key=len)
    return torch.cat([longer[: len(shorter)] + shorter, longer[len(shorter) :]])


def _check_strength(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value}: a number, 0 or more, is needed")
