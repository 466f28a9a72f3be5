"""What is exported for another engine: an assignment with its seed, and the sources that an engine's tests hold."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tlcourse.checks.spec import Exercise
from tlcourse.grading import courseware
from tlcourse.grading.assignment import CLONE, Assignment, load_assignment

__all__ = ["Order", "hidden_source", "order"]


@dataclass(frozen=True)
class Order:
    """What to export.

    Attributes
    ----------
    work
        The assignment.
    notebook
        The learner's notebook, as text.
    stem
        Its file's name without the ending.
    seed
        Of the inputs.
    clone
        The repository's folder.
    """

    work: Assignment
    notebook: str
    stem: str
    seed: int
    clone: Path


def order(assignment: str, *, seed: int | None = None, clone: Path = CLONE) -> Order:
    """Read an assignment from a clone.

    Raises
    ------
    KeyError
        If there is no such assignment.
    FileNotFoundError
        If this is no clone.
    ValueError
        If the seed is negative.
    """
    if seed is not None and seed < 0:
        raise ValueError(f"--seed {seed}: it is 0 or more")
    work = load_assignment(assignment, clone=clone)
    (path,) = (clone / "exercises").glob(f"{assignment}_*.ipynb")
    seed = secrets.randbits(63) if seed is None else seed
    return Order(work, path.read_text(encoding="utf-8"), path.stem, seed, clone)


def hidden_source(made: Order, exercise: Exercise) -> str:
    """The source of a task's hidden draw and of what it needs; "" where it has none.

    Returns
    -------
    Python that can be run by itself, and binds the draw to ``hidden``.
    """
    draw = made.work.hidden.get(exercise.id)
    if draw is None:
        return "hidden = None\n"
    module = ModuleType(draw.__module__)
    vars(module).update(draw.__globals__)
    return courseware.cut_out(module, {"hidden": draw})
