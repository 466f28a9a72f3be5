"""A map of which strategy wins where, over two things that a task is described by. Lesson 07 draws it.

Data in, Axes out, as in `plots`, which shows it.
"""

from collections.abc import Mapping

from matplotlib.axes import Axes

from tlcourse.figures import INK, METRICS, interval_of, looks, new_axes, note_on_seeds
from tlcourse.intervals import Scores

__all__ = ["strategy_map"]


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
