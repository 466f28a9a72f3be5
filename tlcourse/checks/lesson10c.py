"""The clinic after lesson 10: five defects that make a remedy against forgetting do nothing, or something else."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.lesson10c_decay import DECAY
from tlcourse.checks.lesson10c_fisher import SIDE_EFFECTS, SQUARED_LATE
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "HOLD", "RESERVOIR"]

# 10c.1: an anchor that drags ------------------------------------------------------------


def _draw_hold(rng: np.random.Generator) -> Inputs:
    return {
        "fisher": {
            "weight": rng.uniform(0.5, 3, (2, 2)).round(2).astype(np.float32),
            "bias": rng.uniform(0.5, 3, 2).round(2).astype(np.float32),
        },
        "moves": rng.uniform(0.5, 2, 2).round(2),
        "strength": float(rng.choice([2.0, 5.0, 10.0])),
        "seed": int(rng.integers(1000)),
    }


def _layer(seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(2, 2)


def _probe_hold(answer, inputs: Inputs) -> Outputs:
    network = _layer(inputs["seed"])
    fisher = {name: torch.tensor(value) for name, value in inputs["fisher"].items()}
    penalty = answer(network, fisher, inputs["strength"])
    if not callable(penalty):
        raise AnswerError(f"`hold` should return a function, penalty(network); it returned a {type(penalty).__name__}")
    values, gradient = [], None
    for move in inputs["moves"]:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += move
        for value in fisher.values():
            value += 1  # as the next task does, in online EWC
        network.zero_grad()
        found = penalty(network)
        values.append(plain(found, what="what the penalty returned"))
        if isinstance(found, Tensor) and found.requires_grad and found.numel() == 1:
            found.backward()
            gradient = {
                name: np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy()
                for name, p in network.named_parameters()
            }
    return {"values": values, "gradient": gradient}


def _held(inputs: Inputs, *, grown: bool = False, half: float = 0.5) -> Outputs:
    """Every weight goes by the same moves, whatever it was: no network is needed."""
    away, values = np.cumsum(inputs["moves"]), []
    for number, distance in enumerate(away, start=1):
        total = sum(float((value + grown * number).sum()) for value in inputs["fisher"].values())
        values.append(half * inputs["strength"] * total * float(distance) ** 2)
    gradient = {name: inputs["strength"] * value * away[-1] for name, value in inputs["fisher"].items()}
    return {"values": values, "gradient": gradient}


def _close(found: list, wanted: list) -> bool:
    return bool(np.allclose(found, wanted, rtol=1e-3))


HOLD = Exercise(
    id="10c.1",
    title="The penalty that is always zero",
    points=3,
    difficulty=2,
    minutes=10,
    entry="hold",
    draw=_draw_hold,
    probe=_probe_hold,
    oracle=_held,
    aspects=(
        Aspect("values", "the penalty after the weights moved", 0.5, 1e-4),
        Aspect("gradient", "its pull", 0.5, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "the anchor moves with the weights",
            "The weights moved by {inputs[moves][0]}, and the penalty is {outputs[values][0]:.2f}; "
            "{expected[values][0]:.2f} is right. `.detach()` and `.data` cut the graph, and share the *memory*: an "
            "optimiser changes weights in place, and your anchor goes along. Copy the numbers.",
            shows=lambda i, o, e: _close(o["values"], [0.0, 0.0]),
        ),
        Misconception(
            "the anchor follows from call to call",
            "The first call is right. At the second the penalty is {outputs[values][1]:.2f} instead of "
            "{expected[values][1]:.2f}: the anchor was set anew. It is where the *old task* left the weights, for the "
            "whole of the new one.",
            shows=lambda i, o, e: (
                _close(o["values"][:1], e["values"][:1])
                and _close(o["values"][1:], [e["values"][0] * (i["moves"][1] / i["moves"][0]) ** 2])
            ),
        ),
        Misconception(
            "the pull is cancelled",
            "The values are right, and the gradient is zero everywhere, so that nothing is held. `.clone()` alone "
            "leaves the anchor in the graph: the gradient reaches the weights twice, through both sides of the "
            "difference, with opposite signs. It takes `.detach().clone()`.",
            shows=lambda i, o, e: (
                _close(o["values"], e["values"]) and all(np.all(np.asarray(g) == 0) for g in o["gradient"].values())
            ),
        ),
        Misconception(
            "a number without a gradient",
            "The values are right, but they carry no graph: the penalty is printed, and pulls nothing. The *anchor* is "
            "to be detached, the weights are not.",
            shows=lambda i, o, e: _close(o["values"], e["values"]) and o["gradient"] is None,
        ),
        Misconception(
            "the Fisher information changes afterwards",
            "The anchor is a copy now, and the Fisher information is none: it was changed after `hold` had been "
            "called, as online EWC does, and your penalty changed with it. Copy both.",
            wrong=lambda i: {"values": _held(i, grown=True)["values"]},
        ),
        Misconception(
            "the half is missing",
            "Twice what is wanted: {outputs[values][0]:.2f}. The half belongs to the penalty.",
            wrong=lambda i: {"values": _held(i, half=1.0)["values"]},
        ),
    ),
    hints=(
        "Print the anchor before and after a step of an optimiser.",
        "`value.detach()` is a second view of the same numbers. What makes numbers of its own?",
        "anchor = {name: value.detach().clone() for name, value in network.named_parameters()}",
    ),
)

# 10c.4: the reservoir ------------------------------------------------------------

MOST = 20000  # outcomes of one answer


def _draw_stream(rng: np.random.Generator) -> Inputs:
    capacity = int(rng.integers(1, 4))
    return {"stream": list("abcdefgh")[: capacity + int(rng.integers(3, 5))], "capacity": capacity}


def _probe_stream(answer, inputs: Inputs) -> Outputs:
    """The answer run on every outcome that its draws can have."""
    stream, capacity = inputs["stream"], inputs["capacity"]
    chances, sizes, open_ends, runs = dict.fromkeys(stream, 0.0), [], [[]], 0
    while open_ends:
        given, asked = open_ends.pop(), []

        def draw(n: int) -> int:
            if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 100:
                raise ValueError(f"draw({n!r}): a whole number from 1 to 100 is needed")
            asked.append(n)  # noqa: B023 - called in this turn only
            return given[len(asked) - 1] if len(asked) <= len(given) else 0  # noqa: B023

        kept = plain(answer(iter(stream), capacity, draw), what="what `reservoir` returned")
        if not isinstance(kept, list) or not set(kept) <= set(stream):
            raise AnswerError("`reservoir` should return a list of samples of the stream")
        probability = float(np.prod([1 / n for n in asked]))
        for sample in set(kept):
            chances[sample] += probability
        sizes.append(len(kept))
        for place in range(len(given), len(asked)):
            zeros = [0] * (place - len(given))
            open_ends += [[*given, *zeros, other] for other in range(1, asked[place])]
        runs += 1
        if runs > MOST:
            raise AnswerError(
                f"`reservoir` draws so much that there are more than {MOST} outcomes; one draw for a sample is enough"
            )
    found = list(chances.values())
    return {
        "chances": found,
        "oldest": found[0],
        "newest": found[-1],
        "sizes": [min(sizes), max(sizes)],
    }


def _by_entering(i: Inputs, *, enters=lambda t, capacity: capacity / (t + 1)) -> Outputs:
    """The chances where sample t, once the buffer is full, enters so often and puts out any one."""
    chances: list[float] = []
    for t in range(len(i["stream"])):
        entering = 1.0 if t < i["capacity"] else enters(t, i["capacity"])
        if t >= i["capacity"]:
            chances = [chance * (1 - entering / i["capacity"]) for chance in chances]
        chances.append(entering)
    size = min(len(i["stream"]), i["capacity"])
    return {"chances": chances, "oldest": chances[0], "newest": chances[-1], "sizes": [size, size]}


def _latest(i: Inputs) -> Outputs:
    return {"chances": [float(t >= len(i["stream"]) - i["capacity"]) for t in range(len(i["stream"]))]}


RESERVOIR = Exercise(
    id="10c.4",
    title="A memory of late samples",
    points=4,
    difficulty=3,
    minutes=15,
    entry="reservoir",
    draw=_draw_stream,
    probe=_probe_stream,
    oracle=_by_entering,
    aspects=(
        Aspect("chances", "every sample has the same chance to be kept", 0.7, 1e-9),
        Aspect("oldest", "the oldest has its chance", 0.1, 1e-9),
        Aspect("newest", "the newest has its chance", 0.1, 1e-9),
        Aspect("sizes", "as many are kept as there is room for", 0.1),
    ),
    misconceptions=(
        Misconception(
            "off by one, for the newest",
            "The newest sample is kept with probability {outputs[newest]:.3f}, the oldest with {outputs[oldest]:.3f}; "
            "{expected[newest]:.3f} is right for all. With sample t, counted from 0, there have been t + 1 samples: "
            "the draw is among t + 1 places. With yours, the first one that comes to a full buffer enters for certain.",
            wrong=partial(_by_entering, enters=lambda t, capacity: capacity / t),
        ),
        Misconception(
            "off by one, for the oldest",
            "Now it leans the other way: the newest is kept with probability {outputs[newest]:.3f}, the oldest with "
            "{outputs[oldest]:.3f}. You draw among one place too many.",
            wrong=partial(_by_entering, enters=lambda t, capacity: capacity / (t + 2)),
        ),
        Misconception(
            "every new sample enters",
            "Every new sample enters, and puts out another. Then an old one survives each time with the same chance, "
            "and is soon gone: the oldest is kept with probability {outputs[oldest]:.3f}. The longer the stream, the "
            "*more rarely* a new one may enter.",
            wrong=partial(_by_entering, enters=lambda t, capacity: 1.0),
        ),
        Misconception(
            "the first ones stay",
            "What fills the buffer stays in it, and nothing later enters: tasks after the first are never rehearsed.",
            wrong=partial(_by_entering, enters=lambda t, capacity: 0.0),
        ),
        Misconception(
            "the last ones stay",
            "You keep the last {inputs[capacity]} samples. When a new task begins, they are its own, and the old task, "
            "for which the buffer is there, is the first to be forgotten.",
            wrong=_latest,
        ),
    ),
    hints=(
        "Capacity 1 and two samples, by hand: with which probability is the second one kept?",
        "When sample t comes, counted from 0, there have been t + 1 samples, and it should be kept with probability "
        "capacity / (t + 1).",
        "slot = draw(t + 1); if slot < capacity: kept[slot] = sample",
    ),
)

EXERCISES = (HOLD, SQUARED_LATE, SIDE_EFFECTS, RESERVOIR, DECAY)
