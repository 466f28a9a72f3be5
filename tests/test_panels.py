"""The drawings of `panels`: what is drawn is what was given, on a scale that does not depend on what is chosen."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tlcourse.figures import INK, looks, png
from tlcourse.intervals import Scores
from tlcourse.panels import MAPS_SIZE, PLAIN, TRADE_OFF_SIZE, class_maps, place_of_largest, remedy_looks, trade_off

SEEDS = (0, 1, 2, 3)
TEN = ("small rate", "early stopping", "weight decay", "L2-SP", "dropout", "replay", "gradual unfreezing")
TEN += ("distillation", "LoRA", "weight averaging")


def scores(mean, spread=0.01):
    return Scores(tuple(mean + spread * step for step in (-1.5, -0.5, 0.5, 1.5)), SEEDS)


def point(old, new):
    return scores(old), scores(new, 0.02)


POINTS = {
    "plain": {"rate 2e-4": point(0.70, 0.75), "rate 1e-4": point(0.74, 0.74)},
    "replay": {f"buffer {size}": point(old, new) for size, old, new in ((10, 0.8, 0.74), (50, 0.85, 0.70))},
    "L2-SP": {f"strength {size}": point(0.78 + 0.02 * size, 0.735 - 0.001 * size) for size in range(5)},
}
LESS = {"replay": {"buffer 10": (scores(0.1, 0.004), None), "buffer 50": (scores(0.15, 0.004), scores(-0.05))}}
CROWDED = {
    name: {f"setting {i}": point(0.7 + 0.01 * i, 0.75 - 0.003 * k * i) for i in range(6)} for k, name in enumerate(TEN)
}
MAPS = {
    "positive": np.arange(24.0).reshape(3, 2, 4)[:, ::-1] / 24,
    "signed": np.arange(24.0).reshape(3, 2, 4) / 24 - 0.25,
    "negative": -np.arange(24.0).reshape(3, 2, 4),
    "zero": np.zeros((3, 2, 4)),
    "one class": np.ones((1, 2, 4)),
}
PLACES = [  # picture, scale, place
    ([[0.0, 2.0], [1.0, 0.0]], 2.0, (0, 1)),
    ([[0.0, 1.0, 3.0], [4.0, 0.0, 0.0]], 4.0, (1, 0)),
    ([[-2.0, -1.0]], 2.0, (0, 1)),
    ([[1.0, 1.0]], 1.0, None),
    ([[0.0, 1e-15]], 1.0, None),
    ([[0.0, 1e-15]], 1e-15, (0, 1)),
    ([[0.0, 0.0]], 0.0, None),
]


def drawn(remedy="replay", setting="buffer 50", points=POINTS, less=LESS, **more):
    return trade_off(points, less, chosen=(remedy, setting), old="old task", new="new task", **more)


def ends(container):
    """The ends of the horizontal and of the vertical error bars, as many as there are."""
    return [np.array(bars.get_segments()[0]).T for bars in container.lines[2]]


def said(ax):
    return [text.get_text() for text in ax.texts]


def test_the_chosen_one_is_drawn_with_both_of_its_intervals():
    ax = drawn().axes[0]
    old, new = POINTS["replay"]["buffer 50"]
    (container,) = ax.containers
    assert container.lines[0].get_xydata().tolist() == [[old.mean, new.mean]]
    assert (container.lines[0].get_color(), container.lines[0].get_marker()) == remedy_looks(POINTS)["replay"][:2]
    along, up = ends(container)
    assert along[0] == pytest.approx(old.interval())
    assert up[1] == pytest.approx(new.interval())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("old task", "new task")


def test_the_settings_of_the_chosen_remedy_are_joined_and_the_others_faint():
    for remedy in POINTS:
        ax = drawn(remedy, next(iter(POINTS[remedy]))).axes[0]
        look = remedy_looks(POINTS)
        for name, settings in POINTS.items():
            means = [[old.mean, new.mean] for old, new in settings.values()]
            (line,) = [line for line in ax.lines if line.get_xydata().tolist() == means]
            assert (line.get_color(), line.get_marker()) == look[name][:2]
            assert line.get_linestyle() == (look[name].line if name == remedy else "None")
            assert (line.get_alpha() is None) == (name == remedy)


def test_the_plain_one_and_the_start_are_marked():
    ax = drawn(start=scores(0.93)).axes[0]
    old, new = POINTS["plain"]["rate 2e-4"]
    lines = {line.get_linestyle(): line for line in ax.lines if set(line.get_xdata()) == {0.93}}
    assert list(lines) == [":"]
    assert [line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "*"][0] == [[old.mean, new.mean]]
    assert any(list(line.get_xdata()) == [old.mean] * 2 for line in ax.lines)
    assert any(list(line.get_ydata()) == [new.mean] * 2 for line in ax.lines)
    key = drawn(start=scores(0.93)).legends[0]
    assert [text.get_text() for text in key.get_texts()] == [*POINTS, "old task, before the new one"]
    assert [text.get_weight() for text in key.get_texts()] == ["normal", "bold", "normal", "normal"]
    assert key.get_title().get_text() == "mean and 95 % interval, n = 4 seeds"
    without = drawn(points={"replay": POINTS["replay"]}, less={})
    assert not [line for line in without.axes[0].lines if line.get_marker() == "*" or line.get_linestyle() == ":"]


def test_the_scale_has_room_for_all_intervals_whatever_is_chosen():
    shown = [drawn(remedy, setting, start=scores(0.95)) for remedy, settings in POINTS.items() for setting in settings]
    for axes in zip(*(figure.axes for figure in shown), strict=True):
        assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    main, less = shown[0].axes
    for limits, side in ((main.get_xlim(), 0), (main.get_ylim(), 1)):
        intervals = [point[side].interval() for settings in POINTS.values() for point in settings.values()]
        assert limits[0] < min(low for low, _ in intervals)
        assert limits[1] > max(high for _, high in intervals)
    assert main.get_xlim()[1] > scores(0.95).interval()[1]
    assert less.get_xlim()[0] < LESS["replay"]["buffer 50"][1].interval()[0] < 0
    assert less.get_xlim()[1] > LESS["replay"]["buffer 50"][0].interval()[1]


def test_the_differences_to_plain_are_drawn_with_their_intervals():
    ax = drawn().axes[1]
    for row, (container, difference) in enumerate(zip(ax.containers, LESS["replay"]["buffer 50"], strict=True)):
        assert container.lines[0].get_xydata().tolist() == [[difference.mean, row]]
        assert ends(container)[0][0] == pytest.approx(difference.interval())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["old", "new"]
    assert ax.yaxis_inverted()
    half = drawn(setting="buffer 10").axes[1]
    assert (len(half.containers), said(half)) == (1, ["the seeds differ"])
    plain = drawn("plain", "rate 2e-4").axes[1]
    assert (len(plain.containers), said(plain)) == (0, ["what others are compared with"])
    assert len(drawn(less={}).axes) == 1


def test_one_seed_has_no_interval():
    points = {"replay": {"buffer 10": (Scores((0.8,), (0,)), Scores((0.7,), (0,)))}}
    figure = drawn(setting="buffer 10", points=points, less={"replay": {"buffer 10": (None, None)}})
    assert figure.legends[0].get_title().get_text() == "a single seed, no interval"
    assert all(np.ptp(each) == 0 for each in ends(figure.axes[0].containers[0]) for each in each)
    assert png(figure)[1:4] == b"PNG"


@pytest.mark.parametrize("points", [POINTS, CROWDED])
def test_no_label_lies_on_another_and_the_chosen_one_is_always_there(points):
    for remedy, settings in list(points.items())[-2:]:
        for setting in settings:
            ax = drawn(remedy, setting, points=points, less={}).axes[0]
            boxes = [text.get_window_extent() for text in ax.texts]
            assert said(ax)[0] == setting
            assert ax.texts[0].get_weight() == "bold"
            assert set(said(ax)) <= set(settings)
            assert not any(box.count_overlaps(boxes[:number]) for number, box in enumerate(boxes))
            assert all(ax.bbox.x0 < box.x0 and box.x1 < ax.bbox.x1 for box in boxes)
            assert all(ax.bbox.y0 < box.y0 and box.y1 < ax.bbox.y1 for box in boxes)


def test_labels_are_left_out_only_where_there_is_no_room():
    assert sorted(said(drawn().axes[0])) == ["buffer 10", "buffer 50"]
    same = {"replay": {f"buffer {number}": point(0.8, 0.7) for number in range(9)}, "far": {"a": point(0.9, 0.9)}}
    left = said(drawn(setting="buffer 4", points=same, less={}).axes[0])
    assert left[0] == "buffer 4"
    assert 1 <= len(left) < 9


def test_labels_keep_off_what_is_drawn_where_there_is_room():
    def covered(points, **more):
        """Places, in pixels, of all points, of the joining line and of the dotted one that lie under a label."""
        ax = drawn("replay", "buffer 1", points=points, less={}, **more).axes[0]
        drawn_there = [ax.transData.transform(line.get_xydata()) for line in ax.lines if line.get_marker() != "None"]
        drawn_there += [np.linspace(*ends, 99) for line in drawn_there for ends in zip(line, line[1:], strict=False)]
        if more:
            x = ax.transData.transform((more["start"].mean, 0))[0]
            drawn_there.append(np.array([(x, y) for y in np.arange(ax.bbox.y0, ax.bbox.y1)]))
        return [
            at for text in ax.texts for line in drawn_there for at in line if text.get_window_extent().contains(*at)
        ]

    steps = {f"buffer {i}": point(old, new) for i, (old, new) in enumerate([(0.6, 0.70), (0.75, 0.71), (0.9, 0.65)])}
    around = {f"at {i}": point(0.775 + 0.01 * (i % 3), 0.713 + 0.001 * (i % 3)) for i in range(3)}
    assert not covered({"replay": steps})
    assert not covered({"replay": steps, "L2-SP": around})
    assert not covered({"replay": steps}, start=scores(0.77))


def test_every_remedy_has_a_look_of_its_own():
    given = remedy_looks((PLAIN, *TEN))
    assert list(given) == [PLAIN, *TEN]
    assert given[PLAIN][:2] == (INK, "*")
    assert {name: given[name] for name in TEN} == looks(TEN)  # those of `plots.frontier`
    assert len({look.colour for look in given.values()}) == 11
    with pytest.raises(ValueError, match="11 series in one figure are too many.*EWC"):
        remedy_looks((PLAIN, *TEN, "EWC"))


def test_the_trade_off_has_its_size():
    assert tuple(drawn().get_size_inches() * 100) == TRADE_OFF_SIZE
    assert drawn().texts[0].get_text() == "replay, buffer 50"


@pytest.mark.parametrize(("picture", "scale", "place"), PLACES)
def test_the_place_of_the_largest(picture, scale, place):
    assert place_of_largest(np.array(picture), scale=scale) == place


@pytest.mark.parametrize("kind", MAPS)
def test_all_maps_of_a_kind_have_one_scale(kind):
    maps = MAPS[kind]
    names, signed = ["a", "b", "c"][: len(maps)], kind in ("signed", "negative")
    for shown in (None, *range(len(maps))):
        figure = class_maps(maps, classes=names, shown=shown, kind=kind)
        assert tuple(figure.get_size_inches() * 100) == MAPS_SIZE
        top = np.abs(maps).max() or 1.0
        pictures = [ax.images[0] for ax in figure.axes if ax.images]
        assert {picture.get_clim() for picture in pictures} == {(-top if signed else 0.0, top)}
        assert {picture.get_cmap().name for picture in pictures} == {"RdBu_r" if signed else "magma"}
        large, mean = (maps[shown], maps.mean(axis=0)) if shown is not None else (maps.mean(axis=0), None)
        beside = [mean] if shown is not None else list(maps)
        assert all(np.array_equal(a.get_array(), b) for a, b in zip(pictures, [large, *beside], strict=True))
        (label,) = [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()]
        assert label == f"{kind}; {'white is 0' if signed else 'from 0'}, one scale for all"
        assert png(figure)[1:4] == b"PNG"


def test_zero_is_white_on_the_scale_of_signed_maps():
    picture = class_maps(MAPS["signed"], classes="abc", shown=0, kind="weights").axes[0].images[0]
    assert min(picture.cmap(picture.norm(0.0))) > 0.95
    assert to_hex(picture.cmap(picture.norm(0.7))) != to_hex(picture.cmap(picture.norm(-0.7)))


@pytest.mark.parametrize(("kind", "shown", "corner"), [("positive", 1, (2.5, -0.5)), ("signed", 2, (2.5, 0.5))])
def test_a_frame_marks_the_largest(kind, shown, corner):
    large, *others = class_maps(MAPS[kind], classes="abc", shown=shown, kind=kind).axes
    frames = [patch for patch in large.patches if isinstance(patch, Rectangle)]
    assert {(frame.get_xy(), frame.get_width(), frame.get_height()) for frame in frames} == {(corner, 1, 1)}
    assert len({to_hex(frame.get_edgecolor()) for frame in frames}) == 2  # on light and on dark
    assert not any(ax.patches for ax in others if ax.images)


def test_where_all_are_equal_but_for_rounding_nothing_is_marked():
    rounded = np.stack([MAPS["signed"][0], -MAPS["signed"][0] + 1e-15 * MAPS["positive"][0]])
    assert not class_maps(rounded, classes="ab", shown=None, kind="weights").axes[0].patches
    assert class_maps(rounded, classes="ab", shown=0, kind="weights").axes[0].patches


def test_the_maps_are_named():
    figure = class_maps(MAPS["positive"], classes="abc", shown=1, kind="exact", title="Digits")
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["class b", "mean over 3 classes"]
    assert figure.texts[0].get_text() == "Digits: exact"
    figure = class_maps(MAPS["positive"], classes="abc", shown=None, kind="exact")
    assert [ax.get_title() for ax in figure.axes if ax.images] == ["mean over 3 classes", "a", "b", "c"]
    assert [text.get_text() for text in figure.texts] == ["exact", "each class"]


def test_names_of_many_classes_do_not_lie_on_each_other():
    names = [f"a rather long name {number}" for number in range(36)]
    figure = class_maps(np.zeros((36, 2, 2)), classes=names, shown=None, kind="exact")
    boxes = [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    assert len(boxes) == 37
    assert not any(box.count_overlaps(boxes[:number]) for number, box in enumerate(boxes))
    figure = class_maps(np.zeros((37, 2, 2)), classes=[*names, "z"], shown=None, kind="exact")
    assert len([ax for ax in figure.axes if ax.get_title()]) == 1
