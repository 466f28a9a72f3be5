"""Executing the lessons, and the record of their verdicts on other processors, on small notebooks."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.lessons import VARIANTS, LessonFailed, find, main, record_stability, run, source_hash

# Supported, save where PyTorch was told to use its plainest instructions.
LESSON = """\
import os

found = "INCONCLUSIVE, but supported was expected" if os.environ.get("ATEN_CPU_CAPABILITY") else "SUPPORTED as expected"
print(f"{found}: threads {os.environ.get('OMP_NUM_THREADS') == '1'}")
print("  bar: above +0.03; 95 % t-interval over n = 5 paired seeds\\n  measured: +0.0840 [+0.0698, +0.0982]")
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    for name in VARIANTS:
        monkeypatch.delenv(name.partition("=")[0], raising=False)
    (tmp_path / "notebooks").mkdir()
    for name, source in (("00_good", LESSON), ("01_bad", "raise ValueError('the learner sees this')")):
        notebook = new_notebook(cells=[new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def test_find(course):
    assert [path.stem for path in find(course)] == ["00_good", "01_bad"]
    assert [path.stem for path in find(course, ["01"])] == ["01_bad"]
    with pytest.raises(LessonFailed, match="no lesson 07 in notebooks/; there are"):
        find(course, ["07"])


def test_run_times_each_lesson_and_writes_nothing(course, capsys):
    before = (course / "notebooks" / "00_good.ipynb").read_bytes()
    run(course, ["00"])
    words = capsys.readouterr().out.split()
    assert (words[0], words[2:]) == ("00_good", ["s", "1", "claims"])
    assert float(words[1]) > 0
    assert (course / "notebooks" / "00_good.ipynb").read_bytes() == before


def test_a_cell_that_raises_is_named(course):
    with pytest.raises(LessonFailed, match="01_bad, cell 0, raised:(.|\n)*the learner sees this"):
        run(course)


def test_the_record_keeps_verdicts_under_each_variant(course, capsys):
    (course / "results").mkdir()
    (course / "results" / "stability.json").write_text('{"03_other": {}}')
    record_stability(course, ["00"])
    record = json.loads((course / "results" / "stability.json").read_text())
    notebook = nbformat.read(course / "notebooks" / "00_good.ipynb", as_version=4)
    assert record["03_other"] == {}
    assert record["00_good"] == {
        "code": source_hash(notebook),
        "verdicts": {
            "OMP_NUM_THREADS=1": [["threads True", "supported"]],
            "ATEN_CPU_CAPABILITY=default": [["threads False", "inconclusive"]],
        },
    }
    assert capsys.readouterr().out.count("VERDICTS DIFFER") == 2  # this notebook keeps no outputs to agree with


def test_command(course, monkeypatch, capsys):
    monkeypatch.setattr("tools.lessons.find", lambda root, lessons: find(course, lessons))
    assert main(["00"]) == 0
    assert main(["01"]) == 1
    assert "the learner sees this" in capsys.readouterr().err
