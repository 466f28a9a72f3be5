"""A head that grows: new classes join, and the old ones keep what they learnt. Lesson 10 meets new classes with it."""

import torch

from tlcourse.backbones import Model
from tlcourse.runtime import seeded

__all__ = ["expand_head"]


def expand_head(model: Model, classes: int, *, seed: int = 0, head: str | None = None) -> None:
    """Give a head more outputs: the weights of the old ones stay, the new ones are drawn as `Model.add_head` does.

    What a head does not have cannot be answered: a head that grows masks the classes that have not been seen, and a
    head that has all outputs from the start does not. The model forgets no plan; an optimiser that was made before has
    to be made again, as `train` does.

    Parameters
    ----------
    classes
        How many outputs the head has afterwards.
    seed
        For the new rows; the global random state stays.
    head
        Default: the only one.

    Raises
    ------
    KeyError
        If there is no such head.
    ValueError
        If the head would not grow.

    Examples
    --------
    >>> from tlcourse import attach_head, dense_network, load_task
    >>> model = attach_head(dense_network(), load_task("digits", labels=20))
    >>> expand_head(model, 12)
    >>> model.heads["digits"].weight.shape
    torch.Size([12, 100])
    """
    name = model.head_name(head)
    old = model.heads[name]
    if classes <= old.out_features:
        raise ValueError(f"expand_head to {classes}: the head {name!r} has {old.out_features} outputs already")
    with seeded(seed):
        grown = torch.nn.Linear(old.in_features, classes)  # on the CPU: the same draws for every device
    grown = grown.to(old.weight.device)
    with torch.no_grad():
        grown.weight[: old.out_features] = old.weight
        grown.bias[: old.out_features] = old.bias
    grown.weight.requires_grad_(old.weight.requires_grad)
    grown.bias.requires_grad_(old.bias.requires_grad)
    model.heads[name] = grown.train(old.training)
