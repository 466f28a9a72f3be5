"""nbgrader: a source notebook with nbgrader's cell metadata (schema version 3), to be put into a course's ``source/``.

Answer cells hold the solution between nbgrader's marks, which ``nbgrader generate_assignment`` cuts out. The cell below
each of them is its test, a hidden region, which is cut out as well and comes back when nbgrader grades. It prints why
points were lost and ends in the points, which nbgrader takes for partial credit.
"""

import ast
import hashlib
import json
import re
import textwrap
from pathlib import Path

from tlcourse.checks.spec import Exercise
from tlcourse.grading.orders import Order, hidden_source
from tlcourse.provenance import write_atomically

__all__ = ["REQUIREMENT", "marked_answer", "source_notebook", "write"]

REQUIREMENT = "nbgrader>=0.9.5,<0.10"
SCHEMA = 3
UNWRITTEN = re.compile(r"^\s*(raise NotImplementedError\b|\w+ = \.\.\.$)")
TEST = """\
# {id} is marked here, with {points} points, on inputs that you have not seen.
### BEGIN HIDDEN TESTS
def marked_{number}():
{hidden}
    from tlcourse.grading.unjailed import mark

    return mark({id!r}, globals().get({entry!r}), seed={seed}, hidden=hidden)


marked_{number}().show()
### END HIDDEN TESTS"""


def write(made: Order, folder: Path) -> list[Path]:
    """Write the source notebook.

    Parameters
    ----------
    folder
        Exists: ``source/03`` of a course.

    Returns
    -------
    The files written.
    """
    path = folder / f"{made.stem}.ipynb"
    text = json.dumps(source_notebook(made), indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text)
    return [path]


def source_notebook(made: Order) -> dict:
    """The learner's notebook with solutions, tests and nbgrader's metadata."""
    notebook = json.loads(made.notebook)
    exercises = {exercise.id: exercise for exercise in made.work.exercises}
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        tags, task = cell["metadata"].get("tags", []), cell["metadata"].get("task")
        if "answer" in tags:
            cell["source"] = _lines(marked_answer(made.work.stubs[task], made.work.reference[task]))
            cell["metadata"]["nbgrader"] = _metadata(cell, f"answer-{_dashed(task)}", solution=True)
            cells += [cell, _test(made, exercises[task])]
        else:
            if {"task", "setup", "check"}.intersection(tags):
                cell["metadata"]["nbgrader"] = _metadata(cell, f"course-{number}", locked=True)
            cells.append(cell)
    return notebook | {"cells": cells}


def marked_answer(stub: str, reference: str) -> str:
    r"""The solution between nbgrader's marks; without what is between them, the stub is left.

    Parameters
    ----------
    stub, reference
        The answer cell of ``exercises/`` and of ``solutions/``. In a clinic the defective code stands below the line
        that raises; it then stands below the solution, where it is not reached. A class may have several methods to be
        written.

    Raises
    ------
    ValueError
        If the two do not begin alike, or differ between two solutions.

    Examples
    --------
    >>> print(marked_answer("def f(x):\n    raise NotImplementedError", "def f(x):\n    return 2 * x"))
    def f(x):
        ### BEGIN SOLUTION
        return 2 * x
        ### END SOLUTION
    """
    lines, solved = stub.splitlines(), reference.splitlines()
    holes = [number for number, line in enumerate(lines) if UNWRITTEN.match(line)]
    if not holes or lines[: holes[0]] != solved[: holes[0]]:
        raise ValueError(f"an answer and its stub do not begin alike: {lines[0]!r}")
    place = holes[0]
    above, below, body = lines[:place], lines[place + 1 :], solved[place:]
    indent = " " * (len(lines[place]) - len(lines[place].lstrip()))
    if holes[1:]:  # another method is to be written as well: what stands between the two is in both
        between = lines[place + 1 : holes[1]]
        ends = [end for end in range(len(body)) if body[end : end + len(between)] == between]
        if not ends:
            raise ValueError(f"an answer lacks what its stub has between two solutions: {between}")
        below = marked_answer("\n".join(below), "\n".join(body[ends[0] :])).splitlines()
        body = body[: ends[0]]
    elif below and body[-len(below) :] == below:
        body = body[: -len(below)]
    elif below and not isinstance(ast.parse(reference).body[-1].body[-1], ast.Return):
        body.append(f"{indent}return")
    return "\n".join([*above, f"{indent}### BEGIN SOLUTION", *body, f"{indent}### END SOLUTION", *below])


def _test(made: Order, exercise: Exercise) -> dict:
    source = TEST.format(
        id=exercise.id,
        number=exercise.id.replace(".", "_"),
        points=exercise.points,
        entry=exercise.entry,
        hidden=textwrap.indent(hidden_source(made, exercise).strip(), "    "),
        seed=made.seed,
    )
    cell = {"cell_type": "code", "execution_count": None, "id": _id(source), "metadata": {}, "outputs": []}
    metadata = _metadata(cell, f"marked-{_dashed(exercise.id)}", locked=True, grade=True)
    cell["metadata"]["nbgrader"] = metadata | {"points": exercise.points}
    return cell | {"source": _lines(source)}


def _metadata(cell: dict, name: str, *, grade: bool = False, locked: bool = False, solution: bool = False) -> dict:
    flags = {"grade": grade, "locked": locked, "solution": solution, "task": False}
    return flags | {"cell_type": cell["cell_type"], "grade_id": name, "schema_version": SCHEMA}


def _dashed(task: str) -> str:
    return task.replace(".", "-")  # an id of nbgrader's holds no dot


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _id(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:12]
