"""The functions that a lesson writes itself, cut out of its source so that they can be tested without running it."""

import re
from collections.abc import Callable
from pathlib import Path

LESSONS = Path(__file__).resolve().parents[1] / "sources" / "lessons"


def cut_out(lesson: str, name: str, **space) -> Callable:
    """The function of this name in a lesson (``"05"``), with what it uses under the names that it has there."""
    (path,) = LESSONS.glob(f"{lesson}_*.py")
    exec(re.search(rf"(?m)^def {name}\(.*?(?=^\S)", path.read_text(encoding="utf-8"), re.DOTALL).group(), space)
    return space[name]
