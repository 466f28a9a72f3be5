"""Comparing what an answer put out with what was expected: which aspects hold, which misconception it was, and why.

The self-check and the grader judge by the same functions. Nothing here runs a learner's code.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlcourse.checks.spec import Exercise, Inputs, Misconception, Outputs

__all__ = ["Judgement", "Run", "brief", "judge", "mismatch"]


@dataclass(frozen=True)
class Run:
    """One draw: what went in, what came out, what was expected. `outputs` is None where nothing came out."""

    inputs: Inputs
    outputs: Outputs | None
    expected: Outputs


@dataclass(frozen=True)
class Judgement:
    """What several runs say of an answer.

    Attributes
    ----------
    held
        Aspect key -> whether it held in every run; none of them where the answer did nothing (`Exercise.begun`).
    share
        Sum of the weights of those that held: 0 to 1.
    misconception
        The known wrong way that explains every failing run, or None.
    evidence
        The smallest failing run, or None.
    why
        In words: the misconception's message, or the plain mismatch; "" where all held.
    """

    held: dict[str, bool]
    share: float
    misconception: Misconception | None
    evidence: Run | None
    why: str


def judge(exercise: Exercise, runs: Sequence[Run]) -> Judgement:
    """Judge an answer by its runs; an aspect counts where it held in all of them.

    Where the constants are a learner's own (`Exercise.varied`), an answer that is right for others counts nothing: it
    was written for somebody else's notebook.

    Raises
    ------
    ValueError
        Without any run.
    """
    if not runs:
        raise ValueError(f"task {exercise.id}: an answer that was not run cannot be judged")
    begun = all(_begun(exercise, run) for run in runs)
    held = {a.key: begun and all(_holds(exercise, a.key, run) for run in runs) for a in exercise.aspects}
    share = sum(aspect.weight for aspect in exercise.aspects if held[aspect.key])
    failing = [run for run in runs if not all(_holds(exercise, key, run) for key in held)]
    if not failing:
        return Judgement(held, 1.0, None, None, "")
    evidence = min(failing, key=lambda run: _size(run.inputs))
    if any(run.outputs is None for run in failing):
        return Judgement(held, share, None, evidence, "there was no answer to compare")
    for known in exercise.misconceptions:
        try:
            if all(_went_this_way(exercise, known, run) for run in failing):
                fields = {"inputs": evidence.inputs, "outputs": evidence.outputs, "expected": evidence.expected}
                return Judgement(held, share, known, evidence, known.message.format(**fields))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue  # what came is of another kind, such as None or a text: it shows none of the known traits
    elsewhere = _right_elsewhere(exercise, runs)
    if elsewhere:
        return Judgement(dict.fromkeys(held, False), 0.0, None, evidence, elsewhere)
    return Judgement(held, share, None, evidence, _plain_reason(exercise, evidence))


def mismatch(got: Any, expected: Any, *, tolerance: float = 1e-6) -> str | None:
    """Say how two values of plain data differ; None where they agree.

    Numbers agree where ``|got - expected| <= tolerance * max(1, |expected|)``, also between a list and an array; texts,
    truth values and None must be equal.

    Examples
    --------
    >>> mismatch([1.0, 2.0], np.array([1.0, 2.0])) is None
    True
    >>> mismatch(float("nan"), 0.5)
    'it is not a number (NaN)'
    >>> mismatch(np.zeros((3, 1)), np.zeros(3))
    'its shape is (3, 1), wanted is (3,)'
    """
    if got is None and expected is not None:
        return "it is None: is a `return` missing?"
    if expected is None or isinstance(expected, (bool, str)):
        return None if type(got) is type(expected) and got == expected else f"it is {brief(got)}, not {brief(expected)}"
    if isinstance(expected, dict):
        return _keyed(got, expected, tolerance)
    if isinstance(expected, list) and not _numeric(expected):
        return _listed(got, expected, tolerance)
    return _numbers(got, np.asarray(expected), tolerance)


def brief(value: Any, *, most: int = 6) -> str:
    """A value on one line: four digits, and of a large array the beginning and the shape.

    Examples
    --------
    >>> brief(np.arange(100.0).reshape(10, 10)), brief(1 / 3), brief({"a": [True, None]})
    ('[0, 1, 2, 3, 4, 5, ...] of shape (10, 10)', '0.3333', '{a: [True, None]}')
    """
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, np.integer)):
        return str(value)
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {brief(item, most=most)}" for key, item in value.items()) + "}"
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return brief(value.item())
        if value.size > most:
            first = ", ".join(brief(item) for item in value.ravel()[:most].tolist())
            return f"[{first}, ...] of shape {value.shape}"
        return brief(value.tolist(), most=most)
    items = [brief(item, most=most) for item in value]
    return "[" + ", ".join(items[: 2 * most]) + (", ...]" if len(items) > 2 * most else "]")


def _begun(exercise: Exercise, run: Run) -> bool:
    if exercise.begun is None or run.outputs is None:
        return exercise.begun is None
    try:
        return bool(exercise.begun(run.inputs, run.outputs, run.expected))
    except Exception:  # hostile or odd data, of which no list of exceptions would be complete
        return False


def _holds(exercise: Exercise, key: str, run: Run) -> bool:
    if run.outputs is None or key not in run.outputs:
        return False
    (aspect,) = (aspect for aspect in exercise.aspects if aspect.key == key)
    return mismatch(run.outputs[key], run.expected[key], tolerance=aspect.tolerance) is None


def _went_this_way(exercise: Exercise, known: Misconception, run: Run) -> bool:
    if known.shows is not None:
        return bool(known.shows(run.inputs, run.outputs, run.expected))
    tolerance = {aspect.key: aspect.tolerance for aspect in exercise.aspects}
    return all(
        mismatch(run.outputs.get(key), value, tolerance=tolerance.get(key, 1e-6)) is None
        for key, value in known.wrong(run.inputs).items()
    )


def _right_elsewhere(exercise: Exercise, runs: Sequence[Run]) -> str:
    """What to say where all agrees but for the constants; "" otherwise."""
    if not exercise.varied:
        return ""
    names = list(exercise.constants)
    for values in itertools.product(*exercise.constants.values()):
        other = dict(zip(names, values, strict=True))
        there = (dataclasses.replace(run, expected=exercise.oracle({**run.inputs, **other})) for run in runs)
        if other != exercise.given and all(_holds(exercise, a.key, run) for run in there for a in exercise.aspects):
            said = ", ".join(f"`{name}` is {value}" for name, value in other.items())
            yours = ", ".join(f"{name} = {value}" for name, value in exercise.given.items())
            return (
                f"This would be right where {said}; in your notebook it is not ({yours}). An answer that was written "
                "for another notebook counts nothing."
            )
    return ""


def _plain_reason(exercise: Exercise, run: Run) -> str:
    reasons = []
    for aspect in exercise.aspects:
        missing = aspect.key not in run.outputs
        said = (
            "nothing was returned for it"
            if missing
            else mismatch(run.outputs[aspect.key], run.expected[aspect.key], tolerance=aspect.tolerance)
        )
        if said:
            reasons.append(f"not so: {aspect.title} ({aspect.key}: {said})")
    return "\n".join(reasons)


def _keyed(got: Any, expected: dict, tolerance: float) -> str | None:
    if not isinstance(got, dict):
        return f"it is {_kind(got)}, wanted is a dict with the keys {', '.join(expected)}"
    missing, unknown = [key for key in expected if key not in got], [key for key in got if key not in expected]
    if missing or unknown:
        said = [
            f"{name} {', '.join(map(repr, keys))}"
            for name, keys in (("it lacks", missing), ("it has", unknown))
            if keys
        ]
        return " and ".join(said)
    for key, value in expected.items():
        said = mismatch(got[key], value, tolerance=tolerance)
        if said:
            return f"at {key!r}, {said}"
    return None


def _listed(got: Any, expected: list, tolerance: float) -> str | None:
    if not isinstance(got, list):
        return f"it is {_kind(got)}, wanted is a list of {len(expected)}"
    if len(got) != len(expected):
        return f"it has {len(got)} items, wanted are {len(expected)}"
    for index, (item, value) in enumerate(zip(got, expected, strict=True)):
        said = mismatch(item, value, tolerance=tolerance)
        if said:
            return f"item {index}: {said}"
    return None


def _numbers(got: Any, expected: np.ndarray, tolerance: float) -> str | None:
    wanted = "a number" if expected.ndim == 0 else f"an array of shape {expected.shape}"
    if isinstance(got, (str, dict)) or (isinstance(got, list) and not _numeric(got)):
        return f"it is {_kind(got)}, wanted is {wanted}"
    values = np.asarray(got, dtype=float)
    if expected.ndim == 0 and values.size == 1:
        values = values.reshape(())  # a tensor of one element is a number
    if values.shape != expected.shape:
        shape = "a number" if values.ndim == 0 else f"{values.shape}"
        return f"its shape is {shape}, wanted is {wanted if expected.ndim == 0 else expected.shape}"
    expected = expected.astype(float)
    same_infinity = np.isinf(expected) & (values == expected)
    if np.isnan(values).any():
        return (
            "it is not a number (NaN)" if values.ndim == 0 else f"{int(np.isnan(values).sum())} of its values are NaN"
        )
    if (np.isinf(values) & ~same_infinity).any():
        return "it is infinite" if values.ndim == 0 else "some of its values are infinite"
    with np.errstate(invalid="ignore"):
        off = np.where(same_infinity, 0.0, np.abs(values - expected))
        far = off > tolerance * np.maximum(1, np.abs(np.where(same_infinity, 0.0, expected)))
    if not far.any():
        return None
    if expected.ndim == 0:
        return f"it is {brief(values)}, not {brief(expected)}"
    place = np.unravel_index(np.argmax(np.where(far, off, -1)), off.shape)
    where = ", ".join(map(str, place))
    return (
        f"{int(far.sum())} of {far.size} values are off, the furthest at [{where}]: "
        f"{brief(values[place])}, not {brief(expected[place])}"
    )


def _numeric(values: list) -> bool:
    """Whether a list is an array: numbers only, however deep, and not ragged."""
    try:
        return np.asarray(values).dtype.kind in "iuf" and len(values) > 0
    except ValueError:
        return False


def _kind(value: Any) -> str:
    names = {"str": f"the text {value!r}", "dict": "a dict", "list": "a list", "ndarray": "an array"}
    return names.get(type(value).__name__, f"the {type(value).__name__} {brief(value)}")


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple)):
        return 1 + sum(map(_size, value))
    return int(np.size(value))
