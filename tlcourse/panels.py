"""Drawings of a trade-off and of maps over pixels: data in, a figure of fixed size out. `cockpit` shows them.

What is chosen is large and in its colour, what it could have been is faint beside it, and the scale stays the same
whatever is chosen, so that two pictures can be compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from tlcourse.figures import FAINT, INK, Look, interval_of, looks, new_axes, note_on_seeds
from tlcourse.intervals import Scores

__all__ = [
    "MAPS_SIZE",
    "PLAIN",
    "Point",
    "TRADE_OFF_SIZE",
    "class_maps",
    "place_of_largest",
    "remedy_looks",
    "trade_off",
]

TRADE_OFF_SIZE, MAPS_SIZE = (900, 520), (900, 430)  # pixels
PLAIN = "plain"  # the remedy that is none: what the others are compared with
PALE = "#b4b8bf"
RIM = [withStroke(linewidth=3, foreground="white")]  # so that what is written shows on lines, and on dark and light
# Where a label may stand: beside its point in points, and what of the text is there.
SPOTS = [((9, 7), "left", "bottom"), ((-9, 7), "right", "bottom"), ((9, -7), "left", "top"), ((-9, -7), "right", "top")]
SPOTS += [((0, 13), "center", "bottom"), ((0, -13), "center", "top")]

Point = tuple[Scores, Scores]  # on the old task, on the new one


def remedy_looks(remedies: Iterable[str]) -> dict[str, Look]:
    """Give each remedy its colour and marker: those of `figures.looks`, and to ``"plain"`` a star in ink.

    Raises
    ------
    ValueError
        If there are more remedies than looks.

    Examples
    --------
    >>> [look.marker for look in remedy_looks(["plain", "L2-SP"]).values()]
    ['*', 'o']
    """
    remedies = list(remedies)
    given = looks(name for name in remedies if name != PLAIN)
    return {name: given.get(name, Look(INK, "*", "-")) for name in remedies}


def trade_off(
    points: Mapping[str, Mapping[str, Point]],
    differences: Mapping[str, Mapping[str, tuple[Scores | None, Scores | None]]],
    *,
    chosen: tuple[str, str],
    old: str,
    new: str,
    start: Scores | None = None,
) -> Figure:
    """The old task along, the new one up, one setting of one remedy chosen, and how far it is from ``"plain"``.

    Parameters
    ----------
    points
        Remedy -> setting -> scores on the old task and on the new one.
    differences
        The same less those of ``"plain"``, paired by seed, where there are any; None where the seeds do not pair.
    chosen
        The remedy and its setting.
    old, new
        The names of the axes, with units.
    start
        The old task before the new one, a dotted line.
    """
    width, height = TRADE_OFF_SIZE
    remedy, setting = chosen
    styles = remedy_looks(points)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    ax = new_axes(figure.add_axes((0.085, 0.115, 0.585, 0.8)))
    sides = list(zip(*(point for settings in points.values() for point in settings.values()), strict=True))
    ax.set(xlabel=old, ylabel=new, xlim=_limits([*sides[0], *([start] if start else [])]), ylim=_limits(sides[1]))
    figure.text(0.085, 0.965, f"{remedy}, {setting}", fontsize=11.5, weight="bold", color=INK, va="center")

    if start is not None:
        ax.axvline(start.mean, color=FAINT, linestyle=":", linewidth=1.6)
    plain = _means(next(iter(points[PLAIN].values()))) if PLAIN in points else None
    if plain is not None:  # what lies up and to the right of this cross is better in both
        ax.axvline(plain[0], color=PALE, linewidth=0.8, zorder=1)
        ax.axhline(plain[1], color=PALE, linewidth=0.8, zorder=1)
        ax.plot(*plain, "*", color=INK, markersize=15, markeredgecolor="white", zorder=4)
    for name, look in styles.items():
        x, y = np.transpose([_means(point) for point in points[name].values()])
        if name == remedy:
            rim = {"markeredgecolor": "white", "markeredgewidth": 0.8}
            ax.plot(x, y, look.line, color=look.colour, marker=look.marker, markersize=8, linewidth=1.6, **rim)
        else:
            ax.plot(x, y, look.marker, color=look.colour, markersize=6, alpha=0.5, markeredgewidth=0, zorder=1.5)
    look, (along, up) = styles[remedy], points[remedy][setting]
    ax.errorbar(along.mean, up.mean, xerr=_spread(along), yerr=_spread(up), **_pen(look, 15), zorder=5)
    _write_settings(ax, points, chosen, start)
    _key(figure, styles, remedy, note=note_on_seeds((along, up)), start=start is not None)
    if differences:
        _distance(figure, differences, chosen, look)
    return figure


def class_maps(
    maps: np.ndarray, *, classes: Sequence[str], shown: int | None, kind: str, title: str | None = None
) -> Figure:
    """A map of one class beside the mean over all, or that mean beside all classes, on one scale.

    Parameters
    ----------
    maps
        (classes, H, W). Where a value is negative, the scale is centred on 0; else it begins at 0.
    classes
        Their names.
    shown
        The number of the class; None for the mean over all.
    kind
        What the values are, written at the scale.
    title
        Written above, before the kind.
    """
    width, height = MAPS_SIZE
    top, signed = float(np.abs(maps).max()) or 1.0, bool(maps.min() < 0)
    scale = {"cmap": "RdBu_r", "vmin": -top} if signed else {"cmap": "magma", "vmin": 0.0}
    scale |= {"vmax": top, "interpolation": "nearest"}
    mean, of_all = maps.mean(axis=0), f"mean over {len(classes)} classes"
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)

    def place(picture: np.ndarray, x: float, y: float, side: float, name: str) -> Axes:
        """A square of so many pixels, from the upper left."""
        ax = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
        ax.imshow(picture, **scale)
        ax.set_title(
            name,
            fontsize=min(10 if side > 100 else 8, side / (0.8 * max(len(name), 1))),
            color=INK,
            pad=5 if side > 100 else 2,
        )
        ax.spines[:].set_color(PALE)
        ax.set(xticks=[], yticks=[])
        return ax

    side, first, second, above = 320, 45, 550, 68
    heading = f"{title}: {kind}" if title else kind
    figure.text(first / width, 1 - 20 / height, heading, fontsize=11.5, weight="bold", color=INK, va="center")
    large = mean if shown is None else maps[shown]
    axes = [place(large, first, above, side, of_all if shown is None else f"class {classes[shown]}")]
    if shown is None:
        columns = math.ceil(math.sqrt(len(classes)))
        pitch, named = side / columns, columns <= 6
        for number, (name, picture) in enumerate(zip(classes, maps, strict=True)):
            row, column = divmod(number, columns)
            room = 16 if named else 2  # above a picture and at its right
            place(picture, second + column * pitch, above + room + row * pitch, pitch - room, name if named else "")
        middle = (second + side / 2) / width
        figure.text(middle, 1 - 54 / height, "each class", fontsize=10, color=INK, ha="center", va="center")
    else:
        axes.append(place(mean, second, above, side, of_all))
    for ax in axes:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(6, integer=True))
        ax.tick_params(color=FAINT, labelcolor=INK, labelsize=8)
    place_of_it = place_of_largest(large, scale=top)
    if place_of_it is not None:
        row, column = place_of_it
        for colour, line in (("white", 3.4), (INK, 1.4)):  # one of the two shows on any colour
            frame = {"fill": False, "edgecolor": colour, "linewidth": line, "clip_on": False, "zorder": 3}
            axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
    bar = figure.colorbar(
        axes[0].images[0], cax=figure.add_axes((390 / width, 1 - (above + side) / height, 16 / width, side / height))
    )
    bar.set_label(f"{kind}; " + ("white is 0" if signed else "from 0") + ", one scale for all", fontsize=9, color=INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=FAINT, labelcolor=INK, labelsize=8)
    bar.formatter.set_powerlimits((-3, 4))
    bar.ax.yaxis.get_offset_text().set(fontsize=8, color=INK)
    return figure


def place_of_largest(picture: np.ndarray, *, scale: float) -> tuple[int, int] | None:
    """Row and column of the largest value; None where all are equal, but for rounding at that scale.

    Examples
    --------
    >>> place_of_largest(np.array([[0.0, 1.0], [0.5, 0.0]]), scale=1.0)
    (0, 1)
    >>> place_of_largest(np.array([[0.0, 1e-15]]), scale=1.0)
    """
    if picture.max() - picture.min() <= 1e-9 * scale:
        return None
    row, column = divmod(int(picture.argmax()), picture.shape[1])
    return row, column


def _means(point: Point) -> tuple[float, float]:
    return point[0].mean, point[1].mean


def _limits(scores: Iterable[Scores], *, also: Sequence[float] = ()) -> tuple[float, float]:
    """Room for all intervals, whatever is chosen."""
    ends = [*also, *(end for each in scores for end in interval_of(each))]
    low, high = min(ends), max(ends)
    room = 0.07 * (high - low) or 0.05 * abs(high) or 0.05
    return low - room, high + room


def _pen(look: Look, size: float) -> dict:
    """A marker in its colour with a rim and an interval in ink, as some of the colours are pale."""
    size = size * (1.35 if look.marker == "*" else 1)
    pen = {"color": look.colour, "marker": look.marker, "markersize": size, "markeredgecolor": INK}
    return pen | {"ecolor": INK, "elinewidth": 1.6, "capsize": 4}


def _spread(scores: Scores) -> np.ndarray:
    return np.abs(np.subtract(interval_of(scores), scores.mean))[:, None]


def _write_settings(
    ax: Axes, points: Mapping[str, Mapping[str, Point]], chosen: tuple[str, str], start: Scores | None
) -> None:
    """The settings of the chosen remedy beside their points, where there is room; the chosen one in any case."""
    settings = points[chosen[0]]
    point = settings[chosen[1]]
    ends = zip(*(interval_of(scores) for scores in point), strict=True)
    low, high = (ax.transData.transform(end) for end in ends)  # corners of both intervals
    x, y = ax.transData.transform(_means(point))
    marks = {
        remedy: [ax.transData.transform(_means(each)) for each in of_it.values()] for remedy, of_it in points.items()
    }
    # A label may not lie on these, and had better not lie on those.
    taken = [Bbox([(low[0], y - 4), (high[0], y + 4)]), Bbox([(x - 4, low[1]), (x + 4, high[1])])]
    taken += [Bbox([(x - 11, y - 11), (x + 11, y + 11)]), *(Bbox([at - 5, at + 5]) for at in marks[chosen[0]])]
    faint = [Bbox([at - 4, at + 4]) for remedy, of_it in marks.items() if remedy != chosen[0] for at in of_it]
    for one, next_one in pairwise(marks[chosen[0]]):  # the line that joins the settings
        faint += [Bbox([at - 2, at + 2]) for at in np.linspace(one, next_one, 40)[1:-1]]
    if start is not None:
        line = ax.transData.transform((start.mean, 0))[0]
        faint.append(Bbox([(line - 2, ax.bbox.y0), (line + 2, ax.bbox.y1)]))
    for setting in sorted(settings, key=lambda name: name != chosen[1]):
        bold = setting == chosen[1]
        how = {"fontsize": 9, "color": INK, "weight": "bold" if bold else "normal", "path_effects": RIM, "zorder": 6}
        text = ax.annotate(setting, _means(settings[setting]), textcoords="offset points", xytext=(0, 0), **how)
        rooms = []
        for number, (offset, horizontal, vertical) in enumerate(SPOTS):
            text.set(position=np.multiply(offset, 1.4 if bold else 1), ha=horizontal, va=vertical)
            box = text.get_window_extent()
            outside = not (ax.bbox.x0 < box.x0 < box.x1 < ax.bbox.x1 and ax.bbox.y0 < box.y0 < box.y1 < ax.bbox.y1)
            rooms.append((outside + box.count_overlaps(taken), box.count_overlaps(faint), number, box))
        covered, _, number, box = min(rooms, key=lambda room: room[:3])
        if covered and not bold:
            text.remove()
            continue
        offset, horizontal, vertical = SPOTS[number]
        text.set(position=np.multiply(offset, 1.4 if bold else 1), ha=horizontal, va=vertical)
        taken.append(box)


def _key(figure: Figure, styles: Mapping[str, Look], remedy: str, *, note: str, start: bool) -> None:
    """What each marker stands for, at the right; the chosen remedy is bold, the others are as faint as their points."""
    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            marker=look.marker,
            linestyle=look.line if name == remedy else "none",
            markersize=10 if look.marker == "*" else 7,
            alpha=1 if name in (remedy, PLAIN) else 0.5,
            label=name,
        )
        for name, look in styles.items()
    ]
    if start:
        handles.append(Line2D([], [], color=FAINT, linestyle=":", linewidth=1.6, label="old task, before the new one"))
    key = figure.legend(
        handles=handles,
        title=note,
        loc="upper left",
        bbox_to_anchor=(0.685, 0.985),
        frameon=False,
        fontsize=9,
        alignment="left",
    )
    key.get_title().set(fontsize=8.5, color=FAINT)
    for text in key.get_texts():
        text.set(color=INK, weight="bold" if text.get_text() == remedy else "normal")


def _distance(
    figure: Figure,
    differences: Mapping[str, Mapping[str, tuple[Scores | None, Scores | None]]],
    chosen: tuple[str, str],
    look: Look,
) -> None:
    """The differences to plain with their intervals, on a scale that has room for those of all settings."""
    ax = new_axes(figure.add_axes((0.74, 0.115, 0.245, 0.17)))
    note = {"fontsize": 8.5, "color": FAINT, "ha": "center", "va": "center", "path_effects": RIM}
    every = [each for settings in differences.values() for pair in settings.values() for each in pair if each]
    ax.set(xlim=_limits(every, also=(0.0,)), ylim=(1.6, -0.6))
    ax.set_yticks([0, 1], ["old", "new"])
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_title(f"minus {PLAIN}, paired by seed", fontsize=9, color=INK, loc="left")
    ax.tick_params(labelsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="y", visible=False)
    pair = differences.get(chosen[0], {}).get(chosen[1])
    if pair is None:
        ax.text(0.5, 0.5, "what others are compared with", transform=ax.transAxes, **note)
        return
    for row, difference in enumerate(pair):
        if difference is None:
            ax.text(0.5, row, "the seeds differ", transform=ax.get_yaxis_transform(), **note)
        else:
            ax.errorbar(difference.mean, row, xerr=_spread(difference), **_pen(look, 8))
