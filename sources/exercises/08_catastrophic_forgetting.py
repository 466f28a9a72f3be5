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
# # Exercises 08 · Catastrophic forgetting
#
# Four tasks: read the record of what is still known, make it, derive the three causes in one formula, and tell what is
# lost from what is only misread. About an hour. Do lesson 08 before; a clinic with defects to find comes after.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("08.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy
import math

import numpy as np
import torch

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="08.1"
# Tasks were learnt one after the other, and after each one the network was asked all of them: `R[i, j]` is its accuracy
# on task `j` after it has learnt tasks 0 to `i`. **Write `transfers(R, baselines)`**: `R` is a numpy array of shape
# `(T, T)`, `T` at least 2, complete also above the diagonal; `baselines` is one of shape `(T,)`, the accuracy on each
# task of a network that has learnt none. Return a dict of three numbers:
#
# - `"accuracy"`: the mean over all tasks in the end;
# - `"backward"`: the backward transfer, what later tasks did to earlier ones. For each task but the last: its accuracy
#   in the end, minus that right after it was learnt; then the mean;
# - `"forward"`: the forward transfer, what earlier tasks did for later ones. For each task but the first: its accuracy
#   right *before* it was learnt, minus its baseline; then the mean.


# %% tags=["answer"] task="08.1"
def transfers(R, baselines):
    # BEGIN SOLUTION
    return {
        "accuracy": R[-1].mean(),
        "backward": (R[-1] - R.diagonal())[:-1].mean(),
        "forward": (R.diagonal(1) - baselines[1:]).mean(),
    }
    # END SOLUTION


# %% tags=["check"]
check("08.1", transfers)


# %% tags=["right"] task="08.1"
def transfers(R, baselines):
    last = len(R) - 1
    backward = sum(R[last][task] - R[task][task] for task in range(last)) / last
    forward = sum(R[task][task + 1] - baselines[task + 1] for task in range(last)) / last
    return {"accuracy": sum(R[last]) / len(R), "backward": backward, "forward": forward}


# %% tags=["right"] task="08.1"
def transfers(R, baselines):
    """By the sums of whole diagonals: the last task adds nothing to the first difference."""
    tasks = len(R)
    return {
        "accuracy": np.average(R[-1]),
        "backward": (R[-1].sum() - np.trace(R)) / (tasks - 1),
        "forward": (np.trace(R, offset=1) - baselines[1:].sum()) / (tasks - 1),
    }


# %% tags=["wrong"] task="08.1" misconception="rows taken for columns"
def transfers(R, baselines):
    return {
        "accuracy": R[:, -1].mean(),
        "backward": (R[:, -1] - R.diagonal())[:-1].mean(),
        "forward": (R.diagonal(-1) - baselines[1:]).mean(),
    }


# %% tags=["wrong"] task="08.1" misconception="the last task counts as one of the earlier ones"
def transfers(R, baselines):
    return {
        "accuracy": R[-1].mean(),
        "backward": (R[-1] - R.diagonal()).mean(),
        "forward": (R.diagonal(1) - baselines[1:]).mean(),
    }


# %% tags=["wrong"] task="08.1" misconception="forgetting in the place of transfer"
def transfers(R, baselines):
    return {
        "accuracy": R[-1].mean(),
        "backward": (R.diagonal() - R[-1])[:-1].mean(),
        "forward": (R.diagonal(1) - baselines[1:]).mean(),
    }


# %% tags=["wrong"] task="08.1" misconception="the baseline was not taken off"
def transfers(R, baselines):
    return {
        "accuracy": R[-1].mean(),
        "backward": (R[-1] - R.diagonal())[:-1].mean(),
        "forward": R.diagonal(1).mean(),
    }


# %% tags=["wrong"] task="08.1" misconception="the task itself was already learnt"
def transfers(R, baselines):
    return {
        "accuracy": R[-1].mean(),
        "backward": (R[-1] - R.diagonal())[:-1].mean(),
        "forward": (R.diagonal() - baselines)[1:].mean(),
    }


