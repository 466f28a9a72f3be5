"""What arrives is judged as it should be, whatever arrives."""

import numpy as np
import pytest

from tests import grading_course as course
from tlcourse.grading import courseware, score
from tlcourse.grading.score import clean, prepare, score_task

PAPER = course.paper()
SCALED, COUNT, POWER = course.EXERCISES
RIGHT = [{"value": expected} for expected in PAPER.expected["90.1"]]
# Name -> (change of a right value, score of 4, status)
VALUES = {
    "right": (lambda v: v, 4.0, "right"),
    "right as a list": (lambda v: v | {"scaled": v["scaled"].tolist()}, 4.0, "right"),
    "more than asked": (lambda v: v | {"score": 100, "held": True}, 4.0, "right"),
    "one part wrong": (lambda v: v | {"total": v["total"] + 1}, 3.0, "partly right"),
    "one part missing": (lambda v: {"scaled": v["scaled"]}, 3.0, "partly right"),
    "one part a text": (lambda v: v | {"total": "all"}, 3.0, "partly right"),
    "one part a dict": (lambda v: v | {"total": {"x": 1}}, 3.0, "partly right"),
    "both wrong": (lambda v: {"scaled": v["scaled"] + 1, "total": 0.5}, 0.0, "wrong"),
    "not a number": (lambda v: {"scaled": v["scaled"] * np.nan, "total": float("nan")}, 0.0, "wrong"),
    "infinite": (lambda v: {"scaled": v["scaled"] + np.inf, "total": float("inf")}, 0.0, "wrong"),
    "complex": (lambda v: {"scaled": v["scaled"] + 0j, "total": np.array(1j)}, 0.0, "wrong"),
    "complex in a list": (lambda v: {"scaled": [np.array(1j)], "total": [[np.array(1j)]]}, 0.0, "wrong"),
    "another shape": (lambda v: {"scaled": v["scaled"][:, None], "total": [[1.0]]}, 0.0, "wrong"),
    "ragged": (lambda v: {"scaled": [[1.0], [1.0, 2.0]], "total": [[], [1]]}, 0.0, "wrong"),
    "empty": (lambda v: {}, 0.0, "wrong"),
    "a list": (lambda v: [v], 0.0, "wrong"),
    "a text": (lambda v: "right", 0.0, "wrong"),
    "nothing": (lambda v: None, 0.0, "wrong"),
}
ERRORS = [
    ({"error": {"kind": "missing"}}, "missing", "no answer cell"),
    ({"error": {"kind": "NotImplementedError", "message": "", "line": 2}}, "not started", "still raises"),
    ({"error": {"kind": "NotImplementedError", "message": "meta", "line": 2}}, "raised", "meta"),
    ({"error": {"kind": "ValueError", "message": "no", "line": 3}}, "raised", "ValueError: no (line 3 of its cell)"),
    ({"error": {"kind": 7, "message": ["x"], "line": "3"}}, "raised", "an exception"),
    ({"error": 7}, "stopped", "ended the program"),
    ({"ending": "too slow"}, "stopped", "time that this task has"),
    ({"ending": "a kind to come"}, "stopped", "ended the program"),
    ({}, "stopped", "ended the program"),
]


@pytest.mark.parametrize("name", VALUES)
def test_values_are_worth(name):
    change, points, status = VALUES[name]
    drawn = {number: {"value": change(arrived["value"]), "printed": ""} for number, arrived in enumerate(RIGHT)}
    found = score_task(PAPER, SCALED, drawn)
    assert (found["score"], found["status"]) == (points, status)
    assert bool(found["message"]) == (status != "right")


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_a_part_counts_where_it_held_in_every_draw(wrong):
    drawn = dict(enumerate(RIGHT))
    drawn[wrong] = {"value": RIGHT[wrong]["value"] | {"total": -1.0}}
    assert score_task(PAPER, SCALED, drawn)["score"] == 3.0
    del drawn[wrong]
    assert score_task(PAPER, SCALED, drawn)["score"] == 0.0


@pytest.mark.parametrize(("arrived", "status", "words"), ERRORS)
def test_errors_are_explained(arrived, status, words):
    found = score_task(PAPER, SCALED, dict.fromkeys(range(3), arrived))
    assert (found["score"], found["status"]) == (0.0, status)
    assert words in found["message"]


def test_a_misconception_is_named():
    drawn = {n: {"value": {"scaled": inputs["values"], "total": 1e6}} for n, inputs in enumerate(PAPER.inputs["90.1"])}
    assert score_task(PAPER, SCALED, drawn)["message"].startswith("You gave the values back")


