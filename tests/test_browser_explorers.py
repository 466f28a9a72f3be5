"""The three explorers in a headless JupyterLab: a control that is changed changes what is drawn."""

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
    """import torch
from tlcourse import attach_head, explorers, feature_browser, feature_extraction, full_fine_tune, gradual_unfreezing
from tlcourse import digit_network, load_task
task = load_task("digits8", labels=20)
model = attach_head(digit_network(), task)
plans = {"head only": feature_extraction(model), "everything": full_fine_tune(model)}
explorer = explorers.explore_plans(model, plans, example=task.train.inputs[:1], batch_size=8)""",
    """noise = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
pictures = {"conv1": {0: noise[0], 3: noise[1]}, "conv2": {5: noise[0]}}
browser = feature_browser.browse_features(feature_browser.collect_features(model, task.train.inputs, pictures))""",
    """timeline = explorers.unfreezing_timeline(model, gradual_unfreezing(model), steps_an_epoch=4)""",
    """print(explorer.plan, explorer.other, browser.stage, browser.unit, timeline.step, timeline.curve, sep=", ")""",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("lab"), CELLS) as address, open_notebook(address) as page:
        yield page


def test_the_freeze_explorer_shows_the_plan_that_is_picked(page):
    box, image, first = opened(page, 0)
    box.get_by_text("frozen: conv1").wait_for()
    plan, other = box.locator("select").all()
    plan.select_option("everything")
    second = wait_for_new_source(page, image, first)
    box.get_by_text("everything: ").wait_for()
    assert "frozen: nothing" in image.get_attribute("title")
    other.select_option("head only")
    wait_for_new_source(page, image, second)
    box.get_by_text("Compared with head only").wait_for()
    assert image.count() == 1


def test_the_feature_browser_shows_the_unit_that_is_chosen(page):
    box, image, first = opened(page, 1)
    size = image.bounding_box()
    stage, unit = box.locator("select").all()
    unit.select_option("3")
    second = wait_for_new_source(page, image, first)
    box.get_by_text("Stage conv1, unit 3: ").wait_for()
    stage.select_option("conv2")
    wait_for_new_source(page, image, second)
    box.get_by_text("Stage conv2, unit 5: ").wait_for()
    assert unit.locator("option").all_inner_texts() == ["5"]
    assert "unit 5" in image.get_attribute("title")
    assert (image.bounding_box()["width"], image.bounding_box()["height"]) == (size["width"], size["height"])


def test_the_timeline_follows_the_keyboard_and_the_choice_of_rates(page):
    box, image, first = opened(page, 2)
    box.get_by_text("Step 0 of ").wait_for()
    box.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    second = wait_for_new_source(page, image, first)
    box.get_by_text("Step 1 of ").wait_for()
    box.locator("select").select_option("constant")
    wait_for_new_source(page, image, second)
    box.get_by_text("constant rates, factor 1.000").wait_for()
    assert "constant rates" in image.get_attribute("title")


def test_what_was_chosen_is_in_the_state_that_python_holds(page):
    run_cell(page, 3).get_by_text("everything, head only, conv2, 5, 1, constant").wait_for()
