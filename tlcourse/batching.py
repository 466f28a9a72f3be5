"""Batches of texts of similar length, which need little padding. Lesson 06 measures what that saves."""

import math

import torch
from torch import Tensor

__all__ = ["bucketed_order"]

WINDOW = 16  # batches among which texts are sorted: more means less padding, and less chance in who meets whom


def bucketed_order(
    lengths: Tensor, batch_size: int, generator: torch.Generator, *, window: int = WINDOW
) -> list[Tensor]:
    """Every sample once, in batches of similar length, which come in a random order.

    The samples are shuffled and cut into windows of ``window`` batches; each window is sorted by length and cut into
    batches. There are as many batches as without buckets, of sizes that differ by at most one.

    Parameters
    ----------
    lengths
        Tokens of each sample, int64 (n,), on the CPU.
    generator
        Decides everything that is random.

    Returns
    -------
    list of Tensor
        The indices of each batch, int64, at most ``batch_size`` of them.

    Raises
    ------
    ValueError
        If ``batch_size`` or ``window`` is below 1.

    Examples
    --------
    >>> order = bucketed_order(torch.tensor([9, 1, 8, 2]), 2, torch.Generator().manual_seed(0))
    >>> sorted(sorted(batch.tolist()) for batch in order)
    [[0, 2], [1, 3]]
    """
    for name, value in {"batch_size": batch_size, "window": window}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1 is needed")
    # The same cut as in a plain epoch, so that neither the number of steps nor their sizes depend on the option.
    batches = math.ceil(len(lengths) / batch_size)
    shuffled = torch.randperm(len(lengths), generator=generator)
    sizes = [len(part) for part in shuffled.tensor_split(max(1, batches))]
    found = []
    for start in range(0, len(sizes), window):
        inside = sizes[start : start + window]
        first = sum(sizes[:start])
        rows = shuffled[first : first + sum(inside)]
        found += rows[lengths[rows].argsort(stable=True)].split(inside)
    return [found[number] for number in torch.randperm(len(found), generator=generator).tolist()]
