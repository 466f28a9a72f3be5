"""Make the notebooks from ``sources/``, executing only what is stale.

    python -m tools.build [--check] [--force] [LESSON ...]       # a LESSON is a number such as 03

A notebook is stale when its source, a module of ``tlcourse`` that it reaches, or a kept result of an experiment that it
reaches has changed. ``{{ expression }}`` in a markdown cell is evaluated in the live kernel after the code before it.
The exercises and the instructors' notebooks are made along with them, see `tools.exercises` and `tools.instructors`;
they are never executed here.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tlcourse.provenance import hash_of_reached, reached_modules, write_atomically
from tools import exercises, instructors
from tools.notebooks import ROOT, BuildError, framed_cells, notebook_of, number_of

FORMAT = 1  # raise it when what this file writes changes: every notebook is then stale
MAXIMUM_BYTES = 900_000
CELL_TIMEOUT = 1200  # seconds; a lesson has 4 minutes, a slow machine gets more
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

_PLACEHOLDER = re.compile(r"\{\{ (.+?) \}\}", re.DOTALL)
_NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<!--.*?-->", re.DOTALL)
_LEVEL = re.compile(r"\b9[059] ?% (?=(t-|prediction |confidence |bootstrap )?interval)")
_TYPED_NUMBER = re.compile(r"\d*\.\d\d+|\d+(\.\d+)? ?%|\d+(\.\d+)? (per cent|percent|percentage points?|points?)\b")


def sources(root: Path, lessons: list[str] | None = None) -> list[Path]:
    """The lessons' files, in order; of the numbers named only."""
    there = sorted((root / "sources" / "lessons").glob("*.py"))
    for wanted in lessons or []:
        if not any(number_of(path) == wanted for path in there):
            raise BuildError(f"no lesson {wanted!r}; there are {', '.join(map(number_of, there)) or 'none'}")
    return [path for path in there if not lessons or number_of(path) in lessons]


def check(root: Path = ROOT, lessons: list[str] | None = None) -> list[str]:
    """What is wrong with the notebooks, a line each, without executing anything."""
    problems = []
    for source in sources(root, lessons):
        notebook = root / "notebooks" / f"{source.stem}.ipynb"
        remedy = f"run: make build LESSON={number_of(source)}"
        try:
            template = read_source(source, root)
        except BuildError as error:
            problems.append(str(error))
            continue
        kept = _kept_stamp(notebook)
        if kept is None:
            problems.append(f"notebooks/{notebook.name} is missing or was not built; {remedy}")
        elif kept["source"] != fingerprint(source, template, root):
            problems.append(f"notebooks/{notebook.name} is stale; {remedy}")
        elif kept["content"] != _content_hash(nbformat.read(notebook, as_version=4)):
            problems.append(f"notebooks/{notebook.name} was edited: edit sources/lessons/{source.name}, then {remedy}")
    if not lessons:
        problems += [f"notebooks/{path.name} has no source; run: make build" for path in _orphans(root)]
    return problems


def build(root: Path = ROOT, lessons: list[str] | None = None, *, force: bool = False) -> list[str]:
    """Bring the notebooks up to date; return what failed, a text each. What failed is left as it was."""
    failures = []
    for source in sources(root, lessons):
        notebook = root / "notebooks" / f"{source.stem}.ipynb"
        try:
            template = read_source(source, root)
            if not force and not check(root, [number_of(source)]):
                print(f"{source.stem}: fresh")
                continue
            print(f"{source.stem}: executing", flush=True)
            stamp = fingerprint(source, template, root)
            built = fill_and_execute(template, cwd=root / "notebooks", name=source.stem)
            built.metadata["tlcourse"] = {"source": stamp, "content": _content_hash(built)}
            text = nbformat.writes(built, version=4) + "\n"
            if len(text.encode()) > MAXIMUM_BYTES:
                raise BuildError(
                    f"{source.stem}: the notebook has {len(text.encode()):,} bytes, more than {MAXIMUM_BYTES:,}: "
                    "draw fewer or smaller figures"
                )
            write_atomically(notebook, text)
        except BuildError as error:
            failures.append(str(error))
    if not lessons:
        for path in _orphans(root):
            path.unlink()
            print(f"{path.stem}: removed, it has no source")
    return failures


def read_source(source: Path, root: Path) -> NotebookNode:
    """The lesson as a notebook that has not been run: stable cell ids, badge, set-up cell, checked prose."""
    raw = jupytext.read(source, fmt="py:percent")
    for cell in raw.cells:
        if cell.cell_type == "markdown" and "cited" not in cell.metadata.get("tags", []):
            typed = typed_numbers(cell.source)
            if typed:
                raise BuildError(
                    f"{source.name}: {typed[0]!r} is a number typed in prose ({_first_line(cell)!r}); fill it from the "
                    "run with {{ expression }}, set constants in `code`, or tag the cell `cited` if a paper says so"
                )
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
    return notebook_of(framed_cells(raw.cells, source, root, folder="notebooks"))


