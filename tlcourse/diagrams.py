"""Drawings of plans, of schedules and of what a unit sees: data in, a figure of fixed size out.
`explorers` and `feature_browser` show them.

A rate has one scale of colours, and a number or a line beside the colour; what is frozen is hatched. A network is
drawn from its input on the left, or below, to its head.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from tlcourse.figures import FAINT, INK, MEASURED, new_axes
from tlcourse.memory import TrainingMemory

__all__ = ["PLAN_SIZE", "TIMELINE_SIZE", "compact", "in_megabytes", "plan_diagram", "rate_timeline", "unit_page"]

PLAN_SIZE, TIMELINE_SIZE = (900, 500), (900, 480)  # pixels
STILL = {"facecolor": "#f1f2f4", "edgecolor": "#b4b8bf", "hatch": "////", "linewidth": 0}
HOLDS = {"weights": "#94a4a2", "gradients": "#3f90da", "optimiser": "#832db6", "activations": "#ffa90e"}
GAP = 0.006  # between blocks, of the width of all
MOST = 1000  # columns of a timeline; with more steps than that, some are left out


def compact(count: float) -> str:
    """A count in three digits: 912, 1.28 k, 3.37 M."""
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= 0.9995 * size:  # what rounds to 1000 of a unit is 1 of the next
            return f"{count / size:.3g}{sign}"
    return f"{count:.0f}"


def in_megabytes(count: float) -> str:
    """Bytes as megabytes (a million bytes), in two digits below ten."""
    return f"{count / 1e6:.2g} MB" if count < 1e7 else f"{count / 1e6:,.0f} MB"


def plan_diagram(
    plans: Mapping[str, Sequence[dict]],
    memory: Mapping[str, TrainingMemory],
    *,
    rates: tuple[float, float],
    most: float,
) -> Figure:
    """One plan, or two below each other: the stages as blocks, their share of the backward pass, and the memory.

    Parameters
    ----------
    plans
        Name -> what `describe_plan` returned with an example; one or two.
    memory
        Name -> `TrainingMemory`.
    rates
        The lowest and highest rate that the scale of colours shows.
    most
        Bytes at the end of the scale of memory.
    """
    width, height = PLAN_SIZE
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    top = 0.97
    band = 0.62 / len(plans) if len(plans) > 1 else 0.44
    for name, rows in plans.items():
        _blocks(figure.add_axes((0.1, top - band, 0.885, band)), name, rows, rates)
        top -= band
    if len(plans) == 1:
        top -= 0.02
    lowest = 0.2 if len(plans) > 1 else 0.185
    _backward(figure.add_axes((0.1, lowest, 0.885, top - lowest - 0.035)), plans)
    _memory(figure.add_axes((0.1, 0.035, 0.885, 0.105)), memory, most)
    return figure


def rate_timeline(
    rates: np.ndarray,
    factors: np.ndarray,
    *,
    frozen: np.ndarray,
    stages: Sequence[str],
    phases: Sequence[int],
    steps_an_epoch: int,
    step: int,
    title: str,
) -> Figure:
    """The rate of every stage at every step, below the factor that they have in common.

    Parameters
    ----------
    rates
        (stages, steps). The first stage is drawn lowest.
    factors
        (steps,).
    frozen
        (stages, steps): where a stage is frozen; a stage that is not may still have a rate of 0.
    phases
        The step at which each phase begins.
    step
        The one that is read out at the right.
    """
    width, height = TIMELINE_SIZE
    total = len(factors)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    left, right = 0.105, 0.755
    above = new_axes(figure.add_axes((left, 0.745, right - left, 0.165)))
    main = figure.add_axes((left, 0.115, right - left, 0.56))
    for ax in (above, main):
        ax.set_xlim(-0.5, total - 0.5)
    above.plot(np.arange(total), factors, color=INK, linewidth=1.4)
    above.plot(step, factors[step], "o", color=MEASURED, markersize=6)
    above.set(ylim=(0, 1.12 * max(factors.max(), 1e-12)), ylabel="factor")
    above.tick_params(labelbottom=False)
    epochs = total // steps_an_epoch
    shown = range(0, epochs + 1, max(1, math.ceil(epochs / 15)))
    counted = above.secondary_xaxis(
        "top", functions=(lambda x: (x + 0.5) / steps_an_epoch, lambda x: x * steps_an_epoch - 0.5)
    )
    counted.set_xticks(list(shown))
    counted.tick_params(color=FAINT, labelcolor=INK, labelsize=8, pad=1)
    counted.spines["top"].set_visible(False)
    figure.text(left - 0.012, 0.935, "epochs", ha="right", va="center", fontsize=9, color=INK)
    figure.text(left, 0.985, title, ha="left", va="top", fontsize=10.5, color=INK)

    moving = rates[rates > 0]
    norm = _scale(moving.min(), moving.max()) if moving.size else _scale(1e-4, 1e-3)
    columns = np.unique(np.linspace(0, total - 1, min(total, MOST)).round().astype(int))
    edges = np.append(columns - 0.5, total - 0.5)
    main.add_patch(Rectangle((-0.5, -0.5), total, len(stages), **STILL))
    rates_drawn = np.maximum(rates, norm.vmin)  # a scale of logarithms has no place for 0
    drawn = np.ma.masked_array(rates_drawn, frozen)[:, columns]
    small = min(9.0, 200 / len(stages))
    mesh = main.pcolormesh(edges, np.arange(len(stages) + 1) - 0.5, drawn, cmap=_heat(), norm=norm)
    for number in range(len(stages)):
        # The same rate as a line, from the floor of its row (the lowest of all rates) to its ceiling.
        line = np.where(frozen[number], np.nan, number - 0.42 + 0.8 * norm(rates_drawn[number]))
        main.plot(
            np.arange(total),
            line,
            color=INK,
            linewidth=1.1,
            path_effects=[withStroke(linewidth=2.6, foreground="white")],
        )
        still = _longest_run(frozen[number])
        if len(still) > 0.14 * total:
            label = main.text(still.mean(), number, "frozen", ha="center", va="center", fontsize=small, color=FAINT)
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5})
    for boundary in phases[1:]:
        for ax in (above, main):
            ax.axvline(boundary - 0.5, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)))
    for number in range(1, len(stages)):
        main.axhline(number - 0.5, color="white", linewidth=1.5)
    for ax in (above, main):
        ax.axvline(step, color=MEASURED, linewidth=1.6)
    main.set_ylim(-0.5, len(stages) - 0.5)
    main.set_yticks(range(len(stages)), stages, fontsize=small, color=INK)
    main.tick_params(length=0, labelcolor=INK)
    main.set_xlabel("step", color=INK)
    main.spines[:].set_visible(False)
    figure.text(right + 0.012, 0.715, f"rate at step {step:,}", fontsize=9, color=MEASURED, va="center", weight="bold")
    for number, row in enumerate(rates):
        said = "frozen" if frozen[number, step] else f"{row[step]:.2e}"
        main.text(
            1.018,
            number,
            said,
            transform=main.get_yaxis_transform(),
            fontsize=small,
            va="center",
            color=FAINT if frozen[number, step] else INK,
        )
    bar = figure.colorbar(mesh, cax=figure.add_axes((0.885, 0.115, 0.018, 0.56)))
    bar.set_label("rate (logarithmic)", color=INK, fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=FAINT, labelcolor=INK, labelsize=8)
    return figure


def unit_page(
    unit: Mapping[str, Any], *, title: str, columns: int, with_maps: bool, licence: str | None = None
) -> Figure:
    """What excites one unit: the picture made for it, large; the inputs that it answers to most; its maps of them.

    Parameters
    ----------
    unit
        ``visualisation`` (3, h, w) in 0..1, ``top`` (k, 3, h, w) of uint8 and, where there are any, ``maps`` (k, h, w),
        all on one scale: black where the unit is least excited by these inputs, bright where it is most.
    columns
        Room for so many inputs.
    with_maps
        Leave room for maps, whether this unit has some or not.
    """
    side, gap, line = 92, 5, 24  # pixels
    large = 2 * side + gap
    width, height = (
        5 * gap + large + columns * (side + gap),
        2 * line + large + line * (licence is not None) + 4,
    )
    figure = Figure(figsize=((width + 0.5) / 100, (height + 0.5) / 100), dpi=100)

    def place(picture: np.ndarray, x: int, y: int, size: int, **how) -> None:
        ax = figure.add_axes((x / width, 1 - (y + size) / height, size / width, size / height))
        ax.imshow(picture, interpolation="nearest", **how)
        ax.set_axis_off()

    def write(text: str, x: int, y: float, **how) -> None:
        figure.text(x / width, 1 - y / height, text, **({"fontsize": 9, "color": INK, "va": "center"} | how))

    first, top = 4 * gap + large, 2 * line
    write(title, gap, line / 2 + 2, fontsize=10.5)
    write("made for the unit", gap, 1.5 * line)
    write("what it likes best of all inputs" + (", and where" if with_maps else ""), first, 1.5 * line)
    place(np.asarray(unit["visualisation"]).clip(0, 1).transpose(1, 2, 0), gap, top, large)
    maps = None if unit.get("maps") is None else np.asarray(unit["maps"], dtype=float)
    for number, picture in enumerate(np.asarray(unit["top"])):
        x = first + number * (side + gap)
        place(picture.transpose(1, 2, 0), x, top, side)
        if maps is not None:
            place(maps[number], x, top + side + gap, side, cmap="magma", vmin=maps.min(), vmax=maps.max())
    if maps is None and with_maps:
        write("no maps: this stage has pooled space away", first, top + 1.5 * side + gap, color=FAINT)
    if licence:
        write(licence, width - gap, height - line / 2, fontsize=7.5, color=FAINT, ha="right")
    return figure


def _blocks(ax: Axes, name: str, rows: Sequence[dict], rates: tuple[float, float]) -> None:
    """A row of blocks: filled as far as their parameters move, hatched where they are frozen."""
    ax.set(xlim=(0, 1), ylim=(-0.62, 1.62))
    ax.set_axis_off()
    moving, all_of_them = (sum(row[key] for row in rows) for key in ("trainable", "parameters"))
    share = 100 * sum(row["backward"] for row in rows)
    told = f"{compact(moving)} of {compact(all_of_them)} parameters move, {share:.3g} % of the full backward pass"
    ax.text(-0.1, 1.5, name, fontsize=11, weight="bold", color=INK, va="center")
    ax.text(1, 1.5, told, fontsize=9.5, color=INK, va="center", ha="right")
    norm, heat = _scale(*rates), _heat()
    for text, y in (("stage", 1.16), ("parameters", -0.17), ("rate", -0.44)):
        ax.text(-0.01, y, text, fontsize=8.5, color=FAINT, ha="right", va="center")
    for row, (left, width) in zip(rows, _places(rows), strict=True):
        middle, room = left + width / 2, width * 810
        ax.add_patch(Rectangle((left, 0), width, 1, **STILL))
        if row["trainable"]:
            filled = max(0.06, row["trainable"] / row["parameters"])
            ax.add_patch(Rectangle((left, 0), width, filled, facecolor=heat(norm(max(row["lr"])))))
        ax.add_patch(Rectangle((left, 0), width, 1, fill=False, edgecolor=INK if row["trainable"] else "#b4b8bf"))
        rate = _rates_in_words(row)
        for text, y, colour in (
            (row["stage"], 1.16, INK),
            (compact(row["parameters"]), -0.17, INK),
            (rate, -0.44, INK if row["trainable"] else FAINT),
        ):
            size = min(9.0, room / (0.78 * max(len(text), 1)))
            ax.text(middle, y, text, fontsize=max(size, 5.5), color=colour, ha="center", va="center")


def _rates_in_words(row: dict) -> str:
    if not row["parameters"]:
        return "none"
    if not row["trainable"]:
        return "frozen" if row["frozen"] else "statistics"
    ends = dict.fromkeys((min(rate for rate in row["lr"] if rate > 0), max(row["lr"])))
    return " to ".join(f"{rate:.1e}".replace("e-0", "e-").replace(".0e", "e") for rate in ends)


def _backward(ax: Axes, plans: Mapping[str, Sequence[dict]]) -> None:
    """The share of each stage in the backward pass, in per cent of that of full fine-tuning."""
    new_axes(ax)
    ax.grid(axis="x", visible=False)
    shares = [[100 * row["backward"] for row in rows] for rows in plans.values()]
    highest = max(1.0, max(map(max, shares)))
    for number, rows in enumerate(plans.values()):
        for share, (left, width) in zip(shares[number], _places(rows), strict=True):
            each = width / len(plans)
            look = {"facecolor": MEASURED} if number == 0 else {"facecolor": "white", "hatch": "....", "edgecolor": INK}
            x = left + each * (number + 0.5)
            ax.bar(x, share, each * (0.6 if len(plans) == 1 else 0.86), linewidth=0.8, **look)
            text = f"{share:.0f}" if share >= 1 or share == 0 else "<1"
            ax.text(x, share + 0.04 * highest, text, fontsize=8, color=INK, ha="center", va="bottom")
    ax.set(xlim=(0, 1), ylim=(0, 1.35 * highest), xticks=[])
    ax.set_ylabel("backward\npass (%)", fontsize=9, color=INK)
    ax.tick_params(labelsize=8)
    if len(plans) == 2:
        first, second = plans
        ax.set_title(f"filled: {first}; dotted: {second}", fontsize=8.5, color=INK, loc="left", pad=2)


def _memory(ax: Axes, memory: Mapping[str, TrainingMemory], most: float) -> None:
    """A bar a plan, cut into what is held."""
    ax.set(xlim=(0, 1.1 * most), ylim=(len(memory) - 0.45, -1.25))  # room for the total beside the longest bar
    ax.set_axis_off()
    ax.text(-0.01, 0.5, "memory", transform=ax.transAxes, fontsize=9, color=INK, ha="right", va="center")
    at = 0.0
    for part, colour in HOLDS.items():
        ax.add_patch(Rectangle((at, -1.15), 0.012 * most, 0.34, facecolor=colour))
        ax.text(at + 0.017 * most, -0.97, part, fontsize=8.5, color=INK, va="center")
        at += 0.125 * most
    for y, held in enumerate(memory.values()):
        left = 0.0
        for part, colour in HOLDS.items():
            size = getattr(held, part)
            ax.barh(y, size, 0.72, left=left, color=colour, edgecolor="white", linewidth=0.8)
            if size > 0.075 * most:
                ink = "white" if part in ("gradients", "optimiser") else INK
                ax.text(left + size / 2, y, in_megabytes(size), fontsize=8, color=ink, ha="center", va="center")
            left += size
        total = {"fontsize": 9, "weight": "bold", "color": INK}
        ax.text(left + 0.008 * most, y, in_megabytes(left), va="center", **total)


def _places(rows: Sequence[dict]) -> list[tuple[float, float]]:
    """(left, width) of each stage's block in 0..1: a fixed part, and one that is its share of the parameters."""
    total = max(1, sum(row["parameters"] for row in rows))
    widths = [0.6 / len(rows) + 0.4 * row["parameters"] / total for row in rows]
    edges = np.cumsum([0.0, *widths])
    return [(float(left), width - GAP) for left, width in zip(edges, widths, strict=False)]


def _longest_run(where: np.ndarray) -> np.ndarray:
    """The places of the longest row of neighbours that are True."""
    places = np.flatnonzero(where)
    return max(np.split(places, np.flatnonzero(np.diff(places) > 1) + 1), key=len)


def _scale(lowest: float, highest: float) -> LogNorm:
    """A logarithmic scale, at least a factor of ten wide."""
    return LogNorm(vmin=min(lowest, highest / 10), vmax=highest)


def _heat() -> Colormap:
    """From light to dark in steps that colour-blind readers see too."""
    return LinearSegmentedColormap.from_list("rates", ["#fdeacb", "#ffc45c", "#ee7b1a", "#bd1f01", "#641003"])
