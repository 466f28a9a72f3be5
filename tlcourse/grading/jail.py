"""Where a stranger's code runs: bubblewrap, else plain namespaces, else a container, else nowhere.

bubblewrap, namespaces
    No network, no other process, and of the disk what Python needs, read-only, beside a small /tmp in memory. They
    share the kernel with everything else: a hole in it is a way out.
container
    The same from Podman or Docker, with their limits; a fresh one a submission. The kernel is shared, and whoever may
    talk to the Docker daemon is root on this machine.
none
    ``--trust-submissions``: a child of the grader, as its user, with limits on what a process takes. It reads and
    writes what its user may, other submissions' results and the solutions among them.

None of them hides the processor's caches and timing, and none keeps an answer from using the processor and memory that
it is allowed. `prove` attacks the one that is chosen.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Jail", "NoJail", "View", "candidates", "choose", "command", "environment", "is_root", "outer", "why_not"]

Kind = Literal["bubblewrap", "namespaces", "container", "none"]
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
SCRATCH = "/tmp"  # inside of every jail: in memory, private, the only place to write
COURSE = "/course"  # where the jail has the course's library, without solutions
FIRST_UID = 61_000  # of the users that answers run as where the grader is root; one a slot, so that limits are its own
EMPTY_IMAGE = "tlcourse-empty"
HOW_TO_GET_ONE = (
    "Install bubblewrap (`apt install bubblewrap`, `dnf install bubblewrap`), or allow user namespaces, or install "
    "Podman or Docker. On macOS and Windows, run the grader in a Linux machine or WSL. `--trust-submissions` runs "
    "answers as you, with all you may do; each result then says so."
)


class NoJail(RuntimeError):
    """No jail works on this machine; the text says what was tried, and what to do."""


@dataclass(frozen=True)
class Jail:
    """A jail that was tried on this machine and ran a program.

    Attributes
    ----------
    kind
        What it is built from.
    program
        The program that builds it, or "".
    warm
        Whether submissions may share a starter, each in namespaces of its own, if the machine allows those.
    """

    kind: Kind
    program: str = ""
    warm: bool = False


@dataclass(frozen=True)
class View:
    """What a jail shows of the disk, read-only.

    Attributes
    ----------
    course
        The folder that holds the library's copy for the jail; it becomes ``/course``.
    hidden
        Folders that are empty inside.
    scratch
        Bytes of /tmp, which is in memory.
    memory, processes
        Limits on everything in it together, for a container; for the other kinds the supervisor watches.
    """

    course: Path
    hidden: tuple[Path, ...] = ()
    scratch: int = 64_000_000
    memory: int = 3_000_000_000
    processes: int = 64

    def binds(self) -> list[tuple[str, str]]:
        """Pairs (here, there)."""
        pythons = {str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix)} | {sys.prefix, sys.base_prefix}
        inside = [path for path in sorted(pythons) if not path.startswith("/usr/") and path not in ("/", "/usr")]
        system = [path for path in (*SYSTEM, *SETTINGS) if os.path.exists(path) and not os.path.islink(path)]
        return [(path, path) for path in (*system, *inside)] + [(str(self.course), COURSE)]

    def links(self) -> list[tuple[str, str]]:
        """Pairs (to, at): ``/bin`` is a link to ``usr/bin`` on most systems."""
        return [(os.readlink(path), path) for path in SYSTEM if os.path.islink(path)]

    def masked(self) -> list[str]:
        """The hidden folders that would be seen otherwise."""
        shown = [Path(here) for here, _ in self.binds()]
        return [str(path) for path in self.hidden if path.is_dir() and any(path.is_relative_to(s) for s in shown)]


def candidates(trust: bool = False) -> list[Jail]:
    """What this machine might have, in the order of choice; nothing is started."""
    found = []
    for kind, names in (
        ("bubblewrap", ("bwrap",)),
        ("namespaces", ("unshare",)),
        ("container", ("podman", "docker")),
    ):
        found += [Jail(kind, path, kind != "container") for path in map(shutil.which, names) if path]
    return found + ([Jail("none")] if trust else [])


def choose(*, trust: bool = False) -> Jail:
    """The first jail in which a Python of this environment runs.

    Parameters
    ----------
    trust
        Whether to run answers unprotected where no jail works.

    Raises
    ------
    NoJail
        If none works and ``trust`` is false.
    """
    tried = []
    for jail in candidates(trust):
        reason = why_not(jail)
        if reason is None:
            return jail
        tried.append(f"{jail.program or jail.kind}: {reason}")
    way_on = HOW_TO_GET_ONE
    if tried and Path(sys.prefix).resolve().is_relative_to(SCRATCH):
        way_on = (
            f"{sys.prefix!r} lies below {SCRATCH}, which a jail replaces by one of its own: put the clone elsewhere."
        )
    raise NoJail(f"no jail works on this machine ({'; '.join(tried) or 'none is installed'}). {way_on}")


def why_not(jail: Jail) -> str | None:
    """Try a jail: None where a Python of this environment ran in it; else the reason, on a line."""
    if jail.kind == "container" and (problem := _prepare_image(jail.program)):
        return problem
    with tempfile.TemporaryDirectory(prefix="tlcourse-root-") as root, tempfile.TemporaryDirectory() as course:
        python = ["-S", "-c", "print('in')"]
        line = command(jail, View(Path(course)), python, root=Path(root), name=f"tlcourse-try-{os.getpid()}")
        try:
            ended = subprocess.run(
                line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL, env=outer()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if ended.stdout.strip() == "in":
        return None
    return (ended.stderr.strip().splitlines() or [f"it ended with {ended.returncode}"])[-1]


def command(jail: Jail, view: View, arguments: list[str], *, root: Path, name: str) -> list[str]:
    """The command line that runs ``python arguments`` in the jail.

    Parameters
    ----------
    root
        An empty folder, for the jail of plain namespaces to build on.
    name
        Of the container, to end it by.
    """
    python = [sys.executable, "-s", "-P", "-B", *arguments]
    return {
        "bubblewrap": _bubblewrap,
        "namespaces": _namespaces,
        "container": _container,
        "none": lambda jail, view, python, root, name: python,
    }[jail.kind](jail, view, python, root, name)


def environment(course: str = COURSE) -> dict[str, str]:
    """All that the jail's processes inherit: one thread each, no device, nothing of the grader's own."""
    return {
        "PATH": os.defpath,
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "LANG": "C.UTF-8",
        "USER": "learner",
        "PYTHONPATH": course,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": SCRATCH,
        "TLCOURSE_HOME": SCRATCH,
        "TLCOURSE_CACHE": f"{SCRATCH}/cache",
        "TLCOURSE_PROGRESS": "0",
        "HF_HUB_OFFLINE": "1",
    }


def is_root() -> bool:
    """Whether this is root outside of any user namespace, whom no limit of processes binds."""
    if os.geteuid() != 0:
        return False
    try:
        return Path("/proc/self/uid_map").read_text(encoding="utf-8").split() == ["0", "0", "4294967295"]
    except OSError:
        return True


def _bubblewrap(jail: Jail, view: View, python: list[str], root: Path, name: str) -> list[str]:
    made = [jail.program, "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", "grader"]
    # Root needs no user namespace, and would stay unlimited in one; the worker becomes another user before it runs
    # answers.
    made += [] if is_root() else ["--unshare-user"]
    made += ["--die-with-parent", "--new-session", "--clearenv"]
    for key, value in environment().items():
        made += ["--setenv", key, value]
    # Folders that lead to another are made for their maker alone, unless told: answers run as somebody else.
    above = dict.fromkeys(str(path) for _, there in view.binds() for path in reversed(Path(there).parents))
    for path in [path for path in above if path != "/"]:
        made += ["--perms", "0755", "--dir", path]
    for here, there in view.binds():
        made += ["--ro-bind", here, there]
    for to, at in view.links():
        made += ["--symlink", to, at]
    for path in view.masked():
        made += ["--size", "4096", "--perms", "0755", "--tmpfs", path, "--remount-ro", path]
    made += ["--proc", "/proc", "--dev", "/dev"]
    for path in (SCRATCH, "/dev/shm"):
        made += ["--size", str(view.scratch), "--perms", "1777", "--tmpfs", path]
    return [*made, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH, *python]


def _namespaces(jail: Jail, view: View, python: list[str], root: Path, name: str) -> list[str]:
    plan = {
        "root": str(root),
        "binds": view.binds(),
        "links": view.links(),
        "hidden": view.masked(),
        "scratch": view.scratch,
        "environment": environment(),
    }
    user = [] if is_root() else ["--user", "--map-root-user"]
    # `unshare` does not end with the grader by itself.
    ending = shutil.which("setpriv")
    before = [ending, "--pdeathsig", "KILL"] if ending else []
    builder = Path(__file__).with_name("confine.py")
    made = [*before, jail.program, *user, "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    return [*made, sys.executable, "-I", "-S", "-B", str(builder), json.dumps(plan), *python]


def _container(jail: Jail, view: View, python: list[str], root: Path, name: str) -> list[str]:
    made = [jail.program, "run", "--rm", "--interactive", "--name", name, "--network", "none", "--read-only"]
    made += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", f"{FIRST_UID}:{FIRST_UID}"]
    made += ["--memory", str(view.memory), "--memory-swap", str(view.memory), "--pids-limit", str(view.processes)]
    made += ["--tmpfs", f"{SCRATCH}:rw,nosuid,nodev,size={view.scratch},mode=1777", "--shm-size", str(view.scratch)]
    for key, value in environment().items():
        made += ["--env", f"{key}={value}"]
    # A container's image is empty: it has the system's own folders, where a link becomes what it leads to.
    folders = [(path, path) for path in SYSTEM if os.path.islink(path)] + view.binds()
    for here, there in folders:
        made += ["--volume", f"{here}:{there}:ro"]
    for path in view.masked():
        made += ["--tmpfs", f"{path}:ro,size=4k"]
    return [*made, "--workdir", SCRATCH, EMPTY_IMAGE, *python]


def _prepare_image(program: str) -> str | None:
    """Make the empty image, which needs no download."""
    here = subprocess.run([program, "image", "inspect", EMPTY_IMAGE], capture_output=True, check=False)
    if here.returncode == 0:
        return None
    nothing = bytes(10_240)  # an empty tar archive
    made = subprocess.run([program, "import", "-", EMPTY_IMAGE], input=nothing, capture_output=True, check=False)
    if made.returncode == 0:
        return None
    return (made.stderr.decode(errors="replace").strip().splitlines() or ["the image could not be made"])[-1]


def outer() -> dict[str, str]:
    """What the program that builds a jail inherits."""
    kept = ("PATH", "HOME", "XDG_RUNTIME_DIR", "DOCKER_HOST", "CONTAINER_HOST")
    return {key: os.environ[key] for key in kept if key in os.environ} | {"LANG": "C.UTF-8"}
