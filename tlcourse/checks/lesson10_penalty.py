"""Tasks of lesson 10 on the penalty: its value and its pull, and where it ends on quadratic tasks."""

import copy
from collections import OrderedDict
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["ONLINE", "PENALTY"]

# 10.3: the penalty ------------------------------------------------------------


def _draw_penalty(rng: np.random.Generator) -> Inputs:
    shapes = {"head.weight": (2, 2), "hidden.weight": (2, 2), "hidden.bias": (2,)}  # not in the network's order
    return {
        "fisher": {name: rng.uniform(1.5, 4.0, shape).round(2).astype(np.float32) for name, shape in shapes.items()},
        "strength": float(rng.choice([2.0, 5.0, 10.0])),
        "seed": int(rng.integers(1000)),
    }


def _old_and_new(inputs: Inputs) -> tuple[nn.Module, nn.Module]:
    """A network as the old task left it, and the same after some steps; none of its weights is near zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        old = nn.Sequential(OrderedDict(hidden=nn.Linear(2, 2), bend=nn.Tanh(), head=nn.Linear(2, 2)))
        new = copy.deepcopy(old)
        with torch.no_grad():
            for parameter in new.parameters():
                parameter += 0.5 + torch.rand_like(parameter)
    return old, new


def _probe_penalty(answer, inputs: Inputs) -> Outputs:
    old, new = _old_and_new(inputs)
    fisher = {name: torch.from_numpy(value) for name, value in inputs["fisher"].items()}
    value = answer(new, dict(old.named_parameters()), fisher, inputs["strength"])
    gradient = None
    if isinstance(value, Tensor) and value.requires_grad:
        if value.numel() != 1:
            raise AnswerError(f"`ewc_loss` returned a tensor of shape {tuple(value.shape)}; wanted is one number")
        value.backward()
        gradient = {
            name: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for name, p in new.named_parameters()
        }
    return {
        "value": plain(value, what="what `ewc_loss` returned"),
        "gradient": gradient,
        "anchor_pulled": any(p.grad is not None for p in old.parameters()),
    }


def _oracle_penalty(inputs: Inputs) -> Outputs:
    """Weight by weight, and the gradient by hand."""
    old, new = (dict(network.named_parameters()) for network in _old_and_new(inputs))
    gradient, value = {name: np.zeros(p.shape) for name, p in new.items()}, 0.0
    for name, fisher in inputs["fisher"].items():
        away = (new[name] - old[name]).detach().numpy().astype(float)
        gradient[name] = inputs["strength"] * fisher * away
        value += inputs["strength"] / 2 * sum((f * a**2).item() for f, a in zip(fisher.flat, away.flat, strict=True))
    return {"value": value, "gradient": gradient, "anchor_pulled": False}


def _valued(inputs: Inputs, term, *, over=np.sum, half: float = 0.5) -> Outputs:
    """The value alone, with ``term(fisher, new, old)`` for each weight."""
    old, new = ({n: p.detach().numpy().astype(float) for n, p in m.named_parameters()} for m in _old_and_new(inputs))
    total = sum(float(over(term(f, new[name], old[name]))) for name, f in inputs["fisher"].items())
    return {"value": half * inputs["strength"] * total}


def _by_place(inputs: Inputs) -> Outputs:
    """The first importance with the first parameter, and so on; what has another shape is passed over."""
    old, new = ([p.detach().numpy().astype(float) for p in network.parameters()] for network in _old_and_new(inputs))
    triples = zip(inputs["fisher"].values(), new, old, strict=False)
    total = sum(float((f * (now - then) ** 2).sum()) for f, now, then in triples if f.shape == now.shape)
    return {"value": 0.5 * inputs["strength"] * total}


PENALTY = Exercise(
    id="10.3",
    title="The penalty, and what it pulls",
    points=3,
    difficulty=2,
    minutes=10,
    entry="ewc_loss",
    draw=_draw_penalty,
    probe=_probe_penalty,
    oracle=_oracle_penalty,
    aspects=(
        Aspect("value", "the value", 0.5, 1e-4),
        Aspect("gradient", "its gradient", 0.3, 1e-4),
        Aspect("anchor_pulled", "no gradient reaches the old network", 0.2),
    ),
    misconceptions=(
        Misconception(
            "a number without a gradient",
            "The value is right, {outputs[value]:.2f}, but it carries no graph: added to a loss, it would be printed, "
            "and would pull nothing. Return the tensor, without `.item()`, `.detach()` of the new weights or "
            "`no_grad`.",
            shows=lambda i, o, e: o["gradient"] is None and abs(o["value"] - e["value"]) < 1e-3 * e["value"],
        ),
        Misconception(
            "a gradient reaches the anchor",
            "After `backward()` the parameters of the *old* network have gradients too: the penalty also pulls the "
            "anchor towards the new weights. Whoever steps with both would see the old task follow. Detach the anchor.",
            shows=lambda i, o, e: o["anchor_pulled"],
        ),
        Misconception(
            "the half is missing",
            "You have {outputs[value]:.2f}, twice what is wanted. The penalty stands for the old loss around its "
            "optimum, a Taylor series whose second term has a half. Without it, every strength means twice as much.",
            wrong=lambda i: _valued(i, lambda f, new, old: f * (new - old) ** 2, half=1.0),
        ),
        Misconception(
            "a mean over the weights",
            "You took the mean over the weights of each tensor: {outputs[value]:.2f} instead of {expected[value]:.2f}. "
            "A weight in a large tensor would be held less than the same one in a small tensor. Losses add: take the "
            "sum.",
            wrong=lambda i: _valued(i, lambda f, new, old: f * (new - old) ** 2, over=np.mean),
        ),
        Misconception(
            "matched by place",
            "You went through network, anchor and `fisher` side by side: the first with the first. `fisher` names some "
            "of the parameters, in an order of its own, so that a tensor is weighed with the importance of another one "
            "that happens to have its shape. Go by the names.",
            wrong=_by_place,
        ),
        Misconception(
            "every weight held alike",
            "The Fisher information does not enter: every weight is held alike. That is L2-SP, of lesson 09.",
            wrong=lambda i: _valued(i, lambda f, new, old: (new - old) ** 2),
        ),
        Misconception(
            "pulled to zero",
            "Your penalty is smallest at zero. The old task does not want small weights; it wants those that it had, "
            "in `anchor`.",
            wrong=lambda i: _valued(i, lambda f, new, old: f * new**2),
        ),
        Misconception(
            "the Fisher information was squared too",
            "The square went over F as well: you have F**2 (theta - anchor)**2, {outputs[value]:.2f}. F is a curvature "
            "already; only the distance is squared.",
            wrong=lambda i: _valued(i, lambda f, new, old: (f * (new - old)) ** 2),
        ),
    ),
    hints=(
        "Loop over the names in `fisher`. For each, three tensors of one shape, and a sum over all their entries.",
        "dict(network.named_parameters())[name] is the weight now; anchor[name].detach() is where it was, without a "
        "graph.",
        "return strength / 2 * sum((fisher[n] * (now[n] - anchor[n].detach()) ** 2).sum() for n in fisher)",
    ),
)

# 10.4: where it ends ------------------------------------------------------------


def _any_bowls(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(3, 5)), int(rng.integers(1, 4)))
    return {
        "optima": rng.uniform(-3, 3, shape).round(1),
        "curvatures": rng.uniform(0.5, 4, shape).round(1),
        "strength": float(rng.choice([0.5, 2.0, 3.0])),
        "gamma": float(rng.choice([0.3, 0.5, 0.8])),
    }


def _probe_bowls(answer, inputs: Inputs) -> Outputs:
    return {"weights": plain(answer(**inputs), what="what `online_ewc` returned")}


def _in_turn(
    i: Inputs,
    *,
    kept=lambda gamma, old, new: gamma * old + new,
    anchored=lambda weights, optima: weights[-1],
    strength: float | None = None,
) -> Outputs:
    """Task by task, each by the zero of its gradient."""
    strength = i["strength"] if strength is None else strength
    weights, fisher = [i["optima"][0]], i["curvatures"][0]
    for number in range(1, len(i["optima"])):
        own, anchor = i["curvatures"][number], anchored(weights, i["optima"][:number])
        pull = strength * fisher
        weights.append((own * i["optima"][number] + pull * anchor) / (own + pull))
        fisher = kept(i["gamma"], fisher, own)
    return {"weights": np.array(weights)}


def _separately(i: Inputs) -> Outputs:
    weights = [i["optima"][0]]
    for number in range(1, len(i["optima"])):
        held = i["strength"] * i["curvatures"][:number]
        above = i["curvatures"][number] * i["optima"][number] + (held * np.array(weights)).sum(axis=0)
        weights.append(above / (i["curvatures"][number] + held.sum(axis=0)))
    return {"weights": np.array(weights)}


def _jointly(i: Inputs) -> Outputs:
    return {"weights": np.cumsum(i["curvatures"] * i["optima"], axis=0) / np.cumsum(i["curvatures"], axis=0)}


def _half_strength(i: Inputs) -> Outputs:
    return _in_turn(i, strength=i["strength"] / 2)


def _added_first(i: Inputs) -> Outputs:
    """The new task's curvature is in F already while that task is learnt."""
    weights, fisher = [i["optima"][0]], i["curvatures"][0]
    for own, optimum in zip(i["curvatures"][1:], i["optima"][1:], strict=True):
        fisher = i["gamma"] * fisher + own
        pull = i["strength"] * fisher
        weights.append((own * optimum + pull * weights[-1]) / (own + pull))
    return {"weights": np.array(weights)}


