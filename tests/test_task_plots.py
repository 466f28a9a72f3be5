"""Figures of several tasks: what they draw is what they were given."""

import doctest

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tlcourse import plots, task_plots
from tlcourse.intervals import Scores

OLD = {"plain": Scores((0.40, 0.50, 0.60), (0, 1, 2)), "replay": Scores((0.8, 0.9, 0.7), (0, 1, 2))}
NEW = {"plain": Scores((0.90, 0.92, 0.88), (0, 1, 2)), "replay": Scores((0.85, 0.9, 0.8), (0, 1, 2))}
STRATEGIES = {"plain": (OLD["plain"], NEW["plain"]), "tuned": {"1": (OLD["replay"], NEW["replay"])}}
R = np.array([[[0.9, 0.5], [0.4, 0.8]], [[0.7, 0.5], [0.6, 1.0]]])  # two seeds
GRID = np.add.outer(np.arange(3.0) ** 2, np.arange(4.0)) + 1  # (Y, X)
CLOSE = {"probe": OLD["plain"], "from scratch": OLD["plain"] - 0.1, "last 2 stages": OLD["replay"]}
FAR = {"probe": OLD["replay"], "from scratch": OLD["replay"] - 0.1, "last 2 stages": OLD["replay"] - 0.3}
CELLS = {(30, 0.0): CLOSE, (30, 1.0): FAR}
PATHS = {"plain": [[0, 0], [1, 1], [3, 2]], "held": [[0, 0], [0.5, 1]]}

FIGURES = {
    "result_matrix": lambda: plots.result_matrix(R, tasks=["a", "b"]),
    "frontier": lambda: plots.frontier(STRATEGIES, old="old", new="new"),
    "strategy_map": lambda: plots.strategy_map(CELLS, across="labels", up="distance"),
    "weight_path": lambda: plots.weight_path(range(4), range(3), old_loss=GRID, new_loss=GRID, paths=PATHS),
}
BAD = [  # what is refused, and a word of the message
    (lambda: plots.result_matrix(R, tasks=["a"]), r"\(2, 2, 2\); for 1 task"),
    (lambda: plots.result_matrix(np.zeros(2), tasks=["a", "b"]), r"R is \(2,\)"),
    (lambda: plots.result_matrix(np.zeros((0, 0)), tasks=[]), r"R is \(0, 0\)"),
    (
        lambda: plots.strategy_map({**CELLS, (100, 1.0): FAR}, across="labels", up="distance"),
        r"labels 100, distance 0\.0: 0 strategies",
    ),
    (lambda: plots.strategy_map({(30, 0): {"probe": OLD["plain"]}}, across="labels", up="distance"), "at least two"),
    (lambda: plots.weight_path(range(3), range(3), old_loss=GRID, new_loss=GRID, paths={}), r"old_loss is \(3, 4\)"),
    (lambda: plots.weight_path(range(4), range(3), old_loss=GRID, new_loss=-GRID, paths={}), "new_loss is"),
    (lambda: plots.weight_path(range(4), range(3), old_loss=GRID, new_loss=GRID, paths={"p": [1, 2]}), "the path 'p'"),
]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_renders_the_same_each_time(name):
    first, again = (plots.show(FIGURES[name](), alt="a test") for _ in range(2))
    assert first == again


def test_examples_in_docstrings():
    assert doctest.testmod(task_plots).failed == 0
    plt.close("all")


@pytest.mark.parametrize(("call", "message"), BAD)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    plt.close("all")


def test_the_matrix_shows_the_mean_of_the_seeds_with_the_task_just_learnt_in_bold():
    ax = plots.result_matrix(R, tasks=["a", "b"])
    assert [text.get_text() for text in ax.texts] == ["0.80", "0.50", "0.50", "0.90"]
    assert [text.get_weight() == "bold" for text in ax.texts] == [True, False, False, True]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["after a", "after b"]
    assert "mean of 2 seeds" in ax.get_xlabel()
    assert "one seed" in plots.result_matrix(R[0], tasks=["a", "b"]).get_xlabel()
    plt.close("all")


def test_the_frontier_has_the_old_task_along_and_intervals_both_ways():
    ax = plots.frontier(STRATEGIES, old="old task", new="new task")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("old task", "new task")
    assert ax.get_legend_handles_labels()[1] == ["plain", "tuned"]
    assert "n = 3 seeds" in ax.get_legend().get_title().get_text()
    assert [text.get_text() for text in ax.texts] == ["", "1"]
    for container, name in zip(ax.containers, ("plain", "replay"), strict=True):
        line, _, bars = container.lines
        assert line.get_xydata().tolist() == [[OLD[name].mean, NEW[name].mean]]
        along, up = (bar.get_segments()[0] for bar in bars)
        assert np.allclose(along[:, 0], OLD[name].interval())
        assert np.allclose(up[:, 1], NEW[name].interval())
    plt.close("all")


def test_paths_are_drawn_where_they_went():
    ax = FIGURES["weight_path"]()
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert {name: lines[name] for name in PATHS} == PATHS
    plt.close("all")


def test_the_map_names_the_winner_and_pales_where_the_lead_may_be_none():
    ax = plots.strategy_map(CELLS, across="labels", up="distance", metric="auc")
    near, far = ax.texts
    assert (near.get_text(), near.get_position()) == ("last 2 stages\n0.80 ([+0.30])", (0, 0))  # +0.4, +0.4, +0.1
    assert (far.get_text(), far.get_position()) == ("probe\n0.80 (+0.10)", (0, 1))
    alphas = [patch.get_alpha() for patch in ax.collections]
    assert alphas[0] < alphas[1]
    assert "area under the ROC curve" in ax.get_xlabel() and "n = 3 seeds" in ax.get_xlabel()
    plt.close("all")
