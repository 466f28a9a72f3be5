"""Tasks of lesson 09: remembering."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tlcourse.averaging import interpolate
from tlcourse.checks.judging import mismatch
from tlcourse.checks.lesson09_memory import BEST_STATE, KEEP_SOME
from tlcourse.checks.lesson09_terms import KEEP_ANSWERS, L2_SP
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["BETWEEN", "EXERCISES", "FRONTIER"]

# 09.5: between two states ------------------------------------------------------------

COUNT = "norm.num_batches_tracked"


def _draw_states(rng: np.random.Generator) -> Inputs:
    """Some draws are at the ends and in the middle, and some weights are in double precision."""
    width, counted = int(rng.integers(1, 4)), int(rng.integers(10, 20))
    kind = (np.float32, np.float64)[rng.integers(2)]
    return {
        "start": _state(rng, width, counted, kind),
        "end": _state(rng, width, counted + 10 * int(rng.integers(1, 4)), kind),
        "alpha": float(rng.choice([0.0, 0.3, 0.3, 0.5, 0.5, 0.7, 1.0])),
    }


def _state(rng: np.random.Generator, width: int, counted: int, kind: type) -> dict[str, np.ndarray]:
    return {
        "layer.weight": rng.normal(size=(width, 2)).round(2).astype(kind),
        "norm.running_mean": rng.normal(size=width).round(2).astype(np.float32),
        "norm.running_var": rng.uniform(0.5, 2.0, width).round(2).astype(np.float32),
        COUNT: np.array(counted),
    }


def _tensors(state: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}


def _probe_states(answer, inputs: Inputs) -> Outputs:
    start, end = _tensors(inputs["start"]), _tensors(inputs["end"])
    found = answer(start, end, inputs["alpha"])
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise AnswerError(f"what `between` returned is a {type(found).__name__}; wanted is a dict of tensors")
    given = {value.untyped_storage().data_ptr() for value in (*start.values(), *end.values())}
    return {
        "floats": plain({name: value for name, value in found.items() if name != COUNT}),
        "count": plain(found[COUNT]) if COUNT in found else None,
        "kinds": {name: str(value.dtype) for name, value in found.items()},
        "shared": [name for name, value in found.items() if value.untyped_storage().data_ptr() in given],
    }


def _described(state: dict[str, Tensor]) -> Outputs:
    return {
        "floats": plain({name: value for name, value in state.items() if name != COUNT}),
        "count": plain(state[COUNT]),
        "kinds": {name: str(value.dtype) for name, value in state.items()},
        "shared": [],
    }


def _on_the_way(inputs: Inputs) -> dict[str, Tensor]:
    return interpolate(_tensors(inputs["start"]), _tensors(inputs["end"]), inputs["alpha"])


def _weights_alone(inputs: Inputs, end: str) -> Outputs:
    """The statistics are those of one end."""
    mixed = _described(_on_the_way(inputs))["floats"]
    return {"floats": {name: value if "running" not in name else inputs[end][name] for name, value in mixed.items()}}


def _too_far(inputs: Inputs) -> Outputs:
    """From the end on, by the same share."""
    names = [name for name in inputs["start"] if name != COUNT]
    start, end, alpha = inputs["start"], inputs["end"], inputs["alpha"]
    return {"floats": {name: end[name] + alpha * (end[name] - start[name]) for name in names}}


BETWEEN = Exercise(
    id="09.5",
    title="A place between two networks",
    points=3,
    difficulty=2,
    minutes=10,
    entry="between",
    draw=_draw_states,
    probe=_probe_states,
    oracle=lambda i: _described(_on_the_way(i)),
    aspects=(
        Aspect("floats", "weights and statistics", 0.5, 1e-5),
        Aspect("count", "the count of batches", 0.2, 0.0),
        Aspect("kinds", "each entry has the dtype that it had", 0.15),
        Aspect("shared", "nothing shares memory with what was given", 0.15),
    ),
    misconceptions=(
        Misconception(
            "the middle taken for the start",
            "Right but for the count of batches in the middle: at an alpha of one half, not below it, it is that of "
            "the end, {expected[count]}.",
            shows=lambda i, o, e: i["alpha"] == 0.5 and o["count"] == i["start"][COUNT],
        ),
        Misconception(
            "alpha the wrong way round",
            "With alpha {inputs[alpha]} you keep that share of the *start*. It is how far to go: at 0 nothing was "
            "learnt, at 1 nothing is held back. Turned round, the strongest remedy looks like none.",
            wrong=lambda i: {"floats": _described(_on_the_way({**i, "alpha": 1 - i["alpha"]}))["floats"]},
        ),
        Misconception(
            "beyond the end",
            "You went on from the end, away from the start. All places asked for lie *between* the two.",
            wrong=_too_far,
        ),
        Misconception(
            "the statistics were left out",
            "The weights are on the way, the running statistics are those of one end: weights that were moved are "
            "normalised as if they had not been. Floating buffers go the same way as weights.",
            shows=lambda i, o, e: any(
                mismatch(o["floats"], _weights_alone(i, end)["floats"], tolerance=1e-5) is None
                for end in ("start", "end")
            ),
        ),
        Misconception(
            "another precision",
            "The numbers are right, but an entry came in with one dtype and went out with another: "
            "{outputs[kinds][layer.weight]} instead of {expected[kinds][layer.weight]} for the weights. Each keeps its "
            "own.",
            shows=lambda i, o, e: any(o["kinds"][name] != kind for name, kind in e["kinds"].items() if name != COUNT),
        ),
        Misconception(
            "the count was averaged",
            "The count of batches came in as torch.int64 and is {outputs[count]}, a {outputs[kinds][" + COUNT + "]}. "
            "A number of batches, a position or a mask has no middle: take it from the nearer end.",
            shows=lambda i, o, e: (
                i["start"][COUNT] < o["count"] < i["end"][COUNT] or o["kinds"][COUNT] != e["kinds"][COUNT]
            ),
        ),
        Misconception(
            "whole numbers always from the same end",
            "Right but for the count of batches, which at alpha {inputs[alpha]} is taken from the farther end: "
            "{outputs[count]} instead of {expected[count]}.",
            shows=lambda i, o, e: o["count"] != e["count"] and o["count"] in (i["start"][COUNT], i["end"][COUNT]),
        ),
        Misconception(
            "not a copy",
            "The values are right, but {outputs[shared][0]} is the very tensor that you were given: who trains on from "
            "the result changes the network that was kept. Clone it.",
            shows=lambda i, o, e: len(o["shared"]) > 0,
        ),
    ),
    hints=(
        "Print the dtypes of a state dict that holds a BatchNorm. Which entries can lie between two values?",
        "Floating: (1 - alpha) * start + alpha * end, or torch.lerp. Everything else: a clone from start if alpha is "
        "below 0.5, else from end.",
        "for name, a in start.items(): torch.lerp(a, end[name], alpha) if a.is_floating_point() else (a if alpha < 0.5 "
        "else end[name]).clone().",
    ),
    draws=16,
)

# 09.6: the frontier ------------------------------------------------------------

REMEDIES = {
    "small rate": [3e-05, 0.0001, 0.0003],
    "L2-SP": [1.0, 10.0, 100.0],
    "replay": [25, 50, 100],
    "LoRA": [2, 8, 32],
    "weight averaging": [0.25, 0.5, 0.75],
}


def _draw_trials(rng: np.random.Generator) -> Inputs:
    while True:
        made = _some_trials(rng)
        right = _oracle_trials(made)
        sums = {split: _picked(made, split) for split in ("val", "test")}
        chosen = [right["chosen"], sums["test"], _picked(made, "val", old=0), _picked(made, "val", new=0)]
        best = [right["best"], *(_best(made, right["chosen"], rule=rule) for rule in RULES), _by_validation(made)]
        if all(one != another for group in (chosen, best) for k, one in enumerate(group) for another in group[:k]):
            return made


def _some_trials(rng: np.random.Generator) -> Inputs:
    """Scores on a coarse grid, in twentieths, so that some are equal; whatever picks a value picks one alone."""
    remedies = rng.permutation(list(REMEDIES))[: int(rng.integers(4, 6))].tolist()
    points, scores = dict(zip(remedies, _points(rng), strict=False)), {}
    for remedy in sorted(remedies):
        val, test = _alone(rng), _alone(rng)
        test[val.sum(axis=1).argmax()] = points[remedy]
        if _ties(test):
            return _some_trials(rng)
        scores[remedy] = {"val": (val / 20).tolist(), "test": (test / 20).tolist()}
    return {"trials": {remedy: REMEDIES[remedy] for remedy in scores}, "scores": scores}


def _points(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Two that are equal, one better here and worse there, one that only just loses, and any."""
    old, new = rng.integers(13, 16, 2).tolist()
    worse = (old - int(rng.integers(1, 3)), new) if rng.integers(2) else (old, new - int(rng.integers(1, 3)))
    gain = int(rng.integers(1, 3))
    other = (old + gain, new - gain - 1) if rng.integers(2) else (old - gain - 1, new + gain)
    return [(old, new), (old, new), other, worse, tuple(rng.integers(12, 17, 2).tolist())]


