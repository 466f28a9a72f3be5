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
# # Clinic 08 · Is that forgetting?
#
# Five functions as they are found in the field. Each runs, none complains, and each has **one** defect: it makes
# forgetting look larger or smaller than it is, or makes it happen. Find and repair it. About 50 minutes; do lesson 08
# before.
#
# Take the line with `raise NotImplementedError` away, repair the function and run the cell; then run the check below
# it. `hint("08c.1")` opens a hint, three in all. Only the answer's own cell is graded. A check is not a grade; grading
# draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy

import numpy as np
import torch
import torch.nn.functional as F

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="08c.1"
# `accuracy(network, x, y, batch_size)` should return the share of samples that the network gets right, a number from 0
# to 1. `network` turns a tensor with `b` rows into logits of shape `(b, classes)`; `x` has `n` rows, at least one; `y`
# holds their `n` labels. At most `batch_size` samples go in at once, and as many as that where there are enough. Two
# colleagues get different numbers for the same network. **Repair it.**


# %% tags=["answer"] task="08c.1"
def accuracy(network, x, y, batch_size):
    # BEGIN SOLUTION
    right = 0
    with torch.no_grad():
        for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            right += (network(samples).argmax(dim=1) == labels).sum().item()
    return right / len(y)
    # END SOLUTION


# %% tags=["given"] task="08c.1" misconception="average of the batches"
def accuracy(network, x, y, batch_size):
    found = []
    with torch.no_grad():
        for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            found.append((network(samples).argmax(dim=1) == labels).float().mean().item())
    return sum(found) / len(found)


# %% tags=["check"]
check("08c.1", accuracy)


# %% tags=["right"] task="08c.1"
def accuracy(network, x, y, batch_size):
    """Keep the logits, and average once."""
    logits = torch.cat([network(x[start : start + batch_size]) for start in range(0, len(x), batch_size)])
    return (logits.argmax(dim=1) == y).float().mean()


# %% tags=["right"] task="08c.1"
def accuracy(network, x, y, batch_size):
    """A mean of batches again, weighted by their sizes."""
    shares, sizes = [], []
    for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        shares.append((network(samples).argmax(dim=1) == labels).double().mean().item())
        sizes.append(len(labels))
    return np.average(shares, weights=sizes)


# %% tags=["wrong"] task="08c.1" misconception="the short batch was dropped"
def accuracy(network, x, y, batch_size):
    right = seen = 0
    for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        if len(labels) == batch_size:
            right += (network(samples).argmax(dim=1) == labels).sum().item()
            seen += len(labels)
    return right / seen


# %% tags=["wrong"] task="08c.1" misconception="as if all batches were full"
def accuracy(network, x, y, batch_size):
    right = batches = 0
    for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        right += (network(samples).argmax(dim=1) == labels).sum().item()
        batches += 1
    return right / (batches * batch_size)


# %% tags=["wrong"] task="08c.1" misconception="the last batch alone"
def accuracy(network, x, y, batch_size):
    for samples, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        right = (network(samples).argmax(dim=1) == labels).sum().item()
    return right / len(labels)


# %% tags=["wrong"] task="08c.1" misconception="all in one batch"
def accuracy(network, x, y, batch_size):
    return (network(x).argmax(dim=1) == y).float().mean().item()


# %% tags=["hidden"] task="08c.1"
def draw_08c_1(rng):
    """One sample, batches of one, a batch larger than everything, batches that fit exactly."""
    count = int(rng.choice([1, 4, 8]))
    return {
        "logits": rng.normal(size=(count, 5)).astype(np.float32),
        "labels": rng.integers(0, 5, count),
        "batch_size": int(rng.choice([1, 4, 100])),
    }


# %% [markdown] tags=["task"] task="08c.2"
# `forgetting(R)` should return the forgetting of lesson 08, a number: for each task but the last, the *best earlier*
# score minus the last one; then the mean over these tasks. `R` is a numpy array of shape `(T, T)`, `T` at least 2,
# complete also above the diagonal: `R[i, j]` is the score on task `j` after tasks 0 to `i`. Earlier means: from the row
# on that has learnt the task, and before the last row. It may be negative, and `R` must not be changed. Somebody
# reports too little. **Repair it.**


