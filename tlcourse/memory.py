"""What training holds in memory: weights, gradients, AdamW's moments, activations. Lesson 04 weighs plans by it.

The first three follow from how many parameters there are and how many move. What the backward pass needs of the forward
pass is measured: PyTorch tells which tensors it keeps.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, UntypedStorage

from tlcourse.backbones import Model
from tlcourse.masked import Masked
from tlcourse.plans import Plan, apply_plan, parameter_groups
from tlcourse.runtime import autocast, seeded

__all__ = ["TrainingMemory", "training_memory"]

MOMENTS = 2  # of AdamW: the averages of the gradient and of its square


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a step of training holds.

    Attributes
    ----------
    weights
        All parameters and buffers, whether they move or not.
    gradients
        One number for each that moves.
    optimiser
        Two for each that moves: AdamW's moments.
    activations
        What the forward pass keeps for the backward pass; it grows with the batch.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        """All four together."""
        return self.weights + self.gradients + self.optimiser + self.activations


def training_memory(model: Model, plan: Plan, example: Tensor | Masked, *, batch_size: int) -> TrainingMemory:
    """The memory of a training step, in bytes, on the model's device and in the precision that `train` has there.

    A batch is sent forward through a copy of the model to which the plan is applied, in train mode, and what autograd
    keeps for the backward pass is counted: each storage once, and none that holds weights. Stages before the first that
    moves keep nothing. Left out are what an operation needs while it runs, the loss's own few bytes, the data set and
    what is cached of it.

    Parameters
    ----------
    example
        Raw inputs, such as ``task.train.inputs[:1]``; they are repeated to fill the batch.
    batch_size
        Samples in a batch.

    Raises
    ------
    ValueError
        If the batch size is not a whole number from 1 on, there is no example or no head, or `train` would refuse the
        plan.

    Examples
    --------
    >>> from tlcourse import attach_head, feature_extraction, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> memory = training_memory(model, feature_extraction(model), task.train.inputs[:1], batch_size=32)
    >>> memory.activations == 32 * 1280 * 4, memory.optimiser == 2 * memory.gradients
    (True, True)
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: a whole number, at least 1, is needed")
    if not len(example):
        raise ValueError("there is no example to send through the model: give task.train.inputs[:1]")
    if not model.heads:
        raise ValueError("the model has no head; attach_head(backbone, task) gives it one")
    model = copy.deepcopy(model)
    apply_plan(model, plan)
    device = next(model.parameters()).device
    model.to(device, memory_format=torch.channels_last).train()
    moving = sum(parameter.nbytes for group in parameter_groups(model, plan) for parameter in group["params"])
    held = [*model.parameters(), *model.buffers()]
    return TrainingMemory(
        weights=sum(_storages(held).values()),
        gradients=moving,
        optimiser=MOMENTS * moving,
        activations=_kept_for_backward(model, example[torch.arange(batch_size) % len(example)].to(device), held),
    )


def _kept_for_backward(model: Model, batch: Tensor | Masked, held: list[Tensor]) -> int:
    kept: list[UntypedStorage] = []  # alive while we count: what is freed may lend its address to another one
    device = next(model.parameters()).device
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.untyped_storage()), lambda _: _)
    with seeded(0, device), autocast(device), torch.enable_grad(), hooks:
        model(batch, head=next(iter(model.heads)))
    known = _storages(held)
    return sum(size for address, size in _sizes(kept).items() if address not in known)


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Address -> bytes; tensors that share a storage count once."""
    return _sizes(tensor.untyped_storage() for tensor in tensors)


def _sizes(storages: Iterable[UntypedStorage]) -> dict[int, int]:
    return {storage.data_ptr(): storage.nbytes() for storage in storages}
