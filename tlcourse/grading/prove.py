"""``python -m tlcourse grade --doctor``: which jails this machine offers, and whether each one holds when it is
attacked.

Each attack is an answer that tries what a hostile one would, and reports what it got; whether it got anything is judged
from outside: by a listener that nobody may reach, a secret that nobody may read, files that nobody may change.
"""

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlcourse.grading import courseware, jail
from tlcourse.grading.supervise import Limits, Outcome, Worker, WorkerError

__all__ = ["Finding", "attack", "report", "survey"]

SMALL = Limits(memory=500_000_000, processes=32, patience=8.0, scratch=16_000_000, cpu_seconds=20)
PROBE = "def probe(answer, inputs):\n    return {'got': answer(inputs)}\n"


@dataclass(frozen=True)
class Finding:
    """One attack on one jail: whether it held, and what was seen."""

    jail: str
    attack: str
    held: bool
    seen: str


@dataclass(frozen=True)
class _Target:
    """What stands outside for attacks to reach."""

    folder: Path
    secret: str
    port: int
    addresses: list[str]
    reached: Callable[[], bool]

    def inputs(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "clone": str(courseware.PACKAGE.parent),
            "port": self.port,
            "addresses": self.addresses,
            "python": sys.prefix,
            "grader": os.getpid(),
            "user": os.getuid(),
        }


NETWORK = """
import socket
from contextlib import suppress
def answer(inputs):
    got = []
    for address in inputs["addresses"]:
        with suppress(OSError):
            socket.create_connection((address, inputs["port"]), timeout=1).close()
            got.append(address)
    return got
"""
READ = """
import os
from contextlib import suppress
def answer(inputs):
    got = []
    places = [inputs["folder"], inputs["clone"] + "/solutions", inputs["clone"] + "/sources", inputs["clone"] + "/.git"]
    for place in places:
        for folder, _, files in os.walk(place):
            for name in files[:50]:
                with suppress(OSError):
                    got.append(open(os.path.join(folder, name), errors="replace").read()[:2000])
    for process in ("self", "1", str(inputs["grader"]), str(os.getppid())):
        for name in ("environ", "cmdline"):
            with suppress(OSError):
                got.append(open(f"/proc/{process}/{name}", errors="replace").read()[:20000])
    return "".join(got)
"""
WRITE = """
import os
from contextlib import suppress
def answer(inputs):
    got = []
    own = [inputs["folder"], inputs["clone"], inputs["python"]]
    for folder in [*own, "/usr", "/course", "/", "/etc", "/dev", "/var/tmp"]:
        with suppress(OSError):
            path = os.path.join(folder, "tlcourse-was-here")
            open(path, "w").close()
            got.append(path)
            os.remove(path)
    return got
"""
DISK = """
import os
from contextlib import suppress
def answer(inputs):
    size, made = 0, []
    for number in range(64):
        try:
            with open(f"/tmp/{number}", "wb") as file:
                size += file.write(bytes(1_000_000))
        except OSError:
            break
        finally:
            made.append(f"/tmp/{number}")
    for path in made:
        with suppress(OSError):
            os.remove(path)
    return size
"""
FORK = """
import os, time
def answer(inputs):
    made = 0
    for _ in range(300):
        try:
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            made += 1
        except OSError:
            break
    return made
"""
MEMORY = """
from contextlib import suppress
def answer(inputs):
    held = []
    with suppress(MemoryError):
        for _ in range(40):
            held.append(bytearray(b"1") * 50_000_000)
    return len(held) * 50_000_000
"""
HIDDEN_MEMORY = """
import os
from contextlib import suppress
def answer(inputs):
    size = 0
    with suppress(OSError):
        for number in range(40):
            size += os.write(os.memfd_create(str(number)), bytes(15_000_000))
    return size
"""
PROCESSES = """
import os, signal
def answer(inputs):
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    try:
        os.kill(inputs["grader"], 0)
        return [len(seen), True]
    except OSError:
        return [len(seen), False]
"""
RIGHTS = """
import ctypes, os
def powers():
    return open("/proc/self/status").read().split("CapEff:")[1].split()[0].strip("0")
def answer(inputs):
    libc = ctypes.CDLL(None, use_errno=True)
    got = [name for name, call in {
        "user namespace": lambda: libc.unshare(0x10000000),
        "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
        "root": lambda: libc.setuid(0) or (0 if powers() else 1),
        "trace": lambda: libc.ptrace(16, os.getppid(), 0, 0),
    }.items() if call() == 0]
    return got
"""


def survey(*, trust: bool = False) -> tuple[str | None, list[Finding]]:
    """Attack every jail that this machine has.

    Returns
    -------
    The kind of the jail that the grader would choose, or None, and what was found.
    """
    chosen, findings = None, []
    for place in jail.candidates(trust):
        name = f"{place.kind} ({place.program})" if place.program else place.kind
        reason = jail.why_not(place)
        if reason is not None:
            findings.append(Finding(name, "start", False, reason))
            continue
        chosen = chosen or name
        findings += attack(place, name=name)
    return chosen, findings


