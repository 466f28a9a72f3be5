"""Second stage: the answer cells of a notebook, by task. Everything else in it is left behind, and nothing executed.

What a learner changed around the answers (check cells, imports, the order, outputs) cannot matter, because the answers
go into our own copy of the notebook.
"""

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Answers", "extract"]

MARK = re.compile(r"^\s*#\s*task\s+(\d\d\w?\.\d+)\b", re.IGNORECASE | re.MULTILINE)
MAGIC = re.compile(r"^\s*[%!]")
LONGEST = 50_000  # characters; the answers of a notebook must fit into one message to the jail
# Names that an answer hardly needs, and that somebody looking for expected values would use. They cost no point: a
# person may want to look.
CURIOUS = frozenset(
    [
        *("_getframe", "f_back", "f_locals", "f_globals", "get_objects", "get_referrers", "get_referents"),
        *("ctypes", "__subclasses__", "settrace", "setprofile"),
    ]
)


@dataclass
class Answers:
    """What was found.

    Attributes
    ----------
    sources
        Task id -> the source of its answer, or None where it is missing.
    notes
        Task id -> what the learner should know: doubled, retyped, found by its mark, a magic line taken out.
    curious
        Task id -> names in its answer that a person may want to look at.
    """

    sources: dict[str, str | None]
    notes: dict[str, list[str]] = field(default_factory=dict)
    curious: dict[str, list[str]] = field(default_factory=dict)


def extract(cells: Sequence[Mapping], entries: Mapping[str, str], *, stubs: Mapping[str, str] | None = None) -> Answers:
    r"""Find the answer to each task.

    Parameters
    ----------
    cells
        Of `intake.read_notebook`.
    entries
        Task id -> the name that its answer defines.
    stubs
        Task id -> what its cell held before anybody wrote into it; such a copy does not count as doubled.

    Examples
    --------
    >>> cell = {"kind": "code", "source": "# task 03.1\nx = 1", "metadata": {}}
    >>> found = extract([cell], {"03.1": "x", "03.2": "y"})
    >>> found.sources["03.2"] is None, found.notes["03.1"]
    (True, ['its answer cell had lost its metadata and was found by its mark'])
    """
    held: dict[str, list[tuple[str, list[str]]]] = {task: [] for task in entries}
    loose = []
    for cell in cells:
        task, notes = _task_of(cell)
        if task in held:
            held[task].append((cell["source"], notes))
        elif task is None and cell["kind"] == "code" and not _tags(cell):
            loose.append(cell["source"])
    for task, entry in entries.items():
        if not held[task]:
            notes = [f"its answer cell had lost its metadata and was found by what it defines, {entry}"]
            held[task] = [(source, notes) for source in loose if _defines(source, entry)]
    answers = Answers(dict.fromkeys(entries))
    for task, copies in held.items():
        written = [copy for copy in copies if _bare(copy[0]) != _bare((stubs or {}).get(task, ""))]
        notes = []
        if not copies:
            notes.append("its answer cell is missing")
        else:
            source, notes = (written or copies)[-1]
            if len(written) > 1:
                notes = [*notes, f"its answer cell is there {len(written)} times; the last one counts"]
            answers.sources[task], more = _runnable(source)
            notes = [*notes, *more]
        if notes:
            answers.notes[task] = notes
        curious = _curious(answers.sources[task])
        if curious:
            answers.curious[task] = curious
    return answers


def _task_of(cell: Mapping) -> tuple[str | None, list[str]]:
    tags, task = _tags(cell), cell["metadata"].get("task")
    if isinstance(task, str) and "answer" in tags:
        retyped = f"its answer cell is no code cell but {cell['kind']}; it was read as code"
        return task, [] if cell["kind"] == "code" else [retyped]
    marked = MARK.search(cell["source"][:2_000])
    if marked and cell["kind"] == "code" and not {"check", "setup"} & tags:
        return marked[1], ["its answer cell had lost its metadata and was found by its mark"]
    return None, []


def _tags(cell: Mapping) -> set[str]:
    tags = cell["metadata"].get("tags")
    return {tag for tag in tags if isinstance(tag, str)} if isinstance(tags, list) else set()


def _defines(source: str, name: str) -> bool:
    """By its text, since it may be no Python at all."""
    escaped = re.escape(name)
    return bool(
        re.search(rf"^(async\s+def|def|class)\s+{escaped}\b|^{escaped}\s*(:[^=\n]+)?=[^=]", source, re.MULTILINE)
    )


def _runnable(source: str) -> tuple[str | None, list[str]]:
    """Leave out a notebook's magic lines, where the rest is Python only without them."""
    if len(source) > LONGEST:
        return None, [f"its answer cell has more than {LONGEST:,} characters and was not read"]
    if not any(map(MAGIC.match, source.splitlines())) or _parses(source):
        return source, []
    without = "\n".join("" if MAGIC.match(line) else line for line in source.splitlines())
    return without, ["lines that begin with % or ! were left out"]


def _parses(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _bare(source: str) -> str:
    return "".join(source.split())


def _curious(source: str | None) -> list[str]:
    return sorted(set(re.findall(r"\w+", source or "")) & CURIOUS)
