import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = {*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lab"]}
ON_CONDA_FORGE = {"pytorch": "torch"}  # what conda-forge calls otherwise than PyPI
DATA = re.findall(r"^[\w.-]+(?===)", (ROOT / "requirements-data.txt").read_text(encoding="utf-8"), re.MULTILINE)
NEVER_SHIPPED = ("solution", "exercise", "hidden", "test", "notebook", "sources/")


def read_recipe():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def read_environment():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    packages = [line for line in listed if isinstance(line, str) and line != "pip"]
    python, *others = packages
    assert python == f"python{PROJECT['requires-python']}"
    assert [line for line in listed if not isinstance(line, str)] == [{"pip": ["--editable ."]}]
    names = re.compile("^(" + "|".join(ON_CONDA_FORGE) + r")\b")
    return [names.sub(lambda name: ON_CONDA_FORGE[name[0]], line) for line in others]


@pytest.mark.parametrize("read", [read_recipe, read_environment])
def test_other_recipes_hold_the_same_packages(read):
    packages = read()
    assert len(packages) == len(set(packages))
    assert set(packages) == WANTED


def test_data_packages_are_no_dependencies():
    assert len(DATA) == 6
    named = {re.match(r"[\w.-]+", line)[0] for lines in PROJECT["optional-dependencies"].values() for line in lines}
    named |= {re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]}
    assert not named & set(DATA)


def test_every_import_of_the_library_is_declared():
    """What `tlcourse` imports, anywhere in it, is in the base dependencies (their names differ at times).

    The grader, which runs from a clone, may use what the extra `lab` names as well.
    """
    import_names = {"sklearn": "scikit-learn", "PIL": "pillow"}
    through = {"IPython": "ipywidgets"}  # which requires it
    imported, grader = set(), ROOT / "tlcourse" / "grading"
    lab = {re.match(r"[\w.-]+", line)[0] for line in PROJECT["optional-dependencies"]["lab"]}
    for module in (ROOT / "tlcourse").rglob("*.py"):
        imports = set()
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imports |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imports.add(node.module.partition(".")[0])
        imported |= imports - lab if module.is_relative_to(grader) else imports
    third_party = imported - set(sys.stdlib_module_names) - {"tlcourse"}
    declared = {re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]}
    assert {through.get(name, import_names.get(name, name)) for name in third_party} <= declared


def test_versions_agree():
    import tlcourse

    assert tlcourse.__version__ == PROJECT["version"]
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_import_is_light():
    program = "import sys, tlcourse; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "transformers", "matplotlib", "sklearn"} & set(ended.stdout.split())


def test_wheel_holds_the_library_and_nothing_to_copy_from(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tlcourse").rglob("*.py")}
    results = {f"tlcourse/_results/{path.name}" for path in (ROOT / "results").glob("*.json")}
    assert modules | results | {"tlcourse/requirements-data.txt"} <= set(names)
    inside = [name for name in names if name.startswith("tlcourse/")]
    assert all(name.startswith(("tlcourse/", f"tlcourse-{PROJECT['version']}.dist-info/")) for name in names)
    assert not [name for name in inside if any(word in name.lower() for word in NEVER_SHIPPED)]
    assert sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist()) < 5_000_000


def test_third_party_page_names_every_package():
    page = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    assert [name for name in [*DATA, "scikit-learn"] if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "THIRD_PARTY.md"])
def test_links_and_commands_of_the_pages_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    local = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in local if not (ROOT / link).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_the_readme_lists_every_lesson_in_order():
    listed = re.findall(r"\]\(notebooks/([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
