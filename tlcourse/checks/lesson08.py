"""Tasks of lesson 08: catastrophic forgetting."""

import numpy as np

from tlcourse.checks.lesson08_matrix import LEARN_IN_TURN, TRANSFERS
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "LOST_LOSS", "WHERE_IT_WENT"]

# 08.3: the three causes in one formula ------------------------------------------------------------


def _draw_lost(rng: np.random.Generator) -> Inputs:
    size = int(rng.integers(2, 4))
    old = np.round(rng.uniform(0.5, 2.0, size) * rng.choice([-1, 1], size), 2)
    return {
        "old": old,
        "old_curvature": np.round(rng.uniform(1.2, 3.0, size), 2),
        "new": old + np.round(rng.uniform(0.5, 2.0, size) * rng.choice([-1, 1], size), 2),
        "new_curvature": np.round(rng.uniform(0.2, 1.0, size), 2),
        "lr": float(rng.choice([0.1, 0.2, 0.3])),
        "steps": int(rng.integers(3, 6)),
    }


def _probe_lost(answer, inputs: Inputs) -> Outputs:
    return {"lost": plain(answer(**inputs), what="what `lost_loss` returned")}


def _lost(inputs: Inputs, *, place: np.ndarray | None = None) -> Outputs:
    """By walking there, step by step, unless the place is given."""
    if place is None:
        place = inputs["old"].copy()
        for _ in range(inputs["steps"]):
            place = place - inputs["lr"] * inputs["new_curvature"] * (place - inputs["new"])
    return {"lost": float((inputs["old_curvature"] * (place - inputs["old"]) ** 2).sum() / 2)}


def _unweighted(inputs: Inputs) -> Outputs:
    return _lost({**inputs, "old_curvature": np.ones_like(inputs["old"])})


def _by_old_curvature(inputs: Inputs) -> Outputs:
    left = (1 - inputs["lr"] * inputs["old_curvature"]) ** inputs["steps"]
    return _lost(inputs, place=inputs["new"] + left * (inputs["old"] - inputs["new"]))


def _straight_on(inputs: Inputs) -> Outputs:
    step = inputs["lr"] * inputs["new_curvature"] * (inputs["new"] - inputs["old"])
    return _lost(inputs, place=inputs["old"] + inputs["steps"] * step)


def _from_zero(inputs: Inputs) -> Outputs:
    left = (1 - inputs["lr"] * inputs["new_curvature"]) ** inputs["steps"]
    return _lost(inputs, place=inputs["new"] * (1 - left))


LOST_LOSS = Exercise(
    id="08.3",
    title="Three causes, one formula",
    points=4,
    difficulty=4,
    minutes=20,
    entry="lost_loss",
    draw=_draw_lost,
    probe=_probe_lost,
    oracle=_lost,
    aspects=(Aspect("lost", "what the old task lost", 1.0, 1e-6),),
    misconceptions=(
        Misconception(
            "trained to the end",
            "You took the weights to the new task's best place. After {inputs[steps]} steps at {inputs[lr]} they are "
            "still on their way: rate and steps decide how far, and so how much is lost.",
            wrong=lambda i: _lost(i, place=i["new"]),
        ),
        Misconception(
            "every weight matters alike",
            "You measured how far the weights moved. How much the old task loses by it depends on *its* curvature: a "
            "weight that it hardly uses may move far. (Lesson 10 is built on this.)",
            wrong=_unweighted,
        ),
        Misconception(
            "the half is missing",
            "The loss is one half of curvature times distance squared: yours is twice as large.",
            wrong=lambda i: {"lost": 2 * _lost(i)["lost"]},
        ),
        Misconception(
            "the old task's curvature pulls",
            "You let the old curvature decide how fast the weights move. While the new task is learnt, only the new "
            "loss has a gradient; the old one is not asked.",
            wrong=_by_old_curvature,
        ),
        Misconception(
            "all steps as long as the first",
            "You multiplied the first step by the number of steps. The gradient shrinks on the way: each step goes the "
            "same *share* of what is left.",
            wrong=_straight_on,
        ),
        Misconception(
            "started at zero",
            "You began at zero. Training on the new task begins where the old one has ended, in `old`.",
            wrong=_from_zero,
        ),
    ),
    hints=(
        "Take one weight. What is its gradient of the new loss, and where is it after one step, from `old`?",
        "Each step multiplies the distance to `new` by 1 - lr * new_curvature. After all steps, the weight is at new + "
        "(1 - lr * new_curvature)**steps * (old - new).",
        "moved = (1 - (1 - lr * new_curvature) ** steps) * (new - old); return 0.5 * sum(old_curvature * moved**2).",
    ),
)

# 08.4: features or reading ------------------------------------------------------------


def _draw_where(rng: np.random.Generator) -> Inputs:
    while True:
        made = _drifted(rng)
        right = _oracle_where(made)
        others = [_whole(made), _on_training(made), _probe_alone(made), _stale_probe(made), _reading_only(made)]
        if right["features"] and right["reading"] and all(other != right for other in others):
            return made


