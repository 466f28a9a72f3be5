"""What a grader has and a learner has not: the solutions and the hidden draws, from a clone of the course."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tlcourse.checks import Exercise, load

__all__ = ["Assignment", "load_assignment"]

CLONE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Assignment:
    """The tasks of an assignment with what is needed to grade them.

    Attributes
    ----------
    id, title
        "03", and the notebook's heading.
    exercises
        In order.
    setup
        Sources of the cells that every answer may rely on.
    reference, stubs
        Task id -> the cell with its solution, and the untouched one.
    hidden
        Task id -> a function that draws inputs which no learner has seen.
    """

    id: str
    title: str
    exercises: tuple[Exercise, ...]
    setup: tuple[str, ...]
    reference: Mapping[str, str]
    stubs: Mapping[str, str]
    hidden: Mapping[str, Callable[[np.random.Generator], dict]]


def load_assignment(number: str, *, clone: Path = CLONE) -> Assignment:
    """Read an assignment from a clone of the course.

    Parameters
    ----------
    number
        "03" for the exercises of lesson 03, "03c" for the clinic after it.
    clone
        The repository's folder.

    Raises
    ------
    KeyError
        If there is no such assignment; the text lists those that there are.
    FileNotFoundError
        If this is no clone: what is installed holds no solutions.
    """
    exercises = load(number)
    notebooks = {name: sorted((clone / name).glob(f"{number}_*.ipynb")) for name in ("exercises", "solutions")}
    if not all(len(paths) == 1 for paths in notebooks.values()):
        raise FileNotFoundError(
            f"the solutions of {number} are not in {clone}: grading needs a clone of the course, since what is "
            "installed holds none. Run the grader from its folder"
        )
    stubs, solved = (json.loads(paths[0].read_text(encoding="utf-8"))["cells"] for paths in notebooks.values())
    return Assignment(
        number,
        _title(stubs),
        exercises,
        tuple(_source(cell) for cell in solved if "setup" in _tags(cell)),
        {cell["metadata"]["task"]: _source(cell) for cell in solved if "answer" in _tags(cell)},
        {cell["metadata"]["task"]: _source(cell) for cell in stubs if "answer" in _tags(cell)},
        _hidden(clone / "solutions" / "hidden" / f"{number}.py", [exercise.id for exercise in exercises]),
    )


def _hidden(path: Path, tasks: list[str]) -> dict[str, Callable]:
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"hidden_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {task: getattr(module, f"draw_{task.replace('.', '_')}", None) for task in tasks}
    return {task: draw for task, draw in found.items() if draw is not None}


def _title(cells: list[dict]) -> str:
    return _source(cells[0]).partition("\n")[0].lstrip("# ")


def _source(cell: dict) -> str:
    return "".join(cell["source"])


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])
