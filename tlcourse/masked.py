"""Texts of mixed length as one value: padded rows and the mask of the real positions. Lesson 06 uses it."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["Masked", "join"]


class Masked:
    """Padded rows and their mask, indexed like a tensor.

    Selecting rows also trims the padding that no selected row needs, so short texts make short batches.

    Parameters
    ----------
    values
        Token ids (n, L), or hidden states (n, L, D).
    mask
        (n, L), True where a position holds a token.

    Examples
    --------
    >>> texts = Masked(torch.tensor([[5, 6, 0], [7, 0, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool())
    >>> texts[torch.tensor([1])].values
    tensor([[7]])
    """

    def __init__(self, values: Tensor, mask: Tensor) -> None:
        if values.shape[:2] != mask.shape:
            raise ValueError(
                f"values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in their first two axes"
            )
        self.values, self.mask = values, mask

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator["Masked"]:
        return (self[torch.tensor([row])] for row in range(len(self)))

    def __getitem__(self, index: Tensor | slice) -> "Masked":
        mask = self.mask[index]
        longest = int(mask.sum(dim=1).max()) if len(mask) and mask.device.type != "meta" else mask.shape[1]
        return Masked(self.values[index][:, :longest], mask[:, :longest])

    def to(self, device: torch.device, **options) -> "Masked":
        return Masked(self.values.to(device, **options), self.mask.to(device, **options))

    def with_values(self, values: Tensor) -> "Masked":
        """The same mask around new values (n, L, ...)."""
        return Masked(values, self.mask)

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.mask.nbytes


def join(parts: list[Tensor] | list[Masked]) -> Tensor | Masked:
    """Concatenate along the samples; texts are padded to the longest part."""
    if not isinstance(parts[0], Masked):
        return torch.cat(parts)
    longest = max(part.mask.shape[1] for part in parts)
    padded = []
    for part in parts:
        missing = longest - part.mask.shape[1]
        trailing = (0, 0) * (part.values.dim() - 2)  # pad the axis L only
        values = torch.nn.functional.pad(part.values, (*trailing, 0, missing))
        padded.append((values, torch.nn.functional.pad(part.mask, (0, missing))))
    return Masked(torch.cat([values for values, _ in padded]), torch.cat([mask for _, mask in padded]))
