"""A task of lesson 10: the largest rate at which gradient descent bears a penalty."""

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["LARGEST_RATE"]

# 10.5: the largest rate ------------------------------------------------------------


def _any_terms(rng: np.random.Generator) -> Inputs:
    def drawn(*names: str) -> dict[str, np.ndarray]:
        return {name: rng.uniform(0.1, 4.0, 3).round(2) for name in names}

    heads = [f"head {number}" for number in range(int(rng.integers(2, 4)))]  # each task names the backbone and its own
    return {
        "curvature": drawn("backbone", "new head") | {name: np.zeros(3) for name in heads},
        "fishers": [drawn("backbone") | {name: 2 * drawn(name)[name]} for name in heads],
        "strength": float(rng.choice([2.0, 5.0, 10.0])),
    }


def _probe_rate(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(**inputs), what="what `largest_rate` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`largest_rate` should return two things, (rate, name)")
    return {"rate": found[0], "name": found[1]}


def _steepest(i: Inputs, *, bound: float = 2.0, strength: float | None = None, gather=np.sum, over=np.max, own=1.0):
    """The bound over the largest curvature of all, and the tensor in which it is."""
    strength, total = i["strength"] if strength is None else strength, {}
    for name, curvature in i["curvature"].items():
        terms = [fisher[name] for fisher in i["fishers"] if name in fisher]
        held = gather(terms, axis=0) if terms else np.zeros_like(curvature)
        total[name] = float(over(own * curvature + strength * held))
    name = max(total, key=total.get)
    return {"rate": bound / total[name], "name": name}


def _named_by_all(i: Inputs) -> Outputs:
    """Only the tensors that every penalty names."""
    common = {name: value for name, value in i["curvature"].items() if all(name in fisher for fisher in i["fishers"])}
    return {"rate": _steepest({**i, "curvature": common})["rate"]}


def _monotone(i: Inputs) -> Outputs:
    return {"rate": _steepest(i, bound=1.0)["rate"]}


def _penalty_alone(i: Inputs) -> Outputs:
    return {"rate": _steepest(i, own=0.0)["rate"]}


def _half_curved(i: Inputs) -> Outputs:
    return {"rate": _steepest(i, strength=i["strength"] / 2)["rate"]}


def _newest_term(i: Inputs) -> Outputs:
    return {"rate": _steepest({**i, "fishers": i["fishers"][-1:]})["rate"]}


def _on_average(i: Inputs) -> Outputs:
    return {"rate": _steepest(i, over=np.mean)["rate"]}


def _maxima_added(i: Inputs) -> Outputs:
    """As if the steepest weight of every term were the same, in whichever tensor it is."""
    own = max(float(value.max()) for value in i["curvature"].values())
    held = sum(max(float(value.max()) for value in fisher.values()) for fisher in i["fishers"])
    return {"rate": 2 / (own + i["strength"] * held)}


def _added_within(i: Inputs) -> float:
    """The largest values of each tensor's terms, added tensor by tensor."""
    held = {name: [f[name].max() for f in i["fishers"] if name in f] for name in i["curvature"]}
    return 2 / max(float(value.max()) + i["strength"] * sum(held[name]) for name, value in i["curvature"].items())


def _draw_terms(rng: np.random.Generator) -> Inputs:
    ways = (_monotone, _half_curved, _on_average, _maxima_added)
    return draw_apart(rng, _any_terms, (lambda i: {"rate": _steepest(i)["rate"]}, *ways), tolerance=1e-4)


LARGEST_RATE = Exercise(
    id="10.5",
    title="The rate at which it explodes",
    points=4,
    difficulty=3,
    minutes=15,
    entry="largest_rate",
    draw=_draw_terms,
    probe=_probe_rate,
    oracle=_steepest,
    aspects=(
        Aspect("rate", "the rate", 0.7, 1e-6),
        Aspect("name", "the tensor that explodes first", 0.3),
    ),
    draws=10,  # either the backbone or a head explodes first: both should come up
    misconceptions=(
        Misconception(
            "the rate without overshooting",
            "At 1 / curvature a step lands in the middle of the bowl. Up to twice that it lands on the other side, and "
            "still lower than before: it swings, and settles. Your {outputs[rate]:.4f} is half of what is allowed.",
            wrong=_monotone,
        ),
        Misconception(
            "the penalty alone",
            "You judged the penalty by itself. A step follows the gradient of the *sum*, whose curvature is that of "
            "the new loss plus strength times F; at {outputs[rate]:.4f} it explodes.",
            wrong=_penalty_alone,
        ),
        Misconception(
            "the half was kept",
            "You took strength / 2 times F. The half of the penalty goes when it is derived: its gradient is "
            "strength * F * distance, its curvature strength * F.",
            wrong=_half_curved,
        ),
        Misconception(
            "only the newest penalty",
            "There is a penalty for each earlier task, {outputs[rate]:.4f} holds for the newest one alone, and they "
            "add. That is why a rate that did well on the second task may explode on the fifth.",
            wrong=_newest_term,
        ),
        Misconception(
            "stable on average",
            "You averaged within a tensor. Every weight is a bowl of its own; the steepest of them explodes, whatever "
            "the others do.",
            wrong=_on_average,
        ),
        Misconception(
            "the maxima were added",
            "You added the largest values of all terms. They belong to different weights, so that nothing is as steep "
            "as that: your {outputs[rate]:.4f} is stable, but not the largest rate that is. Add weight by weight, "
            "then take the maximum.",
            shows=lambda i, o, e: any(
                np.isclose(o["rate"], found, rtol=1e-6) for found in (_maxima_added(i)["rate"], _added_within(i))
            ),
        ),
        Misconception(
            "only what every task names",
            "You looked at the tensors that every penalty names. The others are held as well, the head of an old task "
            "by that task alone: at {outputs[rate]:.4f} `{expected[name]}` explodes.",
            wrong=_named_by_all,
        ),
    ),
    hints=(
        "Take one weight. Its loss is c/2 (w - w0)**2 for some c. By which factor does a step multiply w - w0, and "
        "when is that larger than 1 in size?",
        "The factor is 1 - lr * c, so lr < 2 / c. For a weight, c = curvature + strength * (sum of the Fisher "
        "information of all tasks that name it).",
        "c = {name: curvature[name] + strength * sum(f[name] for f in fishers if name in f) for name in curvature}; "
        "the largest value of all, and its name; 2 / largest.",
    ),
)
