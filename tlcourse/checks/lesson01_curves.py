"""Tasks of lesson 01 on reading a learning curve sideways: labels saved, and computing saved."""

import math
from itertools import pairwise

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["COMPUTE_SAVED", "TYPICAL_NEED"]

# 01.3: labels that are needed, where some seeds never get there ------------------------------------------------


def _reached(labels: list[int], curve, target: float, *, log: bool = True, steps: bool = False) -> float:
    """Labels at which a curve first reaches a score; infinite where it does not."""
    if curve[0] >= target:
        return labels[0]
    for (few, low), (many, high) in pairwise(zip(labels, curve, strict=True)):
        if low < target <= high:
            share = 1.0 if steps else (target - low) / (high - low)
            return few * (many / few) ** share if log else few + (many - few) * share
    return math.inf


def _beyond(labels: list[int], curve, target: float) -> float:
    """As `_reached`, with the last segment drawn on."""
    found = _reached(labels, curve, target)
    slope = (curve[-1] - curve[-2]) / math.log(labels[-1] / labels[-2])
    return labels[-1] * math.exp((target - curve[-1]) / slope) if math.isinf(found) and slope > 0 else found


def _middle(needs: list[float]) -> float | None:
    """The median of an odd number of answers, None where it is infinite or there is none."""
    found = float(np.median(needs)) if needs else math.inf
    return None if math.isinf(found) else found


def _needs(i: Inputs, read=_reached) -> list[list[float]]:
    """Target -> labels that each seed needs."""
    return [[read(i["labels"], curve, target) for curve in i["curves"]] for target in i["targets"]]


def _typical(i: Inputs) -> Outputs:
    return {"needed": [_middle(needs) for needs in _needs(i)]}


def _survivors(i: Inputs) -> Outputs:
    return {"needed": [_middle([need for need in needs if math.isfinite(need)]) for needs in _needs(i)]}


def _to_the_end(i: Inputs) -> Outputs:
    return {"needed": [_middle([min(need, i["labels"][-1]) for need in needs]) for needs in _needs(i)]}


def _mean_curve(i: Inputs) -> Outputs:
    return {"needed": [_middle([_reached(i["labels"], i["curves"].mean(axis=0), target)]) for target in i["targets"]]}


def _straight(i: Inputs) -> Outputs:
    return {"needed": [_middle(needs) for needs in _needs(i, lambda *where: _reached(*where, log=False))]}


def _measured_only(i: Inputs) -> Outputs:
    return {"needed": [_middle(needs) for needs in _needs(i, lambda *where: _reached(*where, steps=True))]}


def _drawn_on(i: Inputs) -> Outputs:
    return {"needed": [_middle(needs) for needs in _needs(i, _beyond)]}


def _any_curves(rng: np.random.Generator) -> Inputs:
    seeds, sizes = (3, 5)[rng.integers(2)], int(rng.integers(3, 5))
    labels = [25, 200, 1000, 2000][-sizes:]
    rises = 0.01 + 0.08 * rng.random((seeds, sizes))
    curves = np.round(0.55 + 0.1 * rng.random((seeds, 1)) + rises.cumsum(axis=1), 3)
    ends = np.sort(curves[:, -1])
    # One score that the middle seed just reaches, while another does not; and one that only the best seed reaches.
    low, high = (ends[0] + ends[1]) / 2, (ends[-2] + ends[-1]) / 2
    return {"labels": labels, "curves": curves, "targets": [round(float(low), 4), round(float(high), 4)]}


def _draw_needed(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _any_curves, (_typical, _survivors, _to_the_end, *_OTHERS))


_OTHERS = (_mean_curve, _straight, _measured_only, _drawn_on)


def _probe_needed(answer, inputs: Inputs) -> Outputs:
    return {"needed": plain(answer(**inputs), what="what `typical_need` returned")}


