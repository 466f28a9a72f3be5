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
# # Exercises 04 · Fine-tuning
#
# Five tasks on what moves, how fast and how far: the rates of the stages, the groups of an optimiser, the distance that
# a network has gone, the distance that it *can* go, and a range test. A bit more than an hour. Do lesson 04 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("04.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="04.1"
# Discriminative rates give the first stage the lowest rate and the head the highest, with **equal ratios** between
# neighbours. fastai asks for the two ends. The papers on transformers ask for the highest rate and a *layer-wise
# decay*: each stage moves at the rate of the stage above it, towards the head, times the decay.
#
# **Write `stage_rates(lowest, highest, stages)`**. `stages` counts them all, the head included, and is at least 2. It
# returns two things, `return rates, decay`: the list of the rates, from the stage at the input to the head, with
# `lowest` first and `highest` last; and the layer-wise decay with which the other school would get the same rates.
#
# When it works: Howard and Ruder's factor of 2.6 is which decay? And with ten stages and a head at `1e-3`, what does it
# leave for the first one?


# %% tags=["answer"] task="04.1"
def stage_rates(lowest, highest, stages):
    # BEGIN SOLUTION
    ratio = (highest / lowest) ** (1 / (stages - 1))
    return [lowest * ratio**stage for stage in range(stages)], 1 / ratio
    # END SOLUTION


# %% tags=["check"]
check("04.1", stage_rates)


# %% tags=["right"] task="04.1"
def stage_rates(lowest, highest, stages):
    rates = np.geomspace(lowest, highest, stages)
    return rates, rates[0] / rates[1]


# %% tags=["right"] task="04.1"
def stage_rates(lowest, highest, stages):
    decay = math.exp((math.log(lowest) - math.log(highest)) / (stages - 1))
    rates = [highest]
    while len(rates) < stages:
        rates.insert(0, rates[0] * decay)
    return rates, decay


# %% tags=["wrong"] task="04.1" misconception="equal steps instead of equal ratios"
def stage_rates(lowest, highest, stages):
    step = (highest - lowest) / (stages - 1)
    return [lowest + step * stage for stage in range(stages)], (lowest / highest) ** (1 / (stages - 1))


# %% tags=["wrong"] task="04.1" misconception="from the head to the input"
def stage_rates(lowest, highest, stages):
    decay = (lowest / highest) ** (1 / (stages - 1))
    return [highest * decay**stage for stage in range(stages)], decay


# %% tags=["wrong"] task="04.1" misconception="a step more than there is"
def stage_rates(lowest, highest, stages):
    ratio = (highest / lowest) ** (1 / stages)
    return [lowest * ratio**stage for stage in range(stages)], 1 / ratio


# %% tags=["wrong"] task="04.1" misconception="the ends were left out"
def stage_rates(lowest, highest, stages):
    rates = np.geomspace(lowest, highest, stages + 2)[1:-1]
    return rates.tolist(), rates[0] / rates[1]


# %% tags=["wrong"] task="04.1" misconception="the ratio for its inverse"
def stage_rates(lowest, highest, stages):
    ratio = (highest / lowest) ** (1 / (stages - 1))
    return [lowest * ratio**stage for stage in range(stages)], ratio


# %% tags=["hidden"] task="04.1"
def draw_04_1(rng):
    """Two stages only; many stages; one rate for all."""
    lowest = float(rng.choice([1e-7, 1e-5, 1e-3]))
    return {"lowest": lowest, "highest": 1e-3, "stages": int(rng.choice([2, 3, 12]))}


# %% [markdown] tags=["task"] task="04.2"
# **Write `make_groups(network, rates, decay)`**, which returns what `torch.optim.AdamW(...)` is given: a list of dicts,
# each with the keys `params` (a list of tensors), `lr` and `weight_decay`.
#
# `rates` is a dict from the name of a child of the network to its rate, such as `{"block": 1e-5, "head": 1e-3}`.
# Children that are not in it are frozen and get no group. Of the others, each tensor is in exactly one group, at the
# rate of its child. Tensors with more than one dimension are decayed by `decay`, all others are not.
#
# Two children may share a tensor; they have the same rate then. How many groups there are, and in which order, is up to
# you, and `requires_grad` is not your concern here.


