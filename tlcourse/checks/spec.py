"""What a task is: a value that draws inputs, runs an answer on them, and knows what is right and what is often wrong.

It imports neither PyTorch nor a widget, so that the self-check, the grader and the process in which a grader runs
foreign code can share it. The tasks themselves are in ``lessonNN.py`` beside this file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module, resources
from typing import Any

import numpy as np

__all__ = ["AnswerError", "Aspect", "Exercise", "Misconception", "find", "lessons", "load", "plain"]

Inputs = dict[str, Any]
Outputs = dict[str, Any]


class AnswerError(Exception):
    """An answer of a kind that nothing can be compared with; the text says what came and what was wanted."""


@dataclass(frozen=True)
class Aspect:
    """A part of the score: one key of the outputs.

    Parameters
    ----------
    key
        The key in what `probe` and `oracle` return.
    title
        What is right where it agrees, as a clause: "the statistics stay".
    weight
        Its share of the points; the weights of a task sum to 1.
    tolerance
        Numbers agree where ``|got - expected| <= tolerance * max(1, |expected|)``.
    """

    key: str
    title: str
    weight: float
    tolerance: float = 1e-6


@dataclass(frozen=True)
class Misconception:
    """A known wrong way, and what to say to somebody who went it.

    Parameters
    ----------
    name
        What it is called, in a few words: "the statistics drifted".
    message
        Why it is wrong, with the evidence. ``{inputs[x]}``, ``{outputs[y]:.2f}`` and ``{expected[z]}`` are filled in
        from the smallest draw in which the answer failed.
    wrong
        Inputs -> the outputs (all of them, or the telling ones) of whoever goes this way.
    shows
        ``(inputs, outputs, expected) -> bool``, where the way is known by a trait and not by its numbers.

    Raises
    ------
    ValueError
        Unless exactly one of the two is given.
    """

    name: str
    message: str
    wrong: Callable[[Inputs], Outputs] | None = None
    shows: Callable[[Inputs, Outputs, Outputs], bool] | None = None

    def __post_init__(self) -> None:
        if (self.wrong is None) == (self.shows is None):
            raise ValueError(f"misconception {self.name!r}: give wrong= or shows=, one of them")


@dataclass(frozen=True)
class Exercise:
    """A task: how inputs are drawn, how an answer is run on them, and what should come out.

    Parameters
    ----------
    id
        Assignment and number: "03.1".
    title
        A short line.
    points, difficulty, minutes
        What it counts, 1 (easy) to 5, and how long a learner needs.
    entry
        The name that the learner's cell defines.
    draw
        Generator -> inputs: plain data (numbers, strings, None, lists, dicts, numpy arrays), small enough to be read,
        and not all of one size.
    probe
        ``(answer, inputs) -> outputs``: calls the learner's object and returns plain data (see `plain`). It runs beside
        the learner's code, so it holds no secret. It makes tensors by ``torch.from_numpy``, which shares memory, so
        that an input which the learner overwrites is noticed.
    oracle
        Inputs -> outputs of a right answer, from the library, a formula or a property.
    aspects, misconceptions
        The parts of the score; the known wrong ways, the more special ones first.
    hints
        Three, each saying more than the one before; the last one nearly gives it away.
    draws, seconds
        How many inputs a check draws, and how long the answer may take on each.
    constants
        Name -> the values that a learner's own notebook may have of a number which the statement names; the first is
        that of the course's notebooks, which no learner is given (see `variants`). The answer holds it as a number:
        what is drawn has it among the inputs, but `probe` does not pass it on.
    given
        The constants of this task, by name; None: the first of each.
    begun
        ``(inputs, outputs, expected) -> bool``: whether an answer did anything at all. Who does nothing breaks nothing,
        so that nothing counts unless this holds in every run. None: the aspects are enough.

    Raises
    ------
    ValueError
        If the weights do not sum to 1, there are not three hints, the id is not of that form, or a constant has fewer
        than three values, or one that it cannot have.
    """

    id: str
    title: str
    points: int
    difficulty: int
    minutes: int
    entry: str
    draw: Callable[[np.random.Generator], Inputs]
    probe: Callable[[Any, Inputs], Outputs]
    oracle: Callable[[Inputs], Outputs]
    aspects: tuple[Aspect, ...]
    misconceptions: tuple[Misconception, ...]
    hints: tuple[str, str, str]
    draws: int = 6
    seconds: float = 5.0
    begun: Callable[[Inputs, Outputs, Outputs], bool] | None = None
    constants: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    given: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if abs(sum(aspect.weight for aspect in self.aspects) - 1) > 1e-9:
            raise ValueError(f"task {self.id}: the weights of its aspects do not sum to 1")
        if len(self.hints) != 3 or not all(self.hints):
            raise ValueError(f"task {self.id}: a ladder has three hints")
        assignment, _, number = self.id.partition(".")
        if not (assignment[:2].isdigit() and number.isdigit()):
            raise ValueError(f"task id {self.id!r}: write it as '03.1'")
        few = [name for name, values in self.constants.items() if len(set(values)) < 3]
        if few:
            raise ValueError(f"task {self.id}: its constant {few[0]} has fewer than three values")
        given = {name: values[0] for name, values in self.constants.items()} | dict(self.given or {})
        for name, value in given.items():
            if value not in self.constants.get(name, ()):
                raise ValueError(f"task {self.id} has no constant {name!r} with the value {value!r}")
        object.__setattr__(self, "given", given)

    @property
    def varied(self) -> bool:
        """Whether its constants are others than those of the course's notebooks."""
        return any(values[0] != self.given[name] for name, values in self.constants.items())

    def variant(self, given: Mapping[str, Any]) -> "Exercise":
        """The same task with these constants, and the first value of those that are not named.

        Raises
        ------
        ValueError
            If it has no such constant, or not with that value.
        """
        return replace(self, given=given)

    def drawn(self, rng: np.random.Generator, draw: Callable[[np.random.Generator], Inputs] | None = None) -> Inputs:
        """Inputs, by `draw` or another function like it, with the constants among them."""
        return {**(draw or self.draw)(rng), **self.given}

    @property
    def assignment(self) -> str:
        """The part of the id before the dot: "03", or "03c" for the clinic after lesson 03."""
        return self.id.partition(".")[0]


