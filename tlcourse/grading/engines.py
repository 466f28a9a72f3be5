"""``python -m tlcourse export``: an assignment for schools that have a grading engine of their own.

What goes to the engine holds the solutions, the hidden draws and the seed; what learners get holds none of them.
"""

import argparse
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tlcourse.grading import nbgrader, otter
from tlcourse.grading.orders import Order, order

__all__ = ["ENGINES", "Engine", "export", "run"]


@dataclass(frozen=True)
class Engine:
    """An engine: what writes for it, where, and what to do next.

    Attributes
    ----------
    package, requirement
        Its module, and what pip installs it by.
    place
        Where below the folder an assignment goes, with ``{id}``.
    write
        ``(order, folder) -> files written``.
    after
        What to do with them, with ``{out}``, ``{place}``, ``{id}`` and ``{stem}``.
    """

    package: str
    requirement: str
    place: str
    write: Callable[[Order, Path], list[Path]]
    after: str


ENGINES = {
    "otter": Engine(
        "otter",
        otter.REQUIREMENT,
        "{id}",
        otter.write,
        "next: give learners {place}/{stem}.ipynb, and upload {place}/autograder.zip to Gradescope as the autograder.\n"
        "To try it here: otter run -a {place}/autograder.zip solutions/{stem}.ipynb",
    ),
    "nbgrader": Engine(
        "nbgrader",
        nbgrader.REQUIREMENT,
        "source/{id}",
        nbgrader.write,
        "next: nbgrader generate_assignment {id} --course-dir={out} makes the learners' notebook,\n"
        "in {out}/release/{id}. For a course that you have, move {place} into its source folder first",
    ),
}


def run(options: argparse.Namespace) -> int:
    """Run the command.

    Returns
    -------
    The exit status: 0, or 1 where nothing was exported.
    """
    try:
        made = order(options.assignment, seed=options.seed)
        place, written = export(made, options.to, options.out)
    except (KeyError, ValueError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    engine = ENGINES[options.to]
    print("\n".join(f"written: {path}" for path in written))
    print(f"inputs are drawn from seed {made.seed}, which is in there with the hidden draws: keep it from learners")
    print(engine.after.format(out=options.out, place=place, id=made.work.id, stem=made.stem))
    if find_spec(engine.package) is None:
        print(f'{engine.package} is not installed here; to run it: pip install "{engine.requirement}"')
    return 0


def export(made: Order, engine: str, out: Path) -> tuple[Path, list[Path]]:
    """Write an assignment for an engine.

    Parameters
    ----------
    made
        See `orders.order`.
    engine
        A key of `ENGINES`.
    out
        A folder, which may hold other assignments.

    Returns
    -------
    The assignment's place in it, and the files written.

    Raises
    ------
    FileExistsError
        If the place is taken.
    """
    place = out / ENGINES[engine].place.format(id=made.work.id)
    if place.exists():
        raise FileExistsError(
            f"{place} is there already, and what is in it may be in use. Move it away, or name another --out"
        )
    place.mkdir(parents=True)
    try:
        return place, ENGINES[engine].write(made, place)
    except BaseException:
        shutil.rmtree(place)  # half an export would stop the next call
        raise
