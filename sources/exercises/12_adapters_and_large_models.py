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
# # Exercises 12 · Adapters and large models
#
# Five tasks on what a large model asks for: LoRA by hand, what merging it rounds away, the largest rank that memory
# allows, perplexity counted by token, and a head that is its own embedding. About an hour and a quarter. Do lesson 12
# before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("12.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="12.1"
# LoRA leaves a layer $Wx + b$ as it is and trains a product of two thin matrices beside it:
#
# $$Wx + b + \frac{\alpha}{r}\, B A x$$
#
# **Write the class `LoRA`**, an `nn.Module` made by `LoRA(layer, rank, alpha)`: `layer` is an `nn.Linear`, with or
# without a bias; `rank` is a whole number, at least 1; `alpha` is a number. What it needs:
#
# - two parameters (`nn.Parameter`), `self.A` of shape `(rank, layer.in_features)` and `self.B` of shape
#   `(layer.out_features, rank)`. B starts at zero, and A at random, no number of it zero: then the module computes at
#   the start what the layer computes, and can learn nevertheless;
# - they are the only parameters of the module that can be trained: no gradient reaches the layer's own tensors;
# - `forward(x)` takes floats of shape `(..., layer.in_features)` and returns what the formula says.
#
# The check looks at the start, then writes numbers of its own into A and B and looks again.


# %% tags=["answer"] task="12.1"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        # BEGIN SOLUTION
        self.layer = layer.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.scale = alpha / rank
        # END SOLUTION

    def forward(self, x):
        # BEGIN SOLUTION
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)
        # END SOLUTION


# %% tags=["check"]
check("12.1", LoRA)


# %% tags=["right"] task="12.1"
class LoRA(nn.Module):
    """The layer's tensors as buffers, one product of weights, one call."""

    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.register_buffer("weight", layer.weight.detach())
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        self.A = nn.Parameter(torch.empty(rank, layer.in_features).uniform_(0.1, 0.2))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.alpha, self.rank = alpha, rank

    def forward(self, x):
        return F.linear(x, self.weight + self.alpha / self.rank * (self.B @ self.A), self.bias)


# %% tags=["right"] task="12.1"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        for parameter in layer.parameters():
            parameter.requires_grad = False
        self.A = nn.Parameter(torch.empty(rank, layer.in_features))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.both = [layer, alpha / rank]

    def forward(self, x):
        layer, scale = self.both
        return layer(x) + F.linear(F.linear(x, self.A) * scale, self.B)


