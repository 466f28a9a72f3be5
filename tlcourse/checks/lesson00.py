"""Tasks of lesson 00: the interval of a paired comparison, its verdict, the seeds that it takes, and two scores."""

import math

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from tlcourse.checks.lesson00_scores import AUC, FLATTERY
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "INTERVAL", "SEEDS_NEEDED", "VERDICT"]

# A level in per cent: the course's own, and others of which none is what a slip makes of another (one tail for two).
LEVELS = (95, 70, 80, 87, 92, 97, 99)


def _upper(i: Inputs) -> float:
    """The quantile at an interval's upper end."""
    return 0.5 + i["level"] / 200


# 00.1: the interval of a paired difference ------------------------------------------------------------


def _draw_interval(rng: np.random.Generator) -> Inputs:
    n = int(rng.integers(3, 8))
    common = rng.normal(0.8, 0.05, n)  # what both have from their seed
    a, b = (common + rng.normal(shift, 0.01, n) for shift in (0.02, 0.0))
    return {"a": a.round(3), "b": b.round(3)}


def _probe_interval(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["a"], inputs["b"]), what="what `paired_interval` returned")
    if not isinstance(found, (list, np.ndarray)) or len(found) != 2 or any(np.ndim(end) for end in found):
        raise AnswerError("`paired_interval` should return two numbers, (low, high)")
    low, high = (float("nan") if end is None else float(end) for end in found)
    return {"middle": (low + high) / 2, "half_width": (high - low) / 2}


def _interval(
    i: Inputs,
    *,
    factor: float | None = None,
    ddof: int = 1,
    per_seed: bool = False,
    freedom: int = 1,
    sign: int = 1,
) -> Outputs:
    d = sign * (i["a"] - i["b"])
    n = len(d)
    factor = student.ppf(_upper(i), n - freedom) if factor is None else factor
    width = factor * d.std(ddof=ddof) / (1 if per_seed else math.sqrt(n))
    return {"middle": float(d.mean()), "half_width": float(width)}


def _unpaired(i: Inputs) -> Outputs:
    n = len(i["a"])
    variances = np.array([i["a"].var(ddof=1), i["b"].var(ddof=1)]) / n
    freedom = variances.sum() ** 2 / (variances**2 / (n - 1)).sum()
    # Welch's degrees of freedom, or the 2n - 2 of equal variances: both are the unpaired interval.
    return {
        "widths": [float(student.ppf(_upper(i), k) * math.sqrt(variances.sum())) for k in (freedom, 2 * n - 2, n - 1)]
    }


INTERVAL = Exercise(
    id="00.1",
    title="The interval of a paired comparison",
    points=3,
    difficulty=2,
    minutes=10,
    entry="paired_interval",
    draw=_draw_interval,
    probe=_probe_interval,
    oracle=_interval,
    aspects=(
        Aspect("middle", "the mean difference", 0.3, 1e-9),
        Aspect("half_width", "the width of the interval", 0.7, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "b minus a",
            "Your interval lies around {outputs[middle]:+.4f}: that is the difference b - a. Asked for is a - b.",
            wrong=lambda i: _interval(i, sign=-1),
        ),
        Misconception(
            "not paired",
            "Your interval is {outputs[half_width]:.4f} to each side, as if the seeds of `a` and `b` had nothing to "
            "do with "
            "each other. They share their splits: take the difference within each seed first, and its spread. That "
            "gives "
            "{expected[half_width]:.4f}.",
            shows=lambda i, o, e: (
                np.isclose(o["middle"], e["middle"]) and np.isclose(o["half_width"], _unpaired(i)["widths"]).any()
            ),
        ),
        Misconception(
            "1.96 for every n",
            "1.96, or whatever the normal distribution has, is for a spread that is *known*. Yours is estimated from a "
            "few seeds, and Student's factor makes up for that: the interval grows from {outputs[half_width]:.4f} to "
            "{expected[half_width]:.4f} to each side.",
            shows=lambda i, o, e: any(
                np.isclose(o["half_width"], _interval(i, factor=factor)["half_width"], rtol=1e-6)
                for factor in (1.96, 2.0, norm.ppf(_upper(i)))
            ),
        ),
        Misconception(
            "the spread of the seeds, not of the mean",
            "{outputs[half_width]:.4f} is where a *single* further seed may fall. The mean of n seeds is steadier, "
            "by the "
            "square root of n.",
            wrong=lambda i: _interval(i, per_seed=True),
        ),
        Misconception(
            "divided by n",
            "numpy's std divides by n unless told. That is too small for a spread that is estimated: ddof=1 divides by "
            "n - 1.",
            wrong=lambda i: _interval(i, ddof=0),
        ),
        Misconception(
            "a degree of freedom too many",
            "n differences around their own mean leave n - 1 degrees of freedom, not n.",
            wrong=lambda i: _interval(i, freedom=0),
        ),
    ),
    constants={"level": LEVELS},
    hints=(
        "Two lists of scores become one list of differences, and everything else is about that list.",
        "mean ± factor * s / sqrt(n): s is the standard deviation of the differences with ddof=1; the factor comes "
        "from "
        "Student's distribution.",
        "At 95 %: d = a - b; half = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / sqrt(len(d)); return mean - half, "
        "mean + half.",
    ),
)