def typed_numbers(markdown: str) -> list[str]:
    """Numbers in prose that look measured: decimals, per cents and points outside placeholders, code and formulas."""
    prose = _LEVEL.sub("", _NOT_PROSE.sub("", _PLACEHOLDER.sub("", markdown)))
    return [match.group() for match in _TYPED_NUMBER.finditer(prose)]


def fingerprint(source: Path, template: NotebookNode, root: Path) -> str:
    """Hash of everything that the executed notebook depends on."""
    package = root / "tlcourse"
    cells = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in template.cells]
    try:
        modules = reached_modules(code_of(template), package=package)
    except SyntaxError as error:
        raise BuildError(f"{source.name}: the code cells are not plain Python: {error}") from error
    # A lesson that prints a function's source also shows its comments and docstrings.
    code = hash_of_reached(modules, whole_text="getsource" in code_of(template))
    results = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((root / "results").glob("*.json"))
        if json.loads(path.read_text(encoding="utf-8")).get("module") in modules
    }
    return hashlib.sha256(repr((FORMAT, cells, code, results)).encode()).hexdigest()


def code_of(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


@contextmanager
def running(notebook: NotebookNode, *, cwd: Path, **extra: str) -> Iterator[NotebookClient]:
    """A kernel for this notebook: no progress bars, none of the learner's own predictions, extra environment."""
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(cwd)}},
    )
    with tempfile.TemporaryDirectory() as home:
        quiet = {"TLCOURSE_PROGRESS": "0", "TLCOURSE_HOME": home, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        with client.setup_kernel(env={**os.environ, **quiet, **extra}):
            yield client


def fill_and_execute(template: NotebookNode, *, cwd: Path, name: str) -> NotebookNode:
    """Run the cells in order, and fill the placeholders of each markdown cell on the way."""
    cwd.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.from_dict(template)
    with running(notebook, cwd=cwd) as client:
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown":
                place = f"{name}, cell {index}"
                cell.source = _PLACEHOLDER.sub(partial(_value, client, index, place), cell.source)
                notebook.cells[index] = cell
                continue
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                raise BuildError(f"{name}, cell {index}, raised:\n{error}") from error
            cell.metadata.pop("execution", None)
            for output in cell.outputs:
                # Its model dies with this kernel: the static fallback beside it is what a reader can see.
                if len(output.get("data", {})) > 1:
                    output["data"].pop(WIDGET_VIEW, None)
    notebook.metadata = NotebookNode(template.metadata)
    nbformat.validate(notebook)
    return notebook


def _value(client: NotebookClient, index: int, place: str, placeholder: re.Match) -> str:
    """The value of one placeholder in the live kernel, as text."""
    expression = " ".join(placeholder.group(1).split())
    place = f"{place}: {{{{ {expression} }}}}"
    try:
        ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise BuildError(f"{place} is not a Python expression: {error.msg}") from error
    # It goes through a cell that is not part of the history; the client puts it at `index`, the caller restores that.
    probe = nbformat.v4.new_code_cell(
        f"(lambda value: print(__import__('json').dumps([type(value).__name__, str(value)])))({expression})"
    )
    try:
        client.execute_cell(probe, index, store_history=False)
    except CellExecutionError as error:
        raise BuildError(f"{place} raised:\n{error}") from error
    kind, text = json.loads("".join(output.get("text", "") for output in probe.outputs))
    if kind not in ("str", "int"):
        raise BuildError(f"{place} is a {kind}: format it as a str or an int")
    return text


def _content_hash(notebook: NotebookNode) -> str:
    """Of the cells as they stand, outputs included, so that an edit of a generated notebook shows."""
    cells = json.dumps(notebook.cells, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(cells.encode()).hexdigest()


def _kept_stamp(notebook: Path) -> dict | None:
    try:
        stamp = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["tlcourse"]
        return stamp if {"source", "content"} <= set(stamp) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _orphans(root: Path) -> list[Path]:
    names = {path.stem for path in sources(root)}
    return [path for path in sorted((root / "notebooks").glob("*.ipynb")) if path.stem not in names]


def _first_line(cell: NotebookNode) -> str:
    return cell.source.strip().partition("\n")[0][:60]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.build", description=__doc__.partition("\n")[0])
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="numbers such as 03; none: all")
    parser.add_argument("--check", action="store_true", help="execute nothing; fail where something is stale")
    parser.add_argument("--force", action="store_true", help="execute also what is fresh")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            problems = check(lessons=options.lessons) + exercises.check(lessons=options.lessons)
            problems += [] if options.lessons else instructors.check()
        else:
            # The exercises first: they take seconds, the lessons minutes.
            problems = exercises.build(lessons=options.lessons)
            if not options.lessons:
                instructors.build()
            problems += build(lessons=options.lessons, force=options.force)
    except BuildError as error:
        problems = [str(error)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
