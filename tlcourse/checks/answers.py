"""The source of an answer: its cell, with the imports of the notebook, so that it can be run elsewhere."""

import ast
import builtins
import inspect
import sys
import textwrap
from typing import Any

__all__ = ["names_from_elsewhere", "source_of"]


def source_of(entry: str, answer: Any) -> str:
    """The source of a learner's answer: in a notebook the last run cell that defines the name, with all imports so far.

    Returns
    -------
    Source that can be run by itself; "" where it cannot be found.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        try:
            cells = [inspect.getsource(inspect.getmodule(answer))]
            cell = textwrap.dedent(inspect.getsource(answer))
        except (OSError, TypeError):
            return ""
        if entry not in _defined(cell):  # a function of another name, or a lambda
            return ""
    else:
        cells = [shell.transform_cell(source) for source in shell.user_ns.get("In", [])]
        cell = next((source for source in reversed(cells) if entry in _defined(source)), "")
    imports = [
        ast.unparse(node)
        for source in cells
        for node in _body(source)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return "\n".join([*dict.fromkeys(imports), "", cell]) if cell else ""


def names_from_elsewhere(source: str) -> list[str]:
    """Names that a source uses and neither binds, imports nor finds among the builtins; in order of the alphabet.

    Examples
    --------
    >>> names_from_elsewhere("import math; f = lambda x: helper(math.pi, x)")
    ['helper']
    """
    used, bound = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return sorted(used - bound)


def _body(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a cell that never ran
        return []


def _defined(source: str) -> set[str]:
    body = _body(source)
    names = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
