"""Tasks of lesson 04: fine-tuning."""

import math

import numpy as np

from tlcourse.checks.lesson04_groups import GROUPS, HOW_FAR
from tlcourse.checks.lesson04_range import RANGE_TEST
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "REACH", "STAGE_RATES"]

# 04.1: discriminative rates, and layer-wise decay ------------------------------------------------------------


def _draw_rates(rng: np.random.Generator) -> Inputs:
    return {
        "lowest": float(rng.choice([1e-6, 1e-5, 2e-5])),
        "highest": float(rng.choice([1e-4, 5e-4, 1e-3])),
        "stages": int(rng.integers(3, 8)),
    }


def _probe_rates(answer, inputs: Inputs) -> Outputs:
    returned = plain(answer(**inputs), what="what `stage_rates` returned")
    if not isinstance(returned, list) or len(returned) != 2:
        raise AnswerError("`stage_rates` returns two things, `return rates, decay`: a list of rates, and a number")
    return {"rates": returned[0], "decay": returned[1]}


def _geometric(lowest: float, ratio: float, stages: int) -> list[float]:
    return [lowest * ratio**stage for stage in range(stages)]


def _ratio(i: Inputs) -> float:
    return (i["highest"] / i["lowest"]) ** (1 / (i["stages"] - 1))


def _oracle_rates(inputs: Inputs) -> Outputs:
    ratio = _ratio(inputs)
    return {"rates": _geometric(inputs["lowest"], ratio, inputs["stages"]), "decay": 1 / ratio}


def _numbers(value) -> np.ndarray:
    """What a learner returned as a row of numbers; empty where it is none."""
    try:
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.empty(0)
    return found if found.ndim == 1 else np.empty(0)


def _one_ratio_too_many(i: Inputs, o: Outputs, e: Outputs) -> bool:
    rates, wanted = _numbers(o["rates"]), (i["highest"] / i["lowest"]) ** (1 / i["stages"])
    if len(rates) != i["stages"] or not (rates > 0).all():
        return False
    return np.allclose(rates[1:] / rates[:-1], wanted, rtol=1e-4)


STAGE_RATES = Exercise(
    id="04.1",
    title="One profile, two names",
    points=3,
    difficulty=2,
    minutes=8,
    entry="stage_rates",
    draw=_draw_rates,
    probe=_probe_rates,
    oracle=_oracle_rates,
    aspects=(
        Aspect("rates", "the rates of the stages", 0.7, 1e-9),
        Aspect("decay", "the same as layer-wise decay", 0.3, 1e-5),
    ),
    misconceptions=(
        Misconception(
            "equal steps instead of equal ratios",
            "From each of your stages to the next the rate grows by the same amount. Then nearly all stages move at "
            "about the highest rate, and only the first is slow: rates live on a logarithmic scale, so the *ratio* is "
            "what stays the same.",
            wrong=lambda i: {"rates": np.linspace(i["lowest"], i["highest"], i["stages"])},
        ),
        Misconception(
            "from the head to the input",
            "Your first stage has the highest rate and your head the lowest: the features that are shared by all "
            "images would be rewritten, and the new head would hardly learn. The list begins at the input.",
            wrong=lambda i: {"rates": _oracle_rates(i)["rates"][::-1]},
        ),
        Misconception(
            "a step more than there is",
            "{inputs[stages]} stages have one step fewer between them. You took the ratio's root of order "
            "{inputs[stages]}, so that one of the two ends is missed.",
            shows=_one_ratio_too_many,
        ),
        Misconception(
            "the ends were left out",
            "Your rates lie *between* {inputs[lowest]:g} and {inputs[highest]:g}, in equal ratios; the first stage and "
            "the head should have exactly these two.",
            wrong=lambda i: {"rates": np.geomspace(i["lowest"], i["highest"], i["stages"] + 2)[1:-1]},
        ),
        Misconception(
            "the ratio for its inverse",
            "The rates are right. But {outputs[decay]:.3f} is above 1: it says how much *faster* the next stage is. A "
            "layer-wise decay counts from the head down and is what each stage keeps of the rate above it.",
            shows=lambda i, o, e: np.allclose(_numbers([o["decay"]]) * e["decay"], np.ones(1), rtol=1e-4),
        ),
    ),
    hints=(
        "Write down the rates of three stages from 1e-5 to 1e-3 with equal ratios. How many ratios are there?",
        "With n stages, the ratio r satisfies lowest * r ** (n - 1) = highest.",
        "ratio = (highest / lowest) ** (1 / (stages - 1)); the rates are lowest * ratio ** k for k from 0; the decay "
        "is 1 / ratio.",
    ),
)

