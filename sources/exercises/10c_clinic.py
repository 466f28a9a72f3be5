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
# # Clinic after 10 · Remedies that do nothing
#
# Five functions as they are found in the field: parts of a remedy against forgetting, which run, complain of nothing,
# and hold nothing, or the wrong thing. Each comes with the complaint of its owner. Find out what is wrong, say to
# yourself why nobody noticed, and repair it. About an hour; do lesson 10 and its exercises before.
#
# Take the line with `raise NotImplementedError` away and run the cell and the check below it, to see the symptom. Then
# repair the function and check again. `hint("10c.1")` opens a hint, three in all. Only the cell of the function is
# graded, so that everything that it needs goes into it.

# %% tags=["setup"]
import numpy as np
import torch
import torch.nn.functional as F

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="10c.1"
# **The complaint:** "I log the EWC penalty, and it is zero for the whole of training. I took it for a sign that nothing
# is forgotten."
#
# `hold(network, fisher, strength)` is called when the old task has ended. `network` is an `nn.Module`, `fisher` a dict
# from the names of all its parameters to tensors of their shape, `strength` a number. It returns a function
# `penalty(network)`, to be called with the *same* network while it learns the new task, as often as one likes:
# `strength / 2` times the sum of Fisher information times squared distance, in a tensor on which `backward()` can be
# called, to pull the weights back to where they were.
#
# It must go by what weights and Fisher information were when `hold` was called, whatever becomes of both later: an
# optimiser changes the weights in place, and online EWC changes the tensors in `fisher` in place.


# %% tags=["answer"] task="10c.1"
def hold(network, fisher, strength):
    # BEGIN SOLUTION
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
        return strength / 2 * total

    return penalty
    # END SOLUTION


