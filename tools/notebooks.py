"""What every generated notebook has: a title with a Colab badge, a set-up cell, ids that depend on content alone."""

import hashlib
import tomllib
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tlcourse.provenance import write_atomically

__all__ = [
    *("ROOT", "SET_UP", "BuildError", "bring_up_to_date", "framed_cells", "notebook_of", "number_of", "repository"),
    "stale",
]

ROOT = Path(__file__).resolve().parents[1]

SET_UP = """\
# Set-up. On your own machine this cell does nothing; on Colab it installs the course and its data.
import sys

if "google.colab" in sys.modules:
    import subprocess

    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "git+{address}"], check=True)
    subprocess.run([sys.executable, "-m", "tlcourse", "fetch"], check=True)
"""


class BuildError(Exception):
    """A source that cannot be built, and what to do."""


def framed_cells(cells: Sequence[NotebookNode], source: Path, root: Path, *, folder: str) -> list[NotebookNode]:
    """The cells of a source with badge, set-up cell and stable ids; `folder` is where the notebook will be.

    Raises
    ------
    BuildError
        If the first cell is not a title, or pyproject.toml names no repository.
    """
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise BuildError(f"{source.name}: the first cell must be markdown that starts with '# ' and the title")
    address = repository(root)
    title, _, rest = cells[0].source.partition("\n")
    cells[0].source = f"{title}\n\n{_badge(address, f'{folder}/{source.stem}.ipynb')}\n{rest}".rstrip()
    set_up = nbformat.v4.new_code_cell(SET_UP.format(address=address).rstrip())
    framed = [cells[0], set_up, *cells[1:]]
    seen: dict[str, int] = {}
    for cell in framed:
        key = f"{cell.cell_type}\n{cell.source}"
        seen[key] = seen.get(key, 0) + 1
        cell.id = hashlib.sha256(f"{key}\n{seen[key]}".encode()).hexdigest()[:12]
    return framed


def notebook_of(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook that has not been run."""
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def stale(root: Path, made: dict[Path, str], *, edit: str) -> list[str]:
    """Which files are not as made, a line each; ``edit`` is where they are edited."""
    return [
        f"{path.as_posix()} is {'stale or was edited' if there.is_file() else 'missing'}: edit {edit}, run make build"
        for path, text in made.items()
        if not _holds(there := root / path, text)
    ]


def bring_up_to_date(root: Path, made: dict[Path, str]) -> None:
    """Write those that are not as made, and say so."""
    for path, text in made.items():
        if not _holds(there := root / path, text):
            there.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(there, text)
            print(f"{path.as_posix()}: written")


def _holds(there: Path, text: str) -> bool:
    return there.is_file() and there.read_text(encoding="utf-8") == text


def repository(root: Path) -> str:
    """The one address of the course, from pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    try:
        return project["urls"]["Repository"].rstrip("/")
    except KeyError:
        raise BuildError("pyproject.toml has no [project.urls] Repository: the Colab badge needs it") from None


def number_of(source: Path) -> str:
    """``03`` of ``03_feature_extraction.py``."""
    return source.stem.partition("_")[0]


def _badge(address: str, path: str) -> str:
    place = address.removeprefix("https://github.com/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})](https://colab.research.google.com/github/{place}/blob/main/{path})"
