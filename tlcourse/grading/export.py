"""Fifth stage: results for people and for their systems. What a learner wrote is data in all of them, never markup or
formula.

``results.json`` (checked against `SCHEMA`), ``grades.csv``, ``canvas.csv``, for Gradescope a ``results.json`` a
learner, a page of feedback a learner (`feedback`), and ``audit.json``: what was graded with what.
"""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tlcourse.provenance import write_atomically

__all__ = ["FORMAT", "SCHEMA", "as_text", "check", "gradescope", "read_roster", "safe_cell", "write_all"]

FORMAT = 1
STATUS = ["right", "partly right", "wrong", "raised", "stopped", "missing", "not started"]
_TEXT = {"type": "string", "maxLength": 20_000}
_POINTS = {"type": "number", "minimum": 0}
_TEXTS = {"type": "array", "items": _TEXT}


def _object(properties: dict) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_ASPECT = _object({"key": _TEXT, "title": _TEXT, "weight": _POINTS | {"maximum": 1}, "held": {"type": "boolean"}})
_TASK = _object(
    {
        "id": _TEXT,
        "title": _TEXT,
        "score": _POINTS,
        "max_score": _POINTS,
        "status": {"enum": STATUS},
        "aspects": {"type": "array", "items": _ASPECT},
        "misconception": _TEXT,
        "message": _TEXT,
        "printed": _TEXT,
        "notes": _TEXTS,
        "curious": _TEXTS,
    }
)
_SUBMISSION = _object(
    {
        "format": {"const": FORMAT},
        "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,90}$"},
        "name": _TEXT,
        "assignment": _TEXT,
        "key": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "digest": {"type": "string", "pattern": "^([0-9a-f]{64})?$"},
        "jail": {"enum": ["bubblewrap", "namespaces", "container", "none"]},
        "warning": _TEXT,
        "problem": _TEXT,
        "notes": _TEXTS,
        "score": _POINTS,
        "max_score": _POINTS,
        "tasks": {"type": "array", "items": _TASK},
    }
)
_BATCH = _object(
    {
        "format": {"const": FORMAT},
        "assignment": _TEXT,
        "title": _TEXT,
        "max_score": _POINTS,
        "jail": {"type": "string"},
        "warning": _TEXT,
        "submissions": {"type": "array", "items": _SUBMISSION},
    }
)
SCHEMA = {"submission": _SUBMISSION, "batch": _BATCH}
# A spreadsheet runs a cell that begins with one of these; the wide ones become narrow in some of them.
BEGINS_FORMULA = tuple("=+-@\t\r\n|%\uff1d\uff0b\uff0d\uff20")
TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def check(value: Any, what: Literal["submission", "batch"]) -> None:
    """See that a result has the form that others rely on, and that no score is outside of its range.

    Raises
    ------
    ValueError
        If it has not; the text says where.
    """
    import jsonschema

    try:
        jsonschema.validate(value, SCHEMA[what])
    except jsonschema.ValidationError as error:
        raise ValueError(f"not a {what} result, at {error.json_path}: {error.message[:200]}") from error
    for result in value["submissions"] if what == "batch" else [value]:
        for scored in (result, *result["tasks"]):
            if not 0 <= scored["score"] <= scored["max_score"]:
                raise ValueError(f"{result['id']}: a score of {scored['score']} is not in 0..{scored['max_score']}")


