"""The task of lesson 07 on segmentation: overlap of masks, where most pixels are background."""

import numpy as np
import torch

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.segmentation import segmentation_scores

__all__ = ["FOREGROUND"]

# 07.4: overlap without the background ------------------------------------------------------------


def _some_masks(rng: np.random.Generator) -> Inputs:
    """Classes 1 and 2 in both, one that is only predicted, one that nobody has; each image has some foreground."""
    shape = (2, int(rng.integers(3, 5)), int(rng.integers(3, 5)))
    masks = rng.choice([0, 1, 2], size=shape, p=[0.6, 0.25, 0.15])
    predictions = np.where(rng.random(shape) < 0.65, masks, rng.integers(0, 4, shape))
    predictions[0, 0, 0] = 3
    masks[0, 0, 0] = 0
    masks[:, 0, 1] = predictions[:, 0, 1] = 1
    names = np.array([0, *rng.permutation([1, 2, 3, 4])])
    return {"masks": names[masks], "predictions": names[predictions], "classes": len(names)}


def _draw_masks(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_masks, [_oracle_masks, *_MASK_WAYS.values()])


def _probe_masks(answer, inputs: Inputs) -> Outputs:
    found = answer(inputs["masks"], inputs["predictions"], inputs["classes"])
    return {"iou": plain(found, what="what `foreground_iou` returned")}


def _oracle_masks(inputs: Inputs) -> Outputs:
    masks, predictions = (torch.from_numpy(inputs[name]) for name in ("masks", "predictions"))
    return {"iou": segmentation_scores(masks, predictions, classes=inputs["classes"])["foreground_iou"]}


def _counts(masks: np.ndarray, predictions: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class: pixels of the mask, of the prediction, of both."""
    true, said = (np.array([(values == label).sum() for label in range(classes)]) for values in (masks, predictions))
    both = np.array([((masks == label) & (predictions == label)).sum() for label in range(classes)])
    return true, said, both


def _of(inputs: Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _counts(inputs["masks"], inputs["predictions"], inputs["classes"])


def _mean(top: np.ndarray, bottom: np.ndarray, *, first: int = 1, absent: float | None = None) -> Outputs:
    """The mean of top / bottom over the classes from `first` on; a class with nothing below counts `absent`, or not."""
    top, bottom = top[first:], bottom[first:]
    shares = np.divide(top, bottom, out=np.full(len(top), -1.0 if absent is None else absent), where=bottom > 0)
    return {"iou": float(shares[shares >= 0].mean())}


def _overlaps(inputs: Inputs, **options) -> Outputs:
    true, said, both = _of(inputs)
    return _mean(both, true + said - both, **options)


def _of_true_classes(inputs: Inputs) -> Outputs:
    true, said, both = _of(inputs)
    return _mean(both, (true + said - both) * (true > 0))


def _image_by_image(inputs: Inputs) -> Outputs:
    values = []
    for mask, prediction in zip(inputs["masks"], inputs["predictions"], strict=True):
        true, said, both = _counts(mask, prediction, inputs["classes"])
        values.append(_mean(both, true + said - both)["iou"])
    return {"iou": float(np.mean(values))}


def _dice(inputs: Inputs) -> Outputs:
    true, said, both = _of(inputs)
    return _mean(2 * both, true + said)


def _doubled_union(inputs: Inputs) -> Outputs:
    true, said, both = _of(inputs)
    return _mean(both, true + said)


def _recall(inputs: Inputs) -> Outputs:
    true, _, both = _of(inputs)
    return _mean(both, true)


def _pooled(inputs: Inputs) -> Outputs:
    true, said, both = (values[1:].sum() for values in _of(inputs))
    return {"iou": float(both / (true + said - both))}


_MASK_WAYS = {
    "background": lambda i: _overlaps(i, first=0),
    "accuracy": lambda i: {"iou": float((i["masks"] == i["predictions"]).mean())},
    "absent counts 0": lambda i: _overlaps(i, absent=0.0),
    "absent counts 1": lambda i: _overlaps(i, absent=1.0),
    "true classes": _of_true_classes,
    "images": _image_by_image,
    "dice": _dice,
    "doubled": _doubled_union,
    "recall": _recall,
    "pooled": _pooled,
}

FOREGROUND = Exercise(
    id="07.4",
    title="The overlap that background cannot buy",
    points=3,
    difficulty=2,
    minutes=15,
    entry="foreground_iou",
    draw=_draw_masks,
    probe=_probe_masks,
    oracle=_oracle_masks,
    aspects=(Aspect("iou", "the mean overlap of the foreground", 1.0, 1e-6),),
    misconceptions=(
        Misconception(
            "accuracy of the pixels",
            "{outputs[iou]:.3f} is the share of pixels that are right. Most are background, and a network that never "
            "finds anything would still get a high one. The overlap is {expected[iou]:.3f}.",
            wrong=_MASK_WAYS["accuracy"],
        ),
        Misconception(
            "the background counts",
            "Class 0 is in your mean. It is large and easy, and lifts every network. The mean goes over the classes "
            "from 1 on.",
            wrong=_MASK_WAYS["background"],
        ),
        Misconception(
            "an absent class counts nothing",
            "A class that is neither in the masks nor predicted counts 0 with you: the network is blamed for what was "
            "not there and what it did not say. Leave it out of the mean.",
            wrong=_MASK_WAYS["absent counts 0"],
        ),
        Misconception(
            "an absent class counts as found",
            "A class that is neither in the masks nor predicted counts 1 with you: the more classes the course names, "
            "the better each network looks. Leave it out of the mean.",
            wrong=_MASK_WAYS["absent counts 1"],
        ),
        Misconception(
            "what is only predicted was passed over",
            "Your mean goes over the classes of the masks alone. One class was predicted where it is not: those pixels "
            "are its union, nothing is its intersection, and it counts 0.",
            wrong=_MASK_WAYS["true classes"],
        ),
        Misconception(
            "image by image",
            "You have taken the overlap of each image and averaged over images. A class of two pixels in one image "
            "then weighs as much as one of two thousand in another. Count over all images together.",
            wrong=_MASK_WAYS["images"],
        ),
        Misconception(
            "Dice, not overlap",
            "{outputs[iou]:.3f} is the Dice score, twice the intersection over the sum of both areas. It is never "
            "below the IoU; the two must not be compared.",
            wrong=_MASK_WAYS["dice"],
        ),
        Misconception(
            "the intersection is in the union twice",
            "You divided by the sum of both areas, in which the pixels that both have are counted twice: a perfect "
            "prediction would get 0.5. Take the intersection off once.",
            wrong=_MASK_WAYS["doubled"],
        ),
        Misconception(
            "divided by the mask alone",
            "You divided by the mask's own pixels. That is recall: a class that is predicted everywhere would get 1. "
            "The union holds what was predicted in vain as well.",
            wrong=_MASK_WAYS["recall"],
        ),
        Misconception(
            "all classes in one fraction",
            "You added up intersections and unions over the classes before dividing. The largest class decides then. "
            "Divide for each class, and take the mean.",
            wrong=_MASK_WAYS["pooled"],
        ),
    ),
    hints=(
        "For one class: `masks == label` and `predictions == label` are two truth values a pixel. `&` and `|` give "
        "intersection and union.",
        "A class with a union of 0 is left out. The loop begins with class 1.",
        "For label in range(1, classes): union = ((masks == label) | (predictions == label)).sum(); if union: append "
        "((masks == label) & (predictions == label)).sum() / union. Return the mean of the list.",
    ),
)
