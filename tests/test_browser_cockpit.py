"""The forgetting cockpit and the Fisher browser in a headless JupyterLab: a choice changes what is drawn."""

import pytest

from tests.browser_notebook import (
    find_browser,
    jupyter_lab,
    open_notebook,
    opened,
    run_cell,
    wait_for_new_source,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CELLS = [
    """import numpy as np
from tlcourse import cockpit
from tlcourse.intervals import Scores
point = lambda old, new: tuple(Scores((mean, mean + 0.02, mean + 0.01), (0, 1, 2)) for mean in (old, new))
replay = {"buffer 10": point(0.75, 0.8), "buffer 50": point(0.85, 0.78)}
points = {"plain": {"rate 2e-4": point(0.7, 0.8)}, "L2-SP": {"strength 1": point(0.8, 0.7)}, "replay": replay}
forgetting = cockpit.forgetting_cockpit(points, old="news", new="tweets", start=point(0.93, 0.5)[0])""",
    """exact = np.random.default_rng(0).random((3, 8, 8))
maps = {"exact": exact, "weights": exact - 0.5}
fisher = cockpit.fisher_browser(maps, classes=["zero", "one", "two"], title="Digits")""",
    """print(forgetting.remedy, forgetting.setting, fisher.kind, fisher.shown, sep=", ")""",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("lab"), CELLS) as address, open_notebook(address) as page:
        yield page


def offered(control):
    """The options of a dropdown; ipywidgets writes them with spaces that do not break."""
    return [text.replace("\xa0", " ") for text in control.locator("option").all_inner_texts()]


def size(image):
    return {name: image.bounding_box()[name] for name in ("width", "height")}


def test_the_cockpit_shows_the_setting_of_the_remedy_that_is_picked(page):
    box, image, first = opened(page, 0)
    box.get_by_text("plain, rate 2e-4: news 0.710 [").wait_for()
    before = size(image)
    remedy, setting = box.locator("select").all()
    assert offered(remedy) == ["plain", "L2-SP", "replay"]
    assert offered(setting) == ["rate 2e-4"]
    remedy.select_option("replay")
    second = wait_for_new_source(page, image, first)
    box.get_by_text("replay, buffer 10: news 0.760 [").wait_for()
    assert offered(setting) == ["buffer 10", "buffer 50"]
    setting.select_option("buffer 50")
    wait_for_new_source(page, image, second)
    box.get_by_text("replay, buffer 50: news 0.860 [").wait_for()
    assert "Less plain, rate 2e-4, seed by seed: news +0.150 [" in image.get_attribute("title")
    assert setting.input_value() == "buffer 50"
    assert (image.count(), size(image)) == (1, before)


def test_the_fisher_browser_shows_the_kind_and_the_class_that_are_picked(page):
    box, image, first = opened(page, 1)
    box.get_by_text("Digits: exact, mean over 3 classes: from ").wait_for()
    before = size(image)
    kind, shown = box.locator("select").all()
    assert offered(shown) == ["all", "zero", "one", "two"]
    shown.select_option("two")
    second = wait_for_new_source(page, image, first)
    box.get_by_text("Digits: exact, class two: from ").wait_for()
    kind.select_option("weights")
    wait_for_new_source(page, image, second)
    box.get_by_text("Digits: weights, class two: from -0.").wait_for()
    assert "weights, class two" in image.get_attribute("title")
    assert (image.count(), size(image)) == (1, before)


def test_what_was_chosen_is_in_the_state_that_python_holds(page):
    run_cell(page, 2).get_by_text("replay, buffer 50, weights, two").wait_for()
