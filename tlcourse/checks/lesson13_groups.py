"""Tasks of lesson 13 on near-duplicates: finding them, and a split that has none on both sides."""

from collections import Counter

import numpy as np

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.readers import _connected

__all__ = ["GROUPS", "HOLD_OUT"]

# 13.2: groups of near-duplicates ------------------------------------------------------------


def _some_likeness(rng: np.random.Generator) -> Inputs:
    """Two chains of three, some alone, and of these one pair exactly at the threshold."""
    count, threshold = int(rng.integers(8, 10)), 0.9
    likeness = np.round(rng.uniform(0, 0.8, (count, count)), 2)
    a, b, c, d, e, f, g, h = rng.permutation(count)[:8]
    for one, other, value in ((a, b, 0.95), (b, c, 0.93), (d, e, 0.97), (e, f, 0.91), (g, h, threshold)):
        likeness[one, other] = likeness[other, one] = value
    likeness = np.triu(likeness, 1)
    return {"likeness": likeness + likeness.T + np.eye(count), "threshold": threshold}


def _draw_likeness(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_likeness, [_oracle_groups, *_GROUP_WAYS.values()])


def _probe_groups(answer, inputs: Inputs) -> Outputs:
    found = answer(inputs["likeness"], inputs["threshold"])
    return {"groups": plain(found, what="what `near_duplicates` returned")}


def _in_order(groups: list[int]) -> list[int]:
    """Numbered 0, 1, 2, ... by their first sample."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return [numbers[group] for group in groups]


def _oracle_groups(inputs: Inputs) -> Outputs:
    """By the library's union of pairs."""
    pairs = np.argwhere(np.triu(inputs["likeness"] > inputs["threshold"], 1))
    return {"groups": _in_order(_connected(pairs, len(inputs["likeness"])).tolist())}


def _first_alike(inputs: Inputs) -> Outputs:
    """Each joins the first one before it that is like it; two groups that it would join stay two."""
    groups: list[int] = []
    for row, values in enumerate(inputs["likeness"]):
        alike = [other for other in range(row) if values[other] > inputs["threshold"]]
        groups.append(groups[alike[0]] if alike else row)
    return {"groups": _in_order(groups)}


def _one_hop(inputs: Inputs) -> Outputs:
    """Whoever is like the first one of a group, and nobody else, is in it."""
    groups = [-1] * len(inputs["likeness"])
    for row, values in enumerate(inputs["likeness"]):
        if groups[row] < 0:
            for other, value in enumerate(values):
                if groups[other] < 0 and value > inputs["threshold"]:
                    groups[other] = row
    return {"groups": _in_order(groups)}


def _at_least(inputs: Inputs) -> Outputs:
    return _oracle_groups({**inputs, "threshold": inputs["threshold"] - 1e-6})


def _by_first_sample(inputs: Inputs) -> Outputs:
    groups = _oracle_groups(inputs)["groups"]
    return {"groups": [groups.index(group) for group in groups]}


def _alone_together(inputs: Inputs) -> Outputs:
    groups = _oracle_groups(inputs)["groups"]
    return {"groups": _in_order([group if groups.count(group) > 1 else -1 for group in groups])}


_GROUP_WAYS = {
    "first alike": _first_alike,
    "one hop": _one_hop,
    "at least": _at_least,
    "first sample": _by_first_sample,
    "alone together": _alone_together,
}

