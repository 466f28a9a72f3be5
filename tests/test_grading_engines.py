"""``python -m tlcourse export``: what is written, and that Otter-Grader and nbgrader themselves grade by it."""

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from tlcourse.__main__ import main
from tlcourse.checks import find, lessons
from tlcourse.grading import engines, nbgrader, otter, score, worker
from tlcourse.grading.assignment import load_assignment
from tlcourse.grading.engines import ENGINES, export
from tlcourse.grading.extract import extract
from tlcourse.grading.orders import hidden_source, order
from tlcourse.grading.unjailed import NotYet, mark
from tools import exercises

ROOT = Path(__file__).parents[1]
BOOKS = {book.number: book for book in (exercises.read(path, ROOT) for path in exercises.sources(ROOT))}
BOTH = [(number, name) for number in lessons() for name in ENGINES]
SEED = 20_26
# Assignment, a wrong answer to one of its tasks (the others stay untouched), its points, and by whom it is graded.
GRADED = [
    ("03", "03.2", "the experiment left its traces", 3.0, "otter"),
    ("03c", "03c.4", "the test was opened for every candidate", 2.1, "gradescope"),
    ("03", "03.2", "the experiment left its traces", 3.0, "nbgrader"),
    ("03c", "03c.4", "the test was opened for every candidate", 2.1, "nbgrader"),
]


@pytest.fixture(scope="session")
def engines_python():
    """The interpreter that has Otter and nbgrader; without one the test is skipped, but in CI it fails."""
    path = Path(sys.prefix) / "engines" / "bin" / "python"
    if not path.exists():
        reason = "Otter-Grader and nbgrader are not there: run `make engines`"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return path


def defined(book, source, entry):
    namespace = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(book.setup, "<setup>", "exec"), namespace)
        exec(compile(source, "<answer>", "exec"), namespace)
    return namespace[entry]


def wrong(task, misconception):
    answers = dict(BOOKS[task.partition(".")[0]].tasks[task].wrong)
    return answers[misconception]


def tree_of(source):
    """What a stub says, however its line that raises is written."""
    return ast.dump(ast.parse(source.replace("NotImplementedError()", "NotImplementedError")))


def answers_of(book, *, most):
    """The reference, the stub and the first wrong answers to each task."""
    for key, task in book.tasks.items():
        for what, source in [("reference", task.reference), ("stub", task.stub), *task.wrong[:most]]:
            yield pytest.param(book, key, what, source, id=f"{key}-{what}")


@pytest.mark.parametrize(
    ("book", "key", "what", "source"), [*answers_of(BOOKS["03"], most=3), *answers_of(BOOKS["03c"], most=1)]
)
def test_a_mark_is_what_the_grader_gives(book, key, what, source):
    """The grader's own worker runs the same answer on the same paper, here without its jail."""
    work = load_assignment(book.number)
    paper = score.prepare([find(key)], seed=SEED, setup=work.setup, hidden=work.hidden)
    messages = []
    worker.run_job(paper.job({key: source}, asked=[key]), messages.append)
    drawn = {message["draw"]: message for message in messages if "draw" in message}
    graded = score.score_task(paper, find(key), drawn)
    marked = mark(key, defined(book, source, find(key).entry), seed=SEED, hidden=work.hidden[key])
    assert (marked.score, marked.max_score) == (graded["score"], graded["max_score"])
    assert marked.held == {aspect["key"]: aspect["held"] for aspect in graded["aspects"]}
    assert (marked.message == "") == (graded["message"] == "")
    if what == "reference":
        assert marked.score == find(key).points
    elif what == "stub":
        assert marked.score == 0
    else:
        assert marked.score < find(key).points


def shouting(**inputs):
    print("out")
    print("err", file=sys.stderr)
    return 0.0


