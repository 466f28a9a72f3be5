"""Each jail is attacked; where one is missing the next is taken; with none the grader refuses unless it is told to
trust."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.grading_course import FULL, REFERENCE, hand_in, marker
from tlcourse.grading import batch, command, intake, jail, prove
from tlcourse.grading.jail import Jail, NoJail, View, candidates, choose, why_not
from tlcourse.grading.supervise import Worker, WorkerError

LINUX = sys.platform == "linux"
WORKING = [place for place in candidates() if why_not(place) is None] if LINUX else []
KINDS = [place.kind for place in WORKING]
slow = pytest.mark.slow
pytestmark = pytest.mark.timeout(900)

FAKE_DOCKER = """#!{python}
import os, sys, json
log = open({log!r}, "a")
log.write(json.dumps(sys.argv[1:]) + "\\n")
log.close()
if sys.argv[1] != "run":
    sys.exit(0)
words = sys.argv[2:]
environment = dict(w.split("=", 1) for flag, w in zip(words, words[1:]) if flag == "--env")
binds = dict(reversed(w.split(":")[:2]) for flag, w in zip(words, words[1:]) if flag == "--volume")
environment["PYTHONPATH"] = binds["/course"]
program = words[words.index("tlcourse-empty") + 1:]
os.execve(program[0], program, environment)
"""


def only(monkeypatch, tmp_path, *names):
    """A PATH with these programs alone."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in names:
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.skipif(not LINUX, reason="jails are Linux's")
def test_this_machine_has_the_jails_that_continuous_integration_installs():
    if os.environ.get("CI") == "true":
        assert "bubblewrap" in KINDS
    if not KINDS:
        pytest.skip("no jail works here")
    assert choose() == WORKING[0]


@slow
@pytest.mark.parametrize("place", WORKING, ids=KINDS)
@pytest.mark.parametrize("warm", [True, False])
def test_a_jail_holds(place, warm):
    if warm and not place.warm:
        pytest.skip("a container is started for each submission")
    found = prove.attack(Jail(place.kind, place.program, warm))
    assert [finding for finding in found if not finding.held] == []
    assert len(found) == len(prove.ATTACKS) + 1
    assert ("one starter" in found[-1].seen) == warm


@slow
def test_the_proof_can_fail():
    """Without a jail the same attacks succeed, so that they are attacks."""
    fell = {finding.attack for finding in prove.attack(Jail("none")) if not finding.held}
    assert {"reading", "writing", "processes"} <= fell


@slow
@pytest.mark.skipif("namespaces" not in KINDS, reason="no plain namespaces here")
def test_without_bubblewrap_plain_namespaces_serve(monkeypatch, tmp_path):
    only(monkeypatch, tmp_path, "unshare")
    place = choose()
    assert place.kind == "namespaces"
    hand_in(tmp_path / "in", "ada")
    (result,) = _grade(place, tmp_path)
    assert (result["score"], result["jail"], result["warning"]) == (8.0, "namespaces", "")


@slow
def test_without_namespaces_a_container_serves(monkeypatch, tmp_path):
    """Docker's command line is played; that a real one is well called is for a machine that has one."""
    folder, log = only(monkeypatch, tmp_path), tmp_path / "log"
    (folder / "docker").write_text(FAKE_DOCKER.format(python=sys.executable, log=str(log)), encoding="utf-8")
    (folder / "docker").chmod(0o755)
    place = choose()
    assert place.kind == "container"
    for name in ("ada", "bob"):
        hand_in(tmp_path / "in", name)
    found = _grade(place, tmp_path)
    assert [(result["score"], result["jail"]) for result in found] == [(8.0, "container")] * 2
    calls = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    runs = [" ".join(call) for call in calls if call[0] == "run" and "tlcourse.grading.worker" in call]
    assert len(runs) == 3, "one for the reference, and one a submission"
    for words in ("--network none", "--read-only", "--cap-drop ALL", "no-new-privileges", "--pids-limit", "--memory "):
        assert all(words in run for run in runs)
    assert len({run.partition("--name ")[2].partition(" ")[0] for run in runs}) == 3
    assert all(":ro" in word for run in runs for word in run.split("--volume ")[1:])


def test_with_none_the_grader_refuses(monkeypatch, tmp_path, capsys):
    only(monkeypatch, tmp_path)
    with pytest.raises(NoJail, match="none is installed.*apt install bubblewrap.*--trust-submissions"):
        choose()
    with pytest.raises(NoJail):
        command.grade(hand_in(tmp_path, "ada"), "03", tmp_path / "out")
    assert not (tmp_path / "out" / "results.json").exists()


@slow
def test_trusting_is_said_in_every_result(monkeypatch, tmp_path):
    only(monkeypatch, tmp_path)
    place = choose(trust=True)
    assert place == Jail("none")
    for name in ("ada", "bob"):
        hand_in(tmp_path / "in", name)
    assert all("without a jail" in result["warning"] for result in _grade(place, tmp_path))


def test_a_jail_that_works_is_taken_also_where_submissions_are_trusted():
    if not KINDS:
        pytest.skip("no jail works here")
    assert choose(trust=True).kind == KINDS[0]


def test_a_jail_that_does_not_start_says_why(monkeypatch, tmp_path):
    folder = only(monkeypatch, tmp_path)
    for name, text in (("bwrap", "#!/bin/sh\necho no permissions >&2\nexit 1\n"), ("unshare", "#!/bin/sh\n")):
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    with pytest.raises(NoJail, match=r"bwrap: no permissions; .*unshare: it ended with 0"):
        choose()


@slow
def test_an_environment_that_cannot_start_is_no_submissions_fault(tmp_path):
    place = choose() if KINDS else Jail("none")
    made = marker(place)
    view = batch.make_view(tmp_path, made)
    worker = Worker(place, view, imports=["a_module_that_is_not_there"], limits=made.limits)
    with worker, pytest.raises(WorkerError, match="No module named 'a_module_that_is_not_there'"):
        worker.run(made.paper.job(REFERENCE, asked=list(FULL)), seconds=1, most=9)


def test_a_view_shows_no_more_than_it_must(tmp_path):
    view = View(tmp_path)
    shown = [Path(here) for here, _ in view.binds()]
    assert not {Path("/"), Path("/home"), Path("/root"), Path("/etc"), Path.home(), Path.cwd()} & set(shown)
    assert not [path for path in shown if Path.cwd().is_relative_to(path)]
    assert ("/course", str(tmp_path)) in [(there, here) for here, there in view.binds()]


def test_what_lies_in_a_shown_folder_is_masked(tmp_path):
    inside = Path(sys.prefix) / "lib"
    assert View(tmp_path, hidden=(inside, tmp_path / "elsewhere")).masked() == [str(inside)]


def test_the_jail_inherits_nothing(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert "SECRET_TOKEN" not in {**jail.environment(), **jail.outer()}


@pytest.mark.parametrize(("chosen", "held", "status"), [("a", True, 0), ("a", False, 1), (None, True, 1)])
def test_the_doctors_report(chosen, held, status, capsys):
    findings = [prove.Finding("a", "network", held, "seen"), prove.Finding("b", "start", False, "not here")]
    assert prove.report(chosen, findings, as_json=False) == status
    assert ("FELL  a" in capsys.readouterr().out) == (not held)
    assert prove.report(chosen, findings, as_json=True) == status
    assert json.loads(capsys.readouterr().out)["sound"] is (status == 0)


def _grade(place, folder):
    found = batch.grade_all(marker(place), intake.find_submissions(folder / "in"), folder / "out", jobs=1)
    return found["results"]
