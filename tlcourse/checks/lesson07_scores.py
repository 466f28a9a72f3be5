"""Tasks of lesson 07 on ranking networks before training: LEEP, and how well chance would have ranked."""

import itertools
import math

import numpy as np
import torch

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.transferability import leep

__all__ = ["BY_CHANCE", "LEEP"]

# 07.2: LEEP ------------------------------------------------------------


def _some_probabilities(rng: np.random.Generator) -> Inputs:
    samples, classes = int(rng.integers(5, 8)), int(rng.integers(2, 4))
    counts = rng.integers(1, 7, (samples, 3)).astype(float)
    probabilities = np.insert(counts / counts.sum(axis=1, keepdims=True), int(rng.integers(4)), 0.0, axis=1)
    names = rng.permutation(6)[:classes]
    return {"probabilities": probabilities, "labels": names[rng.permutation(np.arange(samples) % classes)]}


def _draw_leep(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_probabilities, [_oracle_leep, *_LEEP_WAYS.values()])


def _probe_leep(answer, inputs: Inputs) -> Outputs:
    return {"score": plain(answer(inputs["probabilities"], inputs["labels"]), what="what `leep` returned")}


def _oracle_leep(inputs: Inputs) -> Outputs:
    return {"score": leep(torch.from_numpy(inputs["probabilities"]), torch.from_numpy(inputs["labels"]))}


