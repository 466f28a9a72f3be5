"""Tasks of lesson 01: why transfer learning, and how a comparison of that kind goes wrong."""

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.lesson01_control import RANDOM_TWIN
from tlcourse.checks.lesson01_curves import COMPUTE_SAVED, TYPICAL_NEED
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["DARKNESS", "EXERCISES", "HONEST"]

# 01.1: the rival that has learnt nothing ------------------------------------------------------------


def _auc(scores: np.ndarray, defective: np.ndarray, *, tie: float = 0.5) -> float:
    """Over all pairs of a defective and an intact cell: how often the defective one has the higher score."""
    differences = scores[defective == 1][:, None] - scores[defective == 0][None, :]
    return float(np.mean(np.where(differences == 0, tie, differences > 0)))


def _grey(i: Inputs) -> np.ndarray:
    return i["images"].reshape(len(i["images"]), -1).astype(int).sum(axis=1)


def _both_labels(i: Inputs, auc) -> Outputs:
    return {"auc": auc(i["defective"]), "relabelled": auc(1 - i["defective"])}


def _darkness(i: Inputs) -> Outputs:
    return _both_labels(i, lambda labels: _auc(-_grey(i), labels))


def _ties_won(i: Inputs) -> Outputs:
    return _both_labels(i, lambda labels: _auc(-_grey(i), labels, tie=1.0))


def _ties_lost(i: Inputs) -> Outputs:
    return _both_labels(i, lambda labels: _auc(-_grey(i), labels, tie=0.0))


def _brightness(i: Inputs) -> Outputs:
    return _both_labels(i, lambda labels: _auc(_grey(i), labels))


def _better_side(i: Inputs) -> Outputs:
    return _both_labels(i, lambda labels: max(_auc(-_grey(i), labels), _auc(_grey(i), labels)))


def _wrapped(i: Inputs) -> Outputs:
    darkness = (-i["images"]).reshape(len(i["images"]), -1).astype(int).sum(axis=1)
    return _both_labels(i, lambda labels: _auc(darkness, labels))


def _accuracy(i: Inputs) -> Outputs:
    said = _grey(i) < 127.5 * i["images"][0].size
    return _both_labels(i, lambda labels: float(np.mean(said == labels)))


def _any_cells(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(5, 9))
    images = rng.choice([0, 50, 100, 150, 200, 250], size=(count, 2, 2), p=[0.3, *[0.14] * 5]).astype(np.uint8)
    defective = rng.permutation([0, 0, 1, 1, *rng.integers(2, size=count - 4)])
    return {"images": images, "defective": defective}


def _draw_cells(rng: np.random.Generator) -> Inputs:
    ways = (_darkness, _ties_won, _ties_lost, _brightness, _better_side, _wrapped, _accuracy)
    return draw_apart(rng, _any_cells, ways)


def _probe_cells(answer, inputs: Inputs) -> Outputs:
    images, defective, what = inputs["images"], inputs["defective"], "what `darkness_auc` returned"
    return {
        "auc": plain(answer(images, defective), what=what),
        "relabelled": plain(answer(images, 1 - defective), what=what),
    }


DARKNESS = Exercise(
    id="01.1",
    title="The dumbest rival",
    points=3,
    difficulty=2,
    minutes=15,
    entry="darkness_auc",
    draw=_draw_cells,
    probe=_probe_cells,
    oracle=_darkness,
    aspects=(
        Aspect("auc", "the AUC of darkness", 0.6, 1e-6),
        Aspect("relabelled", "the AUC where intact and defective have changed about", 0.4, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "darkness wrapped round",
            "The pixels are whole numbers of one byte, from 0 to 255, and such a number has no minus: -images makes 1 "
            "of 255, 255 of 1, but of black, 0, it makes 0 again. Average first, or turn the pixels into floats.",
            wrong=_wrapped,
        ),
        Misconception(
            "the direction was chosen by the labels",
            "You took whichever of AUC and 1 - AUC is larger. A rule that looks at the test labels to choose its sign "
            "is never worse than a coin, and means nothing. The check calls you again with intact and defective "
            "changed about: yours has {outputs[auc]:.3f} and {outputs[relabelled]:.3f}, and the two should sum to 1.",
            wrong=_better_side,
        ),
        Misconception(
            "the brighter, the more defective",
            "{outputs[auc]:.3f} is what brightness has. The rival's one piece of knowledge is that *dark* cells are "
            "defective.",
            wrong=_brightness,
        ),
        Misconception(
            "ties counted as won",
            "Where a defective and an intact cell are equally dark, you counted the pair as won. It is a coin toss, "
            "and counts one half: otherwise a rule that says the same of every cell would have an AUC of 1.",
            wrong=_ties_won,
        ),
        Misconception(
            "ties counted as lost",
            "Where a defective and an intact cell are equally dark, you counted the pair as lost. It is a coin toss, "
            "and counts one half: otherwise a rule that says the same of every cell would have an AUC of 0.",
            wrong=_ties_lost,
        ),
        Misconception(
            "accuracy, not AUC",
            "{outputs[auc]:.3f} is the accuracy of calling a cell defective when it is darker than mid-grey. AUC has "
            "no threshold: it asks how often a defective cell is darker than an intact one.",
            wrong=_accuracy,
        ),
    ),
    hints=(
        "First one number a cell, its mean grey. Then look at pairs: one defective cell and one intact one.",
        "A pair counts 1 where the defective cell is darker, 1/2 where both are equally dark, 0 where it is brighter. "
        "The AUC is the mean over all pairs.",
        "grey = images.reshape(len(images), -1).astype(float).sum(axis=1); d, i = grey[defective == 1][:, None], "
        "grey[defective == 0]; then the mean of (d < i) + 0.5 * (d == i).",
    ),
)

