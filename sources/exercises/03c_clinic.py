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
# # Clinic after 03 · Four patients
#
# Four functions as one finds them in the field. Each runs, raises nothing, and prints plausible numbers. Each is wrong,
# and each has been published, more than once. Find the defect, say to yourself why nobody noticed, and repair it. About
# forty minutes. Do lesson 03 before.
#
# **How it works.** Take away the line that raises, and run the cell and the check below it to see the symptom. Then
# repair the function and check again. `hint("03c.1")` opens a hint, three in all. Only the cell of the function is
# graded, so that everything that it needs goes into it.

# %% tags=["setup"]
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="03c.1"
# **The complaint:** "I freeze the backbone, in evaluation mode even, train a head, and the loss falls nicely. Deployed,
# the head is no good, and another head on the same backbone has died."
#
# `train_head(backbone, head, images, labels, epochs)` gets a backbone that turns images, float `(n, 4)`, into features,
# and a linear head; it trains the head alone by gradient descent with rate `0.1`, in batches of 8 in order, and returns
# the mean training loss of each epoch as a list. Neither weights nor statistics of the backbone may move.


# %% tags=["answer"] task="03c.1"
def train_head(backbone, head, images, labels, epochs):
    # BEGIN SOLUTION
    backbone.requires_grad_(False)
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        model.train()
        backbone.eval()  # after train(), which reaches the backbone too
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(images))
    return losses
    # END SOLUTION


# %% tags=["given"] task="03c.1" misconception="the statistics drifted"
def train_head(backbone, head, images, labels, epochs):
    backbone.requires_grad_(False)
    backbone.eval()
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(images))
    return losses


# %% tags=["check"]
check("03c.1", train_head)


