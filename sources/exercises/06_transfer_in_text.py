# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 06 · Transfer in text
#
# Five tasks on what a text brings with it that a picture does not: padding, in the pooling, in the attention and in the
# bill; and on two things that the lesson took for granted, the classifier of a few means, and why a rate says so much
# about how far an encoder moves. About an hour. Do lesson 06 before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("06.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math
import random

import numpy as np
import torch
import torch.nn.functional as F

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="06.1"
# An encoder gives one vector for each token; a classifier wants one for each text. **Write `pool(values, mask,
# pooling)`**: `values` is a float tensor of shape `(n, L, D)`, `n` texts of `L` positions; `mask` is a bool tensor of
# shape `(n, L)`, True where a token is real. Real tokens come first, then padding, and each text has at least one real
# token. `pooling` is a string, and you return a float tensor of shape `(n, D)`:
#
# - `"mean"`: the mean of the real tokens of each text,
# - `"cls"`: its first token,
# - `"max"`: for each feature, the largest value among its real tokens.
#
# What stands in the padding may be any finite number.


# %% tags=["answer"] task="06.1"
def pool(values, mask, pooling):
    # BEGIN SOLUTION
    real = mask.unsqueeze(-1)  # (n, L, 1)
    if pooling == "cls":
        return values[:, 0]
    if pooling == "max":
        return values.masked_fill(~real, -torch.inf).amax(dim=1)
    return (values * real).sum(dim=1) / real.sum(dim=1)
    # END SOLUTION


# %% tags=["check"]
check("06.1", pool)


# %% tags=["right"] task="06.1"
def pool(values, mask, pooling):
    """Text by text, without the padding."""
    how = {"mean": lambda x: x.mean(dim=0), "cls": lambda x: x[0], "max": lambda x: x.max(dim=0).values}
    return torch.stack([how[pooling](text[real]) for text, real in zip(values, mask, strict=True)])


# %% tags=["right"] task="06.1"
def pool(values, mask, pooling):
    if pooling == "mean":
        weights = mask.float() / mask.float().sum(dim=1, keepdim=True)
        return torch.einsum("nl,nld->nd", weights, values)
    if pooling == "max":
        return torch.where(mask[:, :, None], values, torch.tensor(float("-inf"))).max(dim=1)[0]
    return values.select(1, 0)


# %% tags=["wrong"] task="06.1" misconception="padding counts in the mean"
def pool(values, mask, pooling):
    return {"mean": values.mean(dim=1), "cls": values[:, 0], "max": values.amax(dim=1)}[pooling]


# %% tags=["wrong"] task="06.1" misconception="divided by the padded length"
def pool(values, mask, pooling):
    real = mask.unsqueeze(-1)
    if pooling == "max":
        return values.masked_fill(~real, -torch.inf).amax(dim=1)
    return {"mean": (values * real).mean(dim=1), "cls": values[:, 0]}[pooling]


# %% tags=["wrong"] task="06.1" misconception="divided by the tokens of the whole batch"
def pool(values, mask, pooling):
    real = mask.unsqueeze(-1)
    if pooling == "max":
        return values.masked_fill(~real, -torch.inf).amax(dim=1)
    return {"mean": (values * real).sum(dim=1) / mask.sum(), "cls": values[:, 0]}[pooling]


# %% tags=["wrong"] task="06.1" misconception="pooled along the wrong axis"
def pool(values, mask, pooling):
    real = mask.unsqueeze(-1)
    if pooling == "max":
        return (values * real).amax(dim=-1)
    return {"mean": (values * real).mean(dim=-1), "cls": values[:, 0]}[pooling]


# %% tags=["wrong"] task="06.1" misconception="a zero won the maximum"
def pool(values, mask, pooling):
    real = mask.unsqueeze(-1)
    if pooling == "mean":
        return (values * real).sum(dim=1) / real.sum(dim=1)
    return {"cls": values[:, 0], "max": (values * real).amax(dim=1)}[pooling]


