"""Every figure of the course: data in, Axes out. All lessons draw with it; lesson 00 shows how to read the intervals.

Over seeds the 95 % t-interval is drawn. Each function takes ``ax`` (default: a new figure of 7 inches) and returns the
Axes; `show` puts them into the notebook. Colours and markers are those of `figures`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tlcourse.figures import (
    BAR,
    FAINT,
    INK,
    MEASURED,
    METRICS,
    STYLE,
    Look,
    draw_interval,
    interval_in_words,
    interval_of,
    log_ticks,
    looks,
    mark_prediction,
    new_axes,
    note_on_seeds,
    show,
)
from tlcourse.intervals import Scores
from tlcourse.task_plots import frontier, result_matrix, strategy_map, weight_path

__all__ = [
    "STYLE",
    "bars",
    "compute_curve",
    "differences",
    "drift",
    "frontier",
    "histogram",
    "images_grid",
    "learning_curve",
    "looks",
    "mark_prediction",
    "points_over_seeds",
    "reliability",
    "result_matrix",
    "show",
    "strategy_map",
    "training_curves",
    "weight_path",
]


def learning_curve(
    curves: Mapping[str, Mapping[float, Scores]],
    *,
    metric: str = "auc",
    prediction: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Score against number of labels (logarithmic), a line a strategy, with 95 % intervals.

    Parameters
    ----------
    curves
        Strategy -> number of labels -> scores over seeds.
    metric
        A key of `evaluate`'s result, or a text for the y axis.
    prediction
        The learner's forecast (a `widgets.Prediction`, a number or None), drawn where there is one.

    Examples
    --------
    >>> probe = {50: Scores((0.71, 0.73), seeds=(0, 1)), 200: Scores((0.79, 0.80), seeds=(0, 1))}
    >>> learning_curve({"probe": probe}).get_xlabel()
    'labels (logarithmic)'
    """
    return _curves(curves, "labels (logarithmic)", metric, prediction, ax)


