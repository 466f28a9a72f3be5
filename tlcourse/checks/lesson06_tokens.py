"""Tasks of lesson 06 on what padding does: to the pooling, to the attention, and to the work of an epoch."""

import math

import numpy as np
import torch

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["ATTEND", "BATCHES", "POOL"]

# 06.1: one vector for a text ------------------------------------------------------------


def _mask(lengths: np.ndarray, width: int) -> np.ndarray:
    return np.arange(width) < lengths[:, None]


def _draw_pool(rng: np.random.Generator) -> Inputs:
    texts, width, features = int(rng.integers(2, 4)), int(rng.integers(4, 6)), int(rng.integers(2, 4))
    mask = _mask(rng.integers(1, width - 1, texts), width)
    size = np.round(rng.uniform(0.5, 2.0, (texts, width, features)), 2)
    # What is real lies below 0 and padding above, so that padding and zeros both win a maximum.
    return {"values": np.where(mask[:, :, None], -size, size).astype(np.float32), "mask": mask}


def _probe_pool(answer, inputs: Inputs) -> Outputs:
    values, mask = torch.from_numpy(inputs["values"]), torch.from_numpy(inputs["mask"])
    return {
        pooling: plain(answer(values, mask, pooling), what=f"what `pool` returned for {pooling!r}")
        for pooling in ("mean", "cls", "max")
    }


def _oracle_pool(inputs: Inputs) -> Outputs:
    """Text by text, from the real tokens alone."""
    real = [values[mask] for values, mask in zip(inputs["values"], inputs["mask"], strict=True)]
    return {
        "mean": np.stack([rows.mean(axis=0) for rows in real]),
        "cls": np.stack([rows[0] for rows in real]),
        "max": np.stack([rows.max(axis=0) for rows in real]),
    }


def _real_sum(inputs: Inputs) -> np.ndarray:
    return (inputs["values"] * inputs["mask"][:, :, None]).sum(axis=1)


POOL = Exercise(
    id="06.1",
    title="One vector for a text",
    points=3,
    difficulty=2,
    minutes=10,
    entry="pool",
    draw=_draw_pool,
    probe=_probe_pool,
    oracle=_oracle_pool,
    aspects=(
        Aspect("mean", "the mean of the real tokens", 0.45, 1e-5),
        Aspect("cls", "the first token", 0.15, 1e-5),
        Aspect("max", "the largest of the real tokens", 0.4, 1e-5),
    ),
    misconceptions=(
        Misconception(
            "padding counts in the mean",
            "Your mean runs over all positions. What stands in the padding is no part of the text, and how much of it "
            "there is depends on the longest text beside it: the same text would have other features in another batch.",
            wrong=lambda i: {"mean": i["values"].mean(axis=1)},
        ),
        Misconception(
            "divided by the padded length",
            "The sum holds the real tokens alone, but you divide it by the number of all positions: a short text comes "
            "out too close to zero. Divide each text by the number of *its* real tokens.",
            wrong=lambda i: {"mean": _real_sum(i) / i["mask"].shape[1]},
        ),
        Misconception(
            "divided by the tokens of the whole batch",
            "`mask.sum()` without an axis counts the real tokens of *all* texts. Each text has its own number.",
            wrong=lambda i: {"mean": _real_sum(i) / i["mask"].sum()},
        ),
        Misconception(
            "pooled along the wrong axis",
            "Your mean has one number for each token, not one for each feature. The tokens are the second axis of "
            "`(n, L, D)`, and that is the one that has to go.",
            shows=lambda i, o, e: np.shape(o["mean"]) == i["mask"].shape,
        ),
        Misconception(
            "a zero won the maximum",
            "You multiplied by the mask, so that padding is zero. In a mean a zero adds nothing; in a maximum it wins "
            "wherever all real values are negative, as they are here. Padding must be lower than anything.",
            wrong=lambda i: {"max": (i["values"] * i["mask"][:, :, None]).max(axis=1)},
        ),
        Misconception(
            "padding won the maximum",
            "The mean is right, but your maximum looks at the padding too, and takes it where it is larger than all "
            "real tokens.",
            wrong=lambda i: {"max": i["values"].max(axis=1)},
        ),
    ),
    hints=(
        "`mask` is (n, L) and `values` is (n, L, D): `mask.unsqueeze(-1)` is (n, L, 1) and fits beside it.",
        "For the mean, make padding zero and divide by the number of real tokens of each text. For the maximum, what "
        "must padding be, so that it never wins?",
        'real = mask.unsqueeze(-1); "mean": (values * real).sum(dim=1) / real.sum(dim=1); "cls": values[:, 0]; "max": '
        "values.masked_fill(~real, -torch.inf).amax(dim=1).",
    ),
)