def attack(place: jail.Jail, *, name: str = "", limits: Limits = SMALL) -> list[Finding]:
    """Try to break out of a jail.

    Parameters
    ----------
    place
        The jail.
    name
        How to call it in the findings.
    limits
        What it may take; the attacks try for more.
    """
    name = name or place.kind
    findings = []
    with _targets() as target, tempfile.TemporaryDirectory(prefix="tlcourse-course-") as folder:
        hidden = [courseware.PACKAGE.parent / part for part in ("solutions", "sources", ".git")]
        hidden += [path for path in [courseware.library_path()] if path]
        view = jail.View(
            courseware.copy_library(Path(folder)),
            hidden=tuple(hidden),
            scratch=limits.scratch,
            memory=limits.memory,
            processes=limits.processes,
        )
        with Worker(place, view, imports=["socket", "ctypes"], limits=limits) as worker:
            for title, source, judge in ATTACKS:
                try:
                    outcome = worker.run(_job(source, target), seconds=2.0, most=2)
                except WorkerError as error:
                    return [*findings, Finding(name, "start", False, str(error).splitlines()[-1])]
                held, seen = judge(_got(outcome), outcome, target, limits)
                findings.append(Finding(name, title, held, seen))
            mode = "one starter serves all submissions" if worker.warm else "a start for each submission"
            findings.append(Finding(name, "start", True, f"{worker.start_seconds:.1f} s; {mode}"))
    return findings


def report(chosen: str | None, findings: list[Finding], *, as_json: bool) -> int:
    """Print what was found.

    Returns
    -------
    The exit status: 0 where the jail that would be chosen held against everything.
    """
    sound = chosen is not None and all(finding.held for finding in findings if finding.jail == chosen)
    if as_json:
        print(json.dumps({"chosen": chosen, "sound": sound, "findings": [asdict(f) for f in findings]}, indent=1))
        return 0 if sound else 1
    for finding in findings:
        print(f"{'held' if finding.held else 'FELL':5} {finding.jail:32} {finding.attack:16} {finding.seen}")
    print(f"\nThe grader would choose: {chosen}." if chosen else f"\nNo jail works here. {jail.HOW_TO_GET_ONE}")
    print("A jail that holds against these attacks may still fall to a hole in the kernel, which it shares.")
    return 0 if sound else 1


@contextmanager
def _targets() -> Iterator[_Target]:
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="tlcourse-target-") as folder, socket.create_server(("", 0)) as server:
        Path(folder).chmod(0o777)  # a jail that lets somebody see it gets no help from its rights
        path = Path(folder) / "secret.txt"
        path.write_text(secret, encoding="utf-8")
        path.chmod(0o666)
        server.setblocking(False)
        seen = []

        def reached() -> bool:
            with suppress(BlockingIOError):
                seen.append(server.accept()[1])
            return bool(seen)

        addresses = ["127.0.0.1", *_own_addresses()]
        os.environ["TLCOURSE_SECRET"] = secret
        try:
            yield _Target(Path(folder), secret, server.getsockname()[1], addresses, reached)
        finally:
            del os.environ["TLCOURSE_SECRET"]


def _own_addresses() -> list[str]:
    import psutil

    found = [address.address for group in psutil.net_if_addrs().values() for address in group]
    return sorted({address for address in found if address.count(".") == 3} - {"127.0.0.1"})[:4]


def _job(source: str, target: _Target) -> dict:
    task = {"id": "00.0", "entry": "answer", "probe": ["proof", "probe"], "answer": source, "inputs": [target.inputs()]}
    return {"setup": [], "probes": {"proof": PROBE}, "tasks": [task]}


def _got(outcome: Outcome) -> Any:
    for message in outcome.messages:
        if isinstance(message, dict) and isinstance(message.get("value"), dict):
            return message["value"].get("got")
    return None


def _network(got, outcome, target, limits):
    reached = target.reached()
    return (
        not reached and not got,
        f"reached {', '.join(got)}" if got else f"{len(target.addresses)} addresses, none reached",
    )


def _read(got, outcome, target, limits):
    text = got if isinstance(got, str) else ""
    seen = [what for what, mark in (("a secret", target.secret), ("solutions", "BEGIN SOLUTION")) if mark in text]
    untouched = isinstance(got, str)
    return untouched and not seen, f"read {', '.join(seen)}" if seen else "no secret, no solution, no environment read"


def _write(got, outcome, target, limits):
    return got == [], f"wrote {', '.join(got)}" if got else "nothing outside of /tmp could be written"


def _disk(got, outcome, target, limits):
    return type(got) is int and got <= limits.scratch, f"{got} bytes, of {limits.scratch} allowed"


def _fork(got, outcome, target, limits):
    held = outcome.ending == "too many processes" or (type(got) is int and got <= limits.processes)
    return held, f"{got} processes, of {limits.processes} allowed; {outcome.ending}"


def _memory(got, outcome, target, limits):
    held = outcome.ending in ("too much memory", "stopped") or (type(got) is int and got <= limits.memory)
    return held, f"{got} bytes, of {limits.memory} allowed; {outcome.ending}"


def _hidden_memory(got, outcome, target, limits):
    return got == 0 or outcome.ending == "too much memory", f"{got} bytes that no limit counts"


def _processes(got, outcome, target, limits):
    if not isinstance(got, list):
        return False, f"the attack did not come back: {outcome.ending}"
    return got[0] <= 8 and not got[
        1
    ], f"{got[0]} processes seen; the grader could {'' if got[1] else 'not '}be signalled"


def _rights(got, outcome, target, limits):
    return got == [], f"got: {', '.join(got)}" if got else "no namespace, mount, trace or root"


ATTACKS = [
    ("network", NETWORK, _network),
    ("reading", READ, _read),
    ("writing", WRITE, _write),
    ("disk", DISK, _disk),
    ("processes", PROCESSES, _processes),
    ("rights", RIGHTS, _rights),
    ("memory", MEMORY, _memory),
    ("hidden memory", HIDDEN_MEMORY, _hidden_memory),
    ("fork bomb", FORK, _fork),
]
