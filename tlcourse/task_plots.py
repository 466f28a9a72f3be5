"""Figures of several tasks: the matrix R, old against new, the path of the weights, which strategy wins where.

Lessons 07 to 10 draw with them, through `plots`. Data in, Axes out, as there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from tlcourse.figures import BAR, FAINT, INK, METRICS, interval_of, looks, new_axes, note_on_seeds
from tlcourse.intervals import Scores

__all__ = ["frontier", "result_matrix", "strategy_map", "weight_path"]


def result_matrix(
    R: ArrayLike,
    *,
    tasks: Sequence[str],
    metric: str = "accuracy",
    limits: tuple[float, float] = (0.0, 1.0),
    ax: Axes | None = None,
) -> Axes:
    """The matrix R of `forgetting.forgetting_scores` as a heat map: a row after each task, a column for each score.

    Parameters
    ----------
    R
        (T, T), or (seeds, T, T), of which the mean is drawn. NaN is left white.
    tasks
        The T names, in the order of training.
    limits
        The scores of the lightest and of the darkest colour.

    Raises
    ------
    ValueError
        If R has another shape, or there is not a name for each task.

    Examples
    --------
    >>> ax = result_matrix([[0.9, np.nan], [0.5, 0.8]], tasks=["zeros", "ones"])
    >>> [text.get_text() for text in ax.texts]
    ['0.90', '0.50', '0.80']
    """
    scores = np.asarray(R, dtype=float)
    count = len(tasks)
    if scores.ndim not in (2, 3) or scores.shape[-2:] != (count, count) or not scores.size:
        raise ValueError(f"R is {scores.shape}; for {count} task(s) it is ({count}, {count}), or that for each seed")
    seeds = scores.shape[0] if scores.ndim == 3 else 1
    means = scores.mean(axis=0) if scores.ndim == 3 else scores
    ax = new_axes(ax, width=2.2 + 0.9 * count, height=1.6 + 0.6 * count)
    low, high = limits
    ax.imshow(means, cmap="Blues", vmin=low, vmax=high + 0.35 * (high - low), aspect="auto")  # dark ink stays legible
    for row, column in np.argwhere(np.isfinite(means)):
        learnt = {"color": INK, "weight": "bold"} if row == column else {"color": INK if row > column else FAINT}
        ax.text(column, row, f"{means[row, column]:.2f}", ha="center", va="center", **learnt)
    ax.set_xticks(range(count), tasks)
    ax.set_yticks(range(count), [f"after {name}" for name in tasks])
    of = "one seed" if seeds == 1 else f"mean of {seeds} seeds"
    ax.set_xlabel(f"{METRICS.get(metric, metric)} on this task, {of}")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    return ax


def frontier(
    strategies: Mapping[str, tuple[Scores, Scores] | Mapping[str, tuple[Scores, Scores]]],
    *,
    old: str,
    new: str,
    ax: Axes | None = None,
) -> Axes:
    """Each strategy where it ends up: the old task along, the new one up, with 95 % intervals both ways.

    Parameters
    ----------
    strategies
        Name -> (scores on the old task, scores on the new one), or setting -> such a pair: the points of one strategy,
        which are joined and written beside.
    old, new
        The names of the axes, with units.

    Examples
    --------
    >>> point = Scores((0.6, 0.7), seeds=(0, 1)), Scores((0.8, 0.9), seeds=(0, 1))
    >>> frontier({"plain": point}, old="news", new="tweets").get_xlabel()
    'news'
    """
    ax = new_axes(ax, width=7.5, height=5)
    everything = []
    for name, look in looks(strategies).items():
        given = strategies[name]
        points = given if isinstance(given, Mapping) else {"": given}
        sides = list(zip(*points.values(), strict=True))  # the scores on the old task, those on the new one
        x, y = ([scores.mean for scores in side] for side in sides)
        spread = [np.array([np.abs(np.subtract(interval_of(s), s.mean)) for s in side]).T for side in sides]
        pen = {"color": look.colour, "marker": look.marker, "elinewidth": 1, "capsize": 2, "label": name}
        ax.errorbar(x, y, yerr=spread[1], xerr=spread[0], linestyle=look.line, linewidth=1, markersize=8, **pen)
        for setting, *place in zip(points, x, y, strict=True):
            ax.annotate(setting, place, (6, 5), textcoords="offset points", color=look.colour, fontsize=8)
        everything += [scores for side in sides for scores in side]
    ax.set(xlabel=old, ylabel=new)
    ax.legend(frameon=False, title=note_on_seeds(everything), bbox_to_anchor=(1, 1), loc="upper left")
    return ax


def weight_path(
    x: ArrayLike,
    y: ArrayLike,
    *,
    old_loss: ArrayLike,
    new_loss: ArrayLike,
    paths: Mapping[str, ArrayLike],
    ax: Axes | None = None,
) -> Axes:
    """Contours of two tasks' losses on a plane of weights, and the ways that trainings took in it.

    Parameters
    ----------
    x, y
        (X,) and (Y,): coordinates of the grid, in the length of the weights; those of `weight_planes.WeightPlane`.
    old_loss, new_loss
        (Y, X): the loss of each task on the grid, in nats. Filled for the old task, lines for the new one, both in
        steps of equal ratio.
    paths
        Name -> (steps, 2): where a training went. All begin at the same place, as a rule, which is marked.

    Raises
    ------
    ValueError
        If a loss does not fit the grid or is not positive and finite, or a path is not (steps, 2).

    Examples
    --------
    >>> bowl = [[2.0, 1.0, 2.0], [1.5, 0.5, 1.5]]
    >>> ax = weight_path([0, 1, 2], [0, 1], old_loss=bowl, new_loss=bowl, paths={"plain": [[0, 0], [1, 1]]})
    >>> ax.get_legend_handles_labels()[1]
    ['plain']
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    losses = {"old_loss": np.asarray(old_loss, dtype=float), "new_loss": np.asarray(new_loss, dtype=float)}
    for name, loss in losses.items():
        if loss.shape != (len(y), len(x)) or not (np.isfinite(loss) & (loss > 0)).all():
            raise ValueError(f"{name} is {loss.shape}: positive numbers (Y, X) = ({len(y)}, {len(x)}) are needed")
    ax = new_axes(ax, width=7, height=5.5)
    ax.contourf(x, y, losses["old_loss"], levels=_levels(losses["old_loss"]), cmap="Blues_r", alpha=0.8, extend="both")
    new = ax.contour(x, y, losses["new_loss"], levels=_levels(losses["new_loss"])[::2], colors=BAR, linewidths=0.9)
    ax.clabel(new, fmt="%.2g", fontsize=7)
    for name, look in looks(paths).items():
        path = np.asarray(paths[name], dtype=float)
        if path.ndim != 2 or path.shape[1] != 2:
            raise ValueError(f"the path {name!r} is {path.shape}; (steps, 2) is needed")
        ax.plot(*path.T, look.line, color=INK, linewidth=3.2)  # a rim, so that it shows on dark and on light
        ax.plot(*path.T, look.line, color=look.colour, marker=look.marker, markevery=[-1], linewidth=1.8, label=name)
        ax.plot(*path[0], "o", color=INK, markerfacecolor="white", markersize=8)
    ax.set(xlabel="along the plane", ylabel="across it")
    ax.set_title("filled: loss of the old task, dark is low; red lines: of the new one", fontsize=9, color=FAINT)
    ax.legend(frameon=True, framealpha=0.9)
    ax.grid(visible=False)
    return ax