# %% tags=["wrong"] task="06.1" misconception="padding won the maximum"
def pool(values, mask, pooling):
    real = mask.unsqueeze(-1)
    if pooling == "mean":
        return (values * real).sum(dim=1) / real.sum(dim=1)
    return {"cls": values[:, 0], "max": values.amax(dim=1)}[pooling]


# %% tags=["hidden"] task="06.1"
def draw_06_1(rng):
    """No padding at all, a single text, a text of one token, values of both signs, large padding."""
    texts, width = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    lengths = np.full(texts, width) if rng.integers(2) else rng.integers(1, width + 1, texts)
    mask = np.arange(width) < lengths[:, None]
    values = rng.normal(size=(texts, width, 5))
    return {"values": np.where(mask[:, :, None], values, 1e3 * values).astype(np.float32), "mask": mask}


# %% [markdown] tags=["task"] task="06.2"
# In each layer of the encoder, a token looks at all tokens of its text and takes a weighted mean of what it finds.
# **Write `attend(query, key, value, mask)`**, one head of attention: the first three are float tensors of shape `(n, L,
# d)`, `mask` is a bool tensor of shape `(n, L)`, True where a token is real; each text has at least one real token.
# Return a float tensor of shape `(n, L, d)`. Its row for position $i$ of a text is
#
# $$\sum_j w_{ij}\, v_j \quad\text{with}\quad w_{ij} \propto \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d}\right),$$
#
# where $j$ runs over the *real* tokens of the same text and the weights of each $i$ sum to 1. Padding looks too: the
# rows of its positions are computed like all others (nobody uses them, and they are finite).


# %% tags=["answer"] task="06.2"
def attend(query, key, value, mask):
    # BEGIN SOLUTION
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])  # (n, L, L)
    weights = scores.masked_fill(~mask[:, None, :], -torch.inf).softmax(dim=-1)
    return weights @ value
    # END SOLUTION


# %% tags=["check"]
check("06.2", attend)


# %% tags=["right"] task="06.2"
def attend(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, :])


# %% tags=["right"] task="06.2"
def attend(query, key, value, mask):
    """The softmax over all, then made to sum to 1 again over what is real."""
    weights = (torch.einsum("nid,njd->nij", query, key) * query.shape[-1] ** -0.5).softmax(dim=2)
    weights = weights * mask.unsqueeze(1)
    return torch.bmm(weights / weights.sum(dim=2, keepdim=True), value)


# %% tags=["wrong"] task="06.2" misconception="the mask was forgotten"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return scores.softmax(dim=-1) @ value


# %% tags=["wrong"] task="06.2" misconception="padding has the score zero"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return (scores * mask[:, None, :]).softmax(dim=-1) @ value


# %% tags=["wrong"] task="06.2" misconception="masked after the softmax"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return (scores.softmax(dim=-1) * mask[:, None, :]) @ value


# %% tags=["wrong"] task="06.2" misconception="the queries were masked"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return scores.masked_fill(~mask[:, :, None], -torch.inf).softmax(dim=-1) @ value


# %% tags=["wrong"] task="06.2" misconception="the scores were not scaled"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2)
    return scores.masked_fill(~mask[:, None, :], -torch.inf).softmax(dim=-1) @ value


# %% tags=["wrong"] task="06.2" misconception="softmax along the wrong axis"
def attend(query, key, value, mask):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[2])
    return scores.masked_fill(~mask[:, None, :], -1e9).softmax(dim=1).masked_fill(~mask[:, None, :], 0) @ value


# %% tags=["hidden"] task="06.2"
def draw_06_2(rng):
    """No padding, texts of one token, wider vectors, large scores."""
    texts, width, features = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 9))
    lengths = np.full(texts, width) if rng.integers(2) else rng.integers(1, width + 1, texts)
    size = float(rng.choice([0.1, 1.0, 3.0]))
    named = {
        name: (size * rng.normal(size=(texts, width, features))).astype(np.float32)
        for name in ("query", "key", "value")
    }
    return {**named, "mask": np.arange(width) < lengths[:, None]}


