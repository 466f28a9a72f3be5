"""Hashes change with what computes, and with nothing else."""

import os

import pytest

from tlcourse import provenance
from tlcourse.provenance import code_hash, hash_of_reached, module_path, reached_modules, write_atomically

FILES = {
    "__init__.py": '"""doc"""\n_HOME = {"train": "training", "load": "data", "show": "plots"}\n',
    "runtime.py": "SEED = 0\n",
    "data.py": "from .runtime import SEED\n\ndef load():\n    return SEED\n",
    "training.py": '"""Doc."""\n\n\ndef train(model, lr=0.1):\n    """Train it."""\n'
    '    from tlcourse import load\n\n    if lr < 0:\n        raise ValueError(f"lr {lr} is negative")\n'
    "    return load()  # why\n",
    "plots.py": "from tlcourse.training import train\n",
    "unused.py": "X = 1\n",
    "experiments/__init__.py": "from tlcourse.experiments import lesson01\n",
    "experiments/lesson01.py": "from tlcourse.training import train\n"
    "from tlcourse import plots\n\n\ndef run():\n    return train(0)\n",
}
NEUTRAL = [
    # file, old, new: the hash stays
    ("training.py", '"""Doc."""', '"""Other words."""'),
    ("training.py", '"""Train it."""', '"""Train it,\n    well."""'),
    ("training.py", "# why", "# because of another reason"),
    ("training.py", "def train(model, lr=0.1)", "def train(\n    model,\n    lr = 0.1,\n)"),
    ("training.py", "is negative", "lies below 0: use another"),
    ("plots.py", "import train", "import train as learn"),
    ("unused.py", "1", "2"),
    ("experiments/__init__.py", "lesson01", "lesson03"),
]
TELLING = [
    # file, old, new: the hash changes
    ("training.py", "lr=0.1", "lr=0.2"),
    ("training.py", "lr < 0", "lr <= 0"),
    ("training.py", "load()", "load() + 1"),
    ("data.py", "return SEED", "return -SEED"),
    ("runtime.py", "SEED = 0", "SEED = 1"),
    ("runtime.py", "SEED = 0", "SEED = False"),
    ("runtime.py", "SEED = 0", "SEED = None"),
    ("runtime.py", "SEED = 0", 'SEED = 0, ""'),
    ("experiments/lesson01.py", "train(0)", "train(1)"),
]
REACH = [
    # code, modules reached
    ("import tlcourse\n", []),
    ("import numpy\n", []),
    ("import tlcourse\ntlcourse.load()", ["data", "runtime"]),
    ("import tlcourse as tl\ntl.load()", ["data", "runtime"]),
    ("from tlcourse import load", ["data", "runtime"]),
    ("from tlcourse import runtime", ["runtime"]),
    ("import tlcourse.runtime", ["runtime"]),
    ("import tlcourse.runtime as r", ["runtime"]),
    ("from tlcourse.experiments import lesson01", ["data", "experiments.lesson01", "plots", "runtime", "training"]),
    ("def f():\n    from tlcourse.runtime import SEED", ["runtime"]),
    ("from tlcourse import *", ["data", "plots", "runtime", "training"]),
]
EVERY_KIND = """
class A(B, metaclass=M):
    x: int = 1

    @property
    def f(self, *args, y=None, **kw) -> str:
        return f"{self.x!r:>{y}} and {kw['a']}"


async def g(a, /, b=(), *, c: "int" = ...):
    return [i async for i in a if i] or (lambda: [{**b, 1: 2.5}, b"x", 3j, not a, a[1:], a[..., 0]])


match A:
    case {"k": [1, *rest]} if rest:
        pass
"""
EVERY_KIND_HASH = "f7e0fa054857698cf39138b90e4dc8c2f45a8c967bfcf96fe25076a5d2981dfb"


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "tlcourse" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tlcourse"


def replace(package, name, old, new):
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(("name", "old", "new"), NEUTRAL)
def test_words_do_not_change_the_hash(package, name, old, new):
    before = code_hash("tlcourse.experiments.lesson01", package=package)
    replace(package, name, old, new)
    assert code_hash("tlcourse.experiments.lesson01", package=package) == before


@pytest.mark.parametrize(("name", "old", "new"), TELLING)
def test_code_changes_the_hash(package, name, old, new):
    before = code_hash("tlcourse.experiments.lesson01", package=package)
    replace(package, name, old, new)
    assert code_hash("tlcourse.experiments.lesson01", package=package) != before


@pytest.mark.parametrize(("source", "expected"), REACH)
def test_reach(package, source, expected):
    reached = reached_modules(source, package=package)
    assert list(reached) == [f"tlcourse.{name}" for name in expected]
    assert all(path.is_file() for path in reached.values())


def test_whole_text_sees_comments(package):
    modules = {"tlcourse.training": package / "training.py"}
    code, text = hash_of_reached(modules), hash_of_reached(modules, whole_text=True)
    replace(package, "training.py", "# why", "# because")
    assert hash_of_reached(modules) == code
    assert hash_of_reached(modules, whole_text=True) != text


def test_hash_is_the_same_on_every_python(package):
    # The value was computed on Python 3.11. Newer Pythons add fields to their trees, and must come to the same.
    (package / "runtime.py").write_text(EVERY_KIND)
    assert hash_of_reached({"tlcourse.runtime": package / "runtime.py"}) == EVERY_KIND_HASH


def test_a_package_without_its_table_is_refused(package):
    replace(package, "__init__.py", "_HOME", "_ELSEWHERE")
    with pytest.raises(ValueError, match="no table _HOME"):
        code_hash("tlcourse.experiments.lesson01", package=package)


def test_foreign_code_is_refused():
    with pytest.raises(ValueError, match="tlcourse/experiments"):
        code_hash("__main__")


def test_own_modules_are_found():
    assert module_path("tlcourse.provenance").samefile(provenance.__file__)
    assert module_path("tlcourse.no_such_module") is None
    assert module_path("numpy") is None
    assert len(code_hash("tlcourse.intervals")) == 64


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "kept.json"
    write_atomically(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
