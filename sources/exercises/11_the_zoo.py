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
# # Exercises 11 · The zoo
#
# Five tasks on what lies between a name in a list of models and a number that you can believe: what a decoder reads
# from a mask, what a network costs, what a loader must refuse, which classes compete in zero-shot learning, and how to
# choose one of several. About an hour. Do lesson 11 before.
#
# Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. `hint("11.1")` opens a
# hint, three in all. Your answer goes into the one cell that is there for it, with everything that it needs: only that
# cell is graded. A check is not a grade; grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="11.1"
# A batch of texts is padded to one length, and a mask says which positions hold real tokens. Tokenizers of encoders pad
# on the right; many of decoders pad on the left. **Write `from_mask(mask)`**, which rebuilds for a decoder what depends
# on the batch. `mask` is a bool tensor of shape `(n, L)`, True where a token is real; the real tokens of a text (one at
# least) stand side by side, with padding before *or* after them, and a batch may hold both kinds. Return three tensors,
# `places, sees, last`:
#
# - `places`, whole numbers of shape `(n, L)`: which token of its text each real one is, counted from 0, wherever the
#   padding is;
# - `sees`, bool of shape `(n, L, L)`: `sees[i, a, b]` is True where the token at position `a` of text `i` attends to
#   the one at position `b`. In a decoder, a real token attends to the real tokens before it and to itself;
# - `last`, whole numbers of shape `(n,)`: the *position* (0 to `L - 1`) of the last real token of each text. It is the
#   only one that has read the whole text, so its state goes to the classifier.
#
# What you write in the rows of padding, `places[i, a]` and `sees[i, a, :]` with `a` a position of padding, does not
# count.


# %% tags=["answer"] task="11.1"
def from_mask(mask):
    # BEGIN SOLUTION
    length = mask.shape[1]
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)
    earlier = torch.ones(length, length, dtype=torch.bool).tril()  # (L, L): rows look, columns are looked at
    sees = mask[:, None, :] & earlier
    last = (mask * torch.arange(1, length + 1)).argmax(dim=1)
    return places, sees, last
    # END SOLUTION


# %% tags=["check"]
check("11.1", from_mask)


# %% tags=["right"] task="11.1"
def from_mask(mask):
    """Text by text."""
    n, length = mask.shape
    places = torch.zeros(n, length, dtype=torch.long)
    sees = torch.zeros(n, length, length, dtype=torch.bool)
    last = []
    for text in range(n):
        real = mask[text].nonzero().flatten().tolist()
        for place, position in enumerate(real):
            places[text, position] = place
            for before in real[: place + 1]:
                sees[text, position, before] = True
        last.append(real[-1])
    return places, sees, torch.tensor(last)


# %% tags=["right"] task="11.1"
def from_mask(mask):
    position = torch.arange(mask.shape[1])
    first = mask.int().argmax(dim=1, keepdim=True)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
    sees = (position[None, None, :] <= position[None, :, None]) & (position[None, None, :] >= first[:, :, None])
    return position - first, sees, last


# %% tags=["wrong"] task="11.1" misconception="the last position instead of the last token"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).tril()
    return mask.cumsum(dim=1) - 1, sees, torch.full((len(mask),), length - 1)


# %% tags=["wrong"] task="11.1" misconception="as if padding were always on the right"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).tril()
    return torch.arange(length).expand(mask.shape), sees, mask.sum(dim=1) - 1


# %% tags=["wrong"] task="11.1" misconception="the future is seen"
def from_mask(mask):
    sees = mask[:, None, :] & mask[:, :, None]
    return mask.cumsum(dim=1) - 1, sees, (mask * torch.arange(1, mask.shape[1] + 1)).argmax(dim=1)


# %% tags=["wrong"] task="11.1" misconception="only the future is seen"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).triu()
    return mask.cumsum(dim=1) - 1, sees, (mask * torch.arange(1, length + 1)).argmax(dim=1)


