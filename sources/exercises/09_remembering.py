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
# # Exercises 09 · Remembering
#
# Six tasks: the remedies, made by hand, each with the slip that makes it a remedy in name only, and then the comparison
# that decides among them. About an hour and a half. Do lesson 09 before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("09.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy
import itertools
import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="09.1"
# L2-SP holds the pre-trained weights where they started, and lets the new head go its way:
#
# $$\frac{s}{2} \sum_{\text{stem, block}} (\theta - \theta_0)^2 + \frac{s_\text{head}}{2} \sum_{\text{head}} w^2$$
#
# **Write `l2_sp(network, strength, head_strength)`.** `network` is an `nn.Module` with the children `stem`, `block` and
# `head`. It comes right before the training: stem and block are pre-trained, the head, one `nn.Linear`, is new. The
# two strengths are numbers. Return a *function*, `penalty(network)`, which will be called in training, with the same
# network, after an optimiser has moved its weights in place. It returns a tensor of one number, with a gradient, to be
# added to the loss.
#
# The first sum is over all *parameters* of stem and block, biases and those of the normalisation included; $\theta_0$
# is what they were when `l2_sp` was called. The second is over `head.weight` alone; the head's bias is free. Neither
# function changes the network.


# %% tags=["answer"] task="09.1"
def l2_sp(network, strength, head_strength):
    # BEGIN SOLUTION
    anchor = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith("head.")}

    def penalty(network):
        parameters = dict(network.named_parameters())
        away = sum((parameters[name] - held).square().sum() for name, held in anchor.items())
        return strength / 2 * away + head_strength / 2 * network.head.weight.square().sum()

    return penalty
    # END SOLUTION


# %% tags=["check"]
check("09.1", l2_sp)


# %% tags=["right"] task="09.1"
def l2_sp(network, strength, head_strength):
    """With a copy of the whole network as the anchor."""
    start = copy.deepcopy(network).requires_grad_(False)

    def penalty(network):
        total = head_strength * network.head.weight.pow(2).sum()
        for part in ("stem", "block"):
            for now, then in zip(getattr(network, part).parameters(), getattr(start, part).parameters(), strict=True):
                total = total + strength * ((now - then) ** 2).sum()
        return total / 2

    return penalty


# %% tags=["right"] task="09.1"
class l2_sp:  # noqa: N801 - what it returns is called like a function
    """With one long vector."""

    def __init__(self, network, strength, head_strength):
        self.start = self.vector(network).detach().clone()
        self.strength, self.head_strength = strength, head_strength

    @staticmethod
    def vector(network):
        return torch.cat([p.flatten() for part in (network.stem, network.block) for p in part.parameters()])

    def __call__(self, network):
        away, head = self.vector(network) - self.start, network.head.weight.flatten()
        return 0.5 * (self.strength * away.dot(away) + self.head_strength * head.dot(head))


# %% tags=["wrong"] task="09.1" misconception="the term has no gradient"
def l2_sp(network, strength, head_strength):
    start = copy.deepcopy(network.state_dict())

    def penalty(network):
        total = torch.zeros(())
        for name, value in network.state_dict().items():
            if name == "head.weight":
                total = total + head_strength / 2 * value.square().sum()
            elif name != "head.bias":
                total = total + strength / 2 * (value - start[name]).square().sum()
        return total

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the anchor moves along"
def l2_sp(network, strength, head_strength):
    anchor = {name: p.detach() for name, p in network.named_parameters() if not name.startswith("head.")}

    def penalty(network):
        parameters = dict(network.named_parameters())
        away = sum((parameters[name] - held).square().sum() for name, held in anchor.items())
        return strength / 2 * away + head_strength / 2 * network.head.weight.square().sum()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="pulled to zero and not to the start"
def l2_sp(network, strength, head_strength):
    def penalty(network):
        held = [*network.stem.parameters(), *network.block.parameters()]
        size = sum(p.square().sum() for p in held)
        return strength / 2 * size + head_strength / 2 * network.head.weight.square().sum()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the new head is held at its start"