# %% tags=["answer"] task="04.2"
def make_groups(network, rates, decay):
    # BEGIN SOLUTION
    groups, seen = [], set()
    for stage, lr in rates.items():
        new = [tensor for tensor in getattr(network, stage).parameters() if id(tensor) not in seen]
        seen.update(map(id, new))
        matrices, vectors = [t for t in new if t.dim() > 1], [t for t in new if t.dim() <= 1]
        groups.append({"params": matrices, "lr": lr, "weight_decay": decay})
        groups.append({"params": vectors, "lr": lr, "weight_decay": 0.0})
    return groups
    # END SOLUTION


# %% tags=["check"]
check("04.2", make_groups)


# %% tags=["right"] task="04.2"
def make_groups(network, rates, decay):
    groups = {}
    for name, tensor in network.named_parameters():  # a shared tensor comes once
        lr = rates.get(name.split(".")[0])
        if lr is not None:
            key = (lr, decay if tensor.ndim > 1 else 0.0)
            groups.setdefault(key, []).append(tensor)
    return [{"params": tensors, "lr": lr, "weight_decay": wd} for (lr, wd), tensors in groups.items()]


# %% tags=["right"] task="04.2"
def make_groups(network, rates, decay):
    owners = {tensor: lr for stage, lr in rates.items() for tensor in getattr(network, stage).parameters()}
    return [{"params": [tensor], "lr": lr, "weight_decay": decay * (tensor.dim() > 1)} for tensor, lr in owners.items()]


# %% tags=["wrong"] task="04.2" misconception="a frozen stage got a group"
def make_groups(network, rates, decay):
    groups = []
    for name, tensor in network.named_parameters():
        lr = rates.get(name.split(".")[0], 0.0)
        groups.append({"params": [tensor], "lr": lr, "weight_decay": decay if tensor.dim() > 1 else 0.0})
    return groups


# %% tags=["wrong"] task="04.2" misconception="a shared tensor is in two groups"
def make_groups(network, rates, decay):
    groups = []
    for stage, lr in rates.items():
        tensors = list(getattr(network, stage).parameters())
        groups.append({"params": [t for t in tensors if t.dim() > 1], "lr": lr, "weight_decay": decay})
        groups.append({"params": [t for t in tensors if t.dim() <= 1], "lr": lr, "weight_decay": 0.0})
    return groups


# %% tags=["wrong"] task="04.2" misconception="vectors were left out"
def make_groups(network, rates, decay):
    return [
        {"params": [tensor], "lr": rates[name.split(".")[0]], "weight_decay": decay}
        for name, tensor in network.named_parameters()
        if name.split(".")[0] in rates and tensor.dim() > 1
    ]


# %% tags=["wrong"] task="04.2" misconception="equal values taken for one tensor"
def make_groups(network, rates, decay):
    groups, seen = [], []
    for stage, lr in rates.items():
        for tensor in getattr(network, stage).parameters():
            if not any(torch.equal(tensor, other) for other in seen):
                seen.append(tensor)
                groups.append({"params": [tensor], "lr": lr, "weight_decay": decay if tensor.dim() > 1 else 0.0})
    return groups


# %% tags=["wrong"] task="04.2" misconception="one rate for all"
def make_groups(network, rates, decay):
    lr = max(rates.values())
    tensors = [tensor for name, tensor in network.named_parameters() if name.split(".")[0] in rates]
    return [
        {"params": [t for t in tensors if t.dim() > 1], "lr": lr, "weight_decay": decay},
        {"params": [t for t in tensors if t.dim() <= 1], "lr": lr, "weight_decay": 0.0},
    ]


