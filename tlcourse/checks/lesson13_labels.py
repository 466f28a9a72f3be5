"""The task of lesson 13 on labels that several people have typed."""

import re
from collections import Counter

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["CLEAN"]

# 13.1: one class, one spelling ------------------------------------------------------------

CLASSES = (("dead cell", "Dead cell", "DEAD CELL"), ("intact", "Intact", "INTACT"), ("crack", "Crack", "CRACK"))
SPACES = ("{}", " {}", "{}  ")


def _some_labels(rng: np.random.Generator) -> Inputs:
    labels = [" "]
    for spellings in [CLASSES[0], CLASSES[1 + int(rng.integers(2))]]:
        for _ in range(int(rng.integers(3, 6))):
            spelt = str(rng.choice(spellings, p=rng.permutation([0.6, 0.25, 0.15])))
            labels.append(str(rng.choice(SPACES)).format(spelt.replace(" ", "  ") if rng.integers(2) else spelt))
    return {"labels": [labels[place] for place in rng.permutation(len(labels))]}


def _draw_clean(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_labels, [_oracle_clean, *_CLEAN_WAYS.values()])


def _probe_clean(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["labels"]), what="what `clean` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`clean` returns two things: `return cleaned, counts`")
    return {"cleaned": found[0], "counts": found[1]}


def _cleaned(
    inputs: Inputs, *, case: bool = True, ends: bool = True, inner: bool = True, spelling: str = "most"
) -> list:
    """The labels, as somebody merges them who minds case, spaces at the ends or within, or spells otherwise."""

    def tidy(label: str) -> str:
        label = label.strip() if ends else label
        return re.sub(r"(?<=\S)\s+(?=\S)", " ", label) if inner else label

    def folded(label: str) -> str:
        return tidy(label).casefold() if case else tidy(label)

    real = [label for label in inputs["labels"] if label.strip()]
    chosen = {}
    for key in dict.fromkeys(map(folded, real)):
        counts = Counter(tidy(label) for label in real if folded(label) == key)
        most = max(counts.values())
        chosen[key] = {
            "most": min(name for name in counts if counts[name] == most),
            "first": next(iter(counts)),
            "alphabet": min(counts),
            "lower": key,
        }[spelling]
    return [chosen[folded(label)] if label.strip() else None for label in inputs["labels"]]


def _both(cleaned: list) -> Outputs:
    return {"cleaned": cleaned, "counts": dict(Counter(label for label in cleaned if label is not None))}


def _oracle_clean(inputs: Inputs) -> Outputs:
    return _both(_cleaned(inputs))


def _empty_class(inputs: Inputs) -> Outputs:
    return _both(["" if label is None else label for label in _cleaned(inputs)])


_CLEAN_WAYS = {
    "lower": lambda i: _both(_cleaned(i, spelling="lower")),
    "first": lambda i: _both(_cleaned(i, spelling="first")),
    "alphabet": lambda i: _both(_cleaned(i, spelling="alphabet")),
    "case": lambda i: _both(_cleaned(i, case=False)),
    "ends": lambda i: _both(_cleaned(i, ends=False)),
    "inner": lambda i: _both(_cleaned(i, inner=False)),
    "empty": _empty_class,
    "dropped": lambda i: _both([label for label in _cleaned(i) if label is not None]),
}

CLEAN = Exercise(
    id="13.1",
    title="One class, one spelling",
    points=3,
    difficulty=2,
    minutes=15,
    entry="clean",
    draw=_draw_clean,
    probe=_probe_clean,
    oracle=_oracle_clean,
    aspects=(
        Aspect("cleaned", "the labels in one spelling a class", 0.7),
        Aspect("counts", "how many samples each class has", 0.3, 0.0),
    ),
    misconceptions=(
        Misconception(
            "rows without a label were dropped",
            "Your list has fewer rows than there are samples. From the first dropped row on, every image would get the "
            "label of its neighbour. Keep the place, with None.",
            wrong=_CLEAN_WAYS["dropped"],
        ),
        Misconception(
            "no label became a class",
            "A row of spaces has no label; you made it a class of its own, and a network would learn to tell it.",
            wrong=_CLEAN_WAYS["empty"],
        ),
        Misconception(
            "case still tells classes apart",
            "Labels that differ by case alone are still two classes with you: {outputs[cleaned]}.",
            wrong=_CLEAN_WAYS["case"],
        ),
        Misconception(
            "spaces at the ends still tell classes apart",
            "Labels that differ by a space at an end are still two classes with you: {outputs[cleaned]}. In a table "
            "they look the same.",
            wrong=_CLEAN_WAYS["ends"],
        ),
        Misconception(
            "spaces within still tell classes apart",
            "Labels that differ by how many spaces are between two words are still two classes with you: "
            "{outputs[cleaned]}.",
            wrong=_CLEAN_WAYS["inner"],
        ),
        Misconception(
            "everything in small letters",
            "Classes are merged as they should be, but written in small letters. `casefold` is for comparing; the "
            "report shows the spelling that most people used.",
            wrong=_CLEAN_WAYS["lower"],
        ),
        Misconception(
            "the first spelling won",
            "Classes are merged as they should be, but each has the spelling that happened to come first. A slip in "
            "the first row would rename the class.",
            wrong=_CLEAN_WAYS["first"],
        ),
        Misconception(
            "the alphabet chose",
            "Classes are merged as they should be, but each has the spelling that `sorted` puts first. That decides "
            "only between spellings that occur equally often.",
            wrong=_CLEAN_WAYS["alphabet"],
        ),
    ),
    hints=(
        "Two forms of each label: a tidy one, in which its spaces are in order, and a folded one, which says whether "
        "two are the same class.",
        '" ".join(label.split()) is tidy, and empty where there is no label; its .casefold() is the key. Count the '
        "tidy spellings of each key.",
        "counts = Counter of tidy spellings within one key; max(sorted(counts), key=counts.get) is the most frequent, "
        "and of equals the first.",
    ),
)