# %% tags=["answer"] task="08c.2"
def forgetting(R):
    # BEGIN SOLUTION
    best = np.array([R[task:-1, task].max() for task in range(len(R) - 1)])
    return (best - R[-1, :-1]).mean()
    # END SOLUTION


# %% tags=["given"] task="08c.2" misconception="from the row before the last"
def forgetting(R):
    earlier, last = R[-2], R[-1]
    return (earlier - last)[:-1].mean()


# %% tags=["check"]
check("08c.2", forgetting)


# %% tags=["right"] task="08c.2"
def forgetting(R):
    """Close what was not learnt yet, then take the best of each column."""
    learnt = np.where(np.tri(len(R), dtype=bool), R, -np.inf)
    return float(np.mean(learnt[:-1, :-1].max(axis=0) - R[-1, :-1]))


# %% tags=["right"] task="08c.2"
def forgetting(R):
    total, tasks = 0.0, len(R)
    for task in range(tasks - 1):
        best = R[task][task]
        for row in range(task + 1, tasks - 1):
            best = max(best, R[row][task])
        total += best - R[tasks - 1][task]
    return total / (tasks - 1)


# %% tags=["wrong"] task="08c.2" misconception="R was overwritten"
def forgetting(R):
    R[np.triu_indices(len(R), 1)] = -np.inf
    return (R[:-1, :-1].max(axis=0) - R[-1, :-1]).mean()


# %% tags=["wrong"] task="08c.2" misconception="from the score right after learning"
def forgetting(R):
    return (R.diagonal() - R[-1])[:-1].mean()


# %% tags=["wrong"] task="08c.2" misconception="forgetting was never negative"
def forgetting(R):
    return np.mean([R[task:, task].max() - R[-1, task] for task in range(len(R) - 1)])


# %% tags=["wrong"] task="08c.2" misconception="best before it was learnt"
def forgetting(R):
    return (R[:-1].max(axis=0) - R[-1])[:-1].mean()


# %% tags=["wrong"] task="08c.2" misconception="the last task counts too"
def forgetting(R):
    lost = [R[task:-1, task].max() - R[-1, task] for task in range(len(R) - 1)]
    return sum(lost) / len(R)


# %% tags=["hidden"] task="08c.2"
def draw_08c_2(rng):
    """Two tasks, many tasks, scores that only rise, scores below zero."""
    tasks = int(rng.choice([2, 3, 9]))
    R = rng.normal(size=(tasks, tasks))
    return {"R": np.sort(R, axis=0) if rng.integers(2) else R}


# %% [markdown] tags=["task"] task="08c.3"
# A network was trained on a new task, and after each epoch both tasks were scored. `stop_and_report(curves)` should
# choose the epoch at which to stop, with both tasks in mind, and report it: `curves` is a dict of four lists of
# equal length, one number an epoch: `"new_val"`, `"new_test"`, `"old_val"`, `"old_test"`, the accuracies on the
# validation and test splits of the new and of the old task.
#
# Chosen is the epoch, counted from 0, at which the mean of the new and the old task is highest, *by the scores that may
# choose*; the first one where several are equal. Return a dict: `"epoch"`, and `"new"` and `"old"`, the scores at that
# epoch *by which one may judge*. What is reported here is too good to be true. **Repair it.**


# %% tags=["answer"] task="08c.3"
def stop_and_report(curves):
    # BEGIN SOLUTION
    means = [(new + old) / 2 for new, old in zip(curves["new_val"], curves["old_val"], strict=True)]
    epoch = means.index(max(means))
    return {"epoch": epoch, "new": curves["new_test"][epoch], "old": curves["old_test"][epoch]}
    # END SOLUTION


# %% tags=["given"] task="08c.3" misconception="the old task's test scores chose"
def stop_and_report(curves):
    means = [(new + old) / 2 for new, old in zip(curves["new_val"], curves["old_test"], strict=True)]
    epoch = means.index(max(means))
    return {"epoch": epoch, "new": curves["new_test"][epoch], "old": curves["old_test"][epoch]}


