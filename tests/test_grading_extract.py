"""What learners do to a notebook, and that their answers are found all the same."""

import json

import pytest

from tests.grading_course import EXERCISES, REFERENCE, STUBS, cell, notebook
from tlcourse.grading.extract import extract
from tlcourse.grading.intake import read_notebook

ENTRIES = {exercise.id: exercise.entry for exercise in EXERCISES}
ANSWERS = [cell(source, task=task) for task, source in REFERENCE.items()]
COUNT = REFERENCE["90.2"]
OTHER = "def count(words):\n    return 3"
# Name -> (cells, what 90.2 is, a word of its note or None)
EDITED = {
    "untouched": (ANSWERS, COUNT, None),
    "reordered": (ANSWERS[::-1], COUNT, None),
    "deleted": ([ANSWERS[0], ANSWERS[2]], None, "missing"),
    "doubled": ([*ANSWERS, cell(OTHER, task="90.2")], OTHER, "2 times"),
    "doubled, one untouched": ([*ANSWERS, cell(STUBS["90.2"], task="90.2")], COUNT, None),
    "retyped": ([cell(COUNT, task="90.2", kind="markdown")], COUNT, "no code cell"),
    "retyped as raw": ([cell(COUNT, task="90.2", kind="raw")], COUNT, "no code cell"),
    "without metadata": ([cell(COUNT)], COUNT, "what it defines"),
    "without metadata, marked": ([cell("# Task 90.2\nx = 1")], "# Task 90.2\nx = 1", "its mark"),
    "a constant without metadata": ([cell("count = len")], "count = len", "what it defines"),
    "a comparison": ([cell("count == 7\ncounter = 1")], None, "missing"),
    "a mark in a text": ([cell("# task 90.2", kind="markdown")], None, "missing"),
    "a mark in a check": ([cell("# task 90.2", task="90.2", tags=("check",))], None, "missing"),
    "tags that are none": ([cell(COUNT) | {"metadata": {"tags": "answer", "task": "90.2"}}], COUNT, "what it defines"),
    "a task that is none": ([cell(COUNT) | {"metadata": {"tags": ["answer"], "task": ["90.2"]}}], None, "missing"),
    "another task": ([cell(COUNT, task="91.2")], None, "missing"),
    "edited around": (
        [cell("check = print"), *ANSWERS, cell("count = None", task="90.2", tags=("check",))],
        COUNT,
        None,
    ),
    "magic": ([cell("%matplotlib inline\n!rm -rf x\n" + COUNT, task="90.2")], "\n\n" + COUNT, "left out"),
    "magic in a string": ([cell("t = '''\n%x\n'''\n" + COUNT, task="90.2")], "t = '''\n%x\n'''\n" + COUNT, None),
    "huge": ([cell("#" * 300_000, task="90.2")], None, "more than"),
}


@pytest.mark.parametrize("name", EDITED)
def test_answers_are_found(name):
    cells, expected, word = EDITED[name]
    found = extract(read_notebook(notebook({}, cells=cells).encode()), ENTRIES, stubs=STUBS)
    assert found.sources["90.2"] == expected
    said = " ".join(found.notes.get("90.2", []))
    assert (word in said) if word else not said


def test_curious_names_are_told_and_cost_nothing():
    source = "import sys\nx = sys._getframe().f_back\n" + COUNT
    found = extract(read_notebook(notebook({"90.2": source}).encode()), ENTRIES)
    assert found.curious == {"90.2": ["_getframe", "f_back"]}
    assert found.sources["90.2"] == source


def test_a_text_that_cannot_be_encoded_is_mended():
    text = json.dumps({"nbformat": 4, "cells": [cell("x = '\ud800'", task="90.2")]})
    assert extract(read_notebook(text.encode()), ENTRIES).sources["90.2"] == "x = '?'"
