"""Item analysis: against tables that were computed by hand, and numpy; nothing is made up where nothing is defined."""

import json
import math
from pathlib import Path

import nbformat
import numpy as np
import pytest

from tlcourse.checks import certificate as certificates
from tlcourse.checks import load
from tlcourse.grading import export, items, score
from tlcourse.grading.items import Effort, analyse, as_text, correlation, read_efforts, read_results, totals
from tools import instructors
from tools.build import running
from tools.notebooks import ROOT

# Points of four learners in three tasks of 2, 4 and 1 points. The third has no spread.
POINTS = [2.0, 4.0, 1.0]
TABLE = {"ada": (2.0, 4.0, 1.0), "bob": (2.0, 2.0, 1.0), "cem": (0.0, 2.0, 1.0), "dora": (0.0, 0.0, 1.0)}
# The first: points 2 2 0 0, rests 5 3 3 1: covariance 4, squares 4 and 8: 4 / sqrt(32). The second: the same.
BY_HAND = {"difficulty": [0.5, 0.5, 1.0], "right": [0.5, 0.25, 1.0], "discrimination": [0.5**0.5, 0.5**0.5, None]}
CORRELATIONS = [
    ([1, 2, 3], [2, 4, 6], 1.0),
    ([1, 2, 3], [3, 2, 1], -1.0),
    ([0, 0, 1, 1], [0, 1, 0, 1], 0.0),
    ([1, 2], [1, 2], None),
    ([], [], None),
    ([1, 1, 1], [1, 2, 3], None),
    ([1, 2, 3], [4, 4, 4], None),
    ([0.1 + 0.2, 0.3, 0.3], [1, 2, 3], None),  # equal but for rounding
    ([1e-3, 2e-3, 3e-3], [1e6, 2e6, 3e6], 1.0),
]


def task(number, got, most, *, status=None, misconception=""):
    made = {"id": f"03.{number}", "title": f"Task {number}", "score": got, "max_score": most, "aspects": []}
    usual = "right" if got == most else "partly right" if got else "wrong"
    made |= {"status": status or usual, "misconception": misconception}
    return made | {"message": "", "printed": "", "notes": [], "curious": []}


def batch(table, *, points=POINTS, problems=()):
    results = []
    for name, scores in table.items():
        tasks = [task(n + 1, got, most) for n, (got, most) in enumerate(zip(scores, points, strict=True))]
        result = {"format": 1, "id": name, "name": name, "assignment": "03", "key": "a" * 64, "digest": "b" * 64}
        result |= {"jail": "none", "warning": "", "problem": "no notebook" if name in problems else "", "notes": []}
        results.append(result | {"score": sum(scores), "max_score": sum(points), "tasks": tasks})
    made = {"format": 1, "assignment": "03", "title": "Exercises 03", "max_score": sum(points), "jail": "none"}
    made |= {"warning": "", "submissions": results}
    export.check(made, "batch")
    return made


@pytest.mark.parametrize(("a", "b", "expected"), CORRELATIONS, ids=range(len(CORRELATIONS)))
def test_correlation(a, b, expected):
    assert correlation(a, b) == (expected if expected is None else pytest.approx(expected, abs=1e-12))


def test_a_table_computed_by_hand():
    found = analyse(batch(TABLE))
    assert [item.task for item in found] == ["03.1", "03.2", "03.3"]
    for name, expected in BY_HAND.items():
        assert [getattr(item, name) for item in found] == [v if v is None else pytest.approx(v) for v in expected]
    assert all(item.n == item.tried == 4 for item in found)
    assert totals(batch(TABLE)) == pytest.approx([1, 5 / 7, 3 / 7, 1 / 7])


