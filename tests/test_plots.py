"""The figures: what they draw is what they were given. The pictures themselves are looked at, not compared."""

import doctest
import math
import struct
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from tlcourse import figures, plots
from tlcourse.intervals import Scores

PROBE = {50: Scores((0.70, 0.72, 0.74), (0, 1, 2)), 200: Scores((0.80, 0.81, 0.79), (0, 1, 2))}
SCRATCH = {200: Scores((0.60, 0.64, 0.62), (0, 1, 2)), 50: Scores((0.55, 0.50, 0.51), (0, 1, 2))}  # not in order
CURVES = {"probe": PROBE, "from scratch": SCRATCH}


@dataclass
class History:
    """What `train` records, as far as it is drawn."""

    epochs: list[int] = field(default_factory=lambda: [1, 2, 3])
    train_loss: list[float] = field(default_factory=lambda: [0.7, 0.5, 0.4])
    val: list[dict[str, float]] = field(
        default_factory=lambda: [
            {"auc": 0.6, "log_loss": 0.69},
            {"auc": 0.7, "log_loss": 0.6},
            {"auc": 0.8, "log_loss": 0.55},
        ]
    )


FIGURES = {  # every public drawing, to be rendered once without a warning
    "learning_curve": lambda: plots.learning_curve(CURVES, prediction=0.7),
    "compute_curve": lambda: plots.compute_curve(CURVES, unit="steps"),
    "differences": lambda: plots.differences({"a": PROBE[200] - SCRATCH[200]}, bar=0.03),
    "points_over_seeds": lambda: plots.points_over_seeds({"probe": PROBE[50], "mine": PROBE[200]}, paired=True),
    "histogram": lambda: plots.histogram(PROBE[50], label="AUC"),
    "bars": lambda: plots.bars({"probe": PROBE[50]}, label="seconds", log=True),
    "drift": lambda: plots.drift({"moved": {"a": 0.1, "b": 0.0}, "still": {"a": 0.0, "b": 0.0}}, label="change"),
    "reliability": lambda: plots.reliability([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
    "training_curves": lambda: plots.training_curves(History(), log_scale=True)[0],
    "images_grid": lambda: plots.images_grid(np.zeros((3, 3, 8, 8), np.uint8), licence="CC BY"),
    "number_line": lambda: figures.number_line(0, 1, prediction=0.4, measured=0.5, interval=(0.4, 0.6)),
}
BAD = [  # what is refused, and a word of the message
    (lambda: plots.show(plots.histogram([1.0], label="x"), alt=" "), "alternative text"),
    (lambda: plots.training_curves(History(), metric="f1"), "there are auc, log_loss"),
    (lambda: plots.images_grid(np.zeros((3, 8, 8))), r"\(3, 8, 8\)"),
    (lambda: plots.images_grid(np.zeros((2, 1, 8, 8)), ["one"]), "2 images but 1 titles"),
    (lambda: plots.drift({"s": {"a": -1.0}}, label="x"), "not negative"),
    (lambda: plots.drift({"s": {"a": math.nan}}, label="x"), "finite"),
    (lambda: plots.reliability([0, 1], [0.5, 0.5]), "classes"),
    (lambda: plots.looks(map(str, range(11))), "too many"),
]


def drawn(ax, label):
    """x and y of the line or error bar with this label."""
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    return np.asarray(getattr(handles[label], "lines", [handles[label]])[0].get_xydata()).T


def error_bars(ax):
    """(low, high) of every error bar, in the order drawn, along the direction in which it extends."""
    segments = [
        segment for bar in ax.containers if hasattr(bar, "has_yerr") for segment in bar.lines[2][0].get_segments()
    ]
    return [sorted(segment[:, int(segment[0, 0] == segment[1, 0])]) for segment in segments]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_renders_at_100_dpi_the_same_each_time(name):
    axes = FIGURES[name]()
    figure = axes if isinstance(axes, plots.Figure) else axes.figure
    first = plots.show(figure, alt="a test")
    width, height = struct.unpack(">II", first[16:24])
    assert (width, height) == tuple(int(inches * 100 + 1e-6) for inches in figure.get_size_inches())
    again = FIGURES[name]()
    assert plots.show(again, alt="a test") == first


@pytest.mark.parametrize("module", [figures, plots])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("call", "message"), BAD)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_learning_curve_draws_means_and_t_intervals():
    ax = plots.learning_curve(CURVES, metric="auc")
    x, y = drawn(ax, "from scratch")
    assert x.tolist() == [50, 200]
    assert y.tolist() == pytest.approx([SCRATCH[50].mean, SCRATCH[200].mean])
    expected = [scores.interval() for scores in (PROBE[50], PROBE[200], SCRATCH[50], SCRATCH[200])]
    assert np.allclose(error_bars(ax), expected)
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["50", "200"]
    assert ax.get_ylabel() == "area under the ROC curve"
    assert "n = 3 seeds" in ax.get_legend().get_title().get_text()


def test_a_single_seed_has_no_interval_and_says_so():
    ax = plots.learning_curve({"probe": {50: Scores((0.7,), (0,))}})
    assert error_bars(ax) == [[0.7, 0.7]]
    assert "no interval" in ax.get_legend().get_title().get_text()


@pytest.mark.parametrize(("axis", "coordinate"), [("x", 0), ("y", 1)])
def test_the_prediction_is_drawn_where_it_was_committed(axis, coordinate):
    ax = plots.learning_curve(CURVES)
    plots.mark_prediction(ax, 0.66, axis=axis)
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith("your prediction")]
    assert np.unique(np.array(line.get_data())[coordinate]).tolist() == [0.66]
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "your prediction: 0.66" in texts
    assert "probe" in texts
    assert "n = 3" in ax.get_legend().get_title().get_text()


