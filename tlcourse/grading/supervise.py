"""From outside: start a jail, hand it a job, and end it where it takes more time, memory or room than it may.

Nothing that comes back is believed: it is counted, cut into messages (`channel`) and passed on. Limits on one process
are set inside (`confine`); those on all of a submission's processes together are watched from here.
"""

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from tlcourse.grading import channel, jail
from tlcourse.grading.worker import JOB, SIZE

__all__ = ["Limits", "Outcome", "Worker", "WorkerError"]

Ending = Literal[
    "finished", "stopped", "too slow", "too much memory", "too many processes", "too much output", "malformed"
]
LOOK_EVERY = 0.05  # seconds
MOST_PATIENCE = 10  # times its limit that a job may take while others keep it from running
SLOWEST_START = 300.0


class WorkerError(RuntimeError):
    """The jail's own starter does not start: the environment's fault, never the submission's."""


@dataclass(frozen=True)
class Limits:
    """What a submission may take; a task's own seconds come on top of `patience`.

    Attributes
    ----------
    memory
        Bytes of a process's private memory, and of all of its processes together.
    processes, cpu_seconds, output, scratch, open_files
        Processes and threads at a time; processor seconds a process; bytes that come back a submission; bytes of files
        in /tmp; open files a process.
    patience
        Seconds that the first message may take, and by which a task may exceed its own.
    """

    memory: int = 3_000_000_000
    processes: int = 64
    cpu_seconds: int = 300
    output: int = 64_000_000
    scratch: int = 64_000_000
    open_files: int = 256
    patience: float = 20.0

    def inside(self) -> dict[str, int]:
        """What the worker sets for itself."""
        names = ("memory", "processes", "cpu_seconds", "open_files", "scratch")
        return {name: getattr(self, name) for name in names} | {"file": self.scratch}


@dataclass
class Outcome:
    """What a job gave: the messages that arrived, and how it ended."""

    messages: list[Any]
    ending: Ending
    seconds: float
    detail: str = ""


