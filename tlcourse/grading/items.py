"""What graded submissions say about the tasks: how hard each is, whether it tells learners apart, what goes wrong.

For instructors; the notebook ``exercises/instructors/item_analysis.ipynb`` shows it. Only what was handed in and could
be read counts. From a class of twenty such numbers are vague: they say where to look.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tlcourse.checks.certificate import read_certificate
from tlcourse.grading import export

__all__ = ["Effort", "Item", "analyse", "as_text", "correlation", "read_efforts", "read_results", "totals"]

NOT_TRIED = ("missing", "not started")
FEWEST = 3  # with two learners every correlation is perfect


@dataclass(frozen=True)
class Item:
    """One task in a class.

    Attributes
    ----------
    task, title
        Its id and title.
    n, tried
        Submissions that could be read, and those of them that began the task.
    difficulty
        The mean share of its points, of all n; as is the custom, a *high* one is that of an easy task.
    right
        The share of submissions that got all of its points.
    discrimination
        The correlation of its points with the points of all other tasks together: near zero or below, the task asks for
        something else than the others do, or is unclear. None where it is not defined: with fewer than three
        submissions, or where one of the two has no spread.
    misconceptions
        (name, how often), the commonest first.
    """

    task: str
    title: str
    n: int
    tried: int
    difficulty: float
    right: float
    discrimination: float | None
    misconceptions: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Effort:
    """What certificates say of a task: how many there are, and the medians of tries and of opened hints."""

    n: int
    tries: float
    hints: float


def read_results(folder: str | Path) -> dict[str, Any]:
    """``results.json`` of a folder that `tlcourse grade` has filled.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it has another form.
    """
    path = Path(folder) / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"no results.json in {folder}: give the folder that `tlcourse grade --out` has filled")
    batch = json.loads(path.read_text(encoding="utf-8"))
    export.check(batch, "batch")
    return batch


def analyse(batch: Mapping[str, Any]) -> list[Item]:
    """Look at each task.

    Parameters
    ----------
    batch
        Of `read_results`.

    Returns
    -------
    The tasks in order; none where no submission could be read.
    """
    graded = _readable(batch)
    if not graded:
        return []
    items = []
    for place in range(len(graded[0]["tasks"])):
        tasks = [result["tasks"][place] for result in graded]
        scores = [task["score"] for task in tasks]
        rests = [result["score"] - score for result, score in zip(graded, scores, strict=True)]
        shares = [task["score"] / task["max_score"] for task in tasks]
        slips = Counter(task["misconception"] for task in tasks if task["misconception"])
        items.append(
            Item(
                tasks[0]["id"],
                tasks[0]["title"],
                n=len(tasks),
                tried=sum(task["status"] not in NOT_TRIED for task in tasks),
                difficulty=math.fsum(shares) / len(shares),
                right=sum(task["status"] == "right" for task in tasks) / len(tasks),
                discrimination=correlation(scores, rests),
                misconceptions=tuple(sorted(slips.items(), key=lambda slip: (-slip[1], slip[0]))),
            )
        )
    return items


def totals(batch: Mapping[str, Any]) -> list[float]:
    """The share of all points that each submission got, in order; those that could not be read are left out."""
    return [result["score"] / result["max_score"] for result in _readable(batch)]


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation; None where it is not defined, or is so of necessity.

    Examples
    --------
    >>> correlation([2, 2, 0, 0], [5, 3, 3, 1]), correlation([1, 1, 1], [0, 1, 2]), correlation([0, 1], [0, 1])
    (0.7071067811865475, None, None)
    """
    if len(a) < FEWEST:
        return None
    deviations = [[value - math.fsum(values) / len(values) for value in values] for values in (a, b)]
    spreads = [math.sqrt(math.fsum(d * d for d in row)) for row in deviations]
    # What rounding leaves of equal values is no spread.
    if any(spread <= 1e-9 * max(1.0, *map(abs, values)) for spread, values in zip(spreads, (a, b), strict=True)):
        return None
    return math.fsum(x * y for x, y in zip(*deviations, strict=True)) / (spreads[0] * spreads[1])


def read_efforts(certificates: Iterable[str | Path]) -> dict[str, Effort]:
    """Tries and hints, where learners handed in certificates (``python -m tlcourse progress --certificate NAME``).

    A grader sees the last answer alone; how often a learner tried is in the learner's own folder, and comes with a
    certificate, of what was passed. Anybody can change it.

    Raises
    ------
    CertificateError
        If one cannot be read.
    """
    kept: dict[str, list[tuple[int, int]]] = {}
    for path in certificates:
        for task in read_certificate(path)["tasks"]:
            if all(type(task.get(name)) is int for name in ("tries", "hints")):
                kept.setdefault(task["task"], []).append((task["tries"], task["hints"]))
    return {
        task: Effort(len(rows), median(tries for tries, _ in rows), median(hints for _, hints in rows))
        for task, rows in sorted(kept.items())
    }


def as_text(items: Sequence[Item], efforts: Mapping[str, Effort] | None = None) -> str:
    """A table for reading: a line a task, "-" where something is not defined or not known."""
    head = ["task", "title", "n", "tried", "difficulty", "all right", "discrimination", "commonest misconception"]
    rows = [head + ["tries", "hints"] * bool(efforts)]
    for item in items:
        said = ", ".join(f"{name} ({count})" for name, count in item.misconceptions[:1]) or "-"
        apart = "-" if item.discrimination is None else f"{item.discrimination:+.2f}"
        row = [item.task, item.title, str(item.n), str(item.tried), f"{item.difficulty:.2f}", f"{item.right:.2f}"]
        effort = (efforts or {}).get(item.task)
        more = [f"{effort.tries:g}", f"{effort.hints:g}"] if effort else ["-", "-"]
        rows.append([*row, apart, said, *(more if efforts else [])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _readable(batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A notebook that could not be read says nothing about any task."""
    return [result for result in batch["submissions"] if not result["problem"]]