# %% tags=["wrong"] task="11.1" misconception="padding before the text is seen"
def from_mask(mask):
    length = mask.shape[1]
    sees = torch.ones(length, length, dtype=torch.bool).tril().expand(len(mask), length, length)
    return mask.cumsum(dim=1) - 1, sees, (mask * torch.arange(1, length + 1)).argmax(dim=1)


# %% tags=["wrong"] task="11.1" misconception="the token does not see itself"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).tril(-1)
    return mask.cumsum(dim=1) - 1, sees, (mask * torch.arange(1, length + 1)).argmax(dim=1)


# %% tags=["wrong"] task="11.1" misconception="padding takes places"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).tril()
    return torch.arange(length).expand(mask.shape), sees, (mask * torch.arange(1, length + 1)).argmax(dim=1)


# %% tags=["wrong"] task="11.1" misconception="places from one"
def from_mask(mask):
    length = mask.shape[1]
    sees = mask[:, None, :] & torch.ones(length, length, dtype=torch.bool).tril()
    return mask.cumsum(dim=1), sees, (mask * torch.arange(1, length + 1)).argmax(dim=1)


# %% tags=["hidden"] task="11.1"
def draw_11_1(rng):
    """No padding at all, one token in each text, a single text, a single position."""
    width = int(rng.integers(1, 5))
    lengths = [np.full(2, width), np.ones(3, dtype=int), rng.integers(1, width + 1, 1)][int(rng.integers(3))]
    places = np.arange(width)
    sides = rng.integers(2, size=len(lengths))
    rows = [places < length if side else places >= width - length for length, side in zip(lengths, sides, strict=True)]
    return {"mask": np.stack(rows).astype(int).tolist()}


# %% [markdown] tags=["task"] task="11.2"
# Parameters fill the memory, multiply-adds take the time, and the two are not the same thing. **Write `cost(layers,
# side)`**, which counts both for a row of convolutions without bias, applied one after the other to a *single* square
# image. `layers` is a list of dicts of whole numbers, with the keys
#
# - `inputs`, `outputs`: channels that go in and come out,
# - `kernel`: the side of the kernel, odd,
# - `stride`,
# - `groups`: as in `nn.Conv2d`; both numbers of channels are multiples of it, and a *depthwise* convolution has as many
#   groups as channels.
#
# Each layer pads its image by `kernel // 2` on all sides, as `nn.Conv2d(..., padding=kernel // 2)` does. `side` is the
# side of the image in pixels. Return `parameters, multiply_adds`, two whole numbers: the sums over the layers. One
# multiplication with its addition counts 1, those with padding included, as is usual.
#
# When it works: how many times dearer is a 3 x 3 convolution from 128 channels to 128 than a depthwise 3 x 3 and a
# pointwise 1 x 1 after it? That is how EfficientNet gets by with so few.


