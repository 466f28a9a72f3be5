"""What a kept number depends on: the code that it reaches and the data, as hashes. Lesson 00 shows them.

A change of a comment, a docstring, the layout or the wording of an error changes no number, so it changes no hash.
"""

import ast
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "code_hash",
    "data_hash",
    "hash_of_reached",
    "module_path",
    "reached_modules",
    "surroundings",
    "write_atomically",
]

PACKAGE = Path(__file__).resolve().parent
ROOT = "tlcourse"
# They keep, judge or show numbers and compute none that an experiment returns; `sources` hands over bytes whose digest
# is part of the data hash.
NOT_COMPUTING = frozenset(
    f"{ROOT}.{name}" for name in ("claims", "doctor", "plots", "provenance", "results", "sources", "widgets")
)
VERSIONS_OF = ("torch", "torchvision", "timm", "transformers", "scikit-learn", "scipy", "numpy")


def code_hash(module: str, *, package: Path = PACKAGE) -> str:
    """Hash of a module of the course and of all of its modules that it reaches by imports.

    Parameters
    ----------
    module
        A dotted name such as ``"tlcourse.experiments.lesson01"``. Modules that only keep or show results
        (`NOT_COMPUTING`) are left out of what it reaches.
    package
        The folder of the package ``tlcourse``.

    Returns
    -------
    str
        64 hex digits, the same on every Python from 3.11 on.

    Raises
    ------
    ValueError
        If the module is not part of the package.
    """
    path = module_path(module, package=package)
    if path is None:
        raise ValueError(
            f"{module!r} is not a module of the course, so its code cannot be hashed: "
            "put the experiment's function into a file in tlcourse/experiments/"
        )
    source = path.read_text(encoding="utf-8")
    reached = reached_modules(source, name=module, package=package, leave_out=NOT_COMPUTING)
    return hash_of_reached({**reached, module: path})


def data_hash(roles: Iterable[str]) -> str:
    """Hash of the pinned digests of the embedded packages with these roles."""
    from tlcourse.sources import package_digest

    digests = {role: package_digest(role) for role in sorted(set(roles))}
    return _hash(repr(sorted(digests.items())))


def surroundings() -> dict:
    """Where a run happens: device, threads and versions. Kept beside results, never part of a hash."""
    import platform
    from importlib import metadata

    import torch

    from tlcourse.runtime import pick_device

    device = pick_device()
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    return {
        "device": f"{device.type}: {card}",
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions,
    }


def reached_modules(
    source: str, *, name: str = "", package: Path = PACKAGE, leave_out: frozenset[str] = frozenset()
) -> dict[str, Path]:
    """The course's modules that a piece of Python reaches by imports, directly or through others.

    Imports inside functions count. ``from tlcourse import train`` counts for the module that `train` lives in.

    Parameters
    ----------
    source
        Python code: a module's, or the code cells of a lesson.
    name
        The dotted name of the module that `source` is, for relative imports.
    package
        The folder of the package ``tlcourse``.
    leave_out
        Dotted names that are neither followed nor returned.

    Returns
    -------
    dict
        Dotted name to file, sorted by name.
    """
    home = _public_names(package)
    found: dict[str, Path] = {}
    waiting = [(name, source)]
    while waiting:
        name, source = waiting.pop()
        for target in _imported(ast.parse(source), name, package, home) - leave_out:
            path = module_path(target, package=package)
            if path is not None and target not in found:
                found[target] = path
                waiting.append((target, path.read_text(encoding="utf-8")))
    return dict(sorted(found.items()))


def hash_of_reached(modules: dict[str, Path], *, whole_text: bool = False) -> str:
    """One hash of several modules; with `whole_text` also of their comments and docstrings."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in sorted(modules.items())}
    parts = {name: text if whole_text else _canonical(_without_words(text)) for name, text in texts.items()}
    return _hash(repr(list(parts.items())))


def module_path(module: str, *, package: Path = PACKAGE) -> Path | None:
    """The file of a dotted name under ``tlcourse``, or None."""
    first, *rest = module.split(".")
    if first != ROOT:
        return None
    base = package.joinpath(*rest)
    for path in (base.with_suffix(".py") if rest else base / "__init__.py", base / "__init__.py"):
        if path.is_file():
            return path
    return None


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interruption, sees the old text or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _imported(tree: ast.Module, name: str, package: Path, home: dict[str, str]) -> set[str]:
    targets: set[str] = set()
    roots: set[str] = set()  # the names that `tlcourse` itself goes by in this module
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == ROOT:
                    targets.add(alias.name)
                    if alias.name == ROOT or alias.asname is None:
                        roots.add(alias.asname or ROOT)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, package)
            if base.split(".")[0] == ROOT:
                for alias in node.names:
                    targets |= _targets_of(base, alias.name, package, home)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in roots:
            targets |= _targets_of(ROOT, node.attr, package, home)
    return targets - {ROOT}  # its __init__ only says where each public name lives


def _targets_of(base: str, attribute: str, package: Path, home: dict[str, str]) -> set[str]:
    if module_path(f"{base}.{attribute}", package=package):
        return {f"{base}.{attribute}"}
    if base != ROOT:
        return {base}
    if attribute == "*":
        return {f"{ROOT}.{module}" for module in home.values()}
    return {f"{ROOT}.{home[attribute]}"} if attribute in home else set()


def _absolute(node: ast.ImportFrom, name: str, package: Path) -> str:
    if not node.level:
        return node.module or ""
    path = module_path(name, package=package) if name else None
    if path is None:
        return ""
    # In a package's __init__, one dot is the package itself; in a module, the package around it.
    climbs = node.level - (path.name == "__init__.py")
    parts = name.split(".")[: len(name.split(".")) - climbs]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _public_names(package: Path) -> dict[str, str]:
    """The table ``_HOME`` of the package's __init__: public name to module."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", None) == "_HOME" for t in node.targets):
            return ast.literal_eval(node.value)
    raise ValueError("tlcourse/__init__.py has no table _HOME: which modules a public name reaches is then unknown")


def _without_words(source: str) -> ast.Module:
    """The syntax tree without docstrings and without what errors say."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.JoinedStr):  # Python 3.12.1 adds empty strings where a format is nested
            node.values = [part for part in node.values if getattr(part, "value", None) != ""]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
    return tree


def _canonical(node: object) -> str:
    """A tree as text. `ast.dump` is not used: what it leaves out differs between Python versions."""
    if isinstance(node, ast.AST):
        fields = ((field, value) for field, value in ast.iter_fields(node) if value is not None and value != [])
        inner = ",".join(f"{field}={_canonical(value)}" for field, value in fields if field != "ctx")
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return f"[{','.join(map(_canonical, node))}]"
    return repr(node)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
