"""Figures of what a network sees: tables of pictures, curves over its stages, maps of similarity. Lesson 02 draws them.

They follow `figures` as `plots` does: `plots.show` puts them into a notebook, and pictures in colour are shown with
``colours=256``, which keeps the file small.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlcourse.figures import FAINT, INK, METRICS, interval_of, looks, new_axes, note_on_seeds
from tlcourse.intervals import Scores

__all__ = ["picture_table", "similarity_maps", "stage_curves"]

GAP, LINE = 4, 20  # pixels between pictures, and for a line of text


def picture_table(
    rows: Mapping[str, Any],
    *,
    titles: Sequence[str] | None = None,
    side: int = 80,
    divide: int | None = None,
    colour_map: str = "magma",
    licence: str | None = None,
) -> Figure:
    """Pictures in rows with a name each: one row a stage, one row a network.

    Parameters
    ----------
    rows
        Name -> pictures of one size: (n, 1 or 3, h, w), uint8 or float in 0..1, drawn as they are; or maps (n, h, w),
        each drawn in ``colour_map`` from its own smallest value to its largest. Rows may differ in n and in size.
    titles
        One a column.
    side
        Of a picture on the page, in pixels at 100 dpi. Smaller pictures are enlarged without smoothing.
    divide
        After how many columns a wider gap stands.
    licence
        Of what is shown; needed wherever solar cells or photographs are.

    Raises
    ------
    ValueError
        If a row is empty or of another shape, or the number of titles is not that of the columns.

    Examples
    --------
    >>> figure = picture_table({"stem": np.zeros((3, 8, 8)), "block1": np.zeros((2, 3, 4, 4))}, side=40)
    >>> [text.get_text() for text in figure.texts]
    ['stem', 'block1']
    """
    from PIL import Image

    drawn = {name: _as_pictures(name, pictures, colour_map) for name, pictures in rows.items()}
    if not drawn:
        raise ValueError("there is no row to draw")
    columns = max(len(pictures) for pictures in drawn.values())
    if titles is not None and len(titles) != columns:
        raise ValueError(f"{columns} columns but {len(titles)} titles")
    left = 12 + 8 * max(max(map(len, name.split("\n"))) for name in drawn)
    top = LINE * (titles is not None)
    pitch, extra = side + GAP, 3 * GAP * (divide is not None)
    width, height = left + columns * pitch + extra, top + len(drawn) * pitch + LINE * (licence is not None)
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    places = [left + column * pitch + extra * (divide is not None and column >= divide) for column in range(columns)]
    for row, pictures in enumerate(drawn.values()):
        for place, picture in zip(places, pictures, strict=False):
            smooth = picture.shape[0] > side
            resized = Image.fromarray(picture).resize(
                (side, side), Image.Resampling.BOX if smooth else Image.Resampling.NEAREST
            )
            page[top + row * pitch : top + row * pitch + side, place : place + side] = np.asarray(resized)
    figure = Figure(figsize=((width + 0.5) / 100, (height + 0.5) / 100), dpi=100)  # the half pixel: savefig rounds down
    figure.figimage(page, origin="upper")
    write = {"color": INK, "fontsize": 9}
    for row, name in enumerate(drawn):
        middle = 1 - (top + row * pitch + side / 2) / height
        figure.text((left - 8) / width, middle, name, ha="right", va="center", **write)
    for place, title in zip(places, titles or (), strict=False):
        figure.text((place + side / 2) / width, 1 - 0.5 * LINE / height, title, ha="center", va="center", **write)
    if licence:
        write = {"color": FAINT, "fontsize": 7.5}
        figure.text(1 - GAP / width, 0.5 * LINE / height, licence, ha="right", va="center", **write)
    return figure


def stage_curves(
    curves: Mapping[str, Mapping[Any, Scores]],
    *,
    metric: str = "accuracy",
    chance: float | None = None,
    level: tuple[str, Scores] | None = None,
    xlabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Score against the stages in their order, a line a series, with 95 % intervals.

    Parameters
    ----------
    curves
        Series -> stage (a name or a number) -> scores over seeds. The first series has all stages.
    metric
        A key of `evaluate`'s result, or a text for the y axis.
    chance
        What guessing gives, as a dotted line.
    level
        A name and scores that depend on no stage, drawn as a band.

    Examples
    --------
    >>> ax = stage_curves({"probe": {"stem": Scores((0.5, 0.6), (0, 1)), "neck": Scores((0.8, 0.9), (0, 1))}})
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['stem', 'neck']
    """
    ax = new_axes(ax)
    stages = list(next(iter(curves.values())))
    offsets = np.linspace(-0.04, 0.04, len(curves)) * (len(curves) > 1)
    if level is not None:
        low, high = interval_of(level[1])
        ax.axhspan(low, high, color=FAINT, alpha=0.18, linewidth=0)
        ax.axhline(level[1].mean, color=FAINT, linewidth=1.2, label=level[0])
    for offset, (name, look) in zip(offsets, looks(curves).items(), strict=True):
        x = np.array([stages.index(stage) for stage in curves[name]]) + offset
        mean = np.array([scores.mean for scores in curves[name].values()])
        low, high = np.array([interval_of(scores) for scores in curves[name].values()]).T
        pen = {"color": look.colour, "marker": look.marker, "linestyle": look.line, "linewidth": 1.6, "markersize": 6}
        ax.errorbar(x, mean, (mean - low, high - mean), **pen, elinewidth=1.2, capsize=2, label=name)
    if chance is not None:
        ax.axhline(chance, color=INK, linestyle=":", linewidth=1, label="guessing")
    ax.set_xticks(range(len(stages)), [str(stage) for stage in stages])
    ax.set(xlabel=xlabel, ylabel=METRICS.get(metric, metric))
    ax.legend(
        frameon=False, fontsize=9, title=note_on_seeds(score for curve in curves.values() for score in curve.values())
    )
    return ax


