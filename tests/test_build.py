"""The build, on small lessons of its own in a temporary course."""

import json
import re

import nbformat
import pytest

from tools import build as tool
from tools.build import BuildError, build, check, read_source, typed_numbers
from tools.notebooks import SET_UP

PYPROJECT = '[project]\nname = "tlcourse"\n[project.urls]\nRepository = "https://github.com/someone/course"\n'
LESSON = """\
# %% [markdown]
# # 03 A lesson
#
# What to expect.

# %%
from helper import value

kept = value()
value()

# %% [markdown]
# We saw {{ f"{kept:.2f}" }}, that is {{ kept *
# 0 or "a text" }}, over {{ 5 }} seeds; `{{kept}}` and $x^{{2}}$ stay.

# %% tags=["nbval-ignore-output"]
print("again")

# %%
print("again")
"""
# The fake course has a package for the hashes; what its lessons import in the kernel lies beside the notebooks.
FILES = {
    "pyproject.toml": PYPROJECT,
    "sources/lessons/03_lesson.py": LESSON,
    "tlcourse/__init__.py": '_HOME = {"train": "training"}\n',
    "tlcourse/training.py": "from tlcourse import runtime\n\n\ndef train():\n    return runtime.SEED\n",
    "tlcourse/runtime.py": "SEED = 0\n",
    "tlcourse/other.py": "X = 0\n",
    "tlcourse/experiments/lesson03.py": "from tlcourse.training import train\n",
    "results/mine.json": '{"module": "tlcourse.experiments.lesson03", "points": []}\n',
    "results/other.json": '{"module": "tlcourse.experiments.lesson01", "points": []}\n',
    "results/stability.json": '{"03_lesson": {}}\n',
    "notebooks/helper.py": "def value():\n    return 0.12345\n",
}
REACHING = """\
# %% [markdown]
# # 04 Reaching

# %%
if False:
    from tlcourse.experiments import lesson03
"""
STALE = [
    # file, old, new: must the lesson be executed again?
    ("sources/lessons/04_reaching.py", "Reaching", "Reaching further", True),
    ("tlcourse/experiments/lesson03.py", "import train", "import train as t", True),
    ("tlcourse/runtime.py", "0", "1", True),
    ("tlcourse/runtime.py", "0", "0  # why", False),
    ("tlcourse/other.py", "0", "1", False),
    ("results/mine.json", "[]", "[1]", True),
    ("results/other.json", "[]", "[1]", False),
    ("results/stability.json", "{}", '{"a": 1}', False),
    ("pyproject.toml", "someone", "someone-else", True),
]
BAD_LESSONS = [
    # what is added to the lesson, what the error says
    ("# %%\nraise ValueError('the learner sees this')\n", "03_lesson, cell 6, raised:(.|\n)*the learner sees this"),
    ("# %% [markdown]\n# {{ 1 + }}\n", r"03_lesson, cell 6: \{\{ 1 \+ \}\} is not a Python expression"),
    ("# %% [markdown]\n# {{ nothing }}\n", r"03_lesson, cell 6: \{\{ nothing \}\} raised:(.|\n)*NameError"),
    ("# %% [markdown]\n# {{ 0.5 }}\n", r"cell 6: \{\{ 0.5 \}\} is a float"),
    ("# %% [markdown]\n# It reaches 0.87.\n", "'0.87' is a number typed in prose"),
    ("# %%\n1 +\n", "not plain Python"),
]
PROSE = [
    # markdown, the typed numbers in it
    ("It reaches 0.87 and .905.", ["0.87", ".905"]),
    ("It gains 12 % or 3.5% or 4 points", ["12 %", "3.5%", "4 points"]),
    ("one percentage point is 1 percentage point", ["1 percentage point"]),
    ('It reaches {{ f"{x:.2f}" }} and {{ f"{y:.0%}" }}.', []),
    ("a 95 % t-interval, the 95 % prediction interval, a 99% interval", []),
    ("95 % of them", ["95 %"]),
    ("at `lr=0.001`, $\\alpha = 0.05$, $$0.123$$", []),
    ("```python\nlr = 0.001\n```", []),
    ("[paper](https://arxiv.org/abs/1411.1792)", []),
    ("5 seeds, 200 labels, lesson 03, 4 minutes, in 2014, 1e-3, 2.5 times", []),
]