# %% tags=["hidden"] task="08.1"
def draw_08_1(rng):
    """Two tasks, many tasks, a network that gets better at everything."""
    tasks = int(rng.choice([2, 3, 8]))
    R = rng.uniform(0, 1, (tasks, tasks))
    return {"R": np.sort(R, axis=0) if rng.integers(2) else R, "baselines": rng.uniform(0, 0.5, tasks)}


# %% [markdown] tags=["task"] task="08.2"
# Now the loop that makes R. **Write `learn_in_turn(network, tasks, learn, score)`**: `network` is an `nn.Module`,
# `tasks` a list of tasks, `T` of them, at least 2. `learn(network, task)` trains the network on a task, *in place*, and
# returns nothing; `score(network, task)` returns a number and changes nothing. Return two things:
#
# - `R`, a numpy array of shape `(T, T)`: `R[i, j]` is the score on task `j` after tasks 0 to `i` were learnt in turn,
#   for *all* `j`, also those that come later;
# - a list of `T` networks, each as it was right after its task. (The lesson needed them, to see how far the features
#   had moved.)
#
# Each task is learnt once, in the order of the list, by the network that you are given; afterwards that network has
# learnt them all.


# %% tags=["answer"] task="08.2"
def learn_in_turn(network, tasks, learn, score):
    # BEGIN SOLUTION
    R, networks = np.empty((len(tasks), len(tasks))), []
    for row, task in enumerate(tasks):
        learn(network, task)
        R[row] = [score(network, other) for other in tasks]
        networks.append(copy.deepcopy(network))
    return R, networks
    # END SOLUTION


# %% tags=["check"]
check("08.2", learn_in_turn)


# %% tags=["right"] task="08.2"
def learn_in_turn(network, tasks, learn, score):
    """First learn and keep, then ask what was kept."""
    networks = []
    for task in tasks:
        learn(network, task)
        networks.append(copy.deepcopy(network))
    return np.array([[score(kept, task) for task in tasks] for kept in networks]), networks


# %% tags=["right"] task="08.2"
def learn_in_turn(network, tasks, learn, score):
    """By states: the copies are filled in the end."""
    rows, states = [], []
    for task in tasks:
        learn(network, task)
        rows.append(np.array([score(network, other) for other in tasks]))
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    networks = [copy.deepcopy(network) for _ in tasks]
    for kept, state in zip(networks, states, strict=True):
        kept.load_state_dict(state)
    return np.stack(rows), networks


# %% tags=["wrong"] task="08.2" misconception="each task on a fresh copy"
def learn_in_turn(network, tasks, learn, score):
    R, networks = np.empty((len(tasks), len(tasks))), []
    for row, task in enumerate(tasks):
        mine = copy.deepcopy(network)
        learn(mine, task)
        R[row] = [score(mine, other) for other in tasks]
        networks.append(mine)
    return R, networks


# %% tags=["wrong"] task="08.2" misconception="scored before it was learnt"
def learn_in_turn(network, tasks, learn, score):
    R, networks = np.empty((len(tasks), len(tasks))), []
    for row, task in enumerate(tasks):
        R[row] = [score(network, other) for other in tasks]
        learn(network, task)
        networks.append(copy.deepcopy(network))
    return R, networks


# %% tags=["wrong"] task="08.2" misconception="rows taken for columns"
def learn_in_turn(network, tasks, learn, score):
    R, networks = np.empty((len(tasks), len(tasks))), []
    for column, task in enumerate(tasks):
        learn(network, task)
        R[:, column] = [score(network, other) for other in tasks]
        networks.append(copy.deepcopy(network))
    return R, networks


# %% tags=["wrong"] task="08.2" misconception="asked only in the end"
def learn_in_turn(network, tasks, learn, score):
    networks = []
    for task in tasks:
        learn(network, task)
        networks.append(network)
    return np.array([[score(kept, task) for task in tasks] for kept in networks]), networks


