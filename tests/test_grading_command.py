"""``python -m tlcourse grade`` on the course's own assignments."""

import doctest
import importlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tlcourse.__main__ import main
from tlcourse.checks import lessons
from tlcourse.grading import assignment, batch, intake, jail, score
from tlcourse.grading.assignment import load_assignment
from tlcourse.grading.supervise import Limits
from tools import exercises

ROOT = Path(__file__).parents[1]
BOOKS = {book.number: book for book in (exercises.read(path, ROOT) for path in exercises.sources(ROOT))}


def submission(number, answers):
    """The learner's notebook with these answers in it."""
    (path,) = (ROOT / "exercises").glob(f"{number}_*.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if "answer" in cell["metadata"].get("tags", []) and cell["metadata"]["task"] in answers:
            cell["source"] = answers[cell["metadata"]["task"]]
    return json.dumps(notebook)


def wrong_ones(number):
    """Notebooks that each hold, of every task, the next of its wrong answers: name -> task id -> source."""
    tasks = BOOKS[number].tasks
    rounds = max(len(task.wrong) for task in tasks.values())
    return {f"wrong-{n}": {key: t.wrong[n % len(t.wrong)][1] for key, t in tasks.items()} for n in range(rounds)}


@pytest.mark.parametrize("number", lessons())
def test_an_assignment_is_read_from_the_clone(number):
    work = load_assignment(number)
    tasks = [exercise.id for exercise in work.exercises]
    assert list(work.reference) == list(work.stubs) == tasks
    assert all("NotImplementedError" in stub or "= ..." in stub for stub in work.stubs.values())
    assert work.setup
    assert set(work.hidden) == set(tasks)
    assert number.rstrip("c") in work.title


@pytest.mark.parametrize("number", lessons())
def test_no_answer_goes_into_the_jail(number):
    """The probes can be cut out of the checks without what knows the answers."""
    work = load_assignment(number)
    paper = score.prepare(work.exercises, setup=work.setup, hidden=work.hidden, seed=1)
    for source in paper.probes.values():
        for word in ("Misconception(", "oracle", "hints", "misconceptions"):
            assert word not in source
    assert all(len(inputs) > work.exercises[0].draws for inputs in paper.inputs.values())


def test_without_a_clone_it_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="grading needs a clone"):
        load_assignment("03", clone=tmp_path)
    with pytest.raises(KeyError, match="no exercises '77'"):
        load_assignment("77")


@pytest.mark.parametrize("number", lessons())
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_solutions_get_everything_stubs_nothing_and_wrong_answers_less(number, tmp_path):
    """The reference alone is checked before each batch; here it comes as a learner's notebook."""
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    work = load_assignment(number)
    made = {"reference": dict(work.reference), "stub": {}, **wrong_ones(number)}
    made |= {
        f"right-{n}": {
            key: (task.right or (task.reference,))[n % max(1, len(task.right))] for key, task in tasks.items()
        }
        for n, tasks in enumerate([BOOKS[number].tasks] * 2)
    }
    folder = tmp_path / "handed-in"
    folder.mkdir()
    for name, answers in made.items():
        (folder / f"{name}.ipynb").write_text(submission(number, answers), encoding="utf-8")
    paper = score.prepare(work.exercises, setup=work.setup, hidden=work.hidden, seed=11)
    marker = batch.Marker(number, paper, work.stubs, work.reference, jail.choose(), Limits())
    found = batch.grade_all(marker, intake.find_submissions(folder), tmp_path / "out", jobs=2)["results"]
    for result in found:
        said = [(task["id"], task["status"], task["message"]) for task in result["tasks"]]
        if result["id"] == "reference" or result["id"].startswith("right"):
            assert result["score"] == result["max_score"], said
        elif result["id"] == "stub":
            assert result["score"] == 0, said
        else:
            assert all(task["score"] < task["max_score"] for task in result["tasks"]), said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_from_a_zip_to_a_folder(tmp_path, capsys):
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    work = load_assignment("03")
    place, out = tmp_path / "all.zip", tmp_path / "out"
    with zipfile.ZipFile(place, "w") as made:
        made.writestr("=ada, countess.ipynb", submission("03", work.reference))
        made.writestr("bob/mine.ipynb", submission("03", {}))
        made.writestr("bob/torch.py", "raise SystemExit")
        made.writestr("cem/broken.ipynb", "{")
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name\nbob,Bob\n", encoding="utf-8")
    arguments = ["grade", str(place), "--assignment", "03", "--out", str(out), "--roster", str(roster), "--jobs", "2"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "3 graded" in printed
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert [round(result["score"] / result["max_score"], 3) for result in record["submissions"]] == [1, 0, 0]
    audit = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert audit["seed"] == (out / "seed").read_text(encoding="utf-8").strip()
    assert audit["jail"]["kind"] == record["jail"] != "none"
    assert {"torch", "numpy", "python", "tlcourse"} <= audit["versions"].keys()
    assert [entry["digest"] for entry in audit["submissions"]] == [r["digest"] for r in record["submissions"]]
    before = (out / "results.json").read_bytes()
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record
    assert (out / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "grading needs submissions, --assignment, --out"),
        (["x", "--assignment", "03"], 2, "grading needs --out"),
        (["missing", "--assignment", "03", "--out", "out"], 1, "no such file or folder: missing"),
        (["in", "--assignment", "77", "--out", "out"], 1, "no exercises '77'"),
        (["in", "--assignment", "03", "--out", "in/out"], 1, "is inside of in"),
        (["in", "--assignment", "03", "--out", "out", "--jobs", "0"], 1, "--jobs 0"),
        (["in", "--assignment", "03", "--out", "out", "--roster", "none.csv"], 1, "none.csv"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, status, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_text("{", encoding="utf-8")
    assert main(["grade", *arguments]) == status
    said = capsys.readouterr().err
    assert re.search(words, said)
    assert said.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_bad_seed_is_said(tmp_path, capsys):
    place = tmp_path / "x.ipynb"
    shutil.copyfile(next((ROOT / "exercises").glob("03_*.ipynb")), place)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seed").write_text("5", encoding="utf-8")
    arguments = ["grade", str(place), "--assignment", "03", "--out", str(tmp_path / "out"), "--seed", "6"]
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    assert main(arguments) == 1
    assert "begun with another seed than 6" in capsys.readouterr().err


def test_the_doctor_is_part_of_the_command(monkeypatch, capsys):
    from tlcourse.grading import prove

    monkeypatch.setattr(prove, "survey", lambda trust: ("a", [prove.Finding("a", "network", True, f"trust {trust}")]))
    assert main(["grade", "--doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["seen"] == "trust False"


@pytest.mark.parametrize("path", sorted((ROOT / "tlcourse" / "grading").glob("*.py")), ids=lambda path: path.stem)
def test_examples_show_what_happens(path):
    module = importlib.import_module(f"tlcourse.grading.{path.stem}".removesuffix(".__init__"))
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_the_clone_is_where_the_course_is():
    assert (assignment.CLONE / "tlcourse").is_dir()