def l2_sp(network, strength, head_strength):
    anchor = {name: p.detach().clone() for name, p in network.named_parameters() if name != "head.bias"}

    def penalty(network):
        total = 0
        for name, parameter in network.named_parameters():
            if name in anchor:
                factor = head_strength if name.startswith("head") else strength
                total = total + factor / 2 * (parameter - anchor[name]).square().sum()
        return total

    return penalty


# %% tags=["wrong"] task="09.1" misconception="biases and scales left free"
def l2_sp(network, strength, head_strength):
    anchor = {n: p.detach().clone() for n, p in network.named_parameters() if not n.startswith("head") and p.ndim > 1}

    def penalty(network):
        now = dict(network.named_parameters())
        held = sum((now[name] - start).square().sum() for name, start in anchor.items())
        return strength / 2 * held + head_strength / 2 * network.head.weight.square().sum()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the statistics are held too"
def l2_sp(network, strength, head_strength):
    anchor = {n: v.clone() for n, v in network.state_dict().items() if not n.startswith("head")}

    def penalty(network):
        now = network.state_dict(keep_vars=True)
        held = sum((now[name] - start).square().sum() for name, start in anchor.items())
        return strength / 2 * held + head_strength / 2 * network.head.weight.square().sum()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the half is missing"
def l2_sp(network, strength, head_strength):
    anchor = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith("head.")}

    def penalty(network):
        parameters = dict(network.named_parameters())
        away = sum((parameters[name] - held).square().sum() for name, held in anchor.items())
        return strength * away + head_strength * network.head.weight.square().sum()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the mean in the place of the sum"
def l2_sp(network, strength, head_strength):
    anchor = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith("head.")}

    def penalty(network):
        parameters = dict(network.named_parameters())
        away = sum(F.mse_loss(parameters[name], held) for name, held in anchor.items())
        return strength / 2 * away + head_strength / 2 * network.head.weight.square().mean()

    return penalty


# %% tags=["wrong"] task="09.1" misconception="the head's bias is pulled too"
def l2_sp(network, strength, head_strength):
    anchor = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith("head.")}

    def penalty(network):
        parameters = dict(network.named_parameters())
        away = sum((parameters[name] - held).square().sum() for name, held in anchor.items())
        head = sum(p.square().sum() for p in network.head.parameters())
        return strength / 2 * away + head_strength / 2 * head

    return penalty


