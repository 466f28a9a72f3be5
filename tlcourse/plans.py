"""A strategy as a value: an ordered tuple of rules that says how fast each stage may move.

Feature extraction, fine-tuning of the last stages, discriminative rates and full fine-tuning differ in nothing else.
Lesson 03 writes the first plan, lesson 04 compares them.
"""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from torch import nn

from tlcourse.backbones import Model

__all__ = [
    "Plan",
    "Rule",
    "apply_plan",
    "describe_plan",
    "discriminative",
    "feature_extraction",
    "full_fine_tune",
    "last_stages",
    "parameter_groups",
]


@dataclass(frozen=True)
class Rule:
    """Parameters whose ``stage`` or ``stage/parameter`` matches the pattern (fnmatch) move at ``lr``; 0 is frozen."""

    pattern: str
    lr: float
    decay: float = 0.01

    def __post_init__(self) -> None:
        if not self.lr >= 0 or not self.decay >= 0:  # refuses NaN too
            raise ValueError(f"rule {self.pattern!r}: lr={self.lr} and decay={self.decay} must be 0 or more")


@dataclass(frozen=True)
class Plan:
    """An ordered tuple of rules; the first match wins. The last one must be ``Rule("*", ...)``.

    Plans compare, print as a table of rules, and survive ``Plan.from_json(plan.to_json())``.
    """

    name: str
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if not self.rules or self.rules[-1].pattern != "*":
            raise ValueError(f"plan {self.name!r} must end in Rule('*', lr): what happens to all the rest")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        stored = json.loads(text)
        return cls(stored["name"], tuple(Rule(**rule) for rule in stored["rules"]))

    def __str__(self) -> str:
        rows = [f"{rule.pattern:<16} lr {rule.lr:<8g} decay {rule.decay:g}" for rule in self.rules]
        return "\n".join([f"plan: {self.name}", *(f"  {row}" for row in rows)])


def feature_extraction(model: Model, *, lr: float = 1e-3, decay: float = 0.01) -> Plan:
    """Everything frozen but the head."""
    return Plan("feature extraction", (Rule("head", lr, decay), Rule("*", 0.0)))


def last_stages(model: Model, count: int, *, lr: float = 1e-4, head_lr: float = 1e-3, decay: float = 0.01) -> Plan:
    """The head and the last ``count`` stages that have parameters; the rest frozen.

    Raises
    ------
    ValueError
        If the backbone has fewer such stages.
    """
    names = [name for name, stage in model.backbone.stages.items() if any(True for _ in stage.parameters())]
    if not 1 <= count <= len(names):
        raise ValueError(f"last_stages(model, {count}): the backbone has {len(names)} stages with parameters: {names}")
    opened = tuple(Rule(name, lr, decay) for name in names[-count:])
    return Plan(f"last {count} stages", (Rule("head", head_lr, decay), *opened, Rule("*", 0.0)))


def discriminative(model: Model, *, lr: float = 1e-3, factor: float = 2.6, decay: float = 0.01) -> Plan:
    """The head at ``lr``, and each stage below at the rate above it divided by ``factor``.

    2.6 is the factor of Howard & Ruder 2018 (ULMFiT), section 3.2.
    """
    if not factor >= 1:
        raise ValueError(f"factor={factor}: earlier stages are to move slower, so it is 1 or more")
    names = [name for name, stage in model.stages.items() if any(True for _ in stage.parameters())]
    rules = tuple(Rule(name, lr / factor**depth, decay) for depth, name in enumerate(reversed(names)))
    return Plan("discriminative", (*rules, Rule("*", 0.0)))


def full_fine_tune(model: Model, *, lr: float = 1e-4, head_lr: float | None = None, decay: float = 0.01) -> Plan:
    """Every stage at ``lr``, the head at ``head_lr`` (default: ``lr``)."""
    head = Rule("head", lr if head_lr is None else head_lr, decay)
    return Plan("full fine-tuning", (head, Rule("*", lr, decay)))


def apply_plan(model: Model, plan: Plan) -> None:
    """Set which parameters have a gradient and which stages are frozen; nothing else changes.

    A stage without a moving parameter is frozen whole: no gradient, and eval mode (running statistics, dropout), also
    after ``model.train()``.
    """
    moving = set()
    for stage, _, parameter, rule in _matched(model, plan):
        parameter.requires_grad_(rule.lr > 0)
        if rule.lr > 0:
            moving.add(stage)
    empty = {name for name, module in model.stages.items() if not any(True for _ in module.parameters())}
    names = list(model.stages)
    first_moving = min((names.index(stage) for stage in moving), default=len(names))
    # A stage without parameters follows the stages before it: frozen while nothing has moved yet.
    model.frozen_stages = frozenset(
        name for name in names if name not in moving and (name not in empty or names.index(name) < first_moving)
    )
    model.train(model.training)


def parameter_groups(model: Model, plan: Plan) -> list[dict]:
    """What an optimiser takes: one group for each stage, rate and decay, each moving tensor in exactly one.

    Tensors of one dimension (biases, the scales and shifts of normalisation) are not decayed. A tensor that two names
    share counts once.

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
                    f"and {rule.lr:g}: give both the same"
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


def describe_plan(model: Model, plan: Plan) -> list[dict]:
    """One row a stage: its parameters, how many move, and at which rates.

    Returns
    -------
    list of dict
        ``stage``, ``parameters``, ``trainable``, ``lr`` (the sorted rates that occur), in the order of execution.
    """
    rows = {name: {"stage": name, "parameters": 0, "trainable": 0, "lr": []} for name in model.stages}
    for stage, _, parameter, rule in _matched(model, plan):
        row = rows[stage]
        row["parameters"] += parameter.numel()
        row["trainable"] += parameter.numel() if rule.lr > 0 else 0
        row["lr"] = sorted({*row["lr"], rule.lr})
    return list(rows.values())


def _matched(model: Model, plan: Plan) -> list[tuple[str, str, nn.Parameter, Rule]]:
    """(stage, stage/parameter, tensor, rule) of every parameter, shared ones under each of their names."""
    found, used = [], set()
    for stage, module in model.stages.items():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            full = f"{stage}/{name}"
            for number, rule in enumerate(plan.rules):
                if fnmatchcase(stage, rule.pattern) or fnmatchcase(full, rule.pattern):
                    used.add(number)
                    found.append((stage, full, parameter, rule))
                    break
    for number, rule in enumerate(plan.rules[:-1]):
        if number not in used:
            raise ValueError(
                f"plan {plan.name!r}: the rule {rule.pattern!r} matches nothing that an earlier rule left; "
                f"the stages are {', '.join(model.stages)}"
            )
    return found