# %% tags=["wrong"] task="04.2" misconception="left to the default"
def make_groups(network, rates, decay):
    groups = []
    for name, tensor in network.named_parameters():
        if name.split(".")[0] in rates:
            group = {"params": [tensor], "lr": rates[name.split(".")[0]]}
            groups.append(group | {"weight_decay": decay} if tensor.dim() > 1 else group)
    return groups


# %% tags=["wrong"] task="04.2" misconception="chosen by the name bias"
def make_groups(network, rates, decay):
    return [
        {"params": [tensor], "lr": rates[name.split(".")[0]], "weight_decay": 0.0 if "bias" in name else decay}
        for name, tensor in network.named_parameters()
        if name.split(".")[0] in rates
    ]


# %% tags=["wrong"] task="04.2" misconception="vectors are decayed"
def make_groups(network, rates, decay):
    return [
        {"params": [tensor], "lr": rates[name.split(".")[0]], "weight_decay": decay}
        for name, tensor in network.named_parameters()
        if name.split(".")[0] in rates
    ]


# %% tags=["hidden"] task="04.2"
def draw_04_2(rng):
    """Nothing shared; the head alone; everything at rates of its own."""
    rates = {"head": 1e-3} if rng.integers(2) else {"head": 1e-3, "stem": 1e-6, "neck": 1e-4, "block": 1e-5}
    return {"rates": rates, "decay": 0.05, "tied": False, "seed": int(rng.integers(1000))}


# %% [markdown] tags=["task"] task="04.3"
# Lesson 04 found a recipe whose *weights* hardly move and whose *statistics* do. To see such things you need a measure.
# **Write `how_far(before, after)`**: the two are the same network before and after a training, with the same children.
#
# It returns a dict: name of a child -> `{"weights": share, "statistics": share}`. A share is the **length of the change
# over the length of what was there before**. The length is the square root of the sum of squares over *all* tensors of
# that child together, as if they were one long vector. `weights` are all parameters of the child, biases and scales
# too; `statistics` are its `running_mean`s and `running_var`s. Where a child has no statistics, the share is 0.0.


# %% tags=["answer"] task="04.3"
def how_far(before, after):
    # BEGIN SOLUTION
    def share(old, new):
        change = sum((new[name] - tensor).square().sum().item() for name, tensor in old.items())
        size = sum(tensor.square().sum().item() for tensor in old.values())
        return math.sqrt(change / size) if old else 0.0

    found = {}
    for stage, child in before.named_children():
        other = getattr(after, stage)
        statistics = {name: t for name, t in child.named_buffers() if name.endswith(("running_mean", "running_var"))}
        found[stage] = {
            "weights": share(dict(child.named_parameters()), dict(other.named_parameters())),
            "statistics": share(statistics, dict(other.named_buffers())),
        }
    return found
    # END SOLUTION


# %% tags=["check"]
check("04.3", how_far)


# %% tags=["right"] task="04.3"
@torch.no_grad()
def how_far(before, after):
    found = {}
    for (stage, old), (_, new) in zip(before.named_children(), after.named_children(), strict=True):
        vectors = [torch.nn.utils.parameters_to_vector(child.parameters()) for child in (old, new)]
        norms = [m for m in old.modules() if hasattr(m, "running_mean")]
        others = [m for m in new.modules() if hasattr(m, "running_mean")]
        moved = 0.0
        if norms:
            first, second = (
                torch.cat([torch.cat([m.running_mean, m.running_var]) for m in ms]) for ms in (norms, others)
            )
            moved = ((second - first).norm() / first.norm()).item()
        found[stage] = {"weights": ((vectors[1] - vectors[0]).norm() / vectors[0].norm()).item(), "statistics": moved}
    return found