def compute_curve(
    curves: Mapping[str, Mapping[float, Scores]],
    *,
    metric: str = "auc",
    unit: str = "images passed through training",
    prediction: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Score against computing (images seen, steps or seconds; logarithmic), a line a strategy, with 95 % intervals."""
    return _curves(curves, f"{unit} (logarithmic)", metric, prediction, ax)


def differences(
    scores: Mapping[str, Scores], *, bar: float | None = None, label: str = "difference", ax: Axes | None = None
) -> Axes:
    """Forest plot of paired differences: seeds, mean and 95 % interval, a row each, against zero and the claim's bar.

    Parameters
    ----------
    scores
        Row -> differences seed by seed, top row first.
    bar
        The margin that a claim asks for, in the unit of the scores.

    Examples
    --------
    >>> ax = differences({"probe - scratch": Scores((0.08, 0.10), seeds=(0, 1))}, bar=0.03)
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['probe - scratch']
    """
    ax = new_axes(ax, height=1.6 + 0.5 * len(scores))
    for row, values in enumerate(scores.values()):
        offsets = np.linspace(0.16, 0.3, values.n)
        ax.plot(values.values, row + offsets, ".", color=FAINT, alpha=0.6, markersize=5)
        draw_interval(ax, row, values, Look(MEASURED, "o", ""), horizontal=True)
    ax.axvline(0, color=FAINT, linewidth=1)
    if bar is not None and bar != 0:
        ax.axvline(bar, color=BAR, linestyle="--", linewidth=1.5, label=f"bar {bar:+g}")
        ax.legend(loc="best", frameon=False)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.set_ylim(len(scores) - 0.45, -0.55)
    ax.set_xlabel(f"{label}; dots are seeds, {note_on_seeds(scores.values())}")
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(len(scores)), [interval_in_words(values) for values in scores.values()])
    right.tick_params(length=0, labelcolor=INK)
    right.spines[:].set_visible(False)
    ax.grid(axis="y", visible=False)
    return ax


def points_over_seeds(
    groups: Mapping[str, Scores],
    *,
    metric: str = "score",
    paired: bool = False,
    prediction: Any = None,
    ax: Axes | None = None,
) -> Axes:
    """Each seed's score as a point, a column a group, with mean and 95 % interval beside it.

    Parameters
    ----------
    paired
        Join the points of one seed across the groups.
    """
    ax = new_axes(ax)
    columns = [dict(zip(group.seeds, group.values, strict=True)) for group in groups.values()]
    seeds = sorted(set().union(*columns))
    offset = dict(zip(seeds, np.linspace(-0.15, 0.1, len(seeds)), strict=True))
    if paired:
        for seed in seeds:
            joined = [(i + offset[seed], column[seed]) for i, column in enumerate(columns) if seed in column]
            ax.plot(*zip(*joined, strict=True), color=FAINT, alpha=0.35, linewidth=1, zorder=1)
    for i, (name, look) in enumerate(looks(groups).items()):
        spread = [i + offset[seed] for seed in groups[name].seeds]
        ax.plot(spread, groups[name].values, look.marker, color=look.colour, alpha=0.45, markersize=6, linestyle="none")
        draw_interval(ax, i + 0.25, groups[name], look)
    ax.set_xticks(range(len(groups)), list(groups))
    ax.set_xlim(-0.5, len(groups) - 0.4)
    ax.set_xlabel(f"right of the points: {note_on_seeds(groups.values())}", color=FAINT)
    ax.set_ylabel(METRICS.get(metric, metric))
    ax.grid(axis="x", visible=False)
    mark_prediction(ax, prediction)
    return ax


def histogram(
    values: Scores | Sequence[float], *, label: str, counted: str = "runs", bins: int = 20, ax: Axes | None = None
) -> Axes:
    """How often each value occurs, with zero and the mean marked."""
    values = np.asarray(values.values if isinstance(values, Scores) else values, dtype=float)
    ax = new_axes(ax)
    ax.hist(values, bins=bins, color=MEASURED, alpha=0.75, edgecolor="white")
    ax.axvline(0, color=INK, linewidth=1.2, label="zero")
    ax.axvline(values.mean(), color=BAR, linestyle="--", linewidth=1.5, label=f"mean {values.mean():+.3g}")
    ax.set(xlabel=label, ylabel=counted)
    ax.legend(frameon=False)
    ax.grid(axis="x", visible=False)
    return ax


def bars(scores: Mapping[str, Scores], *, label: str, log: bool = False, ax: Axes | None = None) -> Axes:
    """A horizontal bar a name (seconds, a gap) with its 95 % interval and its mean in digits."""
    ax = new_axes(ax, height=1.4 + 0.5 * len(scores))
    for row, (name, look) in enumerate(looks(scores).items()):
        ax.barh(row, scores[name].mean, height=0.6, color=look.colour, alpha=0.7)
        draw_interval(ax, row, scores[name], Look(INK, "", ""), horizontal=True)
        end = max(interval_of(scores[name])[1], 0)
        ax.annotate(f"{scores[name].mean:.3g}", (end, row), (6, 0), textcoords="offset points", va="center", color=INK)
    if log:
        ax.set_xscale("log")
    ax.margins(x=0.12)
    ax.set_yticks(range(len(scores)), list(scores))
    ax.invert_yaxis()
    ax.set_xlabel(f"{label}; {note_on_seeds(scores.values())}")
    ax.grid(axis="y", visible=False)
    return ax


def drift(layers: Mapping[str, Mapping[str, float]], *, label: str, ax: Axes | None = None) -> Axes:
    """How far something moved, layer by layer (logarithmic); exact zeros are open markers on a line of their own.

    Parameters
    ----------
    layers
        Series -> layer -> distance moved.
    label
        What moved, and in which unit.

    Raises
    ------
    ValueError
        If a distance is negative or not finite.
    """
    values = [value for series in layers.values() for value in series.values()]
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError("drift is a distance: each value must be a finite number and not negative")
    ax = new_axes(ax)
    names = list(dict.fromkeys(layer for series in layers.values() for layer in series))
    floor = 10.0 ** (math.floor(math.log10(min((value for value in values if value), default=1.0))) - 1)
    for name, look in looks(layers).items():
        x = np.array([names.index(layer) for layer in layers[name]])
        y = np.array(list(layers[name].values()), dtype=float)
        ax.plot(x, np.where(y > 0, y, np.nan), look.line, marker=look.marker, color=look.colour, label=name)
        still = x[y == 0]
        if len(still):
            ax.plot(still, np.full(len(still), floor), look.marker, color=look.colour, markerfacecolor="white")
    ax.set_yscale("log")
    if not all(values):
        ax.axhline(floor, color=FAINT, linewidth=1, zorder=1)
        above = {"xytext": (0, 6), "textcoords": "offset points"}
        ax.annotate("exactly 0", (0, floor), xycoords=("axes fraction", "data"), color=FAINT, **above)
        ax.set_ylim(floor / 2, max(ax.get_ylim()[1], 10 * floor))
        ax.set_yticks([tick for tick in ax.get_yticks() if floor < tick <= ax.get_ylim()[1]])
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks(range(len(names)), names, rotation=0 if len(names) < 12 else 60)
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    return ax


def reliability(labels: Any, probabilities: Any, *, bins: int = 10, ax: Axes | None = None) -> Axes:
    """Reliability diagram: how often the model is right, against how sure it is, with 95 % Wilson intervals.

    Parameters
    ----------
    labels
        (n,) class numbers.
    probabilities
        (n, classes); how sure the model is, is the largest one.

    Notes
    -----
    A point on the diagonal is calibrated; below it the model is surer than it is right. The area of a point is the
    share of samples in its bin. Guo et al. 2017, section 2.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=float)
    if probabilities.ndim != 2 or len(labels) != len(probabilities) or not len(labels):
        raise ValueError(f"need (n,) labels and (n, classes) probabilities, not {labels.shape}, {probabilities.shape}")
    ax = new_axes(ax)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(1 / probabilities.shape[1], 1, bins + 1)
    which = np.clip(np.searchsorted(edges, sure, side="right") - 1, 0, bins - 1)
    ax.plot([edges[0], 1], [edges[0], 1], color=FAINT, linestyle="--", linewidth=1, label="calibrated")
    filled = [which == i for i in range(bins) if (which == i).any()]
    x, y, n = (
        np.array([f(at) for at in filled]) for f in (lambda i: sure[i].mean(), lambda i: right[i].mean(), np.sum)
    )
    low, high = _wilson(y, n)
    ax.errorbar(x, y, (np.maximum(y - low, 0), np.maximum(high - y, 0)), fmt="none", color=MEASURED, linewidth=1.5)
    ax.scatter(x, y, 20 + 400 * n / len(labels), color=MEASURED, alpha=0.6, label="model (area: share of samples)")
    ax.set(xlabel="confidence (largest probability)", ylabel="share that is right", ylim=(-0.03, 1.03))
    ax.legend(frameon=False, loc="lower right")
    return ax


