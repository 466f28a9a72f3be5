"""Tasks of lesson 03 on the frozen part: freezing it so that it stays frozen, and computing its features once."""

import copy

import numpy as np
import torch
from torch import nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXTRACT", "FREEZE"]

# 03.3: training mode that leaves the frozen part alone ------------------------------------------------------------


def _draw_freeze(rng: np.random.Generator) -> Inputs:
    return {
        "frozen": ["stem"] if rng.integers(2) else ["stem", "block"],
        "frozen_before": bool(rng.integers(2)),
        "width": int(rng.integers(4, 8)),
        "seed": int(rng.integers(1000)),
    }


def _probe_freeze(answer, inputs: Inputs) -> Outputs:
    network = small_network(inputs["seed"], inputs["width"])
    if inputs["frozen_before"]:  # as an earlier phase has left it: everything closed
        network.requires_grad_(False).eval()
    kept = copy.deepcopy(network).eval()
    parts = [getattr(network, name) for name in inputs["frozen"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        batches = torch.randn(4, 16, 4)
        for _ in range(2):  # epochs
            answer(network, list(inputs["frozen"]))
            for batch in batches:
                loss = (network(batch) - 1).pow(2).mean()
                network.zero_grad()
                if loss.requires_grad:
                    loss.backward()
                with torch.no_grad():
                    for parameter in network.parameters():
                        if parameter.grad is not None:
                            parameter -= 0.1 * parameter.grad
        with torch.no_grad():
            first, second = (nn.Sequential(*parts)(batches[0]) for _ in range(2))
            before = nn.Sequential(*(getattr(kept, name) for name in inputs["frozen"]))(batches[0])
    others = [module for name, module in network.named_children() if name not in inputs["frozen"]]
    old = kept.state_dict()
    moved = {
        name: (value - old[name]).abs().max().item()
        for name, value in network.state_dict().items()
        if name.partition(".")[0] in inputs["frozen"]
    }
    return {
        "statistics_moved": max(change for name, change in moved.items() if "running" in name),
        "weights_moved": max(change for name, change in moved.items() if name.endswith(("weight", "bias"))),
        "passes_differ": not torch.equal(first, second),
        "features_moved": (first - before).abs().max().item(),
        "rest_learns": all(p.requires_grad and p.grad is not None for module in others for p in module.parameters()),
        "rest_trains": all(part.training for module in others for part in module.modules()),
    }


FREEZE = Exercise(
    id="03.3",
    title="Frozen, whoever calls train()",
    points=4,
    difficulty=2,
    minutes=15,
    entry="start_epoch",
    draw=_draw_freeze,
    probe=_probe_freeze,
    oracle=lambda inputs: {
        "statistics_moved": 0.0,
        "weights_moved": 0.0,
        "passes_differ": False,
        "features_moved": 0.0,
        "rest_learns": True,
        "rest_trains": True,
    },
    aspects=(
        Aspect("statistics_moved", "the frozen statistics stay", 0.25, 0.0),
        Aspect("weights_moved", "the frozen weights stay", 0.2, 0.0),
        Aspect("passes_differ", "no dropout in the frozen part", 0.1),
        Aspect("features_moved", "the frozen part computes what it did before", 0.15, 1e-6),
        Aspect("rest_learns", "everything else has a gradient", 0.15),
        Aspect("rest_trains", "everything else is in training mode", 0.15),
    ),
    misconceptions=(
        Misconception(
            "the rest was frozen too",
            "Nothing but the named parts may be frozen, yet a parameter of the rest has no gradient after an epoch: it "
            "cannot learn. An earlier phase may have closed it: open what should move.",
            shows=lambda i, o, e: not o["rest_learns"],
        ),
        Misconception(
            "the weights of the frozen part moved",
            "The statistics stayed, but the weights moved by {outputs[weights_moved]:.2g}: evaluation mode does not "
            "stop "
            "gradients. Frozen means both.",
            shows=lambda i, o, e: o["weights_moved"] > 0,
        ),
        Misconception(
            "the statistics drifted",
            "No weight of the frozen part moved, but its running statistics moved by {outputs[statistics_moved]:.2f}: "
            "without a gradient, batch normalisation in training mode still rewrites what is stored, in the forward "
            "pass.",
            shows=lambda i, o, e: o["statistics_moved"] > 0,
        ),
        Misconception(
            "dropout still draws",
            "Weights and statistics stayed, but two passes of the same batch through the frozen part differ: its "
            "dropout "
            "is still in training mode. Batch normalisation is not the only layer with two modes.",
            shows=lambda i, o, e: o["passes_differ"],
        ),
        Misconception(
            "normalised by the batch",
            "What is stored stayed, but it is not used: in training mode the layers normalise by the present batch, "
            "so that "
            "the features moved by {outputs[features_moved]:.2f}.",
            shows=lambda i, o, e: o["features_moved"] > 1e-6,
        ),
        Misconception(
            "everything is in evaluation mode",
            "The frozen part is still, but so is the rest: its dropout and its statistics should work as in any "
            "training.",
            shows=lambda i, o, e: not o["rest_trains"],
        ),
    ),
    hints=(
        "There are two switches, and each has a side that the other does not reach: gradients, and the mode.",
        "`network.train()` sets the mode of every part, also of those that you have just frozen: what comes last wins.",
        "network.train(); network.requires_grad_(True); then for each name: part = getattr(network, name), "
        "part.eval() and "
        "part.requires_grad_(False).",
    ),
)

# 03.4: every image once ------------------------------------------------------------


def _draw_extract(rng: np.random.Generator) -> Inputs:
    batch = int(rng.integers(3, 6))
    rest = int(rng.integers(2, batch))  # one row alone cannot be normalised by its batch: that would say it too early
    return {
        "images": rng.normal(size=(int(batch * rng.integers(1, 3)) + rest, 4)).astype(np.float32),
        "batch_size": batch,
        "training": True,
        "width": int(rng.integers(4, 6)),
        "seed": int(rng.integers(1000)),
    }


def _backbone(inputs: Inputs) -> nn.Sequential:
    network = small_network(inputs["seed"], inputs["width"])
    return nn.Sequential(network.stem, network.block).train(inputs["training"])


def _probe_extract(answer, inputs: Inputs) -> Outputs:
    network, sizes = _backbone(inputs), []
    network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    before = copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        features = answer(network, torch.from_numpy(inputs["images"]), inputs["batch_size"])
    return {
        "features": plain(features, what="what `extract_once` returned"),
        "graph": bool(getattr(features, "requires_grad", False)),
        "seen": sum(sizes),
        "in_batches": max(sizes, default=0) <= inputs["batch_size"],
        "moved": max((new - before[name]).abs().max().item() for name, new in network.state_dict().items()),
        "training": network.training,
    }


def _oracle_extract(inputs: Inputs) -> Outputs:
    with torch.no_grad():
        features = _backbone(inputs).eval()(torch.from_numpy(inputs["images"])).numpy()
    return {
        "features": features,
        "graph": False,
        "seen": len(features),
        "in_batches": True,
        "moved": 0.0,
        "training": inputs["training"],
    }


EXTRACT = Exercise(
    id="03.4",
    title="Every image once",
    points=3,
    difficulty=2,
    minutes=10,
    entry="extract_once",
    draw=_draw_extract,
    probe=_probe_extract,
    oracle=_oracle_extract,
    aspects=(
        Aspect("features", "the features, in order", 0.4, 1e-5),
        Aspect("graph", "no graph is kept", 0.15),
        Aspect("seen", "each image passes once", 0.1),
        Aspect("in_batches", "no batch is too large", 0.1),
        Aspect("moved", "the network is not changed", 0.15, 0.0),
        Aspect("training", "the mode is as before", 0.1),
    ),
    misconceptions=(
        Misconception(
            "extracted in training mode",
            "The running statistics moved by {outputs[moved]:.2f} while you only looked: the network was in training "
            "mode. "
            "Each image was also normalised with its neighbours, so that its features depend on who they were.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "the last batch was dropped",
            "{expected[seen]} images went in and {outputs[seen]} passed: the batch at the end is smaller, and it "
            "counts.",
            shows=lambda i, o, e: o["seen"] < e["seen"],
        ),
        Misconception(
            "images passed more than once",
            "{expected[seen]} images should pass once each, but {outputs[seen]} passed in all: the saving is gone.",
            shows=lambda i, o, e: o["seen"] > e["seen"],
        ),
        Misconception(
            "all in one batch",
            "With {inputs[batch_size]} at most, a batch was larger. On a real network that is where the memory ends.",
            shows=lambda i, o, e: not o["in_batches"],
        ),
        Misconception(
            "the graph was kept",
            "The features are right, and still carry the graph that made them (requires_grad is True): keeping them "
            "keeps "
            "every intermediate value in memory, and a backward pass would run through the frozen network.",
            shows=lambda i, o, e: o["graph"],
        ),
        Misconception(
            "the mode was changed",
            "The features are right, but the network came in training mode and leaves in evaluation mode. A function "
            "that "
            "only looks gives back what it was given.",
            shows=lambda i, o, e: o["training"] != e["training"],
        ),
        Misconception(
            "the order was lost",
            "The rows are right and in another order: row i must belong to image i, or the labels fit no longer.",
            shows=lambda i, o, e: (
                np.shape(o["features"]) == np.shape(e["features"])
                and np.allclose(np.sort(o["features"], axis=0), np.sort(e["features"], axis=0), atol=1e-5)
            ),
        ),
    ),
    begun=lambda i, o, e: np.shape(o["features"]) == np.shape(e["features"]),
    hints=(
        "Four things: the mode, the graph, the batches, the order.",
        "`images.split(batch_size)` gives batches in order, the last one smaller. `torch.no_grad()` keeps no graph.",
        "mode = network.training; network.eval(); with torch.no_grad(): torch.cat([network(b) for b in "
        "images.split(batch_size)]); network.train(mode); then return them.",
    ),
)
