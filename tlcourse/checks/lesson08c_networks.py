"""Repairs of the clinic after lesson 08 on a backbone with a head for each task: asking the old one, training a new."""

import copy

import numpy as np
import torch
from torch import nn

from tlcourse.checks.judging import mismatch
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["OLD_HEADS", "STILL"]


class ManyHeads(nn.Module):
    """A backbone and a head of two classes for each task; a call uses the head named `active`."""

    def __init__(self, names: list[str], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU())
            self.heads = nn.ModuleDict({name: nn.Linear(5, 2) for name in names})
        self.active = names[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads[self.active](self.backbone(x))


# 08c.4: the head of the task ------------------------------------------------------------


def _draw_heads(rng: np.random.Generator) -> Inputs:
    names = ["news", "tweets", "cells"][: int(rng.integers(2, 4))]
    while True:
        tasks = {
            name: {"x": rng.normal(size=(9, 4)).round(2).astype(np.float32), "y": rng.integers(0, 2, 9)}
            for name in names[::-1]  # asked in another order than the heads are in
        }
        made = {"names": names, "tasks": tasks, "training": bool(rng.integers(2)), "seed": int(rng.integers(1000))}
        table = _every_head(made)
        right = {name: table[name][name] for name in tasks}
        others = [_with_newest(made, table), _by_place(made, table), _with_best(table)]
        if all(right[names[0]] != other[names[0]] for other in others) and others[0] != others[1] != others[2]:
            return made


def _probe_heads(answer, inputs: Inputs) -> Outputs:
    network = ManyHeads(inputs["names"], inputs["seed"]).train(inputs["training"])
    before = copy.deepcopy(network.state_dict())
    tasks = {name: (torch.from_numpy(task["x"]), torch.from_numpy(task["y"])) for name, task in inputs["tasks"].items()}
    found = plain(answer(network, tasks), what="what `scores` returned")
    return {
        "scores": found,
        "moved": max((new - before[name]).abs().max().item() for name, new in network.state_dict().items()),
        "active": network.active,
        "training": network.training,
    }


def _every_head(inputs: Inputs) -> dict[str, dict[str, float]]:
    """Task -> head -> accuracy, in evaluation mode."""
    network, table = ManyHeads(inputs["names"], inputs["seed"]).eval(), {}
    with torch.no_grad():
        for name, task in inputs["tasks"].items():
            features, y = network.backbone(torch.from_numpy(task["x"])), torch.from_numpy(task["y"])
            table[name] = {
                other: (head(features).argmax(dim=1) == y).double().mean().item()
                for other, head in network.heads.items()
            }
    return table


def _with_newest(inputs: Inputs, table: dict) -> dict[str, float]:
    return {name: row[inputs["names"][-1]] for name, row in table.items()}


def _by_place(inputs: Inputs, table: dict) -> dict[str, float]:
    return {name: row[inputs["names"][place]] for place, (name, row) in enumerate(table.items())}


def _with_best(table: dict) -> dict[str, float]:
    return {name: max(row.values()) for name, row in table.items()}


def _oracle_heads(inputs: Inputs) -> Outputs:
    table = _every_head(inputs)
    return {
        "scores": {name: table[name][name] for name in inputs["tasks"]},
        "moved": 0.0,
        "active": inputs["names"][-1],
        "training": inputs["training"],
    }


OLD_HEADS = Exercise(
    id="08c.4",
    title="Everything is forgotten, it seems",
    points=3,
    difficulty=2,
    minutes=10,
    entry="scores",
    draw=_draw_heads,
    probe=_probe_heads,
    oracle=_oracle_heads,
    aspects=(
        Aspect("scores", "the accuracy on each task", 0.6, 1e-6),
        Aspect("moved", "the network is not changed", 0.15, 0.0),
        Aspect("active", "the active head is as before", 0.15),
        Aspect("training", "the mode is as before", 0.1),
    ),
    misconceptions=(
        Misconception(
            "asked in training mode",
            "The running statistics moved by {outputs[moved]:.2f} while the network was only asked: it was in training "
            "mode, normalised by the batch, and took the old task's samples into its statistics.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "the new head for every task",
            "Every task was asked through the head `{expected[active]}`, the newest. That a head for other classes "
            "fails on an old task is no forgetting; the head of `{inputs[names][0]}` is still in `network.heads`.",
            wrong=lambda i: {"scores": _with_newest(i, _every_head(i))},
        ),
        Misconception(
            "the heads by their place",
            "You took heads and tasks in turn, and they are not in the same order: a task belongs to the head of its "
            "name.",
            wrong=lambda i: {"scores": _by_place(i, _every_head(i))},
        ),
        Misconception(
            "the best of all heads",
            "You gave each task the head that scores best on its own samples. Who picks by the test labels measures "
            "luck; the task's head is the one that was trained for it.",
            wrong=lambda i: {"scores": _with_best(_every_head(i))},
        ),
        Misconception(
            "another head stays active",
            "The scores are right, but `{outputs[active]}` is now the active head, and it was `{expected[active]}`: "
            "training would go on with another task's head.",
            shows=lambda i, o, e: o["active"] != e["active"],
        ),
    ),
    begun=lambda i, o, e: {type(o["scores"][name]) for name in e["scores"]} <= {float, np.ndarray},
    hints=(
        "Through which head do the samples of the oldest task pass?",
        "`network(x)` uses the head that was learnt last. `network.backbone(x)` gives the features for any of them.",
        "network.heads[name](network.backbone(x)).argmax(dim=1) == y",
    ),
)

# 08c.5: statistics that follow ------------------------------------------------------------


def _draw_still(rng: np.random.Generator) -> Inputs:
    return {
        "x": (2 + rng.normal(size=(int(rng.integers(6, 10)), 4))).round(2).astype(np.float32),
        "lr": float(rng.choice([0.2, 0.5])),
        "epochs": int(rng.integers(2, 5)),
        "seed": int(rng.integers(1000)),
    }


def _labels(inputs: Inputs) -> torch.Tensor:
    return torch.arange(len(inputs["x"])) % 2


def _probe_still(answer, inputs: Inputs) -> Outputs:
    network = ManyHeads(["poly", "mono"], inputs["seed"]).train()  # the old head is the active one
    before = copy.deepcopy(network.state_dict())
    answer(network, "poly", torch.from_numpy(inputs["x"]), _labels(inputs), inputs["lr"], inputs["epochs"])
    moved = {name: (new - before[name]).abs().max().item() for name, new in network.state_dict().items()}
    return {
        "statistics_moved": max(size for name, size in moved.items() if "running" in name),
        "backbone_moved": max(
            size for name, size in moved.items() if name.startswith("backbone") and name.endswith(("weight", "bias"))
        ),
        "old_head_moved": max(size for name, size in moved.items() if name.startswith("heads.mono")),
        "head": network.heads["poly"].weight.detach().numpy().copy(),
    }


def _learnt_head(inputs: Inputs, *, epochs: int, by_batch: bool = False) -> np.ndarray:
    """Gradient descent by the formula of the softmax's gradient, on features that are computed once."""
    network = ManyHeads(["poly", "mono"], inputs["seed"]).train(by_batch)
    with torch.no_grad():
        features, y = network.backbone(torch.from_numpy(inputs["x"])).double(), _labels(inputs)
        weight, bias = (value.double() for value in network.heads["poly"].parameters())
        for _ in range(epochs):
            off = (features @ weight.T + bias).softmax(dim=1) - torch.eye(2, dtype=torch.float64)[y]
            weight = weight - inputs["lr"] * off.T @ features / len(y)
            bias = bias - inputs["lr"] * off.mean(dim=0)
    return weight.numpy()


STILL = Exercise(
    id="08c.5",
    title="Forgetting with frozen weights",
    points=4,
    difficulty=3,
    minutes=15,
    entry="train_new_head",
    draw=_draw_still,
    probe=_probe_still,
    oracle=lambda i: {
        "statistics_moved": 0.0,
        "backbone_moved": 0.0,
        "old_head_moved": 0.0,
        "head": _learnt_head(i, epochs=i["epochs"]),
    },
    aspects=(
        Aspect("statistics_moved", "the statistics stay", 0.35, 0.0),
        Aspect("backbone_moved", "the weights of the backbone stay", 0.15, 0.0),
        Aspect("old_head_moved", "the old head stays", 0.15, 0.0),
        Aspect("head", "the new head has learnt", 0.35, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "the backbone learnt too",
            "The weights of the backbone moved by {outputs[backbone_moved]:.2g}: the old head now reads features that "
            "it was not trained on.",
            shows=lambda i, o, e: o["backbone_moved"] > 0,
        ),
        Misconception(
            "the statistics followed",
            "No weight that the old task uses has changed, but the running statistics moved by "
            "{outputs[statistics_moved]:.2f}: each pass in training mode takes them towards the new task, and the old "
            "head gets other features. Evaluation mode has to come *after* `network.train()`.",
            shows=lambda i, o, e: o["statistics_moved"] > 0,
        ),
        Misconception(
            "the other head was trained",
            "The old head moved by {outputs[old_head_moved]:.2g}. `network.active` is the old task's head here; the "
            "new one is `network.heads[name]`.",
            shows=lambda i, o, e: o["old_head_moved"] > 0,
        ),
        Misconception(
            "nothing was learnt",
            "Nothing old has moved, and the new head has not either: it is what it was before.",
            wrong=lambda i: {"head": _learnt_head(i, epochs=0)},
        ),
        Misconception(
            "normalised by the batch",
            "The statistics are what they were, but they were not used: in training mode the features are normalised "
            "by the batch, and the head learnt on features that it will not meet when it is asked.",
            wrong=lambda i: {"head": _learnt_head(i, epochs=i["epochs"], by_batch=True)},
        ),
    ),
    begun=lambda i, o, e: mismatch(o["head"], _learnt_head(i, epochs=0)) is not None,
    hints=(
        "`requires_grad_(False)` stops gradients. What in the backbone changes without one?",
        "`network.train()` puts the backbone into training mode in every epoch. Which line has to follow it?",
        "network.backbone.eval(), right after network.train().",
    ),
)
