"""Constants of a learner's own: in the notebook, in its checks, and where it is graded."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tlcourse.__main__ import main
from tlcourse.checks import check, find, lessons, load, use_variant
from tlcourse.checks.certificate import make_certificate
from tlcourse.checks.judging import Run, judge
from tlcourse.checks.records import read_progress
from tlcourse.checks.running import draws
from tlcourse.checks.spec import Exercise
from tlcourse.checks.variants import constants_line, constants_of, in_variant, variant_cell
from tlcourse.grading import export, intake, jail, score, variants
from tlcourse.grading.assignment import load_assignment

ROOT = Path(__file__).parents[1]
VARIED = [exercise for lesson in lessons() for exercise in load(lesson) if exercise.constants]
OWN = [
    pytest.param(exercise, {name: value}, id=f"{exercise.id}-{name}-{value}")
    for exercise in VARIED
    for name, values in exercise.constants.items()
    for value in values[1:]
]
SEEDS = range(4)
PEOPLE = ["ada", "bob@example.org", "cem/2", "dora", "emil", "=fay"]
INTERVAL = """def paired_interval(a, b):
    import math
    from scipy.stats import t
    d = a - b
    half = t.ppf(0.5 + LEVEL / 200, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return d.mean() - half, d.mean() + half"""


@pytest.fixture(autouse=True)
def the_courses_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TLCOURSE_HOME", str(tmp_path / "home"))
    yield
    use_variant({})


@pytest.fixture
def roster(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text("id,name\n" + "".join(f"{learner},\n" for learner in PEOPLE), encoding="utf-8")
    return path


def interval(level):
    namespace = {}
    exec(INTERVAL.replace("LEVEL", str(level)), namespace)
    return namespace["paired_interval"]


def as_if(exercise, other, seed=0):
    """What somebody hands in who has other constants and is right there."""
    return [Run(i, exercise.oracle({**i, **other}), exercise.oracle(i)) for i in draws(exercise, seed)]


def test_two_tasks_have_constants():
    assert len(VARIED) >= 2


@pytest.mark.parametrize(("exercise", "given"), OWN)
def test_right_for_others_is_nothing_here_and_says_so(exercise, given):
    own = exercise.variant(given)
    (name, value), seen = *given.items(), []
    assert own.varied
    for seed in SEEDS:
        assert judge(own, as_if(own, given, seed)).share == pytest.approx(1)
        for other in exercise.constants[name]:
            if other != value:
                judgement = judge(own, as_if(own, {name: other}, seed))
                assert (judgement.share, set(judgement.held.values())) == (0, {False})
                assert f"This would be right where `{name}` is {other}" in judgement.why
                assert f"({name} = {value})" in judgement.why
                seen.append(judgement.misconception)
    assert set(seen) == {None}


@pytest.mark.parametrize(("exercise", "given"), OWN)
def test_slips_are_known_at_every_value_and_taken_for_no_copy(exercise, given):
    own = exercise.variant(given)
    for seed in SEEDS:
        for known in own.misconceptions:
            if known.wrong is not None:
                runs = [Run(i, known.wrong(i), own.oracle(i)) for i in draws(own, seed)]
                assert judge(own, runs).misconception is known


def test_in_the_courses_own_notebook_nobody_is_suspected():
    """Its answer for another level is wrong, in part, and that is all."""
    task = find("00.1")
    assert not task.varied
    judgement = judge(task, as_if(task, {"level": 80}))
    assert judgement.share == pytest.approx(0.3)
    assert "would be right" not in judgement.why


def test_constants_are_among_the_inputs_and_never_passed_on():
    task, seen = find("00.1").variant({"level": 80}), []
    assert all(inputs["level"] == 80 for inputs in draws(task, 0))
    task.probe(lambda *args, **kwargs: seen.append((args, kwargs)) or (0, 1), draws(task, 0)[0])
    (((a, b), more),) = seen
    assert (a.shape, more) == (b.shape, {})


BAD = [
    ({"given": {"level": 50}}, "no constant 'level' with the value 50"),
    ({"given": {"depth": 3}}, "no constant 'depth'"),
    ({"constants": {"level": (95, 90)}}, "fewer than three values"),
    ({"constants": {"level": (95, 90, 90)}}, "fewer than three values"),
]


@pytest.mark.parametrize(("change", "said"), BAD, ids=range(len(BAD)))
def test_a_constant_that_cannot_be_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Exercise(**{**vars(find("00.1")), **change})


def test_learners_have_their_own_and_no_other_depends_on_them():
    task = find("00.1")
    had = [constants_of(task, seed=3, learner=f"learner {n}")["level"] for n in range(600)]
    counts = Counter(had)
    assert set(counts) == set(task.constants["level"][1:]), "the course's own is in public solutions"
    assert max(counts.values()) < 150  # 100 each are expected
    assert had != [constants_of(task, seed=4, learner=f"learner {n}")["level"] for n in range(600)]
    assert had != [constants_of(find("00.3"), seed=3, learner=f"learner {n}")["level"] for n in range(600)]
    assert had[:5] == [constants_of(task, seed=3, learner=f"learner {n}")["level"] for n in range(5)]


# In the notebook --------------------------------------------------------------------------------------------------


def test_a_check_uses_the_notebooks_constants(capsys):
    assert check("00.1", interval(95)).passed
    use_variant({"00.1": {"level": 80}})
    assert check("00.1", interval(80)).passed
    copied = check("00.1", interval(97))
    assert (copied.state, copied.share) == ("wrong", 0)
    assert "right where `level` is 97; in your notebook it is not (level = 80)" in capsys.readouterr().out
    assert in_variant(find("00.3")).given == {"level": 95}
    with pytest.raises(ValueError, match="no constant 'level' with the value 1"):
        use_variant({"00.1": {"level": 1}})
    assert check("00.1", interval(80)).passed, "what was refused changes nothing"


def test_a_record_and_a_certificate_hold_the_constants():
    use_variant({"00.1": {"level": 80}})
    check("00.1", interval(80))
    assert read_progress().records["00.1"].constants == {"level": 80}
    (task,) = json.loads(make_certificate("Ada"))["tasks"]
    assert task["constants"] == {"level": 80}
    use_variant({})
    check("00.1", interval(95))
    assert read_progress().records["00.1"].constants == {}


def the_courses(number="00"):
    (path,) = (ROOT / "exercises").glob(f"{number}_*.ipynb")
    return json.loads(path.read_text(encoding="utf-8"))


def texts(notebook):
    return ["".join(cell["source"]) for cell in notebook["cells"]]


def test_only_constants_and_the_badge_differ_in_a_learners_notebook():
    usual, exercises = the_courses(), variants.own_exercises(load("00"), seed=7, learner="dora")
    own = variants.own_notebook(usual, exercises)
    assert usual == the_courses(), "the course's notebook is not changed"
    assert [cell["id"] for cell in own["cells"]] == [cell["id"] for cell in usual["cells"]]
    changed = [(a, b) for a, b in zip(texts(usual), texts(own), strict=True) if a != b]
    assert len(changed) == 1 + 1 + len([e for e in load("00") if e.constants])
    assert "colab" in changed[0][0]
    assert "colab" not in changed[0][1]
    assert changed[0][1].startswith("# Exercises 00")
    for exercise in exercises:
        if exercise.constants:
            assert any(constants_line(exercise) in new for _, new in changed)
    (cell,) = (cell for cell in own["cells"] if "variant" in cell["metadata"].get("tags", []))
    exec("".join(cell["source"]), {})
    assert [in_variant(find(exercise.id)).given for exercise in exercises] == [e.given for e in exercises]


def test_a_lesson_without_constants_has_no_such_cell():
    assert variant_cell(load("03")) == constants_line(find("03.1")) == ""
    assert not any("variant" in cell["metadata"].get("tags", []) for cell in the_courses("03")["cells"])


def test_the_command_writes_a_notebook_a_learner(roster, tmp_path, capsys):
    out = tmp_path / "notebooks"
    arguments = ["variants", "--assignment", "00", "--roster", str(roster), "--seed", "7", "--out", str(out)]
    assert main(arguments) == 0
    assert "6 notebooks in" in capsys.readouterr().out
    handed_in = intake.find_submissions(out)
    assert len(handed_in) == len(PEOPLE)
    assert sorted(variants.learners(handed_in, PEOPLE).values()) == sorted(PEOPLE), "each is known again by its file"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(arguments) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert len(set(before.values())) > 1


WRONG = [
    (["--assignment", "03"], "no task of 03 has constants"),
    (["--assignment", "77"], "no exercises '77'"),
    (["--assignment", "00", "--roster", "none.csv"], "none.csv"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_one_line(arguments, said, roster, tmp_path, capsys):
    more = ["variants", "--roster", str(roster), "--seed", "7", "--out", str(tmp_path / "out"), *arguments]
    assert main(more) == 1
    assert re.fullmatch(f"error: .*{said}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


# Grading ----------------------------------------------------------------------------------------------------------


def test_a_paper_of_ones_own():
    exercises = load("00")
    paper = score.prepare(exercises, seed=5)
    ids = {"one": "ada", "two": "ada", "three": "dora"}
    papers = variants.own_papers(paper, ids, variants=7, seed=5)
    assert papers["one"] is papers["two"]
    assert len({p.key for p in (paper, *papers.values())}) == 3
    own = papers["three"]
    level = constants_of(find("00.1"), seed=7, learner="dora")["level"]
    assert own.max_score == paper.max_score
    assert {inputs["level"] for inputs in own.inputs["00.1"]} == {level}
    assert own.expected["00.2"] == paper.expected["00.2"]
    for usual, mine in zip(paper.inputs["00.1"], own.inputs["00.1"], strict=True):
        np.testing.assert_array_equal(usual["a"], mine["a"])

    def graded(level):
        drawn = {n: {"value": find("00.1").oracle({**i, "level": level})} for n, i in enumerate(own.inputs["00.1"])}
        return score.score_task(own, own.exercises[0], drawn)

    assert graded(level)["status"] == "right"
    other = next(value for value in find("00.1").constants["level"] if value != level)
    assert (graded(other)["score"], graded(other)["status"]) == (0, "wrong")
    assert f"right where `level` is {other}" in graded(other)["message"]
    assert "answer that was written for another notebook counts nothing" in graded(other)["message"]


def test_variants_need_a_roster(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.ipynb").write_text("{", encoding="utf-8")
    out = str(tmp_path / "out")
    assert main(["grade", str(tmp_path / "in"), "--assignment", "00", "--out", out, "--variants", "7"]) == 1
    assert "--variants needs --roster" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_who_copies_loses_the_tasks_points_and_nobody_else_does(roster, tmp_path):
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    folder, out = tmp_path / "notebooks", tmp_path / "out"
    common = ["--assignment", "00", "--roster", str(roster)]
    assert main(["variants", *common, "--seed", "7", "--out", str(folder)]) == 0
    levels = {learner: constants_of(find("00.1"), seed=7, learner=learner)["level"] for learner in PEOPLE}
    dora = next(learner for learner in PEOPLE if levels[learner] != levels["ada"])
    work = load_assignment("00")
    for path in folder.iterdir():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if "answer" in cell["metadata"].get("tags", []):
                task = cell["metadata"]["task"]
                cell["source"] = work.reference[task]
                if task == "00.1":  # all copy ada's
                    cell["source"] = INTERVAL.replace("LEVEL", str(levels["ada"]))
        path.write_text(json.dumps(notebook), encoding="utf-8")
    stranger = folder / "stranger.ipynb"
    stranger.write_text((folder / "ada.ipynb").read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["grade", str(folder), *common, "--out", str(out), "--variants", "7", "--jobs", "1"]) == 0
    record = json.loads((out / "results.json").read_text(encoding="utf-8"))
    export.check(record, "batch")
    points = {}
    for result in record["submissions"]:
        points[result["name"]] = {task["id"]: task["score"] for task in result["tasks"]}
        if result["name"] == "stranger":
            assert result["notes"] == ["not in the roster: marked with the constants of the course's own notebook"]
    assert points["ada"]["00.1"] == find("00.1").points
    assert points[dora]["00.1"] == 0
    assert all(found["00.2"] == find("00.2").points for found in points.values())
    # The published solution has the course's own level: right for whoever is in no roster, for nobody else.
    assert [name for name, found in points.items() if found["00.3"]] == ["stranger"]
    assert json.loads((out / "audit.json").read_text(encoding="utf-8"))["variants"] == 7
