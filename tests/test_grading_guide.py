"""The guide's first ten minutes, as somebody has them who types what it says."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tlcourse.grading import jail

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
QUICK, _, REST = GUIDE.partition("## The command\n")
BLOCK = re.compile(r"```(sh|text)\n(.*?)```", re.DOTALL)
STEP = re.compile(r"^\*\*(\d+)\. ", re.MULTILINE)
NOT_HERE = (1, 2, 3)  # they need a network
LEFT_OUT = (".git", ".venv", "notebooks", "results", "__pycache__", "*_cache", "dist", "build")


def steps():
    """Number -> blocks: (kind, text)."""
    parts = STEP.split(QUICK)[1:]
    return {int(number): BLOCK.findall(text) for number, text in zip(parts[::2], parts[1::2], strict=True)}


def commands(kind="sh", text=GUIDE):
    return [line for found, block in BLOCK.findall(text) if found == kind for line in block.splitlines()]


def test_steps_are_numbered_in_a_row():
    assert list(steps()) == list(range(1, len(steps()) + 1))
    assert all(any(kind == "sh" for kind, _ in blocks) for blocks in steps().values())


def test_what_needs_a_network_names_what_there_is():
    """The address of the course, a target of the Makefile."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"git clone {project['urls']['Repository']}" in dict(steps()[1])["sh"]
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in QUICK
    assert dict(steps()[2])["sh"] == "make setup\n"
    assert re.search(r"^setup:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert "bubblewrap" in jail.HOW_TO_GET_ONE
    assert "bubblewrap" in dict(steps()[3])["sh"]


@pytest.mark.parametrize("line", [line for line in commands() if "tlcourse " in line and "git" not in line])
def test_every_command_line_is_one_that_is_understood(line):
    from tlcourse.__main__ import _parser

    assert line.startswith(".venv/bin/python -m tlcourse ")
    _parser().parse_args(line.split()[3:])


def test_files_that_the_guide_names_are_there():
    for path in re.findall(r"(?:exercises|solutions)/[\w/]+\.ipynb", GUIDE):
        assert (ROOT / path).is_file(), path


def a_clone(folder):
    """The files of the course without what a fresh clone lacks, and what grading does not read."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / ".venv" / "bin").mkdir(parents=True)
    # What `make setup` makes: here it is this Python, and finds the course in the clone.
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (folder / ".venv" / "bin" / "python").chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_ten_minutes(tmp_path):
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    clone = a_clone(tmp_path / "tlcourse")
    environment = {**os.environ, "PYTHONPATH": str(clone), "TLCOURSE_PROGRESS": "0"}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for number, blocks in steps().items():
        printed = None
        for kind, text in [] if number in NOT_HERE else blocks:
            if kind == "sh":
                line = ["sh", "-e", "-c", text]
                done = subprocess.run(
                    line, capture_output=True, text=True, cwd=clone, env=environment, check=False, timeout=600
                )
                # The doctor's status is that of this machine's jails; what it prints is compared below.
                assert done.returncode == 0, (number, done.stderr)
                printed = done.stdout
            else:
                assert doctest.OutputChecker().check_output(text, printed, flags), f"step {number} prints\n{printed}"
        if number == 7:
            assert "not started" in (clone / "graded" / "feedback" / "bob.html").read_text(encoding="utf-8")
    assert not (clone / "graded").exists()