# %% tags=["given"] task="10c.1" misconception="the anchor moves with the weights"
def hold(network, fisher, strength):
    anchor = {name: value.detach() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
        return strength / 2 * total

    return penalty


# %% tags=["check"]
check("10c.1", hold)


# %% tags=["right"] task="10c.1"
def hold(network, fisher, strength):
    """A copy of the whole network is the anchor."""
    import copy

    old, importance = copy.deepcopy(network).requires_grad_(False), copy.deepcopy(fisher)

    def penalty(network):
        pairs = zip(network.named_parameters(), old.parameters(), strict=True)
        parts = [torch.sum(importance[name] * (value - then).square()) for (name, value), then in pairs]
        return 0.5 * strength * torch.stack(parts).sum()

    return penalty


# %% tags=["right"] task="10c.1"
def hold(network, fisher, strength):
    """One row of numbers for all weights."""
    names = [name for name, _ in network.named_parameters()]
    with torch.no_grad():
        then = torch.cat([value.flatten() for value in network.parameters()])
    pull = strength * torch.cat([fisher[name].flatten() for name in names])

    def penalty(network):
        away = torch.cat([value.flatten() for value in network.parameters()]) - then
        return pull @ away**2 / 2

    return penalty


# %% tags=["wrong"] task="10c.1" misconception="the anchor follows from call to call"
def hold(network, fisher, strength):
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
            anchor[name] = value.detach().clone()
        return strength / 2 * total

    return penalty


# %% tags=["wrong"] task="10c.1" misconception="the pull is cancelled"
def hold(network, fisher, strength):
    anchor = {name: value.clone() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
        return strength / 2 * total

    return penalty


# %% tags=["wrong"] task="10c.1" misconception="a number without a gradient"
def hold(network, fisher, strength):
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    @torch.no_grad()
    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
        return strength / 2 * total

    return penalty


# %% tags=["wrong"] task="10c.1" misconception="the Fisher information changes afterwards"
def hold(network, fisher, strength):
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (fisher[name] * (value - anchor[name]) ** 2).sum()
        return strength / 2 * total

    return penalty


# %% tags=["wrong"] task="10c.1" misconception="the half is missing"
def hold(network, fisher, strength):
    anchor = {name: value.detach().clone() for name, value in network.named_parameters()}
    importance = {name: value.clone() for name, value in fisher.items()}

    def penalty(network):
        total = 0.0
        for name, value in network.named_parameters():
            total = total + (importance[name] * (value - anchor[name]) ** 2).sum()
        return strength * total

    return penalty


# %% tags=["hidden"] task="10c.1"
def draw_10c_1(rng):
    """Some weights of no importance; the weights move a little, and the other way; strength 0."""
    return {
        "fisher": {
            "weight": (rng.integers(0, 2, (2, 2)) * rng.uniform(0, 3, (2, 2))).astype(np.float32),
            "bias": rng.uniform(0, 3, 2).astype(np.float32),
        },
        "moves": rng.normal(size=2),
        "strength": float(rng.choice([0.0, 1.0, 100.0])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="10c.2"
# **The complaint:** "The paper's strength does nothing with my code. I need ten million, and when I doubled the batch
# size, I needed twenty."
#
# `empirical_fisher(network, x, y, batch_size)` returns the *empirical* Fisher information: for each parameter, the mean
# over samples of the squared gradient of the log-probability of the sample's own label. `network` is an `nn.Module`
# that turns a float tensor of shape `(b, d)` into logits of shape `(b, classes)`, each row by itself; `x` has `n` rows,
# at least one, and `y` holds `n` labels. What is returned is a dict from the name of each parameter to a tensor of its
# shape. `batch_size` is there to save memory or time: at most so many samples need be looked at at once, and the result
# must not depend on it. (That the labels of the data are taken is meant so here, and not the defect.)


# %% tags=["answer"] task="10c.2"
def empirical_fisher(network, x, y, batch_size):
    # BEGIN SOLUTION
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True):
        losses = F.cross_entropy(network(xs), ys, reduction="none")
        for loss in losses:
            network.zero_grad()
            loss.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += value.grad**2 / len(x)
    return fisher
    # END SOLUTION


# %% tags=["given"] task="10c.2" misconception="the mean before the square"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True):
        network.zero_grad()
        F.cross_entropy(network(xs), ys).backward()
        for name, value in network.named_parameters():
            fisher[name] += value.grad**2 * len(xs) / len(x)
    return fisher


# %% tags=["check"]
check("10c.2", empirical_fisher)


# %% tags=["right"] task="10c.2"
def empirical_fisher(network, x, y, batch_size):
    """Sample by sample; the batch size is left alone."""
    squares = {name: [] for name, _ in network.named_parameters()}
    for sample, label in zip(x, y, strict=True):
        log_p = network(sample[None]).log_softmax(dim=1)[0, label]
        for rows, gradient in zip(
            squares.values(), torch.autograd.grad(log_p, list(network.parameters())), strict=True
        ):
            rows.append(gradient**2)
    return {name: torch.stack(rows).mean(dim=0) for name, rows in squares.items()}


# %% tags=["right"] task="10c.2"
def empirical_fisher(network, x, y, batch_size):
    """All samples of a batch at once, by torch.func."""
    from torch.func import functional_call, grad, vmap

    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(values, sample, label):
        return F.cross_entropy(functional_call(network, values, (sample[None],)), label[None])

    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        for name, gradients in vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x[part], y[part]).items():
            total[name] += (gradients**2).sum(dim=0)
    return {name: value / len(x) for name, value in total.items()}


# %% tags=["wrong"] task="10c.2" misconception="the sum before the square"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True):
        network.zero_grad()
        F.cross_entropy(network(xs), ys, reduction="sum").backward()
        for name, value in network.named_parameters():
            fisher[name] += value.grad**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10c.2" misconception="the mean of the batches' means"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    for xs, ys in batches:
        for loss in F.cross_entropy(network(xs), ys, reduction="none"):
            network.zero_grad()
            loss.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += value.grad**2 / len(xs) / len(batches)
    return fisher


# %% tags=["wrong"] task="10c.2" misconception="divided by the number of batches"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    for xs, ys in batches:
        for loss in F.cross_entropy(network(xs), ys, reduction="none"):
            network.zero_grad()
            loss.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += value.grad**2 / len(batches)
    return fisher


# %% tags=["wrong"] task="10c.2" misconception="gradients piled up"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    network.zero_grad()
    for sample, label in zip(x, y, strict=True):
        F.cross_entropy(network(sample[None]), label[None]).backward()
        for name, value in network.named_parameters():
            fisher[name] += value.grad**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10c.2" misconception="a sum over the samples"
def empirical_fisher(network, x, y, batch_size):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True):
        for loss in F.cross_entropy(network(xs), ys, reduction="none"):
            network.zero_grad()
            loss.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += value.grad**2
    return fisher


# %% tags=["hidden"] task="10c.2"
def draw_10c_2(rng):
    """One sample; batches of one; a batch larger than everything; batches that fit exactly."""
    count = int(rng.choice([1, 6]))
    return {
        "x": rng.normal(size=(count, 2)).astype(np.float32),
        "y": rng.integers(0, 3, count),
        "batch_size": int(rng.choice([1, 3, 100])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="10c.3"
# **The complaint:** "When I have computed the Fisher information, the old task is worse, before I have trained
# anything. And computed twice, it is another one each time." Whoever wrote this made more than one mistake.
#
# `exact_fisher(network, x)` returns the Fisher information over the model's own labels, as in exercise 10.2, and what
# it returns is weighted rightly. `network` is an `nn.Module` with batch normalisation and dropout that turns a float
# tensor of shape `(n, d)` into logits; `x` has `n` rows. All its parameters require a gradient. The result is a dict
# from the name of each parameter to a tensor of its shape, for the network in *evaluation mode*, whatever mode it comes
# in.
#
# Measuring must leave no traces. Afterwards these are as they were: weights and statistics; the `.grad` of every
# parameter, for there may be gradients in it that somebody still needs; and the mode of *every part*: some may be in
# training mode, and others, which somebody has frozen, in evaluation mode.


# %% tags=["answer"] task="10c.3"
def exact_fisher(network, x):
    # BEGIN SOLUTION
    modes = {part: part.training for part in network.modules()}
    network.eval()
    parameters = dict(network.named_parameters())
    fisher = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in network(x).log_softmax(dim=1):
        for log_p in row:
            gradients = torch.autograd.grad(log_p, list(parameters.values()), retain_graph=True)
            for name, gradient in zip(fisher, gradients, strict=True):
                fisher[name] += log_p.detach().exp() * gradient**2 / len(x)
    for part, mode in modes.items():
        part.training = mode
    return fisher
    # END SOLUTION


# %% tags=["given"] task="10c.3" misconception="measured in training mode"
def exact_fisher(network, x):
    network.train()
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for row in network(x).log_softmax(dim=1):
        for log_p in row:
            network.zero_grad()
            log_p.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += log_p.detach().exp() * value.grad**2 / len(x)
    return fisher


# %% tags=["check"]
check("10c.3", exact_fisher)


# %% tags=["right"] task="10c.3"
def exact_fisher(network, x):
    """On a copy, which may be treated as one likes."""
    import copy

    mine = copy.deepcopy(network).eval()
    fisher = {name: torch.zeros_like(value) for name, value in mine.named_parameters()}
    for sample in x:
        p = mine(sample[None]).softmax(dim=1).detach()[0]
        for label in range(len(p)):
            mine.zero_grad()
            F.cross_entropy(mine(sample[None]), torch.tensor([label])).backward()
            for name, value in mine.named_parameters():
                fisher[name] += p[label] * value.grad**2 / len(x)
    return fisher


# %% tags=["right"] task="10c.3"
def exact_fisher(network, x):
    """Everything is noted down, and put back, even where something raises."""
    noted = [(part, part.training) for part in network.modules()]
    gradients = [(value, value.grad) for value in network.parameters()]
    fisher = {}
    try:
        network.eval()
        for sample in x:
            log_p = network(sample[None]).log_softmax(dim=1)[0]
            for value in log_p:
                for parameter in network.parameters():
                    parameter.grad = None
                value.backward(retain_graph=True)
                for name, parameter in network.named_parameters():
                    share = value.exp().item() * parameter.grad**2 / len(x)
                    fisher[name] = share + fisher[name] if name in fisher else share
    finally:
        for part, mode in noted:
            part.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return fisher


# %% tags=["wrong"] task="10c.3" misconception="the Fisher information of another network"
def exact_fisher(network, x):
    import copy

    mine = copy.deepcopy(network).train()
    fisher = {name: torch.zeros_like(value) for name, value in mine.named_parameters()}
    for row in mine(x).log_softmax(dim=1):
        for log_p in row:
            mine.zero_grad()
            log_p.backward(retain_graph=True)
            for name, value in mine.named_parameters():
                fisher[name] += log_p.detach().exp() * value.grad**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10c.3" misconception="the gradients were thrown away"
def exact_fisher(network, x):
    modes = {part: part.training for part in network.modules()}
    network.eval()
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for row in network(x).log_softmax(dim=1):
        for log_p in row:
            network.zero_grad()
            log_p.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += log_p.detach().exp() * value.grad**2 / len(x)
    network.zero_grad()
    for part, mode in modes.items():
        part.training = mode
    return fisher


# %% tags=["wrong"] task="10c.3" misconception="gradients were left behind"
def exact_fisher(network, x):
    modes = {part: part.training for part in network.modules()}
    network.eval()
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    for row in network(x).log_softmax(dim=1):
        for log_p in row:
            network.zero_grad()
            log_p.backward(retain_graph=True)
            for name, value in network.named_parameters():
                fisher[name] += log_p.detach().exp() * value.grad**2 / len(x)
    for part, mode in modes.items():
        part.training = mode
    return fisher


# %% tags=["wrong"] task="10c.3" misconception="the modes were not put back"
def exact_fisher(network, x):
    mode = network.training
    network.eval()
    parameters = dict(network.named_parameters())
    fisher = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in network(x).log_softmax(dim=1):
        for log_p in row:
            gradients = torch.autograd.grad(log_p, list(parameters.values()), retain_graph=True)
            for name, gradient in zip(fisher, gradients, strict=True):
                fisher[name] += log_p.detach().exp() * gradient**2 / len(x)
    network.train(mode)
    return fisher


# %% tags=["hidden"] task="10c.3"
def draw_10c_3(rng):
    """One sample; everything in training mode, or nothing."""
    return {
        "x": rng.normal(size=(int(rng.choice([1, 4])), 4)).astype(np.float32),
        "training": ["stem", "block", "head"] if rng.integers(2) else [],
        "gradient": float(rng.choice([0.1, 3.0])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="10c.4"
# **The complaint:** "My replay buffer holds more of the late samples than of the early ones, and it is the early ones
# that I want to keep."
#
# `reservoir(stream, capacity, draw)` keeps a random part of a stream, of which nobody knows how long it is: every
# sample of it shall have the *same* chance to be among those that are kept. `stream` is an iterator that can be gone
# through once and gives at least one sample, no two alike; `capacity` is a whole number, at least 1. It returns a list
# of as many samples as there is room for, or all, where there are fewer, in any order. `draw(n)` returns a random whole
# number from 0 to `n - 1`, each as often; `n` is from 1 to 100. Take every random number from there, about one for a
# sample: the check does not try its luck, it goes through *all* outcomes that `draw` can have, and adds up how probable
# each is.


# %% tags=["answer"] task="10c.4"
def reservoir(stream, capacity, draw):
    # BEGIN SOLUTION
    kept = []
    for t, sample in enumerate(stream):
        if len(kept) < capacity:
            kept.append(sample)
        else:
            slot = draw(t + 1)
            if slot < capacity:
                kept[slot] = sample
    return kept
    # END SOLUTION


# %% tags=["given"] task="10c.4" misconception="off by one, for the newest"
def reservoir(stream, capacity, draw):
    kept = []
    for t, sample in enumerate(stream):
        if len(kept) < capacity:
            kept.append(sample)
        else:
            slot = draw(t)
            if slot < capacity:
                kept[slot] = sample
    return kept


# %% tags=["check"]
check("10c.4", reservoir)


# %% tags=["right"] task="10c.4"
def reservoir(stream, capacity, draw):
    """First whether it enters, then who leaves."""
    kept = []
    for seen, sample in enumerate(stream, start=1):
        if seen <= capacity:
            kept.append(sample)
        elif draw(seen) >= seen - capacity:
            kept.pop(draw(capacity))
            kept.append(sample)
    return kept


# %% tags=["right"] task="10c.4"
def reservoir(stream, capacity, draw):
    """With the whole stream in memory, cards are drawn from a pack."""
    pack, kept = list(stream), []
    while pack and len(kept) < capacity:
        kept.append(pack.pop(draw(len(pack))))
    return kept


# %% tags=["wrong"] task="10c.4" misconception="off by one, for the oldest"
def reservoir(stream, capacity, draw):
    kept = []
    for t, sample in enumerate(stream, start=1):
        if len(kept) < capacity:
            kept.append(sample)
        else:
            slot = draw(t + 1)
            if slot < capacity:
                kept[slot] = sample
    return kept


# %% tags=["wrong"] task="10c.4" misconception="every new sample enters"
def reservoir(stream, capacity, draw):
    kept = []
    for sample in stream:
        if len(kept) < capacity:
            kept.append(sample)
        else:
            kept[draw(capacity)] = sample
    return kept


# %% tags=["wrong"] task="10c.4" misconception="the first ones stay"
def reservoir(stream, capacity, draw):
    kept = []
    for sample in stream:
        if len(kept) < capacity:
            kept.append(sample)
    return kept


# %% tags=["wrong"] task="10c.4" misconception="the last ones stay"
def reservoir(stream, capacity, draw):
    kept = []
    for sample in stream:
        kept.append(sample)
        if len(kept) > capacity:
            kept.pop(0)
    return kept


# %% tags=["hidden"] task="10c.4"
def draw_10c_4(rng):
    """A stream that fits, one sample, one more than there is room for, a single place."""
    capacity, length = [(3, 3), (5, 2), (1, 1), (2, 3), (1, 5), (4, 7)][int(rng.integers(6))]
    return {"stream": list("klmnopq")[:length], "capacity": capacity}


# %% [markdown] tags=["task"] task="10c.5"
# **The complaint:** "EWC at a strength of a million, and still the old head's answers drift, the more, the longer I
# train. The penalty is next to nothing all the while."
#
# `train_new(network, penalty, anchored, x, y, lr, decay, steps)` teaches `network` a new task with AdamW at the rate
# `lr`, its other settings as PyTorch has them, in `steps` steps on the whole of `x` and `y`; `network(x)` gives the new
# head's logits. The loss is the cross-entropy plus `penalty(network)`, which is EWC. `anchored` is a list of the names
# of all parameters that the penalty holds: those of the backbone and of the head of the old task. The function returns
# nothing.
#
# What is held by the penalty shall have no weight decay besides it. Everything else, that is the new head, shall keep
# the decoupled decay of AdamW, with `weight_decay=decay`.


# %% tags=["answer"] task="10c.5"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    # BEGIN SOLUTION
    held, free = [], []
    for name, value in network.named_parameters():
        (held if name in anchored else free).append(value)
    groups = [{"params": held, "weight_decay": 0.0}, {"params": free, "weight_decay": decay}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()
    # END SOLUTION


# %% tags=["given"] task="10c.5" misconception="decay on what is held"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()


# %% tags=["check"]
check("10c.5", train_new)


# %% tags=["right"] task="10c.5"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    """The optimiser decays nothing; the new head is made smaller by hand."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        (F.cross_entropy(network(x), y) + penalty(network)).backward()
        with torch.no_grad():
            for name, value in network.named_parameters():
                if name not in anchored:
                    value.mul_(1 - lr * decay)
        optimizer.step()


# %% tags=["right"] task="10c.5"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    """Two optimisers."""
    parameters = dict(network.named_parameters())
    first = torch.optim.Adam([parameters[name] for name in anchored], lr=lr)
    second = torch.optim.AdamW([v for n, v in parameters.items() if n not in anchored], lr=lr, weight_decay=decay)
    for _ in range(steps):
        loss = F.cross_entropy(network(x), y) + penalty(network)
        network.zero_grad()
        loss.backward()
        first.step()
        second.step()


# %% tags=["wrong"] task="10c.5" misconception="the old head frozen, the backbone decaying"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    reached = [value for name, value in network.named_parameters() if not name.startswith("old")]
    optimizer = torch.optim.AdamW(reached, lr=lr, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()


# %% tags=["wrong"] task="10c.5" misconception="no decay at all"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()


# %% tags=["wrong"] task="10c.5" misconception="the new head's bias left out"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    decayed = [value for name, value in network.named_parameters() if name not in anchored and value.ndim > 1]
    spared = [value for name, value in network.named_parameters() if name in anchored or value.ndim < 2]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": spared, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (F.cross_entropy(network(x), y) + penalty(network)).backward()
        optimizer.step()


# %% tags=["wrong"] task="10c.5" misconception="decay through the gradient"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    held = [value for name, value in network.named_parameters() if name in anchored]
    free = [value for name, value in network.named_parameters() if name not in anchored]
    optimizer = torch.optim.Adam([{"params": held}, {"params": free, "weight_decay": decay}], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()


# %% tags=["wrong"] task="10c.5" misconception="the penalty was left out"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    held = [value for name, value in network.named_parameters() if name in anchored]
    free = [value for name, value in network.named_parameters() if name not in anchored]
    groups = [{"params": held, "weight_decay": 0.0}, {"params": free, "weight_decay": decay}]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()


# %% tags=["wrong"] task="10c.5" misconception="the backbone was frozen"
def train_new(network, penalty, anchored, x, y, lr, decay, steps):
    free = [value for name, value in network.named_parameters() if name not in anchored]
    optimizer = torch.optim.AdamW(free, lr=lr, weight_decay=decay)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y) + penalty(network)
        loss.backward()
        optimizer.step()


# %% tags=["hidden"] task="10c.5"
def draw_10c_5(rng):
    """One step, many; no decay; a wider network; a strong penalty."""
    return {
        "x": rng.normal(size=(5, 2)),
        "strength": float(rng.choice([0.5, 100.0])),
        "lr": 0.02,
        "decay": float(rng.choice([0.0, 0.1, 1.0])),
        "steps": int(rng.choice([1, 12])),
        "width": 5,
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## Why nobody noticed
#
# Every one of the five runs, and in each case the number that one looks at is pleasant. A penalty of zero looks like a
# task that is kept; a Fisher information that is too small looks like a network with much room, and a larger strength
# makes up for it; a measurement is not suspected of changing anything; a buffer with too many late samples is full all
# the same; and a drifting head has a penalty next to nothing *because* it drifts slowly. A test finds them in minutes:
# move a weight and look at the penalty, change the batch size, compare before and after, count.

# %% tags=["solution"]
layer = torch.nn.Linear(2, 2)
penalty = hold(layer, {name: torch.ones_like(value) for name, value in layer.named_parameters()}, 2.0)
assert penalty(layer) == 0
with torch.no_grad():
    layer.weight += 1
assert penalty(layer) == 4

# %% [markdown]
# ## Where you are
#
# In a terminal, `python -m tlcourse progress` shows the same.

# %%
progress()
