"""Tasks of lesson 05 on the schedule: its factors, and what it leaves for a stage that is opened late."""

import math

import numpy as np

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["SLANTED", "SLOW_DOWN"]

# 05.1: slanted triangular rates ------------------------------------------------------------


def _draw_slanted(rng: np.random.Generator) -> Inputs:
    cut = float(rng.choice([0.1, 0.2, 0.25]))
    # Where the peak is rounded by enough, equation 3 itself ends below its floor.
    rounded = [total for total in range(9, 40) if cut * total > 1 and cut + 0.02 < (cut * total) % 1 < 0.98]
    few = [total for total in range(3, 9) if cut * total < 0.9]
    total = int(rng.choice(few)) if few and not rng.integers(4) else int(rng.choice(rounded))
    return {"total": total, "cut": cut, "ratio": int(rng.choice([8, 16, 32]))}


def _probe_slanted(answer, inputs: Inputs) -> Outputs:
    factors = plain(answer(**inputs), what="what `slanted` returned")
    factors = factors.tolist() if isinstance(factors, np.ndarray) else factors
    return {"factors": factors, "last": factors[-1] if isinstance(factors, list) and factors else None}


def _factors(i: Inputs, height) -> Outputs:
    """`height` gives the share of the way from the floor to the top, at a step."""
    factors = [(1 + height(step) * (i["ratio"] - 1)) / i["ratio"] for step in range(i["total"])]
    return {"factors": factors, "last": factors[-1]}


def _triangle(step: float, peak: float, cut: float) -> float:
    return step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))


def _peak(i: Inputs) -> int:
    return max(1, math.floor(i["cut"] * i["total"]))


def _slanted(i: Inputs, *, late: int = 0, peak: float | None = None) -> Outputs:
    peak = peak or _peak(i)
    return _factors(i, lambda step: max(0.0, _triangle(step + late, peak, i["cut"])))


def _below_the_floor(i: Inputs) -> tuple[list[float], list[float]]:
    """The factors where nothing is held, and where they themselves are held at 0."""
    factors = _factors(i, lambda step: _triangle(step, _peak(i), i["cut"]))["factors"]
    return factors, [max(0.0, factor) for factor in factors]


def _down_to_zero(i: Inputs) -> Outputs:
    return {"factors": [max(0.0, _triangle(step, _peak(i), i["cut"])) for step in range(i["total"])]}


def _equal_sides(i: Inputs) -> Outputs:
    peak = _peak(i)
    return _factors(i, lambda step: max(0.0, 1 - abs(step - peak) / peak))


def _stretched(i: Inputs, ends: int) -> Outputs:
    peak, last = _peak(i), i["total"] - ends
    return _factors(i, lambda step: step / peak if step < peak else 1 - (step - peak) / max(1, last - peak))


def _long_way_up(i: Inputs) -> Outputs:
    cut = 1 - i["cut"]
    peak = max(1, math.floor(cut * i["total"]))
    return _factors(i, lambda step: max(0.0, _triangle(step, peak, cut)))


