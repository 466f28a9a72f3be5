"""A small assignment for the grader's tests: three tasks, their stubs and solutions, and notebooks made of them."""

import json
from pathlib import Path

import numpy as np
import torch

from tlcourse.checks.spec import Aspect, Exercise, Misconception, plain
from tlcourse.grading import score
from tlcourse.grading.batch import Marker
from tlcourse.grading.jail import Jail
from tlcourse.grading.supervise import Limits

CANARY = "canary-0d9c1f"  # stands for everything that only a grader may know; never in a jail, so never in a result
HINTS = ("one", "two", "three")


def draw_scaled(rng):
    return {"values": rng.normal(size=int(rng.integers(2, 6))).astype(np.float32), "factor": float(rng.uniform(2, 3))}


def probe_scaled(answer, inputs):
    scaled, total = answer(torch.from_numpy(inputs["values"]), inputs["factor"])
    return {"scaled": plain(scaled), "total": plain(total)}


def oracle_scaled(inputs):
    assert CANARY
    scaled = inputs["values"] * inputs["factor"]
    return {"scaled": scaled, "total": float(scaled.sum())}


def draw_words(rng):
    return {"words": [str(word) for word in rng.integers(0, 9, size=12)]}


def probe_words(answer, inputs):
    return {"count": plain(answer(inputs["words"]))}


def oracle_words(inputs):
    return {"count": len(set(inputs["words"]))}


def draw_power(rng):
    return {"x": float(rng.uniform(2, 3))}


def probe_power(answer, inputs):
    return {"power": plain(answer(inputs["x"]))}


def oracle_power(inputs):
    return {"power": inputs["x"] ** 3}


LAMBDAS = (lambda answer, inputs: {"y": answer(inputs["x"])}, lambda answer, i: {"z": plain([answer(i["x"])])})


def exercise(number, title, points, entry, draw, probe, oracle, aspects, misconceptions=()):
    return Exercise(
        f"90.{number}", title, points, 1, 1, entry, draw, probe, oracle, aspects, misconceptions, HINTS, 3, 1.0
    )


EXERCISES = (
    exercise(
        1,
        "Scaled values",
        4,
        "scaled",
        draw_scaled,
        probe_scaled,
        oracle_scaled,
        (Aspect("scaled", "the values are scaled", 0.75, 1e-5), Aspect("total", "the total is right", 0.25, 1e-5)),
        (
            Misconception(
                "not scaled",
                "You gave the values back; {inputs[factor]:.1f} times as much was asked for.",
                wrong=lambda inputs: {"scaled": inputs["values"]},
            ),
            # It takes for granted that the total is a number, which a stranger's need not be.
            Misconception(
                "doubled", "{outputs[total]:.2f} is twice the total", shows=lambda i, o, e: o["total"] / 2 == 1
            ),
        ),
    ),
    exercise(2, "Words", 2, "count", draw_words, probe_words, oracle_words, (Aspect("count", "the count", 1.0),)),
    exercise(3, "Power", 2, "power", draw_power, probe_power, oracle_power, (Aspect("power", "the power", 1.0),)),
)
SETUP = ("import math\nimport numpy as np\nimport torch",)
STUBS = {
    "90.1": "def scaled(values, factor):\n    raise NotImplementedError",
    "90.2": "def count(words):\n    raise NotImplementedError",
    "90.3": "def power(x):\n    raise NotImplementedError",
}
REFERENCE = {
    "90.1": "def scaled(values, factor):\n    result = values * factor\n    return result, result.sum()",
    "90.2": "def count(words):\n    return len(set(words))",
    "90.3": "def power(x):\n    return x**3",
}
FULL = {"90.1": 4.0, "90.2": 2.0, "90.3": 2.0}
LIMITS = Limits(memory=1_000_000_000, processes=48, patience=2.0, scratch=16_000_000, output=8_000_000, cpu_seconds=60)


def paper(seed=3):
    return score.prepare(EXERCISES, setup=SETUP, seed=seed)


def marker(place: Jail, *, limits=LIMITS, seed=3) -> Marker:
    return Marker("90", paper(seed), STUBS, REFERENCE, place, limits)


def cell(source, *, task=None, kind="code", tags=("answer",)):
    metadata = {"tags": list(tags), "task": task} if task else {}
    made = {"cell_type": kind, "metadata": metadata, "source": source}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def notebook(answers, *, cells=None):
    """A submission's text, from task id -> source."""
    made = [cell(source, task=task) for task, source in answers.items()] if cells is None else cells
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made})


def hand_in(folder: Path, name: str, answers=REFERENCE, *, cells=None) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_text(notebook(answers, cells=cells), encoding="utf-8")
    return path