# %% tags=["check"]
check("08c.3", stop_and_report)


# %% tags=["right"] task="08c.3"
def stop_and_report(curves):
    arrays = {name: np.array(values) for name, values in curves.items()}
    epoch = int((arrays["new_val"] + arrays["old_val"]).argmax())
    return {"epoch": epoch, **{task: arrays[f"{task}_test"][epoch] for task in ("new", "old")}}


# %% tags=["right"] task="08c.3"
def stop_and_report(curves):
    """As in a loop of training: replace only by what is better."""
    best, kept = -1.0, {}
    for epoch in range(len(curves["new_val"])):
        score = curves["new_val"][epoch] + curves["old_val"][epoch]
        if score > best:
            best, kept = score, {"epoch": epoch, "new": curves["new_test"][epoch], "old": curves["old_test"][epoch]}
    return kept


# %% tags=["wrong"] task="08c.3" misconception="both test scores chose"
def stop_and_report(curves):
    epoch = int(np.argmax(np.add(curves["new_test"], curves["old_test"])))
    return {"epoch": epoch, "new": curves["new_test"][epoch], "old": curves["old_test"][epoch]}


# %% tags=["wrong"] task="08c.3" misconception="the new task alone chose"
def stop_and_report(curves):
    epoch = int(np.argmax(curves["new_val"]))
    return {"epoch": epoch, "new": curves["new_test"][epoch], "old": curves["old_test"][epoch]}


# %% tags=["wrong"] task="08c.3" misconception="the last of equal ones"
def stop_and_report(curves):
    best, kept = -1.0, 0
    for epoch, score in enumerate(np.add(curves["new_val"], curves["old_val"])):
        if score >= best:
            best, kept = score, epoch
    return {"epoch": kept, "new": curves["new_test"][kept], "old": curves["old_test"][kept]}


# %% tags=["wrong"] task="08c.3" misconception="each at its own best epoch"
def stop_and_report(curves):
    epoch = int(np.argmax(np.add(curves["new_val"], curves["old_val"])))
    return {"epoch": epoch, "new": max(curves["new_test"]), "old": max(curves["old_test"])}


# %% tags=["wrong"] task="08c.3" misconception="the scores that chose were reported"
def stop_and_report(curves):
    epoch = int(np.argmax(np.add(curves["new_val"], curves["old_val"])))
    return {"epoch": epoch, "new": curves["new_val"][epoch], "old": curves["old_val"][epoch]}


# %% tags=["hidden"] task="08c.3"
def draw_08c_3(rng):
    """One epoch, many epochs, an old task that only falls, all epochs equal."""
    epochs = int(rng.choice([1, 3, 20]))
    names = ("new_val", "new_test", "old_val", "old_test")
    if rng.random() < 0.2:
        return {name: [0.5] * epochs for name in names}
    made = {name: (rng.integers(0, 64, epochs) / 64).tolist() for name in names}
    return made | {"old_val": sorted(made["old_val"], reverse=True)}


# %% [markdown] tags=["task"] task="08c.4"
# A network has a backbone and a head for each task that it has learnt. `scores(network, tasks)` should return what it
# still knows: a dict from the name of each task to its accuracy, a number from 0 to 1. `tasks` is a dict: the name of a
# task gives `(x, y)`, a float tensor of shape `(n, 4)` and `n` labels, 0 or 1. The network has
#
# - `network.backbone(x)`, the features, and `network.heads`, which gives the head of a task by its name (not always in
#   the order of `tasks`);
# - `network.active`, the name of the head that was learnt last, and `network(x)`, the logits by that head.
#
# The accuracies are those of evaluation mode; afterwards the network is what it was, active head and mode included.
# Here every old task seems to be forgotten. **Repair it.**


# %% tags=["answer"] task="08c.4"
def scores(network, tasks):
    # BEGIN SOLUTION
    mode, found = network.training, {}
    network.eval()
    with torch.no_grad():
        for name, (x, y) in tasks.items():
            logits = network.heads[name](network.backbone(x))
            found[name] = (logits.argmax(dim=1) == y).float().mean().item()
    network.train(mode)
    return found
    # END SOLUTION


