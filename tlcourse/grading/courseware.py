"""What of the course goes into the jail: the library and the probes, and nothing that knows a right answer.

A lesson's checks hold, side by side, the probe that runs an answer and the oracle that knows what is right. Where a
learner's code runs, only the first may be: `cut_out` takes a function and what it reaches by name out of a module's
source.
"""

import ast
import builtins
import inspect
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

__all__ = ["PACKAGE", "copy_library", "cut_out", "imported_modules", "library_path"]

PACKAGE = Path(__file__).resolve().parents[1]
# The parts of the library that know answers, or that a learner's code has no use for.
LEFT_OUT = ("__pycache__", "_results", "experiments", "checks", "grading")
INSIDE = ("__init__.py", "channel.py", "confine.py", "worker.py")
SELF_CHECKS = '''"""Inside of the jail a self-check does nothing: nobody is there to read it."""


def check(*arguments, **options):
    return None


hint = progress = use_variant = check
'''


def copy_library(folder: Path, *, probes: Iterable[str] = ()) -> Path:
    """Copy the library as the jail may see it.

    Parameters
    ----------
    folder
        Must not hold a ``tlcourse`` yet.
    probes
        Sources that run beside answers. What they import from ``tlcourse.checks`` comes along.

    Raises
    ------
    ValueError
        If they import from a lesson's checks, which know answers.

    Returns
    -------
    The folder that goes on the path of the jail's Python.
    """
    copied = folder / "tlcourse"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (copied / "grading").mkdir()
    for name in INSIDE:
        shutil.copyfile(PACKAGE / "grading" / name, copied / "grading" / name)
    (copied / "checks").mkdir()
    (copied / "checks" / "__init__.py").write_text(SELF_CHECKS, encoding="utf-8")
    wanted = [name for name in imported_modules(probes) if name.startswith("tlcourse.checks.")]
    for name in wanted:
        stem = name.removeprefix("tlcourse.checks.")
        if stem.startswith("lesson"):
            raise ValueError(f"a probe imports {name}, which knows answers: move what it needs to a module of its own")
        shutil.copyfile(PACKAGE / "checks" / f"{stem}.py", copied / "checks" / f"{stem}.py")
        source = (copied / "checks" / f"{stem}.py").read_text(encoding="utf-8")
        new = [n for n in imported_modules([source]) if n.startswith("tlcourse.checks.") and n not in wanted]
        wanted += new
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the jail's user is another one
    return folder


def cut_out(module: ModuleType, probes: Mapping[str, Callable], *, never: Sequence[str] = ()) -> str:
    """The source of these functions of a module, and of what they reach by name: imports, constants, other functions.

    Parameters
    ----------
    module
        An imported module whose source is at hand.
    probes
        New name -> a function of its top level, or a lambda in it.
    never
        Top-level names that must not be reached, the oracles'.

    Raises
    ------
    ValueError
        If a function is neither, or one of ``never`` is reached.

    Examples
    --------
    >>> import tlcourse.grading.courseware as here
    >>> source = cut_out(here, {"probe": here.imported_modules})
    >>> "def copy_library" in source, source.splitlines()[-1]
    (False, 'probe = imported_modules')
    """
    tree = ast.parse(inspect.getsource(module))
    defining: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _defined(statement):
            defining.setdefault(name, []).append(statement)
    bindings = [ast.parse(f"{name} = {_expression(module, tree, probe)}").body[0] for name, probe in probes.items()]
    wanted, reached = [name for binding in bindings for name in _named(binding)], set()
    while wanted:
        name = wanted.pop()
        if name in reached or name not in defining:
            continue
        reached.add(name)
        for statement in defining[name]:
            wanted += _named(statement)
    known = reached.intersection(never)
    if known:
        raise ValueError(f"a probe of {module.__name__} reaches {', '.join(sorted(known))}, which knows the answer")
    kept = [s for s in tree.body if reached.intersection(_defined(s)) and not _is_docstring(s)]
    return "\n\n".join(ast.unparse(_only(statement, reached)) for statement in [*kept, *bindings]) + "\n"


def imported_modules(sources: Iterable[str]) -> list[str]:
    """The modules that sources import at any place, in order, for the starter to load ahead.

    Examples
    --------
    >>> imported_modules(["import torch.nn as nn", "from tlcourse import plans"])
    ['torch.nn', 'tlcourse']
    """
    found = {}
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= dict.fromkeys(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module != "__future__":
                found[node.module] = None
    return list(found)


def library_path() -> Path | None:
    """Where the library is installed beside other packages, which the jail shows: it must be hidden there."""
    return PACKAGE if PACKAGE.is_relative_to(sys.prefix) or PACKAGE.is_relative_to(sys.base_prefix) else None


def _expression(module: ModuleType, tree: ast.Module, probe: Callable) -> str:
    """What gives the function where the module's names are: its name, or a lambda's source."""
    if getattr(module, probe.__name__, None) is probe:
        return probe.__name__
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == probe.__code__.co_firstlineno:
            (code,) = [c for c in compile(ast.Expression(node), "", "eval").co_consts if inspect.iscode(c)][:1]
            if (code.co_code, code.co_names) == (probe.__code__.co_code, probe.__code__.co_names):
                return ast.unparse(node)
    raise ValueError(f"{module.__name__} does not define {probe.__name__!r} at its top level, where a probe must be")


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    # Of an assignment its targets alone: a name that a comprehension in it binds is not the module's.
    places = getattr(statement, "targets", None) or [getattr(statement, "target", statement)]
    nodes = (node for place in places for node in ast.walk(place))
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _named(statement: ast.stmt) -> list[str]:
    used = [node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    # Annotations in quotes name things too.
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            used.append(node.value)
    return [name for name in used if not hasattr(builtins, name)]


def _only(statement: ast.stmt, reached: set[str]) -> ast.stmt:
    """Of an import, the names that are reached."""
    if isinstance(statement, ast.ImportFrom):
        aliases = [alias for alias in statement.names if (alias.asname or alias.name) in reached]
        return ast.ImportFrom(module=statement.module, names=aliases, level=statement.level)
    return statement


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