# %% tags=["hidden"] task="09.1"
def draw_09_1(rng):
    """One of the two terms switched off, or both; a wider network."""
    return {
        "strength": float(rng.choice([0.0, 10.0])),
        "head_strength": float(rng.choice([0.0, 0.01, 10.0])),
        "width": int(rng.integers(2, 12)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="09.2"
# Distillation holds the old *answers*, on the images of the new task. **Write `keep_answers(teacher, images,
# student_logits, temperature)`**, the term that is added to the loss:
#
# - `teacher` is the network as the old task left it, an `nn.Module`; it turns `images`, a float tensor of shape `(n,
#   4)`, into the logits of the old classes, shape `(n, old)`. It may come in training mode;
# - `student_logits` is what the network that learns has just answered to the same images, with a graph, of shape `(n,
#   old + new)`: the old classes come first, then at least one new one;
# - `temperature` is a number above 0.
#
# Both are softened: $p = \text{softmax}(\text{teacher} / T)$, as the teacher answers in evaluation mode, and $q =
# \text{softmax}(\text{student} / T)$ over the old classes alone. Return, as a tensor of one number,
#
# $$T^2 \cdot \frac{1}{n} \sum_\text{images} \sum_\text{classes} p \,(\log p - \log q)$$
#
# Its gradient reaches the student's logits and nothing else. The teacher is only asked: its weights and statistics stay
# as they are. (In which mode you leave it does not matter; nobody else uses it.)


# %% tags=["answer"] task="09.2"
def keep_answers(teacher, images, student_logits, temperature):
    # BEGIN SOLUTION
    teacher.eval()
    with torch.no_grad():
        wanted = teacher(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")
    # END SOLUTION


# %% tags=["check"]
check("09.2", keep_answers)


# %% tags=["right"] task="09.2"
@torch.enable_grad()
def keep_answers(teacher, images, student_logits, temperature):
    """By the formula, with a copy of the teacher."""
    wanted = copy.deepcopy(teacher).eval()(images).detach()
    log_p = (wanted / temperature).log_softmax(dim=1)
    log_q = (student_logits[:, : wanted.shape[1]] / temperature).log_softmax(dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


# %% tags=["right"] task="09.2"
def keep_answers(teacher, images, student_logits, temperature):
    """By the cross-entropy, less the teacher's own entropy."""
    teacher.train(False)
    p = (teacher(images).detach() / temperature).softmax(dim=1)
    old = student_logits.narrow(1, 0, p.shape[1]) / temperature
    entropy = -torch.special.xlogy(p, p).sum() / len(p)
    return (F.cross_entropy(old, p) - entropy) * temperature * temperature


# %% tags=["wrong"] task="09.2" misconception="the teacher was in training mode"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="the teacher learns too"
def keep_answers(teacher, images, student_logits, temperature):
    wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="T squared is missing"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="the mean over classes too"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, p, reduction="none").mean()


# %% tags=["wrong"] task="09.2" misconception="the sum over the images"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images) / temperature
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, F.softmax(wanted, dim=1), reduction="sum")


# %% tags=["wrong"] task="09.2" misconception="only the student was softened"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, F.softmax(wanted, dim=1), reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="the divergence the other way round"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    log_p = F.log_softmax(wanted / temperature, dim=1)
    q = F.softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(log_p, q, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="the new outputs take part"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)[:, : wanted.shape[1]]
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="probabilities where logarithms belong"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    q = F.softmax(student_logits[:, : wanted.shape[1]] / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="only the teacher was softened"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(student_logits[:, : wanted.shape[1]], dim=1)
    return temperature**2 * F.kl_div(log_q, p, reduction="batchmean")


# %% tags=["wrong"] task="09.2" misconception="cross-entropy in the place of the divergence"
def keep_answers(teacher, images, student_logits, temperature):
    with torch.no_grad():
        wanted = teacher.eval()(images)
    p = F.softmax(wanted / temperature, dim=1)
    return temperature**2 * F.cross_entropy(student_logits[:, : wanted.shape[1]] / temperature, p)


# %% tags=["hidden"] task="09.2"
def draw_09_2(rng):
    """One image, a temperature of 1 or below, a teacher that comes in evaluation mode."""
    rows, training = int(rng.choice([1, 5])), bool(rng.integers(2))
    return {
        "images": rng.normal(size=(rows, 4)).astype(np.float32),
        "student_logits": rng.normal(size=(rows, int(rng.integers(3, 9)))).astype(np.float32),
        "temperature": float(rng.choice([0.5, 1.0, 10.0])),
        "training": training,
        "width": int(rng.integers(3, 9)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="09.3"
# Replay keeps a few old samples. Which? They come one by one, and how many there will be is not known. **Write
# `keep_some(stream, capacity, pick)`**: `stream` is an iterator over samples, which can be gone through once;
# `capacity`, a whole number, at least 1, is how many may be kept. Return the list of those that are kept, in any order:
# `capacity` of them, or all where there are fewer.
#
# In the end each sample must have had **the same chance** to be kept, the first as the last. And the buffer is all the
# memory that there is: besides the `capacity` samples in it you may hold the one that has just come.
#
# `pick(k)` returns a whole number from 0 to k - 1, each with the same chance; take your randomness from it alone. The
# check does not estimate chances: it goes through all that `pick` may return, and adds up. So pick once or twice a
# sample, and not among more numbers than needed.


# %% tags=["answer"] task="09.3"
def keep_some(stream, capacity, pick):
    # BEGIN SOLUTION
    buffer = []
    for t, sample in enumerate(stream):
        if t < capacity:
            buffer.append(sample)
            continue
        slot = pick(t + 1)
        if slot < capacity:
            buffer[slot] = sample
    return buffer
    # END SOLUTION


# %% tags=["check"]
check("09.3", keep_some)


# %% tags=["right"] task="09.3"
def keep_some(stream, capacity, pick):
    """Two draws: does it come in, and for whom?"""
    buffer = []
    for seen, sample in enumerate(stream, start=1):
        if len(buffer) < capacity:
            buffer.append(sample)
        elif pick(seen) >= seen - capacity:
            buffer[pick(capacity)] = sample
    return buffer


# %% tags=["right"] task="09.3"
def keep_some(stream, capacity, pick):
    """The beginning of a random order of all, in which each new sample gets a random place."""
    order = []
    for t, sample in enumerate(stream):
        order.insert(pick(t + 1), sample)
        del order[capacity:]
    return order


# %% tags=["wrong"] task="09.3" misconception="everything was held"
def keep_some(stream, capacity, pick):
    samples, kept = list(stream), []
    while samples and len(kept) < capacity:
        kept.append(samples.pop(pick(len(samples))))
    return kept


# %% tags=["wrong"] task="09.3" misconception="the buffer has another size"
def keep_some(stream, capacity, pick):
    buffer = []
    for t, sample in enumerate(stream):
        if t <= capacity:
            buffer.append(sample)
            continue
        slot = pick(t + 1)
        if slot < capacity:
            buffer[slot] = sample
    return buffer


# %% tags=["wrong"] task="09.3" misconception="off by one, for the newest"
def keep_some(stream, capacity, pick):
    buffer = []
    for t, sample in enumerate(stream):
        if t < capacity:
            buffer.append(sample)
            continue
        slot = pick(t)
        if slot < capacity:
            buffer[slot] = sample
    return buffer


# %% tags=["wrong"] task="09.3" misconception="off by one, against the newest"
def keep_some(stream, capacity, pick):
    buffer = []
    for t, sample in enumerate(stream, start=1):
        if t <= capacity:
            buffer.append(sample)
            continue
        slot = pick(t + 1)
        if slot < capacity:
            buffer[slot] = sample
    return buffer


# %% tags=["wrong"] task="09.3" misconception="the newest always gets in"
def keep_some(stream, capacity, pick):
    buffer = []
    for sample in stream:
        if len(buffer) < capacity:
            buffer.append(sample)
        else:
            buffer[pick(capacity)] = sample
    return buffer


# %% tags=["wrong"] task="09.3" misconception="each newcomer has the same chance to enter"
def keep_some(stream, capacity, pick):
    buffer = []
    for sample in stream:
        buffer.append(sample)
        if len(buffer) > capacity:
            buffer.pop(pick(len(buffer)))
    return buffer


# %% tags=["wrong"] task="09.3" misconception="one in so many, whatever fits"
def keep_some(stream, capacity, pick):
    kept = []
    for seen, sample in enumerate(stream, start=1):
        if len(kept) < capacity:
            kept.append(sample)
        elif pick(seen) == 0:
            kept[pick(capacity)] = sample
    return kept


# %% tags=["wrong"] task="09.3" misconception="the last ones are kept"
def keep_some(stream, capacity, pick):
    buffer = []
    for t, sample in enumerate(stream):
        if t < capacity:
            buffer.append(sample)
        else:
            buffer[t % capacity] = sample
    return buffer


# %% tags=["wrong"] task="09.3" misconception="the first ones are kept"
def keep_some(stream, capacity, pick):
    return list(itertools.islice(stream, capacity))


# %% tags=["wrong"] task="09.3" misconception="the oldest one has to leave"
def keep_some(stream, capacity, pick):
    buffer = []
    for t, sample in enumerate(stream):
        if t < capacity:
            buffer.append(sample)
        elif pick(t + 1) < capacity:
            buffer.pop(0)
            buffer.append(sample)
    return buffer


# %% tags=["hidden"] task="09.3"
def draw_09_3(rng):
    """Fewer samples than fit, exactly as many, a buffer of one, a single sample."""
    capacity = int(rng.integers(1, 4))
    return {"samples": int(rng.choice([1, capacity, capacity + 1, capacity + 3])), "capacity": capacity}


# %% [markdown] tags=["task"] task="09.4"
# Early stopping is two things: to stop, and to go back. **Write `keep_best(network, learn, validate, patience,
# epochs)`**: `network` is an `nn.Module` with a normalisation in it. `learn()` trains it for one epoch, in place, and
# returns nothing; `validate()` returns the validation loss of the network as it is, and changes nothing. Lower is
# better.
#
# Train, and validate after each epoch. Stop when `patience` epochs *in a row* have passed without a loss lower than the
# lowest before (an equal one is not lower), and after `epochs` epochs in any case; both are whole numbers, at least 1.
# Then the network must be in the whole state that it had after its best epoch, **however the training ended**. Return
# the number of that epoch, where the first one is 1. The untrained network is no candidate.


# %% tags=["answer"] task="09.4"
def keep_best(network, learn, validate, patience, epochs):
    # BEGIN SOLUTION
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch
    # END SOLUTION


# %% tags=["check"]
check("09.4", keep_best)


# %% tags=["right"] task="09.4"
def keep_best(network, learn, validate, patience, epochs):
    """Every state is kept; the list of losses says the rest."""
    losses, states = [], []
    while len(losses) < epochs and (not losses or len(losses) - 1 - int(np.argmin(losses)) < patience):
        learn()
        losses.append(validate())
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    best = losses.index(min(losses))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(states[best][name])
    return best + 1


# %% tags=["right"] task="09.4"
def keep_best(network, learn, validate, patience, epochs):
    """With a second network that is brought up to date, and a count of the patience that is left."""
    learn()
    best, best_epoch, spare, left = validate(), 1, copy.deepcopy(network), patience
    epoch = 1
    while left and epoch < epochs:
        epoch += 1
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, left = loss, epoch, patience
            spare.load_state_dict(network.state_dict())
        else:
            left -= 1
    network.load_state_dict(spare.state_dict())
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="only where it came to the stop"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            network.load_state_dict(kept)
            break
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="left in the last state"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, network.state_dict()
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="the statistics stayed behind"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, [p.detach().clone() for p in network.parameters()]
        if epoch - best_epoch >= patience:
            break
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), kept, strict=True):
            parameter.copy_(value)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="patience was counted in total"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept, waited = math.inf, 0, None, 0
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        else:
            waited += 1
        if waited >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="one epoch too many"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch > patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="an equal loss counts as lower"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss <= best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="compared with the epoch before"
def keep_best(network, learn, validate, patience, epochs):
    before, best_epoch, kept = math.inf, 0, None
    for epoch in range(1, epochs + 1):
        learn()
        loss = validate()
        if loss < before:
            best_epoch, kept = epoch, copy.deepcopy(network.state_dict())
        before = loss
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["wrong"] task="09.4" misconception="epochs counted from zero"
def keep_best(network, learn, validate, patience, epochs):
    best, best_epoch, kept = math.inf, 0, None
    for epoch in range(epochs):
        learn()
        loss = validate()
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    return best_epoch


# %% tags=["hidden"] task="09.4"
def draw_09_4(rng):
    """One epoch, losses that only rise or only fall, a plateau, a patience longer than the training."""
    epochs = int(rng.choice([1, 4, 9]))
    losses = (rng.integers(1, 6, epochs) / 4).tolist()
    kind = int(rng.integers(4))
    losses = [losses, sorted(losses), sorted(losses, reverse=True), [0.5] * epochs][kind]
    return {"losses": losses, "patience": int(rng.choice([1, 2, 20])), "epochs": epochs}


# %% [markdown] tags=["task"] task="09.5"
# Weight averaging looks for a place on the line from the weights before to the weights after. **Write `between(start,
# end, alpha)`**: `start` and `end` are state dicts of one network before and after the new task, dicts from names to
# tensors with the same names and shapes; `alpha` is the share of the way from `start` to `end`, a number from 0 to 1.
# Return the state at that place, a dict with the same names:
#
# - whatever is floating, weights and running statistics alike, lies on the straight line;
# - everything else, here whole numbers such as `num_batches_tracked`, has no middle: it is that of `start` where
#   `alpha` is below one half, and that of `end` otherwise.
#
# Each entry keeps its dtype. All tensors are new: none shares memory with one of `start` or `end`, and those two are
# not changed.
#
# When it works: suppose that the output of a layer, which is normalised, is `x` in the one network and `-x` in the
# other, with a variance of 1. What is its variance halfway, and what does the averaged `running_var` say?


# %% tags=["answer"] task="09.5"
def between(start, end, alpha):
    # BEGIN SOLUTION
    nearer = start if alpha < 0.5 else end
    return {
        name: torch.lerp(value, end[name], alpha) if value.is_floating_point() else nearer[name].clone()
        for name, value in start.items()
    }
    # END SOLUTION


# %% tags=["check"]
check("09.5", between)


# %% tags=["right"] task="09.5"
def between(start, end, alpha):
    state = copy.deepcopy(end if alpha >= 0.5 else start)
    for name, value in state.items():
        if value.dtype.is_floating_point:
            value.copy_((1 - alpha) * start[name] + alpha * end[name])
    return state


# %% tags=["right"] task="09.5"
def between(start, end, alpha):
    """In numpy, on the way there."""
    found = {}
    for name in start:
        a, b = start[name].numpy(), end[name].numpy()
        if np.issubdtype(a.dtype, np.floating):
            found[name] = torch.from_numpy((a + alpha * (b - a)).astype(a.dtype))
        else:
            found[name] = torch.tensor([a, b][alpha >= 0.5])
    return found


# %% tags=["wrong"] task="09.5" misconception="alpha the wrong way round"
def between(start, end, alpha):
    nearer = start if alpha < 0.5 else end
    return {
        name: torch.lerp(end[name], value, alpha) if value.is_floating_point() else nearer[name].clone()
        for name, value in start.items()
    }


# %% tags=["wrong"] task="09.5" misconception="beyond the end"
def between(start, end, alpha):
    nearer = start if alpha < 0.5 else end
    return {
        name: end[name] + alpha * (end[name] - value) if value.is_floating_point() else nearer[name].clone()
        for name, value in start.items()
    }


# %% tags=["wrong"] task="09.5" misconception="the statistics were left out"
def between(start, end, alpha):
    nearer = start if alpha < 0.5 else end
    found = {name: value.clone() for name, value in end.items()}
    for name, value in start.items():
        if not value.is_floating_point():
            found[name] = nearer[name].clone()
        elif name.endswith(("weight", "bias")):
            found[name] = torch.lerp(value, end[name], alpha)
    return found


# %% tags=["wrong"] task="09.5" misconception="the count was averaged"
def between(start, end, alpha):
    return {name: (1 - alpha) * value + alpha * end[name] for name, value in start.items()}


# %% tags=["wrong"] task="09.5" misconception="the middle taken for the start"
def between(start, end, alpha):
    mixed = {}
    for name, value in start.items():
        nearer = value if alpha <= 0.5 else end[name]
        mixed[name] = torch.lerp(value, end[name], alpha) if value.is_floating_point() else nearer.clone()
    return mixed


# %% tags=["wrong"] task="09.5" misconception="another precision"
def between(start, end, alpha):
    mixed = {}
    for name, value in start.items():
        nearer = value if alpha < 0.5 else end[name]
        floating = value.is_floating_point()
        mixed[name] = torch.lerp(value.float(), end[name].float(), alpha) if floating else nearer.clone()
    return mixed


# %% tags=["wrong"] task="09.5" misconception="whole numbers always from the same end"
def between(start, end, alpha):
    return {
        name: torch.lerp(value, end[name], alpha) if value.is_floating_point() else end[name].clone()
        for name, value in start.items()
    }


# %% tags=["wrong"] task="09.5" misconception="not a copy"
def between(start, end, alpha):
    nearer = start if alpha < 0.5 else end
    return {
        name: torch.lerp(value, end[name], alpha) if value.is_floating_point() else nearer[name]
        for name, value in start.items()
    }


# %% tags=["hidden"] task="09.5"
def draw_09_5(rng):
    """The two ends, the middle, and states that are the same."""

    def state(counted):
        return {
            "layer.weight": rng.normal(size=(2, 3)).astype(np.float32),
            "norm.running_mean": rng.normal(size=2).astype(np.float32),
            "norm.running_var": rng.uniform(0.1, 9.0, 2).astype(np.float32),
            "norm.num_batches_tracked": np.array(counted),
        }

    start = state(5)
    end = {name: value.copy() for name, value in start.items()} if rng.random() < 0.2 else state(12)
    return {"start": start, "end": end, "alpha": float(rng.choice([0.0, 0.25, 0.5, 1.0]))}


# %% [markdown] tags=["task"] task="09.6"
# At last the comparison. Each remedy has one value to set and was tried with three. **Write `frontier(trials,
# score)`**: `trials` is a dict from the name of a remedy to the list of its values; `score(remedy, value, split)`
# returns two numbers, `(old, new)`, the scores on the old and on the new task, higher is better; `split` is `"val"` or
# `"test"`.
#
# 1. For each remedy, choose the value with the highest sum of both scores on the *validation* split. (No two values of
#    one remedy have the same.)
# 2. Read the *test* split once for each remedy, for the value that was chosen.
# 3. With these test scores: a remedy is *beaten* if another one is at least as good on both tasks, and better on at
#    least one. On the frontier are those that no other beats. Two that are equal do not beat each other.
#
# Return two things: a dict from each remedy to its chosen value, and the list of the names on the frontier, in any
# order. (Where the check shows its input, `scores` holds what `score` gives for the values of each remedy in turn.)


# %% tags=["answer"] task="09.6"
def frontier(trials, score):
    # BEGIN SOLUTION
    chosen = {
        remedy: max(values, key=lambda value, remedy=remedy: sum(score(remedy, value, "val")))
        for remedy, values in trials.items()
    }
    points = {remedy: score(remedy, value, "test") for remedy, value in chosen.items()}

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]
    # END SOLUTION


# %% tags=["check"]
check("09.6", frontier)


# %% tags=["right"] task="09.6"
def frontier(trials, score):
    """With arrays: all pairs at once."""
    names, chosen = list(trials), {}
    for name in names:
        sums = [np.sum(score(name, value, "val")) for value in trials[name]]
        chosen[name] = trials[name][int(np.argmax(sums))]
    points = np.array([score(name, chosen[name], "test") for name in names])  # (remedies, 2)
    pairs = points[:, None] - points[None]  # (other, own, 2)
    beaten = ((pairs >= 0).all(axis=2) & (pairs > 0).any(axis=2)).any(axis=0)
    return chosen, [name for name, lost in zip(names, beaten, strict=True) if not lost]


# %% tags=["right"] task="09.6"
def frontier(trials, score):
    """By a walk from the best on the old task down: each step must be better on the new one than all before."""
    chosen = {}
    for remedy, values in trials.items():
        ranked = sorted(values, key=lambda value: np.mean(score(remedy, value, "val")))  # noqa: B023 - used at once
        chosen[remedy] = ranked[-1]
    points = {remedy: score(remedy, value, "test") for remedy, value in chosen.items()}
    stairs, highest = set(), -math.inf
    for old, new in sorted(set(points.values()), key=lambda point: (-point[0], -point[1])):
        if new > highest:
            stairs.add((old, new))
            highest = new
    return chosen, {remedy for remedy, point in points.items() if point in stairs}


# %% tags=["wrong"] task="09.6" misconception="the test set was used to choose"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "test"))) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="chosen by the new task alone"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: score(r, v, "val")[1]) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="chosen by the old task alone"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: score(r, v, "val")[0]) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="the test was opened for every trial"
def frontier(trials, score):
    chosen, points = {}, {}
    for remedy, values in trials.items():
        rows = [(sum(score(remedy, value, "val")), value, score(remedy, value, "test")) for value in values]
        _, chosen[remedy], points[remedy] = max(rows)

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="a frontier of validation scores"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "val"))) for r, values in trials.items()}
    points = {r: score(r, value, "val") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] >= b[0] and a[1] >= b[1] and a != b

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="values that were not chosen compete"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda value: sum(score(r, value, "val"))) for r, values in trials.items()}  # noqa: B023
    points = {(remedy, value): score(remedy, value, "test") for remedy in trials for value in trials[remedy]}

    def beaten(own):
        return any(a >= own[0] and b >= own[1] and (a, b) != own for a, b in points.values())

    return chosen, [remedy for remedy, value in chosen.items() if not beaten(points[remedy, value])]


