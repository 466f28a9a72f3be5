"""A strategy as a value: an ordered tuple of rules that says how fast each stage may move.

Feature extraction, fine-tuning of the last stages, discriminative rates and full fine-tuning differ in nothing else.
Lesson 03 writes the first plan, lesson 04 compares them; `strategies` makes them.
"""

import copy
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from tlcourse.adapters import inject_lora, lora_layers
from tlcourse.backbones import Model
from tlcourse.costs import backward_shares
from tlcourse.masked import Masked
from tlcourse.norms import Norm, is_batch_norm, normalisation_layers, set_statistics
from tlcourse.runtime import seeded

__all__ = [
    "Plan",
    "Rule",
    "Schedule",
    "apply_plan",
    "describe_plan",
    "format_plan",
    "parameter_groups",
    "schedule_from_json",
    "schedule_to_json",
]


@dataclass(frozen=True)
class Rule:
    """Parameters whose ``stage`` or ``stage/parameter`` matches the pattern (fnmatch) move at ``lr``; 0 is frozen.

    ``norm`` (a `Norm`, or the name of one of its presets) says what the normalisation layers do; None leaves them in
    the mode of their stage. A layer obeys the first rule that matches its stage, ``stage/layer`` or one of its tensors.
    """

    pattern: str
    lr: float
    decay: float = 0.01
    norm: Norm | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.lr < math.inf and 0 <= self.decay < math.inf):  # refuses NaN too
            raise ValueError(
                f"rule {self.pattern!r}: lr={self.lr} and decay={self.decay} must be 0 or more, and finite"
            )
        if isinstance(self.norm, str):
            object.__setattr__(self, "norm", Norm.named(self.norm))
        if self.norm is not None and self.norm.affine and self.lr == 0:
            raise ValueError(
                f"rule {self.pattern!r}: norm={str(self.norm)!r} lets scales and shifts move, but lr is 0: give it a "
                "rate, or norm='frozen' or 'statistics'"
            )


@dataclass(frozen=True)
class Plan:
    """An ordered tuple of rules; the first match wins. The last one must be ``Rule("*", ...)``.

    Plans compare, print as a table of rules, and survive ``Plan.from_json(plan.to_json())``.

    Attributes
    ----------
    prepare
        What happens to the model first, once, when the plan is applied; in order, each a tuple:

        - ``("reset", stage, seed)``: the stage's weights are drawn anew;
        - ``("lora", rank, alpha, targets, rank_stabilised, seed)``: `adapters.inject_lora`;
        - ``("untie",)``: of tensors that are one and get several rates, each further rate gets a copy of its own.
    """

    name: str
    rules: tuple[Rule, ...]
    prepare: tuple[tuple, ...] = ()

    def __post_init__(self) -> None:
        if not self.rules or self.rules[-1].pattern != "*":
            raise ValueError(f"plan {self.name!r} must end in Rule('*', lr): what happens to all the rest")
        object.__setattr__(self, "prepare", _as_tuples(self.prepare))
        for step in self.prepare:
            if not isinstance(step, tuple) or not step or step[0] not in _STEPS:
                raise ValueError(
                    f"plan {self.name!r}: {step!r} prepares nothing; a step is a tuple that starts with one of "
                    f"{', '.join(_STEPS)}"
                )

    def untied(self) -> "Plan":
        """The same plan, which gives tied tensors with different rates a copy each."""
        return replace(self, prepare=(*self.prepare, ("untie",)))

    def to_json(self) -> str:
        stored = asdict(self)
        stored["rules"] = [{k: v for k, v in rule.items() if k != "norm" or v is not None} for rule in stored["rules"]]
        if not self.prepare:  # as it was written before there were steps
            del stored["prepare"]
        return json.dumps(stored)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        stored = json.loads(text)
        rules = []
        for rule in stored["rules"]:
            norm = rule.get("norm")
            rules.append(Rule(**{**rule, "norm": None if norm is None else Norm(**norm)}))
        return cls(stored["name"], tuple(rules), stored.get("prepare", ()))

    def __str__(self) -> str:
        rows = []
        for rule in self.rules:
            norm = "" if rule.norm is None else f"  norm {rule.norm}"
            rows.append(f"{rule.pattern:<16} lr {rule.lr:<8g} decay {rule.decay:g}{norm}")
        steps = [f"first: {' '.join(map(str, step))}" for step in self.prepare]
        return "\n".join([f"plan: {self.name}", *(f"  {row}" for row in (*steps, *rows))])


