"""Make ``exercises/``, ``solutions/`` and ``solutions/hidden/`` from ``sources/exercises/*.py``; nothing is executed.

``python -m tools.build`` calls it. The tags of the cells of a source:

========  =====================================================================================================
task      markdown, with ``task="03.1"``: the statement; title, points and minutes are those of the `Exercise`
answer    code: what lies between ``# BEGIN SOLUTION`` and ``# END SOLUTION`` becomes a stub in ``exercises/``
given     code: a defective answer that is to be repaired; it takes the stub's place, below a line that raises
setup     code: imports and nothing else; every answer may use them, also where it is graded
check     kept in both
solution  only in ``solutions/``
hidden    code, a function ``draw_03_1(rng) -> inputs``: only in ``solutions/hidden/03.py``
wrong     code, with ``misconception="..."``: an answer that must be refused with that message; only for the tests
right     code: another answer that must pass; only for the tests
========  =====================================================================================================

Cells without a tag are kept in both. Where a task has constants (`Exercise.constants`), a cell with the tag ``variant``
is put below the set-up, and a line that names them below the task's heading.
"""

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from tlcourse.checks import Exercise, load
from tlcourse.checks.variants import constants_line, variant_cell
from tools.notebooks import ROOT, BuildError, bring_up_to_date, framed_cells, notebook_of, number_of, stale

__all__ = ["Assignment", "Task", "build", "check", "products", "read", "sources"]

TAGS = {"task", "answer", "given", "setup", "check", "solution", "hidden", "wrong", "right"}
ONLY_FOR_TESTS = {"given", "hidden", "wrong", "right"}
_SOLUTION = re.compile(r"^([ \t]*)# BEGIN SOLUTION\n(.*?)^[ \t]*# END SOLUTION\n?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Task:
    """The cells of one task, as sources of code.

    Attributes
    ----------
    exercise
        The value in ``tlcourse.checks``.
    reference, stub
        The answer with and without its solution.
    wrong
        (name of the misconception, answer) of each answer that must be refused.
    right
        Other answers that must pass.
    hidden
        The functions that draw more inputs.
    """

    exercise: Exercise
    reference: str
    stub: str
    wrong: tuple[tuple[str, str], ...] = ()
    right: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """A source, read: its tasks in order, and the cells that make the notebooks."""

    path: Path
    root: Path
    cells: tuple[NotebookNode, ...] = field(repr=False)

    @property
    def number(self) -> str:
        return number_of(self.path)

    @cached_property
    def setup(self) -> str:
        """The imports that every answer may use."""
        return "\n".join(cell.source for cell in self.cells if "setup" in _tags(cell))

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """Task id -> its cells."""
        tasks = {}
        for exercise in load(self.number):
            found = {tag: self._of(tag, exercise.id) for tag in ("answer", "given", "wrong", "right", "hidden")}
            (answer,) = found["answer"]
            wrong = [(cell.metadata.get("misconception", ""), _code(cell)) for cell in found["wrong"] + found["given"]]
            tasks[exercise.id] = Task(
                exercise,
                reference=_code(answer),
                stub=_stub(answer, exercise, found["given"]),
                wrong=tuple(wrong),
                right=tuple(map(_code, found["right"])),
                hidden=tuple(map(_code, found["hidden"])),
            )
        return tasks

    def _of(self, tag: str, task: str) -> list[NotebookNode]:
        return [cell for cell in self.cells if tag in _tags(cell) and cell.metadata.get("task") == task]

    def problems(self) -> list[str]:
        """What is wrong with the source itself, a line each."""
        known = [exercise.id for exercise in load(self.number)]
        found = []
        for cell in self.cells:
            tags, task = _tags(cell), cell.metadata.get("task")
            if len(tags) > 1 or tags - TAGS:
                found.append(f"cell {_first(cell)!r}: its tags are {sorted(tags)}, at most one of {sorted(TAGS)}")
            if tags & {"task", "answer", "given", "hidden", "wrong", "right"} and task not in known:
                found.append(f"cell {_first(cell)!r}: its task is {task!r}, not one of {', '.join(known)}")
            if "setup" in tags and any(
                type(n) not in (ast.Import, ast.ImportFrom) for n in ast.parse(cell.source).body
            ):
                found.append("a set-up cell holds more than imports: an answer could not use it where it is graded")
        for task in known:
            for tag in ("task", "answer"):
                if len(self._of(tag, task)) != 1:
                    found.append(f"task {task} has {len(self._of(tag, task))} cells with the tag {tag}, not 1")
            if any(not _SOLUTION.search(cell.source) for cell in self._of("answer", task)):
                found.append(f"task {task}: its answer has no # BEGIN SOLUTION ... # END SOLUTION")
            name = f"draw_{task.replace('.', '_')}"
            for cell in self._of("hidden", task):
                if name not in {node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)}:
                    found.append(f"task {task}: a hidden cell defines no {name}")
            if not any(f'check("{task}"' in cell.source for cell in self.cells if "check" in _tags(cell)):
                found.append(f'task {task}: no cell with the tag check calls check("{task}", ...)')
        return [f"{self.path.name}: {problem}" for problem in found]


def sources(root: Path = ROOT, lessons: list[str] | None = None) -> list[Path]:
    """The exercises' files, in order; with lessons named, theirs and those of the clinics after them."""
    there = sorted((root / "sources" / "exercises").glob("*.py"))
    return [path for path in there if not lessons or number_of(path).rstrip("c") in lessons]


