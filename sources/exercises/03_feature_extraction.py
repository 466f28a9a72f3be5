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
# # Exercises 03 · Feature extraction
#
# Five tasks on the frozen backbone: what training mode takes from it, how to measure that, how to prevent it, how to
# use it once, and how it sees an image that was prepared for another network. About an hour. Do lesson 03 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("03.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math

import numpy as np
import torch
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="03.1"
# A pre-trained network holds batch normalisations, each with a stored mean from ImageNet. Somebody "freezes" it with
# `requires_grad_(False)`, calls `train()`, and trains a head. With each batch, every stored mean becomes
#
# $$\mu \leftarrow (1 - m)\,\mu + m\,\mu_\text{batch}$$
#
# with $m$ PyTorch's `momentum`. **Write `imagenet_left(images, batch_size, epochs, momentum)`**: which share of the
# stored mean is still ImageNet's after so many epochs? `images`, `batch_size` and `epochs` are whole numbers, the last
# batch of an epoch may be smaller, and what you return is a number from 0 to 1.
#
# When it works, try the numbers of the lesson: 200 images in batches of 32, 6 epochs, momentum 0.1. How many epochs
# does it take until less than a millionth is left?


# %% tags=["answer"] task="03.1"
def imagenet_left(images, batch_size, epochs, momentum):
    # BEGIN SOLUTION
    batches = epochs * math.ceil(images / batch_size)
    return (1 - momentum) ** batches
    # END SOLUTION


# %% tags=["check"]
check("03.1", imagenet_left)


# %% tags=["right"] task="03.1"
def imagenet_left(images, batch_size, epochs, momentum):
    left = 1.0
    for _ in range(epochs):
        for _ in range(0, images, batch_size):
            left -= momentum * left
    return left


# %% tags=["right"] task="03.1"
def imagenet_left(images, batch_size, epochs, momentum):
    full, rest = divmod(images, batch_size)
    return np.exp(epochs * (full + (rest > 0)) * np.log1p(-momentum))


