"""Which digit is on this solar cell, and which pixels are its: two questions under the same plans. See lesson 07.

What is run, apart from how often (`lesson07_ranking`): the kept results depend on this file's text, not on the list of
seeds.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from torch import Tensor

from tlcourse.backbones import Model, attach_head, load_embedded
from tlcourse.data import Split, Task
from tlcourse.evaluation import evaluate
from tlcourse.pasted import paste_digits
from tlcourse.plans import Plan, Rule
from tlcourse.segmentation import attach_dense_head, evaluate_segmentation, train_segmentation
from tlcourse.training import train

__all__ = ["CLASSES", "EPOCHS", "LABELS", "OPENED", "QUESTIONS", "opening_plan", "pasted_tasks", "run_pixels"]

SAMPLES, LABELS, CLASSES = 600, 120, 5
EPOCHS, BATCH = {"picture": 12, "pixels": 30}, 8  # after 12 the training pictures are known by heart, not their pixels
LR, HEAD_LR, DECAY = 1e-3, 1e-2, 1e-4
QUESTIONS = ("picture", "pixels")

# What is opened -> the first stage that moves, None for none. What follows it moves too.
OPENED = {"frozen": None, "last 4 blocks": "block4", "everything": "stem"}


@lru_cache(maxsize=1)
def pasted_tasks(seed: int) -> dict[str, Task]:
    """The same pictures under both questions: one digit out of five on each cell, at 64 px, 120 of them to learn from.

    Under ``"pixels"`` the labels are masks, digit or background; under ``"picture"`` the digit, 0 to 4.
    """
    pasted = paste_digits(samples=SAMPLES, classes=CLASSES, digits=(1, 1), labels=LABELS, seed=seed)
    of_the_picture = {part: _labelled(getattr(pasted, part), _digit) for part in ("train", "val", "test")}
    of_pixels = {part: _labelled(getattr(pasted, part), _any_digit) for part in ("train", "val", "test")}
    picture = replace(pasted, name="pasted digit", class_names=pasted.class_names[1:], **of_the_picture)
    pixels = replace(pasted, name="pasted pixels", class_names=("background", "digit"), **of_pixels)
    return {"picture": picture, "pixels": pixels}


def opening_plan(model: Model, opened: str) -> Plan:
    """The head at `HEAD_LR`, the stages from the first opened one on at `LR`, what comes before frozen.

    Parameters
    ----------
    opened
        A key of `OPENED`.

    Raises
    ------
    KeyError
        If there is no such key.
    """
    stages = list(model.backbone.stages)
    first = OPENED[opened]
    moving = [] if first is None else stages[stages.index(first) :]
    rules = [Rule(stage, LR, DECAY) for stage in moving if any(True for _ in model.backbone.stages[stage].parameters())]
    return Plan(opened, (Rule("head", HEAD_LR, DECAY), *rules, Rule("*", 0.0)))


def run_pixels(question: str, opened: str, *, seed: int) -> dict[str, float]:
    """Train on 120 pictures in `EPOCHS` passes, ask the question of the test split.

    Parameters
    ----------
    question
        ``"picture"``: which digit, a linear head on the pooled features. ``"pixels"``: which pixels are a digit's, a
        dense head on stages of every size.
    opened
        A key of `OPENED`.
    seed
        Draws the pictures, the head and the order of the batches.

    Returns
    -------
    dict
        ``score``: balanced accuracy over pictures, or intersection over union of the digits' pixels; and
        ``train_score``, the same on the training pictures.

    Raises
    ------
    KeyError
        If there is no such question or nothing of that name to open.
    """
    task = pasted_tasks(seed)[question]
    backbone = load_embedded("efficientnet_lite0")
    if question == "pixels":
        model = attach_dense_head(backbone, task, seed=seed)
        train_segmentation(
            model, task, opening_plan(model, opened), epochs=EPOCHS[question], batch_size=BATCH, seed=seed
        )
        measure, name = evaluate_segmentation, "foreground_iou"
    else:
        model = attach_head(backbone, task, seed=seed)
        plan = opening_plan(model, opened)
        train(model, task, plan, epochs=EPOCHS[question], batch_size=BATCH, seed=seed, progress=False)
        measure, name = evaluate, "balanced_accuracy"
    return {"score": measure(model, task.test)[name], "train_score": measure(model, task.train)[name]}


def _labelled(split: Split, of: Callable[[Tensor], Tensor]) -> Split:
    return replace(split, labels=of(split.labels))


def _digit(masks: Tensor) -> Tensor:
    return masks.flatten(1).amax(dim=1) - 1  # the one digit that a mask holds


def _any_digit(masks: Tensor) -> Tensor:
    return masks.clamp(max=1)