# %% tags=["right"] task="04.3"
def how_far(before, after):
    sums = {name: {"weights": [0.0, 0.0], "statistics": [0.0, 0.0]} for name, _ in before.named_children()}
    new = after.state_dict()
    for name, tensor in before.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        row = sums[name.split(".")[0]]["statistics" if "running_" in name else "weights"]
        old, other = tensor.numpy().astype(float), new[name].numpy().astype(float)
        row[0] += ((other - old) ** 2).sum()
        row[1] += (old**2).sum()
    return {
        stage: {kind: float(np.sqrt(c / s)) if s else 0.0 for kind, (c, s) in rows.items()}
        for stage, rows in sums.items()
    }


# %% tags=["wrong"] task="04.3" misconception="parameters and statistics in one pot"
def how_far(before, after):
    found = {}
    for stage, child in before.named_children():
        new = getattr(after, stage).state_dict()
        pairs = [(old.float(), new[name].float()) for name, old in child.state_dict().items()]
        change = sum((b - a).square().sum() for a, b in pairs)
        share = math.sqrt(change / sum(a.square().sum() for a, _ in pairs))
        found[stage] = {"weights": share, "statistics": share}
    return found


# %% tags=["wrong"] task="04.3" misconception="the counter counts"
def how_far(before, after):
    found = {}
    for stage, child in before.named_children():
        other, found[stage] = getattr(after, stage), {}
        for kind, way in (("weights", "named_parameters"), ("statistics", "named_buffers")):
            new = dict(getattr(other, way)())
            pairs = [(old.detach().double(), new[name].detach().double()) for name, old in getattr(child, way)()]
            change, size = sum((b - a).square().sum() for a, b in pairs), sum(a.square().sum() for a, _ in pairs)
            found[stage][kind] = math.sqrt(change / size) if pairs else 0.0
    return found


# %% tags=["wrong"] task="04.3" misconception="the change without its measure"
def how_far(before, after):
    found = {name: {"weights": 0.0, "statistics": 0.0} for name, _ in before.named_children()}
    new = after.state_dict()
    for name, old in before.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            kind = "statistics" if "running_" in name else "weights"
            found[name.split(".")[0]][kind] += (new[name] - old).square().sum().item()
    return {stage: {kind: math.sqrt(x) for kind, x in row.items()} for stage, row in found.items()}


# %% tags=["wrong"] task="04.3" misconception="measured by what came after"
def how_far(before, after):
    sums, new = {}, after.state_dict()
    for name, old in before.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            kind = "statistics" if "running_" in name else "weights"
            row = sums.setdefault(name.split(".")[0], {}).setdefault(kind, [0.0, 0.0])
            row[0] += (new[name] - old).square().sum().item()
            row[1] += new[name].square().sum().item()
    return {
        stage: {
            kind: math.sqrt(rows[kind][0] / rows[kind][1]) if kind in rows else 0.0
            for kind in ("weights", "statistics")
        }
        for stage, rows in sums.items()
    }


# %% tags=["wrong"] task="04.3" misconception="the difference of the lengths"
def how_far(before, after):
    def lengths(network):
        found = {name: {"weights": 0.0, "statistics": 0.0} for name, _ in network.named_children()}
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                kind = "statistics" if "running_" in name else "weights"
                found[name.split(".")[0]][kind] += tensor.square().sum().item()
        return {stage: {kind: math.sqrt(x) for kind, x in row.items()} for stage, row in found.items()}

    old, new = lengths(before), lengths(after)
    return {
        stage: {kind: abs(new[stage][kind] - size) / size if size else 0.0 for kind, size in row.items()}
        for stage, row in old.items()
    }


# %% tags=["wrong"] task="04.3" misconception="the mean over tensors"
def how_far(before, after):
    shares = {name: {"weights": [], "statistics": []} for name, _ in before.named_children()}
    new = after.state_dict()
    for name, old in before.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            kind = "statistics" if "running_" in name else "weights"
            shares[name.split(".")[0]][kind].append(((new[name] - old).norm() / old.norm()).item())
    return {stage: {kind: np.mean(x) if x else 0.0 for kind, x in row.items()} for stage, row in shares.items()}


