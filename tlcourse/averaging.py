"""Weights between weights: averages and interpolations of models that share a start. Lesson 09 measures them.

They are functions of state dicts. A state dict holds more than weights, and what becomes of the rest is said here:

- Floating buffers, such as the running mean and variance of BatchNorm, are averaged like weights. That is no more than
  a guess at the statistics of the averaged network; `recompute_statistics` measures them.
- Everything else (BatchNorm's count of batches, positions, masks) has no middle: `interpolate` takes it from the nearer
  end, `average_weights` from the first state.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.masked import Masked
from tlcourse.norms import is_batch_norm

__all__ = ["average_weights", "interpolate", "recompute_statistics"]

State = Mapping[str, Tensor]


def interpolate(start: nn.Module | State, end: nn.Module | State, alpha: float) -> dict[str, Tensor]:
    """The state at the share ``alpha`` of the straight way from one state to another.

    WiSE-FT (Wortsman et al. 2022, section 3) goes from the pre-trained to the fine-tuned weights: between them lie
    models that keep much of the first and most of the second. Entries that are equal in both stay so to the last bit,
    and 0 and 1 give the ends.

    Parameters
    ----------
    start, end
        Models or state dicts with the same names and shapes. They are not changed.
    alpha
        0 to 1.

    Returns
    -------
    dict
        Name -> new tensor, for ``model.load_state_dict``.

    Raises
    ------
    ValueError
        If ``alpha`` lies outside of 0 and 1, or names or shapes differ.

    Examples
    --------
    >>> interpolate({"weight": torch.tensor([0.0, 2.0])}, {"weight": torch.tensor([1.0, 2.0])}, 0.25)
    {'weight': tensor([0.2500, 2.0000])}
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: it is the share of the way from start to end, between 0 and 1")
    start, end = _matching([start, end])
    nearer = start if alpha < 0.5 else end
    return {
        name: _between(value, end[name], alpha) if value.is_floating_point() else nearer[name].clone()
        for name, value in start.items()
    }


def average_weights(models_or_states: Sequence[nn.Module | State]) -> dict[str, Tensor]:
    """The mean of several states: uniform soups, and averages along one run (Izmailov et al. 2018).

    Parameters
    ----------
    models_or_states
        Models or state dicts with the same names and shapes, one or more. They are not changed. Half-precision weights
        are averaged in float32.

    Returns
    -------
    dict
        Name -> new tensor, for ``model.load_state_dict``.

    Raises
    ------
    ValueError
        If there is none, or names or shapes differ.

    Examples
    --------
    >>> average_weights([{"weight": torch.tensor([0.0, 3.0])}, {"weight": torch.tensor([1.0, 3.0])}])
    {'weight': tensor([0.5000, 3.0000])}
    """
    first, *others = _matching(models_or_states)
    return {
        name: _mean([value, *(other[name] for other in others)]) if value.is_floating_point() else value.clone()
        for name, value in first.items()
    }


def recompute_statistics(model: Model, inputs: Tensor | Masked, *, batch_size: int = 32) -> None:
    """Measure anew the running statistics of BatchNorm, as a mean over batches; nothing else of the model changes.

    Stages that the last plan froze keep theirs. All layers are measured in one pass, each on what the layers before it
    put out with the statistics of the batch. Without any BatchNorm nothing happens.

    Parameters
    ----------
    model
        Changed in place; every mode comes back.
    inputs
        Raw inputs: uint8 images (n, C, H, W) or `Masked` token ids (n, L), such as ``task.train.inputs``.

    Examples
    --------
    >>> from tlcourse import attach_head, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> recompute_statistics(model, task.train.inputs)
    >>> model.backbone.stages["stem"][1].num_batches_tracked
    tensor(1)
    """
    moving = [stage for name, stage in model.stages.items() if name not in model.frozen_stages]
    layers = [layer for stage in moving for layer in stage.modules() if is_batch_norm(layer)]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        return
    where = next(model.parameters()).device
    before = [(layer.momentum, layer.track_running_stats) for layer in layers]
    try:
        with evaluating(model):
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # every batch counts alike
                layer.track_running_stats = True  # a policy of `norms` may have switched it off
                layer.train()
            for index in torch.arange(len(inputs)).tensor_split(-(-len(inputs) // batch_size)):
                model.backbone(inputs[index].to(where))
    finally:
        for layer, (momentum, tracks) in zip(layers, before, strict=True):
            layer.momentum, layer.track_running_stats = momentum, tracks


def _matching(models_or_states: Sequence[nn.Module | State]) -> list[State]:
    states = [each.state_dict() if isinstance(each, nn.Module) else each for each in models_or_states]
    if not states:
        raise ValueError("there is no state to average")
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    for number, other in enumerate(shapes[1:], start=2):
        for name in [*shapes[0], *other]:
            one, another = shapes[0].get(name, "absent"), other.get(name, "absent")
            if one != another:
                raise ValueError(
                    f"the states are not of one network: {name!r} is {one} in state 1, {another} in {number}"
                )
    return states


def _between(start: Tensor, end: Tensor, alpha: float) -> Tensor:
    wide = torch.promote_types(start.dtype, torch.float32)
    return torch.lerp(start.detach().to(wide), end.detach().to(start.device, wide), alpha).to(start.dtype)


def _mean(values: list[Tensor]) -> Tensor:
    """A running mean: equal values stay as they are, to the last bit."""
    wide = torch.promote_types(values[0].dtype, torch.float32)
    mean = values[0].detach().to(wide, copy=True)
    for count, value in enumerate(values[1:], start=2):
        mean.lerp_(value.detach().to(mean.device, wide), 1 / count)
    return mean.to(values[0].dtype)