SLANTED = Exercise(
    id="05.1",
    title="Slanted triangular rates, with a floor that holds",
    points=3,
    difficulty=2,
    minutes=10,
    entry="slanted",
    draw=_draw_slanted,
    probe=_probe_slanted,
    oracle=_slanted,
    aspects=(
        Aspect("factors", "the factor at each step", 0.8, 1e-9),
        Aspect("last", "the last factor", 0.2, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "below the floor",
            "Your last factor is {outputs[last]:.4f}, below the floor of 1/{inputs[ratio]}. This is equation 3 "
            "to the letter: rounding moved the peak forward, the way down is too short for what is left, and p falls "
            "below 0. Where it is long enough below, the rate is negative and climbs the loss. Hold p at 0.",
            shows=lambda i, o, e: any(np.allclose(o["factors"], found, atol=1e-9) for found in _below_the_floor(i)),
        ),
        Misconception(
            "one step late",
            "Your factors are those of the next step each: the first should be the floor, 1/{inputs[ratio]}, since "
            "steps are counted from 0.",
            wrong=lambda i: _slanted(i, late=1),
        ),
        Misconception(
            "the peak was rounded up",
            "Your peak lies a step later than it should: {inputs[cut]} times {inputs[total]} is rounded *down* to a "
            "whole step.",
            wrong=lambda i: _slanted(i, peak=math.ceil(i["cut"] * i["total"])),
        ),
        Misconception(
            "the peak was not rounded",
            "Your peak lies at {inputs[cut]} times {inputs[total]}, between two steps, so that no step gets the whole "
            "rate. It is rounded down to a whole step.",
            wrong=lambda i: _slanted(i, peak=max(1, i["cut"] * i["total"])),
        ),
        Misconception(
            "down to zero",
            "What you return is p, which runs from 0 to 1. The factor runs from 1/{inputs[ratio]} to 1, so that the "
            "first step is not lost.",
            wrong=_down_to_zero,
        ),
        Misconception(
            "as steep down as up",
            "Your triangle has two equal sides, and most of the run stays at the floor. Slanted means: "
            "{inputs[cut]} of the steps rise, and the fall is spread over the others.",
            wrong=_equal_sides,
        ),
        Misconception(
            "stretched to the end of the run",
            "Way up and floor are right. Your way down is spread over exactly the steps that are left; that is a "
            "sound schedule, but another one: the slope of equation 3 hangs on `cut` and on the rounded peak.",
            shows=lambda i, o, e: any(
                np.allclose(o["factors"], _stretched(i, ends)["factors"], atol=1e-9) for ends in (0, 1)
            ),
        ),
        Misconception(
            "a long way up",
            "Your rates rise for most of the run and fall at its end. `cut` is the share of the way *up*: a short "
            "one, and a long way down.",
            wrong=_long_way_up,
        ),
    ),
    hints=(
        "Work out the peak first, then p for one step before it and one after it, on paper.",
        "peak = max(1, math.floor(cut * total)). Before the peak p is step / peak; from it on, 1 - (step - peak) / "
        "(peak * (1 / cut - 1)).",
        "For each step in range(total): p as above, p = max(p, 0), and the factor is (1 + p * (ratio - 1)) / ratio.",
    ),
)

# 05.4: what is left for a stage that opens late ------------------------------------------------------------


def _draw_slow(rng: np.random.Generator) -> Inputs:
    total = int(rng.integers(10, 19))
    made = _slanted({"total": total, "cut": 0.2, "ratio": int(rng.choice([8, 16, 32]))})
    stages = int(rng.integers(3, 5))
    later = np.sort(rng.choice(np.arange(2, total - 1), size=stages - 1, replace=False))
    return {
        "factors": np.array(made["factors"]).round(3),
        "opened": [0, *later.tolist()],
        "fall": float(rng.choice([1.5, 2.6, 3.0])),
    }


def _probe_slow(answer, inputs: Inputs) -> Outputs:
    returned = plain(answer(**inputs), what="what `slow_down` returned")
    if not isinstance(returned, list) or len(returned) != 2:
        raise AnswerError("`slow_down` returns two things, `return late, both`: two lists of numbers")
    return {"late": returned[0], "both": returned[1]}


def _slow(i: Inputs, weight=None, *, after: int = 0, compound=None) -> Outputs:
    weight = i["factors"] if weight is None else weight
    left = [weight[begin + after * (begin > 0) :].sum() for begin in i["opened"]]
    late = [float(left[0] / own) for own in left]
    compound = compound or (lambda stage, own: own * i["fall"] ** stage)
    return {"late": late, "both": [compound(stage, own) for stage, own in enumerate(late)]}


def _own_phase(i: Inputs) -> list[np.ndarray]:
    """The stages against the head's whole run, and against the head's own phase."""
    ends = [*i["opened"][1:], len(i["factors"])]
    own = np.array([i["factors"][begin:end].sum() for begin, end in zip(i["opened"], ends, strict=True)])
    return [i["factors"].sum() / own, own[0] / own]


def _all_a_step_late(i: Inputs) -> list[float]:
    left = [i["factors"][begin + 1 :].sum() for begin in i["opened"]]
    return [left[0] / own for own in left]