# %% [markdown] tags=["task"] task="06.3"
# A batch is as long as its longest text, and each text in it is padded to that length. **Write
# `bucketed_batches(lengths, batch_size, seed)`**, the batches of one epoch that waste little: `lengths` is a list of
# whole numbers, the tokens of each text; you return a list of batches, each a list of *indices* into `lengths`.
#
# - Cut the texts, sorted by length with the shortest first, into batches of `batch_size`. The last one may be smaller,
#   and it has the longest texts. Every text is in one batch. (Of two texts of one length, either may be first.)
# - Then put the batches into a random order, which `seed`, a whole number, decides: the same seed gives the same order,
#   whatever has drawn random numbers meanwhile, and other seeds give others.
#
# The function of the lesson shuffles the texts before and sorts within windows, so that a text meets other texts in
# each epoch. Yours does not: what is lost by that?


# %% tags=["answer"] task="06.3"
def bucketed_batches(lengths, batch_size, seed):
    # BEGIN SOLUTION
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches
    # END SOLUTION


# %% tags=["check"]
check("06.3", bucketed_batches)


# %% tags=["right"] task="06.3"
def bucketed_batches(lengths, batch_size, seed):
    batches = torch.tensor(lengths).argsort().split(batch_size)
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
    return [batches[number].tolist() for number in order]


# %% tags=["right"] task="06.3"
def bucketed_batches(lengths, batch_size, seed):
    order = np.argsort(lengths, kind="stable")
    cuts = np.arange(batch_size, len(order), batch_size)
    batches = np.split(order, cuts)
    return [batches[number] for number in np.random.default_rng(seed).permutation(len(batches))]


# %% tags=["wrong"] task="06.3" misconception="lengths in the place of indices"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(lengths)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches


# %% tags=["wrong"] task="06.3" misconception="the last texts were dropped"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = [order[number * batch_size :][:batch_size] for number in range(len(order) // batch_size)]
    random.Random(seed).shuffle(batches)
    return batches


# %% tags=["wrong"] task="06.3" misconception="sorted the other way"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches


# %% tags=["wrong"] task="06.3" misconception="the texts were shuffled after sorting"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    random.Random(seed).shuffle(order)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


# %% tags=["wrong"] task="06.3" misconception="from short to long in every epoch"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


# %% tags=["wrong"] task="06.3" misconception="the seed is not used"
def bucketed_batches(lengths, batch_size, seed):
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [batches[number] for number in torch.randperm(len(batches))]


# %% tags=["hidden"] task="06.3"
def draw_06_3(rng):
    """Batches that fit exactly, many texts of one length, batches of one text."""
    size, batches = int(rng.integers(1, 5)), int(rng.integers(6, 10))
    return {
        "lengths": rng.integers(2, 6, size * batches).tolist(),
        "batch_size": size,
        "seeds": rng.choice(10_000, 8, replace=False).tolist(),
    }


# %% [markdown] tags=["task"] task="06.4"
# With a handful of labels, a class is the mean of its few samples. **Write `nearest_class(features, labels,
# queries)`**: `features` is a float tensor of shape `(n, D)`, `labels` a tensor of `n` whole numbers, each class from 0
# to the highest at least once; `queries` is a float tensor of shape `(q, D)`. Return a tensor of `q` whole numbers: for
# each query, the class whose mean points in the most similar direction, by the cosine. The mean is that of the features
# as they are. (No vector is zero, and no two cosines of a query are equal.)


# %% tags=["answer"] task="06.4"
def nearest_class(features, labels, queries):
    # BEGIN SOLUTION
    classes = range(int(labels.max()) + 1)
    means = torch.stack([features[labels == number].mean(dim=0) for number in classes])  # (classes, D)
    return (F.normalize(queries, dim=1) @ F.normalize(means, dim=1).T).argmax(dim=1)
    # END SOLUTION


# %% tags=["check"]
check("06.4", nearest_class)


