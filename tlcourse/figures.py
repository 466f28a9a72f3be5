"""How a figure of the course looks, and how it is shown. `plots` draws with it; lesson 00 shows how to read the result.

A strategy has one colour and one marker from the first lesson to the last, so that a reader who knows one figure knows
them all, and never the colour alone. `show` puts a figure into a notebook, with the text that stands in for it where it
cannot be seen.
"""

import io
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tlcourse.intervals import Scores

__all__ = [
    "STYLE",
    "Look",
    "draw_interval",
    "in_ipython",
    "interval_in_words",
    "interval_of",
    "log_ticks",
    "looks",
    "mark_prediction",
    "new_axes",
    "note_on_seeds",
    "number_line",
    "png",
    "show",
]


class Look(NamedTuple):
    """How one series is drawn: colour, marker and line style."""

    colour: str
    marker: str
    line: str


# Colours are matplotlib's petroff10, chosen for colour-blind readers. What starts from pre-trained weights is in colour
# and drawn through; what does not is grey and broken.
STYLE: dict[str, Look] = {
    "probe": Look("#3f90da", "o", "-"),
    "feature extraction": Look("#832db6", "s", "-"),
    "last stages": Look("#ffa90e", "^", "-"),
    "last 5 stages": Look("#e76300", "<", "-"),
    "LP-FT": Look("#92dadd", "p", "-"),
    "discriminative": Look("#a96b59", "D", "-"),
    "gradual unfreezing": Look("#b9ac70", "P", "-"),
    "full fine-tuning": Look("#bd1f01", "v", "-"),
    "from scratch": Look("#717581", "X", "--"),
    "random features": Look("#94a4a2", "*", ":"),
}
STYLE |= {"last 2 stages": STYLE["last stages"], "linear probing": STYLE["feature extraction"]}  # other names of these
SPARE = [Look("#3f90da", "o", "-"), Look("#e76300", "s", "--"), Look("#832db6", "D", "-."), Look("#92dadd", "p", "-")]
SPARE += [Look("#ffa90e", "h", "--"), Look("#717581", "<", ":"), Look("#a96b59", ">", "-."), Look("#b9ac70", "d", ":")]
SPARE += [Look("#94a4a2", "P", "-."), Look("#bd1f01", "8", "--")]
INK, FAINT = "#2b2e33", "#6b6f78"  # text and secondary text; both have a contrast above 4.5 on white
MEASURED, PREDICTED, BAR = "#3f90da", "#832db6", "#bd1f01"
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "area under the ROC curve",
    "log_loss": "log-loss (nats)",
    "calibration_error": "calibration error",
}


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give each series its look: that of the strategy which its name begins with, else one that is still free.

    Raises
    ------
    ValueError
        If there are more series than looks.

    Examples
    --------
    >>> looks(["probe, 50 labels", "mine"])["probe, 50 labels"].marker
    'o'
    """
    chosen: dict[str, Look | None] = {}
    for name in names:
        known = [strategy for strategy in STYLE if str(name).startswith(strategy)]
        look = STYLE[max(known, key=len)] if known else None
        chosen[name] = None if look in chosen.values() else look
    colours = {look.colour for look in chosen.values() if look}
    free = [look for look in SPARE if look.colour not in colours]
    if len(free) < sum(look is None for look in chosen.values()):
        raise ValueError(
            f"{len(chosen)} series in one figure are too many to tell apart: {', '.join(map(str, chosen))}"
        )
    return {name: look or free.pop(0) for name, look in chosen.items()}


def show(figure: Figure | Axes, *, alt: str, colours: int | None = None) -> bytes | None:
    r"""Show a figure as PNG at 100 dpi with its alternative text, and close it.

    Parameters
    ----------
    figure
        A figure, or axes of it.
    alt
        What a reader who cannot see the figure needs to know: what is drawn, and what to see in it. Keep measured
        digits out of it: nbval compares this text.
    colours
        Keep so many colours (at most 256): a figure full of photographs then takes a third of the bytes.

    Returns
    -------
    The PNG where there is no IPython; None where the picture was displayed.

    Raises
    ------
    ValueError
        If the text is empty.

    Examples
    --------
    >>> ax = new_axes()
    >>> line = ax.plot([0, 1], [0, 1])
    >>> show(ax, alt="A straight line that rises from the left to the right.")[:4]
    b'\x89PNG'
    """
    if not alt or not alt.strip():
        raise ValueError(
            "a figure needs its alternative text: show(figure, alt='what is drawn, and what to see in it')"
        )
    figure = figure.figure if isinstance(figure, Axes) else figure
    picture = png(figure, colours=colours)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(figure)
    if not in_ipython():
        return picture
    from IPython.display import display

    display(
        {"image/png": picture, "text/plain": f"Figure: {alt.strip()}"},
        metadata={"image/png": {"alt": alt.strip()}},
        raw=True,
    )
    return None


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """Render a figure at 100 dpi, with all its colours or so many; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    if colours is None:
        return buffer.getvalue()
    from PIL import Image

    few = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", dpi=(100, 100), optimize=True)
    return buffer.getvalue()


