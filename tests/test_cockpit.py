"""The forgetting cockpit and the Fisher browser: what they say is what they were given, with its own interval."""

import html

import numpy as np
import pytest
import torch

from tlcourse import cockpit, views
from tlcourse.cockpit import FisherBrowser, ForgettingCockpit, fisher_browser, forgetting_cockpit
from tlcourse.intervals import Scores

NAMES = {"old": "accuracy on news", "new": "accuracy on tweets"}


def point(old, new, seeds=(0, 1, 2)):
    return tuple(Scores(tuple(mean + 0.01 * (seed % 5) for seed in seeds), seeds) for mean in (old, new))


PLAIN = Scores((0.60, 0.63, 0.61), (0, 1, 2)), Scores((0.80, 0.84, 0.82), (0, 1, 2))
HELD = Scores((0.75, 0.73, 0.71), (2, 1, 0)), Scores((0.79, 0.80, 0.77), (2, 1, 0))  # the same seeds in another order
ELSEWHERE = Scores((0.7, 0.8), (5, 6)), Scores((0.7, 0.8, 0.75), (0, 1, 2))
ALONE = Scores((0.7,), (0,)), Scores((0.8,), (0,))
START = Scores((0.93, 0.95, 0.94), (0, 1, 2))
POINTS = {
    "plain": {"rate 2e-4": PLAIN, "rate 2e-5": point(0.7, 0.75)},
    "L2-SP": {"strength 1": point(0.65, 0.8), "strength 10": HELD, "strength 100": point(0.8, 0.7)},
    "replay": {"buffer 50": ELSEWHERE},
}
BAD_POINTS = [  # points, error, words
    ({}, ValueError, "no remedy to choose"),
    ({"plain": {}}, ValueError, "'plain' has no setting"),
    ({"plain": PLAIN}, TypeError, "'plain': a mapping of settings is needed, not tuple"),
    ({"plain": {"rate": PLAIN[0]}}, TypeError, r"'plain', 'rate': \(Scores on the old task, Scores on the new one\)"),
    ({"plain": {"rate": PLAIN[:1]}}, TypeError, "'plain', 'rate'"),
    ({"plain": {"rate": (*PLAIN, PLAIN[0])}}, TypeError, "'plain', 'rate'"),
    ({"plain": {"rate": (0.6, 0.8)}}, TypeError, "'plain', 'rate'"),
    ({f"remedy {i}": {"a": PLAIN} for i in range(11)}, ValueError, "11 series in one figure are too many"),
]
BAD_CHOICES = [  # choice, words
    ({"remedy": "EWC"}, "no remedy 'EWC'; there are: plain, L2-SP, replay"),
    ({"setting": "strength 10"}, "'plain' has no setting 'strength 10'; there are: rate 2e-4, rate 2e-5"),
    ({"remedy": "replay", "setting": "buffer 5"}, "'replay' has no setting 'buffer 5'; there are: buffer 50"),
]
EXACT = np.array([[[0.0, 0.25, 0.5], [0.125, 0.0, 0.0]], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.25]]])
MAPS = {"exact": EXACT, "weights": EXACT - 0.5, "nothing": 0 * EXACT, "level": 0 * EXACT + 0.5}
CLASSES = ["zero", "one"]
SHOWN = [  # kind, class, words
    ("exact", "zero", "exact, class zero: from 0 to 0.5, largest at row 0, column 2. "),
    ("exact", "one", "exact, class one: from 0 to 1, largest at row 1, column 0. "),
    ("exact", "one", "Beside it the mean over 2 classes: from 0 to 0.562, largest at row 1, column 0."),
    ("exact", "all", "exact, mean over 2 classes: from 0 to 0.562, largest at row 1, column 0. "),
    ("exact", "all", "Beside it each class: from 0 to 1."),
    ("weights", "zero", "weights, class zero: from -0.5 to 0, largest at row 0, column 2. "),
    ("weights", "all", "weights, mean over 2 classes: from -0.5 to 0.0625, largest at row 1, column 0. "),
    ("nothing", "zero", "nothing, class zero: 0 everywhere. Beside it the mean over 2 classes: 0 everywhere."),
    ("level", "zero", "level, class zero: 0.5 everywhere. "),
]
BAD_MAPS = [  # maps, classes, words
    ({}, CLASSES, "no map to browse"),
    ({"exact": EXACT[0]}, CLASSES, r"'exact' is \(2, 3\); \(classes, H, W\) is needed"),
    ({"exact": EXACT[:, :0]}, CLASSES, r"'exact' is \(2, 0, 3\)"),
    ({"exact": EXACT}, ["a", "b", "c"], "'exact' has 2 maps, but there are 3 classes"),
    ({"exact": EXACT, "weights": EXACT[:, :, :2]}, CLASSES, r"'weights' is \(2, 2, 2\), but 'exact' is \(2, 2, 3\)"),
    ({"exact": EXACT, "weights": EXACT[:1]}, CLASSES, "'weights' has 1 maps, but there are 2 classes"),
    ({"exact": EXACT, "w": np.where(EXACT == 1, np.nan, EXACT)}, CLASSES, "'w', class one: a value is not finite"),
    ({"exact": np.where(EXACT == 0.5, np.inf, EXACT)}, CLASSES, "'exact', class zero: a value is not finite"),
    ({"exact": EXACT}, ["all", "one"], "cannot be called 'all'"),
    ({"exact": EXACT}, ["one", "one"], "classes repeat: one, one"),
]


