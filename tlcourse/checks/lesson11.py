"""Tasks of lesson 11: the zoo."""

import numpy as np
import torch

from tlcourse.checks.lesson11_loading import LOAD
from tlcourse.checks.lesson11_models import COST, FROM_MASK
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.towers import join_towers

__all__ = ["CHOOSE", "EXERCISES", "ZERO_SHOT"]

# 11.4: classes that were never seen, and who competes ------------------------------------------------------------


def _draw_zero_shot(rng: np.random.Generator) -> Inputs:
    """Rows that follow words, share a direction and differ in length; drawn until each known way chooses otherwise."""
    while True:
        classes, unseen = int(rng.integers(8, 11)), int(rng.integers(3, 5))
        words = rng.normal(size=(classes, 3)) + rng.uniform(0.5, 1.5, 3)
        length = rng.uniform(0.4, 2.5, (classes, 1))
        rows = length * (words @ rng.normal(size=(3, 4)) + 0.6 * rng.normal(size=(classes, 4))) + 2
        made = {
            "words": np.round(words, 2),
            "rows": np.round(rows, 2),
            "seen": rng.permutation(classes)[unseen:],
            "strength": float(rng.choice([0.5, 1.0, 2.0])),
        }
        if _tells_apart(made):
            return made


def _tells_apart(inputs: Inputs) -> bool:
    right = _joined(inputs)
    others = [_joined(inputs, **{way: False}) for way in ("centred", "cosine", "numbered")]
    return (
        right["among_unseen"] != right["among_all"]
        and all(right["among_unseen"] != other["among_unseen"] for other in others)
        and right["margin"] > 0.01
    )


def _probe_zero_shot(answer, inputs: Inputs) -> Outputs:
    words, rows, seen = (torch.from_numpy(inputs[name]) for name in ("words", "rows", "seen"))
    found = plain(answer(words, rows, seen, inputs["strength"]), what="what `zero_shot` returned")
    if not isinstance(found, list) or len(found) != 3:
        raise AnswerError("`zero_shot` returns three things: `return predicted, among_unseen, among_all`")
    return dict(zip(("predicted", "among_unseen", "among_all"), found, strict=True))


def _unseen(inputs: Inputs) -> list[int]:
    return sorted(set(range(len(inputs["words"]))) - set(inputs["seen"].tolist()))


def _oracle_zero_shot(inputs: Inputs) -> Outputs:
    """The library's join, and a choice class by class."""
    words, rows, seen, unseen = inputs["words"], inputs["rows"], inputs["seen"], _unseen(inputs)
    join = join_towers(torch.from_numpy(words[seen]), torch.from_numpy(rows[seen]), strength=inputs["strength"])
    predicted = join(torch.from_numpy(words[unseen])).numpy()
    return {
        "predicted": predicted,
        "among_unseen": [_nearest(row, rows, unseen) for row in predicted],
        "among_all": [_nearest(row, rows, list(range(len(rows)))) for row in predicted],
    }


def _nearest(row: np.ndarray, rows: np.ndarray, candidates: list[int]) -> int:
    centre = rows[candidates].mean(axis=0)

    def cosine(candidate: int) -> float:
        one, other = row - centre, rows[candidate] - centre
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    return max(candidates, key=cosine)


def _ridge(
    i: Inputs, *, fit: np.ndarray | None = None, intercept: bool = True, strength: float | None = None
) -> np.ndarray:
    """Predicted rows, as somebody finds them who fits on other classes, without means or with another strength."""
    fit = i["seen"] if fit is None else fit
    words, rows = i["words"][fit], i["rows"][fit]
    t, m = (words.mean(axis=0), rows.mean(axis=0)) if intercept else (0.0, 0.0)
    gram = (words - t).T @ (words - t) + (i["strength"] if strength is None else strength) * np.eye(words.shape[1])
    return m + (i["words"][_unseen(i)] - t) @ np.linalg.solve(gram, (words - t).T @ (rows - m))


