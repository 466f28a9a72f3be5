"""Tasks of lesson 07: which strategy, and who advises well."""

import numpy as np

from tlcourse.advice import rules
from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.lesson07_masks import FOREGROUND
from tlcourse.checks.lesson07_scores import BY_CHANCE, LEEP
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "RANKED", "REGRET"]

# 07.1: the rules of thumb ------------------------------------------------------------

NAMES = ("probe", "last stages", "full")  # the cheapest first
LIBRARY = {"probe": "probe", "last 2 stages": "last stages", "full fine-tuning": "full"}
LABELS = ((5, 99), (101, 9_999), (10_001, 90_000))
SIMILARITY = ("near", "far", None)
COMPLEXITY = ("two classes", "several classes", "pixels")


def _some_cases(rng: np.random.Generator) -> Inputs:
    """Six cases of all kinds, and two at the bounds, of which the number alone decides."""
    kinds = rng.permutation(27)[:6].tolist()
    cases = [[int(rng.integers(*LABELS[kind % 3])), SIMILARITY[kind // 3 % 3], COMPLEXITY[kind // 9]] for kind in kinds]
    return {"cases": cases, "bounds": [[bound, None, "several classes"] for bound in (100, 10_000)]}


def _draw_cases(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_cases, [_oracle_ranked, *_RANKED_WAYS.values()])


def _probe_ranked(answer, inputs: Inputs) -> Outputs:
    return {
        name: [plain(answer(*case), what="what `ranked` returned") for case in inputs[name]]
        for name in ("cases", "bounds")
    }


def _oracle_ranked(inputs: Inputs) -> Outputs:
    return {name: [_by_library(*case) for case in inputs[name]] for name in ("cases", "bounds")}


def _by_library(labels: int, similarity: str | None, complexity: str) -> list[str]:
    ranking = rules(labels=labels, similarity=similarity, complexity=complexity).ranking
    return [LIBRARY[suggestion.strategy] for suggestion in ranking]


def _voted(
    labels: int,
    similarity: str | None,
    complexity: str,
    *,
    few: int = 99,
    middle: int = 10_000,
    unknown: str | None = None,
    dearest: bool = False,
    labels_first: bool = False,
    voters: tuple[str, ...] = ("labels", "similarity", "complexity"),
    pixels: int = 2,
) -> list[str]:
    """As somebody ranks who takes a bound, a tie, an unknown or a voter otherwise."""
    size = 0 if labels <= few else 1 if labels <= middle else 2
    votes = [0.0, 0.0, 0.0]
    if "labels" in voters:
        votes[size] += 1.5 if labels_first else 1
    place = {"near": 0, "far": 2}.get(similarity or unknown)
    if "similarity" in voters and place is not None:
        votes[place] += 1
    place = {"two classes": 0, "pixels": pixels}.get(complexity)
    if "complexity" in voters and place is not None:
        votes[place] += 1
    order = sorted(range(3), key=lambda k: (-votes[k], -k if dearest else k))
    return [NAMES[k] for k in order]


def _ranked(inputs: Inputs, **other) -> Outputs:
    return {name: [_voted(*case, **other) for case in inputs[name]] for name in ("cases", "bounds")}


_RANKED_WAYS = {
    "100 is few": lambda i: _ranked(i, few=100),
    "10,000 is many": lambda i: _ranked(i, middle=9_999),
    "labels alone": lambda i: _ranked(i, voters=("labels",)),
    "labels decide": lambda i: _ranked(i, labels_first=True),
    "dearest first": lambda i: _ranked(i, dearest=True),
    "unknown is near": lambda i: _ranked(i, unknown="near"),
    "unknown is far": lambda i: _ranked(i, unknown="far"),
    "pixels are simple": lambda i: _ranked(i, pixels=0),
    "similarity unheard": lambda i: _ranked(i, voters=("labels", "complexity")),
    "complexity unheard": lambda i: _ranked(i, voters=("labels", "similarity")),
}

RANKED = Exercise(
    id="07.1",
    title="The rules of thumb, taken at their word",
    points=3,
    difficulty=1,
    minutes=15,
    entry="ranked",
    draw=_draw_cases,
    probe=_probe_ranked,
    oracle=_oracle_ranked,
    aspects=(
        Aspect("cases", "the ranking", 0.7),
        Aspect("bounds", "the ranking at the bounds, 100 and 10,000 labels", 0.3),
    ),
    misconceptions=(
        Misconception(
            "a hundred is fewer than a hundred",
            "All is right but for exactly 100 labels, which you take for *fewer than* 100. The rule says 100 to "
            "10,000, both included.",
            wrong=_RANKED_WAYS["100 is few"],
        ),
        Misconception(
            "ten thousand is more than ten thousand",
            "All is right but for exactly 10,000 labels, which you take for *more than* 10,000. The rule says 100 to "
            "10,000, both included.",
            wrong=_RANKED_WAYS["10,000 is many"],
        ),
        Misconception(
            "the labels alone decide",
            "Your ranking follows the number of labels and nothing else. The domain and the task have a vote each: 50 "
            "labels, far away, one label a pixel: that is one vote for the probe and two for the full network.",
            wrong=_RANKED_WAYS["labels alone"],
        ),
        Misconception(
            "the labels break a tie",
            "Where two strategies have as many votes, you put the one first that the number of labels names. Of equals "
            "the cheapest comes first, whoever voted: 500 labels and a near domain make one vote for the last stages "
            "and one for the probe, and the probe is cheaper.",
            wrong=_RANKED_WAYS["labels decide"],
        ),
        Misconception(
            "the dearest of equals",
            "Where two strategies have as many votes, you put the dearer one first. Of equals the cheapest comes "
            "first: one does not pay more for what nothing speaks for.",
            wrong=_RANKED_WAYS["dearest first"],
        ),
        Misconception(
            "what is not known counts as near",
            "Where the similarity is None, you let the probe have the vote of a near domain. Nobody has measured it: "
            "then that rule is silent.",
            wrong=_RANKED_WAYS["unknown is near"],
        ),
        Misconception(
            "what is not known counts as far",
            "Where the similarity is None, you let the full network have the vote of a far domain. Nobody has measured "
            "it: then that rule is silent.",
            wrong=_RANKED_WAYS["unknown is far"],
        ),
        Misconception(
            "pixels as if they were two classes",
            "Whether a pixel belongs to a digit has two answers, yes. But the task is `pixels`: an output for each "
            "place needs early stages that keep places apart, so the rule names the full network.",
            wrong=_RANKED_WAYS["pixels are simple"],
        ),
        Misconception(
            "the domain has no vote",
            "Labels and task have voted, the similarity has not: near is a vote for the probe, far one for the full "
            "network.",
            wrong=_RANKED_WAYS["similarity unheard"],
        ),
        Misconception(
            "the task has no vote",
            "Labels and domain have voted, the task has not: two classes are a vote for the probe, pixels one for the "
            "full network, several classes none.",
            wrong=_RANKED_WAYS["complexity unheard"],
        ),
    ),
    hints=(
        "Count votes in a dict that has all three strategies from the start, in the order of their cost.",
        "`sorted` is stable: of equals, what came first stays first. So sort the strategies by minus their votes.",
        'votes = {"probe": 0, "last stages": 0, "full": 0}; add one for each rule that speaks; return sorted(votes, '
        "key=lambda name: -votes[name]).",
    ),
)

# 07.3: regret on cells that were left out ------------------------------------------------------------


def _some_grid(rng: np.random.Generator) -> Inputs:
    """No two strategies equal in a cell, no two cells equally far from a third: who comes first decides nothing."""
    while True:
        cells, seeds = int(rng.integers(4, 7)), int(rng.integers(2, 4))
        described = np.round(rng.uniform(0, 3, (cells, 2)), 1)
        means = 0.7 + 0.03 * described.sum(axis=1, keepdims=True) + rng.normal(0, 0.04, (cells, 3))
        scores = np.round(means[..., None] + rng.normal(0, 0.05, (cells, 3, seeds)), 2)
        far = np.abs(described[:, None] - described).sum(axis=2)
        if min(np.diff(np.sort(values, axis=1)).min() for values in (far, scores.mean(axis=2))) > 1e-3:
            return {"cells": described, "scores": scores}


def _draw_grid(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_grid, [_oracle_regret, *_REGRET_WAYS.values()])


class Nearest:
    """The advisor of the check: what was best in the nearest cell that it knows."""

    def __init__(self, cells: np.ndarray, means: np.ndarray) -> None:
        self.cells, self.best = np.array(cells, dtype=float), np.array(means, dtype=float).argmax(axis=1)

    def __call__(self, cell: np.ndarray) -> int:
        return int(self.best[np.abs(self.cells - np.asarray(cell, dtype=float)).sum(axis=1).argmin()])


def learn(cells, means) -> Nearest:
    """What an answer gets as `learn`."""
    if np.ndim(cells) != 2 or np.ndim(means) != 2 or len(cells) != len(means):
        raise AnswerError(
            f"`learn` got cells of shape {np.shape(cells)} and means of shape {np.shape(means)}; wanted are (m, k) and "
            "(m, strategies)"
        )
    return Nearest(cells, means)


def _probe_regret(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["cells"], inputs["scores"], learn), what="what `regret` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`regret` returns two things: `return advised, fixed`")
    return {"advised": found[0], "fixed": found[1]}


def _taken(inputs: Inputs, *, left_out: bool = True) -> list[int]:
    cells, means = inputs["cells"], inputs["scores"].mean(axis=2)
    taken = []
    for row, cell in enumerate(cells):
        known = [other for other in range(len(cells)) if not left_out or other != row]
        taken.append(Nearest(cells[known], means[known])(cell))
    return taken


def _lost(inputs: Inputs) -> np.ndarray:
    """Of each cell and strategy: the best mean there less its own."""
    means = inputs["scores"].mean(axis=2)
    return means.max(axis=1, keepdims=True) - means


def _oracle_regret(inputs: Inputs) -> Outputs:
    lost = _lost(inputs)
    return {
        "advised": float(np.mean([lost[row, strategy] for row, strategy in enumerate(_taken(inputs))])),
        "fixed": lost.mean(axis=0),
    }


def _with(inputs: Inputs, lost: np.ndarray, *, left_out: bool = True) -> Outputs:
    taken = _taken(inputs, left_out=left_out)
    return {"advised": float(lost[np.arange(len(lost)), taken].mean()), "fixed": lost.mean(axis=0)}


def _best_of_each_seed(inputs: Inputs) -> Outputs:
    scores = inputs["scores"]
    return _with(inputs, scores.max(axis=1).mean(axis=1)[:, None] - scores.mean(axis=2))


def _against_the_best_fixed(inputs: Inputs) -> Outputs:
    means = inputs["scores"].mean(axis=2)
    best = means[:, means.mean(axis=0).argmax()]
    return _with(inputs, best[:, None] - means)


def _summed(inputs: Inputs) -> Outputs:
    return {key: value * len(inputs["cells"]) for key, value in _with(inputs, _lost(inputs)).items()}


_REGRET_WAYS = {
    "seen": lambda i: _with(i, _lost(i), left_out=False),
    "best of each seed": _best_of_each_seed,
    "against the best fixed": _against_the_best_fixed,
    "how often": lambda i: _with(i, (_lost(i) > 0).astype(float)),
    "sign": lambda i: _with(i, -_lost(i)),
    "sum": _summed,
    "scores": lambda i: _with(i, i["scores"].mean(axis=2)),
    "first seed": lambda i: _with(
        {**i, "scores": i["scores"][:, :, :1]}, _lost({**i, "scores": i["scores"][:, :, :1]})
    ),
}

REGRET = Exercise(
    id="07.3",
    title="An advisor in places where it has not been",
    points=5,
    difficulty=3,
    minutes=20,
    entry="regret",
    draw=_draw_grid,
    probe=_probe_regret,
    oracle=_oracle_regret,
    aspects=(
        Aspect("advised", "the advisor's regret", 0.65, 1e-6),
        Aspect("fixed", "the regret of each fixed strategy", 0.35, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "the advisor had been there",
            "Your advisor learnt from all cells and was then asked about them: this one looks up the nearest cell it "
            "knows, which is the very same, and so its regret is {outputs[advised]:.3f}. On a cell that it has not "
            "seen it is {expected[advised]:.3f}. Learn anew for each cell, from all the others.",
            wrong=lambda i: {"advised": _REGRET_WAYS["seen"](i)["advised"]},
        ),
        Misconception(
            "the best of each seed",
            "You compare with the best strategy of *each seed*. Nobody can choose that one: of several noisy scores "
            "the highest is flattered, so that even the truly best strategy seems to have a regret. Take the mean over "
            "the seeds first, then the best.",
            wrong=_REGRET_WAYS["best of each seed"],
        ),
        Misconception(
            "compared with the best fixed strategy",
            "You compare with the strategy that is best on average over the cells. That says what is lost against a "
            "habit, and it can be negative. Regret compares with the best *in that cell*.",
            wrong=_REGRET_WAYS["against the best fixed"],
        ),
        Misconception(
            "how often, not how much",
            "{outputs[advised]:.2f} is the share of cells in which another strategy was better. A cell where it was "
            "better by 0.001 then weighs as much as one where it was by 0.1.",
            wrong=_REGRET_WAYS["how often"],
        ),
        Misconception(
            "the sign turned round",
            "Yours is negative: {outputs[advised]:.3f}. Regret is what was lost: the best score of the cell less the "
            "score of the strategy that was taken.",
            wrong=_REGRET_WAYS["sign"],
        ),
        Misconception(
            "the sum over the cells",
            "You have added up. With more cells every advisor would look worse; take the mean over the cells.",
            wrong=_REGRET_WAYS["sum"],
        ),
        Misconception(
            "the score instead of what is lost",
            "{outputs[advised]:.3f} is the mean score of what was taken. How good is that? In an easy cell anything "
            "scores well. Take it off the best score of the cell.",
            wrong=_REGRET_WAYS["scores"],
        ),
        Misconception(
            "one seed alone",
            "You looked at the first seed alone. Its noise decides then what was best; the mean over the seeds comes "
            "first.",
            wrong=_REGRET_WAYS["first seed"],
        ),
    ),
    hints=(
        "First `means = scores.mean(axis=2)`; from then on there is one number for each cell and strategy.",
        "lost = means.max(axis=1, keepdims=True) - means, of shape (cells, strategies), holds every regret that there "
        "is. Its mean over the cells is `fixed`.",
        "For cell r: others = np.arange(len(cells)) != r; advise = learn(cells[others], means[others]); add lost[r, "
        "advise(cells[r])]. Divide by the number of cells.",
    ),
)

EXERCISES = (RANKED, LEEP, REGRET, FOREGROUND, BY_CHANCE)