# %% tags=["wrong"] task="03.1" misconception="the last batch was dropped"
def imagenet_left(images, batch_size, epochs, momentum):
    return (1 - momentum) ** (epochs * (images // batch_size))


# %% tags=["wrong"] task="03.1" misconception="one step an epoch"
def imagenet_left(images, batch_size, epochs, momentum):
    return (1 - momentum) ** epochs


# %% tags=["wrong"] task="03.1" misconception="one step an image"
def imagenet_left(images, batch_size, epochs, momentum):
    return (1 - momentum) ** (epochs * images)


# %% tags=["wrong"] task="03.1" misconception="momentum the other way round"
def imagenet_left(images, batch_size, epochs, momentum):
    return momentum ** (epochs * math.ceil(images / batch_size))


# %% tags=["wrong"] task="03.1" misconception="the share that was lost"
def imagenet_left(images, batch_size, epochs, momentum):
    return 1 - (1 - momentum) ** (epochs * math.ceil(images / batch_size))


# %% tags=["wrong"] task="03.1" misconception="subtracting instead of shrinking"
def imagenet_left(images, batch_size, epochs, momentum):
    return 1 - momentum * epochs * math.ceil(images / batch_size)


# %% tags=["hidden"] task="03.1"
def draw_03_1(rng):
    """Batches that fit exactly, a single batch, no epoch at all."""
    batch = int(rng.integers(1, 5))
    return {
        "images": batch * int(rng.integers(1, 4)),
        "batch_size": batch,
        "epochs": int(rng.integers(0, 3)),
        "momentum": float(rng.choice([0.0, 0.1, 0.5])),
    }


# %% [markdown] tags=["task"] task="03.2"
# You are given a batch normalisation that does not tell its momentum, and whose stored statistics are whatever they
# are. Find the momentum by an experiment. **Write `measure_momentum(layer, features)`**: `layer` takes a float tensor
# of shape `(n, features)`, `n` at least 2, and has `layer.running_mean` and `layer.running_var`, each of shape
# `(features,)`. Return the momentum as a number, right to three digits after the point.
#
# The layer is somebody else's, and will be used after you: its statistics *and* its mode must be as they were.


# %% tags=["answer"] task="03.2"
def measure_momentum(layer, features):
    # BEGIN SOLUTION
    mode = layer.training
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    batch = torch.full((2, features), 100.0)
    layer.train()
    layer(batch)
    momentum = (layer.running_mean - before["running_mean"]) / (100.0 - before["running_mean"])
    layer.load_state_dict(before)
    layer.train(mode)
    return momentum[0].item()
    # END SOLUTION


# %% tags=["check"]
check("03.2", measure_momentum)


# %% tags=["right"] task="03.2"
def measure_momentum(layer, features):
    import copy

    mine = copy.deepcopy(layer).train()
    x = torch.randn(64, features) * 5 - 40
    old = mine.running_mean.clone()
    mine(x)
    return ((mine.running_mean - old) / (x.mean(dim=0) - old)).mean().item()


# %% tags=["right"] task="03.2"
def measure_momentum(layer, features):
    """By the variance, which shrinks by 1 - momentum where the batch has none."""
    mode, mean, var = layer.training, layer.running_mean.clone(), layer.running_var.clone()
    layer.train()
    layer(torch.ones(4, features))
    momentum = float(1 - layer.running_var[0] / var[0])
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(var)
    layer.train(mode)
    return momentum


# %% tags=["wrong"] task="03.2" misconception="measured in evaluation mode"
def measure_momentum(layer, features):
    mode = layer.training
    layer.eval()
    before = layer.running_mean.clone()
    layer(torch.full((2, features), 100.0))
    layer.train(mode)
    return ((layer.running_mean - before) / (100.0 - before))[0].item()


# %% tags=["wrong"] task="03.2" misconception="the momentum of the old value"
def measure_momentum(layer, features):
    mode, kept = layer.training, {name: value.clone() for name, value in layer.state_dict().items()}
    layer.train()
    layer(torch.full((2, features), 100.0))
    found = 1 - ((layer.running_mean - kept["running_mean"]) / (100.0 - kept["running_mean"]))[0].item()
    layer.load_state_dict(kept)
    layer.train(mode)
    return found


# %% tags=["wrong"] task="03.2" misconception="the experiment left its traces"
def measure_momentum(layer, features):
    mode, before = layer.training, layer.running_mean.clone()
    layer.train()
    layer(torch.full((2, features), 100.0))
    layer.train(mode)
    return ((layer.running_mean - before) / (100.0 - before))[0].item()


# %% tags=["wrong"] task="03.2" misconception="the mode was changed"
def measure_momentum(layer, features):
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.train(not layer.training)
    layer.train()
    layer(torch.full((2, features), 100.0))
    found = ((layer.running_mean - kept["running_mean"]) / (100.0 - kept["running_mean"]))[0].item()
    layer.load_state_dict(kept)
    layer.eval()
    return found


# %% tags=["wrong"] task="03.2" misconception="as if the stored mean had been zero"
def measure_momentum(layer, features):
    mode, kept = layer.training, {name: value.clone() for name, value in layer.state_dict().items()}
    layer.train()
    layer(torch.full((2, features), 100.0))
    found = layer.running_mean[0].item() / 100.0
    layer.load_state_dict(kept)
    layer.train(mode)
    return found


# %% tags=["hidden"] task="03.2"
def draw_03_2(rng):
    """The ends of the range."""
    return {
        "features": int(rng.integers(1, 9)),
        "momentum": float(rng.choice([0.001, 0.9, 0.99])),
        "training": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="03.3"
# Most loops call `network.train()` at the start of each epoch. **Write `start_epoch(network, frozen)`, to be called
# instead**: `network` is an `nn.Module`, `frozen` a list of names of its children, such as `["stem", "block"]`. After
# your call, what is named is frozen, in every sense of lesson 03: its weights, its statistics and what it computes stay
# as they are during the epoch. Everything else can learn, and works as it does in training, whatever state an earlier
# phase has left it in. It returns nothing.
#
# The check trains a small network with it for two epochs, and compares.


# %% tags=["answer"] task="03.3"
def start_epoch(network, frozen):
    # BEGIN SOLUTION
    network.train()
    network.requires_grad_(True)
    for name in frozen:
        part = getattr(network, name)
        part.eval()
        part.requires_grad_(False)
    # END SOLUTION


# %% tags=["check"]
check("03.3", start_epoch)


# %% tags=["right"] task="03.3"
def start_epoch(network, frozen):
    for name, child in network.named_children():
        child.train(name not in frozen)
        for parameter in child.parameters():
            parameter.requires_grad = name not in frozen


# %% tags=["right"] task="03.3"
def start_epoch(network, frozen):
    network.train()
    for name, module in network.named_modules():
        if name.split(".")[0] in frozen:
            module.training = False
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.split(".")[0] not in frozen)


# %% tags=["wrong"] task="03.3" misconception="the statistics drifted"
def start_epoch(network, frozen):
    network.requires_grad_(True)
    for name in frozen:
        part = getattr(network, name)
        part.eval()
        part.requires_grad_(False)
    network.train()


# %% tags=["wrong"] task="03.3" misconception="the weights of the frozen part moved"
def start_epoch(network, frozen):
    network.train()
    network.requires_grad_(True)
    for name in frozen:
        getattr(network, name).eval()


# %% tags=["wrong"] task="03.3" misconception="the rest was frozen too"
def start_epoch(network, frozen):
    network.train()
    network.requires_grad_(False)
    for name in frozen:
        getattr(network, name).eval()


# %% tags=["wrong"] task="03.3" misconception="dropout still draws"
def start_epoch(network, frozen):
    network.train()
    network.requires_grad_(True)
    for name in frozen:
        part = getattr(network, name)
        part.requires_grad_(False)
        for module in part.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()


# %% tags=["wrong"] task="03.3" misconception="normalised by the batch"
def start_epoch(network, frozen):
    network.train()
    network.requires_grad_(True)
    for name in frozen:
        part = getattr(network, name)
        part.requires_grad_(False)
        for module in part.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.momentum = 0.0
            elif isinstance(module, nn.Dropout):
                module.eval()


# %% tags=["wrong"] task="03.3" misconception="everything is in evaluation mode"
def start_epoch(network, frozen):
    network.eval()
    network.requires_grad_(True)
    for name in frozen:
        getattr(network, name).requires_grad_(False)


# %% tags=["hidden"] task="03.3"
def draw_03_3(rng):
    """What an earlier phase has frozen must open; and the network is wider."""
    return {
        "frozen": ["stem", "block"],
        "frozen_before": True,
        "width": int(rng.integers(8, 12)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="03.4"
# What is frozen need be computed only once. **Write `extract_once(network, images, batch_size)`**: return the features
# of all images, row i for image i, as a float tensor of shape `(n, d)`. `network` turns a float tensor of shape `(b,
# 4)` into one of shape `(b, d)` (rows of four numbers stand for images); `images` has shape `(n, 4)`.
#
# At most `batch_size` images may be in a batch, each image passes once, the features carry no graph, and the network is
# afterwards what it was before, mode included. It may come in training mode.


# %% tags=["answer"] task="03.4"
def extract_once(network, images, batch_size):
    # BEGIN SOLUTION
    mode = network.training
    network.eval()
    with torch.no_grad():
        features = torch.cat([network(batch) for batch in images.split(batch_size)])
    network.train(mode)
    return features
    # END SOLUTION


# %% tags=["check"]
check("03.4", extract_once)


# %% tags=["right"] task="03.4"
@torch.inference_mode()
def extract_once(network, images, batch_size):
    mode, rows = network.training, []
    network.train(False)
    for start in range(0, len(images), batch_size):
        rows.extend(network(images[start : start + batch_size]))
    network.train(mode)
    return torch.stack(rows)


# %% tags=["right"] task="03.4"
def extract_once(network, images, batch_size):
    from torch.utils.data import DataLoader

    mode = network.training
    network.eval()
    parts = [network(batch).detach() for batch in DataLoader(images, batch_size=batch_size)]
    network.train(mode)
    return torch.cat(parts)


# %% tags=["wrong"] task="03.4" misconception="extracted in training mode"
def extract_once(network, images, batch_size):
    with torch.no_grad():
        return torch.cat([network(batch) for batch in images.split(batch_size)])


# %% tags=["wrong"] task="03.4" misconception="the last batch was dropped"
def extract_once(network, images, batch_size):
    mode = network.training
    network.eval()
    whole = len(images) // batch_size * batch_size
    with torch.no_grad():
        features = torch.cat([network(batch) for batch in images[:whole].split(batch_size)])
    network.train(mode)
    return features


# %% tags=["wrong"] task="03.4" misconception="images passed more than once"
def extract_once(network, images, batch_size):
    mode = network.training
    network.eval()
    width = network(images[:1]).shape[1]
    features = torch.zeros(len(images), width)
    with torch.no_grad():
        for index in torch.arange(len(images)).split(batch_size):
            features[index] = network(images[index])
    network.train(mode)
    return features


# %% tags=["wrong"] task="03.4" misconception="all in one batch"
def extract_once(network, images, batch_size):
    mode = network.training
    network.eval()
    with torch.no_grad():
        features = network(images)
    network.train(mode)
    return features


# %% tags=["wrong"] task="03.4" misconception="the graph was kept"
def extract_once(network, images, batch_size):
    mode = network.training
    network.eval()
    features = torch.cat([network(batch) for batch in images.split(batch_size)])
    network.train(mode)
    return features


# %% tags=["wrong"] task="03.4" misconception="the mode was changed"
def extract_once(network, images, batch_size):
    network.eval()
    with torch.no_grad():
        return torch.cat([network(batch) for batch in images.split(batch_size)])


# %% tags=["wrong"] task="03.4" misconception="the order was lost"
def extract_once(network, images, batch_size):
    mode = network.training
    network.eval()
    order = torch.arange(len(images)).flip(0)
    with torch.no_grad():
        features = torch.cat([network(images[index]) for index in order.split(batch_size)])
    network.train(mode)
    return features


# %% tags=["hidden"] task="03.4"
def draw_03_4(rng):
    """A single image, a batch larger than everything, a network that comes in evaluation mode."""
    count = int(rng.choice([1, 2, 5]))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "batch_size": int(rng.choice([1, 5, 100])),
        "training": False,
        "width": 5,
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="03.5"
# Preprocessing is a part of the network: it was trained on images that were prepared as `right`, but yours are prepared
# as `used`. The network does not know. Then it sees *another image*: the one from which the right preparation would
# have made the same numbers. Is it brighter, paler, tinted?
#
# **Write `as_seen(image, used, right)`**: `image` is a numpy array of shape `(3, height, width)` with values from 0 to
# 1; `used` and `right` are dicts with `"mean"` and `"std"`, a list of three numbers each, one a channel; to prepare is
# to subtract the mean and to divide by the std. Return the image that the network believes to see, of the same shape.
# (Its values may leave the range from 0 to 1.)
#
# When it works, try a mid-grey image, all `0.5`, prepared with ImageNet's mean and std for a network that wants one
# half for all six. What has become of grey?


# %% tags=["answer"] task="03.5"
def as_seen(image, used, right):
    # BEGIN SOLUTION
    mean, std, right_mean, right_std = (
        np.array(numbers).reshape(3, 1, 1) for numbers in (used["mean"], used["std"], right["mean"], right["std"])
    )
    return (image - mean) / std * right_std + right_mean
    # END SOLUTION


# %% tags=["check"]
check("03.5", as_seen)


# %% tags=["right"] task="03.5"
def as_seen(image, used, right):
    seen = np.empty_like(image)
    for channel in range(3):
        entering = (image[channel] - used["mean"][channel]) / used["std"][channel]
        seen[channel] = right["mean"][channel] + right["std"][channel] * entering
    return seen


# %% tags=["right"] task="03.5"
def as_seen(image, used, right):
    pixels = torch.from_numpy(image).permute(1, 2, 0)
    used, right = ({key: torch.tensor(value) for key, value in how.items()} for how in (used, right))
    gain = right["std"] / used["std"]
    return (pixels * gain + (right["mean"] - used["mean"] * gain)).permute(2, 0, 1)


# %% tags=["wrong"] task="03.5" misconception="the two preparations changed places"
def as_seen(image, used, right):
    mean, std, right_mean, right_std = (
        np.array(numbers).reshape(3, 1, 1) for numbers in (used["mean"], used["std"], right["mean"], right["std"])
    )
    return (image - right_mean) / right_std * std + mean


# %% tags=["wrong"] task="03.5" misconception="still normalised"
def as_seen(image, used, right):
    return (image - np.array(used["mean"]).reshape(3, 1, 1)) / np.array(used["std"]).reshape(3, 1, 1)


# %% tags=["wrong"] task="03.5" misconception="normalised twice"
def as_seen(image, used, right):
    for how in (used, right):
        image = (image - np.array(how["mean"]).reshape(3, 1, 1)) / np.array(how["std"]).reshape(3, 1, 1)
    return image


# %% tags=["wrong"] task="03.5" misconception="the shift without the spread"
def as_seen(image, used, right):
    return image + np.array(right["mean"]).reshape(3, 1, 1) - np.array(used["mean"]).reshape(3, 1, 1)


# %% tags=["wrong"] task="03.5" misconception="channels taken for columns"
def as_seen(image, used, right):
    return (image - np.array(used["mean"])) / np.array(used["std"]) * np.array(right["std"]) + np.array(right["mean"])


# %% tags=["hidden"] task="03.5"
def draw_03_5(rng):
    """A width that is not three, and two preparations that are the same."""
    used = {"mean": rng.random(3).tolist(), "std": (0.1 + rng.random(3)).tolist()}
    right = used if rng.integers(2) else {"mean": rng.random(3).tolist(), "std": (0.1 + rng.random(3)).tolist()}
    return {"image": rng.random((3, 2, int(rng.integers(4, 7)))), "used": used, "right": right}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **03.1.** With the lesson's numbers about one hundredth is left, and after 19 epochs less than a millionth. **03.5.**
# Grey turns light blue, and the contrast more than doubles: the network sees a *tinted* image of stronger contrast,
# which is neither noise nor nonsense. That is why a wrong normalisation costs some AUC and raises no alarm.

# %% tags=["solution"]
assert 0.01 < imagenet_left(200, 32, 6, 0.1) < 0.015
assert imagenet_left(200, 32, 19, 0.1) < 1e-6 < imagenet_left(200, 32, 18, 0.1)
imagenet, half = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, {"mean": [0.5] * 3, "std": [0.5] * 3}
red, green, blue = as_seen(np.full((3, 1, 1), 0.5), imagenet, half).ravel()
assert 0.5 < red < green < blue and min(half["std"]) / max(imagenet["std"]) > 2

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
