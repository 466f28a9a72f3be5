import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("course_setup", ROOT / "tools" / "setup.py")
course_setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(course_setup)
course_setup.VENV = ("-m", "venv", "--without-pip")  # pip takes seconds to unpack, and no test here needs it


def commands(python):
    """Stands for the installation: leaves a file in the environment, and a line for every run."""
    write = "import sys; from pathlib import Path; Path(sys.prefix, 'installed').touch(); open('runs', 'a').write('x')"
    return [[python, "-c", write]]


def runs(root):
    return len((root / "runs").read_text()) if (root / "runs").exists() else 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small checkout that was set up once; tests change copies made by `checkout`."""
    root = tmp_path_factory.mktemp("made") / "checkout"
    root.mkdir()
    for name in ("pyproject.toml", "requirements-data.txt"):
        shutil.copy(ROOT / name, root)
    assert course_setup.prepare(root, commands=commands)
    return root


@pytest.fixture
def checkout(made, tmp_path):
    """A copy of it in its old place, put back afterwards."""
    shutil.copytree(made, tmp_path / "kept", symlinks=True)
    yield made
    shutil.rmtree(made)
    shutil.copytree(tmp_path / "kept", made, symlinks=True)


def test_second_run_does_nothing_and_is_quick(checkout):
    before = runs(checkout)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        assert not course_setup.prepare(checkout, commands=commands)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3  # the quickest of five: other work on the machine is not what is tested
    assert runs(checkout) == before


def edit(name, old, new):
    def change(root):
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def break_interpreter(root):
    (root / ".venv/bin/python").unlink()
    (root / ".venv/bin/python").symlink_to("/nowhere/python")


CHANGES = {  # what happened -> is it installed again, is the environment made anew
    "dependency": (edit("pyproject.toml", '"timm>=', '"other>=1",\n"timm>='), True, False),
    "data pin": (edit("requirements-data.txt", "mlxtend==", "mlxtend2=="), True, False),
    "linter's settings": (edit("pyproject.toml", "[tool.ruff]", "[tool.ruff]\npreview = true"), False, False),
    "interrupted": (lambda root: (root / ".venv/.incomplete").touch(), True, True),
    "interpreter gone": (break_interpreter, True, True),
    "made by hand": (lambda root: (root / ".venv/.ready").unlink(), True, False),
    "made for another place": (edit(".venv/pyvenv.cfg", "/checkout/.venv", "/elsewhere/.venv"), True, True),
    "deleted": (lambda root: shutil.rmtree(root / ".venv"), True, True),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changed_decides(case, checkout):
    change, again, anew = CHANGES[case]
    old = checkout / ".venv" / "of-the-old-environment"
    old.touch()
    before = runs(checkout)
    change(checkout)
    if case == "made for another place":
        (checkout / ".venv/.ready").unlink()  # moved environments are looked at when something is to be done
    assert course_setup.prepare(checkout, commands=commands) == again
    assert runs(checkout) == before + again
    assert old.exists() != anew
    assert course_setup.is_ready(checkout) and (checkout / ".venv/installed").exists()


def test_a_failed_installation_is_not_ready_and_heals(checkout):
    (checkout / ".venv/.ready").unlink()
    with pytest.raises(course_setup.SetupError, match="failed; its message is above"):
        course_setup.prepare(checkout, commands=lambda python: [[python, "-c", "raise SystemExit(3)"]])
    assert not course_setup.is_ready(checkout)
    assert course_setup.prepare(checkout, commands=commands)
    assert course_setup.is_ready(checkout)


def test_a_killed_installation_heals(checkout):
    """The real script, killed in the middle of an installation."""
    (checkout / ".venv/.ready").unlink()
    program = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tools")!r})
import setup
setup.prepare(Path({str(checkout)!r}), commands=lambda python: [["kill", "-9", str(os.getpid())]])
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode == -9
    assert not course_setup.is_ready(checkout)
    assert course_setup.prepare(checkout, commands=commands)


def test_two_at_once_install_once(checkout):
    (checkout / ".venv/.ready").unlink()
    before = runs(checkout)
    slow = [["sleep", "0.5"]]
    done = []
    threads = [
        threading.Thread(
            target=lambda: done.append(course_setup.prepare(checkout, commands=lambda p: slow + commands(p)))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, True] and runs(checkout) == before + 1


def engine_commands(python, packages):
    """Stands for the installation of the grading engines, and sees that what `.venv` has can be imported."""
    write = f"import of_the_course; open('engines', 'a').write('{len(packages)} ')"
    return [[python, "-c", write]]


def test_the_engines_are_made_once_and_on_top_of_the_environment(checkout):
    (packages,) = (checkout / ".venv").glob("lib/python*/site-packages")
    (packages / "of_the_course.py").touch()
    assert course_setup.prepare_engines(checkout, commands=engine_commands)
    assert not course_setup.prepare_engines(checkout, commands=engine_commands)
    assert (checkout / "engines").read_text() == "2 "
    assert (course_setup.engines(checkout) / "bin" / "python").exists()
    assert course_setup.is_ready(checkout)


@pytest.mark.parametrize("case", ["dependency", "deleted"])
def test_the_engines_follow_the_environment(case, checkout):
    (packages,) = (checkout / ".venv").glob("lib/python*/site-packages")
    (packages / "of_the_course.py").touch()
    assert course_setup.prepare_engines(checkout, commands=engine_commands)
    old = course_setup.engines(checkout) / "old"
    old.touch()
    CHANGES[case][0](checkout)
    assert course_setup.prepare(checkout, commands=commands)
    (packages / "of_the_course.py").touch()
    assert course_setup.prepare_engines(checkout, commands=engine_commands)
    assert not old.exists()


def test_engines_that_could_not_be_installed_are_tried_again(checkout):
    with pytest.raises(course_setup.SetupError, match="of_the_course.*failed; its message is above"):
        course_setup.prepare_engines(checkout, commands=engine_commands)  # nothing of that name is there
    (packages,) = (checkout / ".venv").glob("lib/python*/site-packages")
    (packages / "of_the_course.py").touch()
    assert course_setup.prepare_engines(checkout, commands=engine_commands)


def test_pip_is_asked_for_the_extra():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((python, *command),) = course_setup.engine_commands("python", project["optional-dependencies"]["exports"])
    assert (python, command[:3]) == ("python", ["-m", "pip", "install"])
    assert {name.partition(">")[0] for name in command[3:]} == {"nbgrader", "otter-grader"}


def test_old_python_is_told_what_to_do():
    with pytest.raises(course_setup.SetupError, match=r"needs Python 3\.11 or newer, .* is 3\.9\. .*make PYTHON="):
        course_setup.check_python((3, 9))
    course_setup.check_python((3, 11))


def test_python_without_venv_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(course_setup.SetupError, match="apt install python3-venv"):
        course_setup.check_python()


def test_errors_are_told_without_a_traceback(monkeypatch, capsys):
    def prepare():
        raise course_setup.SetupError("the disk is full")

    monkeypatch.setattr(course_setup, "prepare", prepare)
    assert course_setup.main() == 1
    assert capsys.readouterr().err == "[set-up] the disk is full\n"


def test_only_the_standard_library_is_imported():
    program = f"import runpy, sys; runpy.run_path({str(ROOT / 'tools/setup.py')!r}); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    top = {name.partition(".")[0] for name in ended.stdout.split()}
    assert top <= {*sys.stdlib_module_names, "__main__"}


def test_help_names_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = [line for line in makefile.splitlines() if line.startswith(".PHONY:")]
    command = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sorted(line.split()[1] for line in printed.splitlines()) == sorted(phony.split()[1:])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.slow
def test_make_lab_serves_every_lesson():
    port = free_port()
    arguments = f"LAB_ARGS=--no-browser --ServerApp.port={port} --IdentityProvider.token=secret"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # pip may run
    lab = subprocess.Popen(
        ["make", "lab", arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        listing = wait_for(f"http://127.0.0.1:{port}/api/contents/notebooks?token=secret", lab)
        for lesson in (ROOT / "notebooks").glob("*.ipynb"):
            assert f'"{lesson.name}"' in listing
    finally:
        os.killpg(lab.pid, 15)
        printed = lab.communicate(timeout=30)[0].decode()
    assert f":{port}/lab/tree/notebooks/00_start_here.ipynb" in printed


def wait_for(address, process):
    for _ in range(120):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            if process.poll() is not None:
                pytest.fail(f"make lab ended: {process.stdout.read().decode()}")
            time.sleep(0.5)
    return pytest.fail("make lab did not answer within a minute")
