import ast
import doctest
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tlcourse

PACKAGE = Path(tlcourse.__file__).parent
# A module imports only from those before it. Each line is a layer that stands by itself.
ORDER = [
    *("runtime", "sources", "masked", "batching"),
    *("text_stages", "vision_stages"),
    "backbones",
    *("causal_stages", "tower_stages", "downloads", "published", "zoo"),
    *("readers", "data", "corpora"),
    *("norms", "adapters", "costs", "plans", "strategies", "memory"),
    *("caching", "evaluation", "probes", "centroids", "heads"),
    *("language", "towers"),
    *("similarity", "hierarchy", "visualisation"),
    *("intervals", "estimates", "evidence", "transferability", "distances", "averaging"),
    *("weight_planes", "layer_gradients", "per_sample", "fisher"),
    *("penalties", "conventions", "distillation", "replay", "forgetting"),
    *("checkpoints", "run", "rates", "training", "loops", "language_training"),
    *("grafts", "dense", "worlds", "distance_worlds", "pasted", "segmentation", "remedies", "sequences"),
    *("claims", "provenance", "results", "regrets", "html_pages"),
    *("audit", "own_data", "resplits", "advice", "trials", "saved_models", "transfer"),
    *("figures", "task_plots", "plots", "strategy_maps", "pictures", "diagrams", "panels"),
    *("views", "widgets", "explorers", "feature_browser", "cockpit"),
    *("transfer_report", "transfer_command", "checks", "grading", "doctor", "experiments", "__main__"),
]
# Where a device is named outside of runtime.py, and why.
DEVICES = {
    ("backbones", "map_location='cpu'"): "a file is read before the model moves",
    ("checkpoints", "map_location='cpu'"): "a file is read before the model moves",
    ("towers", "map_location='cpu'"): "a file is read; no model is involved",
    ("run", "device.type == 'cuda'"): "the state of the card's generator is kept",
    ("run", ".cpu()"): "labels are hashed, lengths sorted",
    ("provenance", "device.type == 'cuda'"): "the record names the card",
    ("doctor", "device.type == 'cuda'"): "the report names the card",
    ("doctor", "device.type == 'cpu'"): "the report says that a card is not used",
    ("evaluation", ".cpu()"): "scikit-learn's scores",
    ("language", ".cpu()"): "tokens are counted in NumPy",
    ("sequences", ".cpu()"): "labels meet probabilities, which come back there",
    ("probes", ".cpu()"): "scikit-learn's logistic regression",
    ("centroids", ".cpu()"): "distances in float64, which not every device has",
    ("similarity", ".cpu()"): "sums in float64, which not every device has",
    ("evidence", ".cpu()"): "sums in float64, which not every device has",
    ("transferability", ".cpu()"): "labels are counted beside features in float64",
    ("weight_planes", ".cpu()"): "coordinates in float64, which not every device has",
}
HEAVY = [
    "transformers",
    "peft",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "matplotlib",
    "ipywidgets",
    "tqdm",
    "pandas",
]
UNTYPED = {"attach_head": {"task"}}  # Task is defined in a later module
NO_DOCTEST = {"__main__": "runs the command line"}
LONGEST = 400


def modules():
    """Name -> files of each module or folder of the package."""
    return {
        path.stem: [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
        for path in sorted(PACKAGE.iterdir())
        if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
    }


def imports(path):
    """The modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names if node.module == "tlcourse"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"relative import in line {node.lineno}"]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("tlcourse."))
        yield from (name for name in names if name.startswith("relative"))


def named_devices(path):
    """Each place where code names a device: a string, or a call of .cpu(), .cuda() or .mps()."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.split(":")[0] not in ("cuda", "cpu", "mps"):
                continue
            parent = parents[node]
            if isinstance(parent, ast.Dict):
                continue  # a key or a text of a table
            if isinstance(parent, ast.keyword):
                yield f"{parent.arg}={node.value!r}"
            elif isinstance(parent, ast.Compare):
                yield ast.unparse(parent).removeprefix("self.")
            else:
                yield ast.unparse(parent)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("cuda", "cpu", "mps"):
            yield f".{node.func.attr}()"


def python(code):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ["PYTHONPATH"]])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_only_from_those_before_it(name):
    assert name in ORDER, f"give {name} its place in the order"
    allowed = set(ORDER[: ORDER.index(name)]) | ({name} & {"checks", "experiments", "grading"})
    for path in modules()[name]:
        assert set(imports(path)) <= allowed


def test_no_module_is_a_drawer():
    assert not {"utils", "util", "helpers", "common", "misc"} & set(modules())


@pytest.mark.parametrize("name", modules())
def test_a_module_says_what_it_is_for_and_stays_short(name):
    for path in modules()[name]:
        text = path.read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"
        assert len(text.splitlines()) <= LONGEST, f"{path.name} is two concepts by now"


@pytest.mark.parametrize("name", [name for name in modules() if name != "runtime"])
def test_devices_are_chosen_in_one_place(name):
    found = {(name, place) for path in modules()[name] for place in named_devices(path)}
    assert found <= DEVICES.keys()


def test_the_search_for_devices_finds_them(tmp_path):
    code = "x.to('cuda:0')\ntorch.zeros(1, device='cpu')\nx.cuda()\nf(map_location='cpu')\nself.device.type == 'cuda'\n"
    (tmp_path / "careless.py").write_text(code)
    assert sorted(named_devices(tmp_path / "careless.py")) == sorted(
        ["x.to('cuda:0')", "device='cpu'", ".cuda()", "map_location='cpu'", "device.type == 'cuda'"]
    )


def test_every_exception_to_one_place_is_in_use():
    found = {(name, place) for name, paths in modules().items() for path in paths for place in named_devices(path)}
    assert DEVICES.keys() <= found


@pytest.mark.parametrize("name", tlcourse.__all__)
def test_a_public_name_is_there_and_explains_itself(name):
    value = getattr(tlcourse, name)
    assert inspect.getdoc(value)
    assert name in dir(tlcourse)
    assert name in importlib.import_module(value.__module__).__all__
    if inspect.isfunction(value):
        hints = inspect.signature(value)
        assert hints.return_annotation is not inspect.Signature.empty
        untyped = {key for key, hint in hints.parameters.items() if hint.annotation is inspect.Parameter.empty}
        assert untyped == UNTYPED.get(name, set())


def test_an_unknown_name_lists_the_public_ones():
    with pytest.raises(AttributeError, match="tlcourse has no 'fine_tune'; public names: .*full_fine_tune"):
        tlcourse.fine_tune  # noqa: B018 - the look-up is what is tested


@pytest.mark.parametrize("name", [name for name in modules() if name not in NO_DOCTEST])
def test_examples_show_what_happens(name):
    result = doctest.testmod(importlib.import_module(f"tlcourse.{name}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_importing_costs_little_beyond_torch():
    """The best of three, in processor time: how long it takes does not depend on what else runs."""
    code = """
import time, torch
start = time.process_time()
import tlcourse
print(time.process_time() - start)
"""
    assert min(float(python(code)) for _ in range(3)) < 0.3


def test_the_core_loads_nothing_heavy():
    """Every public name can be had, but for torch and numpy, without the libraries that are used inside functions."""
    code = f"""
import sys, torch
before = set(sys.modules)
import tlcourse
assert not [name for name in sys.modules if name.startswith("tlcourse.")]
for name in tlcourse.__all__:
    getattr(tlcourse, name)
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}} & set({HEAVY!r})))
"""
    assert python(code).split() == []
