"""A plane through three states of a network: where a training went in it, and the loss everywhere on it.

Lessons 08 and 10 draw with it how a second task leads away from the first (`plots.weight_path`).
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.data import Split

__all__ = ["WeightPlane", "losses_on_plane", "weight_plane"]

State = Mapping[str, Tensor]


class WeightPlane:
    """Weights as an origin and two directions of length one at a right angle; `weight_plane` makes it.

    Attributes
    ----------
    names
        The parameters that it is about, in their order.
    """

    def __init__(self, origin: dict[str, Tensor], first: Tensor, second: Tensor) -> None:
        self.names = tuple(origin)
        self._origin, self._axes = origin, torch.stack([first, second])  # (2, weights)

    def coordinates(self, state: State) -> tuple[float, float]:
        """Where a state lies; what of it points out of the plane is not seen."""
        away = _flat(state, self.names) - _flat(self._origin, self.names)
        x, y = (self._axes @ away).tolist()
        return x, y

    def outside(self, state: State) -> float:
        """How far a state lies from the plane, as a share of its distance to the origin."""
        away = _flat(state, self.names) - _flat(self._origin, self.names)
        length = away.norm().item()
        return (away - self._axes.T @ (self._axes @ away)).norm().item() / length if length else 0.0

    def state(self, x: float, y: float) -> dict[str, Tensor]:
        """The weights at a place, as a state dict of these names."""
        moved = self._axes.T @ torch.tensor([x, y], dtype=self._axes.dtype)
        pieces = moved.split([self._origin[name].numel() for name in self.names])
        return {
            name: (value.double() + piece.view_as(value)).to(value.dtype)
            for (name, value), piece in zip(self._origin.items(), pieces, strict=True)
        }


def weight_plane(origin: State, first: State, second: State, *, names: Iterable[str]) -> WeightPlane:
    """The plane through three states: from the origin straight to the first, and on to the side of the second.

    Parameters
    ----------
    origin, first, second
        State dicts of one network.
    names
        The parameters to take. Buffers, such as BatchNorm's statistics, have no place in a plane of weights.

    Raises
    ------
    ValueError
        If the three lie on one line.

    Examples
    --------
    >>> corner = {"w": torch.tensor([0.0, 0.0])}
    >>> right, above = {"w": torch.tensor([2.0, 0.0])}, {"w": torch.tensor([1.0, 3.0])}
    >>> plane = weight_plane(corner, right, above, names=["w"])
    >>> plane.coordinates(right), plane.coordinates(above)
    ((2.0, 0.0), (1.0, 3.0))
    """
    start = {name: origin[name].detach().cpu().clone() for name in names}
    along, aside = (_flat(state, tuple(start)) - _flat(start, tuple(start)) for state in (first, second))
    if not along.norm() > 0:
        raise ValueError("origin and first are the same weights: they span no plane")
    along = along / along.norm()
    across = aside - (along @ aside) * along
    if not across.norm() > 1e-6 * aside.norm():
        raise ValueError("the three states lie on one line: they span no plane")
    return WeightPlane(start, along, across / across.norm())


def losses_on_plane(
    model: Model, plane: WeightPlane, split: Split, x: ArrayLike, y: ArrayLike, *, head: str | None = None
) -> np.ndarray:
    """The mean cross-entropy of a split at each place of a grid, in eval mode; the model is left as it was.

    Parameters
    ----------
    x, y
        (X,) and (Y,): coordinates.

    Returns
    -------
    numpy.ndarray
        (Y, X), in nats.
    """
    before = {name: value.detach().clone() for name, value in model.named_parameters() if name in plane.names}
    device = next(model.parameters()).device
    split = split.to(device)
    state = model.backbone.preprocessing(split.inputs)
    losses = np.empty((len(np.atleast_1d(y)), len(np.atleast_1d(x))))
    try:
        with evaluating(model), torch.no_grad():
            for row, up in enumerate(np.atleast_1d(y)):
                for column, along in enumerate(np.atleast_1d(x)):
                    model.load_state_dict(plane.state(float(along), float(up)), strict=False)
                    losses[row, column] = F.cross_entropy(model.run(state, head=head), split.labels).item()
    finally:
        model.load_state_dict(before, strict=False)
    return losses


def _flat(state: State, names: tuple[str, ...]) -> Tensor:
    """(weights,) in double precision, so that a plane of small steps keeps its digits."""
    return torch.cat([state[name].detach().cpu().double().flatten() for name in names])
