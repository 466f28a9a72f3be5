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
# # Exercises 10 · Elastic weight consolidation
#
# Six tasks: the Fisher information on paper and for any network, the penalty, where it ends and at which rate it
# explodes, and three questions that one network is asked. About an hour and a half; the first three are the core. Do
# lesson 10 before; a clinic with defects to find comes after.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("10.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="10.1"
# Softmax regression gives $p = \mathrm{softmax}(W x + b)$. Its Fisher information has one number for each weight,
#
# $$F_i = \mathbb{E}_x\, \mathbb{E}_{y \sim p(y \mid x)}
# \left[\left(\frac{\partial \log p(y \mid x)}{\partial \theta_i}\right)^2\right],$$
#
# and one for each bias, which the lesson left to you. **Write `softmax_fisher(W, b, x)`** with numpy, without automatic
# differentiation: `W` is an array of shape `(classes, d)`, `b` of shape `(classes,)`, `x` of shape `(n, d)`, one input
# in each row; the expectation over inputs is the mean over these. Return two arrays, `(F_W, F_b)`, of the shapes of `W`
# and `b`.
#
# When it works: what happens to both if one number of `x` is always 0? And if the model is certain of every input?


# %% tags=["answer"] task="10.1"
def softmax_fisher(W, b, x):
    # BEGIN SOLUTION
    logits = x @ W.T + b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    doubt = p * (1 - p)
    return doubt.T @ x**2 / len(x), doubt.mean(axis=0)
    # END SOLUTION


# %% tags=["check"]
check("10.1", softmax_fisher)


# %% tags=["right"] task="10.1"
def softmax_fisher(W, b, x):
    """As the definition says: samples, labels, classes."""
    F_W, F_b = np.zeros(W.shape), np.zeros(b.shape)
    for sample in x:
        logits = W @ sample + b
        p = np.exp(logits - np.logaddexp.reduce(logits))
        for label in range(len(b)):
            gradient = (np.arange(len(b)) == label) - p
            F_b += p[label] * gradient**2 / len(x)
            F_W += p[label] * np.outer(gradient, sample) ** 2 / len(x)
    return F_W, F_b


# %% tags=["right"] task="10.1"
def softmax_fisher(W, b, x):
    """A bias is the weight of an input that is always 1; the curvature of log-sum-exp, by differences."""
    ones = np.column_stack([x, np.ones(len(x))])
    logits = ones @ np.column_stack([W, b]).T
    doubt, step = np.zeros(logits.shape), 1e-4

    def log_sum(z):
        return np.logaddexp.reduce(z, axis=1)

    for k in range(len(b)):
        away = step * np.eye(len(b))[k]
        doubt[:, k] = (log_sum(logits + away) - 2 * log_sum(logits) + log_sum(logits - away)) / step**2
    both = np.einsum("nk,nj->kj", doubt, ones**2) / len(x)
    return both[:, :-1], both[:, -1]


# %% tags=["wrong"] task="10.1" misconception="a sum over the samples"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p /= p.sum(axis=1, keepdims=True)
    doubt = p * (1 - p)
    return doubt.T @ x**2, doubt.sum(axis=0)


# %% tags=["wrong"] task="10.1" misconception="the inputs were not squared"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p /= p.sum(axis=1, keepdims=True)
    doubt = p * (1 - p)
    return doubt.T @ x / len(x), doubt.mean(axis=0)


# %% tags=["wrong"] task="10.1" misconception="only the label that is the row's own"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p /= p.sum(axis=1, keepdims=True)
    square = p * (1 - p) ** 2
    return square.T @ x**2 / len(x), square.mean(axis=0)


# %% tags=["wrong"] task="10.1" misconception="every label counts alike"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p /= p.sum(axis=1, keepdims=True)
    square = np.mean([(np.eye(len(b))[label] - p) ** 2 for label in range(len(b))], axis=0)
    return square.T @ x**2 / len(x), square.mean(axis=0)


# %% tags=["wrong"] task="10.1" misconception="only the likeliest label"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p /= p.sum(axis=1, keepdims=True)
    square = (np.eye(len(b))[p.argmax(axis=1)] - p) ** 2
    return square.T @ x**2 / len(x), square.mean(axis=0)


# %% tags=["wrong"] task="10.1" misconception="the probabilities were averaged first"
def softmax_fisher(W, b, x):
    p = np.exp(x @ W.T + b)
    p = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
    return np.outer(p * (1 - p), (x**2).mean(axis=0)), p * (1 - p)