# %% tags=["given"] task="08c.4" misconception="the new head for every task"
def scores(network, tasks):
    mode, found = network.training, {}
    network.eval()
    with torch.no_grad():
        for name, (x, y) in tasks.items():
            found[name] = (network(x).argmax(dim=1) == y).float().mean().item()
    network.train(mode)
    return found


# %% tags=["check"]
check("08c.4", scores)


# %% tags=["right"] task="08c.4"
def scores(network, tasks):
    """By changing the active head, and changing it back."""
    mode, active, found = network.training, network.active, {}
    network.eval()
    for network.active in tasks:
        x, y = tasks[network.active]
        found[network.active] = (network(x).argmax(dim=1) == y).double().mean().item()
    network.active = active
    network.train(mode)
    return found


# %% tags=["right"] task="08c.4"
def scores(network, tasks):
    """On a copy, with which nothing can go wrong."""
    mine = copy.deepcopy(network).eval()
    with torch.inference_mode():
        return {
            name: sum((mine.heads[name](mine.backbone(x)).argmax(1) == y).tolist()) / len(y)
            for name, (x, y) in tasks.items()
        }


# %% tags=["wrong"] task="08c.4" misconception="asked in training mode"
def scores(network, tasks):
    network.train()
    with torch.no_grad():
        return {
            name: (network.heads[name](network.backbone(x)).argmax(dim=1) == y).float().mean().item()
            for name, (x, y) in tasks.items()
        }


# %% tags=["wrong"] task="08c.4" misconception="the heads by their place"
def scores(network, tasks):
    mode, found = network.training, {}
    network.eval()
    with torch.no_grad():
        for (name, (x, y)), head in zip(tasks.items(), network.heads.values(), strict=True):
            found[name] = (head(network.backbone(x)).argmax(dim=1) == y).float().mean().item()
    network.train(mode)
    return found


# %% tags=["wrong"] task="08c.4" misconception="the best of all heads"
def scores(network, tasks):
    mode, found = network.training, {}
    network.eval()
    with torch.no_grad():
        for name, (x, y) in tasks.items():
            heads = [head(network.backbone(x)).argmax(dim=1) for head in network.heads.values()]
            found[name] = max((labels == y).float().mean().item() for labels in heads)
    network.train(mode)
    return found


# %% tags=["wrong"] task="08c.4" misconception="another head stays active"
def scores(network, tasks):
    mode, found = network.training, {}
    network.eval()
    for name, (x, y) in tasks.items():
        network.active = name
        found[name] = (network(x).argmax(dim=1) == y).float().mean().item()
    network.train(mode)
    return found


# %% tags=["hidden"] task="08c.4"
def draw_08c_4(rng):
    """One task, or four; of one sample, or of many."""
    names = ["a", "b", "c", "d"][: int(rng.choice([1, 4]))]
    count = int(rng.choice([1, 30]))
    tasks = {
        name: {"x": rng.normal(size=(count, 4)).astype(np.float32), "y": rng.integers(0, 2, count)}
        for name in rng.permutation(names).tolist()
    }
    return {"names": names, "tasks": tasks, "training": bool(rng.integers(2)), "seed": int(rng.integers(1000))}


# %% [markdown] tags=["task"] task="08c.5"
# The same network gets a head for a new task, and `train_new_head(network, name, x, y, lr, epochs)` should train it, so
# that *nothing* of the old task can change: `network.backbone` is frozen, weights and statistics, and computes in
# evaluation mode; of `network.heads`, only `network.heads[name]` learns. (`network.active`, the head of the old task,
# is another one.) `x` is a float tensor of shape `(n, 4)` and `y` holds `n` labels. In each epoch there is one step of
# plain gradient descent, `parameter -= lr * gradient`, on the mean cross-entropy of all samples. It returns nothing.
#
# Here no weight of the old task changes, and yet its accuracy falls. **Repair it.**