# %% tags=["wrong"] task="08.2" misconception="every kept network is the last one"
def learn_in_turn(network, tasks, learn, score):
    R, networks = np.empty((len(tasks), len(tasks))), []
    for row, task in enumerate(tasks):
        learn(network, task)
        R[row] = [score(network, other) for other in tasks]
        networks.append(network)
    return R, networks


# %% tags=["wrong"] task="08.2" misconception="the network that was given has learnt nothing"
def learn_in_turn(network, tasks, learn, score):
    R, networks = np.empty((len(tasks), len(tasks))), []
    for row, task in enumerate(tasks):
        network = copy.deepcopy(network)
        learn(network, task)
        R[row] = [score(network, other) for other in tasks]
        networks.append(network)
    return R, networks


# %% tags=["hidden"] task="08.2"
def draw_08_2(rng):
    """Many tasks, and one that comes twice."""
    tasks = (rng.permutation(int(rng.integers(2, 8))) + 1.5).tolist()
    return {"tasks": [*tasks, tasks[0]]}


# %% [markdown] tags=["task"] task="08.3"
# The three causes of the lesson, derived. Near its best place each loss is a bowl. The old task's is
#
# $$L_\text{old}(w) = \tfrac12 \sum_i h_i\,(w_i - a_i)^2,$$
#
# with its best place $a$ and its curvature $h$; the new task's is the same with $b$ and $g$. The network has learnt the
# old task: its weights are at $a$. Then plain gradient descent runs on the *new* loss alone, some steps, at one rate.
#
# **Write `lost_loss(old, old_curvature, new, new_curvature, lr, steps)`**: the first four are numpy arrays of shape
# `(n,)`, that is $a$, $h$, $b$ and $g$; `lr` is a number and `steps` a whole number. Return the old task's loss after
# those steps, minus before, as a number.
#
# When it works, find the three causes in it: move `new` away from `old`; raise `lr`; take more `steps`. Which of them
# stops mattering after a while? And which fourth thing does the result depend on, that the lesson did not name?


# %% tags=["answer"] task="08.3"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    # BEGIN SOLUTION
    moved = (1 - (1 - lr * new_curvature) ** steps) * (new - old)
    return 0.5 * np.sum(old_curvature * moved**2)
    # END SOLUTION


# %% tags=["check"]
check("08.3", lost_loss)


# %% tags=["right"] task="08.3"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    w = old.copy()
    for _ in range(steps):
        w -= lr * new_curvature * (w - new)
    return float(old_curvature @ (w - old) ** 2) / 2


# %% tags=["right"] task="08.3"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    """By autograd, which knows no formula."""
    a, h, b, g = (torch.from_numpy(values) for values in (old, old_curvature, new, new_curvature))
    w = a.clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad((g * (w - b).square()).sum() / 2, w)
        with torch.no_grad():
            w -= lr * gradient
    return ((h * (w - a).square()).sum() / 2).detach()


# %% tags=["wrong"] task="08.3" misconception="trained to the end"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    return 0.5 * np.sum(old_curvature * (new - old) ** 2)


# %% tags=["wrong"] task="08.3" misconception="every weight matters alike"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    return 0.5 * np.sum(((1 - (1 - lr * new_curvature) ** steps) * (new - old)) ** 2)


# %% tags=["wrong"] task="08.3" misconception="the half is missing"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    return np.sum(old_curvature * ((1 - (1 - lr * new_curvature) ** steps) * (new - old)) ** 2)


# %% tags=["wrong"] task="08.3" misconception="the old task's curvature pulls"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    return 0.5 * np.sum(old_curvature * ((1 - (1 - lr * old_curvature) ** steps) * (new - old)) ** 2)


# %% tags=["wrong"] task="08.3" misconception="all steps as long as the first"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    return 0.5 * np.sum(old_curvature * (steps * lr * new_curvature * (new - old)) ** 2)