_averaged = partial(_in_turn, kept=lambda gamma, old, new: gamma * old + (1 - gamma) * new)
_first_only = partial(_in_turn, kept=lambda gamma, old, new: old)
_faded_new = partial(_in_turn, kept=lambda gamma, old, new: gamma * (old + new))
_only_new = partial(_in_turn, kept=lambda gamma, old, new: new)
_never_faded = partial(_in_turn, kept=lambda gamma, old, new: old + new)
_oldest = partial(_in_turn, anchored=lambda weights, optima: weights[0])
_own_optimum = partial(_in_turn, anchored=lambda weights, optima: optima[-1])


def _draw_bowls(rng: np.random.Generator) -> Inputs:
    ways = (_in_turn, _half_strength, _faded_new, _only_new, _never_faded, _oldest, _own_optimum, _separately, _jointly)
    ways = (*ways, _added_first, _averaged, _first_only)
    return draw_apart(rng, _any_bowls, ways)


ONLINE = Exercise(
    id="10.4",
    title="Where online EWC ends",
    points=5,
    difficulty=4,
    minutes=25,
    entry="online_ewc",
    draw=_draw_bowls,
    probe=_probe_bowls,
    oracle=_in_turn,
    aspects=(Aspect("weights", "the weights after each task", 1.0, 1e-6),),
    misconceptions=(
        Misconception(
            "the joint optimum, whatever the knobs",
            "You return the joint optimum of the tasks so far. Online EWC reaches it with strength 1 and gamma 1; with "
            "strength {inputs[strength]} and gamma {inputs[gamma]} it holds the old tasks more, or less, than they "
            "weigh.",
            wrong=_jointly,
        ),
        Misconception(
            "half the pull",
            "You balance the new task's slope against *half* of the penalty's. Both terms have a half in front, and "
            "both lose it to the derivative: the penalty pulls with strength * F * distance.",
            wrong=_half_strength,
        ),
        Misconception(
            "the new Fisher information faded too",
            "You multiplied the sum by gamma: gamma * (F + new). Then the task just learnt is faded before it was held "
            "even once, and an old one faded once too often. Only what was kept *before* fades.",
            wrong=_faded_new,
        ),
        Misconception(
            "only the last task is held",
            "Your F is that of the task just learnt; what was kept of the tasks before is overwritten. From the third "
            "task on, the first one is held by nothing.",
            wrong=_only_new,
        ),
        Misconception(
            "added before it was learnt",
            "You add a task's curvature to F *before* that task is learnt, so that the anchor is held with the "
            "importance of a task which has not been there. F is brought up to date after each task.",
            wrong=_added_first,
        ),
        Misconception(
            "a moving average",
            "You mix: gamma * F + (1 - gamma) * new. Here the new curvature is added whole, and only what was kept "
            "before fades.",
            wrong=_averaged,
        ),
        Misconception(
            "only the first task is held",
            "Your F stays that of the first task. What later tasks mind is never added, and is held by nothing.",
            wrong=_first_only,
        ),
        Misconception(
            "nothing fades",
            "You add up the Fisher information of all tasks, and gamma = {inputs[gamma]} does nothing.",
            wrong=_never_faded,
        ),
        Misconception(
            "the oldest anchor was kept",
            "You hold the weights where the *first* task left them. Then all that later tasks have learnt is pulled "
            "back to it. Online EWC has one anchor, and it is the latest.",
            wrong=_oldest,
        ),
        Misconception(
            "anchored at an optimum that was never reached",
            "You anchor at the last task's own optimum. Training did not end there: the penalty held it back. The "
            "anchor is where the weights *were* when the task ended, which already holds what earlier tasks wanted.",
            wrong=_own_optimum,
        ),
        Misconception(
            "a penalty for each task",
            "You kept a penalty for each task, with its own anchor: `separate`, of Kirkpatrick and others. It counts "
            "early tasks again in every later anchor. Here one anchor and one F are kept.",
            wrong=_separately,
        ),
    ),
    hints=(
        "Take one weight, and the second task. Set the derivative of its loss plus the penalty to zero.",
        "The zero is at (h b + s F a) / (h + s F): own curvature h and optimum b, strength s, kept F, anchor a. What "
        "are F and a when the third task begins?",
        "w = (h[t] * b[t] + s * F * w) / (h[t] + s * F), and after it F = gamma * F + h[t]; begin with w = b[0] and "
        "F = h[0].",
    ),
)
