"""What nbval does not see in the notebooks, and a proof of what it does see.

nbval never compares a cell without an execution count, nor PNG, JPEG and widget views, nor what goes into an Output
widget. The contract below closes these holes; the proof alters outputs one by one and runs nbval on them.
"""

import ast
import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import find_comment_markers, find_metadata_tags

from tlcourse.claims import read_claims, verdicts_in
from tools.build import MAXIMUM_BYTES, WIDGET_VIEW, check, fill_and_execute
from tools.lessons import VARIANTS, source_hash, verdicts_of

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SANITIZE = Path(__file__).parent / "nbval_sanitize.cfg"

# Cells whose text output nbval does not compare: (notebook, first line of code): the reason. Few, at most 2 a lesson.
EXCLUDED: dict[tuple[str, str], str] = {}
MAXIMUM_EXCLUDED = 2

HERE = (str(ROOT), sys.prefix, str(Path.home()), tempfile.gettempdir())
_MACHINE = re.compile(
    "|".join([*map(re.escape, HERE), r"/home/|/Users/|/usr/|[A-Z]:\\|site-packages| at 0x[0-9a-f]{6}"])
)
_MEANINGLESS = re.compile(r"^<(Figure size|IPython\.core\.display\.|.* object at)")


# The contract -----------------------------------------------------------------------------------------------------


def problems(notebook) -> list[str]:
    """What breaks the contract in a notebook, a line each."""
    found = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.strip():
            found += [f"cell {index}: {problem}" for problem in _problems_of_cell(cell)]
    return found


def _problems_of_cell(cell) -> list[str]:
    found = []
    if cell.execution_count is None:
        found.append("it was not run, so nbval compares nothing")
    printed = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
    claims, reruns = calls(cell.source, "claim"), calls(cell.source, "rerun")
    if len(list(verdicts_in(printed))) < claims:
        found.append(f"it calls claim {claims} times, but prints fewer verdicts to stdout")
    if printed.count("RUN AGAIN, AGREES: ") < reruns:
        found.append(f"it calls rerun {reruns} times, but prints fewer outcomes to stdout")
    if (claims or reruns) and excluded(cell):
        found.append("it makes a claim, and is excluded from comparison")
    for output in cell.outputs:
        if output.output_type == "error":
            found.append(f"it raised {output.ename}")
        if output.get("name") == "stderr":
            found.append(f"it wrote to stderr: {output.text[:60]!r}")
        data = output.get("data", {})
        texts = [output.get("text", ""), *(text for kind, text in data.items() if kind.startswith("text/"))]
        found += [f"its output names this machine: {m.group()!r}" for text in texts for m in _MACHINE.finditer(text)]
        if set(data) == {WIDGET_VIEW}:
            found.append("its widget has no static fallback")
        for kind in ("image/png", "image/jpeg"):
            if kind in data:
                alt = output.metadata.get(kind, {}).get("alt", "")
                text = data.get("text/plain", "")
                if not alt.strip():
                    found.append("its figure has no alt text")
                if not text.strip() or _MEANINGLESS.match(text):
                    found.append("its figure has no text that nbval could compare")
    return found


def calls(source: str, name: str) -> int:
    """How often a cell calls a function or a method of this name, as it is written."""
    nodes = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return sum(name in (getattr(func, "id", None), getattr(func, "attr", None)) for func in nodes)