ODD = {
    "nothing": (None, "no answer cell"),
    "dots": (..., "not started"),
    "leaves": (lambda **inputs: sys.exit(0), "ended the program"),
    "raises": (lambda **inputs: 1 // 0, "ZeroDivisionError"),
    "no function": (7, "could not be used as the task asks"),
    "prints": (shouting, "not so: the share that is left"),
    "not a number": (lambda **inputs: float("nan"), "NaN"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_answers_get_no_point_and_a_reason(what, capsys):
    answer, words = ODD[what]
    marked = mark("03.1", answer, seed=1)
    assert capsys.readouterr() == ("", "")  # nbgrader takes a line on stderr for a failure
    assert marked.score == 0
    assert words in marked.message
    with pytest.raises(NotYet, match=f"(?s){re.escape(marked.titles['left'])}: not yet.*{words}"):
        marked.require("left")
    assert marked.show() == 0
    assert words in capsys.readouterr().out


def test_the_first_lost_aspect_says_why_and_the_others_point_to_it():
    book = BOOKS["03"]
    marked = mark("03.3", defined(book, wrong("03.3", "the statistics drifted"), "start_epoch"), seed=SEED)
    lost = [key for key, held in marked.held.items() if not held]
    kept = [key for key, held in marked.held.items() if held]
    assert len(lost) > 1 and kept
    for key in kept:
        marked.require(key)
    said = []
    for key in lost:
        with pytest.raises(NotYet) as caught:
            marked.require(key)
        said.append(str(caught.value))
    assert marked.message in said[0]
    assert all(marked.message not in text and marked.titles[lost[0]] in text for text in said[1:])


def test_hidden_draws_count():
    """An answer that is right but for no epoch at all, which the lesson's own draws never ask for."""

    def answer(images, batch_size, epochs, momentum):
        return (1 - momentum) ** (epochs * -(-images // batch_size)) if epochs else 0.0

    def hidden(rng):
        return {"images": 7, "batch_size": 7, "epochs": 0, "momentum": 0.1}

    assert mark("03.1", answer, seed=SEED).score == find("03.1").points
    assert mark("03.1", answer, seed=SEED, hidden=hidden).score == 0


def test_without_the_jail_an_answer_can_read_what_is_expected():
    """What docs/grading.md says is lost. Were this to fail, the page would be wrong."""

    def reading(**inputs):
        frame = sys._getframe()
        while "paper" not in frame.f_locals:
            frame = frame.f_back
        paper, number = frame.f_locals["paper"], frame.f_locals["number"]
        return paper.expected["03.1"][number]["left"]

    assert mark("03.1", reading, seed=SEED).score == find("03.1").points


def test_an_endless_answer_is_stopped_once(monkeypatch):
    import dataclasses

    calls = []

    def endless(**inputs):
        calls.append(1)
        while True:
            pass

    quick = dataclasses.replace(find("03.1"), seconds=0.1)
    monkeypatch.setattr("tlcourse.grading.unjailed.find", lambda task: quick)
    assert "stopped after 0.1 seconds" in mark("03.1", endless, seed=1).message
    assert len(calls) == 1


@pytest.mark.parametrize(("number", "engine"), BOTH)
def test_every_assignment_is_written_the_same_twice(number, engine, tmp_path):
    made = order(number, seed=SEED)
    place, written = export(made, engine, tmp_path / "one")
    again, _ = export(made, engine, tmp_path / "two")
    assert place == tmp_path / "one" / ENGINES[engine].place.format(id=number)
    assert sorted(place.iterdir()) == sorted(written)
    for path in written:
        assert path.read_bytes() == (again / path.name).read_bytes()
    other, _ = export(order(number, seed=SEED + 1), engine, tmp_path / "three")
    assert any(path.read_bytes() != (other / path.name).read_bytes() for path in written)


@pytest.mark.parametrize("number", lessons())
def test_the_archive_for_otter(number):
    made = order(number, seed=SEED)
    files = otter.archive_files(made)
    assert {"setup.sh", "run_autograder", "run_otter.py", "environment.yml", "otter_config.json"} <= files.keys()
    assert {"files/tlcourse/__init__.py", "files/tlcourse/grading/unjailed.py"} <= files.keys()
    assert not [name for name in files if "experiments" in name or "__pycache__" in name]
    tests = [name for name in files if name.startswith("tests/")]
    assert len(tests) == len(made.work.exercises)
    for name, exercise in zip(tests, made.work.exercises, strict=True):
        tree = ast.parse(files[name])
        cases = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
        points = [
            ast.literal_eval(k.value) for case in cases for k in case.decorator_list[0].keywords if k.arg == "points"
        ]
        assert sum(points) == pytest.approx(exercise.points)
        assert len(points) == len(exercise.aspects)
        assert str(SEED) in files[name]


def test_the_archive_runs_its_scripts_with_what_the_course_depends_on(tmp_path):
    _, (archive, notebook) = export(order("03", seed=SEED), "otter", tmp_path)
    with zipfile.ZipFile(archive) as zipped:
        modes = {entry.filename: entry.external_attr >> 16 for entry in zipped.infolist()}
        assert {entry.date_time[0] for entry in zipped.infolist()} == {1980}  # the day of the export is not in it
        environment = yaml.safe_load(zipped.read("environment.yml"))
        for name in ("setup.sh", "run_autograder"):
            assert modes[name] == 0o755
            subprocess.run(["bash", "-n"], input=zipped.read(name), check=True)
            assert zipped.read(name).startswith(b"#!/usr/bin/env bash\n")
    assert notebook.read_bytes() == (ROOT / "exercises" / notebook.name).read_bytes()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (packages,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    assert set(project["dependencies"]) < set(packages)
    assert "otter-grader[grading]>=7,<8" in packages
    assert project["optional-dependencies"]["exports"] == [nbgrader.REQUIREMENT, otter.REQUIREMENT]


@pytest.mark.parametrize("number", lessons())
def test_the_source_for_nbgrader(number):
    """Without the regions that nbgrader cuts out, the learner's notebook is left, with a place for each mark."""
    made = order(number, seed=SEED)
    source = nbgrader.source_notebook(made)
    nbformat.validate(source)
    described = [cell["metadata"]["nbgrader"] for cell in source["cells"] if "nbgrader" in cell["metadata"]]
    assert len({meta["grade_id"] for meta in described}) == len(described)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", meta["grade_id"]) for meta in described)
    assert {meta["schema_version"] for meta in described} == {3}
    marked = [meta for meta in described if meta["grade"]]
    assert [meta["points"] for meta in marked] == [exercise.points for exercise in made.work.exercises]
    assert all(meta["locked"] and not meta["solution"] for meta in marked)
    solved = [meta for meta in described if meta["solution"]]
    assert len(solved) == len(marked) and not any(meta["locked"] or meta["grade"] for meta in solved)
    released = []
    for cell in source["cells"]:
        text = "".join(cell["source"])
        if cell["metadata"].get("nbgrader", {}).get("grade"):
            kept = re.sub(r"(?s)### BEGIN HIDDEN TESTS\n.*### END HIDDEN TESTS", "", text)
            assert kept.strip().startswith("# ") and len(kept.strip().splitlines()) == 1
            continue
        released.append(re.sub(r"(?s)### BEGIN SOLUTION\n.*?### END SOLUTION", "raise NotImplementedError", text))
    given = ["".join(cell["source"]) for cell in json.loads(made.notebook)["cells"]]
    said = "  # take this line away, then find the defect"
    assert released == [text.replace(said, "") for text in given]


@pytest.mark.parametrize("number", lessons())
def test_the_jail_grades_a_notebook_for_nbgrader_as_well(number):
    work = load_assignment(number)
    cells = [
        {"kind": cell["cell_type"], "source": "".join(cell["source"]), "metadata": cell["metadata"]}
        for cell in nbgrader.source_notebook(order(number, seed=SEED))["cells"]
    ]
    found = extract(cells, {exercise.id: exercise.entry for exercise in work.exercises}, stubs=work.stubs)
    assert found.notes == {}
    assert found.sources == {key: nbgrader.marked_answer(work.stubs[key], work.reference[key]) for key in work.stubs}


@pytest.mark.parametrize("number", lessons())
def test_solutions_in_the_source_are_the_references(number):
    """What a source cell defines, defective code below the solution or not, gets all points."""
    book, work = BOOKS[number], load_assignment(number)
    for exercise in work.exercises:
        source = nbgrader.marked_answer(work.stubs[exercise.id], work.reference[exercise.id])
        assert mark(exercise.id, defined(book, source, exercise.entry), seed=SEED).score == exercise.points


MARKED = {
    "a value": ("x = ...", "x = 1", "### BEGIN SOLUTION\nx = 1\n### END SOLUTION"),
    "code below": (
        "def f(x):\n    raise NotImplementedError\n    return x",
        "def f(x):\n    x = x + 1\n    return x",
        "def f(x):\n    ### BEGIN SOLUTION\n    x = x + 1\n    ### END SOLUTION\n    return x",
    ),
    "a defect below": (
        "def f(x):\n    raise NotImplementedError  # take this line away\n    return x",
        "def f(x):\n    return x + 1",
        "def f(x):\n    ### BEGIN SOLUTION\n    return x + 1\n    ### END SOLUTION\n    return x",
    ),
    "two methods": (
        "class C:\n    def f(self):\n        raise NotImplementedError\n\n"
        "    def g(self):\n        raise NotImplementedError",
        "class C:\n    def f(self):\n        self.x = 1\n\n    def g(self):\n        return self.x",
        "class C:\n    def f(self):\n        ### BEGIN SOLUTION\n        self.x = 1\n        ### END SOLUTION\n\n"
        "    def g(self):\n        ### BEGIN SOLUTION\n        return self.x\n        ### END SOLUTION",
    ),
    "a defect that would be reached": (
        "def f(x):\n    raise NotImplementedError\n    x.clear()",
        "def f(x):\n    x.pop()",
        "def f(x):\n    ### BEGIN SOLUTION\n    x.pop()\n    return\n    ### END SOLUTION\n    x.clear()",
    ),
}


@pytest.mark.parametrize("case", MARKED)
def test_the_solution_stands_between_marks(case):
    stub, reference, expected = MARKED[case]
    assert nbgrader.marked_answer(stub, reference) == expected


def test_what_stands_between_two_solutions_is_in_both():
    stub, reference, _ = MARKED["two methods"]
    with pytest.raises(ValueError, match="lacks what its stub has between.*def g"):
        nbgrader.marked_answer(stub, reference.replace("def g", "def h"))


@pytest.mark.parametrize("stub", ["def f(x):\n    pass", "def g(x):\n    raise NotImplementedError"])
def test_a_stub_of_another_answer_is_refused(stub):
    with pytest.raises(ValueError, match="do not begin alike"):
        nbgrader.marked_answer(stub, "def f(x):\n    return x")


@pytest.mark.parametrize("number", lessons())
def test_hidden_draws_go_to_the_engine_and_nothing_of_them_to_learners(number, tmp_path):
    made = order(number, seed=SEED)
    for exercise in made.work.exercises:
        namespace = {}
        exec(hidden_source(made, exercise), namespace)
        ours, theirs = (draw(np.random.default_rng(5)) for draw in (made.work.hidden[exercise.id], namespace["hidden"]))
        assert repr(ours) == repr(theirs)
        name = f"draw_{exercise.id.replace('.', '_')}"
        assert name in otter.archive_files(made)[f"tests/task_{exercise.id.replace('.', '_')}.py"]
        assert name in json.dumps(nbgrader.source_notebook(made))
        assert name not in made.notebook
    assert str(SEED) not in made.notebook


def test_the_command_says_what_to_do_next(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    for engine in ENGINES:
        assert main(["export", "03c", "--to", engine, "--out", str(tmp_path), "--seed", "5"]) == 0
        printed = capsys.readouterr().out
        place = tmp_path / ENGINES[engine].place.format(id="03c")
        assert f"written: {place}" in printed
        assert "seed 5" in printed
        assert "next: " in printed and str(place) in printed.partition("next: ")[2]
        assert f'pip install "{ENGINES[engine].requirement}"' in printed
    monkeypatch.setattr(engines, "find_spec", lambda name: True)
    assert main(["export", "03", "--to", "otter", "--out", str(tmp_path)]) == 0
    assert "pip install" not in capsys.readouterr().out


REFUSED = {
    "no such assignment": (["77"], "no exercises '77'; there are: 00,"),
    "bad seed": (["03", "--seed", "-1"], "--seed -1: it is 0 or more"),
    "taken": (["03"], "03 is there already, and what is in it may be in use. Move it away, or name another --out"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_exported_is_said(case, engine, tmp_path, capsys):
    arguments, words = REFUSED[case]
    if case == "taken":
        (tmp_path / ENGINES[engine].place.format(id="03")).mkdir(parents=True)
    assert main(["export", *arguments, "--to", engine, "--out", str(tmp_path)]) == 1
    assert words in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_a_clone_nothing_can_be_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match="needs a clone"):
        order("03", clone=tmp_path)


def test_half_an_export_is_taken_back(tmp_path, monkeypatch):
    def failing(made, folder):
        (folder / "half").touch()
        raise OSError("the disk is full")

    monkeypatch.setitem(engines.ENGINES, "otter", engines.Engine("otter", "", "{id}", failing, ""))
    with pytest.raises(OSError, match="full"):
        export(order("03", seed=1), "otter", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "task", "misconception", "points", "by"), GRADED)
def test_the_engine_itself_gives_these_points(
    number, task, misconception, points, by, engines_python, tmp_path, monkeypatch
):
    """The reference all points, untouched cells none, a wrong answer some and its own message."""
    made = order(number, seed=SEED)
    place, _ = export(made, "nbgrader" if by == "nbgrader" else "otter", tmp_path / "export")
    answers = {"reference": dict(made.work.reference), "wrong": {task: wrong(task, misconception)}}
    job = {"engine": by, "export": str(place), "assignment": number, "stem": made.stem, "answers": answers}
    (tmp_path / "work").mkdir()
    (tmp_path / "job.json").write_text(json.dumps(job | {"folder": str(tmp_path / "work")}), encoding="utf-8")
    environment = os.environ | {
        "PATH": os.pathsep.join([str(engines_python.parent), os.environ["PATH"]]),  # nbgrader calls alembic by its name
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),  # the engines' own prefix has no page templates
        "JUPYTER_DATA_DIR": str(tmp_path / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "TLCOURSE_HOME": str(tmp_path / "home"),
    }
    # Otter brings the library along; beside nbgrader it has to be installed.
    environment["PYTHONPATH"] = os.pathsep.join(
        [*([str(ROOT)] if by == "nbgrader" else []), str(ROOT / "tests" / "offline")]
    )
    command = [str(engines_python), str(ROOT / "tests" / "engine_driver.py"), str(tmp_path / "job.json")]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    for name in answers:
        assert {key: row["max_score"] for key, row in found[name].items()} == {
            exercise.id: exercise.points for exercise in made.work.exercises
        }
    assert all(row["score"] == pytest.approx(row["max_score"]) for row in found["reference"].values())
    assert {key: row["score"] for key, row in found["wrong"].items() if key != task and row["score"]} == {}
    assert found["wrong"][task]["score"] == pytest.approx(points)
    (known,) = [known for known in find(task).misconceptions if known.name == misconception]
    assert known.message.partition("{")[0] in found["wrong"][task]["shown"]
    if by == "nbgrader":
        assert "HIDDEN" not in found["release"] and str(SEED) not in found["release"]
        cells = json.loads(found["release"])["cells"]
        left = {
            cell["metadata"]["task"]: tree_of("".join(cell["source"]))
            for cell in cells
            if "answer" in cell["metadata"].get("tags", [])
        }
        assert left == {key: tree_of(stub) for key, stub in made.work.stubs.items()}
