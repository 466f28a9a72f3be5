"""All submissions of an assignment: side by side, one bad one never stopping the others, resumed where it was cut off.

What is known of a submission is written when it is known, so that a batch that was killed loses at most what was under
way. The same notebook gets the same grade: inputs come from one seed a results folder, drawn when it is first used.
"""

import hashlib
import json
import queue
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tlcourse.grading import courseware, export
from tlcourse.grading.extract import Answers, extract
from tlcourse.grading.intake import IntakeError, Submission, read_notebook
from tlcourse.grading.jail import Jail, View
from tlcourse.grading.score import Paper, clean, score_task
from tlcourse.grading.supervise import Limits, Outcome, Worker, WorkerError
from tlcourse.provenance import write_atomically

__all__ = [
    "Marker",
    "NotAllMarked",
    "UnsoundPaper",
    "check_reference",
    "grade_all",
    "kept_seed",
    "make_view",
    "make_worker",
    "mark",
    "run_answers",
]

UNPROTECTED = (
    "Graded without a jail (--trust-submissions): the answers ran with all rights of whoever started the grader, and "
    "could have changed this result and any other file of theirs."
)
STRANGER = "not in the roster: marked with the constants of the course's own notebook"


class UnsoundPaper(RuntimeError):
    """The course's own solution does not get all points here, so that nobody's grade would mean anything."""


class NotAllMarked(RuntimeError):
    """The grader itself failed on some submissions; the text names them. They have no result, which is not nought."""


@dataclass(frozen=True)
class Marker:
    """All that marking one submission takes.

    Attributes
    ----------
    assignment
        Its id.
    paper
        See `score.prepare`.
    stubs, reference
        Task id -> source of the untouched cell, and of the solution.
    place, limits
        The jail, and what a submission may take in it.
    papers
        Submission id -> the paper of a learner who has constants of their own; empty: everybody has the course's.
    """

    assignment: str
    paper: Paper
    stubs: Mapping[str, str]
    reference: Mapping[str, str]
    place: Jail
    limits: Limits
    papers: Mapping[str, Paper] = field(default_factory=dict)

    def of(self, submission: Submission) -> "Marker":
        """The marker for one submission: that of its own paper."""
        return replace(self, paper=self.papers.get(submission.id, self.paper))


def mark(marker: Marker, submission: Submission, worker: Worker) -> dict:
    """Mark one submission; whatever is wrong with it is in the result.

    Returns
    -------
    dict
        As in the schema of `export`; two calls for the same notebook return the same.
    """
    stranger = marker.papers and submission.id not in marker.papers
    marker = marker.of(submission)
    result = {
        "format": export.FORMAT,
        "id": submission.id,
        "name": submission.name,
        "assignment": marker.assignment,
        "key": marker.paper.key,
        "digest": "",
        "jail": marker.place.kind,
        "warning": UNPROTECTED if marker.place.kind == "none" else "",
        "problem": "",
        "notes": [],
    }
    if stranger:
        result["notes"].append(STRANGER)
    entries = {exercise.id: exercise.entry for exercise in marker.paper.exercises}
    try:
        content, ignored = submission.read()
        result["digest"] = hashlib.sha256(content).hexdigest()
        result["notes"] += [clean(note) for note in ignored]
        answers = extract(read_notebook(content), entries, stubs=marker.stubs)
    except IntakeError as error:
        result["problem"] = clean(str(error))
        answers = Answers(dict.fromkeys(entries))
    arrived = run_answers(marker, answers.sources, worker) if any(answers.sources.values()) else {}
    scored = []
    for exercise in marker.paper.exercises:
        missing = {n: {"error": {"kind": "missing"}} for n in range(len(marker.paper.inputs[exercise.id]))}
        drawn = missing if answers.sources[exercise.id] is None else arrived[exercise.id]
        task = score_task(marker.paper, exercise, drawn, notes=answers.notes.get(exercise.id, ()))
        scored.append(task | {"curious": answers.curious.get(exercise.id, [])})
    result["tasks"] = scored
    result["score"] = round(sum((task["score"] for task in scored), 0.0), 4)
    result["max_score"] = marker.paper.max_score
    return result


