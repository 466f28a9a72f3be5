"""Fourth stage: what an answer is worth, decided outside of the jail from plain data.

Inputs are drawn from a seed that nobody but the grader has, and the expected values are computed here, before the first
answer runs. The comparison is the self-check's own (`tlcourse.checks.judging`): what is graded is what was taught.
"""

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tlcourse.checks.judging import Judgement, Run, judge, mismatch
from tlcourse.checks.spec import Exercise
from tlcourse.grading import courseware

__all__ = ["Paper", "clean", "prepare", "score_task", "vary"]

LONGEST = 2_000
HIDDEN_DRAWS = 4
COMPLEX = (np.complex64, np.complex128)
CONTROL = re.compile(r"[^\S\n\t ]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Marks that turn the direction of what follows: they could make a message read as another one.
TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SAID = {
    "stopped": "your code ended the program that ran it, or was ended by the system",
    "too slow": "your code did not come to an end in the time that this task has",
    "too much memory": "your code took more memory than there is for it",
    "too many processes": "your code started more processes than there are for it",
    "too much output": "your code sent back more than can be read",
    "malformed": "your code disturbed what was sent back",
}


@dataclasses.dataclass(frozen=True)
class Paper:
    """An assignment made ready: what goes into the jail, and what stays outside.

    Attributes
    ----------
    exercises
        In order.
    inputs, expected
        Task id -> one dict a draw. Of these only ``inputs`` goes in.
    setup, probes
        Sources that run beside the answers; ``probes`` by module.
    key
        Hash of all of it: a result that has another key is of another paper.
    """

    exercises: tuple[Exercise, ...]
    inputs: dict[str, list[dict]]
    expected: dict[str, list[dict]]
    setup: tuple[str, ...]
    probes: dict[str, str]
    key: str

    def job(self, answers: Mapping[str, str | None], *, asked: Sequence[str]) -> dict:
        """What `worker.run_job` gets: every answer, since later ones may use earlier ones, and inputs for those
        asked.
        """
        tasks = [
            {
                "id": exercise.id,
                "entry": exercise.entry,
                "probe": [exercise.probe.__module__, _probe_name(exercise)],
                "answer": answers[exercise.id],
                "inputs": self.inputs[exercise.id] if exercise.id in asked else [],
            }
            for exercise in self.exercises
            if exercise.id in answers
        ]
        return {"setup": list(self.setup), "probes": self.probes, "tasks": tasks}

    @property
    def seconds(self) -> float:
        """The most that one draw may take."""
        return max(exercise.seconds for exercise in self.exercises)

    @property
    def max_score(self) -> float:
        """All points."""
        return float(sum(exercise.points for exercise in self.exercises))


def prepare(
    exercises: Sequence[Exercise],
    *,
    seed: int,
    setup: Sequence[str] = (),
    hidden: Mapping[str, Callable[[np.random.Generator], dict]] | None = None,
) -> Paper:
    """Draw the inputs and compute what right answers give.

    Parameters
    ----------
    seed
        Keep it from learners: who knows it knows the inputs.
    setup
        Sources of cells that run before the answers.
    hidden
        Task id -> a function that draws more inputs, such as those at the edges.

    Raises
    ------
    ValueError
        If a probe reaches its oracle.
    """
    inputs, expected, by_module = {}, {}, {}
    for exercise in exercises:
        # Drawn twice: an oracle that changed its inputs would change the learners' as well.
        inputs[exercise.id] = _draw(exercise, hidden, seed)
        expected[exercise.id] = [exercise.oracle(drawn) for drawn in _draw(exercise, hidden, seed)]
        by_module.setdefault(exercise.probe.__module__, []).append(exercise)
    probes = {}
    for name, members in by_module.items():
        module = inspect.getmodule(members[0].probe)
        oracles = [exercise.oracle.__name__ for exercise in members]
        named = {_probe_name(exercise): exercise.probe for exercise in members}
        probes[name] = courseware.cut_out(module, named, never=oracles)
    text = repr(
        (seed, probes, tuple(setup), [(e.id, e.points, e.entry, e.draws, e.aspects, e.given) for e in exercises])
    )
    key = hashlib.sha256((text + repr(expected)).encode("utf-8", "replace")).hexdigest()
    return Paper(tuple(exercises), inputs, expected, tuple(setup), probes, key)


def vary(
    paper: Paper,
    constants: Mapping[str, Mapping[str, Any]],
    *,
    seed: int,
    hidden: Mapping[str, Callable[[np.random.Generator], dict]] | None = None,
) -> Paper:
    """The same paper for a learner who has constants of their own.

    Parameters
    ----------
    constants
        Task id -> name -> value.
    seed, hidden
        As they were given to `prepare`.
    """
    exercises = tuple(exercise.variant(constants.get(exercise.id, {})) for exercise in paper.exercises)
    own = prepare([e for e in exercises if e.varied], seed=seed, setup=paper.setup, hidden=hidden)
    return dataclasses.replace(
        paper,
        exercises=exercises,
        inputs=paper.inputs | own.inputs,
        expected=paper.expected | own.expected,
        key=hashlib.sha256((paper.key + own.key).encode()).hexdigest(),
    )


def score_task(paper: Paper, exercise: Exercise, drawn: Mapping[int, Mapping], *, notes: Sequence[str] = ()) -> dict:
    """Judge one answer.

    Parameters
    ----------
    drawn
        Number of the draw -> what arrived for it: ``{"value": ...}``, ``{"error": {...}}`` or ``{"ending": ...}``. What
        came out of the jail may be anything; draws may be missing.

    Returns
    -------
    dict
        As in the schema of `export`.
    """
    runs, failures = [], []
    for number, (inputs, expected) in enumerate(
        zip(paper.inputs[exercise.id], paper.expected[exercise.id], strict=True)
    ):
        arrived = drawn.get(number, {"ending": "stopped"})
        outputs = _usable(exercise, arrived.get("value"), expected) if "value" in arrived else None
        if outputs is None:
            failures.append(arrived if "value" not in arrived else {"error": UNFIT})
        runs.append(Run(inputs, outputs, expected))
    judgement = _judge(exercise, runs)
    held, share, message = judgement.held, judgement.share, judgement.why
    status = "right" if share >= 1 else "partly right" if share > 0 else "wrong"
    if failures:
        status, message = _explain(failures[0])
    printed = next((arrived["printed"] for arrived in drawn.values() if isinstance(arrived.get("printed"), str)), "")
    return {
        "id": exercise.id,
        "title": exercise.title,
        "score": round(min(max(share, 0.0), 1.0) * exercise.points, 4),
        "max_score": float(exercise.points),
        "status": status,
        "aspects": [
            {"key": aspect.key, "title": aspect.title, "weight": aspect.weight, "held": held[aspect.key]}
            for aspect in exercise.aspects
        ],
        "misconception": judgement.misconception.name if judgement.misconception else "",
        "message": clean(message),
        "printed": clean(printed),
        "notes": [clean(note) for note in notes],
    }


def clean(text: str) -> str:
    r"""A stranger's text as others may read it: no control characters, none that turn the direction, not endless.

    Examples
    --------
    >>> clean("a\x1b[31mb") == "a\ufffd[31mb"
    True
    """
    text = text[:LONGEST].encode("utf-8", "replace").decode()
    return TURNING.sub("\ufffd", CONTROL.sub("\ufffd", text))


UNFIT = {"kind": "unfit", "message": "what came back is not of the kind that this task asks for", "line": None}


def _probe_name(exercise: Exercise) -> str:
    return f"probe_{exercise.id.replace('.', '_')}"


def _draw(exercise: Exercise, hidden: Mapping | None, seed: int) -> list[dict]:
    draws = [exercise.draw] * exercise.draws
    if exercise.id in (hidden or {}):
        draws += [hidden[exercise.id]] * HIDDEN_DRAWS
    rngs = (np.random.default_rng([seed, *exercise.id.encode(), n]) for n in range(len(draws)))
    return [exercise.drawn(rng, draw) for rng, draw in zip(rngs, draws, strict=True)]


def _usable(exercise: Exercise, value: Any, expected: Mapping) -> dict | None:
    """The outputs by aspect; what cannot even be compared becomes None, which is equal to no expected value."""
    if not isinstance(value, dict):
        return None
    kept = {}
    for aspect in exercise.aspects:
        if aspect.key in value and not _complex(value[aspect.key]):
            try:
                mismatch(value[aspect.key], expected[aspect.key], tolerance=aspect.tolerance)
                kept[aspect.key] = value[aspect.key]
            except Exception:  # hostile or odd data, of which no list of exceptions would be complete
                kept[aspect.key] = None
    return kept


def _complex(value: Any) -> bool:
    """Whether complex numbers are in it, whose imaginary part a comparison would drop; no task asks for any."""
    if isinstance(value, dict):
        return any(map(_complex, value.values()))
    return any(map(_complex, value)) if isinstance(value, list) else getattr(value, "dtype", None) in COMPLEX


def _judge(exercise: Exercise, runs: list[Run]) -> Judgement:
    try:
        return judge(exercise, runs)
    except Exception:  # a misconception that asks for what is not there: judge without any
        return judge(dataclasses.replace(exercise, misconceptions=()), runs)


def _explain(failure: Mapping) -> tuple[str, str]:
    error = failure.get("error")
    if not isinstance(error, Mapping):
        ending = failure.get("ending", "stopped")
        return "stopped", SAID.get(ending, SAID["stopped"])
    kind, message, line = (error.get(name) for name in ("kind", "message", "line"))
    kind = kind if isinstance(kind, str) else "an exception"
    if kind == "missing":
        return "missing", "there is no answer cell for this task"
    if kind == "NotImplementedError" and not message:
        return "not started", "not started: the cell still raises NotImplementedError"
    if kind in ("unfit", "overwritten input"):
        return "wrong", str(message)
    said = f"your code raised {kind}: {message}" if message else f"your code raised {kind}"
    return "raised", f"{said} (line {line} of its cell)" if type(line) is int else said
