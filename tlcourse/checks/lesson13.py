"""Tasks of lesson 13: your own data, from its labels to the line in the report."""

import math

import numpy as np
from scipy import stats

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.lesson13_groups import GROUPS, HOLD_OUT
from tlcourse.checks.lesson13_labels import CLEAN
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.resplits import over_splits

__all__ = ["CONCLUDE", "EXERCISES", "REPORT_LINE"]

# 13.4: a line of the report ------------------------------------------------------------


def _some_splits(rng: np.random.Generator) -> Inputs:
    """Few samples of some classes, and in one split none of the last."""
    classes, splits = 3, []
    for number in range(int(rng.integers(3, 5))):
        labels = np.repeat([0, 1, 2], [int(rng.integers(4, 7)), 2, 0 if number == 0 else 2])
        right = rng.random(len(labels)) < 0.7
        predicted = np.where(right, labels, rng.integers(0, classes, len(labels)))
        splits.append([labels.tolist(), predicted.tolist()])
    return {"splits": splits, "classes": classes, "share": float(rng.choice([0.2, 0.25, 0.3]))}


def _draw_line(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_splits, [_oracle_line, *_LINE_WAYS.values()])


def _probe_line(answer, inputs: Inputs) -> Outputs:
    splits = [(np.array(labels), np.array(predicted)) for labels, predicted in inputs["splits"]]
    found = plain(answer(splits, inputs["classes"], inputs["share"]), what="what `report_line` returned")
    if not isinstance(found, list) or len(found) != 3:
        raise AnswerError("`report_line` returns three numbers: `return mean, low, high`")
    return dict(zip(("mean", "low", "high"), found, strict=True))


def _scores(inputs: Inputs, *, kind: str = "recall") -> list[float]:
    found = []
    for labels, predicted in inputs["splits"]:
        y, p = np.array(labels), np.array(predicted)
        by = p if kind == "precision" else y
        shares = [(y == p)[by == label].mean() for label in range(inputs["classes"]) if (by == label).any()]
        if kind == "absent":
            shares += [0.0] * (inputs["classes"] - len(shares))
        found.append(float((y == p).mean() if kind == "accuracy" else np.mean(shares)))
    return found


def _oracle_line(inputs: Inputs) -> Outputs:
    found = over_splits(_scores(inputs), share=inputs["share"])
    return {"mean": found.value, "low": found.low, "high": found.high}


def _line(
    inputs: Inputs, *, kind: str = "recall", factor: str = "corrected", level: float | None = 0.975, ddof: int = 1
) -> Outputs:
    values, share = np.array(_scores(inputs, kind=kind)), inputs["share"]
    n = len(values)
    widen = {
        "corrected": math.sqrt(1 / n + share / (1 - share)),
        "independent": math.sqrt(1 / n),
        "spread": 1.0,
        "share": math.sqrt(1 / n + share),
        "turned": math.sqrt(1 / n + (1 - share) / share),
        "no root": 1 / n + share / (1 - share),
    }[factor]
    quantile = 1.96 if level is None else stats.t.ppf(level, n - 1)
    half = float(quantile * values.std(ddof=ddof) * widen)
    return {"mean": float(values.mean()), "low": float(values.mean()) - half, "high": float(values.mean()) + half}


_LINE_WAYS = {
    "accuracy": lambda i: _line(i, kind="accuracy"),
    "precision": lambda i: _line(i, kind="precision"),
    "absent": lambda i: _line(i, kind="absent"),
    "independent": lambda i: _line(i, factor="independent"),
    "spread": lambda i: _line(i, factor="spread"),
    "share": lambda i: _line(i, factor="share"),
    "turned": lambda i: _line(i, factor="turned"),
    "no root": lambda i: _line(i, factor="no root"),
    "normal": lambda i: _line(i, level=None),
    "one side": lambda i: _line(i, level=0.95),
    "ddof": lambda i: _line(i, ddof=0),
}