def _tables(inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p(z | x) (n, z) without what never occurs, the place of each label (n,), and the joint p(y, z)."""
    p = inputs["probabilities"]
    p = p[:, p.any(axis=0)]
    classes, number = np.unique(inputs["labels"], return_inverse=True)
    joint = np.stack([p[number == label].sum(axis=0) for label in range(len(classes))]) / len(p)
    return p, number, joint


def _mean_log(inputs: Inputs, weights: np.ndarray) -> Outputs:
    """With other weights (y, z) in the place of p(y | z)."""
    p, number, _ = _tables(inputs)
    return {"score": float(np.log((p * weights[number]).sum(axis=1)).mean())}


def _given_y(inputs: Inputs) -> Outputs:
    _, _, joint = _tables(inputs)
    return _mean_log(inputs, joint / joint.sum(axis=1, keepdims=True))


def _given_z(inputs: Inputs) -> np.ndarray:
    _, _, joint = _tables(inputs)
    return joint / joint.sum(axis=0)


def _hard(inputs: Inputs) -> Outputs:
    """Everything from the most probable class of the source: negative conditional entropy."""
    p, number, _ = _tables(inputs)
    best = p.argmax(axis=1)
    shares = [(number[best == best[i]] == number[i]).mean() for i in range(len(p))]
    return {"score": float(np.log(shares).mean())}


def _log_inside(inputs: Inputs) -> Outputs:
    p, number, _ = _tables(inputs)
    return {"score": float((p * np.log(_given_z(inputs)[number])).sum(axis=1).mean())}


def _log_outside(inputs: Inputs) -> Outputs:
    p, number, _ = _tables(inputs)
    return {"score": float(np.log((p * _given_z(inputs)[number]).sum(axis=1).mean()))}


def _scaled(inputs: Inputs, factor: float) -> Outputs:
    return {"score": factor * _mean_log(inputs, _given_z(inputs))["score"]}


_LEEP_WAYS = {
    "given the target's class": _given_y,
    "the joint": lambda i: _mean_log(i, _tables(i)[2]),
    "hard": _hard,
    "inside": _log_inside,
    "outside": _log_outside,
    "sum": lambda i: _scaled(i, len(i["labels"])),
    "sign": lambda i: _scaled(i, -1),
    "base 2": lambda i: _scaled(i, 1 / math.log(2)),
}

LEEP = Exercise(
    id="07.2",
    title="What the old classes say of the new ones",
    points=4,
    difficulty=3,
    minutes=15,
    entry="leep",
    draw=_draw_leep,
    probe=_probe_leep,
    oracle=_oracle_leep,
    aspects=(Aspect("score", "the score", 1.0, 1e-6),),
    misconceptions=(
        Misconception(
            "divided by a class that never occurs",
            "You have NaN. One class of the source has probability zero for every sample: p(y | z) is 0 / 0 there. Of "
            "a thousand classes of ImageNet many are like that on your pictures. Nothing is ever weighed by it, so "
            "leave it out.",
            shows=lambda i, o, e: bool(np.isnan(o["score"])),
        ),
        Misconception(
            "given the target's class",
            "You divided by the sums of the other axis: that is p(z | y), how often the source says z where y is true. "
            "Asked for is p(y | z): where the source says z, how often is y true? For each z it sums to 1 over y.",
            wrong=_LEEP_WAYS["given the target's class"],
        ),
        Misconception(
            "the joint instead of the conditional",
            "You weighed by p(y, z), which was never divided by p(z). A rare class of the source then counts little, "
            "however well it tells the target's classes apart.",
            wrong=_LEEP_WAYS["the joint"],
        ),
        Misconception(
            "only the most probable class",
            "You took the most probable class of the source, and dropped the other probabilities. That is NCE, which "
            "treats 0.51 like 0.99: yours is {outputs[score]:.3f}, LEEP is {expected[score]:.3f}.",
            wrong=_LEEP_WAYS["hard"],
        ),
        Misconception(
            "the logarithm inside the sum",
            "You took the logarithm of each p(y | z) and averaged those. A sample is explained by a *mixture*: first "
            "the sum over z, which is a probability, then its logarithm. By Jensen's inequality yours is lower.",
            wrong=_LEEP_WAYS["inside"],
        ),
        Misconception(
            "the logarithm of the mean",
            "You averaged the probabilities over the samples and took one logarithm at the end. Log-likelihoods are "
            "averaged: one sample that the source cannot explain must weigh heavily.",
            wrong=_LEEP_WAYS["outside"],
        ),
        Misconception(
            "the sum over the samples",
            "{outputs[score]:.3f} is the sum; with more labels every network would look worse. Take the mean.",
            wrong=_LEEP_WAYS["sum"],
        ),
        Misconception(
            "the sign turned round",
            "{outputs[score]:.3f} is a loss, lower for a better network. LEEP is the mean log-likelihood itself, never "
            "above 0, and higher is better.",
            wrong=_LEEP_WAYS["sign"],
        ),
        Misconception(
            "in bits",
            "Yours is in bits: {outputs[score]:.3f}, times log 2, is right. Asked for is the natural logarithm.",
            wrong=_LEEP_WAYS["base 2"],
        ),
    ),
    hints=(
        "Two passes over the samples: the first counts p(y | z), the second asks how probable each sample's own label "
        "was.",
        "joint[y] is the sum of the rows of `probabilities` whose label is y, an array of shape (classes, source "
        "classes). Divide each column by its sum; a column without any is left out before.",
        "p = probabilities[:, probabilities.any(axis=0)]; joint = one row p[labels == y].sum(axis=0) for each y; "
        "given = joint / joint.sum(axis=0); then the mean over i of log(sum(p[i] * given[y_i])).",
    ),
)

# 07.5: would chance have ranked them as well? ------------------------------------------------------------


def _some_ranking(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(4, 6))
    scores = rng.permutation(90)[:count] / 100
    truths = np.round(0.6 + 0.3 * scores + rng.normal(0, 0.1, count), 3)
    while len(set(truths.tolist())) < count:
        truths = np.round(0.6 + 0.3 * scores + rng.normal(0, 0.1, count), 3)
    return {"scores": scores, "truths": truths}


def _draw_chance(rng: np.random.Generator) -> Inputs:
    ways = [_oracle_chance, *(lambda i, way=way: {**_oracle_chance(i), **way(i)} for way in _CHANCE_WAYS.values())]
    return draw_apart(rng, _some_ranking, ways)


def _probe_chance(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["scores"], inputs["truths"]), what="what `by_chance` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`by_chance` returns two numbers: `return tau, chance`")
    return {"tau": found[0], "chance": found[1]}


def _balance(order: np.ndarray, truths: np.ndarray) -> int:
    """Pairs that agree less pairs that disagree."""
    signs = np.sign(np.subtract.outer(order, order)) * np.sign(np.subtract.outer(truths, truths))
    return int(signs.sum()) // 2


def _pairs(inputs: Inputs) -> float:
    return math.comb(len(inputs["scores"]), 2)


def _balances(inputs: Inputs) -> tuple[int, np.ndarray]:
    """Of the order that was found, and of every order that there is."""
    truths = inputs["truths"]
    every = [_balance(np.array(order), truths) for order in itertools.permutations(range(len(truths)))]
    return _balance(inputs["scores"], truths), np.array(every)


def _oracle_chance(inputs: Inputs) -> Outputs:
    found, every = _balances(inputs)
    return {"tau": found / _pairs(inputs), "chance": float((every >= found).mean())}


def _other_chance(inputs: Inputs, *, kind: str) -> Outputs:
    found, every = _balances(inputs)
    counted = {
        "better": every > found,
        "both sides": np.abs(every) >= abs(found),
        "worse": every < found,
        "the same": every == found,
        "perfect": every == every.max(),
    }
    return {"chance": float(counted[kind].mean())}


def _correlation(inputs: Inputs, *, ranks: bool) -> Outputs:
    a, b = inputs["scores"], inputs["truths"]
    if ranks:
        a, b = (values.argsort().argsort() for values in (a, b))
    return {"tau": float(np.corrcoef(a, b)[0, 1])}


def _neighbours(inputs: Inputs) -> Outputs:
    signs = np.sign(np.diff(inputs["scores"])) * np.sign(np.diff(inputs["truths"]))
    return {"tau": float(signs.mean())}


_CHANCE_WAYS = {
    "share": lambda i: {"tau": (1 + _oracle_chance(i)["tau"]) / 2},
    "pearson": lambda i: _correlation(i, ranks=False),
    "spearman": lambda i: _correlation(i, ranks=True),
    "neighbours": _neighbours,
    "squares": lambda i: {"tau": 2 * _oracle_chance(i)["tau"] * _pairs(i) / len(i["scores"]) ** 2},
    "better": lambda i: _other_chance(i, kind="better"),
    "both sides": lambda i: _other_chance(i, kind="both sides"),
    "worse": lambda i: _other_chance(i, kind="worse"),
    "the same": lambda i: _other_chance(i, kind="the same"),
    "perfect": lambda i: _other_chance(i, kind="perfect"),
}

BY_CHANCE = Exercise(
    id="07.5",
    title="Would chance have ranked them as well?",
    points=4,
    difficulty=3,
    minutes=15,
    entry="by_chance",
    draw=_draw_chance,
    probe=_probe_chance,
    oracle=_oracle_chance,
    aspects=(
        Aspect("tau", "Kendall's tau", 0.5, 1e-9),
        Aspect("chance", "how often chance does as well", 0.5, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "the share of pairs that agree",
            "{outputs[tau]:.3f} is the share of pairs that agree, and one half of those agree by chance. Tau takes off "
            "the pairs that disagree, so that it is 0 where nothing was known, and -1 where all is the wrong way "
            "round.",
            wrong=_CHANCE_WAYS["share"],
        ),
        Misconception(
            "the correlation of the values",
            "{outputs[tau]:.3f} is Pearson's correlation of the values themselves. LogME is in nats and the truth in "
            "points: one candidate far away from the rest would decide it. Tau asks of each pair only who is ahead.",
            wrong=_CHANCE_WAYS["pearson"],
        ),
        Misconception(
            "Spearman's coefficient",
            "{outputs[tau]:.3f} is the correlation of the ranks, Spearman's coefficient. Tau counts pairs: those that "
            "agree, less those that disagree, over all.",
            wrong=_CHANCE_WAYS["spearman"],
        ),
        Misconception(
            "neighbours only",
            "You compared each candidate with the next one of the list alone. Every two candidates are a pair: "
            "n (n - 1) / 2 of them.",
            wrong=_CHANCE_WAYS["neighbours"],
        ),
        Misconception(
            "divided by the square",
            "You divided by n^2 where there are n (n - 1) pairs, counted both ways: a candidate makes no pair with "
            "itself. Yours cannot reach 1 even where both orders are the same.",
            wrong=_CHANCE_WAYS["squares"],
        ),
        Misconception(
            "only what is better",
            "You counted the orders with a *higher* tau. Those with the same tau have done as well, and the order that "
            "you found is one of them: as you count, a perfect ranking of three candidates would never come by chance.",
            wrong=_CHANCE_WAYS["better"],
        ),
        Misconception(
            "both directions were counted",
            "You counted strong disagreement as well. A score that ranks the networks the wrong way round has not done "
            "as well as this one.",
            wrong=_CHANCE_WAYS["both sides"],
        ),
        Misconception(
            "how often chance does worse",
            "{outputs[chance]:.3f} is the share of orders with a lower tau. Asked for are the others.",
            wrong=_CHANCE_WAYS["worse"],
        ),
        Misconception(
            "exactly as well",
            "You counted the orders with this very tau. One that does better would have convinced you too: count those "
            "with at least this tau.",
            wrong=_CHANCE_WAYS["the same"],
        ),
        Misconception(
            "the chance of a perfect order",
            "1 / n! is the chance that a random order is perfect. This one has a tau of {expected[tau]:.2f}: "
            "everything from there on counts.",
            wrong=_CHANCE_WAYS["perfect"],
        ),
    ),
    hints=(
        "`itertools.combinations(range(n), 2)` gives the pairs, `itertools.permutations(scores)` the orders.",
        "A pair agrees where (scores[i] - scores[j]) * (truths[i] - truths[j]) is above 0. tau = (agree - disagree) / "
        "pairs. Put that into a function of two lists.",
        "taus = [tau(order, truths) for order in itertools.permutations(scores)]; the chance is the mean of t >= "
        "tau(scores, truths) over them.",
    ),
)
