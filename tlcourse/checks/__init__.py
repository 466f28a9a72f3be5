"""Self-checks of the exercises: what a task is, and what a notebook calls. Every lesson's exercises use them.

``check("03.1", answer)`` runs an answer on drawn inputs and explains what is wrong; ``hint("03.1")`` opens one more
hint; ``progress()`` says what is done. A self-check is no grade: whoever grades runs hidden tests as well.
"""

from tlcourse.checks.selfcheck import Verdict, check, hint
from tlcourse.checks.spec import Aspect, Exercise, Misconception, find, lessons, load
from tlcourse.checks.variants import use_variant

__all__ = [
    "Aspect",
    "Exercise",
    "Misconception",
    "Verdict",
    "check",
    "find",
    "hint",
    "lessons",
    "load",
    "progress",
    "use_variant",
]


def progress():
    """What was tried and passed so far; a notebook shows it as a table."""
    from tlcourse.checks.records import read_progress

    return read_progress()
