"""Remedies at an equal budget: a network that judges solar cells learns to read digits. See lesson 09.

What is run, apart from how often (`lesson09`): the kept results depend on this file's text, not on the list of seeds.
"""

import copy
import time
from functools import cache, lru_cache

from torch import nn

from tlcourse.backbones import Backbone, Model, attach_head, load_embedded
from tlcourse.data import Task, load_task
from tlcourse.evaluation import evaluate
from tlcourse.plans import Plan, Rule, Schedule
from tlcourse.remedies import EWC, L2SP, Distillation, Dropout, EarlyStopping, Remedy, Replay, WeightAveraging
from tlcourse.strategies import full_fine_tune
from tlcourse.strategies import lora as lora_plan
from tlcourse.training import train

__all__ = ["EPOCHS", "LR", "REMEDIES", "cells_then_digits", "learn_cells", "remedied_schedule", "run_remedy"]

CELLS, CELL_EPOCHS = 400, 4
DIGITS, EPOCHS = 500, 6
LR = 1e-3
BUFFER_RATIO = 0.5
STILL = "affine"  # BatchNorm keeps the statistics of the cells: lesson 08 shows what moving ones cost

# Remedy -> what it does with its one value. What is not a penalty is a plan or an option.
REMEDIES = {
    "plain": lambda value: Remedy(),
    "statistics follow": lambda value: Remedy(),
    "small rate": lambda value: Remedy(),
    "early stopping": EarlyStopping,
    "weight decay": lambda value: Remedy(),
    "dropout": Dropout,
    "gradual unfreezing": lambda value: Remedy(),
    "LoRA": lambda value: Remedy(),
    "L2-SP": L2SP,
    "EWC": EWC,
    "distillation": Distillation,
    "replay": lambda value: Replay(value, ratio=BUFFER_RATIO),
    "weight averaging": WeightAveraging,
}


@cache
def _with_dropout() -> Backbone:
    """EfficientNet-Lite0 with a layer of dropout behind its neck, at 0: the strategy of that name opens it."""
    backbone = load_embedded("efficientnet_lite0")
    stages = dict(backbone.stages.items())
    stages["neck"] = nn.Sequential(*stages["neck"], nn.Dropout(0.0))
    return Backbone(
        backbone.name, stages, feature_dim=backbone.feature_dim, preprocessing=backbone.preprocessing, pretrained=True
    ).eval()


def cells_then_digits(seed: int) -> tuple[Task, Task]:
    """The old task, defects of 400 mono solar cells at 64 px, and the new one, 500 handwritten digits at 28 px."""
    cells = load_task("solar", labels=CELLS, cells="mono", seed=seed, size=64)
    return cells, load_task("digits", labels=DIGITS, seed=seed)


@lru_cache(maxsize=1)
def learn_cells(seed: int) -> Model:
    """The model that has something to forget. It is kept for the next point: copy it before you train it."""
    cells, _ = cells_then_digits(seed)
    model = attach_head(_with_dropout(), cells, seed=seed)
    train(model, cells, full_fine_tune(model, lr=LR), epochs=CELL_EPOCHS, seed=seed, progress=False)
    return model


def remedied_schedule(model: Model, remedy: str, value: float | None) -> Schedule:
    """The plans for the digits, `EPOCHS` in all: every stage at `LR` with still statistics, or what the remedy changes.

    Parameters
    ----------
    remedy
        A key of `REMEDIES`.
    value
        Its one value: the backbone's rate (``"small rate"``), the decay, the factor from stage to stage (``"gradual
        unfreezing"``: three stages more after each epoch), the rank (``"LoRA"``); others do not change the plan.
    """
    if remedy == "LoRA":
        return ((lora_plan(model, rank=int(value), lr=LR, head_lr=LR), EPOCHS),)
    lr = value if remedy == "small rate" else LR
    decay = value if remedy == "weight decay" else 0.0
    if remedy == "gradual unfreezing":
        names = [name for name, stage in model.stages.items() if any(True for _ in stage.parameters())][::-1]
        norms = [None, *[STILL] * (len(names) - 1)]  # the head has none
        rules = [Rule(name, LR / value**depth, 0.0, norms[depth]) for depth, name in enumerate(names)]
        opened = [min(1 + 3 * phase, len(rules)) for phase in range(EPOCHS)]
        return tuple((Plan(f"{n} stages open", (*rules[:n], Rule("*", 0.0))), 1) for n in opened)
    norm = None if remedy == "statistics follow" else STILL
    return ((Plan(remedy, (Rule("head", LR, decay), Rule("*", lr, decay, norm))), EPOCHS),)


def run_remedy(remedy: str, value: float | None = None, *, seed: int) -> dict[str, float]:
    """Learn the cells, then the digits under a remedy, on 500 digits in six epochs; open the test splits.

    Parameters
    ----------
    remedy, value
        As in `remedied_schedule` and `REMEDIES`.
    seed
        Draws the splits, the labels, the heads and the order of the batches.

    Returns
    -------
    dict
        ``old`` and ``new``: AUC on the cells and accuracy on the digits, test splits; ``old_before``, the former before
        the digits; ``old_val`` and ``new_val``, the same two on the validation splits, where a remedy's value is
        chosen; ``kept_bytes``, what the remedy keeps of the old task; ``seconds``, of training and of what the remedy
        does.
    """
    cells, digits = cells_then_digits(seed)
    model, held = copy.deepcopy(learn_cells(seed)), REMEDIES[remedy](value)
    before = evaluate(model, cells.test)["auc"]
    began = time.perf_counter()
    held.keep(model, cells, head=cells.name)
    model.add_head(digits.name, len(digits.class_names), seed=1000 + seed)
    held.begin(model, head=digits.name)
    train(
        model,
        digits,
        remedied_schedule(model, remedy, value),
        seed=seed,
        head=digits.name,
        penalties=held.penalties(model, head=digits.name),
        progress=False,
        **held.options(),
    )
    held.end(model)
    seconds = time.perf_counter() - began
    found = {
        (name, part): evaluate(model, getattr(task, part), head=task.name)
        for name, task in (("old", cells), ("new", digits))
        for part in ("val", "test")
    }
    return {
        "old_before": before,
        "old": found["old", "test"]["auc"],
        "new": found["new", "test"]["accuracy"],
        "old_val": found["old", "val"]["auc"],
        "new_val": found["new", "val"]["accuracy"],
        "kept_bytes": held.kept_bytes,
        "seconds": seconds,
    }