TYPICAL_NEED = Exercise(
    id="01.3",
    title="Labels saved, where some seeds never get there",
    points=4,
    difficulty=3,
    minutes=20,
    entry="typical_need",
    draw=_draw_needed,
    probe=_probe_needed,
    oracle=_typical,
    aspects=(Aspect("needed", "the labels that the middle seed needs", 1.0, 1e-5),),
    misconceptions=(
        Misconception(
            "only the seeds that got there",
            "You left out the seeds that never reach the score, and took the median of the others. Those that failed "
            "are the ones that need most: without them, from scratch looks better the more often it fails.",
            wrong=_survivors,
        ),
        Misconception(
            "the end of the curve taken for an answer",
            "A curve that ends below the score says *more than its last size*, and you took the last size itself. "
            "Where the middle seed is such a one, there is no number to give.",
            wrong=_to_the_end,
        ),
        Misconception(
            "one curve of means",
            "You averaged the curves and read the average. The score at which the mean curve arrives is not the score "
            "at which the middle seed does, and seeds that never arrive vanish in it. Read each seed, then take the "
            "median.",
            wrong=_mean_curve,
        ),
        Misconception(
            "a straight line in the labels",
            "You interpolated along the labels. The lesson draws its lines on the logarithm of the labels, because "
            "there the curves are nearly straight: half way from 200 to 1,000 is 447, not 600.",
            wrong=_straight,
        ),
        Misconception(
            "only sizes that were measured",
            "You gave the first size at which the score had been reached. Asked for is where the line between two "
            "sizes crosses it.",
            wrong=_measured_only,
        ),
        Misconception(
            "drawn on beyond the last point",
            "You drew the last segment on until it met the score. Nothing was measured there: beyond the last size the "
            "answer is a bound.",
            wrong=_drawn_on,
        ),
    ),
    hints=(
        "First a function for one seed and one score. A seed that never gets there needs *infinitely* many labels, as "
        "far as you know: float('inf') can be sorted like any other number.",
        "Between (few, low) and (many, high), the share of the way is (score - low) / (high - low), and that share of "
        "the way from log(few) to log(many) is few * (many / few) ** share.",
        "For each target: needs = sorted(one answer a seed, inf where it is never reached); middle = needs[len(needs) "
        "// 2]; None if it is inf. Mind the curve that begins above the score: its answer is the first size.",
    ),
)

# 01.4: computing saved ------------------------------------------------------------


def _first(scores: list[float], score: float) -> int | None:
    """Epochs after which a score is first reached; place 0 is before training."""
    return next((epoch for epoch, value in enumerate(scores) if value >= score), None)


def _ratio(ours: dict, theirs: dict, *, images: bool = True, plus: int = 0, goal=max, to_the_end: bool = False):
    score = goal(theirs["scores"])
    mine, other = _first(ours["scores"], score), _first(theirs["scores"], score)
    if mine is None:
        if not to_the_end:
            return None
        mine = len(ours["scores"]) - 1
    costs = [(epochs + plus) * (run["labels"] if images else 1) for epochs, run in ((other, theirs), (mine, ours))]
    return costs[0] / costs[1] if costs[1] else 0.0


def _both_ways(i: Inputs, ratio=_ratio) -> Outputs:
    return {"times": ratio(i["ours"], i["theirs"]), "swapped": ratio(i["theirs"], i["ours"])}


def _in_epochs(i: Inputs) -> Outputs:
    return _both_ways(i, lambda a, b: _ratio(a, b, images=False))


def _from_one(i: Inputs) -> Outputs:
    return _both_ways(i, lambda a, b: _ratio(a, b, plus=1))


def _final_score(i: Inputs) -> Outputs:
    return _both_ways(i, lambda a, b: _ratio(a, b, goal=lambda scores: scores[-1]))


def _upside_down(i: Inputs) -> Outputs:
    def ratio(a, b):
        found = _ratio(a, b)
        return 1 / found if found else found

    return _both_ways(i, ratio)


def _own_best(i: Inputs) -> Outputs:
    def ratio(a, b):
        cost = [run["labels"] * _first(run["scores"], max(run["scores"])) for run in (a, b)]
        return cost[1] / cost[0]

    return _both_ways(i, ratio)