# %% tags=["hidden"] task="04.3"
def draw_04_3(rng):
    """A stage that has not moved at all; one that has moved by more than its own length."""
    by = {"stem": 0.0, "block": float(rng.uniform(2, 3)), "head": 0.0 if rng.integers(2) else 0.001}
    return {"by": by, "batches": 0, "width": int(rng.integers(2, 9)), "seed": int(rng.integers(1000))}


# %% [markdown] tags=["task"] task="04.4"
# AdamW moves a number by about the rate in each step, whatever the loss may be. So the rate and its schedule say how
# far a training can get *at most*: let us take it that each step moves a weight by exactly the rate, always in the same
# direction. The rate at step $s$ of a curve of $T$ steps, counted from $s = 0$, is `lr` times
#
# $$\tfrac{1}{2}\,\bigl(1 + \cos(\pi s / T)\bigr)$$
#
# A training has several phases, one after the other, such as the two of LP-FT. `phases` is the list of their numbers of
# epochs, and each epoch has `steps_an_epoch` steps. If `one_curve` is True, one curve spans all steps of all phases; if
# it is False, each phase has a curve of its own. **Write `reach(lr, phases, steps_an_epoch, one_curve)`**: a list, for
# each phase the distance that a weight can go in it.
#
# When it works, try the lesson's trap: 12 epochs for the head, then 4 for all, with 7 steps each and a rate of `1e-3`.
# At which constant rate would the second phase get as far as it does under one curve?


# %% tags=["answer"] task="04.4"
def reach(lr, phases, steps_an_epoch, one_curve):
    # BEGIN SOLUTION
    distances, begin = [], 0
    for epochs in phases:
        steps = epochs * steps_an_epoch
        total = sum(phases) * steps_an_epoch if one_curve else steps
        first = begin if one_curve else 0
        factors = [(1 + math.cos(math.pi * s / total)) / 2 for s in range(first, first + steps)]
        distances.append(lr * sum(factors))
        begin += steps
    return distances
    # END SOLUTION


# %% tags=["check"]
check("04.4", reach)


# %% tags=["right"] task="04.4"
def reach(lr, phases, steps_an_epoch, one_curve):
    counts = np.array(phases) * steps_an_epoch

    def curve(total):
        return lr * (1 + np.cos(np.pi * np.arange(total) / total)) / 2

    if one_curve:
        return [part.sum() for part in np.split(curve(counts.sum()), np.cumsum(counts)[:-1])]
    return [curve(count).sum() for count in counts]


# %% tags=["right"] task="04.4"
def reach(lr, phases, steps_an_epoch, one_curve):
    """On its own curve, a phase of n steps always adds up to (n + 1) / 2 of them."""
    if not one_curve:
        return [lr * (epochs * steps_an_epoch + 1) / 2 for epochs in phases]
    total, step, distances = sum(phases) * steps_an_epoch, 0, []
    for epochs in phases:
        distances.append(0.0)
        for _ in range(epochs * steps_an_epoch):
            distances[-1] += lr * math.cos(math.pi * step / total / 2) ** 2
            step += 1
    return distances


# %% tags=["wrong"] task="04.4" misconception="as if the rate never fell"
def reach(lr, phases, steps_an_epoch, one_curve):
    return [lr * epochs * steps_an_epoch for epochs in phases]


# %% tags=["wrong"] task="04.4" misconception="each phase got a curve of its own"
def reach(lr, phases, steps_an_epoch, one_curve):
    distances = []
    for epochs in phases:
        total = epochs * steps_an_epoch
        distances.append(lr * sum((1 + math.cos(math.pi * step / total)) / 2 for step in range(total)))
    return distances