REPORT_LINE = Exercise(
    id="13.4",
    title="A line of the report",
    points=4,
    difficulty=3,
    minutes=20,
    entry="report_line",
    draw=_draw_line,
    probe=_probe_line,
    oracle=_oracle_line,
    aspects=(
        Aspect("mean", "the mean balanced accuracy", 0.5),
        Aspect("low", "the lower end of its interval", 0.25),
        Aspect("high", "the upper end of its interval", 0.25),
    ),
    misconceptions=(
        Misconception(
            "plain accuracy",
            "{outputs[mean]:.3f} is the share of samples that are right. Class 0 is the most frequent, and who always "
            "says 0 would look good. Balanced accuracy is the mean of the classes' recalls, here {expected[mean]:.3f}.",
            wrong=_LINE_WAYS["accuracy"],
        ),
        Misconception(
            "divided by what was predicted",
            "You divided by how often a class was *predicted*: that is precision. Recall asks of the samples that "
            "truly have a class, how many are found.",
            wrong=_LINE_WAYS["precision"],
        ),
        Misconception(
            "an absent class counts as missed",
            "In a split without any sample of a class, that class counts 0 with you. Nothing could be found there: "
            "leave it out of the mean of that split.",
            wrong=_LINE_WAYS["absent"],
        ),
        Misconception(
            "splits taken for fresh data",
            "Your interval is the plain one, with 1 / n. But the splits were dealt from one set: their training "
            "samples are mostly the same, so that their scores agree more than those of fresh data would. Yours would "
            "shrink to nothing if one only split often enough.",
            wrong=_LINE_WAYS["independent"],
        ),
        Misconception(
            "the spread of the splits",
            "Your interval says where *single splits* fall (nearly): the factor in front of s is missing. Asked for is "
            "that of the mean.",
            wrong=_LINE_WAYS["spread"],
        ),
        Misconception(
            "the share by itself",
            "You added the share, and not share / (1 - share): what was held out, in proportion to what was trained "
            "on.",
            wrong=_LINE_WAYS["share"],
        ),
        Misconception(
            "the proportion turned round",
            "You added (1 - share) / share. It is what was held out over what was trained on: share / (1 - share).",
            wrong=_LINE_WAYS["turned"],
        ),
        Misconception(
            "a variance for a deviation",
            "The sum 1 / n + share / (1 - share) belongs to a variance. Take its root before you multiply by s.",
            wrong=_LINE_WAYS["no root"],
        ),
        Misconception(
            "1.96 for so few splits",
            "You used 1.96, which is right for very many. With so few splits the spread itself is hardly known; "
            "Student's t for n - 1 takes that into account.",
            shows=lambda i, o, e: all(
                np.isclose(o[key], value, rtol=0.01) for key, value in _LINE_WAYS["normal"](i).items()
            ),
        ),
        Misconception(
            "five per cent at each end",
            "You used the 95 % quantile. It leaves 5 % beyond each end, so that yours is an interval of 90 %. For 95 % "
            "between two ends it takes the 97.5 % quantile.",
            wrong=_LINE_WAYS["one side"],
        ),
        Misconception(
            "the spread divided by n",
            "Your s divides by n. From so few scores it comes out too small: divide by n - 1 (`ddof=1`; torch does it "
            "by itself, numpy does not).",
            wrong=_LINE_WAYS["ddof"],
        ),
    ),
    hints=(
        "First one score a split; then a mean and an s of those scores; then the interval.",
        "The recall of a class in a split is (predicted[labels == c] == c).mean(); only classes that occur in the "
        "labels.",
        "half = stats.t.ppf(0.975, n - 1) * scores.std(ddof=1) * math.sqrt(1 / n + share / (1 - share)); return mean, "
        "mean - half, mean + half.",
    ),
)

# 13.5: choose on validation, open the test once ------------------------------------------------------------

STRATEGIES = ("probe", "last 2 stages", "full fine-tuning", "LoRA")


def _some_trials(rng: np.random.Generator) -> Inputs:
    """Some strategies were tried on fewer splits than others; splits differ in how hard they are."""
    names = [STRATEGIES[place] for place in rng.permutation(4)]
    hard, good, splits = rng.normal(0, 0.08, 5), rng.uniform(0.74, 0.80, 4), rng.permutation(5)
    trials = [
        [name, int(split), round(float(good[place] + hard[split] + rng.normal(0, 0.02)), 3)]
        for place, name in enumerate(names)
        for split in splits[: (5, 4, 3, 3)[place]]
    ]
    test = {name: round(float(good[place] + rng.normal(0, 0.04)), 3) for place, name in enumerate(names)}
    return {"trials": [trials[place] for place in rng.permutation(len(trials))], "test": test}


def _draw_trials(rng: np.random.Generator) -> Inputs:
    """Drawn until all splits, the best split, the lowest mean and the test each choose another one than is right."""
    while True:
        made = _some_trials(rng)
        means = _common_means(made)
        best = max(means, key=means.get)
        ways = {best, _by_all_splits(made), _by_best_split(made), min(means, key=means.get)}
        first, second = sorted(means.values(), reverse=True)[:2]
        if len(ways) == 4 and first - second > 1e-3 and _by_test(made) != best and len(set(made["test"].values())) == 4:
            return made