def as_text(value: Any) -> str:
    """JSON as this module writes it: the same value, the same bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def safe_cell(text: str) -> str:
    r"""A text as a spreadsheet shows it and does not run it: an apostrophe before what would begin a formula.

    Examples
    --------
    >>> safe_cell('=HYPERLINK("http://example.org")'), safe_cell("Ada, Countess")
    ('\'=HYPERLINK("http://example.org")', 'Ada, Countess')
    """
    text = re.sub(r"[\r\n\x00]+", " ", TURNING.sub("", text))
    seen = unicodedata.normalize("NFKC", text).lstrip(" \u00a0\ufeff'\"")
    return f"'{text}" if text.startswith(BEGINS_FORMULA) or seen.startswith(BEGINS_FORMULA) else text


def read_roster(path: Path) -> dict[str, dict[str, str]]:
    """People by id: a CSV with the column ``id`` and any of ``name``, ``email``, ``canvas_id``, ``sis_id``,
    ``section``.

    Raises
    ------
    ValueError
        If there is no column ``id``, or an id twice.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    people: dict[str, dict[str, str]] = {}
    for row in rows:
        key = (row.get("id") or "").strip()
        if not key or key in people:
            raise ValueError(
                f"{path.name}: every row needs an id of its own in the column `id`, and {key!r} is not one"
            )
        people[key] = {name: value.strip() for name, value in row.items() if name and isinstance(value, str)}
    return people


def write_all(
    batch: dict, out: Path, *, audit: Mapping[str, Any], people: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write every export of a batch.

    Parameters
    ----------
    batch
        As in `SCHEMA`.
    out
        The results folder.
    audit
        What was graded with what.
    people
        Of `read_roster`.
    """
    from tlcourse.grading.feedback import page

    check(batch, "batch")
    people = people or {}
    write_atomically(out / "results.json", as_text(batch))
    write_atomically(out / "grades.csv", _grades(batch, people))
    write_atomically(out / "canvas.csv", _canvas(batch, people))
    write_atomically(out / "audit.json", as_text(audit))
    for result in batch["submissions"]:
        person = _person(result, people)
        write_atomically(out / "feedback" / f"{result['id']}.html", page(result, batch["title"], person["name"]))
        write_atomically(out / "gradescope" / result["id"] / "results.json", as_text(gradescope(result)))


def gradescope(result: dict) -> dict:
    """One learner's result as Gradescope reads it: ``/autograder/results/results.json``."""
    passed = {"right": "passed"}
    tests = [
        {
            "number": task["id"],
            "name": f"{task['id']} {task['title']}",
            "score": task["score"],
            "max_score": task["max_score"],
            "status": passed.get(task["status"], "failed"),
            "output": "\n".join(filter(None, [task["message"], *task["notes"]])),
            "output_format": "text",
            "visibility": "visible",
        }
        for task in result["tasks"]
    ]
    said = "\n".join(filter(None, [result["warning"], result["problem"], *result["notes"]]))
    return {
        "score": result["score"],
        "output": said,
        "output_format": "text",
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"digest": result["digest"], "key": result["key"], "jail": result["jail"]},
    }


def _grades(batch: dict, people: Mapping) -> str:
    tasks = [task["id"] for task in batch["submissions"][0]["tasks"]] if batch["submissions"] else []
    rows = [["id", "name", "email", "assignment", "score", "max_score", *tasks, "problem", "jail", "warning"]]
    for result in batch["submissions"]:
        person = _person(result, people)
        texts = [result["id"], person["name"], person["email"], batch["assignment"]]
        points = [result["score"], result["max_score"], *(task["score"] for task in result["tasks"])]
        rows.append(
            [*map(safe_cell, texts), *points, *map(safe_cell, (result["problem"], result["jail"], result["warning"]))]
        )
    return _table(rows)


def _canvas(batch: dict, people: Mapping) -> str:
    """The columns that Canvas's gradebook import asks for; without a roster its ids are empty, and it goes by name."""
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section", safe_cell(batch["title"])]]
    rows.append(["    Points Possible", "", "", "", "", batch["max_score"]])
    for result in batch["submissions"]:
        person = _person(result, people)
        texts = [person["name"], person["canvas_id"], person["sis_id"], person["email"], person["section"]]
        rows.append([*map(safe_cell, texts), result["score"]])
    return _table(rows)


def _person(result: dict, people: Mapping) -> dict[str, str]:
    blank = dict.fromkeys(("name", "email", "canvas_id", "sis_id", "section"), "")
    known = people.get(result["id"]) or people.get(result["name"]) or {}
    person = blank | dict(known)
    return person | {"name": person["name"] or result["name"]}


def _table(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
