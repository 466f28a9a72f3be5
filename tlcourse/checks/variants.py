"""Constants of a learner's own: a number that a statement names, another one in each learner's notebook.

An answer holds the number, so that one copied from another notebook is wrong, and says so. A notebook of the course
itself has the first value of each constant. `tlcourse.grading.variants` writes the notebooks.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from tlcourse.checks.spec import Exercise, find

__all__ = ["constants_line", "constants_of", "in_variant", "use_variant", "variant_cell"]

_in_use: dict[str, dict[str, Any]] = {}  # task -> the constants of this notebook


def use_variant(constants: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell the self-checks of this notebook which constants are its own.

    Parameters
    ----------
    constants
        Task id -> name -> value.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If a task has no such constant, or not with that value.

    Examples
    --------
    >>> use_variant({"00.1": {"level": 80}})
    >>> in_variant(find("00.1")).given, use_variant({})
    ({'level': 80}, None)
    """
    varied = {task: find(task).variant(values).given for task, values in constants.items()}
    _in_use.clear()
    _in_use.update(varied)


def in_variant(exercise: Exercise) -> Exercise:
    """The task with the constants of this notebook."""
    return exercise.variant(_in_use.get(exercise.id, {}))


def constants_of(exercise: Exercise, *, seed: int, learner: str) -> dict[str, Any]:
    """A learner's constants, which depend on nobody else: whoever joins later changes no other notebook.

    Parameters
    ----------
    seed
        Of the course's run.
    learner
        The id in the roster.

    Examples
    --------
    >>> constants_of(find("00.1"), seed=7, learner="ada"), constants_of(find("00.2"), seed=7, learner="ada")
    ({'level': 80}, {})
    """
    chosen = {}
    for name, (_, *others) in exercise.constants.items():
        digest = hashlib.sha256(json.dumps([seed, learner, exercise.id, name]).encode()).digest()
        chosen[name] = others[int.from_bytes(digest[:8], "big") % len(others)]
    return chosen


def variant_cell(exercises: Iterable[Exercise]) -> str:
    """The code of the cell with the tag ``variant``, or "" where no task has constants."""
    lines = [f"        {json.dumps(task.id)}: {_literal(task.given)}," for task in exercises if task.constants]
    if not lines:
        return ""
    head = "# The numbers of your own notebook, for the checks. Your answers hold them as numbers."
    return "\n".join(
        [head, "from tlcourse.checks import use_variant", "", "use_variant(", "    {", *lines, "    }", ")"]
    )


def constants_line(exercise: Exercise) -> str:
    """A line of the statement that gives the constants, or ""."""
    said = ", ".join(f"`{name}` = {value}" for name, value in exercise.given.items())
    return f"**Constants:** {said}" if said else ""


def _literal(given: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value!r}" for name, value in given.items()) + "}"
