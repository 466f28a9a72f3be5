"""Grafts between networks for two halves of the digits: which stages belong to their task. See lesson 02.

What is run, apart from how often (`lesson02`): the kept results depend on this file's text, not on the list of seeds.
"""

import re
from dataclasses import replace

import numpy as np

from tlcourse.backbones import Model, attach_head
from tlcourse.data import Split, Task, load_task
from tlcourse.evaluation import evaluate
from tlcourse.grafts import digit_network, graft, split_classes
from tlcourse.plans import Plan
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train

__all__ = ["EPOCHS", "LABELS", "LR", "run_graft"]

LABELS = 200  # of each half
LR = 3e-3
EPOCHS = 10  # of a donor, and of a graft after it


def run_graft(name: str, *, seed: int) -> dict[str, float]:
    """Train a donor on its half of the digits, transplant its first stages, train on half B, open B's test split once.

    Parameters
    ----------
    name
        ``"B"`` for the network that is trained on B from nothing, else as in Yosinski et al. 2014: ``"A3B"`` has three
        frozen stages of the network for A, ``"B3B+"`` three of the network for B, which are fine-tuned.
    seed
        Draws which digits are A and B, the splits, the labels, all networks and the order of the batches.

    Returns
    -------
    dict
        ``accuracy`` on B's test split.

    Raises
    ------
    KeyError
        If there is no graft of that name.
    """
    found = re.fullmatch(r"([AB])([1-5])B(\+?)", name)
    if name != "B" and not found:
        raise KeyError(f"no graft {name!r}: use 'B', or such as 'A3B' or 'B5B+'")
    chosen = sorted(np.random.default_rng(seed).permutation(10)[:5].tolist())
    halves = split_classes(load_task("digits", labels=2 * LABELS, seed=seed), chosen)
    # Validation chooses nothing here, so a quarter of it will do.
    a, b = (replace(half, val=_every_fourth(half.val)) for half in halves)
    number, task = (1, a) if name.startswith("A") else (2, b)
    donor = attach_head(digit_network(1000 * number + seed), task, seed=seed)
    _fit(donor, task, full_fine_tune(donor, lr=LR), seed)
    if name == "B":
        return {"accuracy": evaluate(donor, b.test)["accuracy"]}
    grown = graft(donor, int(found[2]), task=b, seed=3000 + seed, fine_tune=found[3] == "+", lr=LR)
    _fit(grown.model, b, grown.plan, seed)
    return {"accuracy": evaluate(grown.model, b.test)["accuracy"]}


def _fit(model: Model, task: Task, plan: Plan, seed: int) -> None:
    train(model, task, plan, epochs=EPOCHS, seed=seed, progress=False)


def _every_fourth(split: Split) -> Split:
    return replace(split, inputs=split.inputs[::4], labels=split.labels[::4], index=split.index[::4])
