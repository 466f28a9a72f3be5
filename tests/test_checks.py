"""The self-checks' machinery, on small tasks of its own: comparing, running, recording, showing, certifying."""

import contextlib
import dataclasses
import doctest
import importlib
import json
import pkgutil
import sys
import time
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
import torch

import tlcourse.checks
from tlcourse.__main__ import main
from tlcourse.checks import Aspect, Exercise, Misconception, check, find, hint, load, progress
from tlcourse.checks import certificate as certificates
from tlcourse.checks import selfcheck as selfchecks
from tlcourse.checks import view as views
from tlcourse.checks.answers import names_from_elsewhere, source_of
from tlcourse.checks.certificate import CertificateError, make_certificate, read_certificate
from tlcourse.checks.judging import Run, brief, judge, mismatch
from tlcourse.checks.records import ProgressError, read_progress
from tlcourse.checks.running import Trouble, run_once
from tlcourse.checks.selfcheck import try_answer
from tlcourse.checks.spec import AnswerError, plain

MISMATCHES = [  # got, expected, what is said (None: they agree)
    (1, 1.0, None),
    (1.0 + 1e-7, 1.0, None),
    (1.0 + 1e-5, 1.0, "it is 1, not 1"),
    (1e9 + 1, 1e9, None),
    (np.array([[2.0]]), 2, None),
    ([1, 2], np.array([1.0, 2.0]), None),
    (None, 1.0, "it is None: is a `return` missing?"),
    (None, None, None),
    (0, None, "it is 0, not None"),
    (float("nan"), 1.0, "it is not a number (NaN)"),
    (float("inf"), 1.0, "it is infinite"),
    (float("inf"), float("inf"), None),
    (float("-inf"), float("inf"), "it is infinite"),
    (np.array([1.0, np.nan]), np.zeros(2), "1 of its values are NaN"),
    (np.array([np.inf, 0.0]), np.zeros(2), "some of its values are infinite"),
    (np.zeros(3), np.zeros((3, 1)), "its shape is (3,), wanted is (3, 1)"),
    (2.0, np.zeros(3), "its shape is a number, wanted is (3,)"),
    (np.zeros(3), 2.0, "its shape is (3,), wanted is a number"),
    ("two", 2.0, "it is the text 'two', wanted is a number"),
    ({"a": 1}, 2.0, "it is a dict, wanted is a number"),
    (["a"], np.zeros(3), "it is a list, wanted is an array of shape (3,)"),
    (np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0]), "1 of 3 values are off, the furthest at [2]: 9, not 3"),
    (True, True, None),
    (1, True, "it is 1, not True"),
    (True, 1, None),
    ("a", "a", None),
    ("a", "b", "it is 'a', not 'b'"),
    ([1, "a"], [1, "a"], None),
    ([1, "b"], [1, "a"], "item 1: it is 'b', not 'a'"),
    (["a"], ["a", "b"], "it has 1 items, wanted are 2"),
    ("a", ["a"], "it is the text 'a', wanted is a list of 1"),
    ([], [], None),
    ({"a": 1}, {"a": 1}, None),
    ({"a": 2}, {"a": 1}, "at 'a', it is 2, not 1"),
    ({"b": 1}, {"a": 1}, "it lacks 'a' and it has 'b'"),
    (3, {"a": 1}, "it is the int 3, wanted is a dict with the keys a"),
    (np.array([True, False]), np.array([True, True]), "1 of 2 values are off, the furthest at [1]: 0, not 1"),
]
BRIEF = [
    (True, "True"),
    (None, "None"),
    (7, "7"),
    (0.123456, "0.1235"),
    ("a", "'a'"),
    (np.float32(0.5), "0.5"),
    (np.array(2.0), "2"),
    (np.arange(3), "[0, 1, 2]"),
    (np.zeros((4, 4)), "[0, 0, 0, 0, 0, 0, ...] of shape (4, 4)"),
    (list(range(30)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"),
    ({"a": [1, {"b": None}]}, "{a: [1, {b: None}]}"),
]
PLAIN = [
    (np.bool_(True), True),
    (torch.ones(2, requires_grad=True), np.ones(2)),
    ((1, [torch.tensor(2)]), [1, [np.array(2)]]),
    ({1: "a"}, {"1": "a"}),
]
UNFIT = [object(), torch.nn.Linear(1, 1), np.array(["a"]), [print], (x for x in ()), np.array([None])]


def double(x):
    return {"y": 2 * x["x"], "kept": True}


TASK = Exercise(
    id="99.1",
    title="Twice",
    points=2,
    difficulty=1,
    minutes=1,
    entry="twice",
    draw=lambda rng: {"x": rng.normal(size=int(rng.integers(2, 9))) + 3},
    probe=lambda answer, inputs: {"y": plain(answer(inputs["x"]), what="what `twice` returned"), "kept": True},
    oracle=double,
    aspects=(Aspect("y", "the values", 0.75), Aspect("kept", "the rest", 0.25)),
    misconceptions=(
        Misconception(
            "squared", "{outputs[y]} is not {expected[y]} of {inputs[x]}.", wrong=lambda i: {"y": i["x"] ** 2}
        ),
        Misconception("all zero", "Nothing was doubled.", shows=lambda i, o, e: not np.any(o["y"])),
    ),
    hints=("first", "second", "third"),
    seconds=0.5,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TLCOURSE_HOME", str(tmp_path))
    monkeypatch.setattr("tlcourse.checks.records._in_memory", {})
    return tmp_path


@pytest.fixture
def twice(monkeypatch):
    """The task above, as if it stood in the course."""
    monkeypatch.setattr(selfchecks, "find", lambda task: TASK)
    monkeypatch.setattr(views, "find", lambda task: TASK)
    monkeypatch.setattr(certificates, "find", lambda task: TASK)
    monkeypatch.setattr("tlcourse.checks.records.lessons", lambda: ["99"])
    monkeypatch.setattr("tlcourse.checks.records.load", lambda lesson: (TASK,))


# Comparing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("got", "expected", "said"), MISMATCHES, ids=range(len(MISMATCHES)))
def test_mismatch(got, expected, said):
    assert mismatch(got, expected) == said


def test_tolerance_is_absolute_below_one_and_relative_above():
    assert mismatch(0.0009, 0.0, tolerance=1e-3) is None
    assert mismatch(0.0011, 0.0, tolerance=1e-3) is not None
    assert mismatch(1000.9, 1000.0, tolerance=1e-3) is None
    assert mismatch(1001.1, 1000.0, tolerance=1e-3) is not None


@pytest.mark.parametrize(("value", "said"), BRIEF, ids=range(len(BRIEF)))
def test_brief(value, said):
    assert brief(value) == said


@pytest.mark.parametrize(("value", "expected"), PLAIN, ids=range(len(PLAIN)))
def test_plain(value, expected):
    assert mismatch(plain(value), expected, tolerance=0) is None
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize("value", UNFIT, ids=range(len(UNFIT)))
def test_plain_refuses_what_cannot_be_compared(value):
    with pytest.raises(AnswerError, match="the model is a .*; wanted are"):
        plain(value, what="the model")


def test_plain_copies():
    array, tensor = np.zeros(2), torch.zeros(2)
    copies = plain([array, tensor])
    array += 1
    tensor += 1
    assert all((copy == 0).all() for copy in copies)


def runs(answer, count=3):
    return [run_once(TASK, answer, TASK.draw(np.random.default_rng(seed))) for seed in range(count)]


def test_judgement_counts_an_aspect_that_held_in_every_run():
    judgement = judge(TASK, runs(lambda x: 2 * x))
    assert (judgement.share, judgement.why, judgement.evidence) == (1.0, "", None)
    once_wrong = [*runs(lambda x: 2 * x), *runs(lambda x: x, count=1)]
    judgement = judge(TASK, once_wrong)
    assert judgement.held == {"y": False, "kept": True}
    assert judgement.share == 0.25


def test_who_does_nothing_breaks_nothing():
    """The second aspect holds whatever the answer does; it counts for whoever has begun, in every run."""
    careful = dataclasses.replace(TASK, begun=lambda i, o, e: o["y"][0] != i["x"][0])

    def shares(*answers):
        return judge(careful, [run for answer in answers for run in runs(answer, count=2)]).share

    assert (shares(lambda x: x), shares(lambda x: x + 1), shares(lambda x: 2 * x)) == (0, 0.25, 1)
    assert shares(lambda x: x + 1, lambda x: x) == 0
    assert shares(lambda x: None) == 0  # the predicate raises
    judgement = judge(careful, runs(lambda x: 0 * x))
    assert (judgement.share, judgement.misconception.name) == (0.25, "all zero")
    judgement = judge(careful, [Run({"x": np.ones(1)}, None, {"y": 2, "kept": True})])
    assert judgement.held == {"y": False, "kept": False}


def test_judgement_shows_the_smallest_failing_run():
    made = runs(lambda x: x**2)
    judgement = judge(TASK, made)
    assert judgement.misconception.name == "squared"
    assert len(judgement.evidence.inputs["x"]) == min(len(run.inputs["x"]) for run in made)
    assert judgement.why.startswith("[")


def test_a_misconception_must_explain_every_failing_run():
    judgement = judge(TASK, [*runs(lambda x: x**2, count=2), *runs(lambda x: x + 1, count=1)])
    assert judgement.misconception is None
    assert judgement.why.startswith("not so: the values (y: ")


def test_no_output_scores_nothing():
    run = runs(lambda x: 2 * x, count=1)[0]
    judgement = judge(TASK, [run, Run(run.inputs, None, run.expected)])
    assert judgement.share == 0
    assert judge(TASK, [Run(run.inputs, {"kept": True}, run.expected)]).held == {"y": False, "kept": True}


def test_specs_are_checked():
    with pytest.raises(ValueError, match="do not sum to 1"):
        dataclasses.replace(TASK, aspects=TASK.aspects[:1])
    with pytest.raises(ValueError, match="three hints"):
        dataclasses.replace(TASK, hints=("one", "two", ""))
    with pytest.raises(ValueError, match="write it as '03.1'"):
        dataclasses.replace(TASK, id="3")
    with pytest.raises(ValueError, match="give wrong= or shows="):
        Misconception("both", "x", wrong=double, shows=lambda i, o, e: True)
    with pytest.raises(ValueError, match="give wrong= or shows="):
        Misconception("neither", "x")


def test_unknown_tasks_list_what_there_is():
    with pytest.raises(KeyError, match="no task '03.99'; there are: 03.1, 03.2"):
        find("03.99")
    with pytest.raises(KeyError, match="no exercises '98'; there are: "):
        load("98")


# Running ----------------------------------------------------------------------------------------------------------


SPIN = "while time.process_time() - began < 0.5:\n    pass\n"


def never(x):
    while True:
        x = x + 1


def swallowing(x):
    while True:
        with contextlib.suppress(Exception):
            never(x)


def overwriting(x):
    x *= 2
    return x


def not_written(x):
    raise NotImplementedError


def failing(x):
    print("so far")
    return x.no_such_attribute


TROUBLES = [
    (never, "too slow", "`twice` was stopped after 0.5 seconds"),
    (swallowing, "too slow", "`twice` was stopped after 0.5 seconds"),
    (overwriting, "mutated", "`twice` overwrote its input `x`: it was ["),
    (not_written, "not started", "not started yet"),
    (lambda x: object(), "unfit", "what `twice` returned is a object; wanted are"),
    (failing, "raised", ": return x.no_such_attribute\nbefore that it printed:\n  so far"),
    (5, "raised", "`twice` could not be used as the task asks: TypeError: 'int' object is not callable"),
    (lambda: 1, "raised", "takes 0 positional arguments"),
]


@pytest.mark.parametrize(("answer", "kind", "said"), TROUBLES, ids=range(len(TROUBLES)))
def test_troubles(answer, kind, said, capsys):
    with pytest.raises(Trouble) as caught:
        run_once(TASK, answer, {"x": np.ones(3)})
    assert caught.value.kind == kind
    assert said in str(caught.value)
    assert capsys.readouterr().out == ""


def test_an_import_is_not_cut_off(tmp_path, monkeypatch):
    (tmp_path / "takes_long.py").write_text("import time\nbegan = time.process_time()\n" + SPIN + "value = 2\n")
    monkeypatch.syspath_prepend(tmp_path)

    def importing(x):
        import takes_long

        until = time.process_time() + 0.15  # in which the time is looked at again
        while time.process_time() < until:
            pass
        return takes_long.value * x

    run = run_once(dataclasses.replace(TASK, seconds=0.4), importing, {"x": np.ones(3)})
    assert run.outputs["y"].tolist() == [2.0, 2.0, 2.0]


FIRST_OPTIMISER = """
import dataclasses, sys, time
import numpy as np, torch
from tlcourse.checks.lesson08c_networks import STILL
from tlcourse.checks.running import run_once

def train(network, name, x, y, lr, epochs):
    began = time.process_time()
    torch.optim.SGD(network.parameters(), lr=lr)
    assert "torch._dynamo" in sys.modules
    print(took := time.process_time() - began, file=sys.stderr)
    while time.process_time() < began + took + 0.15:  # in which the time is looked at again
        pass

assert "torch._dynamo" not in sys.modules
run_once(dataclasses.replace(STILL, seconds=0.4), train, STILL.draw(np.random.default_rng(0)))
"""


@pytest.mark.slow
def test_the_first_optimiser_of_a_process_costs_no_time():
    import subprocess

    ended = subprocess.run([sys.executable, "-c", FIRST_OPTIMISER], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stderr.splitlines()[-1]) > 0.5, "what is imported then takes longer than the answer may"


def test_whoever_only_waits_is_stopped_too(monkeypatch):
    monkeypatch.setattr("tlcourse.checks.running.PATIENCE", 1)

    def waiting(x):
        while True:
            time.sleep(0.01)

    with pytest.raises(Trouble, match="was stopped after 0.2 seconds"):
        run_once(dataclasses.replace(TASK, seconds=0.2), waiting, {"x": np.ones(3)})


def test_a_quick_answer_is_not_stopped_later():
    for _ in range(3):
        run = run_once(dataclasses.replace(TASK, seconds=0.05), lambda x: 2 * x, {"x": np.ones(3)})
    until = time.process_time() + 0.1  # what is stopped is stopped after so much of the processor's time
    while time.process_time() < until:
        assert run.outputs["y"].tolist() == [2.0, 2.0, 2.0]


def test_inputs_survive_and_threads_are_as_before():
    inputs, threads = {"x": np.ones(3)}, torch.get_num_threads()
    torch.set_num_threads(2)
    seen = []
    run = run_once(TASK, lambda x: seen.append(torch.get_num_threads()) or 2 * x, inputs)
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(threads)
    assert run.inputs is inputs
    assert (inputs["x"] == 1).all()


# What the learner reads --------------------------------------------------------------------------------------------


def test_check_prints_and_records(twice, capsys):
    assert check("99.1", ...).state == "not started"
    assert check("99.1", None).state == "not started"
    assert read_progress().records == {}
    verdict = check("99.1", lambda x: x**2)
    assert (verdict.state, verdict.share, verdict.misconception) == ("wrong", 0.25, "squared")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == printed[1] == "99.1 not started yet: write `twice`, then run this cell again."
    assert printed[2] == "99.1 not yet: squared"
    assert [line.split(":")[0].strip() for line in printed[4:8]] == ["input", "yours", "expected", "right already"]
    assert printed[8] == '  Stuck? hint("99.1")'
    assert check("99.1", lambda x: 2 * x).passed
    assert "passed: `twice` agrees on 6 drawn inputs. This is a self-check" in capsys.readouterr().out
    assert vars(read_progress().records["99.1"]) | {"answer": ""} == {
        "task": "99.1",
        "tries": 2,
        "hints": 0,
        "passed": True,
        "answer": "",
        "constants": {},
    }


def test_what_passed_once_stays_passed(twice):
    check("99.1", lambda x: 2 * x)
    check("99.1", lambda x: x)
    assert read_progress().records["99.1"].passed


def test_hints_are_a_ladder(twice, capsys):
    for _ in range(4):
        hint("99.1")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"99.1, hint {step} of 3: {text}" for step, text in zip("1231", (*TASK.hints, "first"), strict=True)
    ]
    assert read_progress().records["99.1"].hints == 4


@pytest.mark.parametrize("seed", range(20))
def test_seeds_draw_other_inputs(seed, twice):
    first, second = (try_answer(TASK, lambda x: x, seed=s).text for s in (seed, seed + 1))
    assert first != second


def test_where_nothing_can_be_kept_it_is_said(twice, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLCOURSE_HOME", str(tmp_path / "file"))
    assert check("99.1", lambda x: 2 * x).passed
    assert "(not kept: " in capsys.readouterr().out
    hint("99.1")
    hint("99.1")
    assert "hint 2 of 3: second" in capsys.readouterr().out


DAMAGED = [
    "",
    "[]",
    "{}",
    '{"task": "99.1", "tries": "many"}',
    '{"task": "99.2"}',
    '{"task": "99.1", "more": 1}',
    '{"task": "99.1", "passed": 1}',
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_named(text, twice, home, capsys):
    path = home / "exercises" / "99.1.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ProgressError, match=r"99.1.json cannot be read \(.*\); delete that file"):
        read_progress()
    assert main(["progress"]) == 1
    assert capsys.readouterr().err.startswith("error: your progress ")
    assert check("99.1", lambda x: 2 * x).passed
    assert "delete that file" in capsys.readouterr().out
    assert path.read_text() == text


def test_a_damaged_forecast_is_named(twice, home, capsys):
    (home / "predictions").mkdir()
    (home / "predictions" / "q-1.json").write_text('{"value": "high"}')
    assert main(["progress"]) == 1
    assert "q-1.json cannot be read" in capsys.readouterr().err


def test_progress_is_a_table(twice, home, capsys):
    (home / "predictions").mkdir()
    (home / "predictions" / "q-1.json").write_text('{"question": "?", "value": 0.5}')
    assert str(progress()).splitlines()[1].split() == ["99.1", "Twice", "2", "-", "0", "0"]
    check("99.1", lambda x: x)
    assert "tried" in str(progress())
    check("99.1", lambda x: 2 * x)
    capsys.readouterr()
    assert main(["progress"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].split() == ["99.1", "Twice", "2", "passed", "2", "0"]
    assert "1 of 1 tasks passed the self-check (2 of 2 points), 1 forecasts committed." in printed
    assert "<td style='text-align: left'>passed</td>" in progress()._repr_html_()
    assert main(["progress", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept["tasks"]["99.1"] == {"task": "99.1", "tries": 2, "hints": 0, "passed": True}
    assert (kept["points"], kept["of"], kept["predictions"]) == (2, 2, {"q-1": 0.5})


# Sources ----------------------------------------------------------------------------------------------------------


def notebook(monkeypatch, *cells):
    shell = SimpleNamespace(transform_cell=lambda source: source + "\n", user_ns={"In": ["", *cells]})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_the_source_is_the_last_cell_that_defines_the_name(monkeypatch):
    cells = ["import math", "def twice(x):\n    return x", "not python", "def twice(x):\n    return 2 * x", "twice(1)"]
    notebook(monkeypatch, *cells)
    assert source_of("twice", None) == "import math\n\ndef twice(x):\n    return 2 * x\n"
    notebook(monkeypatch, "twice = 5")
    assert source_of("twice", 5).strip() == "twice = 5"
    notebook(monkeypatch, "twice: int = 5")
    assert source_of("twice", 5).strip() == "twice: int = 5"
    notebook(monkeypatch, "other = 5")
    assert source_of("twice", 5) == ""


def test_the_source_outside_of_a_notebook():
    assert source_of("never", never).startswith("import contextlib\nimport dataclasses\n")
    assert source_of("never", never).endswith("def never(x):\n    while True:\n        x = x + 1\n")
    assert source_of("number", 5) == source_of("twice", never) == ""


def test_an_answer_that_leans_on_another_cell_is_told(twice, monkeypatch, capsys):
    notebook(monkeypatch, "def helper(x):\n    return 2 * x", "def twice(x):\n    return helper(x)")
    monkeypatch.setattr(views, "in_ipython", lambda: False)
    assert check("99.1", lambda x: 2 * x).passed
    assert "your cell uses `helper` from another cell" in capsys.readouterr().out


BOUND = [
    ("import numpy as np\nf = lambda x, *a, y=1, **k: np.sum([x + y for z in a])", []),
    ("class A:\n    def f(self):\n        return A", []),
    ("try:\n    1\nexcept ValueError as e:\n    print(e)", []),
    ("import a.b\nfrom c import d as e\na, e, d", ["d"]),
    ("f = b + a", ["a", "b"]),
]


@pytest.mark.parametrize(("source", "names"), BOUND, ids=range(len(BOUND)))
def test_names_from_elsewhere(source, names):
    assert names_from_elsewhere(source) == names


# Views ------------------------------------------------------------------------------------------------------------


def test_the_box_says_the_same_and_opens_hints(twice):
    verdict = try_answer(TASK, lambda x: x, seed=0)
    words, button, opened = views.verdict_box(verdict, verdict.text + " <b>").children
    assert isinstance(button, ipywidgets.Button)
    assert "&lt;b&gt;" in words.value
    assert views.OTHERWISE in words.value
    for step in range(3):
        assert not button.disabled
        button.click()
        assert f"hint {step + 1} of 3: {TASK.hints[step]}" in opened.value
    assert button.disabled


def test_a_passed_task_needs_no_hint(twice):
    verdict = try_answer(TASK, lambda x: 2 * x, seed=0)
    (words,) = views.verdict_box(verdict, verdict.text).children
    assert views.EDGES["passed"] in words.value


def test_a_watched_notebook_gets_the_box_with_the_text_beside_it(twice, monkeypatch):
    shown = []
    monkeypatch.setattr(views, "in_ipython", lambda: True)
    monkeypatch.setattr(views, "show_progress", lambda: True)
    monkeypatch.setattr("tlcourse.views.display_widget", lambda widget, text: shown.append((widget, text)))
    verdict = check("99.1", lambda x: x)
    ((widget, text),) = shown
    assert isinstance(widget, ipywidgets.VBox)
    assert text == verdict.text == str(verdict)
    assert verdict._ipython_display_() is None


# Certificates -----------------------------------------------------------------------------------------------------

GOOD = (
    "def imagenet_left(images, batch_size, epochs, momentum):\n"
    "    print('noise')\n"
    "    return (1 - momentum) ** (epochs * -(-images // batch_size))\n"
)


@pytest.fixture
def passed(home):
    """A home in which 03.1 was passed."""
    (home / "exercises").mkdir()
    record = {"task": "03.1", "tries": 3, "hints": 1, "passed": True, "answer": GOOD}
    (home / "exercises" / "03.1.json").write_text(json.dumps(record))
    (home / "exercises" / "03.3.json").write_text(json.dumps({"task": "03.3", "tries": 1}))


def test_certificate_holds_what_was_passed(passed, tmp_path, capsys):
    assert main(["progress", "--certificate", "Ada, Lovelace"]) == 0
    text = capsys.readouterr().out
    made = json.loads(text)
    assert made["name"] == "Ada, Lovelace"
    assert [task["task"] for task in made["tasks"]] == ["03.1"]
    assert make_certificate("Ada, Lovelace") == text
    (tmp_path / "ada.json").write_text(text, encoding="utf-8")
    assert read_certificate(tmp_path / "ada.json") == {k: v for k, v in made.items() if k != "digest"}


def test_nothing_to_certify(home, passed, capsys):
    with pytest.raises(CertificateError, match="needs a name"):
        make_certificate(" ")
    (home / "exercises" / "03.1.json").unlink()
    assert main(["progress", "--certificate", "Ada"]) == 1
    assert "no task has passed" in capsys.readouterr().err


BAD_CERTIFICATES = [
    (lambda made: "not json", "is no certificate of this course, or is damaged"),
    (lambda made: "[]", "is no certificate of this course, or is damaged"),
    (lambda made: json.dumps({**made, "format": 9}), "its format is 9"),
    (lambda made: json.dumps({**made, "name": "Eve"}), "was changed after it was made"),
    (
        lambda made: json.dumps({**made, "tasks": [{"task": "77.1", "answer": "", "constants": {}}]}),
        "no exercises '77'",
    ),
    (lambda made: json.dumps({**made, "tasks": [{"task": "03.1", "answer": 3, "constants": {}}]}), "is no text"),
    (lambda made: json.dumps({**made, "name": 3}), "is damaged"),
    (
        lambda made: json.dumps({**made, "tasks": [{"task": "00.1", "answer": "", "constants": {"x": 1}}]}),
        "no constant",
    ),
    (lambda made: json.dumps({**made, "tasks": [{"task": "00.1", "answer": "", "constants": [7]}]}), "is damaged"),
    (lambda made: json.dumps({**made, "tasks": 2 * made["tasks"]}), "the answer to 03.1 is there twice"),
    (lambda made: "[" * 100_000, "is no certificate"),
    (lambda made: json.dumps({**made, "more": 4_000_000 * "x"}), "has more than 4,000,000 bytes"),
]


@pytest.mark.parametrize(("damage", "said"), BAD_CERTIFICATES, ids=range(len(BAD_CERTIFICATES)))
def test_damaged_certificates(damage, said, passed, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(damage(json.loads(make_certificate("Ada"))))
    with pytest.raises(CertificateError, match=said):
        read_certificate(path)


def test_a_certificate_that_is_not_there(tmp_path):
    with pytest.raises(CertificateError, match="No such file"):
        read_certificate(tmp_path / "none.json")


# The package ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(tlcourse.checks.__path__)])
def test_examples_show_what_happens(name, monkeypatch):
    module = importlib.import_module(f"tlcourse.checks.{name}")
    assert doctest.testmod(module).failed == 0
    assert set(module.__all__) <= set(vars(module))


def test_the_spec_and_the_judge_need_no_torch():
    import subprocess

    program = "import sys, tlcourse.checks.judging; print(sorted({'torch', 'ipywidgets'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