class Worker:
    """A jail with a starter in it that has loaded the course; it serves jobs one after the other.

    Parameters
    ----------
    place, view
        The jail, and what it shows.
    imports
        Modules that the starter loads.
    limits
        See `Limits`.
    slot
        Number of this worker among those that run at a time.
    """

    def __init__(self, place: jail.Jail, view: jail.View, *, imports: list[str], limits: Limits, slot: int = 0) -> None:
        self.place, self.view, self.limits, self.slot = place, view, limits, slot
        self._imports = imports
        self._process: subprocess.Popen | None = None
        self._starter: psutil.Process | None = None
        self._folder: tempfile.TemporaryDirectory | None = None
        self._name = ""
        self._nested = False
        self.starts = 0
        self.start_seconds = 0.0

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def warm(self) -> bool:
        """Whether jobs share the starter; known after the first start."""
        return self._nested

    def run(self, job: dict, *, seconds: float, most: int) -> Outcome:
        """Run one job.

        Parameters
        ----------
        job
            See `worker.run_job`.
        seconds
            That may pass between two messages, before `Limits.patience` is added.
        most
            Messages that an honest job sends.

        Raises
        ------
        WorkerError
            If the starter cannot be started.
        """
        if self._process is None:
            self._start()
        began = time.monotonic()
        message = channel.pack(job)
        try:
            outcome = self._talk(JOB + SIZE.pack(len(message)) + message, seconds + self.limits.patience, most)
        except BaseException:
            self.close()
            raise
        outcome.seconds = time.monotonic() - began
        if not self._nested or outcome.detail == "starter":
            self.close()
        return outcome

    def close(self) -> None:
        """End the jail and everything in it."""
        if self._process is None:
            return
        if self.place.kind == "container":
            subprocess.run([self.place.program, "kill", self._name], capture_output=True, check=False)
        # Without namespaces the starter adopts orphans, so it goes last, when nothing below it is left.
        until = time.monotonic() + 10
        while (family := self._family(self._process.pid)) and time.monotonic() < until:
            for process in reversed(family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process = None
        if self._folder is not None:
            self._folder.cleanup()

    def _start(self) -> None:
        began = time.monotonic()
        # A container has its own user, and whoever trusts submissions runs them as oneself.
        becomes = jail.is_root() and self.place.kind in ("bubblewrap", "namespaces")
        uid = jail.FIRST_UID + self.slot if becomes else None
        settings = {
            "imports": self._imports,
            "limits": self.limits.inside(),
            "uid": uid,
            "separate": self.place.warm,
        }
        self._folder = tempfile.TemporaryDirectory(prefix="tlcourse-root-")
        self._name = f"tlcourse-{uuid.uuid4().hex[:12]}"
        arguments = ["-m", "tlcourse.grading.worker", json.dumps(settings)]
        line = jail.command(self.place, self.view, arguments, root=Path(self._folder.name), name=self._name)
        unprotected = self.place.kind == "none"
        self._process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=jail.environment(str(self.view.course)) if unprotected else jail.outer(),
            cwd=self._folder.name,
            start_new_session=True,
            bufsize=0,
        )
        said = b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._process.stderr, selectors.EVENT_READ)
            while not said.endswith(b"\n") or b'"ready"' not in said:
                if not waiting.select(max(0.0, began + SLOWEST_START - time.monotonic())):
                    self.close()
                    raise WorkerError(f"the jail's starter was not ready after {SLOWEST_START:.0f} seconds")
                part = os.read(self._process.stderr.fileno(), 65_536)
                if not part:
                    self.close()
                    raise WorkerError(f"the jail's starter ended: {said.decode(errors='replace').strip()[-2_000:]}")
                said += part
        self._nested = json.loads(said.splitlines()[-1])["nested"]
        # Before any answer runs the family is a line, and the starter its last member.
        self._starter = (self._family(self._process.pid) or [psutil.Process(self._process.pid)])[-1]
        self.starts += 1
        self.start_seconds = time.monotonic() - began

    def _talk(self, message: bytes, seconds: float, most: int) -> Outcome:
        """Send a job; collect what comes until the starter says that it is over, watching meanwhile."""
        process, reader, messages = self._process, channel.Reader(), []
        unsent, received, said = memoryview(message), 0, b""
        ending: Ending = "finished"
        heard, next_look = time.monotonic(), 0.0
        deadline, used = heard + seconds, self._processor_seconds()
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdin, selectors.EVENT_WRITE)
            waiting.register(process.stdout, selectors.EVENT_READ)
            waiting.register(process.stderr, selectors.EVENT_READ)
            over = False
            while not over:
                ready = {key.fileobj for key, _ in waiting.select(LOOK_EVERY)}
                if process.stdin in ready:
                    try:
                        unsent = unsent[os.write(process.stdin.fileno(), unsent) :]
                    except BrokenPipeError:
                        unsent = unsent[:0]
                    if not unsent:
                        waiting.unregister(process.stdin)
                if process.stderr in ready:
                    part = os.read(process.stderr.fileno(), 65_536)
                    said = (said + part)[-1_000_000:]
                    # A container's two streams may come apart: there, wait until both end.
                    over = not part or (b'"done"' in said and self.place.kind != "container")
                # What the child wrote is all in the pipe when the starter says that it ended.
                while process.stdout in ready or over:
                    part = self._read(process.stdout)
                    if not part:
                        if part == b"" and not over:
                            waiting.unregister(process.stdout)
                        break
                    received += len(part)
                    if ending != "finished":
                        continue
                    if received > self.limits.output:
                        ending = "too much output"
                        break
                    try:
                        found = list(reader.feed(part))
                    except channel.ChannelError:
                        ending = "malformed"
                        break
                    if found:
                        messages += found
                        heard = time.monotonic()
                        deadline = heard + seconds
                    if len(messages) > most:  # each of them would have won it time
                        ending = "malformed"
                        break
                if over:
                    break
                now = time.monotonic()
                if ending == "finished" and now > deadline:
                    if now < heard + MOST_PATIENCE * seconds and self._starved(used, seconds):
                        deadline = now + 1.0
                    else:
                        ending = "too slow"
                if ending == "finished" and now > next_look:
                    ending = self._excess() or ending
                    next_look = now + LOOK_EVERY
                if ending != "finished" and not self._end_job():
                    return Outcome(messages, ending, 0.0, "starter")
                if now > deadline + 30:  # killed, and yet not over
                    return Outcome(messages, ending, 0.0, "starter")
        return self._judge(messages, ending, said, bool(unsent))

    def _judge(self, messages: list, ending: Ending, said: bytes, unsent: bool) -> Outcome:
        records = [line for line in said.splitlines() if b'"done"' in line]
        try:
            code = json.loads(records[-1])["code"] if records else None
        except (ValueError, KeyError, TypeError):
            code = None
        if ending == "finished" and code != 0:
            ending = "stopped"
        return Outcome(messages, ending, 0.0, "starter" if code is None or unsent else f"code {code}")

    @staticmethod
    def _read(pipe: Any) -> bytes | None:
        try:
            return os.read(pipe.fileno(), 1 << 20)
        except BlockingIOError:
            return None

    def _end_job(self) -> bool:
        """End what the starter's child is and has; False where the whole jail must go."""
        if not self._nested:
            return False
        children = self._family(self._starter.pid)
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return True

    def _starved(self, used: float, seconds: float) -> bool:
        """Whether a job that is late wants to run and hardly could: the machine's fault and not its own."""
        if self.place.kind == "container":
            return False
        wanting = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP, psutil.STATUS_WAKING)
        for process in self._watched():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() in wanting:
                    return self._processor_seconds() - used < seconds / 2
        return False

    def _processor_seconds(self) -> float:
        total = 0.0
        for process in self._watched():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total

    def _watched(self) -> list[psutil.Process]:
        """What may belong to the submission. Without namespaces of its own, its orphans are the jail's."""
        return self._family(self._starter.pid if self._nested else self._process.pid)

    def _excess(self) -> Ending | None:
        if self.place.kind == "container":
            return None  # its own limits hold; its processes are not ours to see
        family = self._watched()
        memory, tasks = 0, 0
        for process in family:
            with contextlib.suppress(psutil.Error, OSError):
                memory += process.memory_info().rss
                tasks += process.num_threads()
        if tasks > 2 * self.limits.processes:
            return "too many processes"
        if memory > self.limits.memory and self._proportional(family) > self.limits.memory:
            return "too much memory"
        return None

    @staticmethod
    def _proportional(family: list[psutil.Process]) -> int:
        """What they hold, where a page that several share counts once; slower to ask for."""
        total = 0
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    total += process.memory_full_info().pss
                except (psutil.AccessDenied, OSError):
                    total += process.memory_info().rss
        return total

    @staticmethod
    def _family(pid: int) -> list[psutil.Process]:
        try:
            return psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def as_record(limits: Limits) -> dict:
    """For the audit."""
    return asdict(limits)