def _anew(i: Inputs) -> Outputs:
    total = len(i["factors"])
    return {"late": [float(i["factors"].sum() / i["factors"][: total - begin].sum()) for begin in i["opened"]]}


def _turned(found: Outputs) -> Outputs:
    return {key: [1 / value for value in values] for key, values in found.items()}


SLOW_DOWN = Exercise(
    id="05.4",
    title="Two brakes on one stage",
    points=4,
    difficulty=3,
    minutes=12,
    entry="slow_down",
    draw=_draw_slow,
    probe=_probe_slow,
    oracle=_slow,
    aspects=(
        Aspect("late", "slower for being late", 0.6, 1e-6),
        Aspect("both", "slower in all", 0.4, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "steps were counted",
            "You divided numbers of steps. A late stage has not only few steps, it has them at the low end of the "
            "schedule: add up the factors. For the second stage of the list that makes {expected[late][1]:.2f}, and "
            "not {outputs[late][1]:.2f}.",
            wrong=lambda i: {"late": _slow(i, np.ones(len(i["factors"])))["late"]},
        ),
        Misconception(
            "only the phase in which it was opened",
            "Each of your stages stops where the next one is opened. It goes on: what has been opened stays open to "
            "the end.",
            shows=lambda i, o, e: any(np.allclose(o["late"], found, rtol=1e-6) for found in _own_phase(i)),
        ),
        Misconception(
            "one step late",
            "Your later stages miss a step. A stage that is opened at step {inputs[opened][1]} takes part in that "
            "step.",
            shows=lambda i, o, e: any(
                np.allclose(o["late"], found, rtol=1e-6) for found in (_slow(i, after=1)["late"], _all_a_step_late(i))
            ),
        ),
        Misconception(
            "the schedule began anew",
            "Each of your stages begins with the first factors of the schedule. There is one schedule for all: a stage "
            "that is opened at step {inputs[opened][1]} gets the factors from that step on.",
            wrong=_anew,
        ),
        Misconception(
            "how much is left",
            "Your numbers are at most 1: they say which share of the head's way is left. Asked for is how many times "
            "*less* far a stage can go.",
            wrong=lambda i: _turned(_slow(i)),
        ),
        Misconception(
            "from the input to the head",
            "The order is turned: both lists begin with the head, as `opened` does, and the head is slowed down by "
            "nothing.",
            wrong=lambda i: {key: values[::-1] for key, values in _slow(i).items()},
        ),
        Misconception(
            "the fall was not compounded",
            "`late` is right. But the rate falls by {inputs[fall]} from *each* stage to the next: two stages below the "
            "head it is {inputs[fall]} times {inputs[fall]}.",
            shows=lambda i, o, e: any(
                np.allclose(o["both"], _slow(i, compound=way)["both"], rtol=1e-6)
                for way in (
                    lambda stage, own: own * i["fall"],
                    lambda stage, own: own * i["fall"] * max(stage, 1),
                    lambda stage, own: own * (i["fall"] if stage else 1),
                    lambda stage, own: own * (i["fall"] * stage if stage else 1),
                )
            ),
        ),
        Misconception(
            "the second brake by itself",
            "`late` is right. But your `both` holds the lower rate alone: a stage that opens late *and* has a lower "
            "rate is slowed down by both.",
            wrong=lambda i: {"both": _slow(i, compound=lambda stage, own: i["fall"] ** stage)["both"]},
        ),
        Misconception(
            "one brake added to the other",
            "`late` is right. But the two brakes act on the same step: a tenth of the steps' sum, at half the rate, is "
            "a twentieth. They multiply.",
            shows=lambda i, o, e: any(
                np.allclose(o["both"], _slow(i, compound=way)["both"], rtol=1e-6)
                for way in (
                    lambda stage, own: own + i["fall"] ** stage,
                    lambda stage, own: own + i["fall"] ** stage - 1,
                )
            ),
        ),
    ),
    hints=(
        "How far can the head go, if each step moves a weight by the rate? And a stage that is opened at step 5?",
        "The head: the sum of all factors. A stage that is opened at step s: factors[s:].sum().",
        "late[k] = factors.sum() / factors[opened[k]:].sum(), and both[k] = late[k] * fall ** k.",
    ),
)