# %% tags=["wrong"] task="09.6" misconception="only the best sum"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "val"))) for r, values in trials.items()}
    sums = {r: round(sum(score(r, value, "test")), 6) for r, value in chosen.items()}
    return chosen, [name for name, total in sums.items() if total == max(sums.values())]


# %% tags=["wrong"] task="09.6" misconception="beaten on one task is not beaten"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "val"))) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] > b[0] or a[1] > b[1]

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["wrong"] task="09.6" misconception="equal ones threw each other out"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "val"))) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return points[a][0] >= points[b][0] and points[a][1] >= points[b][1]

    return chosen, [b for b in points if not any(beats(a, b) for a in points if a != b)]


# %% tags=["wrong"] task="09.6" misconception="better on one and equal on the other is enough"
def frontier(trials, score):
    chosen = {r: max(values, key=lambda v, r=r: sum(score(r, v, "val"))) for r, values in trials.items()}
    points = {r: score(r, value, "test") for r, value in chosen.items()}

    def beats(a, b):
        return a[0] > b[0] and a[1] > b[1]

    return chosen, [name for name, own in points.items() if not any(beats(other, own) for other in points.values())]


# %% tags=["hidden"] task="09.6"
def draw_09_6(rng):
    """One remedy, all alike, one that beats everything, other numbers of values."""
    count, kind = int(rng.choice([1, 3, 6])), int(rng.integers(3))
    trials, scores = {}, {}
    for number in range(count):
        name, tried = f"remedy {number}", int(rng.integers(1, 5))
        order = rng.permutation(tried)
        trials[name] = [10.0 ** (k - 2) for k in range(tried)]
        test = [[0.5, 0.25]] * tried if kind == 0 else (rng.integers(1, 8, (tried, 2)) / 8).tolist()
        if kind == 1 and number == 0:
            test = [[1.0, 1.0]] * tried
        scores[name] = {"val": [[(k + 1) / 16, 0.5] for k in order.tolist()], "test": test}
    return {"trials": trials, "scores": scores}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **09.2.** The temperature's square keeps the size of the gradient: it is $T (q - p) / n$, and for high temperatures
