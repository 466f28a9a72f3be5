"""Make ``exercises/instructors/`` from ``sources/instructors/*.py``: notebooks about results that only a class has.

``python -m tools.build`` calls it. As with the exercises, nothing is executed: the suite runs them on a graded class.
"""

from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from tools.notebooks import ROOT, bring_up_to_date, framed_cells, notebook_of, stale

__all__ = ["build", "check"]

FOLDER = Path("exercises") / "instructors"


def check(root: Path = ROOT) -> list[str]:
    """What is stale, a line each."""
    made = _products(root)
    problems = [
        line
        for path, text in made.items()
        for line in stale(root, {path: text}, edit=f"sources/instructors/{path.stem}.py")
    ]
    return problems + [f"{path.as_posix()} has no source; run: make build" for path in _orphans(root, made)]


def build(root: Path = ROOT) -> None:
    """Bring everything up to date."""
    made = _products(root)
    bring_up_to_date(root, made)
    for path in _orphans(root, made):
        (root / path).unlink()


def _products(root: Path) -> dict[Path, str]:
    sources = sorted((root / "sources" / "instructors").glob("*.py"))
    return {FOLDER / f"{source.stem}.ipynb": _written(source, root) for source in sources}


def _written(source: Path, root: Path) -> str:
    cells = [_bare(cell) for cell in jupytext.read(source, fmt="py:percent").cells]
    framed = framed_cells(cells, source, root, folder=FOLDER.as_posix())
    return nbformat.writes(notebook_of(framed), version=4) + "\n"


def _bare(cell: NotebookNode) -> NotebookNode:
    new = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
    return new(cell.source.strip())


def _orphans(root: Path, made: dict[Path, str]) -> list[Path]:
    return [
        path.relative_to(root) for path in sorted((root / FOLDER).glob("*.ipynb")) if path.relative_to(root) not in made
    ]