def _all_of_it(i: Inputs) -> Outputs:
    return _both_ways(i, lambda a, b: _ratio(a, b, to_the_end=True))


def _any_runs(rng: np.random.Generator) -> Inputs:
    labels = [int(value) for value in rng.choice([25, 50, 100, 200, 400, 1000], size=2, replace=False)]
    slow = 0.5 + 0.2 * (1 - np.exp(-np.arange(int(rng.integers(5, 8))) / 3)) + 0.01 * rng.normal()
    fast = 0.5 + 0.3 * (1 - np.exp(-np.arange(int(rng.integers(4, 7))) / 2))
    noise = [0.015 * rng.normal(size=len(scores)) for scores in (fast, slow)]
    fast, slow = (np.round(scores + more, 3).tolist() for scores, more in zip((fast, slow), noise, strict=True))
    slow[-1] = round(max(slow) - 0.02, 3)  # the best is not the last
    fast[0], slow[0] = 0.5, 0.49
    return {"ours": {"labels": labels[0], "scores": fast}, "theirs": {"labels": labels[1], "scores": slow}}


def _draw_saved(rng: np.random.Generator) -> Inputs:
    ways = (_both_ways, _in_epochs, _from_one, _final_score, _upside_down, _own_best, _all_of_it)
    inputs = draw_apart(rng, _any_runs, ways)
    while max(inputs["ours"]["scores"]) <= max(inputs["theirs"]["scores"]):
        inputs = draw_apart(rng, _any_runs, ways)
    return inputs


def _probe_saved(answer, inputs: Inputs) -> Outputs:
    ours, theirs, what = inputs["ours"], inputs["theirs"], "what `times_as_many` returned"
    return {
        "times": plain(answer(ours, theirs), what=what),
        "swapped": plain(answer(theirs, ours), what=what),
    }


COMPUTE_SAVED = Exercise(
    id="01.4",
    title="Computing saved",
    points=3,
    difficulty=2,
    minutes=15,
    entry="times_as_many",
    draw=_draw_saved,
    probe=_probe_saved,
    oracle=_both_ways,
    aspects=(
        Aspect("times", "how many times as many images they need", 0.7, 1e-6),
        Aspect("swapped", "None where it is never reached (the two runs changed about)", 0.3, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "epochs counted, not images",
            "You compared numbers of epochs. An epoch of theirs has {inputs[theirs][labels]} images and one of ours "
            "{inputs[ours][labels]}: they do not cost the same.",
            wrong=_in_epochs,
        ),
        Misconception(
            "counted from one",
            "The first score of a list stands for no training at all, so the score at place k costs k epochs; you "
            "counted k + 1.",
            wrong=_from_one,
        ),
        Misconception(
            "the last score instead of the best",
            "You took their last score for the goal. Asked for is the best that they ever have, and when they first "
            "have it.",
            wrong=_final_score,
        ),
        Misconception(
            "upside down",
            "That is our share of their images. Asked for is the other ratio: how many times as many they need.",
            wrong=_upside_down,
        ),
        Misconception(
            "each to its own best",
            "You let each run go on to its own best score, so that the two costs buy different things. Compare at "
            "*equal* score: theirs.",
            wrong=_own_best,
        ),
        Misconception(
            "never counted as the end",
            "With the two runs changed about, the goal is never reached, and there you gave "
            "{outputs[swapped]:.2f}: as if it had been reached in the last epoch. It would have needed more, nobody "
            "knows how much: None.",
            wrong=_all_of_it,
        ),
    ),
    begun=lambda i, o, e: o["times"] is not None,
    hints=(
        "Three steps: the goal, then how many epochs each needs to reach it first, then what so many epochs cost.",
        "The goal is max(theirs['scores']). Epochs until a run has it: the first place at which its score is at least "
        "the goal; places count from 0, and so do epochs.",
        "cost = epochs * labels; return theirs / ours, and None if no score of ours reaches the goal.",
    ),
)