def training_curves(
    histories: Any, *, metric: str = "auc", log_scale: bool = False, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Loss on the left and a validation metric on the right, over epochs.

    Parameters
    ----------
    histories
        One `History`, or a mapping of names to several.
    metric
        A key of ``history.val``'s entries.
    log_scale
        Draw the loss on a logarithmic axis.
    axes
        Two Axes; default: those of a new figure.

    Raises
    ------
    ValueError
        If a history has no such metric.
    """
    if axes is None:
        # Fixed margins, so that the axes stay where they are while a training chart is redrawn.
        margins = {"left": 0.08, "right": 0.985, "bottom": 0.14, "top": 0.9, "wspace": 0.22}
        axes = Figure(figsize=(9, 3.6), dpi=100).subplots(1, 2, gridspec_kw=margins)
    left, right = (new_axes(ax) for ax in axes)
    several = isinstance(histories, Mapping)
    histories = histories if several else {"training": histories}
    for (name, look), history in zip(looks(histories).items(), histories.values(), strict=True):
        if history.val and metric not in history.val[0]:
            raise ValueError(f"no metric {metric!r} in this history; there are {', '.join(history.val[0])}")
        pen = {"color": look.colour, "marker": look.marker, "linestyle": look.line}
        left.plot(history.epochs, history.train_loss, **pen, label=name)
        if history.val and "log_loss" in history.val[0]:
            valid = pen | {"linestyle": ":", "markerfacecolor": "white"} | ({} if several else {"color": BAR})
            losses = [scores["log_loss"] for scores in history.val]
            left.plot(history.epochs, losses, **valid, label=None if several else "validation")
        if history.val:
            right.plot(history.epochs, [scores[metric] for scores in history.val], **pen, label=name)
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("epoch")
    left.set_ylabel("loss (nats)" + ("; open markers: validation" if several else ""))
    if log_scale:
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter("{x:.2g}")
    right.set_ylabel(f"validation: {METRICS.get(metric, metric)}")
    left.legend(frameon=False)
    return axes


def images_grid(
    images: Any, titles: Sequence[str] | None = None, *, columns: int = 6, licence: str | None = None
) -> Figure:
    """Pictures in a grid, with their licence below.

    Parameters
    ----------
    images
        (n, channels, height, width) of uint8; 1 channel is grey, 3 are red, green and blue.
    titles
        One a picture.
    licence
        Of the data set; needed wherever solar cells are shown.

    Raises
    ------
    ValueError
        If the shape or the number of titles does not fit.

    Examples
    --------
    >>> len(images_grid(np.zeros((3, 1, 8, 8), dtype=np.uint8), ["a", "b", "c"], columns=3).axes)
    3
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images_grid needs (n, 1 or 3, height, width) and n > 0, not {images.shape}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(images)} images but {len(titles)} titles")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    side = 9 / max(columns, 6)
    size = (side * columns, rows * (side + 0.25 * (titles is not None)) + 0.25 * (licence is not None))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    for i, image in enumerate(images):
        ax = figure.add_subplot(rows, columns, i + 1)
        ax.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
        ax.set_axis_off()
        ax.set_title(titles[i] if titles is not None else "", fontsize=10, color=INK)
    if licence:
        figure.supxlabel(licence, fontsize=8, color=FAINT, x=0.995, ha="right")
    return figure


def _curves(curves, xlabel: str, metric: str, prediction, ax: Axes | None) -> Axes:
    ax = new_axes(ax)
    for name, look in looks(curves).items():
        x = sorted(curves[name])
        scores = [curves[name][at] for at in x]
        low, high = np.array([interval_of(score) for score in scores]).T
        ax.fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)
        mean = np.array([score.mean for score in scores])
        pen = {"color": look.colour, "marker": look.marker, "linestyle": look.line, "linewidth": 1.8, "markersize": 7}
        ax.errorbar(x, mean, (mean - low, high - mean), **pen, elinewidth=1.2, capsize=2.5, label=name)
    ax.set_xscale("log")
    log_ticks(ax, sorted({at for curve in curves.values() for at in curve}))
    ax.set(xlabel=xlabel, ylabel=METRICS.get(metric, metric))
    ax.legend(frameon=False, title=note_on_seeds(score for curve in curves.values() for score in curve.values()))
    mark_prediction(ax, prediction)
    return ax


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z2 = 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return centre - half, centre + half