# %% tags=["right"] task="06.4"
def nearest_class(features, labels, queries):
    """Sums point where means point, and a query's own length changes no order."""
    sums = F.one_hot(labels).T.to(features.dtype) @ features
    return (queries @ (sums / sums.norm(dim=1, keepdim=True)).T).argmax(dim=1)


# %% tags=["right"] task="06.4"
def nearest_class(features, labels, queries):
    means = [features[labels == number].mean(dim=0) for number in labels.unique()]
    found = []
    for query in queries:
        angles = [torch.acos(F.cosine_similarity(query, mean, dim=0).clamp(-1, 1)) for mean in means]
        found.append(int(torch.stack(angles).argmin()))
    return torch.tensor(found)


# %% tags=["wrong"] task="06.4" misconception="the least similar class"
def nearest_class(features, labels, queries):
    means = torch.stack([features[labels == number].mean(dim=0) for number in range(int(labels.max()) + 1)])
    return F.cosine_similarity(queries[:, None], means[None], dim=2).argmin(dim=1)


# %% tags=["wrong"] task="06.4" misconception="distance in the place of direction"
def nearest_class(features, labels, queries):
    means = torch.stack([features[labels == number].mean(dim=0) for number in range(int(labels.max()) + 1)])
    return torch.cdist(queries, means).argmin(dim=1)


# %% tags=["wrong"] task="06.4" misconception="the longest mean wins"
def nearest_class(features, labels, queries):
    means = torch.stack([features[labels == number].mean(dim=0) for number in range(int(labels.max()) + 1)])
    return (F.normalize(queries, dim=1) @ means.T).argmax(dim=1)


# %% tags=["wrong"] task="06.4" misconception="the nearest sample, not the nearest mean"
def nearest_class(features, labels, queries):
    return labels[(F.normalize(queries, dim=1) @ F.normalize(features, dim=1).T).argmax(dim=1)]


# %% tags=["wrong"] task="06.4" misconception="the samples were made equally long first"
def nearest_class(features, labels, queries):
    features = F.normalize(features, dim=1)
    means = torch.stack([features[labels == number].mean(dim=0) for number in range(int(labels.max()) + 1)])
    return (F.normalize(queries, dim=1) @ F.normalize(means, dim=1).T).argmax(dim=1)


# %% tags=["hidden"] task="06.4"
def draw_06_4(rng):
    """One sample a class, far more of one class than of others, a single query, features far from zero."""
    each = np.array([1, 1, 1]) if rng.integers(2) else np.array([1, 2, 9])
    return {
        "features": rng.normal(size=(each.sum(), 6)) + 1,
        "labels": rng.permutation(np.repeat(np.arange(3), each)),
        "queries": rng.normal(size=(int(rng.choice([1, 5])), 6)),
    }


# %% [markdown] tags=["task"] task="06.5"
# Why does a rate say so much about how far a layer will move? **Write `adam_places(gradients)`**: one weight starts at
# 0 and is moved by Adam; `gradients` is a list of numbers, its gradient at each step. Return its place after each step
# (as many numbers as there are gradients), measured in learning rates; that is, with a rate of 1. With $t$ counted
# from 1, and $m$ and $v$ starting at 0,
#
# $$m \leftarrow 0.9\,m + 0.1\,g_t, \qquad v \leftarrow 0.999\,v + 0.001\,g_t^2, \qquad
# \text{place} \leftarrow \text{place} - \frac{m / (1 - 0.9^t)}{\sqrt{v / (1 - 0.999^t)} + 10^{-8}}.$$
#
# This is Adam as published, without weight decay. No gradient in the list is zero.
#
# When it works, multiply all gradients by 1000. How much further does the weight go? And how far does it go in 20
# steps, all with the same gradient, at a rate of `1e-3`, and at `5e-5`?


