"""How general is a stage? Its first stages are grafted under fresh ones, on the same task and on another.

The experiment of Yosinski et al. 2014: two tasks A and B are halves of the classes of one. A network whose first n
stages come from one trained on A, frozen, the rest drawn anew and trained on B, is called AnB; with those fine-tuned as
well, AnB+; BnB and BnB+ take the stages from a network of B itself. What BnB loses shows stages that had adapted to
each other, what AnB loses on top shows stages that are special to A. Lesson 02 repeats it on handwritten digits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, Model, attach_head
from tlcourse.data import Split, Task
from tlcourse.plans import Plan, Rule
from tlcourse.runtime import seeded
from tlcourse.strategies import full_fine_tune

__all__ = ["Graft", "digit_network", "graft", "split_classes"]

DIGIT_MEAN, DIGIT_STD = 0.13, 0.31  # of MNIST's pixels in 0..1


@dataclass(frozen=True)
class Graft:
    """A network grown from another one, and how it is to be trained.

    Attributes
    ----------
    name
        In the paper's notation, such as ``"A3B"`` or ``"B2B+"``; with no stage copied ``"B"``, trained from scratch.
    model
        With a new head for the task B.
    plan
        What `train` takes.
    """

    name: str
    model: Model
    plan: Plan


def digit_network(seed: int = 0) -> Backbone:
    """A small convolutional network for handwritten digits: five stages and a mean over space, drawn from the seed.

    70 thousand parameters; an epoch over the course's 28 x 28 digits takes seconds on one core.

    Examples
    --------
    >>> backbone = digit_network()
    >>> list(backbone.stages), backbone(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
    (['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'neck'], torch.Size([2, 64]))
    """
    widths, strides = (3, 16, 32, 32, 64, 64), (2, 1, 2, 1, 1)  # 28 -> 14, 14, 7, 7, 7 pixels
    with seeded(seed):
        stages: dict[str, nn.Module] = {
            f"conv{number}": nn.Sequential(
                nn.Conv2d(widths[number - 1], widths[number], 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(widths[number]),
                nn.ReLU(),
            )
            for number, stride in enumerate(strides, start=1)
        }
    stages["neck"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    return Backbone(
        "digit_network",
        stages,
        feature_dim=widths[-1],
        preprocessing=ImagePreprocessing(mean=(DIGIT_MEAN,) * 3, std=(DIGIT_STD,) * 3),
        pretrained=False,
    ).eval()


def graft(
    source: Model,
    n_stages: int,
    *,
    task: Task,
    seed: int,
    fine_tune: bool = False,
    lr: float = 1e-3,
    decay: float = 0.01,
    draw: Callable[[int], Backbone] = digit_network,
) -> Graft:
    """A network with the first stages of a trained one and the rest drawn anew, and the plan to train it on a task.

    Yosinski et al. 2014, section 2: AnB (frozen) and AnB+ (fine-tuned) where ``source`` was trained on another task,
    BnB and BnB+ where it was trained on this one (it has a head named like the task).

    Parameters
    ----------
    source
        A trained model; it is copied from and left as it is.
    n_stages
        How many stages to copy, from the first: running statistics too. 0 copies none.
    task
        The task B: the new head is for it.
    seed
        Draws the stages that are not copied, and the head.
    fine_tune
        False freezes what was copied, in eval mode; True lets everything move.
    lr, decay
        Of everything that moves.
    draw
        From a seed to a new backbone of the same architecture.

    Raises
    ------
    ValueError
        If ``n_stages`` is not in 0..(stages with parameters), or ``draw`` makes another architecture.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> a, b = split_classes(load_task("digits8", labels=100), [0, 1, 2, 3, 4])
    >>> trained = attach_head(digit_network(), a)
    >>> grown = graft(trained, 2, task=b, seed=1)
    >>> grown.name, [rule.pattern for rule in grown.plan.rules if rule.lr > 0]
    ('A2B', ['conv3', 'conv4', 'conv5', 'head'])
    """
    fresh = draw(seed)
    old = source.backbone
    if list(fresh.stages) != list(old.stages) or _shapes(fresh) != _shapes(old):
        raise ValueError(f"draw made {fresh.name!r}, whose stages are not those of the source {old.name!r}")
    names = [name for name, stage in old.stages.items() if any(True for _ in stage.parameters())]
    if not 0 <= n_stages <= len(names):
        raise ValueError(f"n_stages={n_stages}: the source has {len(names)} stages with parameters: {names}")
    where = next(old.parameters()).device
    fresh.to(where)
    for name in names[:n_stages]:
        fresh.stages[name].load_state_dict(old.stages[name].state_dict())
    model = attach_head(fresh, task, seed=seed)
    name = "B"
    if n_stages:
        name = f"{'B' if task.name in source.heads else 'A'}{n_stages}B{'+' if fine_tune else ''}"
    if fine_tune or not n_stages:
        return Graft(name, model, replace(full_fine_tune(model, lr=lr, decay=decay), name=name))
    rules = tuple(Rule(stage, lr, decay) for stage in [*names[n_stages:], "head"])
    return Graft(name, model, Plan(name, (*rules, Rule("*", 0.0))))


def split_classes(task: Task, classes: Sequence[int]) -> tuple[Task, Task]:
    """Two tasks of one: A with the samples of these classes, B with all others, each labelled from 0.

    Every sample stays in its split, so that nothing that A learnt from is in B's test, and the subsets still nest.

    Parameters
    ----------
    classes
        Labels of A's classes; they are numbered in this order, those of B in the order of the task.

    Returns
    -------
    A, B
        Tasks named ``<name>-A`` and ``<name>-B``.

    Raises
    ------
    ValueError
        If a class is unknown or given twice, a side has fewer than two, or a split lacks some class.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> a, b = split_classes(load_task("digits8"), [9, 3])
    >>> a.class_names, a.train.labels.unique().tolist(), len(b.class_names)
    (('9', '3'), [0, 1], 8)
    """
    known, chosen = range(len(task.class_names)), list(classes)
    rest = [label for label in known if label not in chosen]
    if len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
        raise ValueError(f"classes={chosen}: name each once, out of 0 to {len(known) - 1}")
    if min(len(chosen), len(rest)) < 2:
        raise ValueError(f"classes={chosen} leaves {len(rest)} of {len(known)}: both sides need at least two")
    return _only(task, chosen, side="A"), _only(task, rest, side="B")


def _only(task: Task, classes: list[int], *, side: str) -> Task:
    numbers = torch.full((len(task.class_names),), -1)
    numbers[torch.tensor(classes)] = torch.arange(len(classes))
    parts = {}
    for name, split in (("train", task.train), ("val", task.val), ("test", task.test)):
        labels = numbers.to(split.labels.device)[split.labels]
        rows = (labels >= 0).nonzero().flatten()
        absent = set(range(len(classes))) - set(labels[rows].tolist())
        if absent:
            raise ValueError(
                f"the {name} split of {task.name!r} holds no {task.class_names[classes[min(absent)]]!r}: "
                "take more labels"
            )
        parts[name] = Split(split.inputs[rows], labels[rows], split.index[rows.to(split.index.device)])
    return replace(
        task,
        name=f"{task.name}-{side}",
        class_names=tuple(task.class_names[label] for label in classes),
        options={**task.options, "classes": tuple(classes)},
        **parts,
    )


def _shapes(backbone: Backbone) -> dict[str, tuple]:
    return {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
