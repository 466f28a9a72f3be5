"""Make `.venv` ready, once: ``make`` runs this before anything else, with the standard library alone.

A stamp in the environment holds a hash of what was asked for (the project's dependencies and the
pinned data); while it is right, nothing is installed. A marker lies there while an
installation is under way: where it is found, the last one was interrupted and the environment is
made anew.

``tools/setup.py engines`` also makes `.venv/engines`, for the tests of the exports: Otter-Grader and
nbgrader on top of what is in `.venv`. They are apart because nbgrader adds itself to every JupyterLab
that it is installed beside.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)
VENV = ("-m", "venv")
NEEDED_GB = 8  # PyTorch with its CUDA libraries, unpacked, and room for pip to work


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


def prepare(root: Path = ROOT, *, commands: "Callable[[str], list[list[str]]] | None" = None) -> bool:
    """Make the environment ready and return whether anything had to be done.

    Parameters
    ----------
    root
        The checkout: `.venv` is made in it.
    commands
        Given the environment's interpreter, the commands that fill it; None: the course's own.

    Raises
    ------
    SetupError
        If Python is too old, cannot make virtual environments, or a command fails.
    """
    if is_ready(root):
        return False
    with _one_at_a_time(root):
        if is_ready(root):  # another make did it while this one waited
            return False
        started = time.monotonic()
        _make_environment(root)
        python = str(interpreter(root))
        for command in (commands or install_commands)(python):
            print("[set-up]", " ".join(command[1:]), flush=True)
            _run(command, root)
        _stamp(root).write_text(wanted(root), encoding="utf-8")
        _marker(root).unlink()
        print(f"[set-up] ready after {time.monotonic() - started:.0f} s", flush=True)
    return True


def prepare_engines(
    root: Path = ROOT, *, commands: "Callable[[str, list[str]], list[list[str]]] | None" = None
) -> bool:
    """Make the environment of the grading engines ready, in a `.venv` that is; return whether anything had to be done.

    Parameters
    ----------
    root
        The checkout.
    commands
        Given the engines' interpreter and what to install, the commands that do it; None: pip.

    Raises
    ------
    SetupError
        If a command fails.
    """
    import tomllib

    folder = engines(root)
    stamp = folder / ".ready"
    with _one_at_a_time(root):
        if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted(root):
            return False
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        python = str(folder / "bin" / "python")
        _run([str(interpreter(root)), "-m", "venv", "--without-pip", str(folder)], root)
        (packages,) = folder.glob("lib/python*/site-packages")
        # With this line the new interpreter sees what `.venv` has, pip included, which takes it for installed.
        course = root / ".venv" / packages.relative_to(folder)
        (packages / "course.pth").write_text(f"{course}\n", encoding="utf-8")
        for command in (commands or engine_commands)(python, project["optional-dependencies"]["exports"]):
            print("[set-up]", " ".join(command[1:]), flush=True)
            _run(command, root)
        stamp.write_text(wanted(root), encoding="utf-8")
        print(f"[set-up] the engines are ready after {time.monotonic() - started:.0f} s", flush=True)
    return True


def is_ready(root: Path) -> bool:
    """Whether the environment is whole, works, and holds what is asked for now."""
    if _marker(root).exists() or not _stamp(root).exists() or not interpreter(root).exists():
        return False
    return _stamp(root).read_text(encoding="utf-8") == wanted(root) and _works(root)


def wanted(root: Path) -> str:
    """Return the hash of all that a ready environment depends on."""
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    parts = {key: project.get(key) for key in ("build-system", "project")}  # not the linter's settings
    parts["data"] = (root / "requirements-data.txt").read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def install_commands(python: str) -> list[list[str]]:
    """Return the commands that fill the environment with the course."""
    return [
        [python, "-m", "pip", "install", "--editable", ".[lab,test]"],
        [python, "-m", "tlcourse", "fetch"],
    ]


def engine_commands(python: str, packages: "list[str]") -> list[list[str]]:
    """Return the commands that fill the environment of the engines."""
    return [[python, "-m", "pip", "install", *packages]]


def interpreter(root: Path) -> Path:
    """Return the environment's Python."""
    return root / ".venv" / "bin" / "python"


def engines(root: Path) -> Path:
    """Return the folder of the engines' environment, which goes when `.venv` is made anew."""
    return root / ".venv" / "engines"


def check_python(version: "tuple[int, ...]" = sys.version_info[:2]) -> None:
    """Raise `SetupError` unless this Python is new enough and can make virtual environments."""
    if version < OLDEST:
        raise SetupError(
            f"the course needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and {sys.executable} is "
            f"{version[0]}.{version[1]}. Name another one: `make PYTHON=python3.12 ...`"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments (its venv module is missing). "
            "On Debian or Ubuntu: `sudo apt install python3-venv`."
        ) from None


def _run(command: "list[str]", root: Path) -> None:
    if subprocess.run(command, cwd=root, check=False).returncode:
        raise SetupError(
            f"`{' '.join(command)}` failed; its message is above. The next `make` starts anew. "
            "Most often the network or the disk is the cause."
        )


def _make_environment(root: Path) -> None:
    folder = root / ".venv"
    if folder.exists() and (_marker(root).exists() or not _works(root)):
        print("[set-up] .venv is incomplete or broken: making it anew", flush=True)
        shutil.rmtree(folder)
    if not folder.exists():
        free = shutil.disk_usage(root).free / 1e9
        if free < NEEDED_GB:
            print(f"[set-up] warning: {free:.1f} GB are free here, and up to {NEEDED_GB} are needed", flush=True)
        print("[set-up] the first set-up downloads PyTorch, Jupyter and the data, and takes minutes", flush=True)
        folder.mkdir()
        _marker(root).touch()
        made = subprocess.run([sys.executable, *VENV, str(folder)], check=False)
        if made.returncode:
            raise SetupError(f"{sys.executable} could not make {folder}; its message is above.")
    _marker(root).touch()


def _works(root: Path) -> bool:
    """Whether the interpreter starts and is new enough, and the environment was made for this place."""
    environment = root / ".venv"
    try:
        made_by = (environment / "pyvenv.cfg").read_text(encoding="utf-8")
        question = f"import sys; sys.exit(sys.version_info[:2] < {OLDEST})"
        answer = subprocess.run([str(interpreter(root)), "-I", "-c", question], capture_output=True, check=False)
    except OSError:
        return False
    # Scripts hold the path of the environment in their first line: one that was moved is broken.
    return answer.returncode == 0 and str(environment) in made_by


def _stamp(root: Path) -> Path:
    return root / ".venv" / ".ready"


def _marker(root: Path) -> Path:
    return root / ".venv" / ".incomplete"


@contextmanager
def _one_at_a_time(root: Path) -> "Iterator[None]":
    """Hold a lock that ends with the process, so that two makes do not fill one environment."""
    import fcntl

    folder = root / ".cache"
    folder.mkdir(exist_ok=True)
    with open(folder / "setup.lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("[set-up] another make is setting up; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(arguments: "tuple[str, ...]" = ()) -> int:
    """Run the set-up and return its exit status; ``engines`` asks for those as well."""
    try:
        check_python()
        prepare()
        if "engines" in arguments:
            prepare_engines()
    except SetupError as error:
        print(f"[set-up] {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n[set-up] interrupted; the next make starts anew", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.environ.pop("PYTHONHOME", None)  # would point the environment's interpreter elsewhere
    sys.exit(main(tuple(sys.argv[1:])))