def _joined(i: Inputs, *, centred: bool = True, cosine: bool = True, numbered: bool = True) -> Outputs:
    """Right rows, and the choices of somebody who compares in another way; the margin of the closest choice beside."""
    predicted, rows, unseen, margin = _ridge(i), i["rows"], _unseen(i), np.inf
    chosen = {}
    for key, candidates in (("among_unseen", unseen), ("among_all", list(range(len(rows))))):
        centre = rows[candidates].mean(axis=0) if centred else 0.0
        ours, theirs = predicted - centre, rows[candidates] - centre
        if cosine:
            ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs))
        likeness = ours @ theirs.T
        best = np.sort(likeness, axis=1)
        margin = min(margin, float((best[:, -1] - best[:, -2]).min()))
        chosen[key] = [candidates[k] if numbered else int(k) for k in likeness.argmax(axis=1)]
    return {**chosen, "margin": margin}


def _choices(i: Inputs, **other: bool) -> Outputs:
    return {key: value for key, value in _joined(i, **other).items() if key != "margin"}


def _centred_by_themselves(i: Inputs) -> np.ndarray:
    """The new words lose their own mean instead of that of the words that fitted."""
    unseen, words = _unseen(i), i["words"].copy()
    words[unseen] += words[i["seen"]].mean(axis=0) - words[unseen].mean(axis=0)
    return _ridge({**i, "words": words})


ZERO_SHOT = Exercise(
    id="11.4",
    title="Found by name, and who competes",
    points=5,
    difficulty=3,
    minutes=15,
    entry="zero_shot",
    draw=_draw_zero_shot,
    probe=_probe_zero_shot,
    oracle=_oracle_zero_shot,
    aspects=(
        Aspect("predicted", "the rows that the names lead to", 0.4),
        Aspect("among_unseen", "the choice among the unseen classes", 0.3),
        Aspect("among_all", "the choice among all classes", 0.3),
    ),
    misconceptions=(
        Misconception(
            "fitted on the unseen classes too",
            "Your regression has seen the rows of the classes that it is to predict. Then it is no zero-shot any more: "
            "what you measure is how well it remembers. Fit on `seen` alone.",
            wrong=lambda i: {"predicted": _ridge(i, fit=np.arange(len(i["words"])))},
        ),
        Misconception(
            "without an intercept",
            "Your regression goes through zero: neither the words nor the rows lost their means. The rows of a "
            "classifier share a direction, and the coefficients are spent on that instead of on what tells classes "
            "apart.",
            wrong=lambda i: {"predicted": _ridge(i, intercept=False)},
        ),
        Misconception(
            "the new words lost their own mean",
            "You centred the new words by *their* mean. The regression was fitted around the mean of the words in "
            "`seen`, and that is part of what it has learnt, as the statistics of a preprocessing are. With a single "
            "new word yours would always predict the mean row.",
            wrong=lambda i: {"predicted": _centred_by_themselves(i)},
        ),
        Misconception(
            "the strength was forgotten",
            "You fitted by least squares, without the ridge. As soon as a word has as many numbers as there are seen "
            "classes, that fits them exactly and says next to nothing of others.",
            wrong=lambda i: {"predicted": _ridge(i, strength=0.0)},
        ),
        Misconception(
            "the strength grew with the classes",
            "You weigh {inputs[strength]} against the *mean* of the squared errors; the task weighs it against their "
            "sum. In your coefficients it counts as many times as there are seen classes.",
            wrong=lambda i: {"predicted": _ridge(i, strength=i["strength"] * len(i["seen"]))},
        ),
        Misconception(
            "counted within the unseen",
            "Your predicted rows are right, and so is your choice, but you return its place in the list of the unseen "
            "classes and not the number of the class. Compared with labels, that scores zero, or something by chance.",
            wrong=lambda i: {
                "predicted": _ridge(i),
                "among_unseen": _joined(i, numbered=False)["among_unseen"],
            },
        ),
        Misconception(
            "the common direction was left in",
            "The predicted rows are right. But you compare them as they are: what all rows share is in both, and "
            "makes everything look alike. Subtract the mean of the competing rows from both first.",
            wrong=lambda i: {"predicted": _ridge(i), **_choices(i, centred=False)},
        ),
        Misconception(
            "the longest row won",
            "The predicted rows are right. But you compare by the product, in which a long row counts more: a class "
            "wins for its length. The cosine divides by the lengths.",
            wrong=lambda i: {"predicted": _ridge(i), **_choices(i, cosine=False)},
        ),
        Misconception(
            "the seen classes were kept out",
            "The predicted rows and the choice among the unseen are right. But in `among_all`, the classes that the "
            "join was fitted on must compete too. They win most of the time, and that is what a paper leaves out that "
            "reports the other number alone.",
            wrong=lambda i: {
                "among_unseen": _joined(i)["among_unseen"],
                "among_all": _joined(i)["among_unseen"],
            },
        ),
    ),
    hints=(
        "Three steps: fit on the seen, predict the unseen, compare. Which numbers may each of them look at?",
        "B solves (T - t)'(T - t) B + strength B = (T - t)'(W - m); a new word x leads to m + (x - t) B. The choice is "
        "one function of the candidates, called twice.",
        "B = torch.linalg.solve((T - t).T @ (T - t) + strength * torch.eye(p), (T - t).T @ (W - m)). For candidates c: "
        "centre = rows[c].mean(dim=0); c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - "
        "centre).T).argmax(dim=1)].",
    ),
)