# %% tags=["answer"] task="08c.5"
def train_new_head(network, name, x, y, lr, epochs):
    # BEGIN SOLUTION
    network.requires_grad_(False)
    head = network.heads[name].requires_grad_(True)
    for _ in range(epochs):
        network.train()
        network.backbone.eval()
        loss = F.cross_entropy(head(network.backbone(x)), y)
        gradients = torch.autograd.grad(loss, list(head.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    # END SOLUTION


# %% tags=["given"] task="08c.5" misconception="the statistics followed"
def train_new_head(network, name, x, y, lr, epochs):
    network.requires_grad_(False)
    head = network.heads[name].requires_grad_(True)
    for _ in range(epochs):
        network.train()
        loss = F.cross_entropy(head(network.backbone(x)), y)
        gradients = torch.autograd.grad(loss, list(head.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                parameter -= lr * gradient


# %% tags=["check"]
check("08c.5", train_new_head)


# %% tags=["right"] task="08c.5"
def train_new_head(network, name, x, y, lr, epochs):
    """The features are computed once: nothing that they need can move."""
    network.eval()
    features, head = network.backbone(x).detach(), network.heads[name]
    for _ in range(epochs):
        head.zero_grad()
        F.cross_entropy(head(features), y).backward()
        for parameter in head.parameters():
            parameter.data.sub_(lr * parameter.grad)


# %% tags=["right"] task="08c.5"
def train_new_head(network, name, x, y, lr, epochs):
    """On a copy of the backbone, which may move, and with the gradient of the softmax by its formula."""
    backbone, head = copy.deepcopy(network.backbone).eval(), network.heads[name]
    with torch.no_grad():
        features = backbone(x)
        for _ in range(epochs):
            off = (head(features).softmax(dim=1) - F.one_hot(y, 2)) / len(y)
            head.weight -= lr * off.T @ features
            head.bias -= lr * off.sum(dim=0)


# %% tags=["wrong"] task="08c.5" misconception="the backbone learnt too"
def train_new_head(network, name, x, y, lr, epochs):
    network.eval()
    parameters = [*network.backbone.parameters(), *network.heads[name].parameters()]
    for _ in range(epochs):
        loss = F.cross_entropy(network.heads[name](network.backbone(x)), y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= lr * gradient


# %% tags=["wrong"] task="08c.5" misconception="the other head was trained"
def train_new_head(network, name, x, y, lr, epochs):
    network.eval()
    head = network.heads[network.active]
    for _ in range(epochs):
        gradients = torch.autograd.grad(F.cross_entropy(network(x), y), list(head.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                parameter -= lr * gradient


# %% tags=["wrong"] task="08c.5" misconception="nothing was learnt"
def train_new_head(network, name, x, y, lr, epochs):
    network.eval()
    head = network.heads[name]
    for _ in range(epochs):
        gradients = torch.autograd.grad(F.cross_entropy(head(network.backbone(x)), y), list(head.parameters()))
        for parameter, gradient in zip(head.parameters(), gradients, strict=True):
            parameter = parameter - lr * gradient


# %% tags=["wrong"] task="08c.5" misconception="normalised by the batch"
def train_new_head(network, name, x, y, lr, epochs):
    kept = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    head = network.heads[name]
    for _ in range(epochs):
        network.train()
        gradients = torch.autograd.grad(F.cross_entropy(head(network.backbone(x)), y), list(head.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    network.backbone.load_state_dict(kept)


# %% tags=["hidden"] task="08c.5"
def draw_08c_5(rng):
    """Other numbers of samples, no epoch at all, many epochs."""
    return {
        "x": (rng.normal(size=(int(rng.integers(2, 20)), 4)) * 2).astype(np.float32),
        "lr": float(rng.choice([0.01, 0.3])),
        "epochs": int(rng.choice([0, 1, 20])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## What to remember
#
# Before you believe in forgetting, ask: the right head? evaluation mode? by example? from the best earlier score?
# chosen on what? And before you believe in *no* forgetting because all weights are frozen: what moves without a
# gradient?

# %% [markdown]
# ## Where you are
#
# In a terminal, `python -m tlcourse progress` shows the same.

# %%
progress()
