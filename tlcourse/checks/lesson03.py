"""Tasks of lesson 03: feature extraction."""

import numpy as np

from tlcourse.checks.lesson03_freezing import EXTRACT, FREEZE
from tlcourse.checks.lesson03_statistics import IMAGENET_LEFT, MEASURE_MOMENTUM
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["AS_SEEN", "EXERCISES"]

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def _draw_seen(rng: np.random.Generator) -> Inputs:
    # Three pixels wide, so that statistics which are spread along the width by mistake still fit.
    halves = {"mean": [0.5, 0.45, 0.4], "std": [0.5, 0.4, 0.3]}
    used, right = (IMAGENET, halves) if rng.integers(2) else (halves, IMAGENET)
    return {"image": rng.random((3, int(rng.integers(1, 4)), 3)), "used": used, "right": right}


def _probe_seen(answer, inputs: Inputs) -> Outputs:
    return {"seen": plain(answer(**inputs), what="what `as_seen` returned")}


def _column(values: list[float]) -> np.ndarray:
    return np.array(values)[:, None, None]


def _normalised(image: np.ndarray, how: dict) -> np.ndarray:
    return (image - _column(how["mean"])) / _column(how["std"])


def _undone(values: np.ndarray, how: dict) -> np.ndarray:
    return values * _column(how["std"]) + _column(how["mean"])


def _along_width(inputs: Inputs) -> Outputs:
    used, right = ({key: np.array(value) for key, value in inputs[name].items()} for name in ("used", "right"))
    if inputs["image"].shape[-1] != 3:
        return {}
    return {"seen": (inputs["image"] - used["mean"]) / used["std"] * right["std"] + right["mean"]}


AS_SEEN = Exercise(
    id="03.5",
    title="What the network believes to see",
    points=3,
    difficulty=2,
    minutes=10,
    entry="as_seen",
    draw=_draw_seen,
    probe=_probe_seen,
    oracle=lambda i: {"seen": _undone(_normalised(i["image"], i["used"]), i["right"])},
    aspects=(Aspect("seen", "the image as the network takes it", 1.0, 1e-5),),
    misconceptions=(
        Misconception(
            "the two preparations changed places",
            "You answered for an image that was prepared rightly and undone wrongly. What happens is the other way "
            "round: "
            "`used` is applied, and the network understands the result by `right`.",
            wrong=lambda i: {"seen": _undone(_normalised(i["image"], i["right"]), i["used"])},
        ),
        Misconception(
            "still normalised",
            "These are the numbers that enter the network. Asked for is the image from which the *right* preparation "
            "would "
            "have made them: undo it.",
            wrong=lambda i: {"seen": _normalised(i["image"], i["used"])},
        ),
        Misconception(
            "normalised twice",
            "You applied both preparations, one after the other. The second one has to be undone.",
            wrong=lambda i: {"seen": _normalised(_normalised(i["image"], i["used"]), i["right"])},
        ),
        Misconception(
            "the shift without the spread",
            "The means are accounted for, the standard deviations are not: a wrong spread changes the contrast.",
            wrong=lambda i: {"seen": i["image"] - _column(i["used"]["mean"]) + _column(i["right"]["mean"])},
        ),
        Misconception(
            "channels taken for columns",
            "An array of three numbers is spread along the *last* axis, the width. Here the image happens to be three "
            "pixels wide, so nothing complained. The channels are the first axis.",
            wrong=_along_width,
        ),
    ),
    hints=(
        "Write down the number that enters the network for one pixel of one channel. Then ask which pixel the right "
        "preparation turns into that number.",
        "(p - used_mean) / used_std = (q - right_mean) / right_std: solve it for q.",
        "q = (p - used_mean) / used_std * right_std + right_mean, with each of the four as an array of shape (3, 1, "
        "1).",
    ),
)

EXERCISES = (IMAGENET_LEFT, MEASURE_MOMENTUM, FREEZE, EXTRACT, AS_SEEN)