def test_the_same_seed_gives_the_same_paper_and_another_does_not():
    assert course.paper(3).key == course.paper(3).key != course.paper(4).key
    assert course.paper(3).inputs["90.2"] == course.paper(3).inputs["90.2"] != course.paper(4).inputs["90.2"]


def test_the_key_depends_on_what_is_asked(monkeypatch):
    keys = {
        PAPER.key,
        prepare(course.EXERCISES[:2], setup=course.SETUP, seed=3).key,
        prepare(course.EXERCISES, setup=("import math",), seed=3).key,
        prepare(course.EXERCISES, setup=course.SETUP, seed=3, hidden={"90.2": lambda rng: {"words": []}}).key,
    }
    assert len(keys) == 4


def test_hidden_draws_come_after_the_others():
    paper = prepare(course.EXERCISES, seed=3, hidden={"90.2": lambda rng: {"words": []}})
    assert paper.inputs["90.2"][:3] == PAPER.inputs["90.2"]
    assert paper.expected["90.2"][3:] == [{"count": 0}] * score.HIDDEN_DRAWS


def test_an_oracle_cannot_change_what_learners_get(monkeypatch):
    import dataclasses

    def greedy(inputs):
        inputs["x"] = 0.0
        return {"power": 0.0}

    paper = prepare([dataclasses.replace(POWER, oracle=greedy)], seed=3)
    assert all(inputs["x"] > 1 for inputs in paper.inputs["90.3"])


def test_a_job_holds_no_answer():
    """Neither what is expected, nor how to compute it, nor the seed."""
    text = repr(PAPER.job(course.REFERENCE, asked=["90.1"]))
    for secret in (course.CANARY, "oracle", "expected", "misconception", "hints"):
        assert secret not in text
    tasks = {task["id"]: task["inputs"] for task in PAPER.job(course.REFERENCE, asked=["90.1"])["tasks"]}
    assert [len(tasks[task]) for task in course.FULL] == [3, 0, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ntext\t1", "plain\ntext\t1"),
        ("\x00\x1b[2J\x7f\x85", "\ufffd\ufffd[2J\ufffd\ufffd"),
        ("\u202egpj.exe\u2066", "\ufffdgpj.exe\ufffd"),
        ("\ud800", "?"),
        ("x" * 5_000, "x" * 2_000),
        ("Łódź 名前 עברית", "Łódź 名前 עברית"),
    ],
)
def test_a_strangers_text_is_cleaned(text, expected):
    assert clean(text) == expected


def test_what_a_probe_needs_is_cut_out_and_no_more():
    source = courseware.cut_out(course, {"probe": course.probe_scaled}, never=["oracle_scaled"])
    namespace = {}
    exec(compile(source, "probes", "exec"), namespace)
    inputs = {"values": np.ones(2, dtype=np.float32), "factor": 3.0}
    assert namespace["probe"](lambda v, f: (v * f, 6.0), inputs)["scaled"].tolist() == [3.0, 3.0]
    for word in ("oracle", "CANARY", "Misconception", "draw", "json", "REFERENCE"):
        assert word not in source


def test_a_lambda_is_cut_out():
    source = courseware.cut_out(course, {"one": course.LAMBDAS[0], "two": course.LAMBDAS[1]})
    namespace = {}
    exec(compile(source, "probes", "exec"), namespace)
    assert namespace["one"](abs, {"x": -2}) == {"y": 2}
    assert namespace["two"](abs, {"x": -2}) == {"z": [2]}
    assert "CANARY" not in source


def test_a_probe_that_knows_the_answer_is_refused():
    with pytest.raises(ValueError, match="reaches oracle_scaled, which knows the answer"):
        courseware.cut_out(course, {"probe": course.marker}, never=["oracle_scaled"])
    with pytest.raises(ValueError, match="does not define 'inner'"):
        courseware.cut_out(course, {"probe": inside()})


def inside():
    def inner(answer, inputs):
        return {}

    return inner


def test_the_jails_copy_knows_no_answer(tmp_path):
    folder = courseware.copy_library(tmp_path, probes=["from tlcourse.checks.spec import plain"])
    names = {path.relative_to(folder / "tlcourse").as_posix() for path in folder.rglob("*.py")}
    assert {"checks/__init__.py", "checks/spec.py", "grading/worker.py", "plans.py"} <= names
    assert not [n for n in names if n.startswith(("checks/lesson", "checks/judging", "experiments", "grading/score"))]
    with pytest.raises(ValueError, match="which knows answers"):
        courseware.copy_library(tmp_path / "again", probes=["from tlcourse.checks.lesson03 import EXERCISES"])