# %% tags=["answer"] task="06.5"
def adam_places(gradients):
    # BEGIN SOLUTION
    m = v = place = 0.0
    places = []
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        place -= (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        places.append(place)
    return places
    # END SOLUTION


# %% tags=["check"]
check("06.5", adam_places)


# %% tags=["right"] task="06.5"
def adam_places(gradients):
    """The averages kept corrected from the start: each new gradient counts as much as all weights so far allow."""
    mean = square = 0.0
    steps = []
    for t, gradient in enumerate(gradients, start=1):
        mean += 0.1 / (1 - 0.9**t) * (gradient - mean)
        square += 0.001 / (1 - 0.999**t) * (gradient**2 - square)
        steps.append(-mean / (square**0.5 + 1e-8))
    return torch.tensor(steps, dtype=torch.float64).cumsum(dim=0)


# %% tags=["right"] task="06.5"
def adam_places(gradients):
    """Both averages as weighted sums, all steps at once."""
    g, t = np.array(gradients), np.arange(len(gradients))
    ago = t[:, None] - t[None, :]  # (step, gradient)

    def average(kept, values):
        weights = np.where(ago >= 0, kept ** np.maximum(ago, 0), 0)
        return weights @ values / weights.sum(axis=1)

    return -np.cumsum(average(0.9, g) / (np.sqrt(average(0.999, g**2)) + 1e-8))


# %% tags=["wrong"] task="06.5" misconception="neither average was corrected"
def adam_places(gradients):
    m, v, place, places = 0.0, 0.0, 0.0, []
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        place -= m / (math.sqrt(v) + 1e-8)
        places.append(place)
    return places


# %% tags=["wrong"] task="06.5" misconception="only the mean was corrected"
def adam_places(gradients):
    m, v, place, places = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        place -= m / (1 - 0.9**t) / (math.sqrt(v) + 1e-8)
        places.append(place)
    return places


# %% tags=["wrong"] task="06.5" misconception="the gradient itself"
def adam_places(gradients):
    return [-sum(gradients[: step + 1]) for step in range(len(gradients))]


# %% tags=["wrong"] task="06.5" misconception="uphill"
def adam_places(gradients):
    m, v, place, places = 0.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        place += m / (1 - 0.9**t) / math.sqrt(v / (1 - 0.999**t))
        places.append(place)
    return places


# %% tags=["wrong"] task="06.5" misconception="steps in the place of places"
def adam_places(gradients):
    m, v, steps = 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        steps.append(-m / (1 - 0.9**t) / math.sqrt(v / (1 - 0.999**t)))
    return steps


# %% tags=["wrong"] task="06.5" misconception="the last place alone"
def adam_places(gradients):
    m, v, place = 0.0, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        place -= m / (1 - 0.9**t) / math.sqrt(v / (1 - 0.999**t))
    return place


# %% tags=["hidden"] task="06.5"
def draw_06_5(rng):
    """A single gradient, gradients of both signs, many steps, sizes far apart."""
    count = int(rng.choice([1, 3, 40]))
    sizes = rng.uniform(0.5, 2.0, count) * rng.choice([-1, 1], count) * rng.choice([0.01, 1.0, 100.0], count)
    return {"gradients": sizes.tolist()}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **06.3.** Texts of similar length always meet the same neighbours, so that a batch is less of a random sample; the
# window of the lesson's function is the compromise. **06.5.** A thousand times the gradient, and the weight goes no
# further: with Adam, the *rate alone* sets the scale of a step. As long as the gradient keeps its direction, twenty
# steps are twenty rates: `0.02` at `1e-3` and `0.001` at `5e-5`. The weights of an encoder are often a few hundredths
# in size, so the first moves them by about as much as they are. That is no proof that it fails (the lesson found no
# cliff), but it says why the custom is where it is.

# %% tags=["solution"]
some = [0.3, -0.2, 0.5, 0.4]
assert np.allclose(adam_places(some), adam_places([1000 * gradient for gradient in some]), rtol=1e-4)
assert math.isclose(adam_places([0.7] * 20)[-1], -20, rel_tol=1e-6)

# %% [markdown]
# ## Where you are
#
# In a terminal, `python -m tlcourse progress` shows the same.

# %%
progress()
