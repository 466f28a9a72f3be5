"""The drawings of plans, schedules and units: what stands in them is what was handed over."""

import numpy as np
import pytest

from tlcourse.diagrams import PLAN_SIZE, TIMELINE_SIZE, compact, in_megabytes, plan_diagram, rate_timeline, unit_page
from tlcourse.memory import TrainingMemory

COUNTS = [(0, "0"), (912, "912"), (1280, "1.28 k"), (999_499, "999 k"), (999_600, "1 M"), (3_373_570, "3.37 M")]
BYTES = [(0, "0 MB"), (160_000, "0.16 MB"), (4_100_000, "4.1 MB"), (12_345_678, "12 MB"), (1_234_567_890, "1,235 MB")]

EMPTY = {"parameters": 0, "trainable": 0, "lr": [], "backward": 0.0, "frozen": True}
ROWS = [
    {"stage": "stem", "parameters": 900, "trainable": 0, "lr": [0.0], "backward": 0.0, "frozen": True},
    {"stage": "block1", "parameters": 2000, "trainable": 500, "lr": [0.0, 2e-5], "backward": 0.004, "frozen": False},
    {"stage": "pool", **EMPTY},
    {"stage": "head", "parameters": 20, "trainable": 20, "lr": [1e-3], "backward": 0.25, "frozen": False},
]
MEMORY = TrainingMemory(weights=4_000_000, gradients=1_000_000, optimiser=2_000_000, activations=30_000_000)


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts] + [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(("count", "text"), COUNTS)
def test_counts_in_three_digits(count, text):
    assert compact(count) == text


@pytest.mark.parametrize(("count", "text"), BYTES)
def test_bytes_in_megabytes(count, text):
    assert in_megabytes(count) == text


def test_a_plan_is_drawn_with_its_rates_in_digits():
    figure = plan_diagram({"mine": ROWS}, {"mine": MEMORY}, rates=(1e-5, 1e-3), most=MEMORY.total)
    found = texts(figure)
    assert tuple(figure.get_size_inches() * 100) == PLAN_SIZE
    assert [row["stage"] for row in ROWS] == [text for text in found if text in {"stem", "block1", "pool", "head"}]
    assert [text for text in found if text in {"frozen", "none", "2e-5", "1e-3"}] == ["frozen", "2e-5", "none", "1e-3"]
    assert "520 of 2.92 k parameters move, 25.4 % of the full backward pass" in found
    bars = figure.axes[1]
    assert [text.get_text() for text in bars.texts] == ["0", "<1", "0", "25"]
    assert all(text.get_position()[1] > bar.get_height() for text, bar in zip(bars.texts, bars.patches, strict=True))
    assert "37 MB" in found


def test_blocks_are_filled_as_far_as_parameters_move():
    axes = plan_diagram({"mine": ROWS}, {"mine": MEMORY}, rates=(1e-5, 1e-3), most=MEMORY.total).axes[0]
    filled = [patch.get_height() for patch in axes.patches if patch.get_fill() and not patch.get_hatch()]
    assert filled == [0.25, 1.0]
    assert sum(bool(patch.get_hatch()) for patch in axes.patches) == len(ROWS)
    ends = sorted({end for patch in axes.patches for end in (patch.get_x(), patch.get_x() + patch.get_width())})
    assert len(ends) == 2 * len(ROWS)
    assert ends[0] == 0
    assert 0.98 < ends[-1] < 1


def test_two_plans_are_told_apart_by_more_than_colour():
    figure = plan_diagram({"one": ROWS, "two": ROWS}, {"one": MEMORY, "two": MEMORY}, rates=(1e-5, 1e-3), most=4e7)
    bars = figure.axes[2].patches
    assert figure.axes[2].get_title(loc="left") == "filled: one; dotted: two"
    assert [bool(bar.get_hatch()) for bar in bars] == [False] * len(ROWS) + [True] * len(ROWS)


def test_a_timeline_is_empty_where_a_stage_is_frozen():
    rates = np.array([[0, 0, 0, 0, 1e-4, 1e-5], [1e-2, 1e-3, 1e-2, 1e-3, 1e-2, 1e-3]])
    figure = rate_timeline(
        rates,
        np.ones(6),
        frozen=rates == 0,
        stages=["stem", "head"],
        phases=[0, 4],
        steps_an_epoch=2,
        step=1,
        title="two phases",
    )
    main = figure.axes[1]
    (mesh,) = main.collections
    assert np.ma.getmaskarray(mesh.get_array()).tolist() == (rates == 0).tolist()
    assert tuple(figure.get_size_inches() * 100) == TIMELINE_SIZE
    found = texts(figure)
    assert [text for text in found if text in {"frozen", "1.00e-03"}] == ["frozen", "frozen", "1.00e-03"]
    assert "rate at step 1" in found
    stem, head = (line.get_ydata() for line in main.lines[:2])
    assert np.isnan(stem).tolist() == [True] * 4 + [False] * 2
    assert head[0] > head[1]


def test_a_page_has_the_unit_s_picture_its_inputs_and_its_maps():
    unit = {"visualisation": np.full((3, 4, 4), 0.5), "top": np.zeros((2, 3, 4, 4), dtype=np.uint8)}
    alone = unit_page(unit, title="unit 3", columns=5, with_maps=True, licence="CC BY 4.0")
    assert len(alone.axes) == 3
    assert {"unit 3", "CC BY 4.0", "no maps: this stage has pooled space away"} <= set(texts(alone))
    mapped = unit_page(unit | {"maps": np.eye(2)[:, None]}, title="unit 3", columns=5, with_maps=True)
    assert len(mapped.axes) == 5
    assert {image.get_clim() for ax in mapped.axes[2::2] for image in ax.images} == {(0.0, 1.0)}


def test_a_stage_that_moves_in_the_middle_is_called_frozen_beside_it():
    rates = np.array([[0, 0, 0, 0, 1e-4, 1e-4, 0, 0, 0]])
    timing = {"phases": [0, 4, 6], "steps_an_epoch": 1, "step": 4, "title": ""}
    figure = rate_timeline(rates, np.ones(9), frozen=rates == 0, stages=["stem"], **timing)
    (label,) = [text for text in figure.axes[1].texts if text.get_text() == "frozen"]
    assert label.get_position()[0] == 1.5  # the middle of steps 0 to 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"lr": [0.0, 1e-4, 1e-3]}, "1e-4 to 1e-3"),
        ({"lr": [0.0], "trainable": 0}, "statistics"),
        ({"lr": [0.0], "trainable": 0, "frozen": True}, "frozen"),
    ],
)
def test_what_is_said_of_the_rates_of_a_stage(change, text):
    figure = plan_diagram({"mine": [ROWS[-1] | change]}, {"mine": MEMORY}, rates=(1e-5, 1e-3), most=4e7)
    assert text in texts(figure)
