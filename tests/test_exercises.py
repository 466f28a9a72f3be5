"""Every task of every exercise: the reference passes, the stub is not started, each wrong answer gets its own message.

The wrong and the right answers stand in the sources, beside the task (tags ``wrong`` and ``right``).
"""

import contextlib
import importlib.util
import io
import json
import time
from collections import Counter

import nbformat
import numpy as np
import pytest

from tlcourse.checks import lessons, load
from tlcourse.checks.judging import Run, judge
from tlcourse.checks.running import Trouble, run_once
from tlcourse.checks.selfcheck import try_answer
from tools import exercises
from tools.build import running
from tools.notebooks import ROOT

ASSIGNMENTS = {path.stem: exercises.read(path, ROOT) for path in exercises.sources(ROOT)}
TASKS = {key: (book, task) for book in ASSIGNMENTS.values() for key, task in book.tasks.items()}
WRONG = [
    pytest.param(book, task, *answer, id=f"{key}-{answer[0] or index}")
    for key, (book, task) in TASKS.items()
    for index, answer in enumerate(task.wrong)
]
GOOD = [
    pytest.param(book, task, source, id=f"{key}-{'reference' if index == 0 else f'right-{index}'}")
    for key, (book, task) in TASKS.items()
    for index, source in enumerate([task.reference, *task.right])
]
FEWEST_WRONG, FEWEST_RIGHT = 4, 2
SEEDS = (0, 1, 2)
SECONDS = 10  # a task's whole table
NOTHING = [None, ..., float("nan")]  # what an answer may be, or return, and no answer
IDLE = [None, 0, True, "", [], {}]  # what an answer may return that has done nothing
MOST_FOR_NOTHING = 0.25  # of the points


def defined(book, task, source):
    """The learner's object: the answer's cell run after the set-up, in a namespace of its own."""
    namespace = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(book.setup, "<setup>", "exec"), namespace)
        exec(compile(source, f"<answer {task.exercise.id}>", "exec"), namespace)
    return namespace[task.exercise.entry]