GROUPS = Exercise(
    id="13.2",
    title="Alike, and alike to what is alike",
    points=4,
    difficulty=3,
    minutes=20,
    entry="near_duplicates",
    draw=_draw_likeness,
    probe=_probe_groups,
    oracle=_oracle_groups,
    aspects=(Aspect("groups", "the groups", 1.0, 0.0),),
    misconceptions=(
        Misconception(
            "those alone are one group",
            "You have put all samples that are like no other into one group: {outputs[groups]}. They have nothing in "
            "common, and would all be dealt to one side. Each is a group of its own.",
            wrong=_GROUP_WAYS["alone together"],
        ),
        Misconception(
            "at the threshold counts as above",
            "You have joined a pair whose likeness is exactly {inputs[threshold]:g}. Alike is what is *above* the "
            "threshold.",
            wrong=_GROUP_WAYS["at least"],
        ),
        Misconception(
            "numbers of samples, not of groups",
            "The groups are right, but numbered by their first sample: {outputs[groups]}. Asked for is 0, 1, 2, ... "
            "without a gap.",
            wrong=_GROUP_WAYS["first sample"],
        ),
        Misconception(
            "two groups that meet stay two",
            "Going from sample to sample, each joins the group of the first one that it is like. But one may be like "
            "two, of different groups so far: then these are one group, and everybody in them has to hear of it.",
            wrong=_GROUP_WAYS["first alike"],
        ),
        Misconception(
            "one step and no further",
            "You have put together what is like the first sample of a group, and not what is like *those*. In a burst "
            "of photographs the last is often not like the first, and still shows the same cell.",
            wrong=_GROUP_WAYS["one hop"],
        ),
    ),
    hints=(
        "Think of a map: samples are places, a pair that is alike is a road. Which places can be reached from one "
        "another?",
        "Begin with a group for each sample. For each pair that is alike, give *all* members of the one group the "
        "number of the other.",
        "groups = list(range(n)); for each alike pair i, j: groups = [groups[i] if g == groups[j] else g for g in "
        "groups]; at the end number them anew, in the order in which they appear.",
    ),
)

# 13.3: a split that leaks nothing ------------------------------------------------------------


def _some_split(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(11, 16))
    groups = rng.integers(0, 7, count)
    groups = np.array(_in_order(groups.tolist()))
    labels = (rng.random(count) < 0.4).astype(int)
    return {
        "groups": groups.tolist(),
        "labels": labels.tolist(),
        "order": rng.permutation(groups.max() + 1).tolist(),
        "share": float(rng.choice([0.25, 0.375, 0.5])),
    }


def _draw_split(rng: np.random.Generator) -> Inputs:
    while True:
        made = draw_apart(rng, _some_split, [_oracle_split, *_SPLIT_WAYS.values()])
        if all(_oracle_split(made).values()) and len(set(made["labels"])) == 2:
            return made


def _probe_split(answer, inputs: Inputs) -> Outputs:
    found = answer(inputs["groups"], inputs["labels"], inputs["order"], inputs["share"])
    found = plain(found, what="what `hold_out` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`hold_out` returns two lists: `return train, test`")
    train, test = (part.tolist() if isinstance(part, np.ndarray) else part for part in found)
    return {"train": train, "test": test}


def _dealt(
    inputs: Inputs,
    *,
    stop: bool = False,
    classes: bool = True,
    overshoot: bool = False,
    strict: bool = False,
    given_order: bool = True,
    swapped: bool = False,
    by_groups: bool = False,
) -> Outputs:
    """The split of somebody who goes through the groups in another way."""
    owners, labels = np.array(inputs["groups"]), np.array(inputs["labels"])
    kinds = labels if classes else np.zeros_like(labels)
    if by_groups:  # the first groups, as many as the share says
        taken = set(inputs["order"][: int(inputs["share"] * len(inputs["order"]))])
    else:
        limit = inputs["share"] * np.bincount(kinds)
        held, taken = np.zeros(len(limit)), set()
        for group in inputs["order"] if given_order else sorted(inputs["order"]):
            more = np.bincount(kinds[owners == group], minlength=len(limit))
            after = held if overshoot else held + more
            fits = (after < limit).all() if strict or overshoot else (after <= limit).all()
            if fits:
                held = held + more
                taken.add(group)
            elif stop:
                break
    test = [row for row, group in enumerate(owners.tolist()) if group in taken]
    train = [row for row in range(len(owners)) if row not in test]
    return {"train": test, "test": train} if swapped else {"train": train, "test": test}


