"""Tasks of lesson 05: gradual unfreezing."""

import numpy as np

from tlcourse.checks.lesson05_joining import JOIN, RELATIVE_STEPS
from tlcourse.checks.lesson05_schedule import SLANTED, SLOW_DOWN
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["BACKWARD", "EXERCISES"]

# 05.5: the backward pass of each phase ------------------------------------------------------------


def _draw_backward(rng: np.random.Generator) -> Inputs:
    stages = int(rng.integers(4, 7))
    costs = rng.choice(np.arange(1, 20), size=stages, replace=False).tolist()
    gradual = [list(range(stages - opened, stages)) for opened in (1, 2, stages)]
    gap = [stages - 1, int(rng.integers(2))]  # in no order: who takes the first for the lowest is found out
    return {"costs": costs, "phases": [*gradual, gap]}


def _probe_backward(answer, inputs: Inputs) -> Outputs:
    return {"shares": plain(answer(**inputs), what="what `backward_shares` returned")}


def _shares(i: Inputs, count, *, whole=None) -> list[float]:
    """What a way of counting makes of each phase, over what it (or another one) makes of all stages open."""
    everything = list(range(len(i["costs"])))
    whole = (whole or count)(i["costs"], everything)
    return [count(i["costs"], phase) / whole if phase else 0.0 for phase in i["phases"]]


def _needed(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase) + sum(costs[min(phase) + 1 :])


def _open_alone(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] * (2 if stage > min(phase) else 1) for stage in phase)


def _lowest_passes(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase) + sum(costs[min(phase) :])


def _to_the_input(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase) + sum(costs[1:])


def _own_of_all_above(costs: list[int], phase: list[int]) -> int:
    return sum(costs[min(phase) :]) + sum(costs[min(phase) + 1 :])


def _first_named(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase) + sum(costs[phase[0] + 1 :])


def _last_named(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase) + sum(costs[phase[-1] + 1 :])


def _by_own(costs: list[int], phase: list[int]) -> int:
    return sum(costs[stage] for stage in phase)


def _twice_all(costs: list[int], phase: list[int]) -> int:
    return 2 * sum(costs)


BACKWARD = Exercise(
    id="05.5",
    title="How far back the gradient has to travel",
    points=3,
    difficulty=2,
    minutes=10,
    entry="backward_shares",
    draw=_draw_backward,
    probe=_probe_backward,
    oracle=lambda i: {"shares": _shares(i, _needed)},
    aspects=(Aspect("shares", "the share of each phase", 1.0, 1e-6),),
    misconceptions=(
        Misconception(
            "frozen stages are free",
            "A frozen stage *between* open ones cost nothing in yours. It needs no gradient of its own, but the "
            "gradient has to pass through it to reach the open stage below. Only the frozen stages below the lowest "
            "open one are free.",
            wrong=lambda i: {"shares": _shares(i, _open_alone)},
        ),
        Misconception(
            "the lowest open stage passed it on",
            "You let the gradient pass through the lowest open stage, too. Below it nobody wants it: what that stage "
            "computes is its own gradient alone. The same holds for the first stage where all are open.",
            shows=lambda i, o, e: any(
                np.allclose(o["shares"], _shares(i, _lowest_passes, whole=whole), atol=1e-6)
                for whole in (_needed, _lowest_passes)
            ),
        ),
        Misconception(
            "back to the input",
            "In each phase you let the gradient travel down to the first stage. It stops at the lowest one that is "
            "open: that is what a frozen beginning saves.",
            wrong=lambda i: {"shares": _shares(i, _to_the_input)},
        ),
        Misconception(
            "frozen stages have gradients of their own",
            "Every stage from the lowest open one up has paid for its own gradient in yours. One that is frozen passes "
            "the gradient on and computes none for itself.",
            wrong=lambda i: {"shares": _shares(i, _own_of_all_above)},
        ),
        Misconception(
            "nothing was passed on",
            "You counted the stages' own gradients alone. Half of the work, nearly, is passing the gradient down from "
            "one stage to the next.",
            wrong=lambda i: {"shares": _shares(i, _by_own)},
        ),
        Misconception(
            "taken for sorted",
            "You took one end of each list of open stages for the lowest of them. The numbers of a phase come in any "
            "order, as in {inputs[phases][3]}: look for the smallest.",
            shows=lambda i, o, e: any(
                np.allclose(o["shares"], _shares(i, way, whole=whole), atol=1e-6)
                for way in (_first_named, _last_named)
                for whole in (way, _needed)
            ),
        ),
        Misconception(
            "measured by twice the forward pass",
            "Each phase is counted rightly, but your full pass is twice the sum of all costs: then even with all "
            "stages open the share is {outputs[shares][2]:.2f} and not 1. The first stage passes nothing on.",
            wrong=lambda i: {"shares": _shares(i, _needed, whole=_twice_all)},
        ),
        Misconception(
            "stages were counted",
            "You counted stages and not what they cost: {inputs[costs]} are far from equal.",
            wrong=lambda i: {"shares": [len(phase) / len(i["costs"]) for phase in i["phases"]]},
        ),
    ),
    hints=(
        "Draw the stages in a row and mark those that are open. Which gradients of *activations* does somebody wait "
        "for?",
        "Own gradients: the open stages. Passing on: every stage above the lowest open one, open or not.",
        "lowest = min(phase); sum(costs[k] for k in phase) + sum(costs[lowest + 1:]), over the same with all stages "
        "open; 0.0 for an empty phase.",
    ),
)

EXERCISES = (SLANTED, JOIN, RELATIVE_STEPS, SLOW_DOWN, BACKWARD)
