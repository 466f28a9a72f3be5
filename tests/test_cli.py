import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tlcourse import doctor, experiments, results, sources
from tlcourse.__main__ import main
from tlcourse.sources import SourceError

COMMANDS = (
    *("doctor", "fetch", "claims", "experiments", "progress", "grade", "export", "variants"),
    *("transfer", "predict"),
)


def test_help_lists_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # argparse wraps to it
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if re.match(r" {4}\w", line)] == list(COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["dance"], ["doctor", "--loud"]])
def test_a_wrong_command_line_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tlcourse" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "expected"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_doctor(status, expected, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "diagnose", lambda quick: [doctor.Row("x", status, f"quick is {quick}")])
    assert main(["doctor"]) == expected
    assert "quick is False" in capsys.readouterr().out
    assert main(["doctor", "--quick", "--json"]) == expected
    assert json.loads(capsys.readouterr().out)["rows"][0]["value"] == "quick is True"


@pytest.mark.parametrize(
    ("installed", "message"),
    [((), "every embedded source was in place"), (("a", "b"), "installed a, b")],
)
def test_fetch(installed, message, monkeypatch, capsys):
    monkeypatch.setattr(sources, "fetch", lambda: installed)
    assert main(["fetch"]) == 0
    assert message in capsys.readouterr().out


def test_an_error_is_one_line(monkeypatch, capsys):
    def fetch():
        raise SourceError("pip could not install a", "Try again.")

    monkeypatch.setattr(sources, "fetch", fetch)
    assert main(["fetch"]) == 1
    assert capsys.readouterr().err == "error: pip could not install a. Try again.\n"


def test_claims_of_a_folder_without_notebooks(tmp_path, capsys):
    assert main(["claims", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no notebook in")


@pytest.fixture
def made(monkeypatch):
    names = []
    monkeypatch.setattr(experiments, "EXPERIMENTS", (SimpleNamespace(name="one"), SimpleNamespace(name="two")))
    monkeypatch.setattr(results, "make_results", lambda experiment: names.append(experiment.name))
    return names


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], ["one", "two"]), (["two"], ["two"]), (["two", "one"], ["two", "one"])]
)
def test_experiments_by_name(arguments, expected, made):
    assert main(["experiments", *arguments]) == 0
    assert made == expected


def test_an_unknown_experiment_makes_none(made, capsys):
    assert main(["experiments", "one", "three"]) == 1
    assert capsys.readouterr().err == "error: no experiment 'three'; there are: one, two\n"
    assert made == []


def test_an_experiment_that_cannot_be_compared_here_is_said(made, monkeypatch, capsys):
    def refuse(experiment):
        raise results.StaleResults("one: auc was 1.0, is 2.0")

    monkeypatch.setattr(results, "make_results", refuse)
    assert main(["experiments", "one"]) == 1
    assert capsys.readouterr().err == "error: one: auc was 1.0, is 2.0\n"


def test_experiments_are_listed(made, capsys):
    assert main(["experiments", "--list"]) == 0
    assert capsys.readouterr().out.split() == ["one", "two"]
    assert made == []


def test_module_runs_as_a_command():
    ended = subprocess.run([sys.executable, "-m", "tlcourse", "fetch"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "every embedded source was in place\n")