# %% tags=["wrong"] task="08.3" misconception="started at zero"
def lost_loss(old, old_curvature, new, new_curvature, lr, steps):
    w = np.zeros_like(old)
    for _ in range(steps):
        w -= lr * new_curvature * (w - new)
    return 0.5 * np.sum(old_curvature * (w - old) ** 2)


# %% tags=["hidden"] task="08.3"
def draw_08_3(rng):
    """No step, one weight, the same task again, weights that a task does not use, many steps."""
    size = int(rng.choice([1, 5]))
    old = rng.normal(size=size)
    return {
        "old": old,
        "old_curvature": rng.uniform(0, 3, size) * rng.integers(0, 2, size),
        "new": old.copy() if rng.random() < 0.2 else rng.normal(size=size),
        "new_curvature": rng.uniform(0, 3, size) * rng.integers(0, 2, size),
        "lr": float(rng.choice([0.01, 0.5])),
        "steps": int(rng.choice([0, 1, 50])),
    }


# %% [markdown] tags=["task"] task="08.4"
# The old head fails after the new task. How much of that did the *features* lose, for any reader, and how much would
# come back if somebody read them anew? **Write `where_it_went(before, after, labels, old_head, fit)`**:
#
# - `before` and `after` are dicts: `"train"` and `"test"` give the features of the *old* task's training and test
#   samples, numpy arrays of shape `(n, d)`, before and after the new task was learnt. Samples and order are the same;
# - `labels` is a dict: `"train"` and `"test"` give their labels, 0 or 1, arrays of shape `(n,)`;
# - `old_head(features)` returns the labels that the old head gives, an array of shape `(n,)`;
# - `fit(features, labels)` fits a fresh probe and returns it: a function that is used like `old_head`.
#
# Return a dict of two numbers, both differences of accuracies *on the test samples*: `"features"`, the accuracy of a
# fresh probe before minus that of a fresh probe after, each fitted to the training samples of its own state; and
# `"reading"`, what the old head lost (before minus after) beyond that. The two add up to what the old head lost.


# %% tags=["answer"] task="08.4"
def where_it_went(before, after, labels, old_head, fit):
    # BEGIN SOLUTION
    def accuracy(classify, state):
        return (classify(state["test"]) == labels["test"]).mean()

    probes = [fit(state["train"], labels["train"]) for state in (before, after)]
    features = accuracy(probes[0], before) - accuracy(probes[1], after)
    return {"features": features, "reading": accuracy(old_head, before) - accuracy(old_head, after) - features}
    # END SOLUTION


# %% tags=["check"]
check("08.4", where_it_went)


# %% tags=["right"] task="08.4"
def where_it_went(before, after, labels, old_head, fit):
    """Counting what is right."""
    lost = {}
    for reader in ("head", "probe"):
        right = []
        for state in (before, after):
            classify = old_head if reader == "head" else fit(state["train"], labels["train"])
            right.append(sum(int(a == b) for a, b in zip(classify(state["test"]), labels["test"], strict=True)))
        lost[reader] = (right[0] - right[1]) / len(labels["test"])
    return {"features": lost["probe"], "reading": lost["head"] - lost["probe"]}


# %% tags=["right"] task="08.4"
def where_it_went(before, after, labels, old_head, fit):
    """The other way: what a fresh reading adds to the old one, after and before."""
    scores = np.empty((2, 2))
    for row, state in enumerate((before, after)):
        readers = old_head, fit(state["train"], labels["train"])
        scores[row] = [1 - np.mean(reader(state["test"]) != labels["test"]) for reader in readers]
    added = scores[:, 1] - scores[:, 0]
    return {"features": scores[0, 1] - scores[1, 1], "reading": added[1] - added[0]}