def _alone(rng: np.random.Generator) -> np.ndarray:
    """Three values' scores on both tasks, (3, 2), no two of the same sum."""
    while True:
        found = rng.integers(11, 19, (3, 2))
        if not _ties(found):
            return found


def _ties(scores: np.ndarray) -> bool:
    return len(set(scores.sum(axis=1).tolist())) < len(scores)


def _probe_trials(answer, inputs: Inputs) -> Outputs:
    opened = []

    def score(remedy: str, value: float, split: str) -> tuple[float, float]:
        if remedy not in inputs["trials"]:
            raise ValueError(f"there is no remedy {remedy!r}")
        if value not in inputs["trials"][remedy]:
            raise ValueError(f"{remedy!r} was not tried with {value!r}: the trials are {inputs['trials'][remedy]}")
        if split not in ("val", "test"):
            raise ValueError(f"there is no split {split!r}: use 'val' or 'test'")
        opened.append(split)
        return tuple(inputs["scores"][remedy][split][inputs["trials"][remedy].index(value)])

    trials = {remedy: list(values) for remedy, values in inputs["trials"].items()}
    found = answer(trials, score)
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not isinstance(found[0], dict):
        raise AnswerError("`frontier` should return two things: a dict of the chosen values, and a list of names")
    best = found[1] if isinstance(found[1], (list, tuple, set, frozenset, dict)) else None
    if best is None or not all(isinstance(name, str) for name in best):
        raise AnswerError("the second thing that `frontier` returns should be a list of names of remedies")
    return {
        "chosen": plain(found[0], what="the dict that `frontier` returned"),
        "best": sorted(best),
        "test_opened": opened.count("test"),
    }


