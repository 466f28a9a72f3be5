"""Execute the lessons' notebooks headless, with progress and a time each; nothing is written into them.

    python -m tools.lessons [LESSON ...]                         # a LESSON is a number such as 03
    python -m tools.lessons --record-stability [LESSON ...]      # are the verdicts the same on other processors?

The second form executes each lesson on one thread, and with PyTorch's plainest instructions, and keeps the verdicts of
its claims in ``results/stability.json``; a test compares them with the notebooks.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from tqdm import tqdm

from tlcourse.claims import verdicts_in
from tlcourse.provenance import write_atomically
from tools.build import ROOT, code_of, running

VARIANTS = {
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
}
MINUTES = 4  # a lesson's budget, alone, on two threads


class LessonFailed(Exception):
    """A cell raised; the text names it and holds the traceback."""


def find(root: Path = ROOT, lessons: list[str] | None = None) -> list[Path]:
    """The notebooks, in order; of the numbers named only."""
    there = sorted((root / "notebooks").glob("*.ipynb"))
    chosen = [path for path in there if not lessons or path.stem.partition("_")[0] in lessons]
    if not chosen:
        raise LessonFailed(f"no lesson {' '.join(lessons or [])} in notebooks/; there are {[p.stem for p in there]}")
    return chosen


def execute(path: Path, *, label: str, **environment: str) -> tuple[list[list[str]], float]:
    """Run one notebook; return its claims as [text, verdict] and the seconds that it took."""
    notebook = nbformat.read(path, as_version=4)
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    began = time.perf_counter()
    with running(notebook, cwd=path.parent, **environment) as client:
        for index, cell in tqdm(cells, desc=label, unit="cell", leave=False):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                raise LessonFailed(f"{label}, cell {index}, raised:\n{error}") from error
    return verdicts_of(notebook), time.perf_counter() - began


def verdicts_of(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """The claims in a notebook's outputs, as [text, verdict]."""
    printed = (
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )
    return [[row["text"], row["found"]] for text in printed for row in verdicts_in(text)]


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """Of the code cells: prose changes no verdict."""
    return hashlib.sha256(code_of(notebook).encode()).hexdigest()


def run(root: Path = ROOT, lessons: list[str] | None = None) -> None:
    """Execute the lessons and print a time for each."""
    for path in find(root, lessons):
        verdicts, seconds = execute(path, label=path.stem)
        late = f"  more than its {MINUTES} minutes" if seconds > 60 * MINUTES else ""
        print(f"{path.stem:32} {seconds:6.1f} s  {len(verdicts)} claims{late}", flush=True)


def record_stability(root: Path = ROOT, lessons: list[str] | None = None) -> None:
    """Execute the lessons under each variant and keep the verdicts, beside those of the lessons not named."""
    record = root / "results" / "stability.json"
    kept = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for path in find(root, lessons):
        notebook = nbformat.read(path, as_version=4)
        verdicts = {}
        for name, environment in VARIANTS.items():
            verdicts[name], seconds = execute(path, label=f"{path.stem}, {name}", **environment)
            same = verdicts[name] == verdicts_of(notebook)
            print(f"{path.stem:32} {name:28} {seconds:6.1f} s  {'same verdicts' if same else 'VERDICTS DIFFER'}")
        kept[path.stem] = {"code": source_hash(notebook), "verdicts": verdicts}
        write_atomically(record, json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lessons", description=__doc__.partition("\n")[0])
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="numbers such as 03; none: all")
    parser.add_argument("--record-stability", action="store_true", help="keep the verdicts on other processors")
    options = parser.parse_args(arguments)
    try:
        (record_stability if options.record_stability else run)(lessons=options.lessons)
    except LessonFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