# %% tags=["wrong"] task="12.1" misconception="the layer itself is gone"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="the old layer learns too"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="both start at zero"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(torch.zeros(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="A is zero, and B is not"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(torch.zeros(rank, layer.in_features))
        self.B = nn.Parameter(torch.randn(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="another network at the start"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.randn(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="alpha without the rank"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["wrong"] task="12.1" misconception="no alpha at all"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + x @ self.A.T @ self.B.T


# %% tags=["wrong"] task="12.1" misconception="the root of the rank"
class LoRA(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / math.sqrt(rank)
        self.A = nn.Parameter(torch.randn(rank, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T)


# %% tags=["hidden"] task="12.1"
def draw_12_1(rng):
    """Rank one, a rank above both sides, texts of several tokens, an alpha that is no whole number."""
    rank, inputs, outputs = int(rng.choice([1, 6])), int(rng.integers(2, 5)), int(rng.integers(1, 5))
    return {
        "x": (0.1 + rng.random(size=(2, int(rng.integers(1, 4)), inputs))).astype(np.float32),
        "A": rng.normal(size=(rank, inputs)).astype(np.float32),
        "B": rng.normal(size=(outputs, rank)).astype(np.float32),
        "alpha": float(rng.choice([0.5, 1.0, 3.0])),
        "bias": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="12.2"
# Merged, an adapter costs nothing more at use: its change $\Delta = \frac{\alpha}{r} B A$ is added to the weight. But
# the weight is often kept in bfloat16, with 8 binary digits, and what is small beside it is rounded away.
#
# **Write `merge(weight, A, B, alpha)`**: `weight` is a tensor of shape `(outputs, inputs)` in bfloat16 or float32; `A`
# of shape `(r, inputs)` and `B` of shape `(outputs, r)` are in float32, and $\Delta$ is not zero. Return `merged,
# lost`:
#
# - `merged`, a new tensor with the dtype of `weight`: weight + $\Delta$, computed in float32 and rounded once, at the
#   end. `weight` itself stays as it is;
# - `lost`, a number: the share of the change that rounding took, $\lVert m - w - \Delta \rVert / \lVert \Delta \rVert$,
#   with $m$ the merged weight, $w$ the weight, all in float32, and $\lVert \cdot \rVert$ the root of the sum of the
#   squares of all entries.
#
# When it works, try a weight of size 0.05 and a change of size 0.0001:
# `weight = (0.05 * torch.randn(64, 64)).bfloat16()`, `A = 0.01 * torch.randn(4, 64)`, `B = 0.005 * torch.randn(64, 4)`,
# `alpha = 4`. How much of what was learnt survives?


# %% tags=["answer"] task="12.2"
def merge(weight, A, B, alpha):  # noqa: N803 - the paper's names
    # BEGIN SOLUTION
    change = alpha / len(A) * (B @ A)
    merged = (weight.float() + change).to(weight.dtype)
    lost = (merged.float() - weight.float() - change).norm() / change.norm()
    return merged, lost.item()
    # END SOLUTION


# %% tags=["check"]
check("12.2", merge)

# %% tags=["solution"]
generator = torch.Generator().manual_seed(0)
weight = 0.05 * torch.randn(64, 64, generator=generator)
A, B = 0.01 * torch.randn(4, 64, generator=generator), 0.005 * torch.randn(64, 4, generator=generator)
for dtype in (torch.float32, torch.bfloat16):
    print(f"{dtype}: {merge(weight.to(dtype), A, B, 4)[1]:.4f} of the change is lost")
assert merge(weight, A, B, 4)[1] < 0.001 and merge(weight.bfloat16(), A, B, 4)[1] > 0.5


# %% tags=["right"] task="12.2"
def merge(weight, A, B, alpha):
    """In double precision on the way."""
    change = (B.double() @ A.double()) * alpha / A.shape[0]
    merged = (weight.double() + change).float().to(weight.dtype)
    missing = merged.double() - weight.double() - change
    return merged, math.sqrt(missing.square().sum() / change.square().sum())


# %% tags=["right"] task="12.2"
def merge(weight, A, B, alpha):
    """One pair of columns and rows after the other."""
    change = torch.zeros(weight.shape)
    for column, row in zip(B.T, A, strict=True):
        change += torch.outer(column, row)
    change *= alpha / len(A)
    merged = weight.clone()
    merged.copy_(weight.float() + change)
    return [merged, torch.linalg.norm(weight.float() + change - merged) / torch.linalg.norm(change)]


# %% tags=["wrong"] task="12.2" misconception="the base was overwritten"
def merge(weight, A, B, alpha):
    change, before = alpha / len(A) * (B @ A), weight.float().clone()
    weight.copy_(weight.float() + change)
    return weight, ((weight.float() - before - change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="kept in float32"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B @ A)
    merged = weight + change
    return merged, ((merged - weight - change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="alpha without the rank"
def merge(weight, A, B, alpha):
    change = alpha * (B @ A)
    merged = (weight.float() + change).to(weight.dtype)
    return merged, ((merged.float() - weight.float() - change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="no alpha at all"
def merge(weight, A, B, alpha):
    change = B @ A
    merged = (weight.float() + change).to(weight.dtype)
    return merged, ((merged.float() - weight.float() - change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="taken off instead of added"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B @ A)
    merged = (weight.float() - change).to(weight.dtype)
    return merged, ((merged.float() - weight.float() + change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="rounded at every step"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B.to(weight.dtype) @ A.to(weight.dtype))
    merged = weight + change
    exact = alpha / len(A) * (B @ A)
    return merged, ((merged.float() - weight.float() - exact).norm() / exact.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="the loss measured against the weight"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B @ A)
    merged = (weight.float() + change).to(weight.dtype)
    return merged, ((merged.float() - weight.float() - change).norm() / weight.float().norm()).item()


# %% tags=["wrong"] task="12.2" misconception="the share that was kept"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B @ A)
    merged = (weight.float() + change).to(weight.dtype)
    return merged, 1 - ((merged.float() - weight.float() - change).norm() / change.norm()).item()


# %% tags=["wrong"] task="12.2" misconception="the squares without the root"
def merge(weight, A, B, alpha):
    change = alpha / len(A) * (B @ A)
    merged = (weight.float() + change).to(weight.dtype)
    return merged, ((merged.float() - weight.float() - change).square().sum() / change.square().sum()).item()


# %% tags=["hidden"] task="12.2"
def draw_12_2(rng):
    """A base in float32, rank one, a change so small that rounding takes all of it."""
    rank, outputs, inputs = int(rng.choice([1, 2, 8])), int(rng.integers(1, 6)), int(rng.integers(1, 6))
    size = float(rng.choice([2.0**-12, 0.25]))
    return {
        "weight": (rng.integers(65, 128, (outputs, inputs)) / 64).astype(np.float32),
        "A": rng.choice([-2.0, -1.0, 1.0, 3.0], size=(rank, inputs)).astype(np.float32),
        "B": (size * rng.choice([1.0, 3.0, 5.0], size=(outputs, 1)) * (np.arange(rank) == 0)).astype(np.float32),
        "alpha": float(rank),
        "dtype": str(rng.choice(["bfloat16", "float32"])),
    }


# %% [markdown] tags=["task"] task="12.3"
# Which rank can you afford? A model has some frozen linear layers, each with a weight and a bias, kept in bfloat16: 2
# bytes a number. Each of them gets LoRA, a matrix A of shape `(rank, inputs)` and a matrix B of shape `(outputs,
# rank)`. These, and a head of `head` numbers, are trained by AdamW in float32: a number, its gradient and two moments
# take 4 bytes each.
#
# **Write `largest_rank(layers, head, budget)`**: `layers` is a list of pairs `[inputs, outputs]` of whole numbers,
# `head` and `budget` are whole numbers, the budget in bytes. Return `rank, trainable`: the largest rank, the same for
# all layers, with which everything named above fits into the budget, and how many numbers are trained then, those of
# the head included. No rank may be larger than the smallest side (inputs or outputs) of any of the layers: a change of
# that layer's weight has no higher rank. Rank 0, the head alone, always fits. Activations are not counted.


# %% tags=["answer"] task="12.3"
def largest_rank(layers, head, budget):
    # BEGIN SOLUTION
    fixed = sum(2 * (inputs * outputs + outputs) for inputs, outputs in layers) + 16 * head
    each = sum(inputs + outputs for inputs, outputs in layers)  # numbers that one rank more takes
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head
    # END SOLUTION


# %% tags=["check"]
check("12.3", largest_rank)

# %% tags=["solution"]
layers = [[4096, 4096]] * 4 * 32  # the projections of attention in a decoder of 7 billion parameters
rank, trainable = largest_rank(layers, 0, 5 * 10**9)
print(f"rank {rank}: {trainable:,} numbers, {trainable / (128 * 4096**2):.1%} of the weights beside them")
assert rank > 16


# %% tags=["right"] task="12.3"
def largest_rank(layers, head, budget):
    """Rank after rank, until the next one is too much."""
    held = 16 * head
    for inputs, outputs in layers:
        held += 2 * inputs * outputs + 2 * outputs
    rank, trainable = 0, head
    while rank < min(side for layer in layers for side in layer):
        more = sum(sum(layer) for layer in layers)
        if held + 16 * more > budget:
            break
        held, trainable, rank = held + 16 * more, trainable + more, rank + 1
    return rank, trainable


# %% tags=["right"] task="12.3"
def largest_rank(layers, head, budget):
    """By arrays: the bytes of every rank at once."""
    sides = np.array(layers)
    ranks = np.arange(sides.min() + 1)
    trainable = head + ranks * sides.sum()
    held = 2 * (sides.prod(axis=1).sum() + sides[:, 1].sum()) + (4 + 4 + 8) * trainable
    best = np.flatnonzero(held <= budget)[-1]
    return int(ranks[best]), int(trainable[best])


# %% tags=["wrong"] task="12.3" misconception="the moments were forgotten"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 8 * head
    each = sum(i + o for i, o in layers)
    rank = min((budget - fixed) // (8 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="twelve bytes instead of sixteen"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 12 * head
    each = sum(i + o for i, o in layers)
    rank = min((budget - fixed) // (12 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="the frozen weights in float32"
def largest_rank(layers, head, budget):
    fixed = sum(4 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i + o for i, o in layers)
    rank = max(0, min((budget - fixed) // (16 * each), min(min(layer) for layer in layers)))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="the biases were forgotten"
def largest_rank(layers, head, budget):
    fixed = sum(2 * i * o for i, o in layers) + 16 * head
    each = sum(i + o for i, o in layers)
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="the head takes no memory"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers)
    each = sum(i + o for i, o in layers)
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="one matrix instead of two"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i for i, _ in layers)
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="as many as the layer itself"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i * o for i, o in layers)
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="the head is trained as well"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i + o for i, o in layers)
    rank = min((budget - fixed) // (16 * each), min(min(layer) for layer in layers))
    return rank, rank * each


# %% tags=["wrong"] task="12.3" misconception="a rank that no layer has"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i + o for i, o in layers)
    rank = (budget - fixed) // (16 * each)
    return rank, rank * each + head


# %% tags=["wrong"] task="12.3" misconception="one rank too many"
def largest_rank(layers, head, budget):
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = sum(i + o for i, o in layers)
    rank = min(math.ceil((budget - fixed) / (16 * each)), min(min(layer) for layer in layers))
    return rank, rank * each + head


# %% tags=["hidden"] task="12.3"
def draw_12_3(rng):
    """No head, one layer, budgets that are met to the byte, and nothing but the head."""
    layers = [[int(side) for side in rng.integers(1, 9, 2)] for _ in range(int(rng.integers(1, 4)))]
    head = int(rng.integers(0, 3))
    fixed = sum(2 * (i * o + o) for i, o in layers) + 16 * head
    each = 16 * sum(i + o for i, o in layers)
    return {"layers": layers, "head": head, "scarce": [fixed, fixed + each, fixed + each - 1], "ample": [10**9]}


# %% [markdown] tags=["task"] task="12.4"
# A language model is judged by its perplexity: `exp` of the mean negative log-likelihood, in nats, of the tokens that
# it had to predict. The mean goes over *tokens*: whoever averages batches or texts gets another number with every batch
# size.
#
# **Write `perplexity(batches)`**: `batches` is a list of triples `(logits, tokens, mask)` of tensors. `logits` are
# floats of shape `(n, L, vocabulary)`; at each position, what the decoder says after it has read the text up to that
# position and this position's token included. `tokens` are whole numbers of shape `(n, L)`, and `mask` is bool of shape
# `(n, L)`, True where a token is real; each text begins at the first position, and padding comes after it. The number
# of texts and the length may differ from batch to batch.
#
# Predicted is each real token but the first of its text, which is given; a text of one token adds nothing. Return the
# perplexity of all batches together, as a number. There is something to predict in at least one text.
#
# When it works: what is the perplexity of a model that calls every token of a vocabulary of 2,000 equally likely?


# %% tags=["answer"] task="12.4"
def perplexity(batches):
    # BEGIN SOLUTION
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, 1:]  # (n, L - 1): each real token after the first
        total += F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="sum").item()
        count += real.sum().item()
    return math.exp(total / count)
    # END SOLUTION


# %% tags=["check"]
check("12.4", perplexity)

# %% tags=["solution"]
alike = torch.zeros(2, 5, 2000), torch.randint(2000, (2, 5)), torch.ones(2, 5, dtype=torch.bool)
assert abs(perplexity([alike]) - 2000) < 0.5


# %% tags=["right"] task="12.4"
def perplexity(batches):
    """Token by token."""
    surprises = []
    for logits, tokens, mask in batches:
        for text in range(len(tokens)):
            for place in range(1, int(mask[text].sum())):
                said = torch.log_softmax(logits[text, place - 1].double(), dim=0)
                surprises.append(-said[tokens[text, place]].item())
    return math.exp(math.fsum(surprises) / len(surprises))


# %% tags=["right"] task="12.4"
def perplexity(batches):
    """All logits in one row, and padding marked for cross_entropy to pass over."""
    rows, wanted = [], []
    for logits, tokens, mask in batches:
        rows.append(logits[:, :-1].flatten(end_dim=1))
        wanted.append(torch.where(mask, tokens, -100)[:, 1:].flatten())
    return F.cross_entropy(torch.cat(rows), torch.cat(wanted), ignore_index=-100).exp()


# %% tags=["wrong"] task="12.4" misconception="each token foretold by itself"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        total += F.cross_entropy(logits[mask], tokens[mask], reduction="sum").item()
        count += mask.sum().item()
    return math.exp(total / count)


# %% tags=["wrong"] task="12.4" misconception="shifted the wrong way"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, 1:]
        total += F.cross_entropy(logits[:, 1:][real], tokens[:, :-1][real], reduction="sum").item()
        count += real.sum().item()
    return math.exp(total / count)


# %% tags=["wrong"] task="12.4" misconception="padding was predicted"
def perplexity(batches):
    total = count = 0
    for logits, tokens, _ in batches:
        wanted = tokens[:, 1:].flatten()
        total += F.cross_entropy(logits[:, :-1].flatten(end_dim=1), wanted, reduction="sum").item()
        count += len(wanted)
    return math.exp(total / count)


# %% tags=["wrong"] task="12.4" misconception="the mask was not shifted"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, :-1]
        total += F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="sum").item()
        count += real.sum().item()
    return math.exp(total / count)


# %% tags=["wrong"] task="12.4" misconception="the mean of the batches' losses"
def perplexity(batches):
    losses = [F.cross_entropy(x[:, :-1][mask[:, 1:]], y[:, 1:][mask[:, 1:]]).item() for x, y, mask in batches]
    return math.exp(sum(losses) / len(losses))


# %% tags=["wrong"] task="12.4" misconception="the mean of the batches' perplexities"
def perplexity(batches):
    losses = [F.cross_entropy(x[:, :-1][mask[:, 1:]], y[:, 1:][mask[:, 1:]]).item() for x, y, mask in batches]
    return np.mean(np.exp(losses))


# %% tags=["wrong"] task="12.4" misconception="the mean over texts"
def perplexity(batches):
    losses = []
    for logits, tokens, mask in batches:
        for x, y, real in zip(logits[:, :-1], tokens[:, 1:], mask[:, 1:], strict=True):
            losses.append(F.cross_entropy(x[real], y[real]).item())
    return math.exp(sum(losses) / len(losses))


# %% tags=["wrong"] task="12.4" misconception="the loss, not the perplexity"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, 1:]
        total += F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="sum").item()
        count += real.sum().item()
    return total / count


# %% tags=["wrong"] task="12.4" misconception="two to the power of nats"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, 1:]
        total += F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="sum").item()
        count += real.sum().item()
    return 2 ** (total / count)


# %% tags=["wrong"] task="12.4" misconception="the inverse"
def perplexity(batches):
    total = count = 0
    for logits, tokens, mask in batches:
        real = mask[:, 1:]
        total += F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction="sum").item()
        count += real.sum().item()
    return math.exp(-total / count)


# %% tags=["wrong"] task="12.4" misconception="the exponential of each token"
def perplexity(batches):
    losses = [F.cross_entropy(x[:, :-1][m[:, 1:]], y[:, 1:][m[:, 1:]], reduction="none") for x, y, m in batches]
    return torch.cat(losses).exp().mean().item()


# %% tags=["hidden"] task="12.4"
def draw_12_4(rng):
    """Texts of one token, a batch without any prediction, no padding at all, a single batch."""
    vocabulary, batches = int(rng.integers(2, 6)), []
    for number in range(int(rng.integers(1, 4))):
        texts, length = int(rng.integers(1, 4)), int(rng.integers(2, 5))
        lengths = np.full(texts, length) if number == 0 else rng.integers(1, length + 1, texts)
        lengths = np.ones(texts, dtype=int) if number == 1 else lengths
        logits = (3 * rng.normal(size=(texts, length, vocabulary))).astype(np.float32)
        tokens = rng.integers(vocabulary, size=(texts, length))
        batches.append({"logits": logits, "tokens": tokens, "mask": np.arange(length) < lengths[:, None]})
    return {"batches": batches}


# %% [markdown] tags=["task"] task="12.5"
# GPT-2's head is its embedding: `model.head.weight` and `model.words.weight` are *one* tensor under two names. You want
# to keep the words frozen and train the head, and a tensor cannot do both.
#
# **Write `untie(model)`**: `model` has the parts `model.words` (an `nn.Embedding`), `model.body` and `model.head` (an
# `nn.Linear` without a bias, whose weight has the shape of the words'), and mostly, but not always, it is tied in this
# way. After your call
#
# - the model computes what it computed before;
# - the words are frozen, and no training of anything else moves them;
# - the head can be trained; whatever else could be trained before, still can. If the model was tied, the head has a
#   tensor of its own now, in memory of its own.
#
# Return a whole number: how many numbers the model holds more than before. That is 0 where it was not tied; such a
# model gets no copy of anything.


# %% tags=["answer"] task="12.5"
def untie(model):
    # BEGIN SOLUTION
    more = 0
    if model.head.weight is model.words.weight:
        model.head.weight = nn.Parameter(model.words.weight.detach().clone())
        more = model.head.weight.numel()
    model.words.weight.requires_grad_(False)
    return more
    # END SOLUTION


# %% tags=["check"]
check("12.5", untie)


# %% tags=["right"] task="12.5"
def untie(model):
    """A deep copy of the head, which has another tensor; the counts before and after."""
    before = sum(parameter.numel() for parameter in model.parameters())
    if model.words.weight.data_ptr() == model.head.weight.data_ptr():
        model.head = copy.deepcopy(model.head)
    model.words.requires_grad_(False)
    model.head.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters()) - before


# %% tags=["right"] task="12.5"
def untie(model):
    """The words get the copy, and the head keeps the tensor."""
    tied = model.words.weight is model.head.weight
    if tied:
        model.words = nn.Embedding.from_pretrained(torch.clone(model.head.weight.detach()), freeze=True)
    for parameter in model.words.parameters():
        parameter.requires_grad = False
    return model.words.weight.shape[0] * model.words.weight.shape[1] if tied else 0


# %% tags=["wrong"] task="12.5" misconception="the head was frozen with the words"
def untie(model):
    model.words.weight.requires_grad_(False)
    return model.words.weight.numel() if model.words.weight is model.head.weight else 0


# %% tags=["wrong"] task="12.5" misconception="two parameters, one memory"
def untie(model):
    more = 0
    if model.head.weight is model.words.weight:
        model.head.weight = nn.Parameter(model.words.weight.detach())
        more = model.head.weight.numel()
    model.words.weight.requires_grad_(False)
    return more


# %% tags=["wrong"] task="12.5" misconception="the words are still open"
def untie(model):
    if model.head.weight is model.words.weight:
        model.head.weight = nn.Parameter(model.words.weight.detach().clone())
        return model.head.weight.numel()
    return 0


# %% tags=["wrong"] task="12.5" misconception="a head at random"
def untie(model):
    more = 0
    if model.head.weight is model.words.weight:
        model.head = nn.Linear(model.words.embedding_dim, model.words.num_embeddings, bias=False)
        more = model.head.weight.numel()
    model.words.weight.requires_grad_(False)
    return more


# %% tags=["wrong"] task="12.5" misconception="the rest was frozen too"
def untie(model):
    more = 0
    if model.head.weight is model.words.weight:
        model.head.weight = nn.Parameter(model.words.weight.detach().clone())
        more = model.head.weight.numel()
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    return more


# %% tags=["wrong"] task="12.5" misconception="counted where nothing was added"
def untie(model):
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    model.words.weight.requires_grad_(False)
    return model.head.weight.numel()


# %% tags=["wrong"] task="12.5" misconception="another count"
def untie(model):
    tied = model.head.weight is model.words.weight
    if tied:
        model.head.weight = nn.Parameter(model.words.weight.detach().clone())
    model.words.weight.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters()) if tied else 0


# %% tags=["hidden"] task="12.5"
def draw_12_5(rng):
    """One number a word, two words, the same word twice."""
    vocabulary = int(rng.integers(2, 9))
    return {
        "vocabulary": vocabulary,
        "width": int(rng.integers(1, 6)),
        "tokens": rng.integers(vocabulary, size=4),
        "next_tokens": rng.integers(vocabulary, size=4),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **12.2.** In float32 merging loses next to nothing; in bfloat16 more than half of so small a change is rounded away.
# Whoever merges into a base of half precision should measure the merged model. **12.3.** What LoRA saves is gradients
# and moments; the frozen weights are there all the same, and so are the activations, which were not counted. **12.4.**
# A model that knows nothing has a perplexity of the size of its vocabulary, which is why two models can be compared
# only where they have the same tokens.

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