def test_no_prediction_changes_nothing():
    without = plots.learning_curve(CURVES)
    assert plots.show(plots.learning_curve(CURVES, prediction=None), alt="a") == plots.show(without, alt="a")


def test_differences_draw_rows_from_the_top_with_the_bar():
    gain = PROBE[200] - SCRATCH[200]
    ax = plots.differences({"first": gain, "second": -gain}, bar=0.03)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert np.allclose(error_bars(ax), [gain.interval(), (-gain).interval()])
    dots = [line.get_xdata().tolist() for line in ax.lines if line.get_marker() == "."]
    assert dots == [list(gain.values), list((-gain).values)]
    assert drawn(ax, "bar +0.03")[0].tolist() == [0.03, 0.03]


def test_points_over_seeds_draw_every_seed():
    ax = plots.points_over_seeds({"probe": PROBE[50], "from scratch": SCRATCH[50]}, paired=True)
    clouds = [
        line.get_ydata().tolist() for line in ax.lines if line.get_linestyle() == "None" and len(line.get_ydata()) == 3
    ]
    assert clouds == [list(PROBE[50].values), list(SCRATCH[50].values)]
    pairs = [list(line.get_ydata()) for line in ax.lines if line.get_linestyle() == "-" and len(line.get_ydata()) == 2]
    assert pairs[0] == [PROBE[50].values[0], SCRATCH[50].values[0]]
    assert len(pairs) == 3


def test_histogram_counts_every_value():
    ax = plots.histogram([0.1, 0.2, 0.2, -0.5], label="gain", bins=4)
    assert sum(patch.get_height() for patch in ax.patches) == 4
    assert drawn(ax, "mean +0")[0].tolist() == [0, 0]


def test_bars_are_as_long_as_their_means():
    ax = plots.bars({"probe": PROBE[50], "mine": PROBE[200]}, label="seconds")
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([PROBE[50].mean, PROBE[200].mean])
    assert np.allclose(error_bars(ax), [PROBE[50].interval(), PROBE[200].interval()])


