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
# # Clinic after 05 · The optimiser's memory
#
# Five functions as one finds them in the field. Each runs, raises nothing, and prints plausible numbers; each has
# **one** defect. All of them have to do with what an optimiser, a name or a checkpoint knows of the network, and what
# it does not. About an hour. Do lesson 05 before.
#
# **How it works.** Take away the line that raises, and run the cell and the check below it to see the symptom. Then
# repair the function and check again. `hint("05c.1")` opens a hint, three in all. Only the cell of the function is
# graded, so that everything that it needs goes into it. A check is not a grade; grading draws other inputs and has
# tests that you do not see.

# %% tags=["setup"]
import copy

import numpy as np
import torch
import torch.nn.functional as F

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="05c.1"
# **The complaint:** "I open stage after stage, and the score is always that of the head alone. Gradual unfreezing does
# not work."
#
# `train_in_phases(network, phases, images, labels)` trains in phases of 3 steps each. `network` has children, turns a
# float tensor of shape `(n, 4)` into logits of shape `(n, 2)`, and comes with everything open; `labels` has shape
# `(n,)`. `phases` is a list with one list for each phase: the names of the children that are open in it. Each phase
# holds all names of the one before it, and more. Every child is frozen until its phase begins, and moves from the first
# step of that phase on. Children that are in no phase stay frozen.
#
# A step is one of gradient descent with a rate of `0.1` and a momentum of `0.9`, as in `torch.optim.SGD`, on the mean
# cross-entropy of all images. What goes on moving keeps its momentum when a phase begins. Returned is the list of the
# losses, one a step, each before the step was taken.


# %% tags=["answer"] task="05c.1"
def train_in_phases(network, phases, images, labels):
    # BEGIN SOLUTION
    network.requires_grad_(False)
    optimizer, opened, losses = None, set(), []
    for phase in phases:
        parts = [getattr(network, name).requires_grad_(True) for name in phase if name not in opened]
        newcomers = {"params": [parameter for part in parts for parameter in part.parameters()]}
        opened.update(phase)
        if optimizer is None:
            optimizer = torch.optim.SGD([newcomers], lr=0.1, momentum=0.9)
        else:
            optimizer.add_param_group(newcomers)  # the optimiser has to be told, too
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses
    # END SOLUTION


# %% tags=["given"] task="05c.1" misconception="the optimiser was built too early"
def train_in_phases(network, phases, images, labels):
    network.requires_grad_(False)
    for name in phases[0]:
        getattr(network, name).requires_grad_(True)
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(moving, lr=0.1, momentum=0.9)
    losses = []
    for phase in phases:
        for name in phase:
            getattr(network, name).requires_grad_(True)
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["check"]
check("05c.1", train_in_phases)