def strategy_map(
    grid: Mapping[tuple, Mapping[str, Scores]],
    *,
    across: str,
    up: str,
    metric: str = "accuracy",
    ax: Axes | None = None,
) -> Axes:
    r"""Which strategy has the highest mean in each cell of a grid, and by how much it leads the second.

    The cell bears the winner's colour, name, mean and lead; where the 95 % interval of the paired lead
    holds zero the colour is pale and the lead stands in brackets: two or more are as good as each other there.

    Parameters
    ----------
    grid
        (place across, place up) -> strategy -> scores over paired seeds; at least two strategies a cell.
    across, up
        The names of the axes, with units.

    Raises
    ------
    ValueError
        If a cell is missing, or has one strategy only.

    Examples
    --------
    >>> cell = {"probe": Scores((0.9, 0.92), seeds=(0, 1)), "from scratch": Scores((0.5, 0.52), seeds=(0, 1))}
    >>> [text.get_text() for text in strategy_map({(30, 0.0): cell}, across="labels", up="distance").texts]
    ['probe\n0.91 (+0.40)']
    """
    columns, rows = (list(dict.fromkeys(place[axis] for place in grid)) for axis in (0, 1))
    ax = new_axes(ax, width=1.6 + 1.35 * len(columns), height=1.4 + 0.62 * len(rows))
    everything = []
    pens = looks(dict.fromkeys(name for cell in grid.values() for name in cell))
    for x, column in enumerate(columns):
        for y, row in enumerate(rows):
            cell = grid.get((column, row), {})
            if len(cell) < 2:
                raise ValueError(f"{across} {column}, {up} {row}: {len(cell)} strategies; at least two are needed")
            first, second = sorted(cell, key=lambda name: -cell[name].mean)[:2]
            lead = cell[first] - cell[second]
            clear = interval_of(lead)[0] > 0
            ax.fill_between(
                [x - 0.5, x + 0.5], y - 0.5, y + 0.5, color=pens[first].colour, alpha=0.45 if clear else 0.12
            )
            said = f"{lead.mean:+.2f}" if clear else f"[{lead.mean:+.2f}]"
            ax.text(x, y, f"{first}\n{cell[first].mean:.2f} ({said})", ha="center", va="center", fontsize=8, color=INK)
            everything += cell.values()
    ax.set_xticks(range(len(columns)), [f"{column:,}" for column in columns])
    ax.set_yticks(range(len(rows)), [f"{row}" for row in rows])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5), ylabel=up)
    ax.set_xlabel(f"{across}; mean {METRICS.get(metric, metric)} (lead), {note_on_seeds(everything)}")
    ax.grid(visible=False)
    ax.tick_params(length=0)
    return ax


def _levels(loss: np.ndarray) -> np.ndarray:
    low, high = loss.min(), np.quantile(loss, 0.95)
    return np.geomspace(low, max(high, 1.01 * low), 16)
