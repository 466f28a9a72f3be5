"""Both widgets in a headless JupyterLab: a control that is changed changes what is drawn."""

import re

import pytest

from tests.browser_notebook import find_browser, jupyter_lab, open_notebook, run_cell, source, wait_for_new_source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CELLS = [
    """from types import SimpleNamespace
import time
from tlcourse import plots, widgets
from tlcourse.intervals import Scores
forecast = widgets.predict("Which AUC does the probe reach with 200 labels?", low=0.5, high=1.0, step=0.01, key="t")""",
    """curve = {n: Scores((s, s + 0.02, s + 0.01), (0, 1, 2)) for n, s in ((50, 0.72), (200, 0.79))}
plots.show(plots.learning_curve({"probe": curve}, prediction=forecast), alt="The probe's learning curve.")
print("drawn at", forecast.value)""",
    """forecast.reveal(0.8, (0.78, 0.82))""",
    """chart = widgets.TrainingChart("Probe on solar cells")
history = SimpleNamespace(epochs=[], train_loss=[], val=[])
for epoch in range(1, 6):
    history.epochs.append(epoch)
    history.train_loss.append(0.7 / epoch)
    history.val.append({"auc": 0.9 - 0.3 / epoch, "accuracy": 0.8 - 0.2 / epoch, "log_loss": 0.5 + 0.2 / epoch})
    chart(history)
    time.sleep(0.6)
print("trained")""",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("lab"), CELLS) as address, open_notebook(address) as page:
        yield page


def test_the_prediction_box_is_drawn_committed_and_compared(page):
    box = run_cell(page, 0)
    image, slider = box.locator("img"), box.locator(".noUi-handle")
    image.wait_for()
    before = source(image)
    assert box.locator("b").inner_text() == "Which AUC does the probe reach with 200 labels?"
    assert "0.75" in box.inner_text()

    slider.focus()
    page.keyboard.press("ArrowRight")
    moved = wait_for_new_source(page, image, before)
    box.locator(".widget-label").get_by_text("0.76", exact=True).wait_for()

    box.get_by_role("button", name="Commit", exact=True).click()
    committed = wait_for_new_source(page, image, moved)
    box.get_by_text("You said 0.76.").wait_for()
    assert box.get_by_role("button", name="Committed").is_disabled()

    figure = run_cell(page, 1)
    figure.get_by_text("drawn at 0.76").wait_for()
    assert figure.locator("img").count() == 1

    below = run_cell(page, 2)
    below.locator("img").wait_for()
    wait_for_new_source(page, image, committed)
    verdict = "You said 0.76; measured 0.800 [0.780, 0.820]: off by 0.040, outside the interval."
    box.get_by_text(verdict).wait_for()
    assert verdict in image.get_attribute("title")
    assert below.locator("img").count() == 1

    again = run_cell(page, 0)  # a new box, which finds what was committed
    again.get_by_text("You said 0.76.", exact=True).wait_for()
    assert again.get_by_role("button", name="Committed").is_disabled()


def test_the_training_chart_updates_in_place_and_obeys_its_controls(page):
    chart = run_cell(page, 3)
    image = chart.locator("img")
    image.wait_for()
    first, element = source(image), image.element_handle()
    size = element.bounding_box()
    seen = {first}
    for epoch in (2, 3, 4, 5):
        chart.get_by_text(re.compile(f"epoch {epoch}: training loss")).wait_for()
        seen.add(source(image))
    chart.get_by_text("trained", exact=True).wait_for()
    assert len(seen) >= 4  # one picture may pass between two looks
    assert element.evaluate("element => element.isConnected")
    assert image.count() == 1
    assert (element.bounding_box()["width"], element.bounding_box()["height"]) == (size["width"], size["height"])

    last = source(image)
    chart.locator("select").select_option("accuracy")
    other = wait_for_new_source(page, image, last)
    chart.get_by_text("validation accuracy 0.760").wait_for()
    chart.get_by_label("logarithmic loss").check()
    wait_for_new_source(page, image, other)
    assert element.evaluate("element => element.isConnected")
