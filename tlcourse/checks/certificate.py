"""A certificate of what was passed, with the answers in it, which an instructor re-checks by running them again.

It proves nothing by itself: anybody can write such a file. What counts is that the answers in it pass again, on inputs
that nobody has seen: `tlcourse.grading.verify` runs them in the grader's jail.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path

import tlcourse
from tlcourse.checks.records import read_progress
from tlcourse.checks.spec import find

__all__ = ["CertificateError", "make_certificate", "read_certificate"]

FORMAT = 1
LARGEST = 4_000_000  # bytes


class CertificateError(Exception):
    """A certificate that cannot be read or made, and why."""


def make_certificate(name: str) -> str:
    """Everything that passed its self-check, with the answers' sources, as JSON.

    Raises
    ------
    CertificateError
        If the name is empty or nothing has been passed.
    ProgressError
        If a kept file cannot be read.
    """
    if not name.strip():
        raise CertificateError("a certificate needs a name: --certificate 'Ada Lovelace'")
    progress = read_progress()
    tasks = [
        {"task": task.id, "title": task.title, "points": task.points, "tries": kept.tries, "hints": kept.hints}
        | {"answer": kept.answer, "constants": kept.constants}
        for task in progress.tasks
        if (kept := progress.records.get(task.id)) and kept.passed
    ]
    if not tasks:
        raise CertificateError("no task has passed its self-check yet, so there is nothing to certify")
    made = {"format": FORMAT, "name": name.strip(), "course": tlcourse.__version__, "tasks": tasks}
    return json.dumps({**made, "digest": _digest(made)}, indent=1, ensure_ascii=False) + "\n"


def read_certificate(path: str | Path) -> dict:
    """What a certificate holds: ``name`` and ``tasks``, each with ``task`` (id), ``answer`` (source) and ``constants``.

    Raises
    ------
    CertificateError
        If it cannot be read, is no certificate, or was changed after it was made.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        made = json.loads(content.decode())
        digest = made.pop("digest")
        if made["format"] != FORMAT:
            raise ValueError(f"its format is {made['format']}, this version reads {FORMAT}")
        for task in made["tasks"]:
            find(task["task"]).variant(task["constants"])
            if not isinstance(task["answer"], str):
                raise ValueError(f"the answer to {task['task']} is no text")
        twice = [task for task, count in Counter(task["task"] for task in made["tasks"]).items() if count > 1]
        if twice:
            raise ValueError(f"the answer to {twice[0]} is there twice")
        str.strip(made["name"])
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CertificateError(f"{path} is no certificate of this course, or is damaged ({error})") from error
    if digest != _digest(made):
        raise CertificateError(f"{path} was changed after it was made: ask for it again")
    return made


def _digest(made: dict) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