def similarity_maps(maps: Mapping[str, Any], *, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    """Matrices of similarities in 0..1, side by side, on one scale of colours.

    Parameters
    ----------
    maps
        Title -> (rows, columns) values. What lies below 0 is drawn as 0.
    rows, columns
        The names of both sides, such as the stages of two networks; the first row is the lowest.

    Raises
    ------
    ValueError
        If a matrix does not fit the names or holds a value that is not finite.

    Examples
    --------
    >>> figure = similarity_maps({"alike": np.eye(2)}, rows=["stem", "neck"], columns=["stem", "neck"])
    >>> figure.axes[0].get_title()
    'alike'
    """
    maps = {title: np.asarray(values, dtype=float) for title, values in maps.items()}
    for title, values in maps.items():
        if values.shape != (len(rows), len(columns)) or not np.isfinite(values).all():
            raise ValueError(f"{title!r}: need {len(rows)} x {len(columns)} finite values, not {values.shape}")
    figure = Figure(figsize=(3.1 * len(maps) + 0.6, 3.5), dpi=100, layout="constrained")
    for number, (title, values) in enumerate(maps.items()):
        ax = figure.add_subplot(1, len(maps), number + 1)
        drawn = ax.imshow(values, origin="lower", cmap="viridis", vmin=0, vmax=1)
        ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8, color=INK)
        ax.set_yticks(range(len(rows)), rows if number == 0 else [""] * len(rows), fontsize=8, color=INK)
        ax.tick_params(length=0)
        ax.set_title(title, fontsize=9.5, color=INK)
    figure.colorbar(drawn, ax=figure.axes, shrink=0.75, label="CKA")
    return figure


def _as_pictures(name: str, pictures: Any, colour_map: str) -> np.ndarray:
    """uint8 (n, h, w, 3)."""
    import matplotlib

    values = np.asarray(pictures)
    if values.ndim == 3 and values.size:
        low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
        scaled = (values - low) / np.where(high > low, high - low, math.inf)
        return (matplotlib.colormaps[colour_map](scaled)[..., :3] * 255).round().astype(np.uint8)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or not values.size:
        raise ValueError(f"row {name!r}: need (n, 1 or 3, h, w) or maps (n, h, w) and n > 0, not {values.shape}")
    if values.dtype != np.uint8:
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return np.repeat(values, 3 // values.shape[1], axis=1).transpose(0, 2, 3, 1)
