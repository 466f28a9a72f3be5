"""Results as others read them: complete, in their form, and harmless whatever a learner is called or wrote."""

import copy
import csv
import io
import json
from html.parser import HTMLParser

import pytest

from tlcourse.grading import export
from tlcourse.grading.export import as_text, check, gradescope, read_roster, safe_cell, write_all
from tlcourse.grading.feedback import page

NASTY = [
    "Ada, Countess",
    'Bob "the builder"',
    '=HYPERLINK("http://example.org/?"&A1,"click")',
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "\uff1d1+1",
    "|calc",
    "%0A=1",
    "\u202egpj.exe",
    "\u200f\u2067=1+1",
    "two\nlines",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'><b onmouseover=alert(1)>",
    "&lt;script&gt;",
    "</pre></bdi><style>*{display:none}",
    "Łukasz 名前 עברית",
    "",
]
STARTS = tuple("=+-@\t\r|%\uff1d")


def result(name="Ada", text="wrong", score=1.5):
    task = {
        "id": "03.1",
        "title": "Left",
        "score": score,
        "max_score": 2.0,
        "status": "partly right",
        "aspects": [{"key": "left", "title": "the share", "weight": 1.0, "held": False}],
        "misconception": "one step an epoch",
        "message": text,
        "printed": text,
        "notes": [text],
        "curious": [],
    }
    return {
        "format": 1,
        "id": "ada-1",
        "name": name,
        "assignment": "03",
        "key": "a" * 64,
        "digest": "b" * 64,
        "jail": "bubblewrap",
        "warning": "",
        "problem": text,
        "notes": [text],
        "score": score,
        "max_score": 2.0,
        "tasks": [task],
    }


def batch(*results):
    return {
        "format": 1,
        "assignment": "03",
        "title": "Exercises 03",
        "max_score": 2.0,
        "jail": "bubblewrap",
        "warning": "",
        "submissions": list(results),
    }


WRONG = {
    "a score above": lambda r: r.update(score=3.0),
    "a score below": lambda r: r.update(score=-1.0),
    "a task's score above": lambda r: r["tasks"][0].update(score=2.5),
    "a score that is a text": lambda r: r.update(score="2"),
    "no score": lambda r: r.pop("score"),
    "more than asked": lambda r: r.update(bonus=5),
    "an unknown status": lambda r: r["tasks"][0].update(status="excellent"),
    "an unknown jail": lambda r: r.update(jail="trust me"),
    "an id that climbs": lambda r: r.update(id="../x"),
    "a digest that is none": lambda r: r.update(digest="x"),
    "another format": lambda r: r.update(format=2),
}


def rows(path):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_result_has_its_form():
    check(result(), "submission")
    check(batch(result()), "batch")


@pytest.mark.parametrize("name", WRONG)
def test_another_form_is_refused(name):
    changed = copy.deepcopy(result())
    WRONG[name](changed)
    with pytest.raises(ValueError, match="not a submission result|a score of"):
        check(changed, "submission")
    with pytest.raises(ValueError, match="not a batch result|a score of"):
        check(batch(changed), "batch")


@pytest.mark.parametrize("text", NASTY)
def test_a_spreadsheet_runs_nothing(text, tmp_path):
    write_all(
        batch(result(name=text, text=text)), tmp_path, audit={}, people={"ada-1": {"email": text, "section": text}}
    )
    for name in ("grades.csv", "canvas.csv"):
        table = rows(tmp_path / name)
        assert len({len(row) for row in table}) == 1
        found = [text for row in table[1:] for text in row]
        assert not [text for text in found if text.lstrip(" '\"").startswith(STARTS) and not text.startswith("'")]
        assert not [text for text in found if set(text) & set("\u202e\u200f\u2067\x00")]


@pytest.mark.parametrize(("text", "same"), [("Ada", True), ("Ada, Countess", True), ("=1", False), ("-1", False)])
def test_a_harmless_text_stays_as_it_is(text, same):
    assert (safe_cell(text) == text) is same


class Outline(HTMLParser):
    """What a browser would see: tags, their attributes, and the text."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("text", NASTY)
def test_a_page_of_feedback_is_text_whatever_was_written(text):
    plain, nasty = Outline(), Outline()
    plain.feed(page(result(), "Title", "Ada"))
    nasty.feed(page(result(name=text, text=text or "x"), text or "x", text))
    assert nasty.tags == plain.tags
    assert nasty.attributes == plain.attributes
    assert not nasty.tags & {"script", "img", "b", "iframe", "link"}
    assert text in nasty.text


def test_a_page_loads_and_runs_nothing():
    made = page(result(), "Title", "Ada")
    assert "default-src &#x27;none&#x27;" in made
    assert "http://" not in made.replace("http-equiv", "")
    assert "https://" not in made


def test_gradescope_gets_its_form():
    """https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format"""
    made = gradescope(result())
    assert made["score"] == sum(test["score"] for test in made["tests"]) == 1.5
    assert made["stdout_visibility"] in {"hidden", "after_due_date", "after_published", "visible"}
    for test in made["tests"]:
        assert set(test) <= {"number", "name", "score", "max_score", "status", "output", "output_format", "visibility"}
        assert test["status"] in {"passed", "failed"}
        assert test["output_format"] == "text"
    assert json.loads(as_text(made)) == made


def test_canvas_gets_its_columns(tmp_path):
    people = {
        "ada-1": {"name": "Lovelace, Ada", "canvas_id": "7", "sis_id": "s7", "email": "ada@x.org", "section": "A"}
    }
    write_all(batch(result()), tmp_path, audit={}, people=people)
    table = rows(tmp_path / "canvas.csv")
    assert table[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Exercises 03"]
    assert table[1][0].strip() == "Points Possible"
    assert table[2] == ["Lovelace, Ada", "7", "s7", "ada@x.org", "A", "1.5"]


def test_every_export_is_written(tmp_path):
    write_all(batch(result()), tmp_path, audit={"seed": "1"})
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {
        *("results.json", "grades.csv", "canvas.csv", "audit.json"),
        *("feedback/ada-1.html", "gradescope/ada-1/results.json"),
    }
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == batch(result())


def test_a_warning_is_in_every_export(tmp_path):
    warned = result() | {"warning": "graded without a jail", "jail": "none"}
    write_all(batch(warned) | {"warning": "graded without a jail", "jail": "none"}, tmp_path, audit={})
    for name in ("results.json", "grades.csv", "feedback/ada-1.html", "gradescope/ada-1/results.json"):
        assert "graded without a jail" in (tmp_path / name).read_text(encoding="utf-8")


def test_a_roster_needs_ids(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text('\ufeffid,name,email\nada-1,"Lovelace, Ada",ada@x.org\n', encoding="utf-8")
    assert read_roster(path) == {"ada-1": {"id": "ada-1", "name": "Lovelace, Ada", "email": "ada@x.org"}}
    for text in ("name\nAda\n", "id\nada\nada\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="needs an id of its own"):
            read_roster(path)


def test_the_same_value_is_the_same_bytes():
    assert as_text({"b": 1, "a": "é"}) == as_text({"a": "é", "b": 1}) == '{\n "a": "é",\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        as_text(float("nan"))


def test_formats_agree():
    assert export.SCHEMA["batch"]["properties"]["submissions"]["items"] is export.SCHEMA["submission"]
