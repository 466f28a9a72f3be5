"""Lets an engine grade answers; run by the interpreter that has it: ``engine_driver.py JOB.json`` prints JSON.

The job: ``engine``; ``export``, what `tlcourse.grading.engines.export` wrote; ``assignment``; ``stem`` of the notebook;
``answers``, name of a learner -> task id -> source; ``folder`` to work in. What is printed last: name -> task id ->
``{"score", "max_score", "shown"}``, where ``shown`` is what the engine shows to the learner.
"""

import json
import runpy
import shutil
import sys
import zipfile
from pathlib import Path


def filled(notebook, answers):
    """The learner's notebook with answers in it, as Jupyter would save it."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in cells["cells"]:
        if "answer" in cell["metadata"].get("tags", []) and cell["metadata"]["task"] in answers:
            cell["source"] = answers[cell["metadata"]["task"]]
    return json.dumps(cells)


def otter(job):
    """By ``otter run``'s function."""
    from otter.api import grade_submission

    found = {}
    for name, answers in job["answers"].items():
        path = Path(job["folder"]) / name / f"{job['stem']}.ipynb"
        path.parent.mkdir()
        path.write_text(filled(Path(job["export"]) / path.name, answers), encoding="utf-8")
        results = grade_submission(str(path), f"{job['export']}/autograder.zip", quiet=True)
        found[name] = {
            title.partition(" ")[0]: {"score": test.score, "max_score": test.possible, "shown": test.summary()}
            for title, test in results.results.items()
        }
    return found


def gradescope(job):
    """As in the container: what the archive holds is unpacked and its own script run."""
    found = {}
    for name, answers in job["answers"].items():
        folder = Path(job["folder"]) / name
        for part in ("source", "submission", "results"):
            (folder / part).mkdir(parents=True)
        with zipfile.ZipFile(f"{job['export']}/autograder.zip") as archive:
            archive.extractall(folder / "source")
        notebook = f"{job['stem']}.ipynb"
        text = filled(Path(job["export"]) / notebook, answers)
        (folder / "submission" / notebook).write_text(text, encoding="utf-8")
        runpy.run_path(str(folder / "source" / "run_otter.py"), run_name="__main__")
        tests = json.loads((folder / "results" / "results.json").read_text(encoding="utf-8"))["tests"]
        assert all(test["visibility"] == "visible" for test in tests)
        found[name] = {
            test["name"].partition(" ")[0]: {"shown": test["output"]}
            | {key: test[key] for key in ("score", "max_score")}
            for test in tests
        }
    return found


def nbgrader(job):
    """By nbgrader's three commands, called as functions: generate, autograde, feedback."""
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    course, assignment = Path(job["folder"]) / "course", job["assignment"]
    shutil.copytree(job["export"], course / "source" / assignment)
    config = Config()
    config.CourseDirectory.root = str(course)
    config.Execute.timeout = 300  # by the clock, on a machine that may be busy
    api = NbGraderAPI(config=config)
    done(api.generate_assignment(assignment))
    release = course / "release" / assignment / f"{job['stem']}.ipynb"
    found = {"release": release.read_text(encoding="utf-8")}
    for name, answers in job["answers"].items():
        place = course / "submitted" / name / assignment
        place.mkdir(parents=True)
        (place / release.name).write_text(filled(release, answers), encoding="utf-8")
        done(api.autograde(assignment, name))
        done(api.generate_feedback(assignment, name))
        page = course / "feedback" / name / assignment / f"{job['stem']}.html"
        with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
            grades = book.find_submission_notebook(job["stem"], assignment, name).grades
            found[name] = {
                grade.name.removeprefix("marked-").replace("-", "."): {
                    "score": grade.auto_score,
                    "max_score": grade.max_score,
                    "shown": page.read_text(encoding="utf-8"),
                }
                for grade in grades
            }
    return found


def done(outcome):
    """Stop where nbgrader says that it failed."""
    if not outcome["success"]:
        raise SystemExit(f"{outcome.get('error')}\n{outcome.get('log')}")


if __name__ == "__main__":
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    made = {"otter": otter, "gradescope": gradescope, "nbgrader": nbgrader}[order["engine"]](order)
    print("\n" + json.dumps(made))