# 11.5: the one that you can afford ------------------------------------------------------------


def _draw_choose(rng: np.random.Generator) -> Inputs:
    """Each known way leads to a candidate of its own."""
    budget, best = round(float(rng.uniform(1, 5)), 2), round(float(rng.uniform(0.80, 0.87)), 3)
    # Who: share of the budget, ImageNet, validation, test; ranges to draw from.
    roles = {
        "right": ((0.2, 0.5), (70, 78), (best, best), (best - 0.05, best - 0.01)),
        "dearer": ((0.6, 0.95), (70, 78), (best, best), (0.70, 0.75)),
        "famous": ((0.5, 0.95), (79, 82), (0.70, 0.78), (0.66, 0.75)),
        "lucky": ((0.3, 0.95), (70, 78), (0.70, 0.78), (0.88, 0.92)),
        "cheapest": ((0.05, 0.1), (60, 69), (0.60, 0.68), (0.60, 0.75)),
        "large": ((1.2, 4), (83, 86), (0.90, 0.95), (0.85, 0.95)),
    }
    order = [str(role) for role in rng.permutation(list(roles))]
    right, dearer = order.index("right"), order.index("dearer")
    if right < dearer:  # whoever takes the first of two equals takes the dearer one
        order[right], order[dearer] = order[dearer], order[right]
    drawn = [[float(rng.uniform(*ends)) for ends in roles[role]] for role in order]
    return {
        "candidates": [
            {"name": name, "multiply_adds": round(budget * share, 3), "imagenet": round(score, 1)}
            for name, (share, score, _, _) in zip("ABCDEF", drawn, strict=True)
        ],
        "budget": budget,
        "scores": {
            split: {name: round(row[column], 3) for name, row in zip("ABCDEF", drawn, strict=True)}
            for split, column in (("val", 2), ("test", 3))
        },
    }


def _probe_choose(answer, inputs: Inputs) -> Outputs:
    opened: dict[str, list[str]] = {"val": [], "test": []}

    def probe(name: str, split: str) -> float:
        if split not in opened:
            raise ValueError(f"there is no split {split!r}: use 'val' or 'test'")
        if name not in inputs["scores"][split]:
            raise ValueError(f"there is no candidate {name!r}")
        opened[split].append(name)
        return inputs["scores"][split][name]

    found = plain(answer(inputs["candidates"], inputs["budget"], probe), what="what `choose` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`choose` returns two things: the name of the chosen candidate, and its score")
    return {
        "chosen": found[0],
        "reported": found[1],
        "probed": sorted(opened["val"]),
        "tested": len(opened["test"]),
    }


def _affordable(inputs: Inputs) -> list[dict]:
    return [row for row in inputs["candidates"] if row["multiply_adds"] <= inputs["budget"]]


def _by(inputs: Inputs, score) -> str:
    """The affordable candidate with the highest score; of equals, the first in the list."""
    return max(_affordable(inputs), key=score)["name"]


def _oracle_choose(inputs: Inputs) -> Outputs:
    scores = inputs["scores"]
    chosen = _by(inputs, lambda row: (scores["val"][row["name"]], -row["multiply_adds"]))
    return {
        "chosen": chosen,
        "reported": scores["test"][chosen],
        "probed": sorted(row["name"] for row in _affordable(inputs)),
        "tested": 1,
    }


