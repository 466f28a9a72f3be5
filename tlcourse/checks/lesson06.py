"""Tasks of lesson 06: transfer in text."""

import numpy as np
import torch

from tlcourse.checks.lesson06_tokens import ATTEND, BATCHES, POOL
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["ADAM", "CENTROIDS", "EXERCISES"]

# 06.4: a class is the mean of its few samples ------------------------------------------------------------


def _draw_centroids(rng: np.random.Generator) -> Inputs:
    while True:
        classes, each, width = int(rng.integers(3, 5)), int(rng.integers(2, 4)), int(rng.integers(2, 4))
        labels = rng.permutation(np.repeat(np.arange(classes), each))
        made = {
            "features": np.round(rng.normal(size=(len(labels), width)) * rng.choice([1, 4], (len(labels), 1)), 1),
            "labels": labels,
            "queries": np.round(rng.normal(size=(8, width)) * 2, 1),
        }
        if _is_clear(made):
            return made


def _probe_centroids(answer, inputs: Inputs) -> Outputs:
    found = answer(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return {"classes": plain(found, what="what `nearest_class` returned")}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _means(inputs: Inputs, features: np.ndarray) -> np.ndarray:
    return np.stack([features[inputs["labels"] == number].mean(axis=0) for number in range(inputs["labels"].max() + 1)])


def _cosines(inputs: Inputs) -> np.ndarray:
    return _unit(inputs["queries"]) @ _unit(_means(inputs, inputs["features"])).T


def _oracle_centroids(inputs: Inputs) -> Outputs:
    return {"classes": _cosines(inputs).argmax(axis=1)}


def _by_distance(inputs: Inputs) -> Outputs:
    gaps = inputs["queries"][:, None, :] - _means(inputs, inputs["features"])[None]
    return {"classes": np.square(gaps).sum(axis=2).argmin(axis=1)}


def _by_product(inputs: Inputs) -> Outputs:
    return {"classes": (inputs["queries"] @ _means(inputs, inputs["features"]).T).argmax(axis=1)}


def _by_neighbour(inputs: Inputs) -> Outputs:
    nearest = (_unit(inputs["queries"]) @ _unit(inputs["features"]).T).argmax(axis=1)
    return {"classes": inputs["labels"][nearest]}


def _by_unit_samples(inputs: Inputs) -> Outputs:
    means = _unit(_means(inputs, _unit(inputs["features"])))
    return {"classes": (_unit(inputs["queries"]) @ means.T).argmax(axis=1)}


def _by_least(inputs: Inputs) -> Outputs:
    return {"classes": _cosines(inputs).argmin(axis=1)}


OTHER_WAYS = (_by_distance, _by_product, _by_neighbour, _by_unit_samples, _by_least)


def _is_clear(inputs: Inputs) -> bool:
    """No zero vector, no near tie, and every other way calls at least one query by another name."""
    rows = [inputs["features"], inputs["queries"], _means(inputs, inputs["features"])]
    if min(np.linalg.norm(values, axis=1).min() for values in rows) < 0.1:
        return False
    if np.linalg.norm(_means(inputs, _unit(inputs["features"])), axis=1).min() < 0.1:
        return False
    ranked = np.sort(_cosines(inputs), axis=1)
    right = _oracle_centroids(inputs)["classes"]
    named = [right, *(way(inputs)["classes"] for way in OTHER_WAYS)]
    different = len({tuple(classes) for classes in named}) == len(named)
    return different and (ranked[:, -1] - ranked[:, -2]).min() > 1e-3


CENTROIDS = Exercise(
    id="06.4",
    title="One mean a class",
    points=3,
    difficulty=2,
    minutes=10,
    entry="nearest_class",
    draw=_draw_centroids,
    probe=_probe_centroids,
    oracle=_oracle_centroids,
    aspects=(Aspect("classes", "the class of each query", 1.0),),
    misconceptions=(
        Misconception(
            "the least similar class",
            "You took the *smallest* cosine. It is a similarity, 1 for the same direction: the largest one wins.",
            wrong=_by_least,
        ),
        Misconception(
            "distance in the place of direction",
            "You compare by squared distance, which depends on how long the vectors are. Asked for is the direction: "
            "the cosine, of vectors brought to length 1.",
            wrong=_by_distance,
        ),
        Misconception(
            "the longest mean wins",
            "A plain product grows with the length of the mean, so that one long mean draws queries from all over. "
            "Divide by its length.",
            wrong=_by_product,
        ),
        Misconception(
            "the nearest sample, not the nearest mean",
            "You ask which single sample is nearest. With few and noisy samples that rests on one of them; a mean "
            "rests on all samples of its class.",
            wrong=_by_neighbour,
        ),
        Misconception(
            "the samples were made equally long first",
            "You brought the samples to length 1 *before* the mean. That is another classifier: here a class is the "
            "plain mean of its samples, in which a long one counts for more, and only the mean is brought to length 1.",
            wrong=_by_unit_samples,
        ),
    ),
    hints=(
        "First one row for each class, (classes, D). Then a table of similarities, (queries, classes).",
        "`features[labels == c].mean(dim=0)` is the mean of class c. `F.normalize(rows, dim=1)` brings rows to length "
        "1; the product of two such rows is their cosine.",
        "means = torch.stack([features[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)]); return "
        "(F.normalize(queries, dim=1) @ F.normalize(means, dim=1).T).argmax(dim=1).",
    ),
)

# 06.5: how far Adam moves ------------------------------------------------------------

MEAN_KEPT, SQUARE_KEPT, TINY = 0.9, 0.999, 1e-8


def _draw_adam(rng: np.random.Generator) -> Inputs:
    sizes = rng.uniform(0.2, 2.0, int(rng.integers(2, 6))) * rng.choice([-1, 1])  # of one sign: a clear way to go
    return {"gradients": (sizes * float(rng.choice([0.1, 1.0, 30.0]))).round(3).tolist()}


def _probe_adam(answer, inputs: Inputs) -> Outputs:
    return {"places": plain(answer(**inputs), what="what `adam_places` returned")}


def _walk(inputs: Inputs, *, mean_corrected: bool = True, square_corrected: bool = True) -> np.ndarray:
    mean = square = place = 0.0
    places = []
    for step, gradient in enumerate(inputs["gradients"], start=1):
        mean = MEAN_KEPT * mean + (1 - MEAN_KEPT) * gradient
        square = SQUARE_KEPT * square + (1 - SQUARE_KEPT) * gradient**2
        direction = mean / (1 - MEAN_KEPT**step if mean_corrected else 1)
        size = square / (1 - SQUARE_KEPT**step if square_corrected else 1)
        place -= direction / (size**0.5 + TINY)
        places.append(place)
    return np.array(places)


ADAM = Exercise(
    id="06.5",
    title="How far Adam moves",
    points=4,
    difficulty=3,
    minutes=15,
    entry="adam_places",
    draw=_draw_adam,
    probe=_probe_adam,
    oracle=lambda i: {"places": _walk(i)},
    aspects=(Aspect("places", "the place after each step", 1.0, 1e-4),),
    misconceptions=(
        Misconception(
            "neither average was corrected",
            "Your first step is more than three rates long, and should be one. Both averages "
            "start at zero: the mean is ten times too small after one step, and the root of the square thirty times. "
            "Divide each by 1 - beta**t. (A BERT without this correction is known to fail in its first steps.)",
            wrong=lambda i: {"places": _walk(i, mean_corrected=False, square_corrected=False)},
        ),
        Misconception(
            "only the mean was corrected",
            "The mean is corrected and the average of the squares is not: after one step its root is thirty times too "
            "small, and so the step is thirty rates long.",
            wrong=lambda i: {"places": _walk(i, square_corrected=False)},
        ),
        Misconception(
            "the gradient itself",
            "These are the places of plain gradient descent: ten times the gradient, ten times the step. Adam divides "
            "by the size of the gradients.",
            wrong=lambda i: {"places": -np.cumsum(i["gradients"])},
        ),
        Misconception(
            "uphill",
            "Right in size, and with the wrong sign: the weight moves *against* the gradient.",
            wrong=lambda i: {"places": -_walk(i)},
        ),
        Misconception(
            "steps in the place of places",
            "You return each step for itself. A place is where all steps so far have led: their sum.",
            wrong=lambda i: {"places": np.diff(_walk(i), prepend=0.0)},
        ),
        Misconception(
            "the last place alone",
            "One number came back, the last place. Asked for is the place after each step.",
            shows=lambda i, o, e: isinstance(o["places"], (int, float)) and abs(o["places"] - e["places"][-1]) < 1e-3,
        ),
    ),
    hints=(
        "Keep two numbers from step to step: the average of the gradients, and that of their squares. Count steps from "
        "1.",
        "m = 0.9 * m + 0.1 * g; v = 0.999 * v + 0.001 * g**2. After step t, m / (1 - 0.9**t) and v / (1 - 0.999**t) "
        "are what they would be had they not started at zero.",
        "place -= (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8), and append it to a list.",
    ),
)

EXERCISES = (POOL, ATTEND, BATCHES, CENTROIDS, ADAM)