def excluded(cell) -> bool:
    """Whether nbval, as it reads tags and comments, leaves the output of this cell out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of contradicting markers nbval takes the last, as here
        options = dict(find_metadata_tags(cell.metadata)) | dict(find_comment_markers(cell.source))
    return options.get("check") is False or bool(options.get("skip") or options.get("check_exception"))


def exclusions(path: Path) -> set[tuple[str, str]]:
    cells = nbformat.read(path, as_version=4).cells
    return {
        (path.stem, cell.source.partition("\n")[0]) for cell in cells if cell.cell_type == "code" and excluded(cell)
    }


def ran(source: str, *outputs, count: int | None = 1, **metadata):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def stdout(text: str):
    return new_output("stream", name="stdout", text=text)


VERDICT = (
    "SUPPORTED as expected: it gains\n  bar: above +0.03; 95 % t-interval over n = 5 paired seeds\n"
    "  measured: +0.0840 [+0.0698, +0.0982]\n"
)
FIGURE = {"image/png": "aGVsbG8=", "text/plain": "Figure: two lines"}
BREACHES = [
    # a cell, what the contract says of it (None: nothing)
    (ran("1 + 1"), None),
    (ran("# %%", count=None), "not run"),
    (ran("", count=None), None),
    (ran("claim('it gains', gain, above=0.03)", stdout(VERDICT)), None),
    (ran("for g in gains:\n    claim('it gains', g, above=0.03)", stdout(VERDICT * 3)), None),
    (ran("claim('it gains', gain, above=0.03)"), "fewer verdicts"),
    (ran("claim('a', g, above=0); tl.claim('b', g, above=0)", stdout(VERDICT)), "calls claim 2 times"),
    (ran("with output:\n    claim('it gains', gain, above=0.03)"), "fewer verdicts"),
    (ran("claim('a', g, above=0)", stdout(VERDICT), tags=["nbval-ignore-output"]), "excluded"),
    (ran("# NBVAL_IGNORE_OUTPUT\nclaim('a', g, above=0)", stdout(VERDICT)), "excluded"),
    (ran("claim('a', g, above=0)", stdout(VERDICT), tags=["nbval-skip"]), "excluded"),
    (ran("claim('a', g, above=0)", stdout(VERDICT), tags=["raises-exception"]), "excluded"),
    (ran("kept.rerun()"), "fewer outcomes"),
    (ran("kept.rerun()", stdout("RUN AGAIN, AGREES: curves\n")), None),
    (ran("1", new_output("error", ename="ValueError", evalue="", traceback=[])), "raised ValueError"),
    (ran("1", new_output("stream", name="stderr", text="UserWarning")), "stderr"),
    (ran("1", stdout("in /home/me/course")), "names this machine"),
    (ran("1", stdout("<object object at 0x7f1234567890>")), "names this machine"),
    (ran("1", new_output("execute_result", {"text/html": f"{ROOT}/a"}, execution_count=1)), "names this machine"),
    (ran("1", new_output("display_data", FIGURE, metadata={"image/png": {"alt": "two lines"}})), None),
    (ran("1", new_output("display_data", FIGURE)), "no alt text"),
    (
        ran("1", new_output("display_data", {**FIGURE, "text/plain": "<Figure size 700x400>"})),
        "no text that nbval could compare",
    ),
    (ran("1", new_output("display_data", {WIDGET_VIEW: {"model_id": "a"}})), "no static fallback"),
]


@pytest.mark.parametrize(("cell", "message"), BREACHES, ids=range(len(BREACHES)))
def test_the_contract_bites(cell, message):
    found = problems(new_notebook(cells=[new_markdown_cell("# title"), cell]))
    if message is None:
        assert found == []
    else:
        assert any(message in problem and problem.startswith("cell 1: ") for problem in found), found


# The course's notebooks -------------------------------------------------------------------------------------------


def test_there_are_notebooks():
    assert NOTEBOOKS, "no notebook is built: run make build"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_keeps_the_contract(path):
    assert problems(nbformat.read(path, as_version=4)) == []
    assert path.stat().st_size <= MAXIMUM_BYTES


def test_notebooks_are_those_of_their_sources():
    assert check(ROOT) == []


def test_excluded_cells_are_listed_with_a_reason():
    found = set().union(*map(exclusions, NOTEBOOKS))
    assert found == set(EXCLUDED)
    assert all(reason.strip() for reason in EXCLUDED.values())
    for path in NOTEBOOKS:
        assert sum(name == path.stem for name, _ in EXCLUDED) <= MAXIMUM_EXCLUDED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_at_most_a_third_of_a_lessons_claims_is_inconclusive(path):
    verdicts = [row["found"] for row in read_claims(ROOT / "notebooks") if row["lesson"] == path.stem]
    assert verdicts, "a lesson without a claim"
    assert verdicts.count("inconclusive") * 3 <= len(verdicts), "more seeds are needed"


# A bound nearer to its bar than this share of the interval's width: such a verdict has differed between two processors.
HAIR = 0.015


def on_edge(row: dict) -> bool:
    """Whether the rounding of a processor could turn a claim's verdict."""
    bars = map(float, re.findall(r"[+-][0-9.]+", row["bar"]))
    return any(abs(bar - row[bound]) < HAIR * (row["high"] - row["low"]) for bar in bars for bound in ("low", "high"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_verdict_hangs_on_rounding(path):
    rows = [row for row in read_claims(ROOT / "notebooks") if row["lesson"] == path.stem]
    assert [row["text"] for row in rows if on_edge(row)] == [], "ask it of fresh seeds, once, with the bar as it is"


@pytest.mark.parametrize(
    "bar, low, high, edge",
    [
        ("above +0.2", 0.2026, 0.4432, True),
        ("above +0.2", 0.2100, 0.4432, False),
        ("below -0.1", -0.3, -0.1005, True),
        ("between -0.05 and +0.05", -0.01, 0.0498, True),
        ("between -0.05 and +0.05", -0.01, 0.04, False),
    ],
)
def test_a_bound_on_its_bar_is_noticed(bar, low, high, edge):
    assert on_edge({"bar": bar, "low": low, "high": high}) == edge


def test_kept_results_are_whole_and_fresh():
    from tlcourse.experiments import EXPERIMENTS
    from tlcourse.results import load_results

    for experiment in EXPERIMENTS:
        assert load_results(experiment).points()
    names = {f"{experiment.name}.json" for experiment in EXPERIMENTS} | {"stability.json"}
    assert {path.name for path in (ROOT / "results").glob("*.json")} <= names


def differences(record: dict, name: str, notebook) -> list[str]:
    """Where the kept record of other processors does not fit a notebook."""
    made = record.get(name)
    remedy = f"run: python -m tools.lessons --record-stability {name.partition('_')[0]}"
    if made is None or made["code"] != source_hash(notebook) or set(made["verdicts"]) != set(VARIANTS):
        return [f"{name}: the record is missing or older than the lesson; {remedy}"]
    here = verdicts_of(notebook)
    return [f"{name}: other verdicts with {variant}" for variant, there in made["verdicts"].items() if there != here]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_verdicts_are_the_same_on_other_processors(path):
    record = ROOT / "results" / "stability.json"
    kept = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    assert differences(kept, path.stem, nbformat.read(path, as_version=4)) == []


def test_the_record_of_other_processors_bites():
    notebook = new_notebook(cells=[ran("claim()", stdout(VERDICT))])
    same = [["it gains", "supported"]]
    good = {"code": source_hash(notebook), "verdicts": dict.fromkeys(VARIANTS, same)}
    first, second = VARIANTS
    other = {**good, "verdicts": {first: same, second: [["it gains", "inconclusive"]]}}
    assert differences({"00": good}, "00", notebook) == []
    assert differences({"00": other}, "00", notebook) == [f"00: other verdicts with {second}"]
    assert "missing or older" in differences({}, "00", notebook)[0]
    assert "missing or older" in differences({"00": {**good, "code": "old"}}, "00", notebook)[0]
    assert "missing or older" in differences({"00": {**good, "verdicts": {first: same}}}, "00", notebook)[0]


# The proof that nbval bites ---------------------------------------------------------------------------------------

SET_UP = """\
import sys

sys.path.insert(0, ROOT)
from IPython.display import display

from tlcourse.claims import claim
from tlcourse.intervals import Scores

gain = Scores((0.08, 0.10, 0.07, 0.09, 0.08), (0, 1, 2, 3, 4), paired=True)
"""
CLAIM = "claim('it gains', gain, above=0.03);"
DRAW = 'display({"image/png": PNG, "text/plain": "Figure: two lines"}, raw=True)'


def altered_text(old, new):
    def alter(cell):
        assert old in cell.outputs[0].text
        cell.outputs[0].text = cell.outputs[0].text.replace(old, new, 1)

    return alter


def altered_data(kind, value):
    def alter(cell):
        assert cell.outputs[0].data[kind] != value
        cell.outputs[0].data[kind] = value

    return alter


def emptied(cell):
    cell.outputs, cell.execution_count = [], None


PROOF = [
    # what the cell does, how its kept output is altered, does nbval pass it?
    (CLAIM, lambda cell: None, True),
    (CLAIM, altered_text("SUPPORTED", "REFUTED"), False),
    (CLAIM, altered_text("as expected", "but refuted was expected"), False),
    (CLAIM, altered_text("above +0.03", "above +0.04"), False),
    (CLAIM, altered_text("n = 5", "n = 6"), False),
    (CLAIM, altered_text("it gains", "it loses"), False),
    (CLAIM, altered_text("+0.0840", "+0.0841"), True),  # digits differ between processors
    (CLAIM, altered_text("+0.0840", "nan"), False),
    (CLAIM, altered_text("  measured: +0.0840 [+0.0698, +0.0982]\n", ""), False),
    (DRAW, lambda cell: None, True),
    (DRAW, altered_data("text/plain", "Figure: three lines"), False),
    # Holes, which the contract closes: a picture, a cell that was not run, an excluded cell.
    (DRAW, altered_data("image/png", base64.b64encode(b"another picture").decode()), True),
    (CLAIM, emptied, True),
    ("# NBVAL_IGNORE_OUTPUT\n" + CLAIM, altered_text("SUPPORTED", "REFUTED"), True),
]


def test_nbval_sees_one_altered_character(tmp_path):
    picture = base64.b64encode(b"a picture").decode()
    sources = [SET_UP.replace("ROOT", repr(str(ROOT))) + f"PNG = {picture!r}", *(source for source, _, _ in PROOF)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    template = new_notebook(cells=[new_code_cell(source) for source in sources], metadata=kernel)
    notebook = fill_and_execute(template, cwd=tmp_path, name="proof")
    for cell, (_, alter, _) in zip(notebook.cells[1:], PROOF, strict=True):
        alter(cell)
    nbformat.write(notebook, tmp_path / "proof.ipynb")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--color=no", "--tb=no"]
    command += [
        "-c",
        "pytest.ini",
        "--rootdir",
        ".",
        "--nbval",
        "--nbval-current-env",
        "--nbval-sanitize-with",
        str(SANITIZE),
        "proof.ipynb",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    outcomes = _outcomes(run.stdout)
    assert outcomes == {0: True, **{index + 1: passes for index, (_, _, passes) in enumerate(PROOF)}}, run.stdout


def _outcomes(report: str) -> dict[int, bool]:
    lines = re.findall(r"^(PASSED|FAILED) proof\.ipynb::Cell (\d+)", report, re.MULTILINE)
    return {int(cell): outcome == "PASSED" for outcome, cell in lines}
