import doctest

import matplotlib.pyplot as plt
import pytest

from tlcourse import plots, strategy_maps
from tlcourse.intervals import Scores
from tlcourse.strategy_maps import strategy_map

PLAIN, HELD = Scores((0.40, 0.50, 0.60), (0, 1, 2)), Scores((0.8, 0.9, 0.7), (0, 1, 2))
CLOSE = {"probe": PLAIN, "from scratch": PLAIN - 0.1, "last 2 stages": HELD}
FAR = {"probe": HELD, "from scratch": HELD - 0.1, "last 2 stages": HELD - 0.3}
CELLS = {(30, 0.0): CLOSE, (30, 1.0): FAR}
BAD = [  # what is refused, and a word of the message
    ({**CELLS, (100, 1.0): FAR}, r"labels 100, distance 0\.0: 0 strategies"),
    ({(30, 0): {"probe": PLAIN}}, "at least two"),
]


def test_it_renders_the_same_each_time():
    first, again = (plots.show(strategy_map(CELLS, across="labels", up="distance"), alt="a test") for _ in range(2))
    assert first == again


def test_examples_in_docstrings():
    assert doctest.testmod(strategy_maps).failed == 0
    plt.close("all")


@pytest.mark.parametrize(("cells", "message"), BAD)
def test_refuses(cells, message):
    with pytest.raises(ValueError, match=message):
        strategy_map(cells, across="labels", up="distance")
    plt.close("all")


def test_the_map_names_the_winner_and_pales_where_the_lead_may_be_none():
    ax = strategy_map(CELLS, across="labels", up="distance", metric="auc")
    near, far = ax.texts
    assert (near.get_text(), near.get_position()) == ("last 2 stages\n0.80 ([+0.30])", (0, 0))  # +0.4, +0.4, +0.1
    assert (far.get_text(), far.get_position()) == ("probe\n0.80 (+0.10)", (0, 1))
    alphas = [patch.get_alpha() for patch in ax.collections]
    assert alphas[0] < alphas[1]
    assert "area under the ROC curve" in ax.get_xlabel() and "n = 3 seeds" in ax.get_xlabel()
    plt.close("all")