def grade_all(
    marker: Marker,
    submissions: Sequence[Submission],
    out: Path,
    *,
    jobs: int,
    tick: Callable[[], Any] = lambda: None,
) -> dict:
    """Mark what is not marked yet, and keep each result under ``out/submissions``.

    Parameters
    ----------
    jobs
        How many at a time.
    tick
        Called after each.

    Returns
    -------
    A dict: ``results`` (in the order of submissions), ``unmarked`` (id -> a fault of the grader), ``resumed`` (how
    many were there), ``starts`` (of jails), ``warm``.

    Raises
    ------
    WorkerError
        If no jail could be started any more.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    results: dict[str, dict] = {}
    for submission in submissions:
        kept = _kept(marker.of(submission), submission, out)
        if kept is None:
            waiting.put(submission)
        else:
            results[submission.id] = kept
            tick()
    resumed, broken, workers = len(results), [], []
    unmarked: dict[str, str] = {}
    ticking = threading.Lock()

    def serve(worker: Worker) -> None:
        try:
            with worker:
                while not broken:
                    submission = waiting.get_nowait()
                    try:
                        result = mark(marker, submission, worker)
                        export.check(result, "submission")
                        write_atomically(_path(out, submission), export.as_text(result))
                        results[submission.id] = result
                    except (WorkerError, OSError):
                        raise
                    except Exception as error:  # a fault of ours, which is no grade and stops nobody else's
                        unmarked[submission.id] = f"{type(error).__name__}: {error}"
                    with ticking:
                        tick()
        except queue.Empty:
            return
        except BaseException as error:  # no jail starts any more, or nothing can be written
            broken.append(error)

    with tempfile.TemporaryDirectory(prefix="tlcourse-course-") as folder:
        view = make_view(Path(folder), marker)
        count = min(jobs, waiting.qsize())
        workers += [make_worker(marker, view, slot) for slot in range(count)]
        if workers:
            try:
                check_reference(marker, workers[0])
            except BaseException:
                workers[0].close()
                raise
        threads = [threading.Thread(target=serve, args=(worker,)) for worker in workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # an interruption from the keyboard
            broken.append(error)
            for worker in workers:
                worker.close()
            for thread in threads:
                thread.join()
            raise
    if broken:
        raise broken[0]
    return {
        "results": [results[submission.id] for submission in submissions if submission.id in results],
        "unmarked": unmarked,
        "resumed": resumed,
        "starts": sum(worker.starts for worker in workers),
        "start_seconds": [round(worker.start_seconds, 2) for worker in workers],
        "warm": any(worker.warm for worker in workers),
    }


def kept_seed(out: Path, *, seed: int | None = None) -> int:
    """The seed of a results folder: the one given, else the one that it has, else a new one, kept for its owner alone.

    Raises
    ------
    ValueError
        If the folder has another than the one given.
    """
    path = out / "seed"
    if path.exists():
        had = int(path.read_text(encoding="utf-8"))
        if seed not in (None, had):
            raise ValueError(f"{out} was begun with another seed than {seed}: leave --seed out, or take a new folder")
        return had
    chosen = secrets.randbits(63) if seed is None else seed
    write_atomically(path, f"{chosen}\n")
    path.chmod(0o600)
    return chosen


def check_reference(marker: Marker, worker: Worker) -> None:
    """See that the course's own solution gets all points in this jail, on these inputs.

    Raises
    ------
    UnsoundPaper
        If it does not; the text names the task and what was wrong.
    """
    arrived = run_answers(marker, dict(marker.reference), worker)
    for exercise in marker.paper.exercises:
        task = score_task(marker.paper, exercise, arrived[exercise.id])
        if task["status"] != "right":
            raise UnsoundPaper(f"the solution of task {exercise.id} is not right here: {task['message']}")


def make_view(folder: Path, marker: Marker) -> View:
    """Copy what the jail may see of the course, and hide where else it lies."""
    installed = courseware.library_path()
    hidden = [installed] if installed else []
    clone = courseware.PACKAGE.parent
    hidden += [clone / name for name in ("solutions", "exercises", "sources", "tests", ".git")]
    return View(
        courseware.copy_library(folder, probes=marker.paper.probes.values()),
        hidden=tuple(hidden),
        scratch=marker.limits.scratch,
        memory=marker.limits.memory,
        processes=marker.limits.processes,
    )


def make_worker(marker: Marker, view: View, slot: int = 0) -> Worker:
    """A worker that has loaded what this paper's probes need; nothing is started yet."""
    imports = courseware.imported_modules([*marker.paper.setup, *marker.paper.probes.values()])
    if any(name.partition(".")[0] == "torch" for name in imports):
        imports.append("torch._dynamo")  # seconds, which the first optimiser of each submission would take
    return Worker(marker.place, view, imports=imports, limits=marker.limits, slot=slot)


def run_answers(marker: Marker, answers: dict[str, str | None], worker: Worker) -> dict[str, dict[int, dict]]:
    """Run until every draw of every task has an outcome: where a task ends the program, the others get another run."""
    paper, answers = marker.paper, dict(answers)
    arrived: dict[str, dict[int, dict]] = {exercise.id: {} for exercise in paper.exercises}
    draws = {task: len(inputs) for task, inputs in paper.inputs.items()}
    asked = [task for task in draws if answers.get(task) is not None]
    while asked:
        job = paper.job(answers, asked=asked)
        outcome = worker.run(job, seconds=paper.seconds, most=len(job["tasks"]) + sum(draws[task] for task in asked))
        begun = _sort(outcome, arrived, draws, asked)
        undone = [task for task in asked if len(arrived[task]) < draws[task]]
        if not undone:
            break
        # Cells run in order, the answered ones too: who was begun last ended it.
        culprit = begun[-1] if begun else undone[0]
        culprit = culprit if outcome.ending != "finished" else undone[0]
        for draw in range(draws[culprit]):
            arrived[culprit].setdefault(draw, {"ending": outcome.ending})
        answers.pop(culprit, None)
        asked = [task for task in undone if task != culprit]
    return arrived


def _sort(outcome: Outcome, arrived: dict, draws: dict[str, int], asked: list[str]) -> list[str]:
    """File the messages that make sense; the first one for a draw counts. Returns the tasks that were begun."""
    begun = []
    for message in outcome.messages:
        task = message.get("task") if isinstance(message, dict) else None
        if not isinstance(task, str) or task not in draws:
            continue
        draw = message.get("draw")
        if message.get("begin") is True:
            begun.append(task)
        elif (
            task in asked
            and type(draw) is int
            and 0 <= draw < draws[task]
            and ("value" in message or "error" in message)
        ):
            arrived[task].setdefault(draw, message)
    return begun


def _kept(marker: Marker, submission: Submission, out: Path) -> dict | None:
    """A result of this very notebook, on this very paper, in such a jail."""
    try:
        result = json.loads(_path(out, submission).read_text(encoding="utf-8"))
        export.check(result, "submission")
        content, _ = submission.read()
    except (OSError, ValueError):
        return None
    wanted = (marker.paper.key, marker.place.kind, hashlib.sha256(content).hexdigest())
    return result if (result["key"], result["jail"], result["digest"]) == wanted else None


def _path(out: Path, submission: Submission) -> Path:
    return out / "submissions" / f"{submission.id}.json"