# 00.2: from an interval to a verdict ------------------------------------------------------------


def _draw_verdict(rng: np.random.Generator) -> Inputs:
    bars = [{"above": 0.02, "below": None}, {"above": None, "below": 0.05}, {"above": -0.02, "below": 0.03}]
    middle, half = rng.uniform(-0.08, 0.1), rng.uniform(0.004, 0.04)
    return {"low": round(middle - half, 5), "high": round(middle + half, 5), **bars[rng.integers(3)]}


def _verdict(low: float, high: float, above: float | None, below: float | None) -> str:
    floor, ceiling = -math.inf if above is None else above, math.inf if below is None else below
    if floor < low and high < ceiling:
        return "supported"
    return "refuted" if high < floor or low > ceiling else "inconclusive"


def _by_the_mean(low: float, high: float, above: float | None, below: float | None) -> str:
    middle = (low + high) / 2
    return _verdict(middle, middle, above, below)


def _saying(way) -> dict:
    return {"wrong": lambda i: {"verdict": way(**i)}}


VERDICT = Exercise(
    id="00.2",
    title="Supported, refuted, inconclusive",
    points=2,
    difficulty=2,
    minutes=10,
    entry="verdict",
    draw=_draw_verdict,
    probe=lambda answer, inputs: {"verdict": plain(answer(**inputs), what="what `verdict` returned")},
    oracle=lambda i: {"verdict": _verdict(**i)},
    aspects=(Aspect("verdict", "the verdict", 1.0),),
    misconceptions=(
        Misconception(
            "the mean decides",
            "You said {outputs[verdict]}, which is where the middle of the interval lies. The evidence is the whole "
            "interval: from {inputs[low]:+.3f} to {inputs[high]:+.3f}.",
            **_saying(_by_the_mean),
        ),
        Misconception(
            "inconclusive taken for refuted",
            "A bar lies inside the interval: the claim may be right or wrong, and this experiment cannot tell. That "
            "is not "
            "the same as refuted.",
            **_saying(lambda **i: "supported" if _verdict(**i) == "supported" else "refuted"),
        ),
        Misconception(
            "zero taken for the bar",
            "You compared the interval with zero. The bar is what was written down: above {inputs[above]}, below "
            "{inputs[below]}.",
            **_saying(
                lambda low, high, above, below: _verdict(
                    low, high, None if above is None else 0.0, None if below is None else 0.0
                )
            ),
        ),
        Misconception(
            "the upper bar was passed over",
            "`below` is {inputs[below]}, and the claim says that the effect lies under it. With two bars, it lies "
            "between "
            "them.",
            **_saying(lambda low, high, above, below: _verdict(low, high, above, None)),
        ),
        Misconception(
            "one end is enough",
            "You said supported as soon as one end of the interval is on the right side. It takes both: the interval "
            "from "
            "{inputs[low]:+.3f} to {inputs[high]:+.3f} is what the effect may be.",
            **_saying(
                lambda low, high, above, below: (
                    "supported"
                    if (above is None or high > above) and (below is None or low < below)
                    else _verdict(low, high, above, below)
                )
            ),
        ),
    ),
    hints=(
        "Draw the interval and the bars on a line. There are three ways in which they can lie.",
        "No bar is the same as a bar at minus or plus infinity. Supported: the *whole* interval lies between the bars.",
        "Refuted: the whole interval lies under the lower bar, or the whole interval lies over the upper one. "
        "Everything "
        "else is inconclusive.",
    ),
    draws=60,
)

