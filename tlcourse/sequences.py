"""Several tasks in turn: the matrix R of a remedy, in three scenarios that are made of one task. Lesson 10 runs them.

The scenarios are those of van de Ven and Tolias 2019. In each the same samples come in the same order; what differs is
what the network is told and asked: the task of a sample (``"task"``: a head each), nothing (``"domain"``: one head,
whose outputs every task means in its own way), or which of all classes it is (``"class"``: one head for all of them).
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from tlcourse.backbones import Backbone, Model
from tlcourse.data import Split, Task
from tlcourse.evaluation import predict_probabilities
from tlcourse.grafts import split_classes
from tlcourse.heads import expand_head
from tlcourse.masked import join
from tlcourse.plans import Plan, Schedule
from tlcourse.remedies import Remedy
from tlcourse.training import train

__all__ = ["InTurn", "SCENARIOS", "joint_reference", "run_sequence", "single_references", "tasks_in_turn"]

SCENARIOS = ("task", "domain", "class")
ALL = "all"  # the head of the scenarios that have one


@dataclass(frozen=True)
class InTurn:
    """What a sequence left.

    Attributes
    ----------
    R
        (T, T): row after task i, column accuracy on the test split of task j; NaN where the network has no output for
        the task yet. `forgetting.forgetting_scores` sums it up.
    seconds
        Wall time of training and of what the remedy did, evaluation left out.
    kept_bytes
        What the remedy keeps in the end.
    model
        As the last task left it, in eval mode.
    """

    R: np.ndarray
    seconds: float
    kept_bytes: int
    model: Model


def tasks_in_turn(task: Task, groups: Sequence[Sequence[int]]) -> tuple[Task, ...]:
    """One task for each group of classes, labelled from 0 within its group; every sample stays in its split.

    Parameters
    ----------
    groups
        The labels of each task, at least two of them; no class occurs twice.

    Raises
    ------
    ValueError
        If a class is in two groups, or a group cannot be had: see `grafts.split_classes`.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> first, second = tasks_in_turn(load_task("digits8"), [[3, 8], [0, 1, 2]])
    >>> first.name, first.class_names, second.train.labels.unique().tolist()
    ('task 1', ('3', '8'), [0, 1, 2])
    """
    named = [label for group in groups for label in group]
    if len(set(named)) < len(named):
        twice = next(label for label in named if named.count(label) > 1)
        raise ValueError(f"groups={[list(group) for group in groups]}: class {twice} occurs in two tasks")
    return tuple(
        replace(split_classes(task, group)[0], name=f"task {number}") for number, group in enumerate(groups, start=1)
    )


def run_sequence(
    tasks: Sequence[Task],
    remedy: Remedy | None = None,
    *,
    backbone: Backbone,
    plan: Callable[[Model], Plan | Schedule],
    scenario: str = "task",
    grow: bool = True,
    epochs: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> InTurn:
    """Learn tasks one after the other and read all of them after each.

    Parameters
    ----------
    tasks
        Labelled from 0 each, as `tasks_in_turn` makes them.
    remedy
        None: plain training.
    backbone
        A copy of it is trained.
    plan
        Called with the model before each task.
    scenario
        ``"task"``, ``"domain"`` or ``"class"``, see above.
    grow
        ``"class"`` only: True gives the head the classes seen so far, so that others are masked; False gives it all
        classes from the start, and the loss pushes those down that have not come yet.
    epochs
        A task; None where the plan is a schedule, or for ``train``'s default.
    seed
        Draws each task's head and the order of its batches.

    Returns
    -------
    InTurn

    Raises
    ------
    ValueError
        If the scenario is unknown, there is no task, or ``"domain"`` gets tasks of different numbers of classes.

    Examples
    --------
    >>> from tlcourse import dense_network, full_fine_tune, load_task
    >>> tasks = tasks_in_turn(load_task("digits8", labels=40), [[0, 1], [2, 3]])
    >>> found = run_sequence(
    ...     tasks, backbone=dense_network(pixels=64), plan=lambda model: full_fine_tune(model, lr=1e-3), epochs=1
    ... )
    >>> found.R.shape, bool(np.isnan(found.R[0, 1]))
    ((2, 2), True)
    """
    _check(tasks, scenario)
    remedy = Remedy() if remedy is None else remedy
    model, sizes = Model(copy.deepcopy(backbone)), [len(task.class_names) for task in tasks]
    R, seconds = np.full((len(tasks), len(tasks)), np.nan), 0.0
    for number, task in enumerate(tasks):
        began = time.perf_counter()
        head = task.name if scenario == "task" else ALL
        drawn = 1000 * seed + number  # each head has a draw of its own
        if scenario == "class" and number and grow:
            expand_head(model, sum(sizes[: number + 1]), seed=drawn, head=head)
        elif head not in model.heads:
            whole = scenario == "class" and not grow
            model.add_head(head, sum(sizes) if whole else sizes[number], seed=drawn)
        seen = tasks[: number + 1] if grow else tasks
        # The loop scores its validation samples after each epoch, and can do so where every output has some of them.
        part = task if scenario != "class" else replace(_shifted(task, sizes, number), val=_joined(seen, "val", True))
        remedy.begin(model, head=head)
        train(
            model,
            part,
            plan(model),
            epochs=epochs,
            batch_size=batch_size,
            seed=drawn,
            head=head,
            penalties=remedy.penalties(model, head=head),
            progress=False,
            **remedy.options(),
        )
        remedy.end(model)
        if number + 1 < len(tasks):
            remedy.keep(model, part, head=head)
        seconds += time.perf_counter() - began
        for column, other in enumerate(tasks):
            if column <= number or scenario == "domain":
                offset = sum(sizes[:column]) if scenario == "class" else 0
                R[number, column] = _accuracy(
                    model, other.test, head=other.name if scenario == "task" else ALL, offset=offset
                )
    return InTurn(R, seconds, remedy.kept_bytes, model)


def joint_reference(
    tasks: Sequence[Task],
    *,
    backbone: Backbone,
    plan: Callable[[Model], Plan | Schedule],
    scenario: str = "task",
    epochs: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """The accuracy on each task (T,) of a network that learns all of them at once, on the budget of the sequence.

    It sees every sample as often as the sequence does. In the ``"task"`` scenario it has one head for all classes, of
    which a sample is asked for those of its task.
    """
    _check(tasks, scenario)
    sizes, numbered = [len(task.class_names) for task in tasks], scenario != "domain"
    whole = replace(
        tasks[0],
        name=ALL,
        class_names=tuple(name for task in tasks for name in task.class_names) if numbered else tasks[0].class_names,
        train=_joined(tasks, "train", numbered),
        val=_joined(tasks, "val", numbered),
    )
    model = Model(copy.deepcopy(backbone))
    model.add_head(ALL, len(whole.class_names), seed=1000 * seed)
    train(model, whole, plan(model), epochs=epochs, batch_size=batch_size, seed=1000 * seed, progress=False)
    return np.array(
        [
            _accuracy(
                model,
                task.test,
                head=ALL,
                offset=sum(sizes[:number]) if numbered else 0,
                among=sizes[number] if scenario == "task" else None,
            )
            for number, task in enumerate(tasks)
        ]
    )


def single_references(
    tasks: Sequence[Task],
    *,
    backbone: Backbone,
    plan: Callable[[Model], Plan | Schedule],
    epochs: int | None = None,
    batch_size: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """The accuracy on each task (T,) of a network of its own, which learns nothing else, on the budget of that task."""
    found = [
        run_sequence([task], backbone=backbone, plan=plan, epochs=epochs, batch_size=batch_size, seed=seed).R[0, 0]
        for task in tasks
    ]
    return np.array(found)


def _check(tasks: Sequence[Task], scenario: str) -> None:
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario={scenario!r}: it is one of {', '.join(SCENARIOS)}")
    if not tasks:
        raise ValueError("a sequence needs at least one task")
    sizes = {task.name: len(task.class_names) for task in tasks}
    if len(sizes) < len(tasks):
        raise ValueError(f"two tasks have one name: {', '.join(task.name for task in tasks)}")
    if scenario == "domain" and len(set(sizes.values())) > 1:
        raise ValueError(f"scenario='domain' has one head for all tasks, but their numbers of classes differ: {sizes}")


def _shifted(task: Task, sizes: list[int], number: int) -> Task:
    """The task's training samples with labels that count all classes in turn."""
    return replace(task, train=replace(task.train, labels=task.train.labels + sum(sizes[:number])))


def _joined(tasks: Sequence[Task], part: str, numbered: bool) -> Split:
    """One split of all tasks in one, its labels counting through where ``numbered``."""
    splits = [getattr(task, part) for task in tasks]
    offsets = np.cumsum([0] + [len(task.class_names) for task in tasks]).tolist() if numbered else [0] * len(tasks)
    labels = [split.labels + offset for split, offset in zip(splits, offsets, strict=False)]
    return Split(join([s.inputs for s in splits]), torch.cat(labels), torch.cat([s.index for s in splits]))


def _accuracy(model: Model, split: Split, *, head: str, offset: int = 0, among: int | None = None) -> float:
    """The share of right answers; ``among`` asks for so many outputs from ``offset`` on, None for all."""
    probabilities = predict_probabilities(model, split.inputs, head=head)
    if among is not None:
        probabilities, offset = probabilities[:, offset : offset + among], 0
    return (probabilities.argmax(dim=1) == split.labels.cpu() + offset).double().mean().item()
