"""The clinic after lesson 03: a drifting backbone, a careless evaluation, another model's images, a test that chose."""

import numpy as np
import torch

from tlcourse.checks.lesson03c_training import ACCURACY, TRAIN_HEAD
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["CHOOSE", "EXERCISES", "PREPARE"]

# 03c.3: the normalisation of another model ------------------------------------------------------------

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "top": 1, "order": "RGB"}
NETWORKS = (
    {"mean": [0.5, 0.45, 0.4], "std": [0.5, 0.4, 0.3], "top": 1, "order": "RGB"},
    {"mean": [103.94, 116.78, 123.68], "std": [57.0, 58.0, 59.0], "top": 255, "order": "BGR"},  # as Caffe's networks
    {"mean": [0.4, 0.45, 0.5], "std": [0.3, 0.25, 0.2], "top": 1, "order": "BGR"},
)


def _draw_prepare(rng: np.random.Generator) -> Inputs:
    images = rng.integers(0, 256, size=(1, 3, int(rng.integers(1, 3)), 2)).astype(np.uint8)
    return {"images": images, "preprocessing": dict(NETWORKS[rng.integers(len(NETWORKS))])}


def _probe_prepare(answer, inputs: Inputs) -> Outputs:
    made = answer(torch.from_numpy(inputs["images"]), inputs["preprocessing"])
    return {"prepared": plain(made, what="what `prepare` returned")}


def _prepared(images: np.ndarray, how: dict) -> Outputs:
    def column(values: list[float]) -> np.ndarray:
        return np.array(values)[:, None, None]

    pixels = images.astype(float) / 255 * how["top"]
    pixels = pixels[:, ::-1] if how["order"] == "BGR" else pixels
    return {"prepared": (pixels - column(how["mean"])) / column(how["std"])}


def _prepared_otherwise(**changes):
    return lambda i: _prepared(i["images"], {**i["preprocessing"], **changes})


def _turned_after(i: Inputs) -> Outputs:
    prepared = _prepared(i["images"], {**i["preprocessing"], "order": "RGB"})["prepared"]
    return {"prepared": prepared[:, ::-1] if i["preprocessing"]["order"] == "BGR" else prepared}


PREPARE = Exercise(
    id="03c.3",
    title="Lines from another network",
    points=3,
    difficulty=2,
    minutes=10,
    entry="prepare",
    draw=_draw_prepare,
    probe=_probe_prepare,
    oracle=lambda i: _prepared(i["images"], i["preprocessing"]),
    aspects=(Aspect("prepared", "the numbers that enter the network", 1.0, 1e-4),),
    misconceptions=(
        Misconception(
            "the normalisation of another model",
            "These are the images as ImageNet's usual networks want them. This network was trained with the mean "
            "{inputs[preprocessing][mean]}, and so on: preprocessing belongs to the network, and is not a constant.",
            wrong=lambda i: _prepared(i["images"], IMAGENET),
        ),
        Misconception(
            "the range was passed over",
            "This network takes pixels from 0 to {inputs[preprocessing][top]}, and you gave it those from 0 to 1: "
            "with a mean "
            "of {inputs[preprocessing][mean]}, everything is black to it.",
            wrong=_prepared_otherwise(top=1),
        ),
        Misconception(
            "the order was passed over",
            "This network was trained on {inputs[preprocessing][order]}, and the images are RGB: red and blue are "
            "swapped. "
            "On grey images nobody would have noticed.",
            wrong=_prepared_otherwise(order="RGB"),
        ),
        Misconception(
            "turned round after the mean",
            "You swapped the channels after the mean was taken off. Mean and std are listed in the order of the "
            "*network*: "
            "first bring the channels into that order.",
            wrong=_turned_after,
        ),
        Misconception(
            "the shift without the spread",
            "The means are taken off, but the division by the std is missing.",
            wrong=_prepared_otherwise(std=[1.0, 1.0, 1.0]),
        ),
    ),
    hints=(
        "Which numbers in this function come from the network that is to be used, and which from a tutorial?",
        "`preprocessing` says four things: mean, std, order and top. The code uses none of them.",
        "Bytes to 0 ... top: divide by 255 and multiply by top. For BGR: images.flip(1). Then mean and std, each of "
        "shape "
        "(3, 1, 1).",
    ),
    draws=10,
)