def _probe_conclude(answer, inputs: Inputs) -> Outputs:
    opened = []

    def open_test(name: str) -> float:
        if name not in inputs["test"]:
            raise AnswerError(f"`open_test` was asked for {name!r}; there are {', '.join(inputs['test'])}")
        opened.append(str(name))
        return inputs["test"][name]

    found = plain(answer([tuple(trial) for trial in inputs["trials"]], open_test), what="what `conclude` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`conclude` returns two things: `return chosen, reported`")
    return {"chosen": found[0], "reported": found[1], "opened": opened}


def _table(inputs: Inputs) -> dict[str, dict[int, float]]:
    table: dict[str, dict[int, float]] = {}
    for name, split, score in inputs["trials"]:
        table.setdefault(name, {})[split] = score
    return table


def _common(inputs: Inputs) -> set[int]:
    return set.intersection(*(set(splits) for splits in _table(inputs).values()))


def _common_means(inputs: Inputs) -> dict[str, float]:
    common = _common(inputs)
    return {name: math.fsum(splits[s] for s in common) / len(common) for name, splits in _table(inputs).items()}


def _by_all_splits(inputs: Inputs) -> str:
    means = {name: float(np.mean(list(splits.values()))) for name, splits in _table(inputs).items()}
    return max(means, key=means.get)


def _by_best_split(inputs: Inputs) -> str:
    return max(inputs["trials"], key=lambda trial: trial[2])[0]


def _by_test(inputs: Inputs) -> str:
    return max(inputs["test"], key=inputs["test"].get)


def _oracle_conclude(inputs: Inputs) -> Outputs:
    means = _common_means(inputs)
    chosen = max(means, key=means.get)  # the first of equals
    return {"chosen": chosen, "reported": inputs["test"][chosen], "opened": [chosen]}


def _right_choice(outputs: Outputs, expected: Outputs) -> bool:
    return outputs["chosen"] == expected["chosen"]


CONCLUDE = Exercise(
    id="13.5",
    title="Choose, and look once",
    points=4,
    difficulty=3,
    minutes=15,
    entry="conclude",
    draw=_draw_trials,
    probe=_probe_conclude,
    oracle=_oracle_conclude,
    aspects=(
        Aspect("chosen", "the choice", 0.5),
        Aspect("reported", "what is reported", 0.25, 1e-9),
        Aspect("opened", "the test is opened for the chosen one, once", 0.25),
    ),
    misconceptions=(
        Misconception(
            "the test chose",
            "You opened the test for {outputs[opened]} and took the best. Then it is no test any more: of several "
            "noisy scores the best is flattered, and that is what you report.",
            shows=lambda i, o, e: len(set(o["opened"])) > 1 and o["chosen"] == _by_test(i),
        ),
        Misconception(
            "the mean over other splits",
            "You took the mean of each strategy over whatever splits it was tried on. Splits differ in how hard they "
            "are, and a strategy that met only the easy ones looks good. Compare on the splits that all of them met.",
            shows=lambda i, o, e: o["chosen"] == _by_all_splits(i),
        ),
        Misconception(
            "the best single split",
            "You chose by the best score that any strategy had on any split. That is one lucky draw of many. Take "
            "means.",
            shows=lambda i, o, e: o["chosen"] == _by_best_split(i),
        ),
        Misconception(
            "the lowest mean",
            "You chose the strategy with the lowest mean. These are scores, not losses: higher is better.",
            shows=lambda i, o, e: o["chosen"] == min(_common_means(i), key=_common_means(i).get),
        ),
        Misconception(
            "the validation score was reported",
            "The choice is right. But {outputs[reported]:.3f} is its mean on validation, by which it was chosen; for "
            "that reason it is flattered. Reported is what the test says: {expected[reported]}.",
            shows=lambda i, o, e: _right_choice(o, e) and o["reported"] != e["reported"],
        ),
        Misconception(
            "the test was opened for all",
            "Choice and report are right, but the test was opened for {outputs[opened]}. Who has seen the scores of "
            "the others will use them, some day.",
            shows=lambda i, o, e: _right_choice(o, e) and len(set(o["opened"])) > 1,
        ),
        Misconception(
            "the test was opened twice",
            "Choice and report are right, but the test was opened {outputs[opened]}: more than once. Keep what it "
            "said.",
            shows=lambda i, o, e: _right_choice(o, e) and len(o["opened"]) > 1,
        ),
    ),
    hints=(
        "Put the triples into a dict of dicts first: strategy -> split -> score.",
        "common = set.intersection(*(set(splits) for splits in table.values())). Means over those alone.",
        "chosen = max(means, key=means.get), which takes the first of equals if `means` has the order of the trials; "
        "return chosen, open_test(chosen).",
    ),
)

EXERCISES = (CLEAN, GROUPS, HOLD_OUT, REPORT_LINE, CONCLUDE)
