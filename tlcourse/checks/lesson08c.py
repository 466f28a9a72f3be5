"""The clinic after lesson 08: five defects that make forgetting look larger, smaller, or happen."""

import numpy as np
import torch

from tlcourse.checks.lesson08c_networks import OLD_HEADS, STILL
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["BY_EXAMPLE", "EXERCISES", "FROM_THE_BEST", "STOP"]

# 08c.1: the average ------------------------------------------------------------


def _draw_average(rng: np.random.Generator) -> Inputs:
    while True:
        size = int(rng.integers(3, 5))
        count = size * int(rng.integers(2, 4)) + int(rng.integers(1, size))
        made = {
            "logits": rng.normal(size=(count, 3)).round(2).astype(np.float32),
            "labels": rng.integers(0, 3, count),
            "batch_size": size,
        }
        named = [_by_example(made), _by_batch(made), _full_ones(made), _as_if_full(made), _last_one(made)]
        if len({round(value, 6) for value in named}) == len(named):
            return made


def _probe_average(answer, inputs: Inputs) -> Outputs:
    sizes = []

    def network(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        return x  # the logits themselves go in

    logits, labels = torch.from_numpy(inputs["logits"]), torch.from_numpy(inputs["labels"])
    found = plain(answer(network, logits, labels, inputs["batch_size"]), what="what `accuracy` returned")
    return {"accuracy": found, "largest": max(sizes, default=0)}


def _hits(inputs: Inputs) -> list[np.ndarray]:
    """Right or wrong, batch by batch."""
    right = inputs["logits"].argmax(axis=1) == inputs["labels"]
    return [right[start : start + inputs["batch_size"]] for start in range(0, len(right), inputs["batch_size"])]


def _by_example(inputs: Inputs) -> float:
    return float(np.concatenate(_hits(inputs)).mean())


def _by_batch(inputs: Inputs) -> float:
    return float(np.mean([batch.mean() for batch in _hits(inputs)]))


def _full_ones(inputs: Inputs) -> float:
    return float(np.concatenate(_hits(inputs)[:-1]).mean())


def _as_if_full(inputs: Inputs) -> float:
    return float(np.concatenate(_hits(inputs)).sum() / (len(_hits(inputs)) * inputs["batch_size"]))


def _last_one(inputs: Inputs) -> float:
    return float(_hits(inputs)[-1].mean())


BY_EXAMPLE = Exercise(
    id="08c.1",
    title="The score that changes with the batch size",
    points=2,
    difficulty=1,
    minutes=5,
    entry="accuracy",
    draw=_draw_average,
    probe=_probe_average,
    oracle=lambda i: {"accuracy": _by_example(i), "largest": min(i["batch_size"], len(i["labels"]))},
    aspects=(
        Aspect("accuracy", "the accuracy", 0.8, 1e-5),
        Aspect("largest", "the batches have the size that was asked for", 0.2),
    ),
    misconceptions=(
        Misconception(
            "average of the batches",
            "You average over batches, so that a sample of the short batch at the end counts more than the others. "
            "The same network would have another score at another batch size, and a small difference between before "
            "and after may be nothing but that.",
            wrong=lambda i: {"accuracy": _by_batch(i)},
        ),
        Misconception(
            "the short batch was dropped",
            "The samples of the last batch are not counted at all. There are few of them, and they are data.",
            wrong=lambda i: {"accuracy": _full_ones(i)},
        ),
        Misconception(
            "as if all batches were full",
            "You divide by the number of batches times {inputs[batch_size]}, which is more samples than there are.",
            wrong=lambda i: {"accuracy": _as_if_full(i)},
        ),
        Misconception(
            "the last batch alone",
            "What you return is the accuracy of the last batch: each batch overwrites what was counted before.",
            wrong=lambda i: {"accuracy": _last_one(i)},
        ),
        Misconception(
            "all in one batch",
            "The accuracy is right, but {outputs[largest]} samples went in at once, where {inputs[batch_size]} are "
            "allowed.",
            shows=lambda i, o, e: o["largest"] > e["largest"],
        ),
    ),
    hints=(
        "Try it by hand: two batches, one of four samples, one of a single sample.",
        "Count how many are right in all batches, and divide once, in the end.",
        "right += (logits.argmax(dim=1) == labels).sum().item() in the loop; return right / len(y) after it.",
    ),
)

# 08c.2: forgetting, from the best ------------------------------------------------------------


def _draw_forgetting(rng: np.random.Generator) -> Inputs:
    while True:
        tasks = int(rng.integers(4, 6))
        made = {"R": rng.uniform(0.3, 1.0, (tasks, tasks)).round(2)}
        ways = (_from_best, _from_previous, _from_diagonal, _never_negative, _from_any_row, _over_all_tasks)
        named = [way(made["R"]) for way in ways]
        if len({round(value, 6) for value in named}) == len(named):
            return made


def _probe_forgetting(answer, inputs: Inputs) -> Outputs:
    R = inputs["R"].copy()  # a copy, so that overwriting it is an outcome with a message of its own
    found = plain(answer(R), what="what `forgetting` returned")
    return {"forgetting": found, "R": R}


def _from_best(R: np.ndarray) -> float:
    return float(np.mean([max(R[row, task] for row in range(task, len(R) - 1)) - R[-1, task] for task in _earlier(R)]))


def _earlier(R: np.ndarray) -> range:
    return range(len(R) - 1)


def _from_previous(R: np.ndarray) -> float:
    return float((R[-2] - R[-1])[:-1].mean())


def _from_diagonal(R: np.ndarray) -> float:
    return float((R.diagonal() - R[-1])[:-1].mean())


def _never_negative(R: np.ndarray) -> float:
    return float(np.mean([R[task:, task].max() - R[-1, task] for task in _earlier(R)]))


def _from_any_row(R: np.ndarray) -> float:
    return float((R[:-1].max(axis=0) - R[-1])[:-1].mean())


def _over_all_tasks(R: np.ndarray) -> float:
    return _from_best(R) * (len(R) - 1) / len(R)


FROM_THE_BEST = Exercise(
    id="08c.2",
    title="Less forgetting than there is",
    points=3,
    difficulty=2,
    minutes=10,
    entry="forgetting",
    draw=_draw_forgetting,
    probe=_probe_forgetting,
    oracle=lambda i: {"forgetting": _from_best(i["R"]), "R": i["R"]},
    aspects=(
        Aspect("forgetting", "the forgetting", 0.8, 1e-9),
        Aspect("R", "R is not changed", 0.2, 0.0),
    ),
    misconceptions=(
        Misconception(
            "R was overwritten",
            "R is not what it was: you worked in the matrix that you were given, and whoever reads it next reads "
            "something else.",
            shows=lambda i, o, e: not np.array_equal(o["R"], e["R"]),
        ),
        Misconception(
            "from the row before the last",
            "You compare the last row with the one before it: that is what the *last task* cost. What earlier ones had "
            "already destroyed is not counted. Take the best earlier score of each task.",
            wrong=lambda i: {"forgetting": _from_previous(i["R"])},
        ),
        Misconception(
            "from the score right after learning",
            "That is the backward transfer with its sign turned. A later task may have helped for a while; forgetting "
            "starts from the best that there was.",
            wrong=lambda i: {"forgetting": _from_diagonal(i["R"])},
        ),
        Misconception(
            "forgetting was never negative",
            "Your best score includes the last row, so that no task can have gained. Best *earlier* score: where the "
            "last row is the best, forgetting is negative, and it should be.",
            wrong=lambda i: {"forgetting": _never_negative(i["R"])},
        ),
        Misconception(
            "best before it was learnt",
            "Your best score may come from a row above the diagonal's, where the task had not been learnt yet. What "
            "was not learnt cannot be forgotten: begin at row j of column j.",
            wrong=lambda i: {"forgetting": _from_any_row(i["R"])},
        ),
        Misconception(
            "the last task counts too",
            "The last task has had no time to be forgotten, and its zero makes the mean smaller. It is a mean over all "
            "tasks but the last.",
            wrong=lambda i: {"forgetting": _over_all_tasks(i["R"])},
        ),
    ),
    hints=(
        "Take one column. Which of its entries may be the best earlier score?",
        "Of column j, the rows j to T - 2: from where the task was learnt, up to the row before the last.",
        "np.mean([R[j:-1, j].max() - R[-1, j] for j in range(len(R) - 1)])",
    ),
)

# 08c.3: what may choose ------------------------------------------------------------

CURVES = ("new_val", "new_test", "old_val", "old_test")


def _draw_curves(rng: np.random.Generator) -> Inputs:
    while True:
        epochs = int(rng.integers(5, 8))
        # Fractions of 32, which add up without rounding; and the best place comes twice.
        made = {name: (rng.integers(12, 32, epochs) / 32).tolist() for name in CURVES}
        right = _chosen(made)
        for name in ("new_val", "old_val"):
            made[name].append(made[name][right["epoch"]])
        for name in ("new_test", "old_test"):
            made[name].append(0.25)
        ways = (_by_old_test, _by_both_tests, _by_new_val, _last_of_ties, _best_tests, _validation_told)
        told = [(out["epoch"], out["new"], out["old"]) for out in (right, *(way(made) for way in ways))]
        if len(set(told)) == len(told) and len({out[0] for out in told[:5]}) == 5:
            return made


def _probe_curves(answer, inputs: Inputs) -> Outputs:
    found = answer(inputs)
    found = found if isinstance(found, dict) else {}
    return {key: plain(found.get(key), what=f"`stop_and_report` at {key!r}") for key in ("epoch", "new", "old")}


def _report(inputs: Inputs, epoch: int, part: str = "test") -> Outputs:
    return {"epoch": epoch, "new": inputs[f"new_{part}"][epoch], "old": inputs[f"old_{part}"][epoch]}


def _first_best(*curves: list[float]) -> int:
    total = [sum(values) for values in zip(*curves, strict=True)]
    return total.index(max(total))


def _chosen(inputs: Inputs) -> Outputs:
    return _report(inputs, _first_best(inputs["new_val"], inputs["old_val"]))


def _by_old_test(inputs: Inputs) -> Outputs:
    return _report(inputs, _first_best(inputs["new_val"], inputs["old_test"]))


def _by_both_tests(inputs: Inputs) -> Outputs:
    return _report(inputs, _first_best(inputs["new_test"], inputs["old_test"]))


def _by_new_val(inputs: Inputs) -> Outputs:
    return _report(inputs, _first_best(inputs["new_val"]))


def _last_of_ties(inputs: Inputs) -> Outputs:
    turned = _first_best(inputs["new_val"][::-1], inputs["old_val"][::-1])
    return _report(inputs, len(inputs["new_val"]) - 1 - turned)


def _best_tests(inputs: Inputs) -> Outputs:
    return {**_chosen(inputs), "new": max(inputs["new_test"]), "old": max(inputs["old_test"])}


def _validation_told(inputs: Inputs) -> Outputs:
    return _report(inputs, _chosen(inputs)["epoch"], "val")


STOP = Exercise(
    id="08c.3",
    title="The epoch that forgets least",
    points=3,
    difficulty=2,
    minutes=10,
    entry="stop_and_report",
    draw=_draw_curves,
    probe=_probe_curves,
    oracle=_chosen,
    aspects=(
        Aspect("epoch", "the epoch", 0.5),
        Aspect("new", "the new task's score at that epoch", 0.25, 1e-9),
        Aspect("old", "the old task's score at that epoch", 0.25, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "the old task's test scores chose",
            "You chose epoch {outputs[epoch]} by the *test* scores of the old task, and then report them: the best of "
            "several tries at the test, and no estimate of anything. The old task has a validation split too; without "
            "one, it could not take part in the choice.",
            wrong=_by_old_test,
        ),
        Misconception(
            "both test scores chose",
            "You chose epoch {outputs[epoch]} by the test scores that you report. What has chosen cannot judge.",
            wrong=_by_both_tests,
        ),
        Misconception(
            "the new task alone chose",
            "You looked at the new task alone. That is early stopping as usual, and it does not know that there is an "
            "old task to lose.",
            wrong=_by_new_val,
        ),
        Misconception(
            "the last of equal ones",
            "Two epochs have the same mean, and you took the later one, {outputs[epoch]}. The earlier one has moved "
            "less; the task asks for it.",
            wrong=_last_of_ties,
        ),
        Misconception(
            "each at its own best epoch",
            "The epoch is right, but the scores are the best of each curve, from epochs of their own: no network has "
            "them both.",
            wrong=_best_tests,
        ),
        Misconception(
            "the scores that chose were reported",
            "The epoch is right, but what you report are the validation scores. They chose, so they are too high.",
            wrong=_validation_told,
        ),
    ),
    hints=(
        "There are four curves. Which of them may the choice see?",
        "Validation chooses, of both tasks; test is read once, at the epoch that was chosen.",
        'means = [(a + b) / 2 for a, b in zip(curves["new_val"], curves["old_val"])]; the epoch is '
        "means.index(max(means)).",
    ),
)

EXERCISES = (BY_EXAMPLE, FROM_THE_BEST, STOP, OLD_HEADS, STILL)