def test_drift_keeps_exact_zeros_apart_from_small_values():
    ax = plots.drift({"moved": {"a": 1e-3, "b": 0.0, "c": 0.1}}, label="change")
    x, y = drawn(ax, "moved")
    assert x.tolist() == [0, 1, 2]
    assert np.array_equal(y, [1e-3, np.nan, 0.1], equal_nan=True)
    (still,) = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert still.get_xdata().tolist() == [1]
    assert still.get_ydata()[0] < 1e-3
    assert min(ax.get_yticks()) > still.get_ydata()[0]


def test_reliability_against_a_count_by_hand():
    probabilities = np.array([[0.55, 0.45], [0.45, 0.55], [0.05, 0.95], [0.03, 0.97], [0.98, 0.02]])
    ax = plots.reliability(torch.tensor([0, 0, 1, 1, 1]), torch.tensor(probabilities), bins=2)
    points = ax.collections[-1].get_offsets()
    assert np.allclose(points, [(0.55, 0.5), (np.mean([0.95, 0.97, 0.98]), 2 / 3)])
    # Wilson's interval of 2 in 3, from the formula with z = 1.96: (0.208, 0.939)
    assert error_bars(ax)[1] == pytest.approx([0.2077, 0.9385], abs=1e-3)


def test_training_curves_draw_the_history():
    history = History()
    left, right = plots.training_curves(history, metric="auc")
    assert drawn(left, "training")[1].tolist() == history.train_loss
    assert drawn(left, "validation")[1].tolist() == [0.69, 0.6, 0.55]
    assert right.lines[0].get_ydata().tolist() == [0.6, 0.7, 0.8]
    several, empty = plots.training_curves(
        {"probe": history, "from scratch": History(epochs=[1], train_loss=[0.9], val=[])}
    )
    assert drawn(several, "from scratch").tolist() == [[1], [0.9]]
    assert [line.get_label() for line in empty.lines] == ["probe"]


def test_images_are_drawn_as_they_are_with_their_licence():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    figure = plots.images_grid(images, ["intact", "defective"], licence="CC BY-NC-SA 4.0")
    assert np.array_equal(figure.axes[1].images[0].get_array(), images[1].permute(1, 2, 0))
    assert [ax.get_title() for ax in figure.axes] == ["intact", "defective"]
    assert figure.get_supxlabel() == "CC BY-NC-SA 4.0"
    grey = plots.images_grid(np.full((1, 1, 4, 4), 128, np.uint8)).axes[0].images[0]
    assert grey.get_clim() == (0, 255)


def test_a_strategy_looks_the_same_in_every_figure_and_none_like_another():
    assert plots.looks(["mine", "probe, 50 labels"])["probe, 50 labels"] == plots.STYLE["probe"]
    for part in range(2):  # colours and markers
        assert len({look[part] for look in plots.STYLE.values()}) == len(set(plots.STYLE.values())) == 10
    mixed = plots.looks(["probe", "probe, fixed penalty", "mine", "from scratch"])
    assert len({look.colour for look in mixed.values()}) == 4
    assert len({look.marker for look in mixed.values()}) == 4
    assert mixed["from scratch"] == plots.STYLE["from scratch"]


def test_colours_are_matplotlibs_petroff10():
    petroff = set(plt.style.library["petroff10"]["axes.prop_cycle"].by_key()["color"])
    assert {look.colour for look in [*plots.STYLE.values(), *figures.SPARE]} <= petroff


def test_show_closes_pyplot_figures_and_puts_the_text_beside_the_picture(monkeypatch):
    published = []
    monkeypatch.setattr(figures, "in_ipython", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, **options: published.append((data, options)))
    figure, ax = plt.subplots()
    assert plots.show(ax, alt="A diagram ") is None
    assert not plt.fignum_exists(figure.number)
    ((data, options),) = published
    assert data["text/plain"] == "Figure: A diagram"
    assert data["image/png"].startswith(b"\x89PNG")
    assert options == {"metadata": {"image/png": {"alt": "A diagram"}}, "raw": True}
