"""Tasks of lesson 00 on scores: the AUC by its meaning, and how much a score is flattered by having chosen."""

import numpy as np

from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["AUC", "FLATTERY"]


def _draw_auc(rng: np.random.Generator) -> Inputs:
    n = int(rng.integers(5, 10))
    labels = rng.permutation(np.arange(n) % 3 == 0).astype(int)
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.25), 0, 1).round(1)
    # A defective and an intact cell with one score: how a tie counts must show.
    scores[np.flatnonzero(labels == 1)[0]] = scores[np.flatnonzero(labels == 0)[0]]
    return {"scores": scores, "labels": labels}


def _pairs(i: Inputs, *, tie: float, among_all: bool = False) -> Outputs:
    defective, intact = (i["scores"][i["labels"] == label][:, None] for label in (1, 0))
    wins, ties = (defective > intact.T).sum(), (defective == intact.T).sum()
    n = len(i["scores"])
    pairs = n * (n - 1) / 2 if among_all else len(defective) * len(intact)
    return {"auc": float((wins + tie * ties) / pairs)}


AUC = Exercise(
    id="00.4",
    title="The AUC by what it means",
    points=3,
    difficulty=2,
    minutes=10,
    entry="auc",
    draw=_draw_auc,
    probe=lambda answer, inputs: {"auc": plain(answer(**inputs), what="what `auc` returned")},
    oracle=lambda i: _pairs(i, tie=0.5),
    aspects=(Aspect("auc", "the AUC", 1.0, 1e-9),),
    misconceptions=(
        Misconception(
            "ties count as nothing",
            "You have {outputs[auc]:.3f}: a pair with equal scores counts as lost. It is neither won nor lost, and "
            "counts "
            "one half; otherwise a classifier that tells every cell the same would have an AUC of 0.",
            wrong=lambda i: _pairs(i, tie=0.0),
        ),
        Misconception(
            "ties count as won",
            "You have {outputs[auc]:.3f}: a pair with equal scores counts as won. It counts one half; otherwise a "
            "classifier "
            "that tells every cell the same would have an AUC of 1.",
            wrong=lambda i: _pairs(i, tie=1.0),
        ),
        Misconception(
            "the order turned round",
            "You counted how often the *intact* cell ranks higher: your {outputs[auc]:.3f} is 1 minus what was asked "
            "for.",
            wrong=lambda i: {"auc": 1 - _pairs(i, tie=0.5)["auc"]},
        ),
        Misconception(
            "accuracy, not AUC",
            "{outputs[auc]:.3f} is the share of right answers at the threshold 0.5. The AUC knows no threshold: it "
            "compares "
            "cells with each other.",
            wrong=lambda i: {"auc": float(((i["scores"] > 0.5) == (i["labels"] == 1)).mean())},
        ),
        Misconception(
            "all pairs in the denominator",
            "You divided by all pairs of cells. Pairs of one class say nothing about the ranking of the classes: "
            "divide by "
            "the pairs of one defective and one intact cell.",
            wrong=lambda i: _pairs(i, tie=0.5, among_all=True),
        ),
    ),
    hints=(
        "Take every pair of a defective and an intact cell. How often does the defective one have the higher score?",
        "`scores[labels == 1][:, None] > scores[labels == 0]` compares them all at once. Then think of equal scores.",
        "The mean over all such pairs of (higher) + 0.5 * (equal).",
    ),
)


def _draw_flattery(rng: np.random.Generator) -> Inputs:
    while True:
        runs, cells, looked_at = int(rng.integers(3, 6)), int(rng.integers(9, 15)), int(rng.integers(4, 6))
        correct = rng.random((runs, cells)) < 0.7
        shares = [np.sort(part.mean(axis=1)) for part in (correct, correct[:, :looked_at], correct[:, looked_at:])]
        winners = {int(part.mean(axis=1).argmax()) for part in (correct[:, :looked_at], correct[:, looked_at:])}
        if all(share[-1] > share[-2] for share in shares) and len(winners) == 2:  # one winner each, and not the same
            return {"correct": correct, "looked_at": looked_at}


def _lost(i: Inputs, *, chosen_on: slice | None = None, fresh=None) -> Outputs:
    seen, unseen = i["correct"][:, : i["looked_at"]], i["correct"][:, i["looked_at"] :]
    best = int((seen if chosen_on is None else i["correct"][:, chosen_on]).mean(axis=1).argmax())
    there = unseen[best].mean() if fresh is None else fresh(unseen)
    return {"lost": float(seen[best].mean() - there)}


FLATTERY = Exercise(
    id="00.5",
    title="What the chosen one loses",
    points=3,
    difficulty=2,
    minutes=10,
    entry="flattery",
    draw=_draw_flattery,
    probe=lambda answer, inputs: {"lost": plain(answer(**inputs), what="what `flattery` returned")},
    oracle=_lost,
    aspects=(Aspect("lost", "what the chosen run loses", 1.0, 1e-9),),
    misconceptions=(
        Misconception(
            "the sign turned round",
            "{outputs[lost]:+.3f} is what it gains on fresh cells. Asked for is what it loses: the flattered score "
            "first.",
            wrong=lambda i: {"lost": -_lost(i)["lost"]},
        ),
        Misconception(
            "another winner on the fresh cells",
            "You compared with the best run *on the fresh cells*, which is another run. Once chosen, it is chosen: "
            "fresh "
            "cells are there to see how that one does.",
            wrong=lambda i: _lost(i, fresh=lambda unseen: unseen.mean(axis=1).max()),
        ),
        Misconception(
            "compared with the average run",
            "You compared with all runs on the fresh cells. Asked for is how the chosen one does there.",
            wrong=lambda i: _lost(i, fresh=lambda unseen: unseen.mean()),
        ),
        Misconception(
            "chosen on every cell",
            "You chose by all cells, the fresh ones included. Then no cell is fresh any more, and the loss looks "
            "smaller "
            "than it is.",
            wrong=lambda i: _lost(i, chosen_on=slice(None)),
        ),
        Misconception(
            "chosen on the fresh cells",
            "You chose by the fresh cells. The first {inputs[looked_at]} cells are those that somebody has looked at.",
            wrong=lambda i: _lost(i, chosen_on=slice(i["looked_at"], None)),
        ),
    ),
    hints=(
        "Two steps that must not see each other's cells: choose a run, then ask how it does elsewhere.",
        "`correct[:, :looked_at].mean(axis=1)` is the score that chooses; argmax is the chosen run.",
        "best = that argmax; return correct[best, :looked_at].mean() - correct[best, looked_at:].mean().",
    ),
    draws=10,
)
