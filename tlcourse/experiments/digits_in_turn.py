"""Ten digits in five tasks of two, in three scenarios: what elastic weight consolidation holds. See lesson 10.

What is run, apart from how often (`lesson10`): the kept results depend on this file's text, not on the list of seeds.
"""

import numpy as np

from tlcourse.backbones import Model
from tlcourse.data import Task, load_task
from tlcourse.dense import dense_network
from tlcourse.forgetting import forgetting_scores
from tlcourse.plans import Plan
from tlcourse.remedies import EWC, Remedy, Replay
from tlcourse.sequences import joint_reference, run_sequence, tasks_in_turn
from tlcourse.strategies import full_fine_tune

__all__ = ["BUFFER", "DIGIT_EPOCHS", "DIGIT_LABELS", "STRENGTH", "digit_plan", "five_tasks", "run_digits"]

DIGIT_LABELS, DIGIT_EPOCHS, DIGIT_LR = 2000, 5, 1e-2
STRENGTH = 1e4  # of EWC, where nothing else is said
BUFFER = 100  # samples of 2,000


def five_tasks(seed: int) -> tuple[Task, ...]:
    """The ten digits as five tasks of two, in an order that the seed draws; 2,000 labels in all."""
    digits = load_task("digits", labels=DIGIT_LABELS, seed=seed)
    return tasks_in_turn(digits, np.random.default_rng(seed).permutation(10).reshape(5, 2).tolist())


def digit_plan(model: Model) -> Plan:
    """Every stage at 1e-2, without weight decay, which would move what the penalty holds."""
    return full_fine_tune(model, lr=DIGIT_LR, decay=0.0)


def run_digits(
    scenario: str, remedy: str, strength: float | None = None, kind: str = "exact", *, seed: int
) -> dict[str, float]:
    """Five epochs on each of the five tasks, then the test splits of all.

    Parameters
    ----------
    scenario
        Of `sequences.run_sequence`.
    remedy
        ``"plain"``, ``"EWC"``, ``"replay"`` (a buffer of 100 digits, one of them beside each new one), or ``"joint"``:
        all tasks at once, which has no matrix R and returns its accuracy alone.
    strength
        Of EWC; None is `STRENGTH`.
    kind
        Of the Fisher information; ``"batched"`` is averaged over batches of 64 before it is squared.
    seed
        Draws the tasks, the splits, the network and the order of the batches.

    Returns
    -------
    dict
        ``accuracy``, ``learning_accuracy``, ``forgetting``: see `forgetting.forgetting_scores`.
    """
    tasks, network = five_tasks(seed), dense_network(seed)
    same = {"backbone": network, "plan": digit_plan, "scenario": scenario, "epochs": DIGIT_EPOCHS, "seed": seed}
    if remedy == "joint":
        return {"accuracy": float(joint_reference(tasks, **same).mean())}
    made = {
        "plain": Remedy,
        "EWC": lambda: EWC(STRENGTH if strength is None else strength, kind=kind),
        "replay": lambda: Replay(BUFFER, seed=seed),
    }
    scores = forgetting_scores(run_sequence(tasks, made[remedy](), **same).R)
    return {name: scores[name] for name in ("accuracy", "learning_accuracy", "forgetting")}
