"""A batch: the same notebook the same grade, cut off anywhere and resumed, side by side, the reference first."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from tests.grading_course import FULL, REFERENCE, STUBS, cell, hand_in, marker
from tlcourse.grading import batch, export
from tlcourse.grading.batch import UnsoundPaper, grade_all, kept_seed
from tlcourse.grading.intake import find_submissions
from tlcourse.grading.jail import Jail, candidates, choose

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
if not candidates():
    pytest.skip("no jail can be had on this system", allow_module_level=True)

PROGRAM = """
import sys, time
from pathlib import Path
from tests.grading_course import marker
from tlcourse.grading import batch, intake, jail
folder, out = map(Path, sys.argv[1:])
batch.grade_all(marker(jail.choose()), intake.find_submissions(folder), out, jobs=2)
"""
WRONG = {
    "90.1": "def scaled(values, factor):\n    return values, values.sum()",
    "90.2": "def count(words):\n    return len(words)",
    "90.3": "def power(x):\n    return x**2",
}


@pytest.fixture(scope="module")
def place():
    return choose()


def grades(found):
    return {result["id"]: result["score"] for result in found["results"]}


def test_reference_stub_and_wrong_answers(place, tmp_path):
    hand_in(tmp_path / "in", "reference")
    hand_in(tmp_path / "in", "stub", STUBS)
    hand_in(tmp_path / "in", "wrong", WRONG)
    hand_in(tmp_path / "in", "empty", cells=[])
    hand_in(tmp_path / "in", "reordered", cells=[cell(s, task=t) for t, s in reversed(REFERENCE.items())])
    hand_in(tmp_path / "in", "twice", cells=[cell(s, task=t) for t, s in [*WRONG.items(), *REFERENCE.items()]])
    hand_in(tmp_path / "in", "bare", cells=[cell(s) for s in REFERENCE.values()])
    (tmp_path / "in" / "broken.ipynb").write_text("{", encoding="utf-8")
    found = grade_all(marker(place), find_submissions(tmp_path / "in"), tmp_path / "out", jobs=2)
    full = sum(FULL.values())
    assert grades(found) == {
        "reference": full,
        "reordered": full,
        "twice": full,
        "bare": full,
        "stub": 0,
        "wrong": 0,
        "empty": 0,
        "broken": 0,
    }
    by_id = {result["id"]: result for result in found["results"]}
    assert {task["status"] for task in by_id["stub"]["tasks"]} == {"not started"}
    assert {task["status"] for task in by_id["empty"]["tasks"]} == {"missing"}
    assert "no notebook" in by_id["broken"]["problem"]
    assert "twice as many" not in by_id["wrong"]["tasks"][0]["message"]
    assert by_id["wrong"]["tasks"][0]["message"].startswith("You gave the values back")


def test_answers_may_use_earlier_ones(place, tmp_path):
    answers = REFERENCE | {"90.2": "def count(words):\n    helper()\n    return len(set(words))"}
    answers["90.1"] += "\ndef helper(): pass"
    hand_in(tmp_path / "in", "ada", answers)
    hand_in(tmp_path / "in", "eve", answers | {"90.1": "import os\nos._exit(0)"})
    found = grade_all(marker(place), find_submissions(tmp_path / "in"), tmp_path / "out", jobs=1)
    assert grades(found) == {"ada": 8.0, "eve": 2.0}


def test_the_same_submission_gets_the_same_grade(place, tmp_path):
    noisy = REFERENCE | {
        "90.1": "import random\ndef scaled(values, factor):\n"
        "    noise = torch.rand(1).item() + np.random.rand() + random.random()\n"
        "    return values * factor * (1 + (noise > 1.5)), (values * factor).sum()"
    }
    for name in ("one", "two"):
        hand_in(tmp_path / "in", name, noisy)
    found = [
        grade_all(marker(place), find_submissions(tmp_path / "in"), tmp_path / f"out{jobs}", jobs=jobs)["results"]
        for jobs in (1, 2)
    ]
    assert found[0] == found[1]
    first, second = found[0]
    assert first | {"id": "", "name": ""} == second | {"id": "", "name": ""}


def test_a_batch_that_was_killed_goes_on(place, tmp_path):
    folder, out = tmp_path / "handed-in", tmp_path / "out"
    folder.mkdir()
    for number in range(12):
        slow = "import time\ntime.sleep(0.3)\n" + (REFERENCE if number % 2 else WRONG)["90.2"]
        hand_in(folder, f"learner-{number:02}", REFERENCE | {"90.2": slow})
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), str(out)], start_new_session=True)
    try:
        until = time.monotonic() + 90
        while len(list(out.glob("submissions/*.json"))) < 3 and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    kept = sorted(out.glob("submissions/*.json"))
    assert 3 <= len(kept) < 12
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept}
    for path in kept:
        export.check(json.loads(path.read_text(encoding="utf-8")), "submission")
    found = grade_all(marker(place), find_submissions(folder), out, jobs=2)
    assert found["resumed"] == len(kept)
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept} == before
    assert list(grades(found).values()) == [6.0, 8.0] * 6


def test_what_is_resumed_is_the_same_paper_and_notebook(place, tmp_path):
    hand_in(tmp_path / "in", "ada")
    hand_in(tmp_path / "in", "bob")
    out = tmp_path / "out"
    assert grade_all(marker(place), find_submissions(tmp_path / "in"), out, jobs=1)["resumed"] == 0
    again = grade_all(marker(place), find_submissions(tmp_path / "in"), out, jobs=1)
    assert (again["resumed"], again["starts"]) == (2, 0)
    hand_in(tmp_path / "in", "bob", STUBS)
    assert grade_all(marker(place), find_submissions(tmp_path / "in"), out, jobs=1)["resumed"] == 1
    kept = out / "submissions" / "ada.json"
    kept.write_text(kept.read_text(encoding="utf-8").replace('"score": 8.0', '"score": 80.0'), encoding="utf-8")
    found = grade_all(marker(place), find_submissions(tmp_path / "in"), out, jobs=1)
    assert (found["resumed"], grades(found)) == (1, {"ada": 8.0, "bob": 0.0})
    assert grade_all(marker(place, seed=4), find_submissions(tmp_path / "in"), out, jobs=1)["resumed"] == 0


def test_one_start_serves_a_batch(place, tmp_path):
    for number in range(8):
        hand_in(
            tmp_path / "in",
            f"learner-{number}",
            WRONG if number % 2 else REFERENCE | {"90.3": "import os\nos._exit(1)"},
        )
    found = grade_all(marker(place), find_submissions(tmp_path / "in"), tmp_path / "out", jobs=2)
    assert found["starts"] == 2
    assert found["warm"]


def test_without_a_shared_starter_the_grades_are_the_same(place, tmp_path):
    hand_in(tmp_path / "in", "ada")
    hand_in(tmp_path / "in", "eve", REFERENCE | {"90.2": "import os\nos._exit(0)"})
    cold = Jail(place.kind, place.program, False)
    found = grade_all(marker(cold), find_submissions(tmp_path / "in"), tmp_path / "out", jobs=1)
    assert grades(found) == {"ada": 8.0, "eve": 6.0}
    assert found["starts"] == 4, "the reference, ada, and eve twice"
    assert not found["warm"]


def test_a_reference_that_fails_stops_everything(place, tmp_path):
    hand_in(tmp_path / "in", "ada")
    unsound = replace(marker(place), reference=REFERENCE | {"90.3": WRONG["90.3"]})
    with pytest.raises(UnsoundPaper, match=r"the solution of task 90\.3 is not right here"):
        grade_all(unsound, find_submissions(tmp_path / "in"), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out" / "submissions").exists()


def test_a_fault_of_ours_is_no_grade_and_stops_nobody_else(place, tmp_path, monkeypatch):
    for name in ("ada", "bob", "eve"):
        hand_in(tmp_path / "in", name)
    check = batch.export.check
    monkeypatch.setattr(
        batch.export, "check", lambda value, what: 1 / 0 if value["id"] == "bob" else check(value, what)
    )
    found = grade_all(marker(place), find_submissions(tmp_path / "in"), tmp_path / "out", jobs=2)
    assert found["unmarked"] == {"bob": "ZeroDivisionError: division by zero"}
    assert grades(found) == {"ada": 8.0, "eve": 8.0}
    assert not (tmp_path / "out" / "submissions" / "bob.json").exists()


def test_the_seed_is_kept_for_its_owner(tmp_path):
    seed = kept_seed(tmp_path)
    assert kept_seed(tmp_path) == kept_seed(tmp_path, seed=seed) == seed
    assert (tmp_path / "seed").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError, match="another seed"):
        kept_seed(tmp_path, seed=seed + 1)
    assert kept_seed(tmp_path / "other") != seed
