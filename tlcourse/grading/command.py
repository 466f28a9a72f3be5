"""``python -m tlcourse grade``: from a folder of submissions to a folder of results."""

import argparse
import hashlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tlcourse.grading import batch, export, jail, prove
from tlcourse.grading.assignment import load_assignment
from tlcourse.grading.intake import find_submissions
from tlcourse.grading.score import prepare
from tlcourse.grading.supervise import Limits, WorkerError, as_record
from tlcourse.grading.variants import learners, own_papers

__all__ = ["grade", "run"]

VERSIONS_OF = ("torch", "numpy", "nbformat", "jsonschema", "psutil")
FOLDER = Path(__file__).resolve().parent


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    The exit status: 0, or 1 where nothing could be graded; a bad submission is no error.
    """
    if options.doctor:
        return prove.report(*prove.survey(trust=options.trust_submissions), as_json=options.json)
    missing = [name for name in ("submissions", "assignment", "out") if getattr(options, name) is None]
    if missing:
        named = ", ".join(name if name == "submissions" else f"--{name}" for name in missing)
        print(f"error: grading needs {named}; see python -m tlcourse grade --help", file=sys.stderr)
        return 2
    try:
        found = grade(
            options.submissions,
            options.assignment,
            options.out,
            jobs=options.jobs,
            seed=options.seed,
            trust=options.trust_submissions,
            people=export.read_roster(options.roster) if options.roster else None,
            variants=options.variants,
        )
    except (jail.NoJail, WorkerError, batch.NotAllMarked, batch.UnsoundPaper, KeyError, ValueError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    if options.json:
        print(export.as_text(found), end="")
    else:
        _print_table(found, options.out)
    return 0


def grade(
    submissions: Path,
    assignment: str,
    out: Path,
    *,
    jobs: int | None = None,
    seed: int | None = None,
    trust: bool = False,
    people: dict | None = None,
    variants: int | None = None,
    limits: Limits | None = None,
) -> dict:
    """Grade everything at a place, and write every export.

    Parameters
    ----------
    submissions
        See `intake.find_submissions`.
    assignment
        See `assignment.load_assignment`.
    out
        The results' folder.
    jobs
        How many at a time; None: as many as there are cores.
    seed
        Of the inputs; None: the folder's own, or a new one.
    trust
        Whether to go on without a jail where none works.
    people
        See `export.read_roster`.
    variants
        The seed from which learners' notebooks were written; None: everybody has the course's own.

    Returns
    -------
    dict
        What ``results.json`` holds.

    Raises
    ------
    NoJail
        If there is none and ``trust`` is false.
    UnsoundPaper
        If the course's own solution does not get all points here.
    NotAllMarked
        If the grader failed on some; the others' results are written.
    """
    from tqdm import tqdm

    if jobs is not None and jobs < 1:
        raise ValueError(f"--jobs {jobs}: it is 1 or more")
    if out.resolve().is_relative_to(submissions.resolve()):
        raise ValueError(f"--out {out} is inside of {submissions}, where it would be taken for a submission")
    if variants is not None and not people:
        raise ValueError("--variants needs --roster: constants were drawn by the ids in it")
    started = datetime.now(UTC)
    found, work = find_submissions(submissions), load_assignment(assignment)
    place = jail.choose(trust=trust)
    if place.kind == "none":
        print(f"warning: {batch.UNPROTECTED}", file=sys.stderr)
    seed = batch.kept_seed(out, seed=seed)
    paper = prepare(work.exercises, seed=seed, setup=work.setup, hidden=work.hidden)
    limits = limits or Limits()
    papers = {}
    if variants is not None:
        ids = learners(found, people)
        papers = own_papers(paper, ids, variants=variants, seed=seed, hidden=work.hidden)
    marker = batch.Marker(assignment, paper, work.stubs, work.reference, place, limits, papers)
    quiet = os.environ.get("TLCOURSE_PROGRESS") == "0"
    with tqdm(total=len(found), unit="submission", disable=quiet) as bar:
        graded = batch.grade_all(marker, found, out, jobs=jobs or _cores(), tick=bar.update)
    results, unmarked = graded.pop("results"), graded["unmarked"]
    record = {
        "format": export.FORMAT,
        "assignment": assignment,
        "title": work.title,
        "max_score": paper.max_score,
        "jail": place.kind,
        "warning": batch.UNPROTECTED if place.kind == "none" else "",
        "submissions": results,
    }
    audit = {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": (out / "seed")
        .read_text(encoding="utf-8")
        .strip(),  # as text: it has more digits than JSON's numbers keep
        "variants": variants,
        "key": paper.key,
        "jail": {"kind": place.kind, "program": place.program, **graded},
        "limits": as_record(limits),
        "versions": _versions(),
        "grader": _digest_of_grader(),
        "submissions": [{"id": r["id"], "name": r["name"], "digest": r["digest"]} for r in results],
    }
    export.write_all(record, out, audit=audit, people=people)
    if unmarked:
        listed = "; ".join(f"{name} ({error})" for name, error in sorted(unmarked.items()))
        raise batch.NotAllMarked(f"{len(unmarked)} could not be marked, through a fault of the grader: {listed}")
    return record


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _versions() -> dict[str, str]:
    import tlcourse

    found = {name: metadata.version(name) for name in VERSIONS_OF}
    return found | {
        "tlcourse": tlcourse.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def _digest_of_grader() -> str:
    """SHA-256 of the grader's own code and of the checks that it judges by."""
    paths = [path for folder in (FOLDER, FOLDER.parent / "checks") for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in paths)).hexdigest()


def _print_table(record: dict, out: Path) -> None:
    if record["warning"]:
        print(record["warning"])
    for result in record["submissions"]:
        tasks = ", ".join(f"{task['id']} {task['status']}" for task in result["tasks"])
        print(f"{result['score']:6g} of {result['max_score']:g}  {result['id']}: {result['problem'] or tasks}")
    print(f"{len(record['submissions'])} graded; tables, feedback and audit are in {out}")