def read(path: Path, root: Path = ROOT) -> Assignment:
    """Read a source and see that it is whole.

    Raises
    ------
    BuildError
        If a cell or a mark is missing, doubled or unknown.
    """
    raw = jupytext.read(path, fmt="py:percent")
    assignment = Assignment(path, root, tuple(raw.cells))
    try:
        problems = assignment.problems()
    except (KeyError, SyntaxError) as error:
        problems = [f"{path.name}: {error.args[0]}"]
    if problems:
        raise BuildError("\n".join(problems))
    return assignment


def products(assignment: Assignment) -> dict[Path, str]:
    """Path below the root -> text of everything that is made from a source."""
    name = assignment.path.stem
    made = {
        Path("exercises") / f"{name}.ipynb": _written(assignment, "exercises"),
        Path("solutions") / f"{name}.ipynb": _written(assignment, "solutions"),
    }
    hidden = [source for task in assignment.tasks.values() for source in task.hidden]
    if hidden:
        head = f'"""Hidden draws of {name}, made by `make build`: more inputs, which only a grader tries."""'
        text = "\n\n\n".join(["\n\n".join([head, _imports(assignment, hidden)]).rstrip(), *map(str.strip, hidden)])
        made[Path("solutions") / "hidden" / f"{assignment.number}.py"] = text + "\n"
    return made


def check(root: Path = ROOT, lessons: list[str] | None = None) -> list[str]:
    """What is stale or wrong, a line each."""
    problems, wanted = [], set()
    for source in sources(root, lessons):
        try:
            made = products(read(source, root))
        except BuildError as error:
            problems.append(str(error))
            continue
        wanted |= set(made)
        problems += stale(root, made, edit=f"sources/exercises/{source.name}")
    if not lessons and not problems:
        problems += [f"{path.as_posix()} has no source; run: make build" for path in _orphans(root, wanted)]
    return problems


def build(root: Path = ROOT, lessons: list[str] | None = None) -> list[str]:
    """Bring everything up to date; return what failed, a text each."""
    failures, wanted = [], set()
    for source in sources(root, lessons):
        try:
            made = products(read(source, root))
        except BuildError as error:
            failures.append(str(error))
            continue
        wanted |= set(made)
        bring_up_to_date(root, made)
    if not lessons and not failures:
        for path in _orphans(root, wanted):
            (root / path).unlink()
            print(f"{path.as_posix()}: removed, it has no source")
    return failures


def _orphans(root: Path, wanted: set[Path]) -> list[Path]:
    there = [*root.glob("exercises/*.ipynb"), *root.glob("solutions/*.ipynb"), *root.glob("solutions/hidden/*.py")]
    return sorted(path.relative_to(root) for path in there if path.relative_to(root) not in wanted)


def _written(assignment: Assignment, folder: str) -> str:
    cells, constants = [], variant_cell(task.exercise for task in assignment.tasks.values())
    for cell in assignment.cells:
        tags = _tags(cell)
        if tags & ONLY_FOR_TESTS or (folder == "exercises" and "solution" in tags):
            continue
        task = assignment.tasks.get(cell.metadata.get("task"))
        metadata = {"tags": sorted(tags)} if tags else {}
        text = cell.source
        if tags & {"task", "answer"}:
            metadata |= {"task": task.exercise.id, "entry": task.exercise.entry, "points": task.exercise.points}
        if "task" in tags:
            text = f"{_heading(task.exercise)}\n\n{text}"
        elif "answer" in tags:
            text = task.stub if folder == "exercises" else task.reference
        new = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        cells.append(new(text.strip(), metadata=metadata))
        if "setup" in tags and constants:
            cells.append(nbformat.v4.new_code_cell(constants, metadata={"tags": ["variant"]}))
    framed = framed_cells(cells, assignment.path, assignment.root, folder=folder)
    return nbformat.writes(notebook_of(framed), version=4) + "\n"


def _heading(exercise: Exercise) -> str:
    lines = [
        f"## {exercise.id} · {exercise.title}",
        f"*{exercise.points} points · difficulty {exercise.difficulty} of 5 · about {exercise.minutes} minutes · "
        f"you write `{exercise.entry}`*",
        constants_line(exercise),
    ]
    return "\n\n".join(filter(None, lines))


def _stub(answer: NotebookNode, exercise: Exercise, given: list[NotebookNode]) -> str:
    if given:
        return _raising(given[0].source, exercise)

    def replace(match: re.Match) -> str:
        indent = match.group(1)
        return f"{indent}raise NotImplementedError\n" if indent else f"{exercise.entry} = ...\n"

    return _SOLUTION.sub(replace, answer.source + "\n").strip()


def _raising(code: str, exercise: Exercise) -> str:
    """The defective function with a line on top that raises until the learner takes it away."""
    (function,) = [n for n in ast.parse(code).body if isinstance(n, ast.FunctionDef) and n.name == exercise.entry]
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else function.body[0]
    lines = code.strip().splitlines()
    line = " " * first.col_offset + "raise NotImplementedError  # take this line away, then find the defect"
    return "\n".join([*lines[: first.lineno - 1], line, *lines[first.lineno - 1 :]])


def _code(cell: NotebookNode) -> str:
    """A cell without the marks of its solution."""
    return re.sub(r"^[ \t]*# (BEGIN|END) SOLUTION\n?", "", cell.source + "\n", flags=re.MULTILINE).strip()


def _imports(assignment: Assignment, hidden: list[str]) -> str:
    """The imports of the set-up whose names the hidden cells use."""
    used = {node.id for source in hidden for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    lines = []
    for node in ast.parse(assignment.setup).body:
        names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in used]
        if names:
            lines.append(ast.unparse(type(node)(**{**vars(node), "names": names})))
    return "\n".join(lines)


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _first(cell: NotebookNode) -> str:
    return cell.source.strip().partition("\n")[0][:60]