CHOOSE = Exercise(
    id="11.5",
    title="The best that you can afford",
    points=3,
    difficulty=2,
    minutes=10,
    entry="choose",
    draw=_draw_choose,
    probe=_probe_choose,
    oracle=_oracle_choose,
    aspects=(
        Aspect("chosen", "the candidate", 0.4),
        Aspect("reported", "the score that is reported", 0.25, 1e-9),
        Aspect("probed", "what can be afforded is probed, once, and nothing else", 0.2),
        Aspect("tested", "the test split is read once", 0.15),
    ),
    misconceptions=(
        Misconception(
            "dearer than the budget",
            "You chose {outputs[chosen]}, which takes more multiply-adds than the budget of {inputs[budget]} billion. "
            "It may be the best, but not for you.",
            shows=lambda i, o, e: o["chosen"] not in e["probed"],
        ),
        Misconception(
            "ImageNet chose",
            "You chose {outputs[chosen]}, the best on ImageNet among those you can afford. That score is about "
            "photographs of a thousand kinds of things. Your data say {expected[chosen]}, and asking them costs a "
            "probe.",
            shows=lambda i, o, e: o["chosen"] == _by(i, lambda row: row["imagenet"]),
        ),
        Misconception(
            "the test split chose",
            "You chose {outputs[chosen]}, the best on the *test* split, and report a score that has chosen: it is "
            "flattered. The validation split chooses {expected[chosen]}.",
            shows=lambda i, o, e: o["chosen"] == _by(i, lambda row: i["scores"]["test"][row["name"]]),
        ),
        Misconception(
            "the cheapest was chosen",
            "You chose {outputs[chosen]}, the cheapest. The budget is a limit; within it, the validation score counts.",
            shows=lambda i, o, e: o["chosen"] == _by(i, lambda row: -row["multiply_adds"]),
        ),
        Misconception(
            "the dearer of two equals",
            "You chose {outputs[chosen]}, whose validation score is as high as that of {expected[chosen]}, and which "
            "costs more. At equal scores the cheaper one wins.",
            shows=lambda i, o, e: (
                o["chosen"] != e["chosen"] and i["scores"]["val"][o["chosen"]] == i["scores"]["val"][e["chosen"]]
            ),
        ),
        Misconception(
            "probed what cannot be afforded",
            "Choice and report are right. But you probed {outputs[probed]}, where {expected[probed]} can be afforded: "
            "the features of the largest network take the most time of all, to find out about one that you cannot use.",
            shows=lambda i, o, e: o["chosen"] == e["chosen"] and bool(set(o["probed"]) - set(e["probed"])),
        ),
        Misconception(
            "probed more than once",
            "Choice and report are right. But some candidates were probed twice: {outputs[probed]}. A probe is an hour "
            "of a large network's time; keep what it said.",
            shows=lambda i, o, e: o["chosen"] == e["chosen"] and len(o["probed"]) > len(set(o["probed"])),
        ),
        Misconception(
            "the flattered score was reported",
            "You chose rightly and report {outputs[reported]:.3f}, its *validation* score, the highest of several, and "
            "for that reason too high. The test split says {expected[reported]:.3f}.",
            shows=lambda i, o, e: o["chosen"] == e["chosen"] and o["reported"] == i["scores"]["val"][o["chosen"]],
        ),
        Misconception(
            "the test was read for all",
            "Choice and report are right, but the test split was read {outputs[tested]} times. Who sees the test score "
            "of every candidate will use it, sooner or later. Read it for the chosen one alone.",
            shows=lambda i, o, e: o["chosen"] == e["chosen"] and o["tested"] > 1,
        ),
    ),
    hints=(
        "Four lines: who can be afforded, what the probes say, who is chosen, what is reported.",
        "Store the validation scores in a dict, one call each, for those within the budget. The key of a maximum may "
        "be a pair: (score, minus the cost).",
        'can = [c for c in candidates if c["multiply_adds"] <= budget]; val = {c["name"]: probe(c["name"], "val") for '
        'c in can}; best = max(can, key=lambda c: (val[c["name"]], -c["multiply_adds"])); then one probe on "test".',
    ),
)

EXERCISES = (FROM_MASK, COST, LOAD, ZERO_SHOT, CHOOSE)