def new_axes(ax: Axes | None = None, *, width: float = 7, height: float = 4) -> Axes:
    """Axes in the course's style: the given ones, or those of a new figure of that size in inches."""
    if ax is None:
        # Not through pyplot, which would keep the figure alive and let a notebook show it a second time.
        ax = Figure(figsize=(width, height), dpi=100, layout="constrained").subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=INK)
    ax.grid(color="#d9dbe0", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def in_ipython() -> bool:
    """Whether there is an IPython that can display something."""
    return "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None


def mark_prediction(ax: Axes, prediction: Any, *, axis: str = "y") -> None:
    """Draw the learner's forecast into a figure; nothing where none was committed.

    Parameters
    ----------
    prediction
        A `widgets.Prediction`, a number, or None.
    axis
        ``"y"``: the forecast is a value on the y axis, ``"x"``: on the x axis.
    """
    value = getattr(prediction, "value", prediction)
    if value is None:
        return
    draw = {"y": ax.axhline, "x": ax.axvline}[axis]
    draw(value, color=PREDICTED, linestyle=(0, (6, 2, 1, 2)), linewidth=1.8, label=f"your prediction: {value:g}")
    title = ax.get_legend().get_title().get_text() if ax.get_legend() else None
    ax.legend(frameon=False, title=title)


def number_line(
    low: float,
    high: float,
    *,
    prediction: float | None = None,
    measured: float | None = None,
    interval: tuple[float, float] | None = None,
    label: str = "",
    committed: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """A forecast beside what was measured, on one horizontal line.

    Parameters
    ----------
    prediction
        Drawn above the line; open while it is not committed.
    measured, interval
        Drawn below the line.
    """
    ax = new_axes(ax, height=1.5)
    ax.axhline(0, color=FAINT, linewidth=1)
    if prediction is not None:
        face = PREDICTED if committed else "white"
        ax.plot(prediction, 0.35, "v", color=PREDICTED, markerfacecolor=face, markersize=12, label="your prediction")
        _beside(ax, (prediction,), 0.35, "you" if committed else "you, not committed", (low, high))
    if measured is not None:
        if interval is not None:
            ax.plot(interval, (-0.35, -0.35), color=MEASURED, linewidth=5, alpha=0.4, solid_capstyle="butt")
        ax.plot(measured, -0.35, "o", color=MEASURED, markersize=9, label="measured")
        _beside(ax, (measured, *(interval or ())), -0.35, "measured", (low, high))
    inside = [low, high, *(value for value in (measured, *(interval or ())) if value is not None)]
    margin = 0.03 * (max(inside) - min(inside))
    ax.set(xlim=(min(inside) - margin, max(inside) + margin), ylim=(-0.8, 0.8), xlabel=label)
    ax.yaxis.set_visible(False)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)
    return ax


def interval_of(scores: Scores) -> tuple[float, float]:
    """The 95 % t-interval of the mean; the mean twice where there is one seed."""
    return scores.interval() if scores.n > 1 else (scores.mean, scores.mean)


def interval_in_words(scores: Scores) -> str:
    """The mean and its interval, signed, as differences are written."""
    low, high = interval_of(scores)
    return f"{scores.mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw_interval(ax: Axes, at: float, scores: Scores, look: Look, *, horizontal: bool = False) -> None:
    """Draw the mean and its interval at a place on the other axis."""
    low, high = interval_of(scores)
    spread = np.array([[scores.mean - low], [high - scores.mean]])
    pen = {"color": look.colour, "marker": look.marker, "markersize": 8, "elinewidth": 2, "capsize": 4}
    if horizontal:
        ax.errorbar(scores.mean, at, xerr=spread, **pen)
    else:
        ax.errorbar(at, scores.mean, yerr=spread, **pen)


def note_on_seeds(scores: Iterable[Scores]) -> str:
    """What a figure must say about its error bars."""
    sizes = sorted({score.n for score in scores})
    if sizes == [1]:
        return "a single seed, no interval"
    counts = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    return f"mean and 95 % interval, n = {counts} seeds"


def log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """Put ticks on a logarithmic x axis where the data are, in plain digits, as far as there is room."""
    kept: list[float] = []
    for value in values:
        if not kept or math.log10(value / kept[-1]) > 0.07 * math.log10(values[-1] / values[0]):
            kept.append(value)
    ax.set_xticks(kept, [f"{value:,g}" if value < 1e6 else f"{value:.2g}" for value in kept])
    ax.xaxis.set_minor_locator(NullLocator())


def _beside(ax: Axes, drawn: tuple[float, ...], y: float, text: str, limits: tuple[float, float]) -> None:
    """Write beside what is drawn, on the side where the axis has more room."""
    crowded = max(drawn) > sum(limits) / 2
    x, offset, side = (min(drawn), -10, "right") if crowded else (max(drawn), 10, "left")
    ax.annotate(text, (x, y), (offset, 0), textcoords="offset points", ha=side, va="center", color=INK)