# 04.4: how far AdamW can get in each phase ------------------------------------------------------------


def _draw_reach(rng: np.random.Generator) -> Inputs:
    return {
        "lr": float(rng.choice([1e-4, 5e-4, 1e-3])),
        "phases": [int(epochs) for epochs in rng.integers(2, 7, size=int(rng.integers(2, 4)))],
        "steps_an_epoch": int(rng.integers(2, 6)),
        "one_curve": bool(rng.integers(4)),
    }


def _probe_reach(answer, inputs: Inputs) -> Outputs:
    return {"reach": plain(answer(**inputs), what="what `reach` returned")}


def _factor(step: float, total: float) -> float:
    return (1 + math.cos(math.pi * step / total)) / 2


def _reach(inputs: Inputs, *, one_curve: bool, steps: int) -> list[float]:
    counts = [epochs * steps for epochs in inputs["phases"]]
    begins = [sum(counts[:k]) if one_curve else 0 for k in range(len(counts))]
    totals = [sum(counts) if one_curve else count for count in counts]
    return [
        inputs["lr"] * sum(_factor(begin + step, total) for step in range(count))
        for begin, count, total in zip(begins, counts, totals, strict=True)
    ]


def _begun_again(i: Inputs) -> list[float]:
    """Each phase takes the beginning of the long curve."""
    counts = [epochs * i["steps_an_epoch"] for epochs in i["phases"]]
    totals = [sum(counts) if i["one_curve"] else count for count in counts]
    return [
        i["lr"] * sum(_factor(step, total) for step in range(count))
        for count, total in zip(counts, totals, strict=True)
    ]


def _right_reach(i: Inputs) -> list[float]:
    return _reach(i, one_curve=i["one_curve"], steps=i["steps_an_epoch"])


def _shared_out(i: Inputs) -> list[float]:
    return [sum(_right_reach(i)) * epochs / sum(i["phases"]) for epochs in i["phases"]]


REACH = Exercise(
    id="04.4",
    title="What one cosine leaves for the second phase",
    points=4,
    difficulty=3,
    minutes=12,
    entry="reach",
    draw=_draw_reach,
    probe=_probe_reach,
    oracle=lambda i: {"reach": _right_reach(i)},
    aspects=(Aspect("reach", "how far each phase can get", 1.0, 1e-7),),
    misconceptions=(
        Misconception(
            "as if the rate never fell",
            "You took each step at the full rate. The factor falls along the cosine, so that a phase gets less, and a "
            "late phase much less.",
            wrong=lambda i: {"reach": [i["lr"] * epochs * i["steps_an_epoch"] for epochs in i["phases"]]},
        ),
        Misconception(
            "each phase got a curve of its own",
            "Here one curve spans all phases (one_curve is True), and you began a new one with each phase. What you "
            "computed is what one would *like* to have; under one curve the later phases get what is left.",
            wrong=lambda i: {"reach": _reach(i, one_curve=False, steps=i["steps_an_epoch"])},
        ),
        Misconception(
            "each phase began at the top of the curve",
            "The curve has the length of all phases, but each of yours starts again at its first step. A phase goes on "
            "at the step where the one before has stopped.",
            wrong=lambda i: {"reach": _begun_again(i)},
        ),
        Misconception(
            "epochs for steps",
            "A factor holds for a step, not for an epoch: there are {inputs[steps_an_epoch]} steps in each, and the "
            "curve is as long as all of them.",
            wrong=lambda i: {"reach": _reach(i, one_curve=i["one_curve"], steps=1)},
        ),
        Misconception(
            "shared out by length",
            "The sum over all phases is right, but you gave each phase its share by its number of steps. Most of a "
            "cosine's sum lies at its beginning.",
            wrong=lambda i: {"reach": _shared_out(i)},
        ),
    ),
    hints=(
        "Make a list of the factors of all steps first, for one phase; then think about where the second phase is in "
        "it.",
        "Under one curve, phase k begins at the step that all phases before it add up to, and total is the number of "
        "steps of all phases.",
        "For each phase: lr * sum((1 + cos(pi * s / total)) / 2 for s in range(begin, begin + steps)); with a curve of "
        "its own, begin is 0 and total is steps.",
    ),
)

EXERCISES = (STAGE_RATES, GROUPS, HOW_FAR, REACH, RANGE_TEST)
