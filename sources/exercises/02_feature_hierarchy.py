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
# # Exercises 02 · The feature hierarchy
#
# Five tasks on the inside of a network: how far a stage sees, what it says, what of that was learnt, how to compare two
# stages, and how to graft some of them onto another network. About an hour and a half. Do lesson 02 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("02.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import copy

import numpy as np
import torch
from scipy import stats
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="02.1"
# A unit of a convolution with a kernel of 3 x 3 looks at 3 x 3 units of the layer before it, and they in turn look at
# theirs. **Write `sides_seen(kernels, strides)`**: two lists of whole numbers, one entry for each layer of convolution,
# from the first on: the side of its square kernel, and its stride. Return a list with one whole number for each layer:
# the side, in pixels, of the square of the image that a unit of this layer can see, far from the image's border: from
# the first row that counts to the last, also where strides jump over rows between them.
#
# When it works, try six layers of 3 x 3, once with all strides 1 and once with all strides 2.


# %% tags=["answer"] task="02.1"
def sides_seen(kernels, strides):
    # BEGIN SOLUTION
    side, step, sides = 1, 1, []
    for kernel, stride in zip(kernels, strides, strict=True):
        side += (kernel - 1) * step
        step *= stride
        sides.append(side)
    return sides
    # END SOLUTION


# %% tags=["check"]
check("02.1", sides_seen)


# %% tags=["right"] task="02.1"
def sides_seen(kernels, strides):
    """Backwards: how many units of the layer before does one unit need, down to the pixels?"""
    sides = []
    for last in range(len(kernels)):
        need = 1
        for layer in range(last, -1, -1):
            need = (need - 1) * strides[layer] + kernels[layer]
        sides.append(need)
    return sides


# %% tags=["right"] task="02.1"
def sides_seen(kernels, strides):
    steps = np.cumprod([1, *strides[:-1]])
    return 1 + np.cumsum((np.array(kernels) - 1) * steps)


# %% tags=["wrong"] task="02.1" misconception="the strides were left out"
def sides_seen(kernels, strides):
    return (1 + np.cumsum(np.array(kernels) - 1)).tolist()


# %% tags=["wrong"] task="02.1" misconception="a layer's own stride counted too early"
def sides_seen(kernels, strides):
    return (1 + np.cumsum((np.array(kernels) - 1) * np.cumprod(strides))).tolist()


# %% tags=["wrong"] task="02.1" misconception="only the last stride counted"
def sides_seen(kernels, strides):
    return (1 + np.cumsum((np.array(kernels) - 1) * np.array([1, *strides[:-1]]))).tolist()


# %% tags=["wrong"] task="02.1" misconception="kernels multiplied"
def sides_seen(kernels, strides):
    return np.cumprod(kernels).tolist()


# %% tags=["wrong"] task="02.1" misconception="kernels added up whole"
def sides_seen(kernels, strides):
    return np.cumsum(np.array(kernels) * np.cumprod([1, *strides[:-1]])).tolist()


# %% tags=["hidden"] task="02.1"
def draw_02_1(rng):
    """A single layer, kernels of even side, larger strides."""
    count = int(rng.integers(1, 8))
    return {
        "kernels": [int(value) for value in rng.integers(1, 8, size=count)],
        "strides": [int(value) for value in rng.integers(1, 5, size=count)],
    }


# %% [markdown] tags=["task"] task="02.2"
# To probe every stage, or to compare stages, you need what each of them puts out. **Write `stage_means(network,
# images)`**: `network` is an `nn.Sequential` whose children are the stages; each turns a tensor of shape `(n, channels,
# height, width)` into another one. `images` is a float tensor of shape `(n, 3, height, width)`. Return a dict from the
# name of each stage, in the order of execution, to a tensor of shape `(n, channels)`: the mean of each channel over all
# places, of **what the stage puts out**.
#
# The stages work as they do in evaluation, whether the network comes in training mode or in evaluation mode. Afterwards
# it is what it was before, with all its stages in the mode in which they came, nothing is left hanging on it, and what
# you return carries no graph. And a warning: some stages begin with `nn.ReLU(inplace=True)`.