# %% tags=["right"] task="05c.1"
def train_in_phases(network, phases, images, labels):
    """Everything is on the list from the start; what is frozen has no gradient and is passed over."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.requires_grad_(False)
    losses = []
    for phase in phases:
        for name in phase:
            getattr(network, name).requires_grad_(True)
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["right"] task="05c.1"
def train_in_phases(network, phases, images, labels):
    """Without an optimiser: a velocity for each tensor that moves."""
    network.requires_grad_(False)
    velocity, losses = {}, []
    for phase in phases:
        moving = [p for name in phase for p in getattr(network, name).requires_grad_(True).parameters()]
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            losses.append(loss.item())
            with torch.no_grad():
                for parameter, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
                    velocity[parameter] = 0.9 * velocity.get(parameter, 0.0) + gradient
                    parameter -= 0.1 * velocity[parameter]
    return losses


# %% tags=["wrong"] task="05c.1" misconception="one newcomer of several"
def train_in_phases(network, phases, images, labels):
    network.requires_grad_(False)
    optimizer, losses = None, []
    for phase in phases:
        for name in phase:
            getattr(network, name).requires_grad_(True)
        newcomer = {"params": list(getattr(network, phase[-1]).parameters())}
        if optimizer is None:
            optimizer = torch.optim.SGD([newcomer], lr=0.1, momentum=0.9)
        else:
            optimizer.add_param_group(newcomer)
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["wrong"] task="05c.1" misconception="the loss after the step"
def train_in_phases(network, phases, images, labels):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network.requires_grad_(False)
    losses = []
    for phase in phases:
        for name in phase:
            getattr(network, name).requires_grad_(True)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            losses.append(F.cross_entropy(network(images), labels).item())
    return losses


# %% tags=["wrong"] task="05c.1" misconception="all moved from the start"
def train_in_phases(network, phases, images, labels):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in phases:
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["wrong"] task="05c.1" misconception="momentum was lost between the phases"
def train_in_phases(network, phases, images, labels):
    network.requires_grad_(False)
    losses = []
    for phase in phases:
        for name in phase:
            getattr(network, name).requires_grad_(True)
        moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(moving, lr=0.1, momentum=0.9)
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["wrong"] task="05c.1" misconception="only the newcomer moves"
def train_in_phases(network, phases, images, labels):
    network.requires_grad_(False)
    opened, losses = [], []
    for phase in phases:
        moving = [p for n in phase if n not in opened for p in getattr(network, n).requires_grad_(True).parameters()]
        opened.extend(phase)
        optimizer = torch.optim.SGD(moving, lr=0.1, momentum=0.9)
        for _ in range(3):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


# %% tags=["hidden"] task="05c.1"
def draw_05c_1(rng):
    """A single phase; two children that open together; the stem before the block."""
    phases = ([["block"]], [["head"], ["head", "block", "stem"]], [["stem"], ["head", "stem"]])[rng.integers(3)]
    return {
        "phases": phases,
        "images": rng.normal(size=(4, 4)).astype(np.float32),
        "labels": np.array([0, 0, 1, 1]),
        "width": int(rng.integers(2, 7)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="05c.2"
# **The complaint:** "The head has `1e-3` and everything else `1e-5`, as in the paper. And still the backbone is ruined
# after an epoch."
#
# `two_rates(network, head, lr, head_lr)` returns what `torch.optim.AdamW(...)` is given: a list of two dicts, each with
# the keys `params` (a list of tensors) and `lr`. `head` is the path of a module in the network, as
# `network.named_modules()` has it, such as `"fc"` or `"blocks.1"`. The parameters of that module, those of everything
# that lies below it included, have the rate `head_lr`; all others of the network have `lr`. Each parameter is in
# exactly one group.


# %% tags=["answer"] task="05c.2"
def two_rates(network, head, lr, head_lr):
    # BEGIN SOLUTION
    mine, rest = [], []
    for name, parameter in network.named_parameters():
        (mine if name.startswith(head + ".") else rest).append(parameter)
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]
    # END SOLUTION


# %% tags=["given"] task="05c.2" misconception="the name is somewhere in it"
def two_rates(network, head, lr, head_lr):
    mine = [parameter for name, parameter in network.named_parameters() if head in name]
    rest = [parameter for name, parameter in network.named_parameters() if head not in name]
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]


# %% tags=["check"]
check("05c.2", two_rates)


# %% tags=["right"] task="05c.2"
def two_rates(network, head, lr, head_lr):
    """By the module itself, and no name compared."""
    mine = list(network.get_submodule(head).parameters())
    known = set(map(id, mine))
    rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
    return [{"params": rest, "lr": lr}, {"params": mine, "lr": head_lr}]


# %% tags=["right"] task="05c.2"
def two_rates(network, head, lr, head_lr):
    """Part by part of the path."""
    path, groups = head.split("."), {True: [], False: []}
    for name, parameter in network.named_parameters():
        groups[name.split(".")[: len(path)] == path].append(parameter)
    return [{"params": groups[True], "lr": head_lr}, {"params": groups[False], "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="in two groups"
def two_rates(network, head, lr, head_lr):
    mine = [parameter for name, parameter in network.named_parameters() if name.startswith(head + ".")]
    return [{"params": mine, "lr": head_lr}, {"params": list(network.parameters()), "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="the name begins like it"
def two_rates(network, head, lr, head_lr):
    mine = [parameter for name, parameter in network.named_parameters() if name.startswith(head)]
    rest = [parameter for name, parameter in network.named_parameters() if not name.startswith(head)]
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="a part of the path, wherever it is"
def two_rates(network, head, lr, head_lr):
    mine = [parameter for name, parameter in network.named_parameters() if head in name.split(".")]
    rest = [parameter for name, parameter in network.named_parameters() if head not in name.split(".")]
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="only the first part was compared"
def two_rates(network, head, lr, head_lr):
    mine = [parameter for name, parameter in network.named_parameters() if name.split(".")[0] == head]
    rest = [parameter for name, parameter in network.named_parameters() if name.split(".")[0] != head]
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="what lies below was left out"
def two_rates(network, head, lr, head_lr):
    own = {id(parameter) for parameter in network.get_submodule(head).parameters(recurse=False)}
    mine = [parameter for parameter in network.parameters() if id(parameter) in own]
    rest = [parameter for parameter in network.parameters() if id(parameter) not in own]
    return [{"params": mine, "lr": head_lr}, {"params": rest, "lr": lr}]


# %% tags=["wrong"] task="05c.2" misconception="the rest was left out"
def two_rates(network, head, lr, head_lr):
    return [{"params": list(network.get_submodule(head).parameters()), "lr": head_lr}]


# %% tags=["wrong"] task="05c.2" misconception="the rates are swapped"
def two_rates(network, head, lr, head_lr):
    mine, rest = [], []
    for name, parameter in network.named_parameters():
        (mine if name.startswith(head + ".") else rest).append(parameter)
    return [{"params": mine, "lr": lr}, {"params": rest, "lr": head_lr}]


# %% tags=["hidden"] task="05c.2"
def draw_05c_2(rng):
    """A head that lies deep; one whose name holds a dot where another has a letter; one that is all there is."""
    head, modules = (
        ("a.b.c", ["a.b.c", "a.b.c1", "a.bXc", "b.c", "x.a.b.c", "a.b.c.d"]),
        ("out", ["out", "out.out", "dropout", "output", "in.out"]),
        ("fc", ["fc", "fc.fc", "fc.norm"]),
    )[rng.integers(3)]
    return {"modules": modules, "head": head, "lr": 1e-5, "head_lr": 1e-4}


# %% [markdown] tags=["task"] task="05c.3"
# **The complaint:** "I train block and head, then the head alone on other data, then both again. In the first step of
# the third phase the block jumps to somewhere, and not even towards the data."
#
# `set_open(network, optimizer, names)` is called before each phase. `optimizer` is a `torch.optim.AdamW` with *all*
# parameters of the network on its list, from the beginning; `names` is a list of names of children. Afterwards exactly
# those are open: their parameters have gradients from the next backward pass on. All others are closed: no gradients,
# and none of their numbers moves in the phase. What is closed is forgotten: opened again, it starts as a newcomer of
# whom AdamW knows nothing. What was open and stays open goes on as before. It returns nothing.
#
# The network has neither dropout nor running statistics, so modes do not matter. The loop of the phases is somebody
# else's, and calls `optimizer.zero_grad(set_to_none=False)` before each backward pass: where there is a gradient, it
# becomes zeros.


# %% tags=["answer"] task="05c.3"
def set_open(network, optimizer, names):
    # BEGIN SOLUTION
    for name, child in network.named_children():
        child.requires_grad_(name in names)
        if name not in names:
            for parameter in child.parameters():
                parameter.grad = None
                optimizer.state.pop(parameter, None)
    # END SOLUTION


# %% tags=["given"] task="05c.3" misconception="stale momentum"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        child.requires_grad_(name in names)
        if name not in names:
            for parameter in child.parameters():
                parameter.grad = None


# %% tags=["check"]
check("05c.3", set_open)


# %% tags=["right"] task="05c.3"
def set_open(network, optimizer, names):
    """Forget when it is opened: what has been closed until now has no business with a memory."""
    for name, parameter in network.named_parameters():
        is_open = name.split(".")[0] in names
        if is_open and not parameter.requires_grad and parameter in optimizer.state:
            del optimizer.state[parameter]
        parameter.requires_grad = is_open
        parameter.grad = parameter.grad if is_open else None


# %% tags=["right"] task="05c.3"
def set_open(network, optimizer, names):
    """Keep what is open, and nothing else."""
    network.requires_grad_(False)
    kept = {p for name in names for p in getattr(network, name).requires_grad_(True).parameters()}
    for parameter in list(optimizer.state):
        if parameter not in kept:
            optimizer.state.pop(parameter)
    for parameter in network.parameters():
        if parameter not in kept:
            parameter.grad = None


# %% tags=["wrong"] task="05c.3" misconception="not opened again"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        if name not in names:
            child.requires_grad_(False)
            for parameter in child.parameters():
                parameter.grad = None
                optimizer.state.pop(parameter, None)


# %% tags=["wrong"] task="05c.3" misconception="not closed"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        if name in names:
            child.requires_grad_(True)
        else:
            for parameter in child.parameters():
                parameter.grad = None
                optimizer.state.pop(parameter, None)


# %% tags=["wrong"] task="05c.3" misconception="closed, and it goes on moving"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        for parameter in child.parameters():
            if name in names and not parameter.requires_grad:
                optimizer.state.pop(parameter, None)
            parameter.requires_grad = name in names


# %% tags=["wrong"] task="05c.3" misconception="all was forgotten"
def set_open(network, optimizer, names):
    optimizer.state.clear()
    for name, child in network.named_children():
        child.requires_grad_(name in names)
        if name not in names:
            for parameter in child.parameters():
                parameter.grad = None


# %% tags=["wrong"] task="05c.3" misconception="forgotten, and counted again"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        child.requires_grad_(name in names)
        if name not in names:
            for parameter in child.parameters():
                optimizer.state.pop(parameter, None)


# %% tags=["wrong"] task="05c.3" misconception="the averages are gone, the count is not"
def set_open(network, optimizer, names):
    for name, child in network.named_children():
        child.requires_grad_(name in names)
        if name not in names:
            for parameter in child.parameters():
                parameter.grad = None
                if parameter in optimizer.state:
                    optimizer.state[parameter]["exp_avg"].zero_()
                    optimizer.state[parameter]["exp_avg_sq"].zero_()


# %% tags=["hidden"] task="05c.3"
def draw_05c_3(rng):
    """Phases of one step, and long ones."""
    return {
        "steps": [int(rng.choice([1, 2, 20])) for _ in range(3)],
        "images": rng.normal(size=(5, 4)).astype(np.float32),
        "width": int(rng.integers(2, 8)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="05c.4"
# **The complaint:** "The log says that epoch 4 was the best, and that it was restored. When I test it, I get another
# number."
#
# `fit(network, run_epoch, validate, epochs, patience)` trains for at most `epochs` epochs, at least one.
# `run_epoch(network)` trains the network for an epoch and returns nothing; `validate(network)` returns its validation
# loss as it is now, a number. Less is better. The run ends when the loss has not been *below the best so far* for
# `patience` epochs in a row. Where several epochs are equally good, the first of them is the best.
#
# It returns two things, `return best_epoch, best_loss`, with the epochs counted from 0. Afterwards `network`, the very
# object that came in, is what it was after the best epoch: its parameters, and whatever else it keeps.


# %% tags=["answer"] task="05c.4"
def fit(network, run_epoch, validate, epochs, patience):
    # BEGIN SOLUTION
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss
    # END SOLUTION


# %% tags=["given"] task="05c.4" misconception="the network of the last epoch"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, dict(network.state_dict())
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["check"]
check("05c.4", fit)


# %% tags=["right"] task="05c.4"
def fit(network, run_epoch, validate, epochs, patience):
    """A clone of each tensor, and a count that is reset."""
    losses, kept, waited = [], {}, 0
    while len(losses) < epochs and waited < patience:
        run_epoch(network)
        losses.append(validate(network))
        if losses.index(min(losses)) == len(losses) - 1:
            kept, waited = {name: value.clone() for name, value in network.state_dict().items()}, 0
        else:
            waited += 1
    with torch.no_grad():
        for name, value in network.state_dict().items():
            value.copy_(kept[name])
    return losses.index(min(losses)), min(losses)


# %% tags=["right"] task="05c.4"
def fit(network, run_epoch, validate, epochs, patience):
    """Bytes cannot change with the network."""
    import io

    best, file = (float("inf"), 0), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best[0]:
            best, file = (loss, epoch), io.BytesIO()
            torch.save(network.state_dict(), file)
        if epoch - best[1] == patience:
            break
    file.seek(0)
    network.load_state_dict(torch.load(file))
    return best[1], best[0]


# %% tags=["wrong"] task="05c.4" misconception="only where it was stopped"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            network.load_state_dict(best_state)
            break
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="the statistics of the last epoch"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss = epoch, loss
            best_state = {name: value.detach().clone() for name, value in network.named_parameters()}
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_state, strict=False)
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="the patience was never reset"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state, waited = 0, float("inf"), None, 0
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        else:
            waited += 1
        if waited == patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="one epoch too many"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch > patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="one epoch too few"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch + 1 >= patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="better than the epoch before"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_state, before, waited = 0, None, float("inf"), 0
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss < before:
            best_epoch, best_loss, best_state, waited = epoch, loss, copy.deepcopy(network.state_dict()), 0
        else:
            waited += 1
        before = loss
        if waited == patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["wrong"] task="05c.4" misconception="as good is not better"
def fit(network, run_epoch, validate, epochs, patience):
    best_epoch, best_loss, best_state = 0, float("inf"), None
    for epoch in range(epochs):
        run_epoch(network)
        loss = validate(network)
        if loss <= best_loss:
            best_epoch, best_loss, best_state = epoch, loss, copy.deepcopy(network.state_dict())
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_state)
    return best_epoch, best_loss


# %% tags=["hidden"] task="05c.4"
def draw_05c_4(rng):
    """One epoch; a loss that falls to the end; one that never falls again; a patience of 1, and one without end."""
    count = int(rng.integers(1, 7))
    rising = np.arange(count) / 10
    losses = (rising, rising[::-1], rng.random(count))[rng.integers(3)]
    return {"losses": losses.tolist(), "patience": int(rng.choice([1, 2, 100]))}


# %% [markdown] tags=["task"] task="05c.5"
# **The complaint:** "My job is cut off every few hours, and goes on from its checkpoint. After each return the loss
# jumps up, and takes an hour to come down."
#
# A gradual unfreezing was cut off between two steps. `resume(network, checkpoint, order)` should bring it back, so that
# the next step is the one that the run would have made. `order` is the list of the names of the network's children in
# which they are opened: in phase `k`, counted from 0, the first `k + 1` of them are open and all others are frozen. The
# optimiser is a `torch.optim.AdamW` that got a new group whenever a child was opened, `list(child.parameters())` of
# that child. A schedule has turned its rates down since; all else is AdamW's default.
#
# `checkpoint` is a dict: `"network"`, the network's `state_dict()`; `"optimizer"`, the optimiser's `state_dict()`;
# `"phase"`, the number of the phase. `network` is a new one of the same architecture, with other weights and everything
# open; it has neither dropout nor statistics. Afterwards the network is where it was, frozen where it was frozen.
# Return the optimiser.


# %% tags=["answer"] task="05c.5"
def resume(network, checkpoint, order):
    # BEGIN SOLUTION
    network.load_state_dict(checkpoint["network"])
    network.requires_grad_(False)
    opened = [getattr(network, name).requires_grad_(True) for name in order[: checkpoint["phase"] + 1]]
    optimizer = torch.optim.AdamW([{"params": list(part.parameters())} for part in opened])
    optimizer.load_state_dict(checkpoint["optimizer"])  # averages, counts and rates, by place
    return optimizer
    # END SOLUTION


# %% tags=["given"] task="05c.5" misconception="AdamW began anew"
def resume(network, checkpoint, order):
    network.load_state_dict(checkpoint["network"])
    network.requires_grad_(False)
    groups = []
    saved = checkpoint["optimizer"]["param_groups"]
    for name, group in zip(order[: checkpoint["phase"] + 1], saved, strict=True):
        part = getattr(network, name).requires_grad_(True)
        groups.append({"params": list(part.parameters()), "lr": group["lr"]})
    return torch.optim.AdamW(groups)


# %% tags=["check"]
check("05c.5", resume)


# %% tags=["right"] task="05c.5"
def resume(network, checkpoint, order):
    """Open phase by phase, as the run did."""
    network.load_state_dict(checkpoint["network"])
    optimizer = torch.optim.AdamW(getattr(network, order[0]).parameters())
    for name in order[1 : checkpoint["phase"] + 1]:
        optimizer.add_param_group({"params": list(getattr(network, name).parameters())})
    for name in order[checkpoint["phase"] + 1 :]:
        getattr(network, name).requires_grad_(False)
    optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))
    return optimizer


# %% tags=["right"] task="05c.5"
def resume(network, checkpoint, order):
    """By hand: each tensor gets its own state."""
    network.load_state_dict(checkpoint["network"])
    network.requires_grad_(False)
    optimizer, saved = None, checkpoint["optimizer"]
    for name, group in zip(order, saved["param_groups"], strict=False):
        parameters = list(getattr(network, name).requires_grad_(True).parameters())
        mine = {"params": parameters, "lr": group["lr"]}
        if optimizer is None:
            optimizer = torch.optim.AdamW([mine])
        else:
            optimizer.add_param_group(mine)
        for parameter, place in zip(parameters, group["params"], strict=True):
            optimizer.state[parameter] = {key: value.clone() for key, value in saved["state"][place].items()}
    return optimizer


# %% tags=["wrong"] task="05c.5" misconception="the weights began anew"
def resume(network, checkpoint, order):
    network.requires_grad_(False)
    opened = [getattr(network, name).requires_grad_(True) for name in order[: checkpoint["phase"] + 1]]
    optimizer = torch.optim.AdamW([{"params": list(part.parameters())} for part in opened])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return optimizer


# %% tags=["wrong"] task="05c.5" misconception="the memory of another stage"
def resume(network, checkpoint, order):
    network.load_state_dict(checkpoint["network"])
    network.requires_grad_(False)
    groups = []
    for name, part in network.named_children():  # from the input to the head
        if name in order[: checkpoint["phase"] + 1]:
            groups.append({"params": list(part.requires_grad_(True).parameters())})
    optimizer = torch.optim.AdamW(groups)
    optimizer.load_state_dict(checkpoint["optimizer"])
    return optimizer


# %% tags=["wrong"] task="05c.5" misconception="all is open"
def resume(network, checkpoint, order):
    network.load_state_dict(checkpoint["network"])
    opened = [getattr(network, name) for name in order[: checkpoint["phase"] + 1]]
    optimizer = torch.optim.AdamW([{"params": list(part.parameters())} for part in opened])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return optimizer


# %% tags=["wrong"] task="05c.5" misconception="the rates began anew"
def resume(network, checkpoint, order):
    network.load_state_dict(checkpoint["network"])
    network.requires_grad_(False)
    opened = [getattr(network, name).requires_grad_(True) for name in order[: checkpoint["phase"] + 1]]
    optimizer = torch.optim.AdamW([{"params": list(part.parameters())} for part in opened])
    optimizer.load_state_dict(checkpoint["optimizer"])
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    return optimizer


# %% tags=["hidden"] task="05c.5"
def draw_05c_5(rng):
    """The first phase and the last; an order of its own; another width."""
    order = (["head", "neck", "block", "stem"], ["head", "stem", "neck", "block"])[rng.integers(2)]
    return {
        "order": order,
        "phase": int(rng.choice([0, 2])),
        "width": int(rng.integers(2, 6)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["solution"]
# ## What to remember
#
# **05c.1.** Three know of a tensor: autograd (`requires_grad`), the mode, and the optimiser's list. Opening means
# telling all three. **05c.2.** A name pattern is a guess; print what it has caught, or ask the network for the module.
# **05c.3.** Closed is: no gradient (None, not zeros), and no memory. **05c.4.** A `state_dict()` is a view, not a
# picture. **05c.5.** A run is its weights, the optimiser's state in the right order, the rates, and what was frozen.

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