# %% tags=["right"] task="03c.1"
def train_head(backbone, head, images, labels, epochs):
    """With the features computed once: nothing of the backbone is left in the loop."""
    backbone.eval().requires_grad_(False)
    with torch.no_grad():
        features = torch.cat([backbone(x) for x in images.split(8)])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        batches = []
        for x, y in zip(features.split(8), labels.split(8), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(head(x), y)
            loss.backward()
            optimizer.step()
            batches.append(loss.item() * len(x))
        losses.append(sum(batches) / len(images))
    return losses


# %% tags=["right"] task="03c.1"
def train_head(backbone, head, images, labels, epochs):
    """Only the head is ever told to train."""
    backbone.eval()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = np.zeros(epochs)
    for epoch in range(epochs):
        head.train()
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            with torch.no_grad():
                features = backbone(x)
            loss = F.cross_entropy(head(features), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[epoch] += loss.item() * len(x) / len(images)
    return losses


# %% tags=["wrong"] task="03c.1" misconception="the backbone learns too"
def train_head(backbone, head, images, labels, epochs):
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        model.train()
        backbone.eval()
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(images))
    return losses


# %% tags=["wrong"] task="03c.1" misconception="the head does not learn"
def train_head(backbone, head, images, labels, epochs):
    model = nn.Sequential(backbone, head)
    model.eval()
    losses = []
    for _ in range(epochs):
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            with torch.no_grad():
                total += F.cross_entropy(model(x), y).item() * len(x)
        losses.append(total / len(images))
    return losses


# %% tags=["wrong"] task="03c.1" misconception="gradients were added up"
def train_head(backbone, head, images, labels, epochs):
    backbone.requires_grad_(False)
    backbone.eval()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            loss = F.cross_entropy(head(backbone(x)), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(images))
    return losses


# %% tags=["wrong"] task="03c.1" misconception="put right after the training"
def train_head(backbone, head, images, labels, epochs):
    backbone.requires_grad_(False)
    kept = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for x, y in zip(images.split(8), labels.split(8), strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        losses.append(total / len(images))
    backbone.load_state_dict(kept)
    return losses


# %% tags=["hidden"] task="03c.1"
def draw_03c_1(rng):
    """One epoch; a wider backbone; images far from what is stored."""
    return {
        "images": (20 + 5 * rng.normal(size=(16, 4))).astype(np.float32),
        "epochs": int(rng.choice([1, 6])),
        "width": 12,
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="03c.2"
# **The complaint:** "My accuracy changes from run to run. With a larger batch it is better. And since I test after
# every epoch, training has become worse."
#
# `accuracy(network, images, labels, batch_size)` returns the share of images, float `(n, 4)`, whose largest logit is at
# the right label, as a number. It tests in batches of at most `batch_size`, and leaves the network as it was, in the
# mode in which it came.


# %% tags=["answer"] task="03c.2"
def accuracy(network, images, labels, batch_size):
    # BEGIN SOLUTION
    mode, right = network.training, 0
    network.eval()
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (network(x).argmax(dim=1) == y).sum().item()
    network.train(mode)
    return right / len(images)
    # END SOLUTION


# %% tags=["given"] task="03c.2" misconception="evaluated in training mode"
def accuracy(network, images, labels, batch_size):
    right = 0
    network.train()
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (network(x).argmax(dim=1) == y).sum().item()
    return right / len(images)


# %% tags=["check"]
check("03c.2", accuracy)


# %% tags=["right"] task="03c.2"
def accuracy(network, images, labels, batch_size):
    """On a copy, which may be put into any mode."""
    import copy

    mine = copy.deepcopy(network).eval()
    answers = [mine(x).argmax(dim=1) for x in images.split(batch_size)]
    return (torch.cat(answers) == labels).float().mean()


# %% tags=["right"] task="03c.2"
def accuracy(network, images, labels, batch_size):
    """Every part keeps its own mode, by its name."""
    modes = {name: part.training for name, part in network.named_modules()}
    network.eval()
    with torch.inference_mode():
        right = sum(
            int(torch.eq(network(images[i : i + batch_size]).max(dim=1).indices, labels[i : i + batch_size]).sum())
            for i in range(0, len(images), batch_size)
        )
    for name, part in network.named_modules():
        part.training = modes[name]
    return right / len(labels)


# %% tags=["wrong"] task="03c.2" misconception="the mean of the batches' means"
def accuracy(network, images, labels, batch_size):
    mode, shares = network.training, []
    network.eval()
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            shares.append((network(x).argmax(dim=1) == y).float().mean().item())
    network.train(mode)
    return sum(shares) / len(shares)


# %% tags=["wrong"] task="03c.2" misconception="the last batch was dropped"
def accuracy(network, images, labels, batch_size):
    from torch.utils.data import DataLoader, TensorDataset

    mode, right, seen = network.training, 0, 0
    network.eval()
    with torch.no_grad():
        for x, y in DataLoader(TensorDataset(images, labels), batch_size=batch_size, drop_last=True):
            right += (network(x).argmax(dim=1) == y).sum().item()
            seen += len(x)
    network.train(mode)
    return right / seen


# %% tags=["wrong"] task="03c.2" misconception="the mode was changed"
def accuracy(network, images, labels, batch_size):
    right = 0
    network.eval()
    with torch.no_grad():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            right += (network(x).argmax(dim=1) == y).sum().item()
    return right / len(images)


# %% tags=["hidden"] task="03c.2"
def draw_03c_2(rng):
    """A single image; a batch larger than everything; batches of one."""
    count = int(rng.choice([1, 7]))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "labels": rng.integers(0, 2, count),
        "batch_size": int(rng.choice([1, 100])),
        "training": True,
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="03c.3"
# **The complaint:** "I took over a colleague's network, and it is some points worse here than there."
#
# `prepare(images, preprocessing)` turns images, bytes of shape `(n, 3, height, width)` in the order red, green, blue,
# into what a network was trained on. `preprocessing` comes with the network and is a dict: `"top"` is 1 or 255, the
# value that white should have; `"order"` is `"RGB"` or `"BGR"`, the order of channels that the network expects;
# `"mean"` and `"std"` are lists of three numbers on that scale *and in that order*. It returns a float tensor of the
# shape of the images.


# %% tags=["answer"] task="03c.3"
def prepare(images, preprocessing):
    # BEGIN SOLUTION
    pixels = images.float() / 255 * preprocessing["top"]
    if preprocessing["order"] == "BGR":
        pixels = pixels.flip(1)
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (pixels - mean) / std
    # END SOLUTION


# %% tags=["given"] task="03c.3" misconception="the normalisation of another model"
def prepare(images, preprocessing):
    pixels = images.float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (pixels - mean) / std


# %% tags=["check"]
check("03c.3", prepare)


# %% tags=["right"] task="03c.3"
def prepare(images, preprocessing):
    channels = [2, 1, 0] if preprocessing["order"] == "BGR" else [0, 1, 2]
    prepared = torch.empty(images.shape)
    for place, channel in enumerate(channels):
        scaled = images[:, channel].double() * preprocessing["top"] / 255
        prepared[:, place] = ((scaled - preprocessing["mean"][place]) / preprocessing["std"][place]).float()
    return prepared


# %% tags=["right"] task="03c.3"
def prepare(images, preprocessing):
    """With torchvision, on the scale from 0 to 1."""
    from torchvision.transforms.functional import normalize

    top = preprocessing["top"]
    pixels = images.flip(1) if preprocessing["order"] == "BGR" else images
    mean, std = ([number / top for number in preprocessing[name]] for name in ("mean", "std"))
    return normalize(pixels.float() / 255, mean, std)


# %% tags=["wrong"] task="03c.3" misconception="the range was passed over"
def prepare(images, preprocessing):
    pixels = images.float() / 255
    if preprocessing["order"] == "BGR":
        pixels = pixels.flip(1)
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (pixels - mean) / std


# %% tags=["wrong"] task="03c.3" misconception="the order was passed over"
def prepare(images, preprocessing):
    pixels = images.float() / 255 * preprocessing["top"]
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (pixels - mean) / std


# %% tags=["wrong"] task="03c.3" misconception="turned round after the mean"
def prepare(images, preprocessing):
    pixels = images.float() / 255 * preprocessing["top"]
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    prepared = (pixels - mean) / std
    return prepared.flip(1) if preprocessing["order"] == "BGR" else prepared


# %% tags=["wrong"] task="03c.3" misconception="the shift without the spread"
def prepare(images, preprocessing):
    pixels = images.float() / 255 * preprocessing["top"]
    if preprocessing["order"] == "BGR":
        pixels = pixels.flip(1)
    return pixels - torch.tensor(preprocessing["mean"]).view(3, 1, 1)


# %% tags=["hidden"] task="03c.3"
def draw_03c_3(rng):
    """Several images, three pixels wide; any mean and std."""
    top = int(rng.choice([1, 255]))
    mean, std = (top * rng.uniform(0.2, 0.6, 3)).tolist(), (top * rng.uniform(0.2, 0.6, 3)).tolist()
    order = str(rng.choice(["RGB", "BGR"]))
    images = rng.integers(0, 256, size=(3, 3, 2, 3)).astype(np.uint8)
    return {"images": images, "preprocessing": {"mean": mean, "std": std, "top": top, "order": order}}


# %% [markdown] tags=["task"] task="03c.4"
# **The complaint:** "In the report the AUC was better than it has ever been since."
#
# `choose(candidates, score)` gets a list of names of settings and a function: `score(candidate, split)` is the score of
# that setting on the split `"train"`, `"val"` or `"test"`, higher is better. It returns the pair of the chosen
# setting and the score that goes into the report, one that can be believed. No two scores are the same.


# %% tags=["answer"] task="03c.4"
def choose(candidates, score):
    # BEGIN SOLUTION
    best = max(candidates, key=lambda candidate: score(candidate, "val"))
    return best, score(best, "test")
    # END SOLUTION


# %% tags=["given"] task="03c.4" misconception="the test set was used to choose"
def choose(candidates, score):
    best, best_score = None, 0.0
    for candidate in candidates:
        found = score(candidate, "test")
        if found > best_score:
            best, best_score = candidate, found
    return best, best_score


# %% tags=["check"]
check("03c.4", choose)


# %% tags=["right"] task="03c.4"
def choose(candidates, score):
    ranked = sorted(((score(candidate, "val"), candidate) for candidate in candidates), reverse=True)
    _, best = ranked[0]
    return [best, score(best, "test")]


# %% tags=["right"] task="03c.4"
def choose(candidates, score):
    best, best_score = None, float("-inf")
    for candidate in candidates:
        found = score(candidate, "val")
        if found > best_score:
            best, best_score = candidate, found
    return best, score(best, "test")


# %% tags=["wrong"] task="03c.4" misconception="the flattered score was reported"
def choose(candidates, score):
    best = max(candidates, key=lambda candidate: score(candidate, "val"))
    return best, score(best, "val")


# %% tags=["wrong"] task="03c.4" misconception="the test was opened for every candidate"
def choose(candidates, score):
    rows = [(score(candidate, "val"), score(candidate, "test"), candidate) for candidate in candidates]
    _, test, best = max(rows)
    return best, test


# %% tags=["wrong"] task="03c.4" misconception="chosen by the training score"
def choose(candidates, score):
    best = max(candidates, key=lambda candidate: score(candidate, "train"))
    return best, score(best, "test")


# %% tags=["wrong"] task="03c.4" misconception="the worst was chosen"
def choose(candidates, score):
    best = min(candidates, key=lambda candidate: score(candidate, "val"))
    return best, score(best, "test")


# %% tags=["hidden"] task="03c.4"
def draw_03c_4(rng):
    """A single candidate; scores below zero."""
    names = ["a"] if rng.integers(2) else ["a", "b", "c", "d", "e", "f"]
    rows = {
        split: dict(zip(names, (-rng.random(len(names))).tolist(), strict=True)) for split in ("train", "val", "test")
    }
    return {"scores": rows}


# %% [markdown] tags=["solution"]
# ## Why nobody noticed
#
# 1. **The loop.** The backbone *was* in evaluation mode, in the line above the loop. `model.train()` is so usual that
# no    reader sees it. What helps is a comparison of tensors before and after.
# 2. **The test.** In training mode a network is a little worse, and a little different each time: that looks like
# noise.    What helps is to call the function twice.
# 3. **The preparation.** ImageNet's six numbers are right for so many networks that they look like a law of nature.
#    What helps is that the network brings its own.
# 4. **The choice.** The report was true: that *was* the score on the test cells. What helps is to count how often the
# test    split is opened.

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