def _picked(inputs: Inputs, split: str, *, old: float = 1.0, new: float = 1.0) -> dict[str, float]:
    """For each remedy the value whose weighted sum is highest."""
    rows = {remedy: inputs["scores"][remedy][split] for remedy in inputs["trials"]}
    places = {remedy: int(np.argmax(np.round(np.array(row) @ [old, new], 6))) for remedy, row in rows.items()}
    return {remedy: values[places[remedy]] for remedy, values in inputs["trials"].items()}


Rule = Callable[[np.ndarray, np.ndarray], bool]


def _beats(other: np.ndarray, own: np.ndarray) -> bool:
    return bool((other >= own).all() and (other > own).any())


RULES: tuple[Rule, ...] = (
    lambda other, own: bool((other > own).all()),
    lambda other, own: bool((other >= own).all()),
    lambda other, own: bool((other > own).any()),
    lambda other, own: round(float(other.sum() - own.sum()), 6) > 0,
)


def _best(inputs: Inputs, chosen: dict[str, float], *, rule: Rule = _beats, split: str = "test") -> list[str]:
    """Names of those that no other one beats."""
    points = {
        remedy: np.array(inputs["scores"][remedy][split][inputs["trials"][remedy].index(value)])
        for remedy, value in chosen.items()
    }
    return sorted(
        remedy
        for remedy, own in points.items()
        if not any(rule(other, own) for name, other in points.items() if name != remedy)
    )


def _oracle_trials(inputs: Inputs) -> Outputs:
    chosen = _picked(inputs, "val")
    return {"chosen": chosen, "best": _best(inputs, chosen), "test_opened": len(chosen)}


def _by_validation(inputs: Inputs) -> list[str]:
    return _best(inputs, _picked(inputs, "val"), split="val")


def _against_all(inputs: Inputs) -> list[str]:
    """Beaten by a value that was not chosen, too."""
    points = [np.array(score) for splits in inputs["scores"].values() for score in splits["test"]]
    return [
        remedy
        for remedy in _best(inputs, _picked(inputs, "val"))
        if not any(_beats(other, np.array(_chosen_score(inputs, remedy))) for other in points)
    ]