def hidden_draws(book, task):
    """The hidden inputs of a task, from the module that a grader would load."""
    if not task.hidden:
        return []
    path = ROOT / "solutions" / "hidden" / f"{book.number}.py"
    spec = importlib.util.spec_from_file_location(f"hidden_{book.number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    draw = getattr(module, f"draw_{task.exercise.id.replace('.', '_')}")
    return [task.exercise.drawn(np.random.default_rng([7, index]), draw) for index in range(20)]


def test_every_lesson_with_tasks_has_a_source():
    assert sorted(book.number for book in ASSIGNMENTS.values()) == lessons()


def test_ids_are_one_row_in_each_assignment():
    for lesson in lessons():
        assert [task.id for task in load(lesson)] == [f"{lesson}.{index + 1}" for index in range(len(load(lesson)))]
    assert all(count == 1 for count in Counter(task.id for lesson in lessons() for task in load(lesson)).values())


def test_what_is_generated_is_up_to_date():
    assert exercises.check(ROOT) == []


@pytest.mark.parametrize("key", TASKS)
def test_a_task_has_enough_wrong_and_right_answers(key):
    _, task = TASKS[key]
    names = [name for name, _ in task.wrong]
    assert len(set(names)) == len(names) >= FEWEST_WRONG
    assert len(task.right) >= FEWEST_RIGHT
    assert task.hidden, "a grader needs draws that the learner has not seen"
    assert set(names) == {known.name for known in task.exercise.misconceptions}, "each misconception has its answer"


@pytest.mark.parametrize(("book", "task", "source"), GOOD)
def test_right_answers_pass(book, task, source):
    answer = defined(book, task, source)
    for seed in SEEDS:
        verdict = try_answer(task.exercise, answer, seed=seed)
        assert verdict.passed, verdict.text
        assert verdict.share == 1.0
    for inputs in hidden_draws(book, task):
        judgement = judge(task.exercise, [run_once(task.exercise, answer, inputs)])
        assert judgement.share == pytest.approx(1.0), (inputs, judgement.why)


@pytest.mark.slow
@pytest.mark.parametrize(("book", "task", "name", "source"), WRONG)
def test_wrong_answers_lose_points_with_their_own_message(book, task, name, source, kill_rate):
    kill_rate(task.exercise.id, name, killed=False)
    answer = defined(book, task, source)
    texts = []
    for seed in SEEDS:
        verdict = try_answer(task.exercise, answer, seed=seed)
        assert verdict.state == "wrong", verdict.text
        assert verdict.share < 1.0
        assert verdict.misconception == name, verdict.text
        texts.append(verdict.text)
    assert "{" not in texts[0].split("\n  input:")[0], "a field of the message was not filled in"
    kill_rate(task.exercise.id, name, killed=True)


@pytest.mark.parametrize("key", TASKS)
def test_the_stub_is_not_started(key):
    book, task = TASKS[key]
    assert try_answer(task.exercise, defined(book, task, task.stub), seed=0).state == "not started"


@pytest.mark.parametrize("key", TASKS)
def test_answers_that_are_nothing_get_a_plain_message(key):
    _, task = TASKS[key]
    for value in NOTHING:
        answers = [lambda *args, **kwargs: value]  # noqa: B023 - called at once
        answers += [value] if isinstance(value, float) else []
        for answer in answers:
            verdict = try_answer(task.exercise, answer, seed=0)
            assert not verdict.passed
            assert "Traceback" not in verdict.text
            assert verdict.share < 1
    raising = try_answer(task.exercise, lambda *args, **kwargs: 1 // 0, seed=0)
    assert raising.state == "raised"
    assert "ZeroDivisionError" in raising.text
    assert "1 // 0" in raising.text  # the learner's own line


def given(*args, **kwargs):
    return [*args, *kwargs.values()]


@pytest.mark.parametrize("key", TASKS)
def test_who_does_nothing_gets_next_to_nothing(key):
    """An answer that breaks nothing could seem careful."""
    _, task = TASKS[key]
    answers = [lambda *args, value=value, **kwargs: value for value in IDLE]
    answers += [lambda *args, **kwargs: given(*args, **kwargs)[0], lambda *args, **kwargs: given(*args, **kwargs)[-1]]
    assert max(try_answer(task.exercise, answer, seed=0).share for answer in answers) <= MOST_FOR_NOTHING


@pytest.mark.parametrize("key", TASKS)
def test_text_is_the_same_in_every_run(key):
    book, task = TASKS[key]
    (_, source), *_ = task.wrong
    first, second = (try_answer(task.exercise, defined(book, task, source), seed=0).text for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("key", TASKS)
def test_a_table_is_quick_and_inputs_are_plain(key):
    book, task = TASKS[key]
    began = time.process_time()
    for source in [task.reference, *task.right, *(source for _, source in task.wrong)]:
        try_answer(task.exercise, defined(book, task, source), seed=0)
    assert time.process_time() - began < SECONDS
    answer = defined(book, task, task.reference)
    for inputs in [task.exercise.drawn(np.random.default_rng(0)), *hidden_draws(book, task)[:2]]:
        run = run_once(task.exercise, answer, inputs)
        assert set(run.outputs) == set(run.expected) == {aspect.key for aspect in task.exercise.aspects}
        for values in (run.inputs, run.outputs, run.expected):
            json.dumps(values, default=_array)


def _array(value):
    assert isinstance(value, np.ndarray), type(value)
    return value.tolist()


@pytest.mark.parametrize("key", TASKS)
def test_the_statement_and_the_stub_hold_no_solution(key):
    book, task = TASKS[key]
    notebook = nbformat.read(ROOT / "exercises" / f"{book.path.stem}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "SOLUTION" not in text
    for source in [*task.right, task.reference]:
        body = source.partition("\n")[2].strip()
        assert body not in text
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASSIGNMENTS)
@pytest.mark.parametrize("folder", ["exercises", "solutions"])
def test_notebooks_run_from_top_to_bottom(name, folder, tmp_path):
    """Every check of a solution passes; every check of an exercise says "not started"; nothing raises."""
    notebook = nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)
    said = {"exercises": "not started yet", "solutions": "passed"}[folder]
    printed = ""
    with running(notebook, cwd=tmp_path) as client:
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
                printed += "".join(output.get("text", "") for output in cell.outputs)
    for task in ASSIGNMENTS[name].tasks:
        assert f"{task} {said}" in printed


def test_run_once_reports_what_went_wrong():
    """On a real task: slow, mutating and unfit answers."""
    _, task = TASKS["03.5"]
    inputs = task.exercise.drawn(np.random.default_rng(0))

    def mutating(image, used, right):
        image *= 0
        return image

    for answer, kind in [(mutating, "mutated"), (lambda **k: open, "unfit"), (7, "raised")]:
        with pytest.raises(Trouble) as caught:
            run_once(task.exercise, answer, inputs)
        assert caught.value.kind == kind


def test_judging_needs_a_run():
    _, task = TASKS["03.1"]
    with pytest.raises(ValueError, match="not run"):
        judge(task.exercise, [])
    assert judge(task.exercise, [Run({}, None, {"left": 1.0})]).share == 0
