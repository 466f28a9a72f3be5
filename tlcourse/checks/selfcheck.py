"""What a notebook of exercises calls: `check`, which explains, and `hint`, which opens one hint more at each call."""

from dataclasses import dataclass
from typing import Any

from tlcourse.checks.judging import Run, brief, judge
from tlcourse.checks.records import note_hint, note_verdict
from tlcourse.checks.running import Trouble, draws, run_once
from tlcourse.checks.spec import Exercise, find
from tlcourse.checks.variants import in_variant

__all__ = ["Verdict", "check", "hint", "try_answer"]


@dataclass(frozen=True)
class Verdict:
    """What a check found. A notebook that shows it as a cell's value shows nothing more than was shown already.

    Attributes
    ----------
    task
        The task's id.
    state
        "passed", "wrong", "not started", "raised", "too slow", "unfit" or "mutated".
    text
        What was said to the learner; the same in every run with the same answer and seed.
    share
        Of the points, by the aspects that held; 0 to 1.
    misconception
        Its name where one was recognised.
    """

    task: str
    state: str
    text: str
    share: float = 0.0
    misconception: str | None = None

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    def __str__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        """`check` has shown it."""


def check(task: str, answer: Any, *, seed: int = 0) -> Verdict:
    """Run an answer on drawn inputs, compare it with what is right, and say what is wrong and why.

    Parameters
    ----------
    task
        Its id, such as "03.1".
    answer
        What the task asked for: a function, mostly.
    seed
        Draws the inputs. The same seed draws the same ones, so that you can look at one failure for as long as you
        like; a grader draws others.

    Raises
    ------
    KeyError
        If there is no such task.

    Examples
    --------
    >>> import os, tempfile
    >>> os.environ["TLCOURSE_HOME"] = tempfile.mkdtemp()
    >>> verdict = check("03.1", ...)
    03.1 not started yet: write `imagenet_left`, then run this cell again.
    """
    from tlcourse.checks.view import show

    exercise = in_variant(find(task))
    verdict = try_answer(exercise, answer, seed=seed)
    more = note_verdict(verdict, exercise, answer)
    show(verdict, "\n".join(filter(None, [verdict.text, more])))
    return verdict


def hint(task: str) -> None:
    """Open the next hint of a task: three in all, then they begin again.

    Raises
    ------
    KeyError
        If there is no such task.

    Examples
    --------
    >>> import os, tempfile
    >>> os.environ["TLCOURSE_HOME"] = tempfile.mkdtemp()
    >>> hint("03.1")
    03.1, hint 1 of 3: Each batch that passes in training mode changes what is stored, once.
    """
    print(next_hint(find(task)))


def next_hint(exercise: Exercise) -> str:
    """The text of the next hint, which from now on counts as seen."""
    step = note_hint(exercise.id, len(exercise.hints))
    return f"{exercise.id}, hint {step + 1} of {len(exercise.hints)}: {exercise.hints[step]}"


def try_answer(exercise: Exercise, answer: Any, *, seed: int) -> Verdict:
    """Judge an answer without showing or keeping anything."""
    if answer is None or answer is ...:
        return _not_started(exercise)
    runs: list[Run] = []
    for inputs in draws(exercise, seed):
        try:
            runs.append(run_once(exercise, answer, inputs))
        except Trouble as trouble:
            if trouble.kind == "not started":
                return _not_started(exercise)
            lines = [f"{exercise.id} not yet: {trouble.text}", *_shown("input", trouble.inputs), _pointer(exercise)]
            return Verdict(exercise.id, trouble.kind, "\n".join(lines))
    judgement = judge(exercise, runs)
    if judgement.evidence is None:
        text = (
            f"{exercise.id} passed: `{exercise.entry}` agrees on {len(runs)} drawn inputs. "
            "This is a self-check; grading draws others and runs hidden tests as well."
        )
        return Verdict(exercise.id, "passed", text, 1.0)
    known = judgement.misconception
    lines = [
        f"{exercise.id} not yet: {known.name}" if known else f"{exercise.id} not yet",
        judgement.why,
        *_shown("input", judgement.evidence.inputs),
        *_shown("yours", judgement.evidence.outputs),
        *_shown("expected", judgement.evidence.expected),
    ]
    good = [aspect.title for aspect in exercise.aspects if judgement.held[aspect.key]]
    if good:
        lines.append(f"  right already: {'; '.join(good)}")
    return Verdict(exercise.id, "wrong", "\n".join([*lines, _pointer(exercise)]), judgement.share, known and known.name)


def _not_started(exercise: Exercise) -> Verdict:
    text = f"{exercise.id} not started yet: write `{exercise.entry}`, then run this cell again."
    return Verdict(exercise.id, "not started", text)


def _shown(label: str, values: dict[str, Any]) -> list[str]:
    said = ", ".join(f"{name} = {brief(value)}" for name, value in values.items())
    return [f"  {label + ':':<10}{said}"] if said else []


def _pointer(exercise: Exercise) -> str:
    return f'  Stuck? hint("{exercise.id}")'
