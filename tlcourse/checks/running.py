"""Running an answer on drawn inputs: within a time budget, on copies, with its own line shown where it raises.

This keeps a learner's slip from hanging or confusing the notebook. It is no jail: whoever grades answers of others uses
`tlcourse.grading`.
"""

import contextlib
import copy
import ctypes
import io
import linecache
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcourse.checks.judging import Run, brief, mismatch
from tlcourse.checks.spec import AnswerError, Exercise, Inputs

__all__ = ["Trouble", "draws", "run_once"]

TICK = 0.05  # seconds between two looks at the time
PATIENCE = 6  # how much longer an answer may take by the clock, where the machine is busy or it sleeps


@dataclass(eq=False)
class Trouble(Exception):
    """Why an answer gave nothing to compare: ``kind`` is "not started", "raised", "too slow", "unfit" or "mutated"."""

    kind: str
    text: str
    inputs: Inputs

    def __str__(self) -> str:
        return self.text


class _TooSlow(BaseException):
    """Not an Exception, so that a learner's ``except Exception`` lets it through."""


def run_once(exercise: Exercise, answer: Any, inputs: Inputs) -> Run:
    """Run an answer on one draw.

    Raises
    ------
    Trouble
        If it raises, takes too long, changes its inputs, or returns what nothing can be compared with.
    """
    given, printed = copy.deepcopy(inputs), io.StringIO()
    try:
        with _one_thread(), _within(exercise.seconds), contextlib.redirect_stdout(printed):
            outputs = exercise.probe(answer, given)
    except NotImplementedError:
        raise Trouble("not started", "not started yet", inputs) from None
    except _TooSlow:
        text = f"`{exercise.entry}` was stopped after {exercise.seconds:g} seconds: does a loop in it never end?"
        raise Trouble("too slow", text, inputs) from None
    except AnswerError as error:
        raise Trouble("unfit", str(error), inputs) from None
    except Exception as error:  # whatever the learner's code raises is theirs to read
        raise Trouble("raised", _said(error, answer, exercise, printed.getvalue()), inputs) from None
    for name, value in inputs.items():
        if mismatch(given[name], value, tolerance=0.0) is not None:
            text = (
                f"`{exercise.entry}` overwrote its input `{name}`: it was {brief(value)} and is now "
                f"{brief(given[name])}. Work on a copy; the caller still needs it."
            )
            raise Trouble("mutated", text, inputs)
    with _one_thread():
        return Run(inputs, outputs, exercise.oracle(copy.deepcopy(inputs)))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from more, and threads that wait for each other on a busy machine cost much."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise `_TooSlow` in this thread when the time is over; a call into C is interrupted when it returns.

    What counts is the processor's time, which a busy machine does not lengthen, and for whoever only waits a multiple
    of it by the clock. Imports do not count and are never cut off: a half-loaded module would stay broken.
    """
    thread, lock, done, running = threading.get_ident(), threading.Lock(), threading.Event(), True

    def watch() -> None:
        used, clock, processor = 0.0, time.monotonic(), time.process_time()
        while not done.wait(TICK):
            spent = max(time.process_time() - processor, (time.monotonic() - clock) / PATIENCE)
            clock, processor = time.monotonic(), time.process_time()
            importing = _is_importing(thread)
            used += 0.0 if importing else spent
            if used > seconds and not importing:
                with lock:
                    if running:
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TooSlow))
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        with lock:
            running = False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)  # one that is still under way


def _is_importing(thread: int) -> bool:
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _said(error: Exception, answer: Any, exercise: Exercise, printed: str) -> str:
    """The exception with the line of the learner's own code at which it left."""
    frames = traceback.extract_tb(error.__traceback__)
    own = getattr(getattr(answer, "__code__", None), "co_filename", None)
    lines = [frame for frame in frames if frame.filename == own]
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    if not lines:
        return f"`{exercise.entry}` could not be used as the task asks: {said}"
    line = lines[-1]
    code = (line.line or linecache.getline(line.filename, line.lineno or 0)).strip()
    text = f"your code raised {said}\n  in line {line.lineno} of its cell{f': {code}' if code else ''}"
    if printed:
        text += "\nbefore that it printed:\n" + "\n".join(f"  {row}" for row in printed.splitlines()[-5:])
    return text


def draws(exercise: Exercise, seed: int) -> list[Inputs]:
    """The inputs of one check."""
    return [exercise.drawn(np.random.default_rng([seed, index])) for index in range(exercise.draws)]