def lessons() -> list[str]:
    """The assignments that there are, in order.

    Examples
    --------
    >>> "03" in lessons()
    True
    """
    names = (path.name for path in resources.files(__package__).iterdir())
    return sorted(name[6:-3] for name in names if re.fullmatch(r"lesson\d\dc?\.py", name))


def load(assignment: str) -> tuple[Exercise, ...]:
    """The tasks of an assignment, in order.

    Raises
    ------
    KeyError
        If there is no such assignment; the text lists those that there are.
    """
    if assignment not in lessons():
        raise KeyError(f"no exercises {assignment!r}; there are: {', '.join(lessons())}")
    return import_module(f"{__package__}.lesson{assignment}").EXERCISES


def find(task: str) -> Exercise:
    """The task with this id.

    Raises
    ------
    KeyError
        If there is none; the text lists what there is.

    Examples
    --------
    >>> find("03.1").entry
    'imagenet_left'
    """
    exercises = load(str(task).partition(".")[0])
    for exercise in exercises:
        if exercise.id == task:
            return exercise
    raise KeyError(f"no task {task!r}; there are: {', '.join(exercise.id for exercise in exercises)}")


def plain(value: Any, *, what: str = "your answer") -> Any:
    """What a probe may return: tensors become arrays, tuples lists, the keys of a mapping strings; all are copies.

    Raises
    ------
    AnswerError
        For anything else, such as a module, an optimiser or a generator.

    Examples
    --------
    >>> plain((1, None, {"a": np.float32(0.5)}))
    [1, None, {'a': 0.5}]
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.copy()
    if hasattr(value, "requires_grad") and hasattr(value, "numpy"):
        return value.numpy(force=True).copy()
    if isinstance(value, Mapping):
        return {str(key): plain(item, what=what) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, what=what) for item in value]
    raise AnswerError(
        f"{what} is a {type(value).__name__}; wanted are numbers, strings, arrays, tensors or lists of them"
    )