def _chosen_score(inputs: Inputs, remedy: str) -> list[float]:
    place = inputs["trials"][remedy].index(_picked(inputs, "val")[remedy])
    return inputs["scores"][remedy]["test"][place]


FRONTIER = Exercise(
    id="09.6",
    title="What deserves a place on the frontier",
    points=5,
    difficulty=3,
    minutes=20,
    entry="frontier",
    draw=_draw_trials,
    probe=_probe_trials,
    oracle=_oracle_trials,
    aspects=(
        Aspect("chosen", "each remedy's value", 0.4),
        Aspect("best", "the frontier", 0.4),
        Aspect("test_opened", "the test split is read once for each remedy", 0.2),
    ),
    misconceptions=(
        Misconception(
            "the test set was used to choose",
            "You chose by the test split. The luck of these samples then goes into choice and report alike, and a "
            "remedy with more trials has more luck. Validation chooses.",
            wrong=lambda i: {"chosen": _picked(i, "test")},
        ),
        Misconception(
            "chosen by the new task alone",
            "You chose the value that is best on the *new* task: the one that holds least will often win. What a "
            "remedy keeps can only be known by looking at what is forgotten: take the sum of both.",
            wrong=lambda i: {"chosen": _picked(i, "val", old=0)},
        ),
        Misconception(
            "chosen by the old task alone",
            "You chose the value that keeps most of the old task. What keeps it best of all is to learn nothing: take "
            "the sum of both.",
            wrong=lambda i: {"chosen": _picked(i, "val", new=0)},
        ),
        Misconception(
            "the test was opened for every trial",
            "Choice and frontier are right, but the test split was read {outputs[test_opened]} times for "
            "{expected[test_opened]} remedies. Read it for a value once that value has been chosen.",
            shows=lambda i, o, e: (
                o["chosen"] == e["chosen"] and o["best"] == e["best"] and o["test_opened"] > e["test_opened"]
            ),
        ),
        Misconception(
            "a frontier of validation scores",
            "The values are well chosen, and then you drew the frontier with the scores that have chosen them. Those "
            "are flattered; the frontier is drawn with the test scores.",
            wrong=lambda i: {"best": _by_validation(i)},
        ),
        Misconception(
            "values that were not chosen compete",
            "You let the *test* scores of all trials compete, of those too that validation did not choose. That is to "
            "choose by the test set once more. One point for each remedy, that of its chosen value: {expected[best]}.",
            shows=lambda i, o, e: o["best"] == _against_all(i) and o["test_opened"] > e["test_opened"],
        ),
        Misconception(
            "only the best sum",
            "You kept what has the highest *sum*. That is one taste, both tasks alike; somebody else will pay more for "
            "the old one. On the frontier is whatever no other remedy beats: {expected[best]}.",
            wrong=lambda i: {"best": _best(i, _picked(i, "val"), rule=RULES[3])},
        ),
        Misconception(
            "beaten on one task is not beaten",
            "You threw out each remedy that another beats on *one* task. That is what a frontier is made of: better "
            "here, worse there. Beaten is who loses nothing by being replaced: {expected[best]} stay.",
            wrong=lambda i: {"best": _best(i, _picked(i, "val"), rule=RULES[2])},
        ),
        Misconception(
            "equal ones threw each other out",
            "Two remedies have the same two scores, and each threw the other out, so that their place is empty. To "
            "beat, one has to be better on at least one task.",
            wrong=lambda i: {"best": _best(i, _picked(i, "val"), rule=RULES[1])},
        ),
        Misconception(
            "better on one and equal on the other is enough",
            "You keep a remedy that another one equals on one task and surpasses on the other. Nobody would take it. "
            "To beat, one need not be better on *both*.",
            wrong=lambda i: {"best": _best(i, _picked(i, "val"), rule=RULES[0])},
        ),
    ),
    hints=(
        "Three steps, in this order: choose each remedy's value by validation; read each chosen one's test scores, "
        "once; compare the remedies pair by pair.",
        "Choose by max(values, key=lambda value: sum(score(remedy, value, 'val'))). Keep the test scores in a dict, so "
        "that they are not read again.",
        "a beats b: a[0] >= b[0] and a[1] >= b[1] and a != b. On the frontier: not any(a beats b for every other a).",
    ),
    draws=5,
)

EXERCISES = (L2_SP, KEEP_ANSWERS, KEEP_SOME, BEST_STATE, BETWEEN, FRONTIER)
