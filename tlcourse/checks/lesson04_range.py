"""The task of lesson 04 on looking for a rate without leaving a trace."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["RANGE_TEST"]

# 04.5: a range test ------------------------------------------------------------


def _draw_range(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(4, 8))
    return {
        "images": rng.normal(size=(count, 4)).astype(np.float32),
        "labels": np.arange(count, dtype=np.int64) % 2,
        "rates": [float(np.round(0.1 * 2**step, 3)) for step in range(int(rng.integers(3, 6)))],
        "training": False,
        "seed": int(rng.integers(1000)),
    }


def frozen_stem(inputs: Inputs) -> nn.Sequential:
    """A network whose first layer is frozen; no dropout, so that nothing is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        network = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    network[0].requires_grad_(False)
    return network.train(inputs["training"])


def _probe_range(answer, inputs: Inputs) -> Outputs:
    network = frozen_stem(inputs)
    before = copy.deepcopy(network.state_dict())
    images, labels = torch.from_numpy(inputs["images"]), torch.from_numpy(inputs["labels"])
    losses = plain(answer(network, images, labels, list(inputs["rates"])), what="what `range_test` returned")
    moved = {name: (value - before[name]).abs().max().item() for name, value in network.state_dict().items()}
    return {
        "losses": losses,
        "weights_moved": max(change for name, change in moved.items() if name.endswith(("weight", "bias"))),
        "statistics_moved": max(change for name, change in moved.items() if "running" in name),
        "gradients": sum(parameter.grad is not None for parameter in network.parameters()),
        "training": network.training,
        "frozen": [not parameter.requires_grad for parameter in network.parameters()],
    }


def _losses(inputs: Inputs, *, mode: bool = True, after: bool = False, everything: bool = False) -> list[float]:
    network = frozen_stem(inputs).train(mode)
    if everything:
        network.requires_grad_(True)
    images, labels = torch.from_numpy(inputs["images"]), torch.from_numpy(inputs["labels"])
    losses = []
    for rate in inputs["rates"]:
        loss = F.cross_entropy(network(images), labels)
        moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
        with torch.no_grad():
            for parameter, gradient in zip(moving, torch.autograd.grad(loss, moving), strict=True):
                parameter -= rate * gradient
            losses.append((F.cross_entropy(network(images), labels) if after else loss).item())
    return losses


def _one_rate(inputs: Inputs) -> list[float]:
    """As if all steps had been made at the first rate."""
    return _losses({**inputs, "rates": [inputs["rates"][0]] * len(inputs["rates"])})


RANGE_TEST = Exercise(
    id="04.5",
    title="A range test that leaves no trace",
    points=5,
    difficulty=4,
    minutes=20,
    entry="range_test",
    draw=_draw_range,
    probe=_probe_range,
    oracle=lambda i: {
        "losses": _losses(i),
        "weights_moved": 0.0,
        "statistics_moved": 0.0,
        "gradients": 0,
        "training": i["training"],
        "frozen": [True, True, False, False, False, False],
    },
    aspects=(
        Aspect("losses", "the loss at each rate", 0.45, 1e-4),
        Aspect("weights_moved", "the parameters are as before", 0.2, 0.0),
        Aspect("statistics_moved", "the statistics are as before", 0.15, 0.0),
        Aspect("gradients", "no gradients are left behind", 0.1),
        Aspect("training", "the mode is as before", 0.05),
        Aspect("frozen", "what is frozen is as before", 0.05),
    ),
    misconceptions=(
        Misconception(
            "the network was trained",
            "The test has trained the network that it was asked about: a parameter moved by "
            "{outputs[weights_moved]:.2g}. The training that follows would start from what the highest rate has left. "
            "Try the rates on a copy.",
            shows=lambda i, o, e: o["weights_moved"] > 0,
        ),
        Misconception(
            "the statistics moved",
            "The parameters are back, but the running statistics moved by {outputs[statistics_moved]:.2g}: they are no "
            "parameters, and each forward pass in training mode changes them.",
            shows=lambda i, o, e: o["statistics_moved"] > 0,
        ),
        Misconception(
            "gradients were left behind",
            "Parameters and statistics are back; but {outputs[gradients]} parameters have a gradient now, and had "
            "none. The next backward pass adds to what it finds.",
            shows=lambda i, o, e: o["gradients"] > 0,
        ),
        Misconception(
            "the mode was changed",
            "All is as before but the mode: the network came in evaluation mode and leaves in training mode.",
            shows=lambda i, o, e: o["training"] != e["training"],
        ),
        Misconception(
            "measured in evaluation mode",
            "Your losses are those of evaluation mode. The rate is wanted for training, where batch normalisation uses "
            "the batch: put the copy into training mode.",
            wrong=lambda i: {"losses": _losses(i, mode=False)},
        ),
        Misconception(
            "the loss after the step",
            "You noted the loss *after* the step at each rate. The loss that belongs to a rate is the one whose "
            "gradient is about to be used: it is noted first, then comes the step.",
            wrong=lambda i: {"losses": _losses(i, after=True)},
        ),
        Misconception(
            "the frozen layer moved too",
            "Your losses are those of a network that moves as a whole. The first layer is frozen, and a test of "
            "another plan finds another rate.",
            wrong=lambda i: {"losses": _losses(i, everything=True)},
        ),
        Misconception(
            "all steps at one rate",
            "You made every step at {inputs[rates][0]:g}. The rate must rise: it is changed before each step.",
            wrong=lambda i: {"losses": _one_rate(i)},
        ),
    ),
    begun=lambda i, o, e: np.shape(o["losses"]) == np.shape(e["losses"]) and o["losses"] != i["rates"],
    hints=(
        "Four things of a network change in training: parameters, buffers, gradients, the mode. A copy can have all of "
        "them.",
        "copy.deepcopy(network) keeps what is frozen. Put the copy into training mode. The loss is noted before the "
        "step that its gradient makes.",
        "For each rate: loss = F.cross_entropy(mine(images), labels); note loss.item(); zero_grad and backward; then "
        "with torch.no_grad(): for each p with a gradient, p -= rate * p.grad.",
    ),
)
