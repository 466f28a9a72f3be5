"""Marking an answer beside the learner's code, for engines that run a whole notebook in one process.

Otter-Grader and nbgrader call `mark` from the tests that ``python -m tlcourse export`` writes. The draws, the
comparison and the words are those of ``python -m tlcourse grade``. The jail is missing: here a hostile answer can read
what is expected, or change what comes out (docs/grading.md).
"""

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcourse.checks.running import Trouble, run_once
from tlcourse.checks.spec import find
from tlcourse.grading.score import Paper, prepare, score_task

__all__ = ["Mark", "NotYet", "mark"]


class NotYet(AssertionError):
    """What an engine shows as the reason of a failed test."""


@dataclass(frozen=True)
class Mark:
    """What an answer is worth.

    Attributes
    ----------
    task, title
        Of the exercise.
    score, max_score
        Points.
    held, titles
        Key of each aspect -> whether it held in every draw, and what it is called.
    message
        Why points were lost, in the words of the self-check; "" where none were.
    """

    task: str
    title: str
    score: float
    max_score: float
    held: dict[str, bool]
    titles: dict[str, str]
    message: str

    def require(self, key: str) -> None:
        """Do nothing where an aspect held; the first one that did not carries the reason for all.

        Raises
        ------
        NotYet
            If it did not hold.
        """
        if self.held[key]:
            return
        first = next(name for name, held in self.held.items() if not held)
        reason = self.message if key == first else f"the reason is said at {self.titles[first]!r}"
        raise NotYet(f"{self.titles[key]}: not yet. {reason}")

    def show(self) -> float:
        """Print what a learner should read, and return the points: an engine takes a cell's value for them."""
        print(f"{self.task} {self.title}: {self.score:g} of {self.max_score:g} points")
        for key, held in self.held.items():
            print(f"  {'right' if held else 'not yet'}: {self.titles[key]}")
        if self.message:
            print(self.message)
        return self.score


def mark(task: str, answer: Any, *, seed: int, hidden: Callable[[np.random.Generator], dict] | None = None) -> Mark:
    """Run an answer on inputs from a seed, and judge it as the grader does.

    Parameters
    ----------
    task
        Its id, such as "03.1".
    answer
        What the learner's cell defined; None where it defined nothing.
    seed
        The same one draws what ``python -m tlcourse grade --seed`` draws.
    hidden
        Draws more inputs, as in ``solutions/hidden``.

    Raises
    ------
    KeyError
        If there is no such task.

    Examples
    --------
    >>> marked = mark("03.1", lambda **inputs: 2.0, seed=7)
    >>> marked.score, marked.max_score, marked.held
    (0, 2.0, {'left': False})
    """
    exercise = find(task)
    paper = prepare((exercise,), seed=seed, hidden={task: hidden} if hidden else None)
    # What an answer prints or warns of must not reach the engine: nbgrader takes a line on stderr for a failure.
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        drawn = _draws_of(paper, answer)
    scored = score_task(paper, exercise, drawn)
    return Mark(
        task,
        exercise.title,
        scored["score"],
        scored["max_score"],
        {aspect["key"]: aspect["held"] for aspect in scored["aspects"]},
        {aspect["key"]: aspect["title"] for aspect in scored["aspects"]},
        scored["message"],
    )


def _draws_of(paper: Paper, answer: Any) -> dict[int, dict]:
    """What came out, by the number of the draw, as `score_task` takes it. Nothing runs after a draw that failed."""
    (exercise,) = paper.exercises
    if answer is None:
        return {0: {"error": {"kind": "missing"}}}
    if answer is ...:
        return {0: {"error": {"kind": "NotImplementedError"}}}
    _seed()
    drawn: dict[int, dict] = {}
    for number, inputs in enumerate(paper.inputs[exercise.id]):
        try:
            drawn[number] = {"value": run_once(exercise, answer, inputs).outputs}
        except Trouble as trouble:
            kind = "NotImplementedError" if trouble.kind == "not started" else "unfit"
            text = "" if trouble.kind == "not started" else trouble.text
            drawn[number] = {"error": {"kind": kind, "message": text}}
            break
        except SystemExit:
            drawn[number] = {"ending": "stopped"}
            break
    return drawn


def _seed() -> None:
    """As the jail does: the same answer, the same mark."""
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - learners' code may use numpy's global generator
    torch.manual_seed(0)
