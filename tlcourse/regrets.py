"""How good is advice? Its regret: what the best strategy would have scored more. Lesson 07 judges its advisors by it.

A grid is a table of cells (a task with so many labels), each with the scores of every strategy over the same seeds. An
advisor names a strategy for a cell. It is judged on cells that it has not seen: `nearest_advice` learns from the rest.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from tlcourse.intervals import Scores

__all__ = ["nearest_advice", "regret"]

Grid = Mapping[Hashable, Mapping[str, Scores]]


def regret(grid: Grid, advice: Callable[[Hashable], str]) -> Scores:
    """What following an advice costs, seed by seed, averaged over the cells; 0 where it always names the best.

    The best strategy of a cell is that of the highest mean over the seeds, in hindsight, so that a single lucky
    run is no bar. A seed's regret can be negative, the mean over seeds cannot.

    Parameters
    ----------
    grid
        Cell -> strategy -> scores, every cell with the same seeds.
    advice
        From a cell to the strategy that it names.

    Raises
    ------
    KeyError
        If a strategy is named that a cell has no scores of.

    Examples
    --------
    >>> cell = {"probe": Scores((0.7, 0.8), seeds=(0, 1)), "last": Scores((0.6, 0.8), seeds=(0, 1))}
    >>> regret({"few labels": cell}, lambda name: "last").mean.__round__(3)
    0.05
    """
    lost = []
    for cell, scores in grid.items():
        best = max(scores.values(), key=lambda each: each.mean)
        lost.append(best - _of(scores, advice(cell), cell))
    means = np.mean([each.values for each in lost], axis=0)  # over cells (seeds,)
    return Scores(tuple(means.tolist()), lost[0].seeds, paired=True)


def nearest_advice(
    grid: Grid,
    described: Mapping[Hashable, Sequence[float]],
    cell: Hashable,
    *,
    neighbours: int = 3,
    unseen: Callable[[Hashable], bool] | None = None,
) -> str:
    """The strategy that did best on the cells most like this one, which is itself never looked at.

    Likeness is the Euclidean distance of the descriptions, each of their numbers divided by its spread over the cells
    that are seen. Nearer cells count more, by one over (1 + distance).

    Parameters
    ----------
    grid
        As in `regret`.
    described
        Cell -> numbers that are known before anything is trained, such as the logarithm of the labels.
    cell
        The cell to advise on.
    neighbours
        How many cells are asked, at least 1.
    unseen
        Which cells to leave out besides this one: all of the same domain, for example.

    Raises
    ------
    ValueError
        If fewer cells than ``neighbours`` are left.

    Examples
    --------
    >>> def cell(probe, last):
    ...     return {"probe": Scores((probe, probe), seeds=(0, 1)), "last": Scores((last, last), seeds=(0, 1))}
    >>> grid = {10: cell(0.6, 0.5), 20: cell(0.7, 0.6), 1000: cell(0.8, 0.9)}
    >>> nearest_advice(grid, {10: [1.0], 20: [1.3], 1000: [3.0]}, 20, neighbours=1)
    'probe'
    """
    seen = [other for other in grid if other != cell and not (unseen and unseen(other))]
    if not 1 <= neighbours <= len(seen):
        raise ValueError(f"neighbours={neighbours}: {len(seen)} cells are left to learn from")
    known = np.array([described[other] for other in seen], dtype=float)  # (cells, numbers)
    spread = known.std(axis=0)
    away = (known - np.array(described[cell], dtype=float)) / np.where(spread > 0, spread, 1.0)
    distance = np.linalg.norm(away, axis=1)
    nearest = np.argsort(distance, kind="stable")[:neighbours]
    votes = {
        name: sum(grid[seen[i]][name].mean / (1 + distance[i]) for i in nearest) for name in grid[seen[nearest[0]]]
    }
    return max(votes, key=votes.__getitem__)


def _of(scores: Mapping[str, Scores], strategy: str, cell: Hashable) -> Scores:
    if strategy not in scores:
        raise KeyError(f"cell {cell!r} was advised {strategy!r}, which was not measured there: {', '.join(scores)}")
    return scores[strategy]