# $q - p$ falls like $1 / T$. **09.3.** In a stream of 1,000 with a buffer of 25, one sample in forty is kept; with "the
# newest always gets in" the very first survives with $(24/25)^{975}$, which is nobody. **09.5.** Halfway the two
# outputs cancel: the variance is 0, and the averaged statistic says 1. That is why an average of statistics is a guess,
# and why the lesson's walk, whose statistics were frozen, could do without measuring them anew.

# %% tags=["solution"]
teacher, zeros = nn.Linear(4, 3).requires_grad_(False), torch.zeros(2, 4)
sizes = {}
for temperature in (10.0, 100.0):
    answers = torch.arange(8.0).reshape(2, 4).requires_grad_()
    keep_answers(teacher, zeros, answers, temperature).backward()
    sizes[temperature] = answers.grad.abs().max().item()
assert math.isclose(sizes[10.0], sizes[100.0], rel_tol=0.2)
assert len(keep_some(iter(range(1000)), 25, random.Random(0).randrange)) == 25
assert (24 / 25) ** 975 < 1e-17
halfway = between(
    {"out": torch.ones(1), "var": torch.ones(1)}, {"out": -torch.ones(1), "var": torch.ones(1)}, alpha=0.5
)
assert halfway["out"] == 0 and halfway["var"] == 1

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