# %% tags=["hidden"] task="10.1"
def draw_10_1(rng):
    """One input, two classes, a number that is always 0, inputs of both signs, a model that is nearly certain."""
    classes, size, count = int(rng.integers(2, 6)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    x = rng.normal(size=(count, size)).round(2)
    x[:, 0] *= int(rng.integers(2))
    return {
        "W": (float(rng.choice([0.0, 1.0, 4.0])) * rng.normal(size=(classes, size))).round(2),
        "b": rng.normal(size=classes).round(2),
        "x": x,
    }


# %% [markdown] tags=["task"] task="10.2"
# The same for any network, by automatic differentiation. **Write `exact_fisher(network, x)`**: `network` is an
# `nn.Module` in evaluation mode that turns a float tensor of shape `(n, d)` into logits of shape `(n, classes)`, each
# row by itself; `x` has `n` rows, at least one. Return a dict from the name of each parameter *that requires a
# gradient* to its Fisher information, a tensor of the parameter's shape. No labels are given: none are needed.
#
# It may be slow: `n` times `classes` backward passes are fine here.


# %% tags=["answer"] task="10.2"
def exact_fisher(network, x):
    # BEGIN SOLUTION
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        for value in log_p:
            gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
            for name, gradient in zip(moving, gradients, strict=True):
                fisher[name] += value.detach().exp() * gradient**2 / len(x)
    return fisher
    # END SOLUTION


# %% tags=["check"]
check("10.2", exact_fisher)


# %% tags=["right"] task="10.2"
def exact_fisher(network, x):
    """With backward() and .grad, one sample and one label at a time."""
    fisher = {}
    for i in range(len(x)):
        probabilities = network(x[i : i + 1]).softmax(dim=1).detach()[0]
        for label, probability in enumerate(probabilities):
            network.zero_grad()
            F.cross_entropy(network(x[i : i + 1]), torch.tensor([label])).backward()
            for name, parameter in network.named_parameters():
                if parameter.requires_grad:
                    fisher[name] = fisher.get(name, 0) + probability * parameter.grad**2
    network.zero_grad()
    return {name: value / len(x) for name, value in fisher.items()}


# %% tags=["right"] task="10.2"
def exact_fisher(network, x):
    """The gradient of log p(y|x) is that of the logit y less the mean one: its square, on average, is a variance."""
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    logits = network(x)
    p = logits.softmax(dim=1).detach()
    fisher = {}
    for name, value in moving.items():
        rows = [
            torch.stack([torch.autograd.grad(logit, value, retain_graph=True)[0] for logit in row]) for row in logits
        ]
        slopes = torch.stack(rows).flatten(2)  # (n, classes, weights)
        mean = torch.einsum("nk,nkw->nw", p, slopes)
        spread = torch.einsum("nk,nkw->nw", p, (slopes - mean[:, None]) ** 2)
        fisher[name] = spread.mean(dim=0).view_as(value)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="what is frozen was counted too"
def exact_fisher(network, x):
    fisher = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        for value in log_p:
            gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
            for name, gradient in zip(moving, gradients, strict=True):
                fisher[name] += value.detach().exp() * gradient**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="only the likeliest label"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        gradients = torch.autograd.grad(log_p.max(), list(moving.values()))
        for name, gradient in zip(moving, gradients, strict=True):
            fisher[name] += gradient**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="averaged before it was squared"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        expected = (log_p.exp().detach() * log_p).sum()
        gradients = torch.autograd.grad(expected, list(moving.values()))
        for name, gradient in zip(moving, gradients, strict=True):
            fisher[name] += gradient**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="the mean over the samples came before the square"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    log_p = network(x).log_softmax(dim=1)
    for value in (log_p.exp().detach() * log_p).mean(dim=0):
        gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
        for name, gradient in zip(moving, gradients, strict=True):
            fisher[name] += gradient**2
    return fisher


# %% tags=["wrong"] task="10.2" misconception="the probability was squared too"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        for value in log_p.exp().detach() * log_p:
            gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
            for name, gradient in zip(moving, gradients, strict=True):
                fisher[name] += gradient**2 / len(x)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="every label counts alike"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        for value in log_p:
            gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
            for name, gradient in zip(moving, gradients, strict=True):
                fisher[name] += gradient**2 / len(x) / len(log_p)
    return fisher


# %% tags=["wrong"] task="10.2" misconception="a sum over the samples"
def exact_fisher(network, x):
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    fisher = {name: torch.zeros_like(value) for name, value in moving.items()}
    for sample in x:
        log_p = network(sample[None])[0].log_softmax(dim=0)
        for value in log_p:
            gradients = torch.autograd.grad(value, list(moving.values()), retain_graph=True)
            for name, gradient in zip(moving, gradients, strict=True):
                fisher[name] += value.detach().exp() * gradient**2
    return fisher


# %% tags=["hidden"] task="10.2"
def draw_10_2(rng):
    """One sample, two classes, nothing frozen."""
    return {
        "x": rng.normal(size=(int(rng.choice([1, 7])), 3)).round(2).astype(np.float32),
        "width": int(rng.integers(1, 5)),
        "classes": int(rng.choice([2, 5])),
        "frozen": "",
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="10.3"
# **Write `ewc_loss(network, anchor, fisher, strength)`**, the term that EWC adds to the loss of a new task. `network`
# is an `nn.Module` while it learns the new task. `anchor` is a dict from the name of every parameter of an *old*
# network to that parameter itself: a copy that was made after the old task. `fisher` is a dict from the names of *some*
# of them, at least one, to tensors of their shape; what it does not name is free. `strength` is a number, 0 or more.
# Return
#
# $$\frac{\lambda}{2} \sum_i F_i\, (\theta_i - \theta^*_i)^2$$
#
# as one number in a tensor, on which `backward()` can be called: it must reach the parameters of `network` that
# `fisher` names, and nothing in `anchor`. The old network is not there to learn.


# %% tags=["answer"] task="10.3"
def ewc_loss(network, anchor, fisher, strength):
    # BEGIN SOLUTION
    now, total = dict(network.named_parameters()), 0.0
    for name, importance in fisher.items():
        total = total + (importance * (now[name] - anchor[name].detach()) ** 2).sum()
    return strength / 2 * total
    # END SOLUTION


# %% tags=["check"]
check("10.3", ewc_loss)


# %% tags=["right"] task="10.3"
def ewc_loss(network, anchor, fisher, strength):
    """All in one row of numbers."""
    held = [(name, value) for name, value in network.named_parameters() if name in fisher]
    now = torch.cat([value.flatten() for _, value in held])
    with torch.no_grad():
        then = torch.cat([anchor[name].flatten() for name, _ in held])
        importance = torch.cat([fisher[name].flatten() for name, _ in held])
    away = now - then
    return 0.5 * strength * torch.dot(importance * away, away)


# %% tags=["right"] task="10.3"
def ewc_loss(network, anchor, fisher, strength):
    """As a squared error, weighted by the roots."""
    parts = []
    for name, importance in fisher.items():
        root = (strength * importance).sqrt()
        now = network.get_parameter(name)
        parts.append(F.mse_loss(root * now, root * anchor[name].data, reduction="sum") / 2)
    return torch.stack(parts).sum()


# %% tags=["wrong"] task="10.3" misconception="a number without a gradient"
def ewc_loss(network, anchor, fisher, strength):
    now, total = dict(network.named_parameters()), 0.0
    for name, importance in fisher.items():
        total += (importance * (now[name] - anchor[name]) ** 2).sum().item()
    return torch.tensor(strength / 2 * total)


# %% tags=["wrong"] task="10.3" misconception="a gradient reaches the anchor"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength / 2 * sum((fisher[name] * (now[name] - anchor[name]) ** 2).sum() for name in fisher)


# %% tags=["wrong"] task="10.3" misconception="the half is missing"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength * sum((fisher[name] * (now[name] - anchor[name].detach()) ** 2).sum() for name in fisher)


# %% tags=["wrong"] task="10.3" misconception="a mean over the weights"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength / 2 * sum((fisher[name] * (now[name] - anchor[name].detach()) ** 2).mean() for name in fisher)


# %% tags=["wrong"] task="10.3" misconception="matched by place"
def ewc_loss(network, anchor, fisher, strength):
    total = 0.0
    for now, old, importance in zip(network.parameters(), anchor.values(), fisher.values(), strict=False):
        if importance.shape == now.shape:
            total = total + (importance * (now - old.detach()) ** 2).sum()
    return strength / 2 * total


# %% tags=["wrong"] task="10.3" misconception="every weight held alike"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength / 2 * sum(((now[name] - anchor[name].detach()) ** 2).sum() for name in fisher)


# %% tags=["wrong"] task="10.3" misconception="pulled to zero"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength / 2 * sum((fisher[name] * now[name] ** 2).sum() for name in fisher)


# %% tags=["wrong"] task="10.3" misconception="the Fisher information was squared too"
def ewc_loss(network, anchor, fisher, strength):
    now = dict(network.named_parameters())
    return strength / 2 * sum(((fisher[name] * (now[name] - anchor[name].detach())) ** 2).sum() for name in fisher)


# %% tags=["hidden"] task="10.3"
def draw_10_3(rng):
    """A single tensor, all of them, weights without any importance, strength 0."""
    shapes = {"hidden.weight": (2, 2), "hidden.bias": (2,), "head.weight": (2, 2), "head.bias": (2,)}
    names = list(shapes) if rng.integers(2) else [str(rng.choice(list(shapes)))]
    return {
        "fisher": {
            name: (rng.integers(0, 2, shapes[name]) * rng.uniform(0, 3, shapes[name])).astype(np.float32)
            for name in names
        },
        "strength": float(rng.choice([0.0, 0.5, 100.0])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="10.4"
# Several tasks in turn, each a bowl whose axes are the weights: the loss of task $t$ is
# $\tfrac12 \sum_i h_{ti} (w_i - b_{ti})^2$. The first task is learnt to its optimum. Each later one is learnt together
# with one penalty, $\tfrac{\lambda}{2} \sum_i F_i (w_i - a_i)^2$, to the minimum of the sum. This is *online* EWC: the
# anchor $a$ is where the weights were when the last task ended. After each task, what was kept fades, and the task's
# own curvature is added: $F \leftarrow \gamma F + h_t$, with $F = h_1$ after the first.
#
# **Write `online_ewc(optima, curvatures, strength, gamma)`**: `optima` and `curvatures` are numpy arrays of shape `(T,
# n)`, that is $b$ and $h$, a row for each task, all curvatures above 0; `strength` is $\lambda$, 0 or more; `gamma` is
# a number from 0 to 1. Return an array of shape `(T, n)`: row $t$ holds the weights after task $t$.
#
# When it works, compare its last row with the joint optimum, the minimum of the sum of all losses. Which `strength` and
# `gamma` reach it? Why does nothing old have to be kept for that but two rows of numbers?


# %% tags=["answer"] task="10.4"
def online_ewc(optima, curvatures, strength, gamma):
    # BEGIN SOLUTION
    w, fisher, weights = optima[0], curvatures[0], [optima[0]]
    for b, h in zip(optima[1:], curvatures[1:], strict=True):
        w = (h * b + strength * fisher * w) / (h + strength * fisher)
        fisher = gamma * fisher + h
        weights.append(w)
    return np.stack(weights)
    # END SOLUTION


# %% tags=["check"]
check("10.4", online_ewc)


# %% tags=["right"] task="10.4"
def online_ewc(optima, curvatures, strength, gamma):
    """Newton's step, which lands in the minimum of a bowl; the Fisher information summed anew for each task."""
    weights = optima.copy()
    for t in range(1, len(optima)):
        ages = np.arange(t)[::-1]
        pull = strength * (gamma**ages @ curvatures[:t])
        slope = curvatures[t] * (weights[t - 1] - optima[t])  # the penalty has none at its anchor
        weights[t] = weights[t - 1] - slope / (curvatures[t] + pull)
    return weights


# %% tags=["right"] task="10.4"
def online_ewc(optima, curvatures, strength, gamma):
    """Weight by weight, as a walk towards the new optimum that the penalty ends early."""
    rows = [[float(value) for value in optima[0]]]
    kept = [float(value) for value in curvatures[0]]
    for t in range(1, len(optima)):
        row = []
        for i, last in enumerate(rows[-1]):
            share = 1 / (1 + strength * kept[i] / curvatures[t][i])
            row.append(last + share * (optima[t][i] - last))
            kept[i] = gamma * kept[i] + curvatures[t][i]
        rows.append(row)
    return np.array(rows)


# %% tags=["wrong"] task="10.4" misconception="the joint optimum, whatever the knobs"
def online_ewc(optima, curvatures, strength, gamma):
    return np.cumsum(curvatures * optima, axis=0) / np.cumsum(curvatures, axis=0)


# %% tags=["wrong"] task="10.4" misconception="half the pull"
def online_ewc(optima, curvatures, strength, gamma):
    w, fisher, weights = optima[0], curvatures[0], [optima[0]]
    for b, h in zip(optima[1:], curvatures[1:], strict=True):
        w = (h * b + strength / 2 * fisher * w) / (h + strength / 2 * fisher)
        fisher = gamma * fisher + h
        weights.append(w)
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="the new Fisher information faded too"
def online_ewc(optima, curvatures, strength, gamma):
    w, fisher, weights = optima[0], curvatures[0], [optima[0]]
    for b, h in zip(optima[1:], curvatures[1:], strict=True):
        w = (h * b + strength * fisher * w) / (h + strength * fisher)
        fisher = gamma * (fisher + h)
        weights.append(w)
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="only the last task is held"
def online_ewc(optima, curvatures, strength, gamma):
    w, weights = optima[0], [optima[0]]
    for t in range(1, len(optima)):
        fisher = curvatures[t - 1]
        w = (curvatures[t] * optima[t] + strength * fisher * w) / (curvatures[t] + strength * fisher)
        weights.append(w)
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="added before it was learnt"
def online_ewc(optima, curvatures, strength, gamma):
    weights, fisher = [optima[0]], curvatures[0]
    for own, optimum in zip(curvatures[1:], optima[1:], strict=True):
        fisher = gamma * fisher + own
        weights.append((own * optimum + strength * fisher * weights[-1]) / (own + strength * fisher))
    return np.array(weights)


# %% tags=["wrong"] task="10.4" misconception="a moving average"
def online_ewc(optima, curvatures, strength, gamma):
    weights, fisher = [optima[0]], curvatures[0]
    for own, optimum in zip(curvatures[1:], optima[1:], strict=True):
        weights.append((own * optimum + strength * fisher * weights[-1]) / (own + strength * fisher))
        fisher = gamma * fisher + (1 - gamma) * own
    return np.array(weights)


# %% tags=["wrong"] task="10.4" misconception="only the first task is held"
def online_ewc(optima, curvatures, strength, gamma):
    weights, fisher = [optima[0]], curvatures[0]
    for own, optimum in zip(curvatures[1:], optima[1:], strict=True):
        weights.append((own * optimum + strength * fisher * weights[-1]) / (own + strength * fisher))
    return np.array(weights)


# %% tags=["wrong"] task="10.4" misconception="nothing fades"
def online_ewc(optima, curvatures, strength, gamma):
    w, weights = optima[0], [optima[0]]
    for t in range(1, len(optima)):
        fisher = curvatures[:t].sum(axis=0)
        w = (curvatures[t] * optima[t] + strength * fisher * w) / (curvatures[t] + strength * fisher)
        weights.append(w)
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="the oldest anchor was kept"
def online_ewc(optima, curvatures, strength, gamma):
    fisher, weights = curvatures[0], [optima[0]]
    for b, h in zip(optima[1:], curvatures[1:], strict=True):
        weights.append((h * b + strength * fisher * optima[0]) / (h + strength * fisher))
        fisher = gamma * fisher + h
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="anchored at an optimum that was never reached"
def online_ewc(optima, curvatures, strength, gamma):
    fisher, weights = curvatures[0], [optima[0]]
    for t in range(1, len(optima)):
        b, h = optima[t], curvatures[t]
        weights.append((h * b + strength * fisher * optima[t - 1]) / (h + strength * fisher))
        fisher = gamma * fisher + h
    return np.stack(weights)


# %% tags=["wrong"] task="10.4" misconception="a penalty for each task"
def online_ewc(optima, curvatures, strength, gamma):
    weights = [optima[0]]
    for t in range(1, len(optima)):
        above, below = curvatures[t] * optima[t], curvatures[t].copy()
        for h, w in zip(curvatures, weights, strict=False):
            above, below = above + strength * h * w, below + strength * h
        weights.append(above / below)
    return np.stack(weights)


# %% tags=["hidden"] task="10.4"
def draw_10_4(rng):
    """One task, two, many; the ends of the ranges of strength and gamma."""
    shape = (int(rng.choice([1, 2, 6])), int(rng.integers(1, 4)))
    return {
        "optima": rng.normal(size=shape),
        "curvatures": rng.uniform(0.1, 5, shape),
        "strength": float(rng.choice([0.0, 1.0, 100.0])),
        "gamma": float(rng.choice([0.0, 0.5, 1.0])),
    }


# %% [markdown] tags=["task"] task="10.5"
# Some tasks were learnt, each left a penalty $\tfrac{\lambda}{2} \sum_i F_i (w_i - a_i)^2$ with an anchor of its own,
# and plain gradient descent runs on the new loss plus all of them, $w \leftarrow w - \eta\,\nabla L(w)$. All terms are
# bowls whose axes are the weights. **Write `largest_rate(curvature, fishers, strength)`**: below which rate $\eta$ does
# it *not* explode, wherever it starts?
#
# - `curvature` is a dict from the name of *every* tensor to the new loss's curvature, a numpy array; it is 0 for a head
#   that the new task does not use;
# - `fishers` is a list of dicts, one for each earlier task, from the names of *some* of the tensors to arrays of the
#   same shape;
# - `strength` is $\lambda$, one number for all penalties. At least one curvature of the sum is above 0.
#
# Return two things: the rate, a number, and the name of the tensor that explodes first.
#
# When it works: the lesson's strength is 10,000, and the largest Fisher information of its softmax regression is about
# 0.03. Which rate is left to plain gradient descent? What about five such tasks? Why does Adam not mind?


# %% tags=["answer"] task="10.5"
def largest_rate(curvature, fishers, strength):
    # BEGIN SOLUTION
    steepest = {
        name: (own + strength * sum(fisher[name] for fisher in fishers if name in fisher)).max()
        for name, own in curvature.items()
    }
    name = max(steepest, key=steepest.get)
    return 2 / steepest[name], name
    # END SOLUTION


# %% tags=["check"]
check("10.5", largest_rate)


# %% tags=["right"] task="10.5"
def largest_rate(curvature, fishers, strength):
    """By trying: a step from 1, with the anchor at 0, and the rate halved in on where it stops shrinking."""

    def gradient(name, w):
        slope = curvature[name] * w
        for fisher in fishers:
            if name in fisher:
                slope = slope + strength * fisher[name] * w
        return slope

    def exploding(rate):
        found = {}
        for name, own in curvature.items():
            w = np.ones(own.shape)
            found[name] = np.abs(w - rate * gradient(name, w)).max()
        worst = max(found, key=found.get)
        return worst if found[worst] > 1 else None

    low, high = 0.0, 1.0
    while exploding(high) is None:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if exploding(middle) else (middle, high)
    return high, exploding(high * (1 + 1e-9))


# %% tags=["right"] task="10.5"
def largest_rate(curvature, fishers, strength):
    """In place, then one look over all weights."""
    total = {name: np.array(own, dtype=float) for name, own in curvature.items()}
    for fisher in fishers:
        for name in fisher:
            total[name] += strength * fisher[name]
    limits = [(2 / value, name) for name, values in total.items() for value in values.flat if value > 0]
    return min(limits)


# %% tags=["wrong"] task="10.5" misconception="the rate without overshooting"
def largest_rate(curvature, fishers, strength):
    steepest = {
        name: (own + strength * sum(fisher[name] for fisher in fishers if name in fisher)).max()
        for name, own in curvature.items()
    }
    name = max(steepest, key=steepest.get)
    return 1 / steepest[name], name


# %% tags=["wrong"] task="10.5" misconception="the penalty alone"
def largest_rate(curvature, fishers, strength):
    steepest = {
        name: (0 * own + strength * sum(fisher[name] for fisher in fishers if name in fisher)).max()
        for name, own in curvature.items()
    }
    name = max(steepest, key=steepest.get)
    return 2 / steepest[name], name


# %% tags=["wrong"] task="10.5" misconception="the half was kept"
def largest_rate(curvature, fishers, strength):
    steepest = {
        name: (own + strength / 2 * sum(fisher[name] for fisher in fishers if name in fisher)).max()
        for name, own in curvature.items()
    }
    name = max(steepest, key=steepest.get)
    return 2 / steepest[name], name


# %% tags=["wrong"] task="10.5" misconception="only the newest penalty"
def largest_rate(curvature, fishers, strength):
    steepest = {name: (own + strength * fishers[-1].get(name, 0)).max() for name, own in curvature.items()}
    name = max(steepest, key=steepest.get)
    return 2 / steepest[name], name


# %% tags=["wrong"] task="10.5" misconception="only what every task names"
def largest_rate(curvature, fishers, strength):
    total = {
        name: value + strength * sum(fisher[name] for fisher in fishers)
        for name, value in curvature.items()
        if all(name in fisher for fisher in fishers)
    }
    steepest = max(total, key=lambda name: total[name].max())
    return 2 / total[steepest].max(), steepest


# %% tags=["wrong"] task="10.5" misconception="stable on average"
def largest_rate(curvature, fishers, strength):
    steepest = {
        name: (own + strength * sum(fisher[name] for fisher in fishers if name in fisher)).mean()
        for name, own in curvature.items()
    }
    name = max(steepest, key=steepest.get)
    return 2 / steepest[name], name


# %% tags=["wrong"] task="10.5" misconception="the maxima were added"
def largest_rate(curvature, fishers, strength):
    own = {name: values.max() for name, values in curvature.items()}
    held = sum(max(values.max() for values in fisher.values()) for fisher in fishers)
    return 2 / (max(own.values()) + strength * held), max(own, key=own.get)


# %% tags=["hidden"] task="10.5"
def draw_10_5(rng):
    """No earlier task, one, many; strength 0; a tensor of one weight, and one with two axes."""
    shapes = {"one": (1,), "wide": (2, 3), "unused": (2,)}
    return {
        "curvature": {name: rng.uniform(0.5, 3, shape) * (name != "unused") for name, shape in shapes.items()},
        "fishers": [
            {name: rng.uniform(0, 3, shapes[name]) for name in ("wide", "unused")[: int(rng.integers(1, 3))]}
            for _ in range(int(rng.choice([0, 1, 5])))
        ],
        "strength": float(rng.choice([0.0, 1.0, 1000.0])),
    }


# %% [markdown] tags=["task"] task="10.6"
# Classes were learnt some at a time: a network has one output for each class, and the outputs of a task stand together,
# in the order in which the tasks came. Class `c` belongs to task `c // per_task`, counted from 0, and is number `c %
# per_task` within it. **Write `three_scores(logits, labels, per_task)`**: `logits` is a numpy array of shape `(n,
# classes)`, `labels` an array of `n` classes, `per_task` a whole number that divides `classes`; there are at least two
# tasks, and samples of an earlier task than the last. No two logits of a row are equal. Return a dict of four numbers,
# each a share of samples from 0 to 1:
#
# - `"task"`: right, if the task is told, so that only the outputs of the sample's own task may answer;
# - `"class"`: right, if all outputs may answer and the class is asked;
# - `"domain"`: right, if all outputs may answer, and only the number *within its task* is asked, whichever task the
#   answer is from;
# - `"newest"`: among the samples of *all tasks but the last*, the share for which the largest of all logits is one of
#   the *last* task's.
#
# When it works, take a network that scores well on all three, and add 10 to the outputs of the last task, as a bias
# would. Which scores fall, and which cannot?


# %% tags=["answer"] task="10.6"
def three_scores(logits, labels, per_task):
    # BEGIN SOLUTION
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels % per_task).mean(),
        "class": (best == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1)[labels // per_task < tasks - 1].mean(),
    }
    # END SOLUTION


# %% tags=["check"]
check("10.6", three_scores)


# %% tags=["right"] task="10.6"
def three_scores(logits, labels, per_task):
    """By masking what may not answer."""
    owner = np.arange(logits.shape[1]) // per_task
    told = np.where(owner == owner[labels][:, None], logits, -np.inf)
    best, last = logits.argmax(axis=1), owner.max()
    old = owner[labels] != last
    return {
        "task": np.mean(told.argmax(axis=1) == labels),
        "class": np.mean(best == labels),
        "domain": np.mean((best - labels) % per_task == 0),
        "newest": np.sum(old & (owner[best] == last)) / old.sum(),
    }


# %% tags=["right"] task="10.6"
def three_scores(logits, labels, per_task):
    """One sample after the other."""
    count = {"task": 0, "class": 0, "domain": 0, "newest": 0}
    earlier, start_of_last = 0, logits.shape[1] - per_task
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        first = label - label % per_task
        mine = row[first : first + per_task]
        answer = row.index(max(row))
        count["task"] += mine.index(max(mine)) + first == label
        count["class"] += answer == label
        count["domain"] += answer % per_task == label % per_task
        if label < start_of_last:
            earlier += 1
            count["newest"] += answer >= start_of_last
    return {name: value / (earlier if name == "newest" else len(labels)) for name, value in count.items()}


# %% tags=["wrong"] task="10.6" misconception="every output may answer, though the task is told"
def three_scores(logits, labels, per_task):
    tasks, best = logits.shape[1] // per_task, logits.argmax(axis=1)
    return {
        "task": (best == labels).mean(),
        "class": (best == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1)[labels // per_task < tasks - 1].mean(),
    }


# %% tags=["wrong"] task="10.6" misconception="the task was told where it must not be"
def three_scores(logits, labels, per_task):
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels % per_task).mean(),
        "class": (own.argmax(axis=1) + labels // per_task * per_task == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1)[labels // per_task < tasks - 1].mean(),
    }


# %% tags=["wrong"] task="10.6" misconception="the domain was told"
def three_scores(logits, labels, per_task):
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels % per_task).mean(),
        "class": (best == labels).mean(),
        "domain": (own.argmax(axis=1) == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1)[labels // per_task < tasks - 1].mean(),
    }


# %% tags=["wrong"] task="10.6" misconception="the offset was forgotten"
def three_scores(logits, labels, per_task):
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels).mean(),
        "class": (best == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1)[labels // per_task < tasks - 1].mean(),
    }


# %% tags=["wrong"] task="10.6" misconception="samples of the last task counted as outbid"
def three_scores(logits, labels, per_task):
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels % per_task).mean(),
        "class": (best == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": (best // per_task == tasks - 1).mean(),
    }