# %% tags=["answer"] task="02.2"
def stage_means(network, images):
    # BEGIN SOLUTION
    mode, means, state = network.training, {}, images
    network.eval()
    with torch.no_grad():
        for name, stage in network.named_children():
            state = stage(state)
            means[name] = state.mean(dim=(2, 3))
    network.train(mode)
    return means
    # END SOLUTION


# %% tags=["check"]
check("02.2", stage_means)


# %% tags=["right"] task="02.2"
def stage_means(network, images):
    """With hooks, on a copy."""
    means, mine = {}, copy.deepcopy(network).eval()

    def keep(name):
        def hook(module, given, state):
            means[name] = state.detach().flatten(2).mean(dim=2)

        return hook

    for name, stage in mine.named_children():
        stage.register_forward_hook(keep(name))
    mine(images)
    return means


# %% tags=["right"] task="02.2"
@torch.inference_mode()
def stage_means(network, images):
    """Each stage from the pixels again: slow, and nothing can be overwritten."""
    mode, names = network.training, [name for name, _ in network.named_children()]
    network.train(False)
    means = {name: network[: k + 1](images).mean(dim=3).mean(dim=2) for k, name in enumerate(names)}
    network.train(mode)
    return means


# %% tags=["wrong"] task="02.2" misconception="recorded in training mode"
def stage_means(network, images):
    means, state = {}, images
    with torch.no_grad():
        for name, stage in network.named_children():
            state = stage(state)
            means[name] = state.mean(dim=(2, 3))
    return means


# %% tags=["wrong"] task="02.2" misconception="overwritten by the next stage"
def stage_means(network, images):
    mode, states, handles = network.training, {}, []
    network.eval()
    for name, stage in network.named_children():
        handles.append(stage.register_forward_hook(lambda m, x, state, name=name: states.update({name: state})))
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    network.train(mode)
    return {name: state.mean(dim=(2, 3)) for name, state in states.items()}


# %% tags=["wrong"] task="02.2" misconception="the places taken for channels"
def stage_means(network, images):
    mode, means, state = network.training, {}, images
    network.eval()
    with torch.no_grad():
        for name, stage in network.named_children():
            state = stage(state)
            means[name] = state.mean(dim=1).flatten(1)
    network.train(mode)
    return means


# %% tags=["wrong"] task="02.2" misconception="the loudest place instead of the mean"
def stage_means(network, images):
    mode, means, state = network.training, {}, images
    network.eval()
    with torch.no_grad():
        for name, stage in network.named_children():
            state = stage(state)
            means[name] = state.amax(dim=(2, 3))
    network.train(mode)
    return means


# %% tags=["wrong"] task="02.2" misconception="the hooks were left behind"
def stage_means(network, images):
    mode, means = network.training, {}
    network.eval()
    for name, stage in network.named_children():
        stage.register_forward_hook(lambda m, x, state, name=name: means.update({name: state.mean(dim=(2, 3))}))
    with torch.no_grad():
        network(images)
    network.train(mode)
    return means


# %% tags=["wrong"] task="02.2" misconception="the graph was kept"
def stage_means(network, images):
    mode, means, state = network.training, {}, images
    network.eval()
    for name, stage in network.named_children():
        state = stage(state)
        means[name] = state.mean(dim=(2, 3))
    network.train(mode)
    return means


# %% tags=["wrong"] task="02.2" misconception="the mode was changed"
def stage_means(network, images):
    means, state = {}, images
    network.eval()
    with torch.no_grad():
        for name, stage in network.named_children():
            state = stage(state)
            means[name] = state.mean(dim=(2, 3))
    return means