# %% tags=["wrong"] task="04.4" misconception="each phase began at the top of the curve"
def reach(lr, phases, steps_an_epoch, one_curve):
    distances = []
    for epochs in phases:
        steps = epochs * steps_an_epoch
        total = sum(phases) * steps_an_epoch if one_curve else steps
        distances.append(lr * sum((1 + math.cos(math.pi * step / total)) / 2 for step in range(steps)))
    return distances


# %% tags=["wrong"] task="04.4" misconception="epochs for steps"
def reach(lr, phases, steps_an_epoch, one_curve):
    distances, begin = [], 0
    for epochs in phases:
        total, first = (sum(phases), begin) if one_curve else (epochs, 0)
        factors = [(1 + math.cos(math.pi * epoch / total)) / 2 for epoch in range(first, first + epochs)]
        distances.append(lr * sum(factors))
        begin += epochs
    return distances


# %% tags=["wrong"] task="04.4" misconception="shared out by length"
def reach(lr, phases, steps_an_epoch, one_curve):
    counts = [epochs * steps_an_epoch for epochs in phases]
    whole = lr * (sum(counts) + 1 if one_curve else sum(count + 1 for count in counts)) / 2
    return [whole * count / sum(counts) for count in counts]


# %% tags=["hidden"] task="04.4"
def draw_04_4(rng):
    """A single phase; a single step an epoch; a short phase after a long one."""
    phases = [[3], [1, 1], [20, 1], [1, 4, 1]][int(rng.integers(4))]
    steps = int(rng.choice([1, 3]))
    return {"lr": 1.0, "phases": phases, "steps_an_epoch": steps, "one_curve": bool(rng.integers(2))}


# %% [markdown] tags=["task"] task="04.5"
# The range test tries rates that rise from step to step, and notes the loss at each. It is a question about a network,
# so the network must not notice it. **Write `range_test(network, images, labels, rates)`**.
#
# `network` turns a float tensor of shape `(n, 4)` into logits of shape `(n, 2)` (rows of four numbers stand for
# images); `images` has shape `(n, 4)`, `labels` has shape `(n,)` with whole numbers, and `rates` is a list. For each
# rate in turn: compute the cross-entropy of the logits of all images in **training mode** and note it as a number; then
# make one step of plain gradient descent at this rate, which takes from each parameter the rate times its gradient.
# Frozen parameters (`requires_grad` is False) do not move. The next rate goes on from there. Return the list of losses,
# one a rate.
#
# Afterwards, `network` is what it was: parameters, statistics, gradients (it comes without any), mode, and what is
# frozen. It may come in either mode.


# %% tags=["answer"] task="04.5"
def range_test(network, images, labels, rates):
    # BEGIN SOLUTION
    mine, losses = copy.deepcopy(network).train(), []
    for rate in rates:
        loss = F.cross_entropy(mine(images), labels)
        losses.append(loss.item())
        mine.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.grad is not None:
                    parameter -= rate * parameter.grad
    return losses
    # END SOLUTION


# %% tags=["check"]
check("04.5", range_test)


