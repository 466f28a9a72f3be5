"""``python -m tlcourse variants``: a notebook a learner, with constants of their own; and their papers for `grade`.

Which constants a learner has follows from a seed, the id in the roster and the task (`tlcourse.checks.variants`), so
that nothing need be kept but the seed.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlcourse.checks import Exercise, load
from tlcourse.checks.variants import constants_line, constants_of, variant_cell
from tlcourse.grading.assignment import CLONE
from tlcourse.grading.export import read_roster
from tlcourse.grading.intake import Submission, learner_id
from tlcourse.grading.score import Paper, vary
from tlcourse.provenance import write_atomically

__all__ = ["learners", "own_notebook", "own_papers", "run", "write_variants"]

BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n*")


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    The exit status: 0, or 1 where nothing could be written.
    """
    try:
        written = write_variants(options.assignment, read_roster(options.roster), options.out, seed=options.seed)
    except (KeyError, ValueError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    print(f"{len(written)} notebooks in {options.out}; grade with --roster {options.roster} --variants {options.seed}")
    return 0


def write_variants(
    assignment: str, people: Iterable[str], out: Path, *, seed: int, clone: Path = CLONE
) -> dict[str, Path]:
    """Write the notebook of every learner.

    Parameters
    ----------
    assignment
        "00" for the exercises of lesson 00.
    people
        The ids in the roster.
    out
        A folder; ``ID.ipynb`` is written into it.
    seed
        Draws the constants.
    clone
        The repository's folder.

    Returns
    -------
    Id -> file.

    Raises
    ------
    KeyError
        If there is no such assignment.
    ValueError
        If none of its tasks has constants.
    FileNotFoundError
        If this is no clone.
    """
    exercises = load(assignment)
    if not any(exercise.constants for exercise in exercises):
        raise ValueError(f"no task of {assignment} has constants of a learner's own: its notebook is the same for all")
    found = sorted((clone / "exercises").glob(f"{assignment}_*.ipynb"))
    if len(found) != 1:
        raise FileNotFoundError(f"the exercises of {assignment} are not in {clone}: this needs a clone of the course")
    notebook = json.loads(found[0].read_text(encoding="utf-8"))
    written = {}
    for learner in people:
        own = own_notebook(notebook, own_exercises(exercises, seed=seed, learner=learner))
        written[learner] = out / f"{_file_name(learner)}.ipynb"
        written[learner].parent.mkdir(parents=True, exist_ok=True)
        write_atomically(written[learner], json.dumps(own, indent=1, ensure_ascii=False) + "\n")
    return written


def own_exercises(exercises: Sequence[Exercise], *, seed: int, learner: str) -> list[Exercise]:
    """The tasks with a learner's constants."""
    return [exercise.variant(constants_of(exercise, seed=seed, learner=learner)) for exercise in exercises]


def own_notebook(notebook: Mapping[str, Any], exercises: Sequence[Exercise]) -> dict[str, Any]:
    """The course's notebook with these tasks' constants in its statements and in the cell with the tag ``variant``."""
    own = json.loads(json.dumps(notebook))
    own["cells"][0]["source"] = BADGE.sub("", "".join(own["cells"][0]["source"]))  # it would open the course's
    by_id = {exercise.id: exercise for exercise in exercises}
    for cell in own["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "variant" in tags:
            cell["source"] = variant_cell(exercises)
        elif "task" in tags:
            exercise = by_id[cell["metadata"]["task"]]
            usual = constants_line(exercise.variant({}))
            source = "".join(cell["source"])
            cell["source"] = source.replace(usual, constants_line(exercise), 1) if usual else source
    return own


def learners(submissions: Sequence[Submission], people: Mapping[str, Any]) -> dict[str, str]:
    """Submission id -> the id in the roster, of those who are in it."""
    known = {learner_id(learner): learner for learner in people} | {learner: learner for learner in people}
    found = {submission.id: known.get(submission.name) or known.get(submission.id) for submission in submissions}
    return {submission: learner for submission, learner in found.items() if learner}


def own_papers(
    paper: Paper,
    learners: Mapping[str, str],
    *,
    variants: int,
    seed: int,
    hidden: Mapping[str, Callable[[np.random.Generator], dict]] | None = None,
) -> dict[str, Paper]:
    """Submission id -> paper; those who have the same constants share one.

    Parameters
    ----------
    learners
        Of `learners`.
    variants
        The seed of the constants.
    seed, hidden
        As they were given to `score.prepare`.
    """
    made: dict[str, Paper] = {}
    papers = {}
    for submission, learner in learners.items():
        own = {exercise.id: constants_of(exercise, seed=variants, learner=learner) for exercise in paper.exercises}
        key = json.dumps(own)
        if key not in made:
            made[key] = vary(paper, own, seed=seed, hidden=hidden)
        papers[submission] = made[key]
    return papers


def _file_name(learner: str) -> str:
    """The id itself where a file can have it as its name."""
    return learner if re.fullmatch(r"[\w@+=,-][\w@+=,. -]{0,80}", learner) else learner_id(learner)
