"""Otter-Grader: an archive that its container, Gradescope or ``otter run`` takes, and the learner's notebook.

The archive has the layout of ``otter generate`` (Otter 7): the scripts that make the image and start a run, a test file
a task in Otter's exception format with a case an aspect, and in ``files/`` the library, which Otter lays beside the
submission. It is written without Otter.
"""

import json
import tomllib
import zipfile
from pathlib import Path

from tlcourse.checks.spec import Exercise
from tlcourse.grading.courseware import PACKAGE
from tlcourse.grading.orders import Order, hidden_source
from tlcourse.provenance import write_atomically

__all__ = ["REQUIREMENT", "archive_files", "write"]

REQUIREMENT = "otter-grader>=7,<8"
LEFT_OUT = {"__pycache__", "_results", "experiments"}
EXECUTABLE = ("setup.sh", "run_autograder")
SETUP = """\
#!/usr/bin/env bash
# Made by `python -m tlcourse export`. It runs once, when Gradescope or `otter grade` makes the image.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends ca-certificates wget
address=https://github.com/conda-forge/miniforge/releases/latest/download
wget -nv -O /autograder/miniforge.sh "$address/Miniforge3-Linux-$(uname -m).sh"
bash /autograder/miniforge.sh -b -p /autograder/miniforge3
/autograder/miniforge3/bin/conda env create -f /autograder/source/environment.yml
"""
START = """\
#!/usr/bin/env bash
exec /autograder/miniforge3/envs/tlcourse/bin/python /autograder/source/run_otter.py
"""
RUN = '''\
"""Run Otter on the submission beside this folder."""

from pathlib import Path

from otter.run.run_autograder import main

if __name__ == "__main__":
    main(str(Path(__file__).resolve().parents[1]))
'''
ENVIRONMENT = """\
# Made by `python -m tlcourse export`.
name: tlcourse
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
  - pip:
      - --extra-index-url https://download.pytorch.org/whl/cpu
"""
# A learner reads at once why points were lost, and reads it once: without Otter's summary of the same tests.
SETTINGS = {"lang": "python", "show_all_public": True, "show_hidden": True, "force_public_test_summary": False}
TEST = '''\
"""Task {id}, made by `python -m tlcourse export`. It holds the seed of the inputs: keep it from learners."""

from otter.test_files import test_case

from tlcourse.grading.unjailed import mark

{hidden}

OK_FORMAT = False
name = {name!r}
MARKS = []


def marked(env):
    if not MARKS:  # the cases share one mark
        MARKS.append(mark({id!r}, env.get({entry!r}), seed={seed}, hidden=hidden))
    return MARKS[0]
'''
CASE = """

@test_case(name={name!r}, points={points!r})
def test_{number}(env):
    marked(env).require({key!r})
"""


def write(made: Order, folder: Path) -> list[Path]:
    """Write the archive and the learner's notebook.

    Parameters
    ----------
    folder
        Exists, and holds neither.

    Returns
    -------
    The files written.
    """
    archive, notebook = folder / "autograder.zip", folder / f"{made.stem}.ipynb"
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in archive_files(made).items():
            entry = zipfile.ZipInfo(name)  # of a fixed date, so that the same order gives the same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name in EXECUTABLE else 0o644) << 16
            zipped.writestr(entry, text)
    write_atomically(notebook, made.notebook)
    return [archive, notebook]


def archive_files(made: Order) -> dict[str, str]:
    """What is in the archive: name -> text."""
    files = {
        "setup.sh": SETUP,
        "run_autograder": START,
        "run_otter.py": RUN,
        "environment.yml": _environment(made.clone),
        "otter_config.json": json.dumps(SETTINGS, indent=1) + "\n",
    }
    for exercise in made.work.exercises:
        files[f"tests/task_{exercise.id.replace('.', '_')}.py"] = _test(made, exercise)
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE.parent)
        if not LEFT_OUT.intersection(inside.parts):
            files[f"files/{inside.as_posix()}"] = path.read_text(encoding="utf-8")
    return files


def _test(made: Order, exercise: Exercise) -> str:
    head = TEST.format(
        id=exercise.id,
        name=f"{exercise.id} {exercise.title}",
        entry=exercise.entry,
        hidden=hidden_source(made, exercise).strip(),
        seed=made.seed,
    )
    cases = [
        CASE.format(
            name=f"{exercise.id} {aspect.title}",
            points=float(round(aspect.weight * exercise.points, 6)),
            number=number,
            key=aspect.key,
        )
        for number, aspect in enumerate(exercise.aspects, 1)
    ]
    return head + "".join(cases)


def _environment(clone: Path) -> str:
    project = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [REQUIREMENT.replace("otter-grader", "otter-grader[grading]"), *project["dependencies"]]
    return ENVIRONMENT + "".join(f'      - "{name}"\n' for name in wanted)