@pytest.mark.parametrize("seed", range(5))
def test_discrimination_is_numpys_correlation_with_the_rest(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=(int(rng.integers(5, 40)), 4)).astype(float)
    found = analyse(batch({f"l{n}": tuple(row) for n, row in enumerate(scores)}, points=[4.0] * 4))
    for place, item in enumerate(found):
        rest = scores.sum(axis=1) - scores[:, place]
        assert item.discrimination == pytest.approx(np.corrcoef(scores[:, place], rest)[0, 1])
        assert item.difficulty == pytest.approx(scores[:, place].mean() / 4)


def test_what_could_not_be_read_says_nothing_and_what_was_not_tried_is_nought():
    table = {**TABLE, "eve": (0.0, 0.0, 0.0)}
    assert analyse(batch(table, problems=["eve"])) == analyse(batch(TABLE))
    assert len(totals(batch(table, problems=["eve"]))) == 4
    made = batch(TABLE)
    for result, status in zip(made["submissions"][2:], ("missing", "not started"), strict=True):
        result["tasks"][0]["status"] = status
    assert [item.tried for item in analyse(made)] == [2, 4, 4]
    assert [item.difficulty for item in analyse(made)] == pytest.approx(BY_HAND["difficulty"])


def test_nobody_one_and_two():
    assert analyse(batch({})) == totals(batch({})) == []
    for count in (1, 2):
        found = analyse(batch(dict(list(TABLE.items())[:count])))
        assert [item.discrimination for item in found] == [None] * 3
        assert all(math.isfinite(item.difficulty) for item in found)
    (alone,) = analyse(batch({name: scores[:1] for name, scores in TABLE.items()}, points=[2.0]))
    assert alone.discrimination is None, "there is no rest"


def test_misconceptions_are_counted_the_commonest_first():
    made = batch(TABLE)
    for result, name in zip(made["submissions"], ("b", "a", "c", "c"), strict=True):
        result["tasks"][1]["misconception"] = name
    found = analyse(made)
    assert found[1].misconceptions == (("c", 2), ("a", 1), ("b", 1))
    assert found[0].misconceptions == ()
    text = as_text(found).splitlines()
    assert text[0].split()[:3] == ["task", "title", "n"]
    assert text[2].endswith("0.50        0.25       +0.71           c (2)")
    assert text[3].endswith("1.00       -               -")


def test_the_scorer_names_the_misconception():
    exercise = load("03")[0]
    paper = score.prepare([exercise], seed=1)
    (known, *_) = exercise.misconceptions
    drawn = {n: {"value": known.wrong(inputs)} for n, inputs in enumerate(paper.inputs[exercise.id])}
    assert score.score_task(paper, exercise, drawn)["misconception"] == known.name
    assert score.score_task(paper, exercise, {0: {"ending": "stopped"}})["misconception"] == ""


def test_results_are_read_and_checked(tmp_path):
    with pytest.raises(FileNotFoundError, match="that `tlcourse grade --out` has filled"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text(export.as_text(batch(TABLE)), encoding="utf-8")
    assert read_results(tmp_path) == batch(TABLE)
    broken = batch(TABLE)
    broken["submissions"][0]["tasks"][0]["score"] = math.nan
    (tmp_path / "results.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(ValueError, match="a score of nan is not in"):
        read_results(tmp_path)


def certify(folder: Path, name, tasks):
    made = {"format": 1, "name": name, "course": "0", "tasks": tasks}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**made, "digest": certificates._digest(made)}), encoding="utf-8")
    return path


def passed(task, **more):
    return {"task": task, "answer": "x = 1", "constants": {}, **more}


def test_efforts_come_from_certificates(tmp_path):
    paths = [
        certify(tmp_path, "a", [passed("03.1", tries=1, hints=0), passed("03.2", tries=7, hints=2)]),
        certify(tmp_path, "b", [passed("03.1", tries=4, hints=3)]),
        certify(tmp_path, "c", [passed("03.1", tries="many", hints=3), passed("03.3")]),
    ]
    found = read_efforts(paths)
    assert found == {"03.1": Effort(2, 2.5, 1.5), "03.2": Effort(1, 7, 2)}
    table = as_text(analyse(batch(TABLE)), found).splitlines()
    assert table[0].split()[-2:] == ["tries", "hints"]
    assert [line.split()[-2:] for line in table[1:]] == [["2.5", "1.5"], ["7", "2"], ["-", "-"]]