Schedule = tuple[tuple[Plan, int], ...]  # plans, one after the other, and for how many epochs each


def schedule_to_json(schedule: Schedule) -> str:
    """A schedule as text: a list of plans and epochs."""
    return json.dumps([[json.loads(plan.to_json()), epochs] for plan, epochs in schedule])


def schedule_from_json(text: str) -> Schedule:
    """The schedule that `schedule_to_json` wrote."""
    return tuple((Plan.from_json(json.dumps(plan)), epochs) for plan, epochs in json.loads(text))


def apply_plan(model: Model, plan: Plan) -> None:
    """Prepare the model, set which parameters have a gradient, which stages are frozen and what normalisation does.

    A stage without a moving parameter is frozen whole: no gradient, and eval mode (running statistics, dropout), also
    after ``model.train()``. A stage whose BatchNorm normalises by the batch is not frozen, even if nothing moves.
    What is prepared is prepared once: applying the plan again adds nothing.

    Raises
    ------
    ValueError
        If a rule matches nothing, a step of ``prepare`` cannot be done, or merged LoRA would have to move.
    """
    _prepare(model, plan)
    matched = _matched(model, plan)
    trains_lora = any("lora_" in name and rule.lr > 0 for _, name, _, rule in matched)
    if trains_lora and any(layer.merged for layer in lora_layers(model)):
        raise ValueError(f"plan {plan.name!r} trains LoRA that is merged into the weights: unmerge_lora(model)")
    policies = _norm_policies(model, plan)
    for stage, layer in model.norm_modes:  # of the plan before
        set_statistics(model.stages[stage].get_submodule(layer), None)
    for _, _, parameter, rule in matched:
        parameter.requires_grad_(rule.lr > 0)
    model.norm_modes = {}
    for stage, name, layer, norm in policies:
        if norm is not None and is_batch_norm(layer):
            set_statistics(layer, norm)
            model.norm_modes[stage, name] = norm.use == "batch"
    model.frozen_stages = _frozen_stages(model, matched, policies)
    model.train(model.training)


