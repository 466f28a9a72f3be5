"""``python -m tlcourse progress --verify FILE``: the answers of a certificate, run again in the grader's jail.

It takes what is installed, and no clone: a certificate holds its own sources, and the self-checks' draws, from a seed
that its learner has not seen, take the place of the hidden ones. A grade this is not.
"""

import argparse
import dataclasses
import json
import secrets
import sys
import tempfile
from pathlib import Path

from tlcourse.checks.certificate import CertificateError, read_certificate
from tlcourse.checks.spec import Exercise, find
from tlcourse.grading import batch, jail
from tlcourse.grading.extract import LONGEST
from tlcourse.grading.score import clean, prepare, score_task
from tlcourse.grading.supervise import Limits, Worker, WorkerError

__all__ = ["Rerun", "run", "verify"]

UNPROTECTED = (
    "Without a jail (--trust-submissions): the answers ran with all your rights, and could have changed this "
    "verdict and any other file of yours."
)


@dataclasses.dataclass(frozen=True)
class Rerun:
    """One answer, run again.

    Attributes
    ----------
    task
        Its id.
    state
        "passed", or a status of the grader: "partly right", "wrong", "raised", "stopped", "not started", "missing".
    text
        In words.
    """

    task: str
    state: str
    text: str


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    The exit status: 0 where every answer passed again.
    """
    seed = secrets.randbits(32) if options.seed is None else options.seed
    try:
        made = read_certificate(options.verify)
        place = jail.choose(trust=options.trust_submissions)
        if place.kind == "none":
            print(f"warning: {UNPROTECTED}", file=sys.stderr)
        again = verify(made, place, seed=seed)
    except (CertificateError, jail.NoJail, WorkerError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    name, passed = clean(made["name"]), sum(task.state == "passed" for task in again)
    if options.json:
        record = {"name": name, "seed": seed, "jail": place.kind, "tasks": [vars(task) for task in again]}
        print(json.dumps(record, indent=1))
    else:
        print("\n".join(task.text for task in again))
        print(f"{name}: {passed} of {len(again)} answers passed again on fresh inputs (seed {seed})")
    return 0 if passed == len(again) else 1


def verify(made: dict, place: jail.Jail, *, seed: int, limits: Limits | None = None) -> list[Rerun]:
    """Run every answer of a certificate in a jail, on fresh inputs.

    Parameters
    ----------
    made
        Of `read_certificate`.
    place
        Of `jail.choose`.
    seed
        Draws the inputs.
    limits
        What each lesson's answers together may take.

    Raises
    ------
    WorkerError
        If the jail does not start.
    """
    answers = {task["task"]: task["answer"] for task in made["tasks"]}
    lessons: dict[str, list[Exercise]] = {}
    for task in made["tasks"]:
        exercise = find(task["task"]).variant(task["constants"])
        lessons.setdefault(exercise.assignment, []).append(exercise)
    # A lesson is a job: the inputs of all lessons together would be more than a message holds.
    markers = [
        batch.Marker(lesson, prepare(exercises, seed=seed), {}, {}, place, limits or Limits())
        for lesson, exercises in lessons.items()
    ]
    if not markers:
        return []
    probes = {name: source for marker in markers for name, source in marker.paper.probes.items()}
    whole = dataclasses.replace(markers[0], paper=dataclasses.replace(markers[0].paper, probes=probes))
    found: dict[str, Rerun] = {}
    with (
        tempfile.TemporaryDirectory(prefix="tlcourse-course-") as folder,
        batch.make_worker(whole, batch.make_view(Path(folder), whole)) as worker,
    ):
        for marker in markers:
            found |= {again.task: again for again in _lesson(marker, answers, worker)}
    return [found[task] for task in answers]


def _lesson(marker: batch.Marker, answers: dict[str, str], worker: Worker) -> list[Rerun]:
    paper = marker.paper
    unfit = {exercise.id: _unfit(answers[exercise.id]) for exercise in paper.exercises}
    sources = {task: None if reason else answers[task] for task, reason in unfit.items()}
    arrived = batch.run_answers(marker, sources, worker) if any(sources.values()) else {}
    return [
        Rerun(exercise.id, "missing", f"{exercise.id} cannot be run again: {unfit[exercise.id]}")
        if unfit[exercise.id]
        else _judged(exercise, score_task(paper, exercise, arrived[exercise.id]), len(paper.inputs[exercise.id]))
        for exercise in paper.exercises
    ]


def _unfit(source: str) -> str:
    if not source.strip():
        return "no source was recorded"
    return f"its source has more than {LONGEST:,} characters" if len(source) > LONGEST else ""


def _judged(exercise: Exercise, scored: dict, count: int) -> Rerun:
    if scored["status"] == "right":
        own = f" for {', '.join(f'{k} = {v}' for k, v in exercise.given.items())}" if exercise.varied else ""
        return Rerun(exercise.id, "passed", f"{exercise.id} passed again: it agrees on {count} fresh inputs{own}")
    return Rerun(exercise.id, scored["status"], f"{exercise.id} {scored['status']}: {scored['message']}")