# %% tags=["answer"] task="11.2"
def cost(layers, side):
    # BEGIN SOLUTION
    parameters = multiply_adds = 0
    for layer in layers:
        side = math.ceil(side / layer["stride"])
        weights = layer["outputs"] * (layer["inputs"] // layer["groups"]) * layer["kernel"] ** 2
        parameters += weights
        multiply_adds += weights * side**2
    return parameters, multiply_adds
    # END SOLUTION


# %% tags=["check"]
check("11.2", cost)

# %% tags=["solution"]
full = [{"inputs": 128, "outputs": 128, "kernel": 3, "stride": 1, "groups": 1}]
apart = [
    {"inputs": 128, "outputs": 128, "kernel": 3, "stride": 1, "groups": 128},
    {"inputs": 128, "outputs": 128, "kernel": 1, "stride": 1, "groups": 1},
]
print(f"{cost(full, 14)[1] / cost(apart, 14)[1]:.1f} times")
assert abs(cost(full, 14)[1] / cost(apart, 14)[1] - 9 * 128 / (9 + 128)) < 1e-9


# %% tags=["right"] task="11.2"
def cost(layers, side):
    """By PyTorch, on tensors that have no content."""
    x, parameters, work = torch.empty(1, layers[0]["inputs"], side, side, device="meta"), 0, 0
    for layer in layers:
        k = layer["kernel"]
        options = {"stride": layer["stride"], "padding": k // 2, "groups": layer["groups"], "bias": False}
        convolution = nn.Conv2d(layer["inputs"], layer["outputs"], k, device="meta", **options)
        x = convolution(x)
        parameters += convolution.weight.numel()
        work += convolution.weight.numel() * x.shape[2] * x.shape[3]
    return parameters, work


# %% tags=["right"] task="11.2"
def cost(layers, side):
    """Channel by channel and position by position."""
    parameters, work = 0, 0
    for layer in layers:
        positions = len(range(0, side, layer["stride"]))
        reads = layer["inputs"] / layer["groups"] * layer["kernel"] * layer["kernel"]
        for _ in range(layer["outputs"]):
            parameters += reads
            work += reads * positions * positions
        side = positions
    return int(parameters), int(work)


# %% tags=["wrong"] task="11.2" misconception="the groups were forgotten"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        side = math.ceil(side / layer["stride"])
        weights = layer["outputs"] * layer["inputs"] * layer["kernel"] ** 2
        parameters, work = parameters + weights, work + weights * side**2
    return parameters, work


# %% tags=["wrong"] task="11.2" misconception="divided by the groups twice"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        side, groups = math.ceil(side / layer["stride"]), layer["groups"]
        weights = (layer["outputs"] // groups) * (layer["inputs"] // groups) * layer["kernel"] ** 2
        parameters, work = parameters + weights, work + weights * side**2
    return parameters, work


# %% tags=["wrong"] task="11.2" misconception="a kernel is a line"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        side = math.ceil(side / layer["stride"])
        weights = layer["outputs"] * layer["inputs"] // layer["groups"] * layer["kernel"]
        parameters, work = parameters + weights, work + weights * side**2
    return parameters, work


# %% tags=["wrong"] task="11.2" misconception="the stride changes nothing"
def cost(layers, side):
    parameters = sum(x["outputs"] * x["inputs"] // x["groups"] * x["kernel"] ** 2 for x in layers)
    return parameters, parameters * side**2


# %% tags=["wrong"] task="11.2" misconception="counted at the input's positions"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        weights = layer["outputs"] * (layer["inputs"] // layer["groups"]) * layer["kernel"] ** 2
        parameters, work = parameters + weights, work + weights * side**2
        side = math.ceil(side / layer["stride"])
    return parameters, work


# %% tags=["wrong"] task="11.2" misconception="the side was rounded down"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        side //= layer["stride"]
        weights = layer["outputs"] * (layer["inputs"] // layer["groups"]) * layer["kernel"] ** 2
        parameters, work = parameters + weights, work + weights * side**2
    return parameters, work


# %% tags=["wrong"] task="11.2" misconception="multiplications and additions were counted apart"
def cost(layers, side):
    parameters = work = 0
    for layer in layers:
        side = math.ceil(side / layer["stride"])
        weights = layer["outputs"] * (layer["inputs"] // layer["groups"]) * layer["kernel"] ** 2
        parameters, work = parameters + weights, work + 2 * weights * side**2
    return parameters, work


# %% tags=["hidden"] task="11.2"
def draw_11_2(rng):
    """A single layer, strides of three, even sides, sides of one pixel, groups with more outputs than inputs."""
    groups, layers, channels = int(rng.integers(1, 4)), [], 6
    for _ in range(int(rng.integers(1, 4))):
        outputs = 6 * int(rng.integers(1, 4))
        kernel, stride = int(rng.choice([1, 3, 7])), int(rng.integers(1, 4))
        layers.append({"inputs": channels, "outputs": outputs, "kernel": kernel, "stride": stride, "groups": groups})
        channels = outputs
    return {"layers": layers, "side": int(rng.choice([1, 8, 10, 32]))}


# %% [markdown] tags=["task"] task="11.3"
# The usual loader copies from a file what it finds, fills in the rest at random, and says so in a warning that scrolls
# by. **Write `load_or_refuse(network, file, prefix)`**, which does not. `network` is an `nn.Module`; `file` is a dict
# from names to tensors. The file was saved from a larger model, in which the network was a part: the tensor that
# `network.state_dict()` calls `"stem.0.weight"` is in the file under `prefix + "stem.0.weight"`, with `prefix` a string
# such as `"bert."`, or `""`.
#
# - If the file holds *every* tensor of `network.state_dict()` (parameters, and buffers such as stored statistics), each
#   with the shape that it has there: copy them into the network, and return the sorted list of the names in the file
#   that were not used, as they stand in the file. The head of the larger model is among them; it does no harm.
# - Otherwise raise a `ValueError` that names what is missing or has another shape, and leave the network exactly as it
#   was.


# %% tags=["answer"] task="11.3"
def load_or_refuse(network, file, prefix):
    # BEGIN SOLUTION
    own = network.state_dict()
    missing = [name for name in own if prefix + name not in file]
    other = [name for name in own if name not in missing and file[prefix + name].shape != own[name].shape]
    if missing or other:
        raise ValueError(f"the file lacks {missing} and has another shape for {other}")
    network.load_state_dict({name: file[prefix + name] for name in own})
    return sorted(set(file) - {prefix + name for name in own})
    # END SOLUTION


# %% tags=["check"]
check("11.3", load_or_refuse)


# %% tags=["right"] task="11.3"
def load_or_refuse(network, file, prefix):
    """Try on a copy; PyTorch's own errors are passed on as ours."""
    import copy

    rest = {}
    mine = {}
    for name, value in file.items():
        stripped = name[len(prefix) :]
        (mine if name.startswith(prefix) and stripped in network.state_dict() else rest)[name] = value
    mine = {name[len(prefix) :]: value for name, value in mine.items()}
    try:
        copy.deepcopy(network).load_state_dict(mine)
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    network.load_state_dict(mine)
    return sorted(rest)


# %% tags=["right"] task="11.3"
def load_or_refuse(network, file, prefix):
    targets = {prefix + name: tensor for name, tensor in [*network.named_parameters(), *network.named_buffers()]}
    for name, tensor in targets.items():
        if name not in file:
            raise ValueError(f"{name} is missing")
        if file[name].shape != tensor.shape:
            raise ValueError(f"{name} is {tuple(file[name].shape)}, not {tuple(tensor.shape)}")
    with torch.no_grad():
        for name, tensor in targets.items():
            tensor.copy_(file[name])
    return sorted(name for name in file if name not in targets)


# %% tags=["wrong"] task="11.3" misconception="nothing was loaded"
def load_or_refuse(network, file, prefix):
    report = network.load_state_dict(file, strict=False)
    return sorted(report.unexpected_keys)


# %% tags=["wrong"] task="11.3" misconception="a whole file was refused"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    names = {name.removeprefix(prefix): value for name, value in file.items()}
    if set(names) != set(own) or any(names[name].shape != own[name].shape for name in own):
        raise ValueError("the file does not fit")
    network.load_state_dict(names)
    return []


# %% tags=["wrong"] task="11.3" misconception="what the file lacks stays random"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    fits = {name: file[prefix + name] for name in own if prefix + name in file}
    if any(value.shape != own[name].shape for name, value in fits.items()):
        raise ValueError("another shape")
    network.load_state_dict(fits, strict=False)
    return sorted(set(file) - {prefix + name for name in own})


# %% tags=["wrong"] task="11.3" misconception="only parameters were looked at"
def load_or_refuse(network, file, prefix):
    for name, parameter in network.named_parameters():
        if prefix + name not in file or file[prefix + name].shape != parameter.shape:
            raise ValueError(f"{prefix + name} does not fit")
    own = network.state_dict()
    network.load_state_dict({name: file[prefix + name] for name in own if prefix + name in file}, strict=False)
    return sorted(set(file) - {prefix + name for name in own})


# %% tags=["wrong"] task="11.3" misconception="another shape was accepted"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    if any(prefix + name not in file for name in own):
        raise ValueError("the file lacks a tensor")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(file[prefix + name])
    return sorted(set(file) - {prefix + name for name in own})


# %% tags=["wrong"] task="11.3" misconception="refused when it was half loaded"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    try:
        network.load_state_dict({name: file[prefix + name] for name in own if prefix + name in file})
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return sorted(set(file) - {prefix + name for name in own})


# %% tags=["wrong"] task="11.3" misconception="refused by another error"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    taken = {name: file[prefix + name] for name in own}
    assert all(taken[name].shape == own[name].shape for name in own)
    network.load_state_dict(taken)
    return sorted(set(file) - {prefix + name for name in own})


# %% tags=["wrong"] task="11.3" misconception="what was left over is not told"
def load_or_refuse(network, file, prefix):
    own = network.state_dict()
    if any(prefix + name not in file or file[prefix + name].shape != own[name].shape for name in own):
        raise ValueError("the file does not fit")
    network.load_state_dict({name: file[prefix + name] for name in own})
    return [name for name in own if prefix + name not in file]


# %% tags=["hidden"] task="11.3"
def draw_11_3(rng):
    """No prefix; a prefix with which a name of the network begins; a statistic of another shape."""
    return {
        "prefix": str(rng.choice(["", "stem.", "a.b."])),
        "width": int(rng.integers(2, 7)),
        "lacks_weight": str(rng.choice(["stem.0.bias", "block.1.weight"])),
        "lacks_statistic": str(rng.choice(["stem.1.running_var", "block.1.running_mean"])),
        "other_shape": str(rng.choice(["stem.1.weight", "block.1.running_mean"])),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="11.4"
# Two towers that never met, joined by a regression. **Write `zero_shot(words, rows, seen, strength)`**: `words` has
# shape `(c, p)`, the embedding of each class's name; `rows` has shape `(c, q)`, the row of weights of each class in a
# classifier of images; both are float64. `seen` is a tensor of some class numbers (0 to c - 1, in any order): only
# these classes may fit the join. With $t$ and $m$ the means of `words` and `rows` over the seen classes, find the $B$
# of shape `(p, q)` that minimises
#
# $$\sum_{i\ \text{seen}} \left| w_i - m - B^\top (x_i - t) \right|^2 + \text{strength} \cdot |B|^2,$$
#
# with $x_i$ and $w_i$ the word and the row of class $i$ and $|B|^2$ the sum of the squares of its entries. Return
# `predicted, among_unseen, among_all`, for the unseen classes (all others, in ascending order):
#
# - `predicted`, float64 `(u, q)`: the row that each unseen class's name leads to, $m + B^\top (x - t)$;
# - `among_unseen`, whole numbers `(u,)`: for each predicted row, the *number of the class* whose true row is nearest if
#   the unseen classes compete;
# - `among_all`: the same if all c classes compete.
#
# *Nearest* means the largest cosine, after the mean of the competing true rows has been subtracted from both, the
# predicted row and the true ones.


# %% tags=["answer"] task="11.4"
def zero_shot(words, rows, seen, strength):
    # BEGIN SOLUTION
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    coefficients = torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1], dtype=x.dtype), x.T @ w)
    predicted = m + (words[unseen] - t) @ coefficients

    def nearest(candidates):
        centre = rows[candidates].mean(dim=0)
        ours, theirs = F.normalize(predicted - centre, dim=1), F.normalize(rows[candidates] - centre, dim=1)
        return candidates[(ours @ theirs.T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)
    # END SOLUTION


# %% tags=["check"]
check("11.4", zero_shot)

# %% tags=["solution"]
# 200 classes whose rows follow their words in part, 160 of them seen: who competes decides what is reported.
generator = torch.Generator().manual_seed(0)
true_words = torch.randn(200, 20, generator=generator, dtype=torch.float64)
mixing = torch.randn(20, 60, generator=generator, dtype=torch.float64)
noise = torch.randn(200, 60, generator=generator, dtype=torch.float64)
true_rows = true_words @ mixing + 8 * noise
_, among_unseen, among_all = zero_shot(true_words, true_rows, torch.arange(160), 1.0)
own = torch.arange(160, 200)
print(f"among 40: {(among_unseen == own).double().mean():.2f}, among 200: {(among_all == own).double().mean():.2f}")
assert (among_unseen == own).sum() > (among_all == own).sum()


# %% tags=["right"] task="11.4"
def zero_shot(words, rows, seen, strength):
    """scikit-learn's ridge, and cosines one by one."""
    from sklearn.linear_model import Ridge

    w, r = words.numpy(), rows.numpy()
    unseen = [k for k in range(len(w)) if k not in set(seen.tolist())]
    predicted = Ridge(alpha=strength).fit(w[seen.numpy()], r[seen.numpy()]).predict(w[unseen])

    def nearest(candidates):
        centre, found = r[candidates].mean(axis=0), []
        for row in predicted - centre:
            cosines = [row @ (r[k] - centre) / np.linalg.norm(row) / np.linalg.norm(r[k] - centre) for k in candidates]
            found.append(candidates[int(np.argmax(cosines))])
        return found

    return predicted, nearest(unseen), nearest(list(range(len(w))))


# %% tags=["right"] task="11.4"
def zero_shot(words, rows, seen, strength):
    """The dual form: the new rows are mixtures of those seen."""
    is_seen = torch.zeros(len(words), dtype=torch.bool)
    is_seen[seen] = True
    x = words - words[is_seen].mean(dim=0)
    m = rows[is_seen].mean(dim=0)
    kernel = x[is_seen] @ x[is_seen].T + strength * torch.eye(int(is_seen.sum()), dtype=x.dtype)
    predicted = x[~is_seen] @ x[is_seen].T @ torch.linalg.inv(kernel) @ (rows[is_seen] - m) + m
    chosen = []
    for competes in (~is_seen, torch.ones_like(is_seen)):
        centre = rows[competes].mean(dim=0)
        likeness = F.cosine_similarity((predicted - centre)[:, None], (rows - centre)[None], dim=2)
        chosen.append(likeness.masked_fill(~competes, -2).argmax(dim=1))
    return predicted, *chosen


# %% tags=["wrong"] task="11.4" misconception="fitted on the unseen classes too"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words.mean(dim=0), rows.mean(dim=0)
    x, w = words - t, rows - m
    predicted = m + x[unseen] @ torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]).double(), x.T @ w)

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="without an intercept"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    x, w = words[seen], rows[seen]
    predicted = words[unseen] @ torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]).double(), x.T @ w)

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the new words lost their own mean"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    m = rows[seen].mean(dim=0)
    x, w = words[seen] - words[seen].mean(dim=0), rows[seen] - m
    new = words[unseen] - words[unseen].mean(dim=0)
    predicted = m + new @ torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1]).double(), x.T @ w)

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the strength was forgotten"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    predicted = m + (words[unseen] - t) @ torch.linalg.lstsq(words[seen] - t, rows[seen] - m).solution

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the strength grew with the classes"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    gram = x.T @ x / len(seen) + strength * torch.eye(x.shape[1]).double()
    predicted = m + (words[unseen] - t) @ torch.linalg.solve(gram, x.T @ w / len(seen))

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[(F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="counted within the unseen"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    gram = x.T @ x + strength * torch.eye(x.shape[1]).double()
    predicted = m + (words[unseen] - t) @ torch.linalg.solve(gram, x.T @ w)

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return (F.normalize(predicted - centre) @ F.normalize(rows[c] - centre).T).argmax(dim=1)

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the common direction was left in"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    gram = x.T @ x + strength * torch.eye(x.shape[1]).double()
    predicted = m + (words[unseen] - t) @ torch.linalg.solve(gram, x.T @ w)

    def nearest(c):
        return c[(F.normalize(predicted) @ F.normalize(rows[c]).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the longest row won"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    gram = x.T @ x + strength * torch.eye(x.shape[1]).double()
    predicted = m + (words[unseen] - t) @ torch.linalg.solve(gram, x.T @ w)

    def nearest(c):
        centre = rows[c].mean(dim=0)
        return c[((predicted - centre) @ (rows[c] - centre).T).argmax(dim=1)]

    return predicted, nearest(unseen), nearest(everybody)


# %% tags=["wrong"] task="11.4" misconception="the seen classes were kept out"
def zero_shot(words, rows, seen, strength):
    everybody = torch.arange(len(words))
    unseen = everybody[~torch.isin(everybody, seen)]
    t, m = words[seen].mean(dim=0), rows[seen].mean(dim=0)
    x, w = words[seen] - t, rows[seen] - m
    gram = x.T @ x + strength * torch.eye(x.shape[1]).double()
    predicted = m + (words[unseen] - t) @ torch.linalg.solve(gram, x.T @ w)
    centre = rows[unseen].mean(dim=0)
    chosen = unseen[(F.normalize(predicted - centre) @ F.normalize(rows[unseen] - centre).T).argmax(dim=1)]
    return predicted, chosen, chosen


# %% tags=["hidden"] task="11.4"
def draw_11_4(rng):
    """More words' features than seen classes, two unseen classes, strengths far apart."""
    classes = int(rng.integers(6, 9))
    words = rng.normal(size=(classes, int(rng.integers(6, 12))))
    rows = words @ rng.normal(size=(words.shape[1], 5)) + rng.normal(size=(classes, 5)) + 1
    return {
        "words": words,
        "rows": rows,
        "seen": rng.permutation(classes)[2:],
        "strength": float(rng.choice([0.01, 3.0, 100.0])),
    }


# %% [markdown] tags=["task"] task="11.5"
# Several published networks read what you have. **Write `choose(candidates, budget, probe)`**: `candidates` is a list
# of dicts with the keys `name` (a string), `multiply_adds` (billions for one image) and `imagenet` (published top-1, in
# percent). `budget` is how many billions you can afford: a candidate with exactly so many is affordable, and there is
# at least one that is. `probe(name, split)` freezes the network, fits a probe on your training cells, and gives its
# score on `split`, which is `"val"` or `"test"`; higher is better. A probe takes its time, so:
#
# - probe on `"val"` each candidate that you can afford, once, and no other;
# - choose the one with the highest validation score; of several equal ones, that with the fewest multiply-adds;
# - read `"test"` once, for the one that was chosen.
#
# Return `name, score`: the name of the chosen one, and the score to be reported, which chose nothing.


# %% tags=["answer"] task="11.5"
def choose(candidates, budget, probe):
    # BEGIN SOLUTION
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    scores = {candidate["name"]: probe(candidate["name"], "val") for candidate in affordable}
    best = max(affordable, key=lambda candidate: (scores[candidate["name"]], -candidate["multiply_adds"]))
    return best["name"], probe(best["name"], "test")
    # END SOLUTION


# %% tags=["check"]
check("11.5", choose)


# %% tags=["right"] task="11.5"
def choose(candidates, budget, probe):
    """From the cheapest up: only a higher score takes the lead."""
    leader, highest = None, -math.inf
    for candidate in sorted(candidates, key=lambda c: c["multiply_adds"]):
        if candidate["multiply_adds"] > budget:
            break
        score = probe(candidate["name"], "val")
        if score > highest:
            leader, highest = candidate["name"], score
    return leader, probe(leader, "test")


# %% tags=["right"] task="11.5"
def choose(candidates, budget, probe):
    table = np.array([(c["multiply_adds"], i) for i, c in enumerate(candidates) if c["multiply_adds"] <= budget])
    names = [candidates[int(i)]["name"] for i in table[:, 1]]
    scores = np.array([probe(name, "val") for name in names])
    order = np.lexsort((table[:, 0], -scores))
    name = names[order[0]]
    return [name, probe(name, "test")]


# %% tags=["wrong"] task="11.5" misconception="dearer than the budget"
def choose(candidates, budget, probe):
    scores = {candidate["name"]: probe(candidate["name"], "val") for candidate in candidates}
    best = max(scores, key=scores.get)
    return best, probe(best, "test")


# %% tags=["wrong"] task="11.5" misconception="ImageNet chose"
def choose(candidates, budget, probe):
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    best = max(affordable, key=lambda candidate: candidate["imagenet"])["name"]
    return best, probe(best, "test")


# %% tags=["wrong"] task="11.5" misconception="the test split chose"
def choose(candidates, budget, probe):
    names = [candidate["name"] for candidate in candidates if candidate["multiply_adds"] <= budget]
    scores = {name: probe(name, "test") for name in names}
    best = max(scores, key=scores.get)
    return best, scores[best]


# %% tags=["wrong"] task="11.5" misconception="the cheapest was chosen"
def choose(candidates, budget, probe):
    best = min(candidates, key=lambda candidate: candidate["multiply_adds"])["name"]
    return best, probe(best, "test")


# %% tags=["wrong"] task="11.5" misconception="the dearer of two equals"
def choose(candidates, budget, probe):
    names = [candidate["name"] for candidate in candidates if candidate["multiply_adds"] <= budget]
    scores = {name: probe(name, "val") for name in names}
    best = max(scores, key=scores.get)
    return best, probe(best, "test")


# %% tags=["wrong"] task="11.5" misconception="probed what cannot be afforded"
def choose(candidates, budget, probe):
    scores = {candidate["name"]: probe(candidate["name"], "val") for candidate in candidates}
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    best = max(affordable, key=lambda candidate: (scores[candidate["name"]], -candidate["multiply_adds"]))
    return best["name"], probe(best["name"], "test")


# %% tags=["wrong"] task="11.5" misconception="probed more than once"
def choose(candidates, budget, probe):
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    highest = max(probe(candidate["name"], "val") for candidate in affordable)
    best = [candidate for candidate in affordable if probe(candidate["name"], "val") == highest]
    name = min(best, key=lambda candidate: candidate["multiply_adds"])["name"]
    return name, probe(name, "test")


# %% tags=["wrong"] task="11.5" misconception="the flattered score was reported"
def choose(candidates, budget, probe):
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    scores = {candidate["name"]: probe(candidate["name"], "val") for candidate in affordable}
    best = max(affordable, key=lambda candidate: (scores[candidate["name"]], -candidate["multiply_adds"]))["name"]
    return best, scores[best]


# %% tags=["wrong"] task="11.5" misconception="the test was read for all"
def choose(candidates, budget, probe):
    affordable = [candidate for candidate in candidates if candidate["multiply_adds"] <= budget]
    scores = {candidate["name"]: probe(candidate["name"], "val") for candidate in affordable}
    tests = {candidate["name"]: probe(candidate["name"], "test") for candidate in affordable}
    best = max(affordable, key=lambda candidate: (scores[candidate["name"]], -candidate["multiply_adds"]))["name"]
    return best, tests[best]


# %% tags=["hidden"] task="11.5"
def draw_11_5(rng):
    """A single candidate, one that costs exactly the budget, several equal ones, scores below zero."""
    count, budget = int(rng.integers(1, 5)), 2.0
    costs = rng.permutation([2.0, 0.5, 3.0, 1.0][:count]).tolist()
    names = [f"net{index}" for index in range(count)]
    rows = rng.choice([-0.2, 0.1, 0.4], (2, count)).tolist()
    return {
        "candidates": [
            {"name": name, "multiply_adds": cost, "imagenet": float(rng.integers(60, 90))}
            for name, cost in zip(names, costs, strict=True)
        ],
        "budget": budget,
        "scores": {split: dict(zip(names, row, strict=True)) for split, row in zip(("val", "test"), rows, strict=True)},
    }


# %%
progress()