# 00.3: how many seeds ------------------------------------------------------------


def _draw_seeds(rng: np.random.Generator) -> Inputs:
    spread = float(np.round(rng.uniform(0.01, 0.05), 4))
    return {"spread": spread, "gain": float(np.round(spread * rng.uniform(0.4, 1.5), 5))}


def _probe_seeds(answer, inputs: Inputs) -> Outputs:
    found = answer(spread=inputs["spread"], gain=inputs["gain"])
    return {"seeds": plain(found, what="what `seeds_needed` returned")}


def _fewest(i: Inputs, factor) -> Outputs:
    n = 2
    while factor(n) * i["spread"] / math.sqrt(n) >= i["gain"]:
        n += 1
    return {"seeds": n}


def _needed(i: Inputs) -> Outputs:
    return _fewest(i, lambda n: student.ppf(_upper(i), n - 1))


SEEDS_NEEDED = Exercise(
    id="00.3",
    title="How many seeds does it take?",
    points=3,
    difficulty=3,
    minutes=10,
    entry="seeds_needed",
    draw=_draw_seeds,
    probe=_probe_seeds,
    oracle=_needed,
    aspects=(Aspect("seeds", "the number of seeds", 1.0, 1e-9),),
    misconceptions=(
        Misconception(
            "1.96 for every n",
            "You found {outputs[seeds]} with the factor of a known spread. With so few seeds the spread is itself "
            "uncertain; "
            "with Student's factor it takes {expected[seeds]}.",
            wrong=lambda i: _fewest(i, lambda n: norm.ppf(_upper(i))),
        ),
        Misconception(
            "the whole width",
            "You made the interval's whole width smaller than the gain. From its middle to its end is half of that, "
            "and the "
            "end is what must stay clear of zero.",
            wrong=lambda i: _fewest(i, lambda n: 2 * student.ppf(_upper(i), n - 1)),
        ),
        Misconception(
            "one side only",
            "You left all that is outside of {inputs[level]} % on *one* side. An interval leaves half of it on each: "
            "at 95 %, a fortieth, and the quantile is that of 0.975.",
            wrong=lambda i: _fewest(i, lambda n: student.ppf(i["level"] / 100, n - 1)),
        ),
        Misconception(
            "a degree of freedom too many",
            "With n seeds the factor has n - 1 degrees of freedom. You found {outputs[seeds]} with n of them.",
            wrong=lambda i: _fewest(i, lambda n: student.ppf(_upper(i), n)),
        ),
        Misconception(
            "one too few",
            "With {outputs[seeds]} seeds the interval still reaches zero: it takes one more.",
            wrong=lambda i: {"seeds": _needed(i)["seeds"] - 1},
        ),
    ),
    constants={"level": LEVELS},
    hints=(
        "The interval around the gain reaches t * spread / sqrt(n) to each side. When does it stay clear of zero?",
        "The factor depends on n as well, so there is no formula: try n = 2, 3, 4, ...",
        "At 95 %: n = 2; while student.ppf(0.975, n - 1) * spread / sqrt(n) >= gain: n += 1.",
    ),
    draws=30,
)

EXERCISES = (INTERVAL, VERDICT, SEEDS_NEEDED, AUC, FLATTERY)