def parameter_groups(model: Model, plan: Plan) -> list[dict]:
    """What an optimiser takes: one group for each stage, rate and decay, each moving tensor in exactly one.

    Tensors of one dimension (biases, the scales and shifts of normalisation) are not decayed. A tensor that two names
    share counts once. A plan that prepares the model is applied first.

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay``, ``stage``, ``names``.

    Raises
    ------
    ValueError
        If a rule matches nothing, nothing moves at all, or a shared tensor is given two rates.
    """
    groups: dict[tuple, dict] = {}
    owners: dict[int, tuple[str, Rule]] = {}
    for stage, name, parameter, rule in _matched(model, plan):
        known, known_rule = owners.setdefault(id(parameter), (name, rule))
        if known != name:
            if known_rule.lr != rule.lr:
                raise ValueError(
                    f"{known!r} and {name!r} are one tensor, but the plan gives them the rates {known_rule.lr:g} "
                    f"and {rule.lr:g}: give both the same, or apply plan.untied(), where each has a copy of its own"
                )
            continue
        if rule.lr == 0:
            continue
        decay = rule.decay if parameter.dim() > 1 else 0.0
        group = groups.setdefault(
            (stage, rule.lr, decay),
            {"params": [], "lr": rule.lr, "weight_decay": decay, "stage": stage, "names": []},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise ValueError(f"plan {plan.name!r} freezes everything: there is nothing to train")
    return list(groups.values())


def describe_plan(model: Model, plan: Plan, *, example: Tensor | Masked | None = None) -> list[dict]:
    """One row a stage: its parameters, how many move and at which rates, and what its normalisation does.

    The model stays as it is: where the plan would prepare it, a copy is described.

    Parameters
    ----------
    example
        Raw inputs, such as ``task.train.inputs[:1]``; needed for ``backward`` alone.

    Returns
    -------
    list of dict
        ``stage``, ``parameters``, ``trainable``, ``lr`` and ``decay`` (the sorted values that occur), ``norm`` (the
        names of the policies that occur, as they come out), ``frozen``, and ``backward``: what the stage's backward
        pass costs, as a share of that of full fine-tuning, by multiply-accumulates; None without an example. In the
        order of execution.
    """
    if any(step[0] == "lora" and step not in model.prepared for step in plan.prepare):
        model = copy.deepcopy(model)
        _prepare(model, plan)
    rows = {
        name: {"stage": name, "parameters": 0, "trainable": 0, "lr": [], "decay": [], "norm": []}
        for name in model.stages
    }
    matched, policies = _matched(model, plan), _norm_policies(model, plan)
    for stage, _, parameter, rule in matched:
        row = rows[stage]
        row["parameters"] += parameter.numel()
        row["lr"] = sorted({*row["lr"], rule.lr})
        if rule.lr > 0:
            row["trainable"] += parameter.numel()
            row["decay"] = sorted({*row["decay"], rule.decay if parameter.dim() > 1 else 0.0})
    frozen = _frozen_stages(model, matched, policies)
    moving = {id(parameter) for _, _, parameter, rule in matched if rule.lr > 0}
    for stage, _, layer, norm in policies:
        affine = any(id(parameter) in moving for parameter in layer.parameters())
        if not is_batch_norm(layer):
            found = Norm(affine=affine, update=False, use="running")  # it keeps no statistics
        elif norm is not None:
            found = replace(norm, affine=affine)
        else:
            found = Norm(affine, False, "running") if stage in frozen else Norm(affine, True, "batch")
        rows[stage]["norm"] = sorted({*rows[stage]["norm"], str(found)})
    shares = {} if example is None else backward_shares(model, moving, example)
    for stage, row in rows.items():
        row["frozen"] = stage in frozen
        row["backward"] = None if example is None else shares[stage]
    return list(rows.values())


def format_plan(rows: Iterable[dict]) -> str:
    """The rows of `describe_plan` as a table of text.

    Examples
    --------
    >>> row = {"stage": "head", "parameters": 10, "trainable": 10, "lr": [0.001], "decay": [0.0, 0.01]}
    >>> print(format_plan([{**row, "norm": [], "frozen": False, "backward": 0.25}]))
    stage  parameters  trainable  lr     decay    norm  backward
    head           10         10  0.001  0, 0.01                25 %
    """
    header = ("stage", "parameters", "trainable", "lr", "decay", "norm", "backward")
    table = [header]
    for row in rows:
        values = [", ".join(f"{value:.3g}" for value in row[key]) for key in ("lr", "decay")]
        share = "" if row["backward"] is None else f"{100 * row['backward']:.0f} %"
        counts = [f"{row[key]:,}" for key in ("parameters", "trainable")]
        table.append((row["stage"], *counts, *values, ", ".join(row["norm"]), share))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    right = {"parameters", "trainable", "backward"}
    lines = [
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, header, strict=True)
        )
        for line in table
    ]
    return "\n".join(line.rstrip() for line in lines)


def _matched(model: Model, plan: Plan) -> list[tuple[str, str, nn.Parameter, Rule]]:
    """(stage, stage/parameter, tensor, rule) of every parameter, shared ones under each of their names."""
    found, used = [], set()
    held = set()  # scales and shifts that a policy holds still
    for stage, name, layer, number in _norm_rules(model, plan):
        norm = plan.rules[number].norm
        if norm is not None:
            used.add(number)
        if norm is not None and not norm.affine:
            held |= {_join(stage, name, tensor) for tensor, _ in layer.named_parameters(recurse=False)}
    for stage, module in model.stages.items():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            full = f"{stage}/{name}"
            number = _first_match(plan, (stage, full))
            used.add(number)
            rule = plan.rules[number]
            found.append((stage, full, parameter, replace(rule, lr=0.0, norm=None) if full in held else rule))
    for number, rule in enumerate(plan.rules[:-1]):
        if number not in used:
            first = "; apply_plan prepares the model first" if plan.prepare else ""
            raise ValueError(
                f"plan {plan.name!r}: the rule {rule.pattern!r} matches nothing that an earlier rule left; "
                f"the stages are {', '.join(model.stages)}{first}"
            )
    return found


