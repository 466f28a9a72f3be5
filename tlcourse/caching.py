"""What a frozen stage puts out never changes, so it is computed once. Lesson 03 teaches and measures it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tlcourse.backbones import Backbone, Model
from tlcourse.masked import Masked, join
from tlcourse.plans import Plan, describe_plan

__all__ = ["cached_prefix", "evaluating", "extract_features", "frozen_depth"]

LARGEST_CACHE = 4 * 2**30  # bytes


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards every submodule is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def frozen_depth(model: Model, plan: Plan) -> int:
    """How many stages, counted from the first, the plan leaves frozen: the prefix that can be computed once.

    A stage that adapts its statistics is not frozen, though nothing in it moves.
    """
    rows = describe_plan(model, plan)[:-1]  # without the heads
    changing = [number for number, row in enumerate(rows) if not row["frozen"]]
    return changing[0] if changing else len(rows)


def extract_features(
    network: Backbone | Model,
    inputs: Tensor | Masked,
    *,
    stop: int | None = None,
    batch_size: int = 128,
    device: torch.device | None = None,
) -> Tensor | Masked:
    """The state that leaves stage number ``stop - 1``, for all inputs, in eval mode and float32.

    Parameters
    ----------
    network
        A backbone, or a model whose backbone is meant.
    inputs
        uint8 images (n, C, H, W) or `Masked` token ids (n, L).
    stop
        How many stages to run; None for all of them, which gives the features (n, feature_dim).
    device
        Where to compute; None stays where the network is. The result stays there too.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> extract_features(backbone, torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).shape
    torch.Size([2, 1280])
    """
    backbone = network.backbone if isinstance(network, Model) else network
    if device is not None:
        backbone.to(device)
    where = next(backbone.parameters()).device
    parts = []
    with evaluating(backbone):
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size].to(where)
            parts.append(backbone.run(backbone.preprocessing(batch), stop=stop))
    return join(parts)


def cached_prefix(
    model: Model,
    inputs: Tensor | Masked,
    *,
    depth: int,
    batch_size: int = 128,
    max_bytes: int = LARGEST_CACHE,
) -> Tensor | Masked | None:
    """The output of the first ``depth`` stages for all inputs, or None (with a warning) where it takes too much memory.

    The bound is checked on the first sample, before anything large is made.
    """
    sample = extract_features(model, inputs[:1], stop=depth)
    longest = inputs.mask.shape[1] / sample.mask.shape[1] if isinstance(sample, Masked) else 1
    needed = int(sample.nbytes * longest * len(inputs))
    if needed > max_bytes:
        warnings.warn(
            f"keeping the output of {depth} frozen stages for {len(inputs)} samples takes {needed / 1e9:.1f} GB, more "
            f"than the bound of {max_bytes / 1e9:.1f} GB: they are computed anew for every batch instead",
            stacklevel=3,
        )
        return None
    return extract_features(model, inputs, stop=depth, batch_size=batch_size)