# 06.2: attention that does not see padding ------------------------------------------------------------


def _draw_attend(rng: np.random.Generator) -> Inputs:
    width, features = int(rng.integers(3, 5)), int(rng.integers(2, 4))
    lengths = np.array([rng.integers(1, width), rng.integers(1, width + 1)])
    shape = (len(lengths), width, features)
    named = {name: np.round(rng.normal(size=shape), 2).astype(np.float32) for name in ("query", "key", "value")}
    return {**named, "mask": _mask(lengths, width)}


def _probe_attend(answer, inputs: Inputs) -> Outputs:
    found = answer(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return {"attended": plain(found, what="what `attend` returned")}


def _oracle_attend(inputs: Inputs) -> Outputs:
    """Text by text, as if there were no padding at all among the tokens that are looked at."""
    rows = []
    for query, key, value, mask in zip(*(inputs[name] for name in ("query", "key", "value", "mask")), strict=True):
        weights = np.exp(query @ key[mask].T / math.sqrt(query.shape[1]))
        rows.append(weights / weights.sum(axis=1, keepdims=True) @ value[mask])
    return {"attended": np.stack(rows)}


def _scores(inputs: Inputs) -> np.ndarray:
    query, key = inputs["query"].astype(float), inputs["key"].astype(float)
    return query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[2])


def _softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def _only_real(inputs: Inputs, scores: np.ndarray) -> np.ndarray:
    return np.where(inputs["mask"][:, None, :], scores, -np.inf)


def _has_nan(value, dimensions: int) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == dimensions and bool(np.isnan(value).any())


ATTEND = Exercise(
    id="06.2",
    title="Attention that does not see padding",
    points=4,
    difficulty=3,
    minutes=15,
    entry="attend",
    draw=_draw_attend,
    probe=_probe_attend,
    oracle=_oracle_attend,
    aspects=(Aspect("attended", "the attended values", 1.0, 1e-5),),
    misconceptions=(
        Misconception(
            "the mask was forgotten",
            "Real tokens attend to padding here: the weights run over all positions. No shape complains, and the "
            "features of a text come to depend on how far it was padded.",
            wrong=lambda i: {"attended": _softmax(_scores(i)) @ i["value"]},
        ),
        Misconception(
            "padding has the score zero",
            "You multiplied the scores by the mask. A score of zero is not a weight of zero: exp(0) is 1, and padding "
            "may even get more than a real token of negative score. A weight is zero where the score is -infinity.",
            wrong=lambda i: {"attended": _softmax(_scores(i) * i["mask"][:, None, :]) @ i["value"]},
        ),
        Misconception(
            "masked after the softmax",
            "The padding has weight zero, but what it had is lost: the weights of the real tokens no longer sum to 1. "
            "Mask before the softmax, or divide by their sum afterwards.",
            wrong=lambda i: {"attended": _softmax(_scores(i)) * i["mask"][:, None, :] @ i["value"]},
        ),
        Misconception(
            "the queries were masked",
            "There are NaN in what you return. In `(n, L, L)`, rows are the tokens that look and columns those that "
            "are looked at. You closed whole rows: their scores are all -infinity, which leaves nothing to divide by, "
            "and real tokens still look at padding. Close columns.",
            shows=lambda i, o, e: _has_nan(o["attended"], 3),
        ),
        Misconception(
            "the scores were not scaled",
            "The mask is right, but the products were not divided by the square root of d: the weights come out too "
            "sharp, and the more so the wider the vectors.",
            wrong=lambda i: {
                "attended": _softmax(_only_real(i, _scores(i) * math.sqrt(i["query"].shape[2]))) @ i["value"]
            },
        ),
        Misconception(
            "softmax along the wrong axis",
            "Your weights sum to 1 over the tokens that look. They must sum to 1 over those that are looked at, for "
            "each token that looks: the last axis.",
            wrong=lambda i: {
                "attended": (_softmax(_scores(i), axis=1) * i["mask"][:, None, :]) @ i["value"],
            },
        ),
    ),
    hints=(
        "Three lines: scores of shape (n, L, L), weights of the same shape, and weights @ value.",
        "`query @ key.transpose(1, 2)` has the looking token in its rows. The mask closes columns: `mask[:, None, :]` "
        "is (n, 1, L).",
        "scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2]); weights = scores.masked_fill(~mask[:, None, "
        ":], -torch.inf).softmax(dim=-1); return weights @ value.",
    ),
)

# 06.3: batches of similar length ------------------------------------------------------------


