import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from tlcourse.advice import Advice, Pilot, Suggestion
from tlcourse.audit import Audit, Finding
from tlcourse.estimates import Estimate
from tlcourse.evaluation import metrics
from tlcourse.transfer import Outcome, Trial, balanced_interval
from tlcourse.transfer_report import confusion, report

VOID = {"meta", "img"}
HOSTILE = "<script>alert('x')</script> & \"co\""


class Page(HTMLParser):
    """Every tag is closed in its turn; images, texts and headings are noted."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.tags, self.text, self.links = [], [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        self.links += [value for key, value in attributes.items() if key in ("src", "href")]
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def audit():
    findings = (Finding("unreadable", "2 files are left out", (HOSTILE, "b.png"), left_out=True),)
    return Audit(14, tuple("abcdefghijkl"), torch.arange(12), {"dark": 6, HOSTILE: 6}, findings)


@pytest.fixture
def task(tiny_task):
    return replace(tiny_task, class_names=("dark", HOSTILE))


def trials(scores):
    return tuple(Trial(name, seed, value, 1.0, 1.0) for name, row in scores.items() for seed, value in enumerate(row))


@pytest.fixture
def outcome(tiny_task):
    labels = tiny_task.test.labels
    probabilities = torch.full((len(labels), 2), 0.2)
    probabilities[torch.arange(len(labels)), labels] = 0.8
    probabilities[0] = probabilities[0].flip(0)  # one mistake
    score = Estimate(0.7, 0.6, 0.8, n=3, resampled="splits")
    pilot = Pilot((0, 1, 2), (0.6, 0.7, 0.8), (0.5, 0.6, 0.7), (0.5, 0.5, 0.6), 0.01, -0.5, 0.4)
    ranking = (
        Suggestion("last 2 stages", ("some labels",), None, 2.0, 3_000_000),
        Suggestion("probe", ("behind",), score, 1.0, 1_000_000),
        Suggestion("full fine-tuning", ("behind",), None, 9.0, 9_000_000),
    )
    return Outcome(
        advice=Advice("measurements", ranking, ("more labels",), pilot),
        trials=trials({"probe": (0.6, 0.7, 0.8), "last 2 stages": (0.7, 0.8, 0.91)}),
        skipped={"full fine-tuning": "3 splits would take it to about 9.0 minutes"},
        chosen="last 2 stages",
        test=metrics(labels, probabilities),
        test_interval=balanced_interval(labels.tolist(), probabilities.argmax(dim=1).tolist()),
        labels=tuple(labels.tolist()),
        probabilities=tuple(map(tuple, probabilities.tolist())),
        seconds=12.0,
        cpu_seconds=11.0,
    )


@pytest.fixture
def page(outcome, task, audit):
    return Page(report(outcome, task, audit, backbone="tiny", command="predict it"))


def test_the_page_is_whole_and_loads_nothing(page):
    assert {"script", "link", "iframe", "object"}.isdisjoint(page.tags)
    assert page.links and all(link.startswith("data:image/png;base64,") for link in page.links)
    assert page.tags.count("h1") == 1 and page.tags.count("h2") == 5


def test_every_figure_is_a_picture_and_says_what_it_shows(page):
    assert len(page.images) == 3
    for image in page.images:
        assert len(image["alt"]) > 60
        with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as picture:
            assert picture.format == "PNG" and picture.width > 200
    assert "probe: 0.700 [" in page.images[0]["alt"] and "last 2 stages is ahead" in page.images[0]["alt"]
    assert "commonest mistake, 1 times" in page.images[1]["alt"]


def test_the_answer_comes_with_its_interval_and_what_guessing_gives(page, outcome):
    found = outcome.test_interval
    assert f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" in page.text and "guessing gives 0.500" in page.text
    assert "ahead of probe by 0.103 [" in page.text and "more than chance" in page.text


def test_a_lead_within_its_interval_is_called_that(outcome, task, audit):
    noisy = {"probe": (0.9, 0.6, 0.7), "last 2 stages": (0.7, 0.8, 0.91)}
    page = Page(report(replace(outcome, trials=trials(noisy)), task, audit, backbone="tiny"))
    assert "cannot be told from chance" in page.text


@pytest.mark.parametrize(
    "said",
    [
        "12 of 14 samples are kept",
        "unreadable (left out): 2 files are left out",
        "not tried: 3 splits would take it to about 9.0 minutes",
        "more labels",
        "what is not the test split, drawn with the seeds 0, 1, 2.",
        "Pilot, trials and last training took 12 s of wall time and 11 s of processor time.",
        "predict it",
        HOSTILE,
    ],
)
def test_what_the_page_says(said, page):
    assert said in page.text


def test_rows_of_the_table_of_mistakes_are_true_classes():
    ax = confusion([0, 0, 1, 2], [0, 1, 1, 1], ("a", "b", "c"))
    assert [text.get_text() for text in ax.texts] == ["1", "1", "0", "0", "1", "0", "0", "1", "0"]
    assert ax.get_ylabel() == "true"


def test_without_findings_or_another_strategy_it_says_so(outcome, task, audit):
    alone = replace(outcome, trials=outcome.trials[:3], chosen="probe")
    page = Page(report(alone, task, replace(audit, findings=()), backbone="tiny"))
    assert "No other strategy was tried." in page.text and "The audit found nothing wrong." in page.text


def test_hundreds_of_items_are_cut(outcome, task, audit):
    many = replace(audit, findings=(Finding("tiny", "many", tuple(f"item {n}" for n in range(500))),))
    text = Page(report(outcome, task, many, backbone="tiny")).text
    assert "item 199" in text and "item 200" not in text and "and 300 more" in text
