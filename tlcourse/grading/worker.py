"""Inside of the jail: start once, and for each job run a learner's answers in a child that is thrown away.

The starter imports what the course needs (seconds) and then runs no learner's code. For each job it forks a child,
which reads the job, shuts itself in (`confine`: namespaces of its own, so that it sees neither the starter nor another
job; limits; no privileges), runs the answers and writes messages (`channel`) to standard output. When it ends, the
kernel ends everything that it left behind. What the starter itself has to say goes to standard error, which the child
does not have.

Nothing secret ever is in the starter's memory: it reads no job, so that a child, its copy, finds no other learner's.
Nor are expected values, seeds or solutions in a job.
"""

import contextlib
import copy
import io
import json
import os
import random
import struct
import sys
import time
import traceback
from importlib import import_module
from typing import Any

from tlcourse.grading import channel, confine

__all__ = ["main"]

SIZE = struct.Struct("<Q")
LONGEST_TEXT = 2_000
JOB = b"J"
MOST_FILES = 4_096  # that a starter could have open


def main(arguments: list[str]) -> None:
    """Serve jobs until standard input ends.

    Parameters
    ----------
    arguments
        One JSON text: ``imports`` (modules to load ahead), ``limits`` (see `confine.restrict`, and ``scratch``),
        ``uid`` (whom to become, or None), ``separate`` (whether each job must get namespaces of its own).
    """
    settings = json.loads(arguments[0])
    began = time.perf_counter()
    for name in settings["imports"]:
        import_module(name)
    nested = settings["separate"] and _can_separate(settings)
    if not nested:
        confine.adopt_orphans()
    _say(ready=True, nested=nested, seconds=round(time.perf_counter() - began, 3))
    import gc

    gc.collect()
    gc.freeze()  # what is loaded is shared with the children for as long as nobody touches it
    while os.read(0, 1) == JOB:
        noted, note = os.pipe()
        child = os.fork()
        if not child:
            os.close(noted)
            _serve(settings, nested, note)
        os.close(note)
        complete = os.read(noted, 1) == b"r"
        os.close(noted)
        _, status, usage = os.wait4(child, 0)
        if not nested:
            _end_orphans()
        _say(done=True, code=os.waitstatus_to_exitcode(status), cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3))
        if not (complete and nested):
            return  # the rest of a job may be in the pipe, or a learner's processes around


def _say(**record: Any) -> None:
    os.write(2, json.dumps(record).encode() + b"\n")


def _can_separate(settings: dict) -> bool:
    child = os.fork()
    if not child:
        with contextlib.suppress(OSError):
            confine.isolate(scratch=settings["limits"]["scratch"])
            confine.restrict(settings["limits"], uid=settings["uid"])
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _end_orphans() -> None:
    import psutil

    while left := psutil.Process().children(recursive=True):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _serve(settings: dict, nested: bool, note: int) -> None:
    """Never returns: the copy of the starter that this is must not go on as one."""
    try:
        job = channel.unpack(_read_exactly(SIZE.unpack(_read_exactly(SIZE.size))[0]))
        os.write(note, b"r")
        os.close(note)
        if nested:
            confine.isolate(scratch=settings["limits"]["scratch"])
            confine.stay_as_init()
        os.chdir("/tmp")
        confine.restrict(settings["limits"], uid=settings["uid"])
        output = _only_the_channel()
        run_job(job, lambda value: _write_all(output, channel.pack(value)))
        os._exit(0)
    except BaseException:
        with contextlib.suppress(BaseException):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(3)


def _only_the_channel() -> int:
    """Move the channel out of the way of `print`, and close everything else that this process was given."""
    output = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    os.closerange(3, output)
    os.closerange(output + 1, MOST_FILES)
    return output


def run_job(job: dict, send: Any) -> None:
    """Run the answers of one submission, and send what each probe returned.

    Parameters
    ----------
    job
        ``setup``: sources of the course's own cells; ``probes``: module -> source of its probes; ``tasks``: a list of
        dicts with ``id``, ``entry``, ``probe`` (module and name), ``answer`` (the learner's source, or None) and
        ``inputs`` (one dict a draw).
    send
        Takes plain data. First ``{"task", "begin"}``; then, for each draw, ``{"task", "draw", "value"}`` or
        ``"error"``.
    """
    probes = {}
    for name, source in job["probes"].items():
        probes[name] = {"__name__": name}
        exec(compile(source, name, "exec"), probes[name])
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for source in job["setup"]:
        exec(compile(source, "setup", "exec"), namespace)
    for task in job["tasks"]:
        _seed()
        printed = Tail()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            send({"task": task["id"], "begin": True})
            failure = _define(task, namespace)
            for number, inputs in enumerate(task["inputs"]):
                report = {"task": task["id"], "draw": number}
                try:
                    if failure is None:
                        given = copy.deepcopy(inputs)
                        value = probes[task["probe"][0]][task["probe"][1]](_answer(task, namespace), given)
                        changed = [name for name in inputs if not channel.same(given.get(name), inputs[name])]
                        outcome = {"error": _overwrote(task, changed)} if changed else {"value": value}
                        send(report | outcome | {"printed": printed.text()})
                    else:
                        send(report | {"error": failure, "printed": printed.text()})
                except BaseException as error:
                    send(report | {"error": describe(error, task["id"]), "printed": printed.text()})


def describe(error: BaseException, task: str) -> dict:
    """Say what an exception said, and in which line of the answer's cell; its own methods may be hostile."""
    found: dict[str, Any] = {"kind": "an exception", "message": "", "line": None}
    with contextlib.suppress(BaseException):
        found["kind"] = str(type(error).__name__)[:100]
        if isinstance(error, SyntaxError):
            found["line"] = error.lineno
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == _file(task):
                found["line"] = frame.lineno
        found["message"] = str(error)[:LONGEST_TEXT]
    return found


class Tail(io.TextIOBase):
    """What was printed, the beginning of it, for the learner to read. Nothing is parsed from it."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> int:
        """Keep it while there is room."""
        self._text += text[: LONGEST_TEXT - len(self._text)]
        return len(text)

    def text(self) -> str:
        """Give what was kept."""
        return self._text


def _define(task: dict, namespace: dict) -> dict | None:
    if task["answer"] is None:
        return {"kind": "missing", "message": "", "line": None}
    try:
        exec(compile(task["answer"], _file(task["id"]), "exec"), namespace)
    except BaseException as error:
        return describe(error, task["id"])
    return None


def _answer(task: dict, namespace: dict) -> Any:
    if task["entry"] not in namespace:
        raise NameError(f"the cell defines no {task['entry']!r}")
    return namespace[task["entry"]]


def _overwrote(task: dict, names: list[str]) -> dict:
    message = f"{task['entry']} overwrote its input {', '.join(names)}: work on a copy"
    return {"kind": "overwritten input", "message": message, "line": None}


def _seed() -> None:
    """Let the same submission give the same answers."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _file(task: str) -> str:
    return f"answer {task}"


def _read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            raise EOFError("the job ends before its end")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write_all(descriptor: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