# %% tags=["wrong"] task="08.4" misconception="the probe was judged on what it was fitted to"
def where_it_went(before, after, labels, old_head, fit):
    probes = [
        (fit(state["train"], labels["train"])(state["train"]) == labels["train"]).mean() for state in (before, after)
    ]
    head = [(old_head(state["test"]) == labels["test"]).mean() for state in (before, after)]
    features = probes[0] - probes[1]
    return {"features": features, "reading": head[0] - head[1] - features}


# %% tags=["wrong"] task="08.4" misconception="the probe was not fitted anew"
def where_it_went(before, after, labels, old_head, fit):
    probe = fit(before["train"], labels["train"])
    probes = [(probe(state["test"]) == labels["test"]).mean() for state in (before, after)]
    head = [(old_head(state["test"]) == labels["test"]).mean() for state in (before, after)]
    features = probes[0] - probes[1]
    return {"features": features, "reading": head[0] - head[1] - features}


# %% tags=["wrong"] task="08.4" misconception="two readers compared"
def where_it_went(before, after, labels, old_head, fit):
    probe = fit(after["train"], labels["train"])
    head = [(old_head(state["test"]) == labels["test"]).mean() for state in (before, after)]
    fresh = (probe(after["test"]) == labels["test"]).mean()
    return {"features": head[0] - fresh, "reading": fresh - head[1]}


# %% tags=["wrong"] task="08.4" misconception="the whole loss counted as reading"
def where_it_went(before, after, labels, old_head, fit):
    probes = [
        (fit(state["train"], labels["train"])(state["test"]) == labels["test"]).mean() for state in (before, after)
    ]
    head = [(old_head(state["test"]) == labels["test"]).mean() for state in (before, after)]
    return {"features": probes[0] - probes[1], "reading": head[0] - head[1]}


# %% tags=["wrong"] task="08.4" misconception="after minus before"
def where_it_went(before, after, labels, old_head, fit):
    probes = [
        (fit(state["train"], labels["train"])(state["test"]) == labels["test"]).mean() for state in (before, after)
    ]
    head = [(old_head(state["test"]) == labels["test"]).mean() for state in (before, after)]
    features = probes[1] - probes[0]
    return {"features": features, "reading": head[1] - head[0] - features}


# %% tags=["hidden"] task="08.4"
def draw_08_4(rng):
    """Features that were only turned, features that gained, features that did not move."""
    counts, labels, before, after = {"train": 12, "test": 30}, {}, {}, {}
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if rng.integers(2) else np.eye(3)
    noise = float(rng.choice([0.0, 1.5]))
    for part, count in counts.items():
        labels[part] = rng.permutation(np.arange(count) % 2)
        centred = np.outer(2 * labels[part] - 1, [0.8, 0.2, 0.1])
        before[part] = centred + rng.normal(size=(count, 3)) * float(rng.choice([0.5, 2.0]))
        after[part] = before[part] @ turn + noise * rng.normal(size=(count, 3))
    return {"before": before, "after": after, "labels": labels, "head": [1.0, 0.2, 0.1]}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **08.3.** The distance counts by its square, and without an end. Rate and steps count only through $(1 - \eta g)^n$,
# together: after a while the weights have arrived at `new`, and more steps cost nothing more. The fourth thing is the
# *old* curvature: where the old task does not mind, weights may move for nothing. A remedy that spares the weights of
# high old curvature is lesson 10.

# %% tags=["solution"]
one, two = np.ones(1), np.full(1, 2.0)
near, far = (lost_loss(0 * one, one, place, one, 0.1, 10) for place in (one, two))
assert math.isclose(far, 4 * near)
early, late = (lost_loss(0 * one, one, one, one, 0.1, steps) for steps in (100, 1000))
assert math.isclose(early, late, rel_tol=1e-3)
assert lost_loss(0 * one, 0 * one, one, one, 0.1, 10) == 0

# %% [markdown]
# ## Where you are
#
# In a terminal, `python -m tlcourse progress` shows the same.

# %%
progress()
