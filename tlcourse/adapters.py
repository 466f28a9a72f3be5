"""LoRA: a low-rank addition to frozen weights, through peft, as one more thing that a plan can train.

Lesson 12 writes it by hand first. `strategies.lora` is the plan; what changes the model is here.
"""

from fnmatch import fnmatchcase

from torch import nn

from tlcourse.backbones import Model
from tlcourse.runtime import seeded

__all__ = ["inject_lora", "lora_layers", "merge_lora", "unmerge_lora"]


def inject_lora(
    model: Model,
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: tuple[str, ...] = (),
    rank_stabilised: bool = False,
    seed: int = 0,
) -> None:
    """Add ``scale * B A`` to weights of the backbone; B starts at 0, so that the outputs stay the same.

    The scale is alpha / rank (Hu et al. 2021), or alpha / sqrt(rank) where ``rank_stabilised`` (Kalajdzievski 2023).

    Parameters
    ----------
    targets
        Patterns (fnmatch) of ``stage/layer`` or of a layer's last name, such as ``"query"``. None given: every linear
        layer and every convolution with one group.
    seed
        For the start of A; the global random state stays.

    Raises
    ------
    ValueError
        If the model has LoRA already, a pattern matches no such layer, or the rank is less than 1.

    Examples
    --------
    >>> import torch
    >>> from tlcourse.backbones import Backbone, ImagePreprocessing
    >>> stages = {"flat": nn.Flatten(), "layer": nn.Linear(3, 4)}
    >>> grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> model = Model(Backbone("tiny", stages, feature_dim=4, preprocessing=grey, pretrained=False))
    >>> inject_lora(model, rank=2)
    >>> [tuple(parameter.shape) for name, parameter in model.named_parameters() if "lora_" in name]
    [(2, 3), (4, 2)]
    """
    from peft import LoraConfig, inject_adapter_in_model

    if lora_layers(model):
        raise ValueError("this model has LoRA already: one set of adapters a model")
    if rank < 1:
        raise ValueError(f"rank={rank}: at least 1 is needed")
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=_target_names(model, targets), use_rslora=rank_stabilised
    )
    training = model.training
    with seeded(seed, next(model.parameters()).device):
        inject_adapter_in_model(config, model.backbone)
    model.train(training)


def lora_layers(model: Model) -> list[nn.Module]:
    """The layers that LoRA was added to."""
    return [layer for layer in model.modules() if hasattr(layer, "lora_A") and hasattr(layer, "base_layer")]


def merge_lora(model: Model) -> None:
    """Add each low-rank product to its weight: the same outputs to rounding (float32: 1e-5), at the base's speed.

    Raises
    ------
    ValueError
        If there is no LoRA, or it is merged already: a second time would add it twice.
    """
    _check(model, merged=False)
    for layer in lora_layers(model):
        layer.merge()


def unmerge_lora(model: Model) -> None:
    """Take it out again: the weights are the base's to rounding, and LoRA can be trained on.

    Raises
    ------
    ValueError
        If there is no LoRA, or it is not merged.
    """
    _check(model, merged=True)
    for layer in lora_layers(model):
        layer.unmerge()


def _check(model: Model, *, merged: bool) -> None:
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA: train it with the plan lora(model), or inject_lora(model)")
    if any(layer.merged for layer in layers) is not merged:
        raise ValueError(f"LoRA is {'not merged' if merged else 'merged already'}: there is nothing to do twice")


def _target_names(model: Model, targets: tuple[str, ...]) -> list[str]:
    """The names, within the backbone, of the layers that get adapters."""
    found, used = [], set()
    for stage, module in model.backbone.stages.items():
        # MultiheadAttention reads the weight of its projection and never calls it.
        closed = [part.out_proj for part in module.modules() if isinstance(part, nn.MultiheadAttention)]
        for name, layer in module.named_modules():
            fits = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
            if not fits or any(layer is projection for projection in closed):
                continue
            names = (f"{stage}/{name}", name.rpartition(".")[2])
            patterns = {pattern for pattern in targets if any(fnmatchcase(one, pattern) for one in names)}
            used |= patterns
            if patterns or not targets:
                found.append(".".join(filter(None, ("stages", stage, name))))
    missing = [pattern for pattern in targets if pattern not in used]
    if missing or not found:
        raise ValueError(
            f"LoRA on {missing or 'every linear layer'}: no linear layer, and no convolution with one group, is called "
            f"so in the stages {', '.join(model.backbone.stages)}"
        )
    return found
