"""Normalisation as three switches: do its scales move, are its statistics updated, and which statistics are used.

Lesson 03 shows the trap (a BatchNorm without gradients still drifts), lesson 04 the choices.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["NORM_PRESETS", "Norm", "is_batch_norm", "normalisation_layers", "set_statistics"]


@dataclass(frozen=True)
class Norm:
    """What the normalisation layers of a rule do while the model trains. In eval mode all use running statistics.

    ``affine`` holds for every normalisation layer, the other two for BatchNorm, which alone keeps statistics.

    ========  ========  ====================  =====================================================================
    update    use       preset                what a BatchNorm does in training
    ========  ========  ====================  =====================================================================
    False     running   frozen, affine        normalises as in eval mode
    True      batch     statistics, train     normalises by the batch, and its running statistics follow
    False     batch     none                  normalises by the batch; its running statistics stay, and fit no longer
    True      running   refused               adapt the statistics first, then train with them frozen
    ========  ========  ====================  =====================================================================

    Attributes
    ----------
    affine
        Whether scales and shifts may move, at the rate of their rule.
    update
        Whether running statistics follow the batches.
    use
        Which statistics normalise a batch: "batch" or "running".

    Raises
    ------
    ValueError
        If statistics are to be updated and not used, or ``use`` is neither word.

    Examples
    --------
    >>> Norm.named("statistics")
    Norm(affine=False, update=True, use='batch')
    """

    affine: bool = True
    update: bool = True
    use: Literal["batch", "running"] = "batch"

    def __post_init__(self) -> None:
        if self.use not in ("batch", "running"):
            raise ValueError(f"use={self.use!r}: a normalisation uses 'batch' or 'running' statistics")
        if self.update and self.use == "running":
            raise ValueError(
                "update=True with use='running': a layer cannot update statistics from batches that it does not "
                "normalise by; adapt them first (norm='statistics'), then train with norm='affine' or 'frozen'"
            )

    @classmethod
    def named(cls, name: str) -> "Norm":
        """One of `NORM_PRESETS`: "frozen", "statistics", "affine" or "train"."""
        if name not in NORM_PRESETS:
            raise ValueError(f"no normalisation policy {name!r}; there are: {', '.join(NORM_PRESETS)}")
        return NORM_PRESETS[name]

    def __str__(self) -> str:
        for name, norm in NORM_PRESETS.items():
            if norm == self:
                return name
        return f"{'affine, ' if self.affine else ''}batch statistics not kept"


NORM_PRESETS = {
    "frozen": Norm(affine=False, update=False, use="running"),
    "statistics": Norm(affine=False, update=True, use="batch"),
    "affine": Norm(affine=True, update=False, use="running"),
    "train": Norm(affine=True, update=True, use="batch"),
}


def is_batch_norm(layer: nn.Module) -> bool:
    """Whether a layer keeps statistics of batches: BatchNorm1d, 2d, 3d, SyncBatchNorm and what derives from them."""
    return isinstance(layer, _BatchNorm)


def normalisation_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, layer) of every normalisation layer: those of torch, and others whose class name ends in "Norm"."""
    known = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    for name, layer in module.named_modules(remove_duplicate=False):
        # Of InstanceNorm and the RMSNorm of each language model, the scales and shifts are what a policy can hold.
        own = next(layer.parameters(recurse=False), None) is not None
        if isinstance(layer, known) or (own and type(layer).__name__.rstrip("123d").endswith("Norm")):
            yield name, layer


def set_statistics(layer: nn.Module, norm: Norm | None) -> None:
    """Make a BatchNorm update its running statistics or not; None gives it back its own way.

    Raises
    ------
    ValueError
        If running statistics are asked of a layer that keeps none.
    """
    if layer.running_mean is None:
        if norm is not None and norm.use == "running":
            raise ValueError(f"{layer} keeps no running statistics, so norm={str(norm)!r} cannot use them")
        return
    # Without this flag torch normalises a training batch by itself and leaves the buffers, which eval mode still uses.
    layer.track_running_stats = norm is None or norm.update or norm.use == "running"