# %% tags=["hidden"] task="02.2"
def draw_02_2(rng):
    """A single picture, a single stage, many stages."""
    return {
        "images": rng.normal(size=(1, 3, 5, 2)).astype(np.float32),
        "stages": int(rng.choice([1, 5])),
        "width": int(rng.integers(1, 4)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="02.3"
# A probe shows what can be *read* at a stage. What was *learnt*, only the random twin shows. **Write
# `lower_ends(trained, random)`**: two numpy arrays of shape `(seeds, stages)` with the accuracies of a probe for four
# classes, on the trained network and on its twin; row i of both was read on the same images. Return a list or an array
# with one number for each stage: the lower end of the 95 % t-interval (2.5 % on either side) of what the trained
# network has more, paired by seed, as in lesson 00. Where it lies above zero, learning is shown.
#
# There are at least two seeds. `stats` is imported from scipy; `stats.t.ppf(share, degrees)` is a quantile of Student's
# t.


# %% tags=["answer"] task="02.3"
def lower_ends(trained, random):
    # BEGIN SOLUTION
    gap = trained - random
    n = len(gap)
    return gap.mean(axis=0) - stats.t.ppf(0.975, n - 1) * gap.std(axis=0, ddof=1) / np.sqrt(n)
    # END SOLUTION


# %% tags=["check"]
check("02.3", lower_ends)


# %% tags=["right"] task="02.3"
def lower_ends(trained, random):
    gap = trained - random
    low, _ = stats.t.interval(0.95, len(gap) - 1, loc=gap.mean(axis=0), scale=stats.sem(gap, axis=0))
    return low


# %% tags=["right"] task="02.3"
def lower_ends(trained, random):
    from tlcourse import Scores

    seeds, ends = tuple(range(len(trained))), []
    for ours, theirs in zip(trained.T, random.T, strict=True):
        difference = Scores(tuple(ours), seeds) - Scores(tuple(theirs), seeds)
        ends.append(difference.interval()[0])
    return ends


# %% tags=["wrong"] task="02.3" misconception="compared with guessing, not with the twin"
def lower_ends(trained, random):
    gap = trained - 0.25
    return gap.mean(axis=0) - stats.t.ppf(0.975, len(gap) - 1) * stats.sem(gap, axis=0)


# %% tags=["wrong"] task="02.3" misconception="a mean without its interval"
def lower_ends(trained, random):
    return (trained - random).mean(axis=0)


# %% tags=["wrong"] task="02.3" misconception="seeds not paired"
def lower_ends(trained, random):
    return stats.ttest_ind(trained, random).confidence_interval(0.95).low


# %% tags=["wrong"] task="02.3" misconception="1.96 with a handful of seeds"
def lower_ends(trained, random):
    gap = trained - random
    return gap.mean(axis=0) - 1.96 * gap.std(axis=0, ddof=1) / np.sqrt(len(gap))


# %% tags=["wrong"] task="02.3" misconception="one tail instead of two"
def lower_ends(trained, random):
    gap = trained - random
    return gap.mean(axis=0) - stats.t.ppf(0.95, len(gap) - 1) * stats.sem(gap, axis=0)


# %% tags=["wrong"] task="02.3" misconception="the spread of the seeds, not of their mean"
def lower_ends(trained, random):
    gap = trained - random
    return gap.mean(axis=0) - stats.t.ppf(0.975, len(gap) - 1) * gap.std(axis=0, ddof=1)


# %% tags=["wrong"] task="02.3" misconception="divided by n in the spread"
def lower_ends(trained, random):
    gap = trained - random
    return gap.mean(axis=0) - stats.t.ppf(0.975, len(gap) - 1) * gap.std(axis=0) / np.sqrt(len(gap))


# %% tags=["hidden"] task="02.3"
def draw_02_3(rng):
    """Two seeds, or many; a single stage."""
    shape = (int(rng.choice([2, 3, 20])), int(rng.choice([1, 9])))
    return {"trained": rng.random(shape), "random": rng.random(shape)}


# %% [markdown] tags=["task"] task="02.4"
# How alike are two stages, or two networks? **Write `cka(x, y)`, the debiased CKA**: `x` and `y` are numpy arrays of
# shapes `(n, p)` and `(n, q)`, the features of the same n pictures, n at least 4. Let $K = x x^\top$ and $L = y y^\top$
# be the tables of likeness between all pictures, with their **diagonals set to zero**. Then
#
# $$\text{HSIC}(K, L) = \frac{1}{n (n - 3)} \Big( \sum_{ij} K_{ij} L_{ij} + \frac{\sum_{ij} K_{ij} \, \sum_{ij}
# L_{ij}}{(n - 1)(n - 2)} - \frac{2}{n - 2} \sum_{ij} (K L)_{ij} \Big), \qquad
# \text{CKA} = \frac{\text{HSIC}(K, L)}{\sqrt{\text{HSIC}(K, K) \; \text{HSIC}(L, L)}}$$
#
# where $K L$ is the product of matrices (Song et al. 2012). The features need no centring: the formula does it. Return
# CKA as a number. It may be a little below zero: that is how an estimate of zero looks.
#
# When it works, give it two independent arrays from `np.random.default_rng(0).normal`, of 16 rows and 100 columns.


# %% tags=["answer"] task="02.4"
def cka(x, y):
    # BEGIN SOLUTION
    def hsic(k, m):
        crossed = 2 / (n - 2) * (k @ m).sum()
        return ((k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - crossed) / (n * (n - 3))

    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    # END SOLUTION


# %% tags=["check"]
check("02.4", cka)


# %% tags=["right"] task="02.4"
def cka(x, y):
    from tlcourse import linear_cka

    return linear_cka(torch.from_numpy(x), torch.from_numpy(y))


# %% tags=["right"] task="02.4"
def cka(x, y):
    """By U-centring: the row means of pairs are taken out, and HSIC is a plain mean of products."""

    def centred(features):
        table, n = features @ features.T, len(features)
        table = table - np.diag(np.diag(table))
        rows = table.sum(axis=0) / (n - 2)
        table = table - rows[:, None] - rows[None, :] + table.sum() / ((n - 1) * (n - 2))
        return table - np.diag(np.diag(table))

    k, m = centred(x), centred(y)
    return (k * m).sum() / (np.linalg.norm(k) * np.linalg.norm(m))


# %% tags=["wrong"] task="02.4" misconception="the biased estimator"
def cka(x, y):
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


# %% tags=["wrong"] task="02.4" misconception="the biased estimator, and not even centred"
def cka(x, y):
    return np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


# %% tags=["wrong"] task="02.4" misconception="each picture compared with itself"
def cka(x, y):
    def hsic(k, m):
        return (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ m).sum()

    n, k, m = len(x), x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(abs(hsic(k, k) * hsic(m, m)))


# %% tags=["wrong"] task="02.4" misconception="the third term is missing"
def cka(x, y):
    def hsic(k, m):
        return (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2))

    n, k, m = len(x), x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


# %% tags=["wrong"] task="02.4" misconception="HSIC, not CKA"
def cka(x, y):
    n, k, m = len(x), x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    crossed = 2 / (n - 2) * (k @ m).sum()
    return ((k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - crossed) / (n * (n - 3))


# %% tags=["wrong"] task="02.4" misconception="the root is missing"
def cka(x, y):
    def hsic(k, m):
        crossed = 2 / (n - 2) * (k @ m).sum()
        return ((k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - crossed) / (n * (n - 3))

    n, k, m = len(x), x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    return hsic(k, m) / (hsic(k, k) * hsic(m, m))


# %% tags=["hidden"] task="02.4"
def draw_02_4(rng):
    """More columns than rows, as in a late stage; and features that are turned and scaled, which must give 1."""
    x = rng.normal(size=(int(rng.integers(8, 16)), 30))
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(30, 30)))[0]
    return {"x": x, "y": turned if rng.integers(2) else rng.normal(size=(len(x), 40))}


# %% [markdown] tags=["task"] task="02.5"
# Is a stage general, or does it belong to its task? Yosinski et al. (2014) cut networks in two and put them together
# anew. **Write `graft(donor, fresh, n, frozen)`**: `donor`, trained on task A, and `fresh`, which has learnt nothing,
# are two `nn.Sequential` of the same architecture; each child is a stage, and the last child is the head. Return an
# `nn.Sequential` of the same architecture that will be trained on B: its first `n` children begin as the donor's, all
# others as those of `fresh`; `n` is at least 1 and smaller than the number of children. Where `frozen` is true (AnB),
# training must leave the first `n` children alone; where it is false (AnB+), everything moves.
#
# Whatever is then done to the graft, `donor` and `fresh` keep their weights: they are needed for the next graft. All
# parameters of both are open (`requires_grad`), and there is neither dropout nor normalisation in them. The check
# trains each graft for two steps.


# %% tags=["answer"] task="02.5"
def graft(donor, fresh, n, frozen):
    # BEGIN SOLUTION
    grown = copy.deepcopy(fresh)
    for k in range(n):
        grown[k] = copy.deepcopy(donor[k])
        grown[k].requires_grad_(not frozen)
    return grown
    # END SOLUTION


# %% tags=["check"]
check("02.5", graft)


# %% tags=["right"] task="02.5"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for mine, theirs in list(zip(grown, donor, strict=True))[:n]:
        mine.load_state_dict(theirs.state_dict())
        for parameter in mine.parameters():
            parameter.requires_grad = not frozen
    return grown


# %% tags=["right"] task="02.5"
def graft(donor, fresh, n, frozen):
    stages = [copy.deepcopy(stage) for stage in [*list(donor)[:n], *list(fresh)[n:]]]
    if frozen:
        nn.ModuleList(stages[:n]).requires_grad_(False)
    return nn.Sequential(*stages)


# %% tags=["wrong"] task="02.5" misconception="one stage too many"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for k in range(n + 1):
        grown[k] = copy.deepcopy(donor[k]).requires_grad_(not frozen)
    return grown


# %% tags=["wrong"] task="02.5" misconception="the wrong end"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for k in range(len(fresh) - n, len(fresh)):
        grown[k] = copy.deepcopy(donor[k]).requires_grad_(not frozen)
    return grown


# %% tags=["wrong"] task="02.5" misconception="the whole donor"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(donor)
    grown[:n].requires_grad_(not frozen)
    return grown


# %% tags=["wrong"] task="02.5" misconception="built from the two networks themselves"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for k in range(n):
        grown[k] = donor[k].requires_grad_(not frozen)
    return grown


# %% tags=["wrong"] task="02.5" misconception="everything was frozen"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for k in range(n):
        grown[k] = copy.deepcopy(donor[k])
    return grown.requires_grad_(not frozen)


# %% tags=["wrong"] task="02.5" misconception="AnB+ was frozen too"
def graft(donor, fresh, n, frozen):
    grown = copy.deepcopy(fresh)
    for k in range(n):
        grown[k] = copy.deepcopy(donor[k]).requires_grad_(False)
    return grown


# %% tags=["wrong"] task="02.5" misconception="AnB was not frozen"
def graft(donor, fresh, n, frozen):
    """Evaluation mode stops no gradient."""
    grown = copy.deepcopy(fresh)
    for k in range(n):
        grown[k] = copy.deepcopy(donor[k]).train(not frozen)
    return grown


# %% tags=["hidden"] task="02.5"
def draw_02_5(rng):
    """All stages but the head; a single one."""
    stages = int(rng.integers(1, 5))
    return {
        "stages": stages,
        "width": int(rng.integers(2, 8)),
        "n": int(rng.choice([1, stages])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **02.1.** Six layers of 3 x 3 see 13 pixels with strides of 1, and 127 with strides of 2. **02.4.** Between two
# unrelated heaps of features, the debiased CKA is near zero; the biased one, on the same numbers, is far above one
# half.

# %% tags=["solution"]
assert sides_seen([3] * 6, [1] * 6)[-1] == 13 and sides_seen([3] * 6, [2] * 6)[-1] == 127
rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, 16, 100))
x, y = x - x.mean(axis=0), y - y.mean(axis=0)
assert abs(cka(x, y)) < 0.15
assert np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)) > 0.5

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
