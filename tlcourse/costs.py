"""What a layer costs, in multiply-accumulates, and so how much of the backward pass a plan needs. Lesson 03."""

from collections.abc import Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.masked import Masked

__all__ = ["LayerCost", "backward_shares", "layer_costs"]


@dataclass(frozen=True)
class LayerCost:
    """Multiply-accumulates of one layer's forward pass, for the whole example."""

    stage: str
    layer: str
    count: int


def layer_costs(model: Model, example: Tensor | Masked) -> list[LayerCost]:
    """The cost of every linear layer and convolution, in the order of execution.

    Products without weights (attention) and everything elementwise are left out. The first head stands for all.

    Parameters
    ----------
    example
        Raw inputs as the model takes them: uint8 images (n, C, H, W) or `Masked` token ids (n, L).

    Examples
    --------
    >>> from tlcourse.backbones import Backbone, ImagePreprocessing
    >>> stages = {"flat": nn.Flatten(), "layer": nn.Linear(3, 4)}
    >>> grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> model = Model(Backbone("tiny", stages, feature_dim=4, preprocessing=grey, pretrained=False))
    >>> model.add_head("pairs", 2)
    >>> [cost.count for cost in layer_costs(model, torch.zeros(1, 3, 1, 1))]
    [12, 8]
    """
    costs: list[LayerCost] = []

    def note(stage: str, name: str):
        def after(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            each = layer.weight[0].numel()  # multiply-accumulates for one number that comes out
            costs.append(LayerCost(stage, name, output.numel() * each))

        return after

    handles = [
        layer.register_forward_hook(note(stage, name))
        for stage, module in model.stages.items()
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    ]
    modes = [(part, part.training) for part in model.modules()]
    try:
        with torch.no_grad():
            model.eval()(example, head=next(iter(model.heads)))
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes:
            part.training = mode
    return costs


def backward_shares(model: Model, moving: Set[int], example: Tensor | Masked) -> dict[str, float]:
    """Stage -> cost of its backward pass, over the cost of all stages' where everything moves.

    The gradient of a layer's weight costs as much as its forward pass, and so does that of its input, which is needed
    where something before it moves.

    Parameters
    ----------
    moving
        ``id`` of every parameter that moves.
    """
    costs = layer_costs(model, example)
    everything = {id(parameter) for parameter in model.parameters()}
    whole = sum(_backward_counts(model, everything, costs).values())
    return {stage: count / whole for stage, count in _backward_counts(model, moving, costs).items()}


def _backward_counts(model: Model, moving: Set[int], costs: list[LayerCost]) -> dict[str, int]:
    moves = [any(id(parameter) in moving for parameter in stage.parameters()) for stage in model.stages.values()]
    # The first stage that moves may do so in a normalisation or an embedding alone, which costs next to nothing.
    first = moves.index(True) if True in moves else len(moves)
    places = {stage: number for number, stage in enumerate(model.stages)}
    counts = dict.fromkeys(model.stages, 0)
    moved = False  # whether something before the layer moves
    for cost in costs:
        moved = moved or places[cost.stage] > first
        layer = model.stages[cost.stage].get_submodule(cost.layer)
        counts[cost.stage] += cost.count * (moved + (id(layer.weight) in moving))
        moved = moved or any(id(parameter) in moving for parameter in layer.parameters(recurse=False))
    return counts