def _oracle_split(inputs: Inputs) -> Outputs:
    """Group by group, with plain counts."""
    groups, labels = inputs["groups"], inputs["labels"]
    all_of, held, chosen = Counter(labels), Counter(), set()
    for group in inputs["order"]:
        more = Counter(label for label, owner in zip(labels, groups, strict=True) if owner == group)
        if all(held[label] + more[label] <= inputs["share"] * all_of[label] for label in all_of):
            held, chosen = held + more, chosen | {group}
    rows = range(len(groups))
    return {
        "train": [row for row in rows if groups[row] not in chosen],
        "test": [row for row in rows if groups[row] in chosen],
    }


def _leaks(inputs: Inputs, outputs: Outputs) -> bool:
    sides = [{inputs["groups"][row] for row in outputs[name]} for name in ("train", "test")]
    return bool(sides[0] & sides[1])


_SPLIT_WAYS = {
    "stop": lambda i: _dealt(i, stop=True),
    "all classes": lambda i: _dealt(i, classes=False),
    "overshoot": lambda i: _dealt(i, overshoot=True),
    "strict": lambda i: _dealt(i, strict=True),
    "own order": lambda i: _dealt(i, given_order=False),
    "swapped": lambda i: _dealt(i, swapped=True),
    "groups": lambda i: _dealt(i, by_groups=True),
}

HOLD_OUT = Exercise(
    id="13.3",
    title="Nothing on both sides",
    points=4,
    difficulty=3,
    minutes=15,
    entry="hold_out",
    draw=_draw_split,
    probe=_probe_split,
    oracle=_oracle_split,
    aspects=(
        Aspect("test", "the test's samples", 0.6, 0.0),
        Aspect("train", "the samples for training", 0.4, 0.0),
    ),
    misconceptions=(
        Misconception(
            "train and test changed places",
            "What you return first is the test. `return train, test`: what was held out comes second.",
            wrong=_SPLIT_WAYS["swapped"],
        ),
        Misconception(
            "a group is on both sides",
            "Some group has samples in training and in the test: the network will have seen a near-duplicate of what "
            "it is asked. That is the leak of the lesson. Deal whole groups.",
            shows=lambda i, o, e: _leaks(i, o),
        ),
        Misconception(
            "a share of the groups",
            "You took a share of the *groups*. They differ in size and in their classes: your test has "
            "{outputs[test]}. The share is one of the samples of each class.",
            wrong=_SPLIT_WAYS["groups"],
        ),
        Misconception(
            "the order was not followed",
            "You went through the groups by their numbers. `order` is what makes one split differ from another.",
            wrong=_SPLIT_WAYS["own order"],
        ),
        Misconception(
            "stopped at the first that did not fit",
            "You stopped at the first group that did not fit. A later one may be smaller, or of another class: go on.",
            wrong=_SPLIT_WAYS["stop"],
        ),
        Misconception(
            "one share for all classes together",
            "Your test has at most that share of all samples, but not of each class: it may fill up with one class and "
            "hold none of the other.",
            wrong=_SPLIT_WAYS["all classes"],
        ),
        Misconception(
            "filled beyond the share",
            "You add a group as long as there is room *before* it. With the group the test holds more than its share "
            "of some class. Look at what it would hold after.",
            wrong=_SPLIT_WAYS["overshoot"],
        ),
        Misconception(
            "exactly the share was refused",
            "A group with which the test would hold exactly its share was left out. At most means that as well.",
            wrong=_SPLIT_WAYS["strict"],
        ),
    ),
    hints=(
        "Walk through `order` with a count of each class in the test so far.",
        "Before a group is taken, look at every class: count so far + its samples in this group <= share * its samples "
        "in all.",
        "chosen = set(); for group in order: count each class among chosen plus this group; if none is over its limit, "
        "chosen.add(group). Then test = [row for row in range(n) if groups[row] in chosen].",
    ),
)