def _drifted(rng: np.random.Generator) -> Inputs:
    """Features that have turned and lost one of their two directions of use, and gained noise."""
    counts, labels, before, after = {"train": 10, "test": 20}, {}, {}, {}
    angle, noise = rng.uniform(1.5, 3.0), rng.uniform(0.8, 1.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for part, count in counts.items():
        labels[part] = rng.permutation(np.arange(count) % 2)
        before[part] = np.round(rng.normal(scale=0.7, size=(count, 2)) + np.outer(2 * labels[part] - 1, [1, 0.5]), 2)
        after[part] = np.round(before[part] @ turn + noise * rng.normal(size=(count, 2)), 2)
    return {"before": before, "after": after, "labels": labels, "head": [1.0, 0.5]}


def _fit(features: np.ndarray, labels: np.ndarray):
    """Least squares on -1 and 1, with an intercept; returns a function from features to labels."""
    weights, *_ = np.linalg.lstsq(_with_one(features), 2.0 * np.asarray(labels) - 1, rcond=None)

    def classify(features: np.ndarray) -> np.ndarray:
        return (_with_one(features) @ weights > 0).astype(int)

    return classify


def _with_one(features: np.ndarray) -> np.ndarray:
    return np.column_stack([features, np.ones(len(features))])


def _old_head(head: list[float]):
    def classify(features: np.ndarray) -> np.ndarray:
        return (np.asarray(features) @ np.array(head) > 0).astype(int)

    return classify


def _probe_where(answer, inputs: Inputs) -> Outputs:
    found = answer(inputs["before"], inputs["after"], inputs["labels"], _old_head(inputs["head"]), _fit)
    if not isinstance(found, dict):
        raise AnswerError(f"what `where_it_went` returned is a {type(found).__name__}; wanted is a dict of two numbers")
    return {
        key: plain(found.get(key), what=f"what `where_it_went` returned for {key!r}") for key in ("features", "reading")
    }


def _right(classify, features: np.ndarray, labels: np.ndarray) -> float:
    return float((classify(features) == labels).mean())


def _accuracies(inputs: Inputs, part: str = "test") -> tuple[float, float, float, float]:
    """Old head before and after, fresh probe before and after."""
    head, labels = _old_head(inputs["head"]), inputs["labels"]
    states = (inputs["before"], inputs["after"])
    probes = [_fit(state["train"], labels["train"]) for state in states]
    return (
        *(_right(head, state[part], labels[part]) for state in states),
        *(_right(probe, state[part], labels[part]) for probe, state in zip(probes, states, strict=True)),
    )


def _split(old: float, new: float, probe_old: float, probe_new: float) -> Outputs:
    features = probe_old - probe_new
    return {"features": round(features, 9), "reading": round(old - new - features, 9)}


def _oracle_where(inputs: Inputs) -> Outputs:
    return _split(*_accuracies(inputs))


def _whole(inputs: Inputs) -> Outputs:
    old, new, probe_old, probe_new = _accuracies(inputs)
    return {"features": round(probe_old - probe_new, 9), "reading": round(old - new, 9)}


def _on_training(inputs: Inputs) -> Outputs:
    old, new, *_ = _accuracies(inputs)
    return _split(old, new, *_accuracies(inputs, "train")[2:])


def _probe_alone(inputs: Inputs) -> Outputs:
    """The old head before, a probe after: two readers."""
    old, new, _, probe_new = _accuracies(inputs)
    return _split(old, new, old, probe_new)


def _stale_probe(inputs: Inputs) -> Outputs:
    old, new, probe_old, _ = _accuracies(inputs)
    labels = inputs["labels"]
    stale = _right(_fit(inputs["before"]["train"], labels["train"]), inputs["after"]["test"], labels["test"])
    return _split(old, new, probe_old, stale)


def _reading_only(inputs: Inputs) -> Outputs:
    return {key: -value for key, value in _oracle_where(inputs).items()}


WHERE_IT_WENT = Exercise(
    id="08.4",
    title="Lost, or only misread",
    points=4,
    difficulty=3,
    minutes=15,
    entry="where_it_went",
    draw=_draw_where,
    probe=_probe_where,
    oracle=_oracle_where,
    aspects=(
        Aspect("features", "what the features lost", 0.5, 1e-6),
        Aspect("reading", "what a new reading would bring back", 0.5, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "the probe was judged on what it was fitted to",
            "Your probes were fitted to the training samples and scored on them too. That says how well a probe can "
            "learn by heart; score everything on the test samples.",
            wrong=_on_training,
        ),
        Misconception(
            "the probe was not fitted anew",
            "After the new task you used the probe that was fitted to the features *before*. It is as stale as the old "
            "head, and counts as lost what was only moved. Fit one to each state.",
            wrong=_stale_probe,
        ),
        Misconception(
            "two readers compared",
            "You compared the old head before with a probe after. Part of that difference is that a probe is another "
            "reader. Compare a probe with a probe.",
            wrong=_probe_alone,
        ),
        Misconception(
            "the whole loss counted as reading",
            "`features` is right, but `reading` is all that the old head has lost, so that the two do not add up to "
            "it. Take away what is lost for every reader.",
            wrong=_whole,
        ),
        Misconception(
            "after minus before",
            "Right in size, with the sign turned: what was *lost* is before minus after.",
            wrong=_reading_only,
        ),
    ),
    hints=(
        "Four accuracies, all on the test samples: the old head before and after, a fresh probe before and after.",
        "A fresh probe of a state is fitted to that state's training features and the training labels.",
        "features = probe before - probe after; reading = (head before - head after) - features.",
    ),
)

EXERCISES = (TRANSFERS, LEARN_IN_TURN, LOST_LOSS, WHERE_IT_WENT)