@pytest.fixture
def forgetting():
    return ForgettingCockpit(POINTS, **NAMES, start=START)


@pytest.fixture
def fisher():
    return FisherBrowser(MAPS, classes=CLASSES, title="Digits")


@pytest.fixture
def displayed(monkeypatch):
    """The widgets that are displayed, with IPython there and somebody who watches."""
    shown = []
    monkeypatch.delenv("TLCOURSE_PROGRESS", raising=False)
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr(views, "display_widget", lambda widget, text: shown.append((widget, text)))
    return shown


def bracket(scores, sign=""):
    low, high = scores.interval()
    return f"{scores.mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def test_the_cockpit_says_both_scores_with_their_own_intervals(forgetting):
    for remedy, settings in POINTS.items():
        for setting, (old, new) in settings.items():
            forgetting.choose(remedy=remedy, setting=setting)
            words = forgetting.alt()
            measured = f"accuracy on news {bracket(old)}, n = {old.n}; accuracy on tweets {bracket(new)}, n = {new.n}"
            assert words.startswith(f"{remedy}, {setting}: {measured}.")
            assert words.endswith(f". Before the new task: accuracy on news {bracket(START)}, n = 3.")


def test_the_differences_to_plain_are_those_seed_by_seed(forgetting):
    forgetting.choose(remedy="L2-SP", setting="strength 10")
    old, new = (mine - plain for mine, plain in zip(HELD, PLAIN, strict=True))
    assert forgetting.differences["L2-SP"]["strength 10"] == (old, new)
    assert old.values == pytest.approx((0.14, 0.10, 0.11))
    less = "Less plain, rate 2e-4, seed by seed: "
    assert f"{less}accuracy on news {bracket(old, '+')}; accuracy on tweets {bracket(new, '+')}." in forgetting.alt()
    forgetting.choose(remedy="replay")
    new = ELSEWHERE[1] - PLAIN[1]
    assert forgetting.differences["replay"]["buffer 50"] == (None, new)
    apart = f"accuracy on news not paired, as the seeds differ; accuracy on tweets {bracket(new, '+')}."
    assert f"{less}{apart}" in forgetting.alt()


def test_plain_is_compared_with_nothing_but_its_other_settings_are(forgetting):
    assert "Less" not in forgetting.alt()
    assert list(forgetting.differences["plain"]) == ["rate 2e-5"]
    forgetting.choose(setting="rate 2e-5")
    assert "Less plain, rate 2e-4" in forgetting.alt()
    bare = ForgettingCockpit({"L2-SP": POINTS["L2-SP"]}, **NAMES)
    assert bare.differences == {}
    assert "Less" not in bare.alt()
    assert "Before" not in bare.alt()
    assert bare.picture()[1:4] == b"PNG"


def test_a_setting_that_is_the_plain_one_differs_by_nothing():
    state = ForgettingCockpit({"plain": {"rate": PLAIN}, "L2-SP": {"strength 0": PLAIN}}, **NAMES)
    state.choose(remedy="L2-SP")
    assert state.differences == {"L2-SP": {"strength 0": tuple(each - each for each in PLAIN)}}
    assert "accuracy on news +0.000 [+0.000, +0.000]" in state.alt()