# %% tags=["right"] task="04.5"
def range_test(network, images, labels, rates):
    kept, mode = copy.deepcopy(network.state_dict()), network.training
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=rates[0])
    losses = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(network(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    network.load_state_dict(kept)
    network.train(mode)
    return losses


# %% tags=["right"] task="04.5"
def range_test(network, images, labels, rates):
    mode = network.training
    values = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    moving = [name for name, tensor in network.named_parameters() if tensor.requires_grad]
    buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network.train()
    losses = []
    for rate in rates:
        leaves = {name: values[name].requires_grad_(name in moving) for name in values}
        logits = torch.func.functional_call(network, leaves | buffers, (images,))
        loss = F.cross_entropy(logits, labels)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, [leaves[name] for name in moving])
        for name, gradient in zip(moving, gradients, strict=True):
            values[name] = leaves[name].detach() - rate * gradient
    network.train(mode)
    return losses


# %% tags=["wrong"] task="04.5" misconception="the network was trained"
def range_test(network, images, labels, rates):
    mode, losses = network.training, []
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=rates[0])
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(network(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.train(mode)
    return losses


# %% tags=["wrong"] task="04.5" misconception="the statistics moved"
def range_test(network, images, labels, rates):
    mode, kept = network.training, [parameter.detach().clone() for parameter in network.parameters()]
    network.train()
    losses = []
    for rate in rates:
        loss = F.cross_entropy(network(images), labels)
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
    with torch.no_grad():
        for parameter, old in zip(network.parameters(), kept, strict=True):
            parameter.copy_(old)
    network.zero_grad()
    network.train(mode)
    return losses


# %% tags=["wrong"] task="04.5" misconception="gradients were left behind"
def range_test(network, images, labels, rates):
    mode, kept, losses = network.training, copy.deepcopy(network.state_dict()), []
    network.train()
    for rate in rates:
        loss = F.cross_entropy(network(images), labels)
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
    network.load_state_dict(kept)
    network.train(mode)
    return losses


# %% tags=["wrong"] task="04.5" misconception="the mode was changed"
def range_test(network, images, labels, rates):
    mine, losses = copy.deepcopy(network.train()), []
    for rate in rates:
        loss = F.cross_entropy(mine(images), labels)
        losses.append(loss.item())
        mine.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
    return losses


# %% tags=["wrong"] task="04.5" misconception="measured in evaluation mode"
def range_test(network, images, labels, rates):
    mine, losses = copy.deepcopy(network), []
    for rate in rates:
        loss = F.cross_entropy(mine(images), labels)
        losses.append(loss.item())
        mine.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
    return losses


# %% tags=["wrong"] task="04.5" misconception="the loss after the step"
def range_test(network, images, labels, rates):
    mine, losses = copy.deepcopy(network).train(), []
    for rate in rates:
        loss = F.cross_entropy(mine(images), labels)
        mine.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                if parameter.requires_grad:
                    parameter -= rate * parameter.grad
            losses.append(F.cross_entropy(mine(images), labels).item())
    return losses


# %% tags=["wrong"] task="04.5" misconception="the frozen layer moved too"
def range_test(network, images, labels, rates):
    mine, losses = copy.deepcopy(network).train().requires_grad_(True), []
    for rate in rates:
        loss = F.cross_entropy(mine(images), labels)
        losses.append(loss.item())
        mine.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in mine.parameters():
                parameter -= rate * parameter.grad
    return losses


# %% tags=["wrong"] task="04.5" misconception="all steps at one rate"
def range_test(network, images, labels, rates):
    mine, losses = copy.deepcopy(network).train(), []
    optimizer = torch.optim.SGD([p for p in mine.parameters() if p.requires_grad], lr=rates[0])
    for _ in rates:
        loss = F.cross_entropy(mine(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


# %% tags=["hidden"] task="04.5"
def draw_04_5(rng):
    """A single rate, rates that fall, a network in training mode."""
    count = int(rng.integers(2, 6))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "labels": rng.integers(2, size=count),
        "rates": [[0.5], [0.4, 0.2, 0.1], [0.0, 0.3]][int(rng.integers(3))],
        "training": True,
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **04.1.** A factor of 2.6 is a layer-wise decay of 0.385. Over ten stages it leaves the first one a rate of about
# `2e-7`: no wonder that it hardly moves. **04.4.** Under one curve the second phase gets as far as at a constant rate
# of a twentieth of `1e-3`, where it believes to have `1e-3`; on a curve of its own it gets ten times as far.

# %% tags=["solution"]
rates, decay = stage_rates(1e-3 / 2.6**9, 1e-3, 10)
assert abs(decay - 1 / 2.6) < 1e-9 and 1e-7 < rates[0] < 3e-7
under_one, on_its_own = (reach(1e-3, [12, 4], 7, one_curve)[1] for one_curve in (True, False))
assert 4.5e-5 < under_one / 28 < 6e-5 and 9 < on_its_own / under_one < 11

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
