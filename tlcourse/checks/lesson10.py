"""Tasks of lesson 10: elastic weight consolidation."""

from functools import partial

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.lesson10_fisher import BY_FORMULA, BY_SAMPLE
from tlcourse.checks.lesson10_penalty import ONLINE, PENALTY
from tlcourse.checks.lesson10_rate import LARGEST_RATE
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "THREE_SCORES"]

# 10.6: three questions to the same outputs ------------------------------------------------------------

SCORES = ("task", "domain", "class", "newest")


def _any_outputs(rng: np.random.Generator) -> Inputs:
    tasks, size = int(rng.integers(3, 5)), int(rng.integers(2, 4))
    labels = rng.permutation(np.arange(4 * tasks) % (tasks * size))
    logits = rng.normal(size=(len(labels), tasks * size))
    logits[np.arange(len(labels)), labels] += 1.2  # each task was learnt
    logits[:, -size:] += 1.5  # and the newest outbids the others
    return {"logits": logits, "labels": labels, "per_task": size}


def _probe_scores(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(**inputs), what="what `three_scores` returned")
    if not isinstance(found, dict):
        raise AnswerError("`three_scores` should return a dict of four numbers: task, domain, class and newest")
    return {key: found.get(key) for key in SCORES}


def _scores(i: Inputs) -> Outputs:
    """Sample by sample."""
    size, tasks = i["per_task"], i["logits"].shape[1] // i["per_task"]
    right, old, outbid = dict.fromkeys(SCORES[:3], 0), 0, 0
    for row, label in zip(i["logits"], i["labels"], strict=True):
        own, place = divmod(int(label), size)
        best = int(row.argmax())
        right["task"] += int(row[own * size : (own + 1) * size].argmax()) == place
        right["domain"] += best % size == place
        right["class"] += best == label
        old += own < tasks - 1
        outbid += own < tasks - 1 and best // size == tasks - 1
    return {key: count / len(i["labels"]) for key, count in right.items()} | {"newest": outbid / old}


def _all_may_answer(i: Inputs) -> Outputs:
    return {"task": _scores(i)["class"]}


def _always_told(i: Inputs) -> Outputs:
    return {"class": _scores(i)["task"]}


def _domain_told(i: Inputs) -> Outputs:
    return {"domain": _scores(i)["task"]}


def _without_offset(i: Inputs) -> Outputs:
    """The place within the task compared with the label among all classes."""
    size = i["per_task"]
    places = [
        int(row[label // size * size :][:size].argmax()) for row, label in zip(i["logits"], i["labels"], strict=True)
    ]
    return {"task": float(np.mean(np.array(places) == i["labels"]))}


def _outbid(i: Inputs, *, over: str) -> Outputs:
    size, tasks = i["per_task"], i["logits"].shape[1] // i["per_task"]
    old, won = i["labels"] // size < tasks - 1, i["logits"].argmax(axis=1) // size == tasks - 1
    return {"newest": float((won if over == "everyone" else won & old).mean())}


_everyone = partial(_outbid, over="everyone")
_share_of_all = partial(_outbid, over="the old")


def _draw_outputs(rng: np.random.Generator) -> Inputs:
    ways = (*(_share(_scores, key) for key in SCORES[:3]), _share(_without_offset, "task"))
    while True:
        made = draw_apart(rng, _any_outputs, ways)
        newest = {way(made)["newest"] for way in (_scores, _everyone, _share_of_all)}
        if len(newest) == 3 and _scores(made)["class"] > 0:
            return made


def _share(way, key: str):
    return lambda i: {"share": way(i)[key]}


THREE_SCORES = Exercise(
    id="10.6",
    title="Three questions to the same outputs",
    points=4,
    difficulty=2,
    minutes=15,
    entry="three_scores",
    draw=_draw_outputs,
    probe=_probe_scores,
    oracle=_scores,
    aspects=(
        Aspect("task", "the score where the task is told", 0.3, 1e-9),
        Aspect("domain", "the score where the place in the task is asked", 0.2, 1e-9),
        Aspect("class", "the score where all classes may answer", 0.2, 1e-9),
        Aspect("newest", "the old samples that the newest outputs win", 0.3, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "every output may answer, though the task is told",
            "Your `task` is {outputs[task]:.2f}, the class-incremental score. Where the task is told, only *its* "
            "outputs may answer; the others are masked, however large they are.",
            wrong=_all_may_answer,
        ),
        Misconception(
            "the task was told where it must not be",
            "Your `class` is {outputs[class]:.2f}, which takes the task for granted. Class-incremental means that "
            "nobody tells it: the largest of all outputs answers. That makes {expected[class]:.2f}; a score that is "
            "masked without a word is a task-incremental one under another name.",
            wrong=_always_told,
        ),
        Misconception(
            "the domain was told",
            "Your `domain` equals `task`, {outputs[domain]:.2f}: you looked among the outputs of the sample's own "
            "task. In the domain-incremental question the task is not told either; the largest of all outputs answers, "
            "and its place within *its* task is what counts.",
            wrong=_domain_told,
        ),
        Misconception(
            "the offset was forgotten",
            "Within a task you count outputs from 0, and compare with labels that count all classes: only the first "
            "task can be right. Take the offset of the task away from the label, or add it to the answer.",
            wrong=_without_offset,
        ),
        Misconception(
            "samples of the last task counted as outbid",
            "`newest` asks for samples of *earlier* tasks. You counted those of the last task too, for which its own "
            "outputs are right to win: {outputs[newest]:.2f} instead of {expected[newest]:.2f}.",
            wrong=_everyone,
        ),
        Misconception(
            "divided by all samples",
            "You counted rightly who of the earlier tasks is outbid, and divided by all samples. The share is among "
            "those of the earlier tasks: {expected[newest]:.2f}.",
            wrong=_share_of_all,
        ),
    ),
    hints=(
        "The largest logit of a row gives `class`, `domain` and `newest`. Only `task` looks at a part of the row.",
        "With best = logits.argmax(axis=1): its task is best // per_task, its place best % per_task. The same holds "
        "for a label.",
        "task: logits.reshape(n, T, per_task)[np.arange(n), labels // per_task].argmax(axis=1) == labels % per_task. "
        "newest: the mean of best // per_task == T - 1 over the rows with labels // per_task < T - 1.",
    ),
)

EXERCISES = (BY_FORMULA, BY_SAMPLE, PENALTY, ONLINE, LARGEST_RATE, THREE_SCORES)