def test_a_single_seed_is_called_one():
    state = ForgettingCockpit({"plain": {"rate": ALONE}, "replay": {"buffer 1": ALONE}}, **NAMES)
    state.choose(remedy="replay")
    assert "accuracy on news 0.700, a single seed; accuracy on tweets 0.800, a single seed. Less" in state.alt()
    assert state.alt().endswith("accuracy on news +0.000, a single seed; accuracy on tweets +0.000, a single seed.")
    assert state.picture()[1:4] == b"PNG"


def test_another_remedy_shows_its_setting_in_the_same_place_or_the_last(forgetting):
    forgetting.choose(remedy="L2-SP", setting="strength 10")
    forgetting.choose(remedy="plain")
    assert forgetting.setting == "rate 2e-5"
    forgetting.choose(remedy="L2-SP", setting="strength 100")
    forgetting.choose(remedy="replay")
    assert forgetting.setting == "buffer 50"
    forgetting.choose()
    assert (forgetting.remedy, forgetting.setting) == ("replay", "buffer 50")


@pytest.mark.parametrize(("choice", "words"), BAD_CHOICES)
def test_an_unknown_remedy_or_setting_is_refused_and_nothing_changes(forgetting, choice, words):
    with pytest.raises(KeyError, match=words):
        forgetting.choose(**choice)
    assert (forgetting.remedy, forgetting.setting) == ("plain", "rate 2e-4")
    with pytest.raises(KeyError, match=words):
        forgetting_cockpit(POINTS, **NAMES, **choice)


@pytest.mark.parametrize(("points", "error", "words"), BAD_POINTS)
def test_the_cockpit_refuses(points, error, words):
    with pytest.raises(error, match=words):
        forgetting_cockpit(points, **NAMES)


def test_a_start_that_is_no_scores_is_refused():
    with pytest.raises(TypeError, match="start is float; Scores on the old task, or None"):
        forgetting_cockpit(POINTS, **NAMES, start=0.9)


def test_what_the_cockpit_draws_is_what_is_chosen(monkeypatch, forgetting):
    told = {}
    monkeypatch.setattr(cockpit, "trade_off", lambda *values, **named: told.update(named, values=values))
    monkeypatch.setattr(cockpit, "png", lambda figure: b"")
    forgetting.choose(remedy="L2-SP", setting="strength 100")
    forgetting.picture()
    assert told == {
        "values": (POINTS, forgetting.differences),
        "chosen": ("L2-SP", "strength 100"),
        **NAMES,
        "start": START,
    }


def test_every_choice_has_a_picture_of_its_own(forgetting, fisher):
    seen = []
    for remedy, settings in POINTS.items():
        for setting in settings:
            forgetting.choose(remedy=remedy, setting=setting)
            seen.append(forgetting.picture())
    for kind in ("exact", "weights"):
        for shown in ("all", *CLASSES):
            fisher.choose(kind=kind, shown=shown)
            seen.append(fisher.picture())
    assert all(picture[1:4] == b"PNG" for picture in seen)
    assert len(set(seen)) == 12
    assert fisher.picture() == seen[-1]  # the same bytes again


@pytest.mark.parametrize(("kind", "shown", "words"), SHOWN)
def test_the_browser_says_the_range_and_where_the_largest_is(fisher, kind, shown, words):
    fisher.choose(kind=kind, shown=shown)
    assert words in fisher.alt()
    assert fisher.alt().startswith(f"Digits: {kind}, ")


def test_a_mean_that_is_zero_but_for_rounding_is_called_zero():
    signed = np.stack([EXACT[0], -EXACT[0]])
    signed[1, 1, 1] += 1e-15
    assert FisherBrowser({"weights": signed}, classes=CLASSES).alt().startswith("weights, mean over 2 classes: 0 every")


def test_the_browser_takes_tensors_and_classes_that_are_numbers():
    state = fisher_browser({"exact": torch.from_numpy(EXACT).float()}, classes=range(2), shown=1)
    assert (state.kind, state.shown, state.classes) == ("exact", "1", ["0", "1"])
    assert state.alt().startswith("exact, class 1: from 0 to 1, largest at row 1, column 0.")
    assert np.array_equal(state.maps["exact"], EXACT)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"kind": "sampled"}, "no kind 'sampled'; there are: exact, weights"),
        ({"shown": "two"}, "no class 'two'; there are: all, zero, one"),
        ({"kind": "weights", "shown": 0}, "no class '0'"),
    ],
)
def test_an_unknown_kind_or_class_is_refused_and_nothing_changes(fisher, choice, words):
    with pytest.raises(KeyError, match=words):
        fisher.choose(**choice)
    assert (fisher.kind, fisher.shown) == ("exact", "all")
    with pytest.raises(KeyError, match=words):
        fisher_browser(MAPS, classes=CLASSES, **choice)