# 03c.4: the test set chose ------------------------------------------------------------


def _draw_choose(rng: np.random.Generator) -> Inputs:
    while True:
        names = [f"C = {strength:g}" for strength in (0.001, 0.01, 0.1, 1.0, 10.0)[: int(rng.integers(3, 6))]]
        rows = rng.uniform(0.6, 0.9, (len(SPLITS), len(names))).round(3).tolist()
        table = {split: dict(zip(names, row, strict=True)) for split, row in zip(SPLITS, rows, strict=True)}
        winners = {max(row, key=row.get) for row in table.values()}
        if len(winners) == len(SPLITS) and all(len(set(row.values())) == len(names) for row in table.values()):
            return {"scores": table}


SPLITS = ("train", "val", "test")


def _probe_choose(answer, inputs: Inputs) -> Outputs:
    table, opened = inputs["scores"], []

    def score(candidate: str, split: str) -> float:
        if split not in table:
            raise ValueError(f"there is no split {split!r}: use 'train', 'val' or 'test'")
        if candidate not in table[split]:
            raise ValueError(f"there is no candidate {candidate!r}")
        opened.append(split)
        return table[split][candidate]

    found = plain(answer(list(table["val"]), score), what="what `choose` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`choose` should return the chosen candidate and its score, (candidate, score)")
    return {"chosen": found[0], "reported": found[1], "test_opened": opened.count("test")}


def _chosen(i: Inputs, *, by: str = "val", report: str = "test", opened: int = 1, pick=max) -> Outputs:
    row = i["scores"][by]
    chosen = pick(row, key=row.get)
    return {"chosen": chosen, "reported": i["scores"][report][chosen], "test_opened": opened}


CHOOSE = Exercise(
    id="03c.4",
    title="The test set that chose",
    points=3,
    difficulty=1,
    minutes=10,
    entry="choose",
    draw=_draw_choose,
    probe=_probe_choose,
    oracle=_chosen,
    aspects=(
        Aspect("chosen", "the candidate", 0.4),
        Aspect("reported", "the score that is reported", 0.3, 1e-9),
        Aspect("test_opened", "the test split is opened once", 0.3),
    ),
    misconceptions=(
        Misconception(
            "the test set was used to choose",
            "You chose {outputs[chosen]} because its *test* score is the highest: {outputs[reported]:.3f}. A score "
            "that has "
            "chosen is flattered. By the validation split it is {expected[chosen]}, whose test score can be believed: "
            "{expected[reported]:.3f}.",
            shows=lambda i, o, e: o["chosen"] == _chosen(i, by="test")["chosen"],
        ),
        Misconception(
            "the flattered score was reported",
            "You chose rightly and report {outputs[reported]:.3f}, the *validation* score, which has chosen and is "
            "flattered. "
            "Report what it does on cells that chose nothing.",
            wrong=lambda i: {"chosen": _chosen(i)["chosen"], "reported": _chosen(i, report="val")["reported"]},
        ),
        Misconception(
            "the test was opened for every candidate",
            "Choice and report are right, but the test split was opened {outputs[test_opened]} times. A test that is "
            "opened "
            "for every candidate will, sooner or later, choose one. Open it once, for the one that was chosen.",
            shows=lambda i, o, e: (
                o["chosen"] == e["chosen"] and o["reported"] == e["reported"] and o["test_opened"] > 1
            ),
        ),
        Misconception(
            "chosen by the training score",
            "{outputs[chosen]} has the highest score on the cells that it learnt from. That rewards learning by heart.",
            shows=lambda i, o, e: o["chosen"] == _chosen(i, by="train")["chosen"],
        ),
        Misconception(
            "the worst was chosen",
            "{outputs[chosen]} has the lowest validation score. Higher is better here; with a loss it would be the "
            "other way "
            "round.",
            shows=lambda i, o, e: o["chosen"] == _chosen(i, pick=min)["chosen"],
        ),
    ),
    hints=(
        "Which split chooses, and which one is opened at the end?",
        "The highest score(candidate, 'val') chooses. score(candidate, 'test') may be called once in the whole "
        "function.",
        "best = max(candidates, key=lambda c: score(c, 'val')); return best, score(best, 'test').",
    ),
)

EXERCISES = (TRAIN_HEAD, ACCURACY, PREPARE, CHOOSE)
