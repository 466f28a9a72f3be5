"""What a learner has done, kept in one small file a task in the learner's own folder; nothing is sent anywhere."""

import contextlib
import html
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tlcourse.checks.answers import names_from_elsewhere, source_of
from tlcourse.checks.spec import Exercise, lessons, load

__all__ = ["Progress", "ProgressError", "Record", "note_hint", "note_verdict", "read_progress"]


class ProgressError(Exception):
    """A kept file that cannot be read, and what to do."""


@dataclass
class Record:
    """What was done on one task.

    Attributes
    ----------
    tries, hints
        Checks of something that was started, and hints opened.
    passed
        Whether a check has passed, once is enough.
    answer
        The source that passed last, with the imports that it had; "" where it could not be found.
    constants
        Those of the notebook in which it passed, where it has its own.
    """

    task: str
    tries: int = 0
    hints: int = 0
    passed: bool = False
    answer: str = ""
    constants: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Everything that is kept: records by task, and the forecasts that were committed. Prints as a table.

    Attributes
    ----------
    records
        Task id -> its record, only of tasks that were begun.
    tasks
        Every task there is.
    predictions
        Key -> value of each committed forecast.
    """

    records: dict[str, Record]
    tasks: tuple[Exercise, ...] = field(repr=False)
    predictions: dict[str, float]

    def rows(self) -> list[tuple[str, ...]]:
        """Task, title, points, state, tries, hints; as texts."""
        return [
            (task.id, task.title, str(task.points), self._state(task.id), *self._counts(task.id)) for task in self.tasks
        ]

    def as_json(self) -> str:
        """For programs; answers are left out."""
        kept = {
            task: {k: v for k, v in asdict(record).items() if k not in ("answer", "constants")}
            for task, record in self.records.items()
        }
        return json.dumps({"tasks": kept, "predictions": self.predictions, **self._points()}, indent=1)

    def __str__(self) -> str:
        head = ("task", "title", "points", "state", "tries", "hints")
        rows = [head, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, self._summary()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("task", "title", "points", "state", "tries", "hints"))
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align: left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows()
        )
        return f"<table><tr>{head}</tr>{body}</table><p>{html.escape(self._summary())}</p>"

    def _state(self, task: str) -> str:
        record = self.records.get(task)
        if record is None or not (record.tries or record.hints):
            return "-"
        return "passed" if record.passed else "tried"

    def _counts(self, task: str) -> tuple[str, str]:
        record = self.records.get(task, Record(task))
        return str(record.tries), str(record.hints)

    def _points(self) -> dict[str, int]:
        passed = {task for task, record in self.records.items() if record.passed}
        return {
            "points": sum(task.points for task in self.tasks if task.id in passed),
            "of": sum(task.points for task in self.tasks),
        }

    def _summary(self) -> str:
        passed = sum(self._state(task.id) == "passed" for task in self.tasks)
        points = self._points()
        return (
            f"{passed} of {len(self.tasks)} tasks passed the self-check ({points['points']} of {points['of']} points), "
            f"{len(self.predictions)} forecasts committed. A self-check is no grade."
        )


def read_progress() -> Progress:
    """Everything that is kept in the learner's folder.

    Raises
    ------
    ProgressError
        If a file cannot be read; the text names it.
    """
    tasks = tuple(task for lesson in lessons() for task in load(lesson))
    records = {task.id: _read(task.id) for task in tasks if _file(task.id).exists()}
    predictions = {}
    for path in sorted((_home() / "predictions").glob("*.json")):
        try:
            predictions[path.stem] = float(json.loads(path.read_text(encoding="utf-8"))["value"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProgressError(f"the kept forecast {path} cannot be read ({error}); delete that file") from error
    return Progress(records, tasks, predictions)


def note_verdict(verdict: Any, exercise: Exercise, answer: Any) -> str:
    """Keep what a check found; return what else there is to say about it, such as why it could not be kept."""
    if verdict.state == "not started":
        return ""

    source = source_of(exercise.entry, answer) if verdict.passed else ""

    def change(record: Record) -> None:
        record.tries += 1
        if verdict.passed:
            record.passed, record.answer = True, source
            record.constants = dict(exercise.given) if exercise.varied else {}

    said = [_update(exercise.id, change)]
    if elsewhere := names_from_elsewhere(source):
        said.append(
            f"But your cell uses {', '.join(f'`{name}`' for name in elsewhere)} from another cell. Only the answer's "
            f"own "
            "cell is graded: put everything that it needs into it."
        )
    return "\n".join(filter(None, said))


def note_hint(task: str, count: int) -> int:
    """Count one hint more; return which one to show, from 0."""
    step = _in_memory.get(task, 0)

    def change(record: Record) -> None:
        nonlocal step
        step = max(step, record.hints)
        record.hints += 1

    _update(task, change)
    _in_memory[task] = step + 1
    return step % count


_in_memory: dict[str, int] = {}  # hints seen, for where nothing can be written


def _update(task: str, change: Any) -> str:
    try:
        record = _read(task)
    except ProgressError as error:
        return f"(not kept: {error})"
    change(record)
    path = _file(task)
    half = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(asdict(record), ensure_ascii=False), encoding="utf-8")
        half.replace(path)
    except OSError as error:
        return f"(not kept: {error.strerror or error}, {path})"
    finally:
        with contextlib.suppress(OSError):  # where the folder itself could not be made
            half.unlink(missing_ok=True)
    return ""


def _read(task: str) -> Record:
    path = _file(task)
    if not path.exists():
        return Record(task)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        record = Record(**kept)
        kinds = [
            (record.task, str),
            (record.tries, int),
            (record.hints, int),
            (record.passed, bool),
            (record.answer, str),
            (record.constants, dict),
        ]
        if not all(type(value) is kind for value, kind in kinds) or record.task != task:
            raise ValueError("its fields are not those of this task")
    except (OSError, ValueError, TypeError) as error:
        raise ProgressError(f"your progress {path} cannot be read ({error}); delete that file") from error
    return record


def _file(task: str) -> Path:
    return _home() / "exercises" / f"{task}.json"


def _home() -> Path:
    from tlcourse.widgets import learner_dir

    return learner_dir()