@pytest.mark.parametrize(("maps", "classes", "words"), BAD_MAPS)
def test_the_browser_refuses(maps, classes, words):
    with pytest.raises(ValueError, match=words):
        fisher_browser(maps, classes=classes)


def test_what_the_browser_draws_is_what_is_chosen(monkeypatch, fisher):
    told = []
    monkeypatch.setattr(cockpit, "class_maps", lambda maps, **named: told.append((maps, named)))
    monkeypatch.setattr(cockpit, "png", lambda figure: b"")
    for kind, shown, number in (("exact", "all", None), ("weights", "one", 1), ("weights", "zero", 0)):
        fisher.choose(kind=kind, shown=shown)
        fisher.picture()
        maps, named = told[-1]
        assert np.array_equal(maps, MAPS[kind])
        assert named == {"classes": CLASSES, "shown": number, "kind": kind, "title": "Digits"}


def test_the_cockpit_s_controls_change_what_is_drawn(displayed):
    state = forgetting_cockpit(POINTS, **NAMES, start=START, remedy="L2-SP", setting="strength 10")
    ((box, text),) = displayed
    assert text == "Forgetting cockpit: accuracy on news against accuracy on tweets; plain, L2-SP, replay"
    row, picture, status = box.children
    remedy, setting = row.children
    assert [control.description for control in row.children] == ["remedy", "setting"]
    assert (remedy.value, setting.value, remedy.options) == ("L2-SP", "strength 10", tuple(POINTS))
    seen = {picture.value}
    setting.value = "strength 100"
    assert state.setting == "strength 100"
    seen.add(picture.value)
    remedy.value = "replay"
    assert (state.setting, setting.value, setting.options) == ("buffer 50", "buffer 50", ("buffer 50",))
    seen.add(picture.value)
    assert len(seen) == 3
    assert picture.tooltip == state.alt() == html.unescape(status.value)
    state.choose(remedy="plain", setting="rate 2e-5")
    assert (remedy.value, setting.value, setting.options) == ("plain", "rate 2e-5", ("rate 2e-4", "rate 2e-5"))


def test_the_browser_s_controls_change_what_is_drawn(displayed):
    state = fisher_browser(MAPS, classes=CLASSES, kind="weights")
    ((box, text),) = displayed
    assert text == "Fisher browser: exact, weights, nothing, level of 2 classes"
    row, picture, status = box.children
    kind, shown = row.children
    assert [control.description for control in row.children] == ["kind", "class"]
    assert (kind.value, shown.value, shown.options) == ("weights", "all", ("all", *CLASSES))
    seen = {picture.value}
    shown.value = "one"
    seen.add(picture.value)
    kind.value = "exact"
    seen.add(picture.value)
    assert len(seen) == 3
    assert (state.kind, state.shown) == ("exact", "one")
    assert picture.tooltip == state.alt() == html.unescape(status.value)


def test_where_nobody_watches_a_picture_stands_in_over_a_text_without_measured_digits(monkeypatch):
    shown = []
    monkeypatch.setenv("TLCOURSE_PROGRESS", "0")
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda bundle, **options: shown.append((bundle, options)))
    texts = []
    for moved in (0.0, 0.1):
        points = {"plain": {"rate": tuple(each - moved for each in PLAIN)}}
        states = forgetting_cockpit(points, **NAMES), fisher_browser({"exact": EXACT + moved}, classes=CLASSES)
        for state, (bundle, options) in zip(states, shown[-2:], strict=True):
            assert bundle["image/png"] == state.picture()
            assert options["metadata"]["image/png"]["alt"] == state.alt()
        texts.append([bundle["text/plain"] for bundle, _ in shown[-2:]])
    forgetting, fisher = texts[0]
    assert texts == [[forgetting, fisher]] * 2
    assert forgetting == "Forgetting cockpit: accuracy on news against accuracy on tweets; plain"
    assert fisher == "Fisher browser: exact of 2 classes"


def test_outside_of_a_notebook_a_line_is_printed(capsys):
    forgetting_cockpit({"plain": {"rate": PLAIN}}, old="news", new="tweets")
    fisher_browser({"exact": EXACT}, classes=CLASSES)
    assert (
        capsys.readouterr().out
        == "Forgetting cockpit: news against tweets; plain\nFisher browser: exact of 2 classes\n"
    )