# %% tags=["wrong"] task="10.6" misconception="divided by all samples"
def three_scores(logits, labels, per_task):
    tasks, best, rows = logits.shape[1] // per_task, logits.argmax(axis=1), np.arange(len(logits))
    own = logits.reshape(len(logits), tasks, per_task)[rows, labels // per_task]
    return {
        "task": (own.argmax(axis=1) == labels % per_task).mean(),
        "class": (best == labels).mean(),
        "domain": (best % per_task == labels % per_task).mean(),
        "newest": ((best // per_task == tasks - 1) & (labels // per_task < tasks - 1)).mean(),
    }


# %% tags=["hidden"] task="10.6"
def draw_10_6(rng):
    """Two tasks, tasks of one class, one sample, no sample of the last task."""
    tasks, size, count = int(rng.choice([2, 5])), int(rng.integers(1, 4)), int(rng.choice([1, 6]))
    return {
        "logits": rng.normal(size=(count, tasks * size)),
        "labels": rng.integers(0, (tasks - 1) * size, count),
        "per_task": size,
    }


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **10.1.** A number that is always 0 makes its column of the first array 0: nothing that is seen depends on these
# weights, and they are room for a new task. It does nothing to the biases. A certain model has nothing to tell: both
# arrays go to 0, and EWC would hold nothing, however well the task is learnt. There is more that the diagonal does not
# know. Add one number to *all* biases, and no probability changes; each bias by itself is minded all the same.

# %% tags=["solution"]
from tlcourse import fisher_diagonal, stability

rng = np.random.default_rng(0)
W, b, x = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(50, 4))
x[:, 2] = 0
F_W, F_b = softmax_fisher(W, b, x)
assert np.all(F_W[:, 2] == 0) and np.all(F_b > 0.01)
assert softmax_fisher(100 * W, 100 * b, x)[1].max() < F_b.max() / 3
layer = nn.Linear(4, 3).double()
with torch.no_grad():
    layer.weight.copy_(torch.from_numpy(W))
    layer.bias.copy_(torch.from_numpy(b))
library = fisher_diagonal(layer, torch.from_numpy(x))
assert np.allclose(F_W, library["weight"]) and np.allclose(F_b, library["bias"])
found = exact_fisher(layer, torch.from_numpy(x))
assert all(torch.allclose(found[name], library[name]) for name in library)  # 10.2 on the same model


def probabilities(b):
    odds = np.exp(x @ W.T + b)
    return odds / odds.sum(axis=1, keepdims=True)


assert np.allclose(probabilities(b), probabilities(b + 1))

# %% [markdown] tags=["solution"]
# **10.4.** With strength 1 and gamma 1, and with no other pair on all tasks, the last row is the joint optimum: an
# anchor and a curvature say all that there is to say of a sum of bowls. With a gamma below 1 the first task fades; with
# a larger strength the first task weighs more than the others.

# %% tags=["solution"]
optima, curvatures = rng.normal(size=(4, 3)), rng.uniform(0.5, 3, (4, 3))
joint = (curvatures * optima).sum(axis=0) / curvatures.sum(axis=0)
assert np.allclose(online_ewc(optima, curvatures, 1.0, 1.0)[-1], joint)
assert not np.allclose(online_ewc(optima, curvatures, 1.0, 0.5)[-1], joint)
assert not np.allclose(online_ewc(optima, curvatures, 5.0, 1.0)[-1], joint)

# %% [markdown] tags=["solution"]
# **10.5.** At strength 10,000 and a largest F of 0.03, the rate must be below 2 / 300, about 0.007; five tasks that
# mind the same weight as much leave a fifth of it. Adam divides by the size of the gradient: however steep a bowl is, a
# step is about as long as the rate, so that it swings around the anchor in steps of that size, and does not explode.
# The library's `stability` warns of it.

# %% tags=["solution"]
rate, name = largest_rate({"w": np.zeros(1)}, [{"w": np.array([0.03])}], 10_000.0)
assert np.isclose(rate, 2 / 300) and name == "w"
assert np.isclose(stability({"w": torch.tensor([0.03])}, lr=rate, strength=10_000.0), 2.0)

# %% [markdown] tags=["solution"]
# **10.6.** `task` cannot fall: the outputs of a task are compared with one another alone, and what is added to all of
# them cancels. `class` falls to the share of samples that the last task has, which is one in five for five tasks: the
# number that the lesson measured, for plain training and for EWC alike. No old weight had to move for it, so that no
# penalty on old weights could have prevented it.

# %% tags=["solution"]
labels = np.arange(10).repeat(20)
logits = rng.normal(size=(200, 10))
logits[np.arange(200), labels] += 4
before = three_scores(logits, labels, 2)
logits[:, -2:] += 10
after = three_scores(logits, labels, 2)
assert before["class"] > 0.8 and np.isclose(before["task"], after["task"])
assert after["class"] <= 0.2 and after["newest"] > 0.99

# %% [markdown]
# ## Where you are
#
# In a terminal, `python -m tlcourse progress` shows the same.

# %%
progress()
