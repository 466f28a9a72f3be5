"""Inputs on which every known wrong way is told from the right one, and from every other wrong way."""

from collections.abc import Callable, Sequence

import numpy as np

from tlcourse.checks.judging import mismatch
from tlcourse.checks.spec import Inputs, Outputs

__all__ = ["draw_apart"]

TRIES = 2000


def draw_apart(
    rng: np.random.Generator,
    draw: Callable[[np.random.Generator], Inputs],
    outcomes: Sequence[Callable[[Inputs], Outputs]],
    *,
    tolerance: float = 1e-3,
) -> Inputs:
    """Draw until no two of the outcomes agree.

    Raises
    ------
    RuntimeError
        If that does not happen in 2,000 draws: the task cannot tell its wrong answers apart.

    Examples
    --------
    >>> ways = (lambda i: {"y": i["x"] * 2}, lambda i: {"y": i["x"] ** 2})  # the same for 0 and for 2
    >>> draw_apart(np.random.default_rng(0), lambda rng: {"x": int(rng.integers(4))}, ways)["x"] in (1, 3)
    True
    """
    for _ in range(TRIES):
        inputs = draw(rng)
        found = [outcome(inputs) for outcome in outcomes]
        if all(
            mismatch(found[i], found[j], tolerance=tolerance) is not None for i in range(len(found)) for j in range(i)
        ):
            return inputs
    raise RuntimeError(f"{TRIES} draws, and in each of them two of {len(outcomes)} ways come to the same")