def _draw_batches(rng: np.random.Generator) -> Inputs:
    while True:
        size, full = int(rng.integers(2, 5)), int(rng.integers(4, 6))
        lengths = rng.integers(3, 40, full * size + int(rng.integers(1, size))).tolist()
        made = {"lengths": lengths, "batch_size": size, "seeds": rng.choice(1000, 4, replace=False).tolist()}
        if _cut(made, longest_first=True)["tokens"] != _cut(made)["tokens"]:
            return made


def _probe_batches(answer, inputs: Inputs) -> Outputs:
    lengths = inputs["lengths"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seeds"][0])
        epochs = [_as_lists(answer(lengths, inputs["batch_size"], seed)) for seed in inputs["seeds"]]
        again = [_as_lists(answer(lengths, inputs["batch_size"], seed)) for seed in inputs["seeds"]]
    first = epochs[0]
    known = all(0 <= index < len(lengths) for batch in first for index in batch)
    return {
        "indices": sorted(index for batch in first for index in batch),
        "sizes": sorted(len(batch) for batch in first),
        "tokens": sum(len(b) * max(lengths[index] for index in b) for b in first if b) if known else None,
        "orders_differ": any(epoch != first for epoch in epochs),
        "repeatable": epochs == again,
    }


def _as_lists(batches) -> list[list[int]]:
    try:
        return [[int(index) for index in batch] for batch in batches]
    except (TypeError, ValueError):
        raise AnswerError("what `bucketed_batches` returned is no list of batches, each a list of indices") from None


def _cut(inputs: Inputs, *, longest_first: bool = False) -> Outputs:
    lengths, size = sorted(inputs["lengths"], reverse=longest_first), inputs["batch_size"]
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return {
        "sizes": sorted(map(len, batches)),
        "tokens": sum(len(batch) * max(batch) for batch in batches),
    }


BATCHES = Exercise(
    id="06.3",
    title="Batches of similar length",
    points=4,
    difficulty=3,
    minutes=15,
    entry="bucketed_batches",
    draw=_draw_batches,
    probe=_probe_batches,
    oracle=lambda i: {
        "indices": list(range(len(i["lengths"]))),
        **_cut(i),
        "orders_differ": True,
        "repeatable": True,
    },
    aspects=(
        Aspect("indices", "every text once", 0.25),
        Aspect("sizes", "the sizes of the batches", 0.15),
        Aspect("tokens", "as few tokens as sorting allows", 0.3),
        Aspect("orders_differ", "another seed, another order", 0.15),
        Aspect("repeatable", "the same seed, the same order", 0.15),
    ),
    misconceptions=(
        Misconception(
            "lengths in the place of indices",
            "Your batches hold the lengths of the texts. Wanted are their places in `lengths`, so that the texts "
            "themselves can be fetched.",
            wrong=lambda i: {"indices": sorted(i["lengths"])},
        ),
        Misconception(
            "the last texts were dropped",
            "Not every text is in a batch: the number of texts is no multiple of {inputs[batch_size]}, and the rest "
            "makes a smaller batch. After sorting, what is dropped is not chance: the longest texts would never train.",
            shows=lambda i, o, e: len(o["indices"]) < len(e["indices"]),
        ),
        Misconception(
            "sorted the other way",
            "You compute {outputs[tokens]} tokens, not {expected[tokens]}: cut from the longest down, the smaller "
            "batch is left for the shortest texts. The task asks for shortest first.",
            wrong=lambda i: {"indices": list(range(len(i["lengths"]))), **_cut(i, longest_first=True)},
        ),
        Misconception(
            "the texts were shuffled after sorting",
            "You compute {outputs[tokens]} tokens in an epoch, where sorted texts need {expected[tokens]}: long and "
            "short texts meet in a batch. Shuffle the *batches*, not what is in them.",
            shows=lambda i, o, e: (
                o["indices"] == e["indices"] and isinstance(o["tokens"], int) and o["tokens"] > e["tokens"]
            ),
        ),
        Misconception(
            "from short to long in every epoch",
            "The batches are right, but come in the same order whatever the seed: sorted ones would train on short "
            "texts first and on long ones last, epoch after epoch, and what is learnt last weighs most.",
            shows=lambda i, o, e: o["indices"] == e["indices"] and not o["orders_differ"],
        ),
        Misconception(
            "the seed is not used",
            "With the same seed, the order was another one the second time: it comes from the global random state, and "
            "no run can be repeated. Make a generator from `seed`.",
            shows=lambda i, o, e: o["indices"] == e["indices"] and not o["repeatable"],
        ),
    ),
    hints=(
        "Three steps: sort the *indices* by length, cut, shuffle the batches.",
        "`sorted(range(len(lengths)), key=lengths.__getitem__)` gives the indices from the shortest text to the "
        "longest; slices of batch_size cut them.",
        "batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]; then "
        "random.Random(seed).shuffle(batches), or the order of a permutation drawn from a generator with this seed.",
    ),
)
