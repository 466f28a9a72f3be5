"""A certificate of what was passed, with the answers in it, which an instructor re-checks by running them again.

It proves nothing by itself: anybody can write such a file. What counts is that the answers in it pass again, on inputs
that nobody has seen.
"""

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tlcourse
from tlcourse.checks.records import read_progress
from tlcourse.checks.spec import find

__all__ = ["CertificateError", "Rerun", "make_certificate", "rerun", "verify"]

FORMAT = 1
SECONDS = 120  # for one answer, the start of Python included


class CertificateError(Exception):
    """A certificate that cannot be read or made, and why."""


@dataclass(frozen=True)
class Rerun:
    """One answer, run again: the check's state and text, such as "passed"."""

    task: str
    state: str
    text: str


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
        | {"answer": kept.answer}
        for task in progress.tasks
        if (kept := progress.records.get(task.id)) and kept.passed
    ]
    if not tasks:
        raise CertificateError("no task has passed its self-check yet, so there is nothing to certify")
    made = {"format": FORMAT, "name": name.strip(), "course": tlcourse.__version__, "tasks": tasks}
    return json.dumps({**made, "digest": _digest(made)}, indent=1, ensure_ascii=False) + "\n"


def verify(path: str | Path, *, seed: int | None = None) -> tuple[str, list[Rerun]]:
    """Run every answer of a certificate against its check, on fresh inputs, each in a process of its own.

    The processes are *no jail*: read what is in the file before, or let `tlcourse.grading` run it.

    Parameters
    ----------
    seed
        Draws the inputs; None: fresh ones.

    Returns
    -------
    The name on the certificate, and what each answer did.

    Raises
    ------
    CertificateError
        If the file cannot be read, or was changed after it was made.
    """
    made = _read(path)
    seed = secrets.randbits(32) if seed is None else seed
    return made["name"], [_run_again(task["task"], task["answer"], seed) for task in made["tasks"]]


def rerun(task: str, source: str, seed: int) -> Rerun:
    """Run one answer in this process; for the process that `verify` starts."""
    import contextlib
    import io

    from tlcourse.checks.selfcheck import try_answer

    exercise, namespace = find(task), {"__name__": "answer"}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(source, f"<answer {task}>", "exec"), namespace)  # noqa: S102 - the instructor has said so
    except Exception as error:  # whatever a stranger's code raises
        return Rerun(task, "raised", f"{task}: its cell raised {type(error).__name__}: {error}")
    verdict = try_answer(exercise, namespace.get(exercise.entry), seed=seed)
    return Rerun(task, verdict.state, verdict.text)


def _run_again(task: str, source: str, seed: int) -> Rerun:
    if not source.strip():
        return Rerun(task, "no source", f"{task}: no source was recorded, so that it cannot be run again")
    with tempfile.TemporaryDirectory() as folder:
        course = str(Path(tlcourse.__file__).parents[1])
        paths = os.pathsep.join(filter(None, [course, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "TLCOURSE_HOME": folder, "TLCOURSE_PROGRESS": "0", "PYTHONPATH": paths}
        program = (
            "import json, sys; from tlcourse.checks.certificate import rerun; "
            "print('\\n' + json.dumps(vars(rerun(**json.load(sys.stdin)))))"
        )
        try:
            ended = subprocess.run(
                [sys.executable, "-c", program],
                input=json.dumps({"task": task, "source": source, "seed": seed}),
                capture_output=True,
                text=True,
                cwd=folder,
                env=environment,
                timeout=SECONDS,
                check=False,
            )
            return Rerun(**json.loads(ended.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            return Rerun(task, "too slow", f"{task}: stopped after {SECONDS} seconds")
        except (IndexError, ValueError, TypeError):
            last = (ended.stderr.strip().splitlines() or [f"it ended with status {ended.returncode}"])[-1]
            return Rerun(task, "raised", f"{task}: its process gave no verdict: {last}")


def _read(path: str | Path) -> dict:
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
        digest = made.pop("digest")
        if made["format"] != FORMAT:
            raise ValueError(f"its format is {made['format']}, this version reads {FORMAT}")
        for task in made["tasks"]:
            if not (isinstance(task["answer"], str) and find(task["task"])):
                raise ValueError(f"the answer to {task['task']} is no text")
        str.strip(made["name"])
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CertificateError(f"{path} is no certificate of this course, or is damaged ({error})") from error
    if digest != _digest(made):
        raise CertificateError(f"{path} was changed after it was made: ask for it again")
    return made


def _digest(made: dict) -> str:
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