@pytest.fixture
def course(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def notebook(course, name="03_lesson"):
    return nbformat.read(course / "notebooks" / f"{name}.ipynb", as_version=4)


def replace(course, name, old, new):
    text = (course / name).read_text()
    assert old in text
    (course / name).write_text(text.replace(old, new))


def test_build(course, capsys):
    assert check(course) == ["notebooks/03_lesson.ipynb is missing or was not built; run: make build LESSON=03"]
    assert build(course) == []
    made = notebook(course)
    kinds = [cell.cell_type for cell in made.cells]
    assert kinds == ["markdown", "code", "code", "markdown", "code", "code"]
    title, set_up, first, prose, ignored, plain = made.cells
    assert title.source.startswith("# 03 A lesson\n\n[![Open in Colab](")
    assert "colab.research.google.com/github/someone/course/blob/main/notebooks/03_lesson.ipynb" in title.source
    assert title.source.endswith("What to expect.")
    assert "git+https://github.com/someone/course" in set_up.source
    assert set_up.outputs == []
    assert first.outputs[0].data["text/plain"] == "0.12345"
    assert prose.source == "We saw 0.12, that is a text, over 5 seeds; `{{kept}}` and $x^{{2}}$ stay."
    assert ignored.metadata == {"tags": ["nbval-ignore-output"]}
    assert [cell.execution_count for cell in made.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert [cell.metadata for cell in made.cells if cell is not ignored] == [{}] * 5
    assert check(course) == []

    before = (course / "notebooks/03_lesson.ipynb").read_bytes()
    capsys.readouterr()
    assert build(course) == []
    assert capsys.readouterr().out == "03_lesson: fresh\n"
    assert build(course, ["03"], force=True) == []
    assert (course / "notebooks/03_lesson.ipynb").read_bytes() == before
    text = before.decode()
    assert not re.search(r"\d{4}-\d\d-\d\dT", text)  # no time of execution
    assert str(course) not in text


def test_ids_are_stable_and_distinct(course):
    template = read_source(course / "sources/lessons/03_lesson.py", course)
    ids = [cell.id for cell in template.cells]
    assert len(set(ids)) == len(ids)
    replace(course, "sources/lessons/03_lesson.py", "# We saw", "# We have seen")
    changed = [cell.id for cell in read_source(course / "sources/lessons/03_lesson.py", course).cells]
    assert [old == new for old, new in zip(ids, changed, strict=True)] == [True, True, True, False, True, True]


@pytest.mark.parametrize(("name", "old", "new", "stale"), STALE)
def test_what_makes_a_notebook_stale(course, name, old, new, stale):
    source = course / "sources/lessons/04_reaching.py"
    source.write_text(REACHING)

    def stamp():
        return tool.fingerprint(source, read_source(source, course), course)

    before = stamp()
    replace(course, name, old, new)
    assert (stamp() != before) == stale


def test_a_lesson_that_shows_source_is_stale_after_any_edit(course):
    source = course / "sources/lessons/04_reaching.py"
    source.write_text(REACHING + "    inspect.getsource(lesson03)\n")
    before = tool.fingerprint(source, read_source(source, course), course)
    replace(course, "tlcourse/runtime.py", "0", "0  # why")
    assert tool.fingerprint(source, read_source(source, course), course) != before


def test_check_sees_edits_of_the_notebook(course):
    build(course)
    path = course / "notebooks/03_lesson.ipynb"
    built = path.read_text()
    for old, new in (("We saw 0.12", "We saw 0.99"), ('"0.12345"', '"0.12346"'), ('print(\\"again\\")', "1")):
        assert old in built
        path.write_text(built.replace(old, new, 1))
        assert check(course) == [
            "notebooks/03_lesson.ipynb was edited: edit sources/lessons/03_lesson.py, then run: make build LESSON=03"
        ]
    path.write_text(built)
    replace(course, "sources/lessons/03_lesson.py", "expect", "expect here")
    assert check(course) == ["notebooks/03_lesson.ipynb is stale; run: make build LESSON=03"]


@pytest.mark.parametrize("text", ["", "{}", '{"metadata": {"tlcourse": 1}}', '{"metadata": {"tlcourse": {}}}'])
def test_check_sees_notebooks_that_were_not_built(course, text):
    (course / "notebooks/03_lesson.ipynb").write_text(text)
    assert "missing or was not built" in check(course)[0]


def test_orphans_are_named_and_removed(course):
    build(course)
    (course / "notebooks/99_gone.ipynb").write_text("{}")
    assert check(course) == ["notebooks/99_gone.ipynb has no source; run: make build"]
    assert check(course, ["03"]) == []
    build(course, ["03"])
    assert (course / "notebooks/99_gone.ipynb").exists()
    build(course)
    assert not (course / "notebooks/99_gone.ipynb").exists()
    assert (course / "notebooks/helper.py").exists()


@pytest.mark.parametrize(("added", "message"), BAD_LESSONS)
def test_a_lesson_that_fails_leaves_the_old_notebook(course, added, message):
    path = course / "notebooks/03_lesson.ipynb"
    path.write_text("old")
    with (course / "sources/lessons/03_lesson.py").open("a") as lesson:
        lesson.write("\n" + added)
    (failure,) = build(course)
    assert re.search(message, failure)
    assert path.read_text() == "old"
    assert [p.name for p in (course / "notebooks").iterdir() if p.suffix not in (".py", "")] == ["03_lesson.ipynb"]


def test_one_failure_does_not_stop_the_others(course):
    (course / "sources/lessons/02_bad.py").write_text("# %%\n1\n")
    (failure,) = build(course)
    assert "02_bad.py: the first cell must be markdown" in failure
    assert check(course, ["03"]) == []


def test_too_large_a_notebook_is_an_error(course, monkeypatch):
    monkeypatch.setattr(tool, "MAXIMUM_BYTES", 1000)
    (failure,) = build(course)
    assert "draw fewer or smaller figures" in failure
    assert not (course / "notebooks/03_lesson.ipynb").exists()


def test_unknown_lesson(course):
    with pytest.raises(BuildError, match="no lesson '07'; there are 03"):
        build(course, ["07"])


def test_no_repository(course):
    replace(course, "pyproject.toml", "Repository", "Homepage")
    assert "Repository" in build(course)[0]


@pytest.mark.parametrize(("markdown", "expected"), PROSE)
def test_typed_numbers(markdown, expected):
    assert typed_numbers(markdown) == expected


def test_cited_cells_may_hold_numbers(course):
    with (course / "sources/lessons/03_lesson.py").open("a") as lesson:
        lesson.write('\n# %% [markdown] tags=["cited"]\n# The paper reports 0.87.\n')
    assert read_source(course / "sources/lessons/03_lesson.py", course).cells[-1].source == "The paper reports 0.87."


def test_the_kernel_is_quiet_and_has_no_predictions(course):
    (course / "sources/lessons/03_lesson.py").write_text(
        "# %% [markdown]\n# # 03 Environment\n\n# %%\nimport os\n\n"
        'print(os.environ["TLCOURSE_PROGRESS"], os.listdir(os.environ["TLCOURSE_HOME"]))\n'
    )
    build(course)
    assert notebook(course).cells[-1].outputs[0].text == "0 []\n"


def test_widget_views_are_left_out_where_a_fallback_stands_beside(course):
    view = "application/vnd.jupyter.widget-view+json"
    (course / "sources/lessons/03_lesson.py").write_text(
        "# %% [markdown]\n# # 03 Widgets\n\n# %%\nfrom IPython.display import display\n\n"
        f'display({{"text/plain": "fallback", "{view}": {{"model_id": "a"}}}}, raw=True)\n'
    )
    build(course)
    assert notebook(course).cells[-1].outputs[0].data == {"text/plain": "fallback"}


def test_command(course, monkeypatch, capsys):
    monkeypatch.setattr(tool, "check", lambda lessons: [f"stale {lessons}"])
    monkeypatch.setattr(tool, "build", lambda lessons, force: [])
    monkeypatch.setattr(tool.exercises, "check", lambda lessons: [f"exercises {lessons}"])
    monkeypatch.setattr(tool.exercises, "build", lambda lessons: [])
    assert tool.main(["--check", "03"]) == 1
    assert capsys.readouterr().err == "stale ['03']\nexercises ['03']\n"
    assert tool.main([]) == 0


def test_set_up_cell_does_nothing_here_and_installs_on_colab(monkeypatch):
    import subprocess
    import sys
    import types

    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    code = SET_UP.format(address="https://github.com/someone/course")
    exec(code, {})
    assert calls == []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(code, {})
    assert [command[1:] for command in calls] == [
        ["-m", "pip", "install", "-q", "git+https://github.com/someone/course"],
        ["-m", "tlcourse", "fetch"],
    ]


def test_written_notebooks_are_valid_json_with_a_stamp(course):
    build(course)
    content = json.loads((course / "notebooks/03_lesson.ipynb").read_text())
    assert set(content["metadata"]) == {"kernelspec", "language_info", "tlcourse"}
    assert content["metadata"]["language_info"] == {"name": "python"}
