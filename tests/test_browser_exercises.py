"""A self-check in a headless JupyterLab: the box that explains, and the ladder of hints below it."""

import pytest

from tests.browser_notebook import find_browser, jupyter_lab, open_notebook, run_cell
from tlcourse.checks import find

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CELLS = [
    """from tlcourse.checks import check, hint, progress, use_variant
def imagenet_left(images, batch_size, epochs, momentum):
    return (1 - momentum) ** epochs
check("03.1", imagenet_left)""",
    """hint("03.1")""",
    """def imagenet_left(images, batch_size, epochs, momentum):
    return (1 - momentum) ** (epochs * -(-images // batch_size))
check("03.1", imagenet_left)""",
    """record = progress().records["03.1"]
print(record.tries, record.hints, record.passed, "return (1 - momentum)" in record.answer, sep=", ")""",
    """def paired_interval(a, b):
    from scipy.stats import ttest_rel
    return ttest_rel(a, b).confidence_interval(0.97)
use_variant({"00.1": {"level": 80}})
check("00.1", paired_interval)""",
    """progress()""",
]
FIRST, SECOND, THIRD = (f"03.1, hint {step} of 3: {text}" for step, text in enumerate(find("03.1").hints, start=1))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    find_browser()
    with jupyter_lab(tmp_path_factory.mktemp("lab"), CELLS) as address, open_notebook(address) as page:
        yield page


def test_a_wrong_answer_opens_hints_one_at_a_time(page):
    box = run_cell(page, 0)
    box.get_by_text("03.1 not yet: one step an epoch").wait_for()
    button, words = box.get_by_role("button", name="Hint"), box.locator("pre")
    assert "not once with each epoch" in words.first.inner_text()
    assert words.count() == 1, "the check's words are there once, and no hint yet"
    button.click()
    box.get_by_text(FIRST).wait_for()
    assert words.count() == 2
    run_cell(page, 1).get_by_text(SECOND).wait_for()  # the function goes on where the button was
    button.click()
    box.get_by_text(THIRD).wait_for()
    assert words.all_inner_texts()[1:] == [FIRST, THIRD]


def test_a_right_answer_has_no_button_and_is_kept(page):
    box = run_cell(page, 2)
    box.get_by_text("03.1 passed: `imagenet_left` agrees on 6 drawn inputs.").wait_for()
    assert box.get_by_role("button", name="Hint").count() == 0
    run_cell(page, 3).get_by_text("2, 3, True, True").wait_for()


def test_the_constants_of_the_notebook_are_the_checks(page):
    run_cell(page, 4).get_by_text("This would be right where `level` is 97; in your notebook it is not").wait_for()


def test_progress_is_a_table(page):
    table = run_cell(page, 5).locator("table")
    table.get_by_text("What is left of ImageNet").wait_for()
    rows = [row.split("\t") for row in table.locator("tr").all_inner_texts()]
    assert ["03.1", "What is left of ImageNet", "2", "passed", "2", "3"] in rows
    assert ["00.1", "The interval of a paired comparison", "3", "tried", "1", "0"] in rows
