"""``python -m tlcourse progress --verify``: a certificate's answers, run again where they can do no harm."""

import json
from pathlib import Path

import pytest

from tlcourse.__main__ import main
from tlcourse.checks import certificate as certificates
from tlcourse.grading import jail, verify

ROOT = Path(__file__).parents[1]
RIGHT = """
def imagenet_left(images, batch_size, epochs, momentum):
    print('"state": "passed"')
    return (1 - momentum) ** (epochs * -(-images // batch_size))
"""
# Each is the answer to another task: what it does, its state, and what is said.
ANSWERS = {
    "03.1": (RIGHT, "passed", "03.1 passed again: it agrees on 6 fresh inputs"),
    "00.1": (
        """
import pathlib
for place in PLACES:
    try:
        pathlib.Path(place).write_text("an answer was here")
    except OSError:
        pass
1 / 0
""",
        "raised",
        "00.1 raised: your code raised ZeroDivisionError: division by zero (line 8 of its cell)",
    ),
    "03.2": ("import os\nos._exit(0)", "stopped", "03.2 stopped: your code ended the program that ran it"),
    "03.3": (
        "import torch\ndef start_epoch(network, frozen):\n    from tlcourse.checks import lesson03",
        "raised",
        "ImportError: cannot import name 'lesson03'",
    ),
    "03.4": ("", "missing", "03.4 cannot be run again: no source was recorded"),
    "03.5": (60_000 * "#", "missing", "its source has more than 50,000 characters"),
    "01.1": ("raise NotImplementedError", "not started", "01.1 not started"),
}


def certify(path, answers, name="Ada"):
    """What anybody can write: a certificate with these answers, its digest right."""
    made = {"format": 1, "name": name, "course": "0", "tasks": []}
    made["tasks"] = [{"task": task, "answer": answer, "constants": {}} for task, answer in answers.items()]
    path.write_text(json.dumps({**made, "digest": certificates._digest(made)}), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_answers_run_again_and_reach_nothing_outside(tmp_path, capsys):
    if not jail.candidates():
        pytest.skip("no jail can be had on this system")
    places = [str(folder / "tlcourse-was-here.txt") for folder in (tmp_path, ROOT, Path.home())]
    answers = {task: source.replace("PLACES", repr(places)) for task, (source, *_) in ANSWERS.items()}
    path = certify(tmp_path / "ada.json", answers, name="Ada\x1b[31m")
    assert main(["progress", "--verify", str(path), "--json", "--seed", "5"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["seed"]) == ("Ada\ufffd[31m", 5)
    assert found["jail"] in ("bubblewrap", "namespaces", "container")
    assert [(task["task"], task["state"]) for task in found["tasks"]] == [(t, s) for t, (_, s, _) in ANSWERS.items()]
    for task in found["tasks"]:
        assert ANSWERS[task["task"]][2] in task["text"]
    assert not any(Path(place).exists() for place in places)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_jail_only_who_trusts_goes_on(tmp_path, monkeypatch, capsys):
    """It says so; and there an answer does reach what it likes."""
    monkeypatch.setattr(jail, "candidates", lambda trust: [jail.Jail("none")] if trust else [])
    place = tmp_path / "here.txt"
    writing = f"open({str(place)!r}, 'w').close()\n{RIGHT}"
    path = certify(tmp_path / "ada.json", {"03.1": writing})
    assert main(["progress", "--verify", str(path)]) == 1
    assert "error: no jail works on this machine" in capsys.readouterr().err
    assert not place.exists()
    assert main(["progress", "--verify", str(path), "--trust-submissions", "--seed", "5"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: Without a jail")
    assert said.out.splitlines()[-1] == "Ada: 1 of 1 answers passed again on fresh inputs (seed 5)"
    assert place.exists()


@pytest.mark.parametrize(("arguments", "said"), [([], "No such file"), (["--seed", "-1"], "No such file")])
def test_what_is_wrong_is_one_line(arguments, said, tmp_path, capsys):
    assert main(["progress", "--verify", str(tmp_path / "none.json"), *arguments]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert said in printed
    assert printed.count("\n") == 1


def test_an_empty_certificate_needs_no_jail():
    assert verify.verify({"name": "Ada", "tasks": []}, jail.Jail("none"), seed=1) == []