def _first_match(plan: Plan, names: tuple[str, ...]) -> int:
    """The number of the first rule whose pattern matches one of the names; the last matches everything."""
    return next(i for i, rule in enumerate(plan.rules) if any(fnmatchcase(name, rule.pattern) for name in names))


def _join(stage: str, *parts: str) -> str:
    return f"{stage}/{'.'.join(filter(None, parts))}"


def _norm_rules(model: Model, plan: Plan) -> list[tuple[str, str, nn.Module, int]]:
    """(stage, layer, module, number of the rule that it obeys) of every normalisation layer."""
    found = []
    for stage, module in model.stages.items():
        for name, layer in normalisation_layers(module):
            tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
            names = (stage, _join(stage, name), *(_join(stage, name, tensor) for tensor, _ in tensors))
            found.append((stage, name, layer, _first_match(plan, names)))
    return found


def _norm_policies(model: Model, plan: Plan) -> list[tuple[str, str, nn.Module, Norm | None]]:
    return [(stage, name, layer, plan.rules[number].norm) for stage, name, layer, number in _norm_rules(model, plan)]


def _frozen_stages(model: Model, matched: list, policies: list) -> frozenset[str]:
    """The stages whose output for an input never changes, nor depends on its batch."""
    changing = {stage for stage, _, _, rule in matched if rule.lr > 0}
    changing |= {
        stage for stage, _, layer, norm in policies if norm is not None and norm.use == "batch" and is_batch_norm(layer)
    }
    empty = {name for name, module in model.stages.items() if not any(True for _ in module.parameters())}
    names = list(model.stages)
    first = min((names.index(stage) for stage in changing), default=len(names))
    # A stage without parameters follows the stages before it: frozen while nothing has moved yet.
    return frozenset(
        name for name in names if name not in changing and (name not in empty or names.index(name) < first)
    )


def _as_tuples(value: object) -> object:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, (list, tuple)) else value


def _prepare(model: Model, plan: Plan) -> None:
    for step in plan.prepare:
        name, *arguments = step
        if step not in model.prepared:
            _STEPS[name](model, plan, *arguments)
        if name != "untie":  # what is tied depends on the rates, so another plan may have more to do
            model.prepared = model.prepared | {step}


def _lora(model: Model, plan: Plan, rank: int, alpha: float, targets=(), rank_stabilised=False, seed=0) -> None:
    inject_lora(model, rank=rank, alpha=alpha, targets=targets, rank_stabilised=rank_stabilised, seed=seed)


def _reset(model: Model, plan: Plan, stage: str, seed: int = 0) -> None:
    if stage not in model.stages:
        raise ValueError(f"plan {plan.name!r} resets {stage!r}; the stages are {', '.join(model.stages)}")
    module = model.stages[stage]
    # What LoRA added has a start of its own, at which it adds nothing.
    parts = [part for name, part in module.named_modules() if "lora_" not in name]
    able = [part for part in parts if hasattr(part, "reset_parameters")]
    drawn = {id(parameter) for part in able for parameter in part.parameters()}
    stuck = [name for name, value in module.named_parameters() if id(value) not in drawn and "lora_" not in name]
    if stuck:
        raise ValueError(f"plan {plan.name!r} cannot reset {stage!r}: nothing says how {', '.join(stuck)} starts")
    with seeded(seed, next(model.parameters()).device):
        for part in able:
            part.reset_parameters()


def _untie(model: Model, plan: Plan) -> None:
    copies: dict[tuple[int, float], nn.Parameter] = {}
    rates: dict[int, float] = {}
    for stage, name, parameter, rule in _matched(model, plan):
        if rates.setdefault(id(parameter), rule.lr) == rule.lr:
            continue
        own = copies.setdefault((id(parameter), rule.lr), nn.Parameter(parameter.detach().clone()))
        path, _, tensor = name.removeprefix(f"{stage}/").rpartition(".")
        setattr(model.stages[stage].get_submodule(path), tensor, own)


_STEPS = {"lora": _lora, "reset": _reset, "untie": _untie}