# 01.5: choosing on validation, and the luck of choosing on the test ------------------------------------------------


def _chosen(chooser: np.ndarray, scores: np.ndarray) -> float:
    """Each seed (row) takes the epoch where the chooser is best; the mean of the scores there."""
    return float(scores[np.arange(len(scores)), chooser.argmax(axis=1)].mean())


def _honest(i: Inputs) -> Outputs:
    score = _chosen(i["val"], i["test"])
    return {"score": score, "luck": _chosen(i["test"], i["test"]) - score}


def _on_test(i: Inputs) -> Outputs:
    return {"score": _chosen(i["test"], i["test"]), "luck": _honest(i)["luck"]}


def _val_reported(i: Inputs) -> Outputs:
    score = _chosen(i["val"], i["val"])
    return {"score": score}


def _last_epoch(i: Inputs) -> Outputs:
    return {"score": float(i["test"][:, -1].mean())}


def _one_epoch(i: Inputs) -> Outputs:
    return {"score": float(i["test"][:, i["val"].mean(axis=0).argmax()].mean())}


def _luck_of_means(i: Inputs) -> Outputs:
    score = _honest(i)["score"]
    return {"score": score, "luck": float(i["test"].mean(axis=0).max()) - score}


def _luck_of_val(i: Inputs) -> Outputs:
    score = _honest(i)["score"]
    return {"score": score, "luck": _chosen(i["val"], i["val"]) - score}


def _any_epochs(rng: np.random.Generator) -> Inputs:
    shape = (int(rng.integers(2, 5)), int(rng.integers(3, 6)))
    quality = 0.7 + 0.05 * rng.random(shape)
    val, test = (np.round(quality + 0.05 * rng.normal(size=shape), 3) for _ in range(2))
    return {"val": val, "test": test}


def _draw_epochs(rng: np.random.Generator) -> Inputs:
    while True:
        inputs = draw_apart(
            rng, _any_epochs, (_honest, _on_test, _luck_of_means, _luck_of_val, *_OTHER_SCORES), tolerance=2e-3
        )
        scores = [way(inputs)["score"] for way in (_honest, _on_test, *_OTHER_SCORES)]
        rows = [row for name in ("val", "test") for row in inputs[name]]
        # No two ways with the same score, and no two best epochs.
        if np.diff(np.sort(scores)).min() > 1e-3 and all((row == row.max()).sum() == 1 for row in rows):
            return inputs


_OTHER_SCORES = (_val_reported, _last_epoch, _one_epoch)


def _probe_epochs(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(**inputs), what="what `honest_score` returned")
    if not isinstance(found, (list, np.ndarray)) or len(found) != 2:
        raise AnswerError("`honest_score` should return two numbers, the score and the luck: return score, luck")
    return {"score": found[0], "luck": found[1]}


HONEST = Exercise(
    id="01.5",
    title="What choosing on the test split adds",
    points=3,
    difficulty=2,
    minutes=10,
    entry="honest_score",
    draw=_draw_epochs,
    probe=_probe_epochs,
    oracle=_honest,
    aspects=(
        Aspect("score", "the score of the epochs that validation chose", 0.6, 1e-6),
        Aspect("luck", "what choosing on the test split would add", 0.4, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "chosen on the test split",
            "{outputs[score]:.3f} is the best test score of each seed: the test split chose the epoch. Validation has "
            "to choose, and then the test split says {expected[score]:.3f}.",
            wrong=lambda i: {"score": _on_test(i)["score"]},
        ),
        Misconception(
            "the validation score was reported",
            "{outputs[score]:.3f} is the score on the split that did the choosing, and so it is too good: the epoch "
            "was taken *because* it was lucky there. Report the test score of that epoch.",
            wrong=_val_reported,
        ),
        Misconception(
            "the last epoch",
            "You reported the last epoch, which nobody chose. Honest, but asked for is the epoch that validation likes "
            "best.",
            wrong=_last_epoch,
        ),
        Misconception(
            "one epoch for all seeds",
            "You chose one epoch by the mean over the seeds. Each seed is a training of its own with a validation "
            "split of its own, and chooses its own epoch.",
            wrong=_one_epoch,
        ),
        Misconception(
            "the luck of one epoch for all seeds",
            "The score is right. For the luck you let all seeds share an epoch; whoever looks at the test split does "
            "so in each seed, and takes the best of each.",
            wrong=_luck_of_means,
        ),
        Misconception(
            "how much validation promises",
            "The score is right. As the luck you gave how much better the chosen epochs look on *validation* than on "
            "the test split. That is luck too, of the choosing split; asked for is what choosing on the test split "
            "would add.",
            wrong=_luck_of_val,
        ),
    ),
    hints=(
        "One row a seed. For each row: where is validation best, and what is the test score *there*?",
        "val.argmax(axis=1) is the epoch that each seed chooses. test.max(axis=1) is what a cheat would report.",
        "score = test[np.arange(len(test)), val.argmax(axis=1)].mean(); luck = test.max(axis=1).mean() - score.",
    ),
)

EXERCISES = (DARKNESS, RANDOM_TWIN, TYPICAL_NEED, COMPUTE_SAVED, HONEST)