# The notebook -----------------------------------------------------------------------------------------------------


def test_the_notebook_is_up_to_date():
    assert instructors.check(ROOT) == []


def test_a_stale_notebook_and_one_without_a_source_are_told(tmp_path, capsys):
    for path in ["pyproject.toml", "sources/instructors/item_analysis.py"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text(encoding="utf-8"), encoding="utf-8")
    assert "is missing" in instructors.check(tmp_path)[0]
    instructors.build(tmp_path)
    assert instructors.check(tmp_path) == []
    assert capsys.readouterr().out == "exercises/instructors/item_analysis.ipynb: written\n"
    path = tmp_path / "exercises" / "instructors" / "item_analysis.ipynb"
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    path.with_name("other.ipynb").write_text("{}", encoding="utf-8")
    assert [line.partition(":")[0] for line in instructors.check(tmp_path)] == [
        "exercises/instructors/item_analysis.ipynb is stale or was edited",
        "exercises/instructors/other.ipynb has no source; run",
    ]
    instructors.build(tmp_path)
    assert instructors.check(tmp_path) == []
    assert not path.with_name("other.ipynb").exists()


def graded(folder):
    """A class of thirty, judged by the scorer: half of them go wrong in one of the known ways."""
    rng, exercises = np.random.default_rng(0), load("00")
    paper, table = score.prepare(exercises, seed=1), []
    for learner in range(30):
        tasks, able = [], rng.normal()
        for number, exercise in enumerate(exercises):
            slips = [known for known in exercise.misconceptions if known.wrong is not None]
            slip = slips[rng.integers(len(slips))] if able + rng.normal() < 0.4 * number - 0.8 else None
            answers = [exercise.oracle(i) | (slip.wrong(i) if slip else {}) for i in paper.inputs[exercise.id]]
            drawn = {n: {"value": answer} for n, answer in enumerate(answers)}
            tasks.append(score.score_task(paper, exercise, drawn) | {"curious": []})
        points, most = (sum(task[key] for task in tasks) for key in ("score", "max_score"))
        head = {"format": 1, "id": f"l{learner}", "name": f"l{learner}", "assignment": "00", "key": paper.key}
        head |= {"digest": "", "jail": "none", "warning": "", "problem": "", "notes": [], "tasks": tasks}
        table.append(head | {"score": points, "max_score": most})
    whole = {"format": 1, "assignment": "00", "title": "Exercises 00", "max_score": paper.max_score, "jail": "none"}
    whole |= {"warning": "", "submissions": table}
    export.check(whole, "batch")
    folder.mkdir()
    (folder / "results.json").write_text(export.as_text(whole), encoding="utf-8")
    return whole


@pytest.mark.slow
def test_the_notebook_runs_on_a_graded_class(tmp_path):
    whole = graded(tmp_path / "graded")
    (tmp_path / "certificates").mkdir()
    certify(tmp_path / "certificates", "a", [passed("00.1", tries=3, hints=1)])
    notebook = nbformat.read(ROOT / "exercises" / "instructors" / "item_analysis.ipynb", as_version=4)
    with running(notebook, cwd=tmp_path) as client:
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert as_text(analyse(whole), {"00.1": Effort(1, 3, 1)}) in printed
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert all(len(output["metadata"]["image/png"]["alt"]) > 40 for output in pictures)
    assert "30 submissions; 0 more could not be read" in printed
    assert not [output for output in outputs if output.output_type == "error"]


def test_examples_and_names():
    assert set(items.__all__) <= set(vars(items))
