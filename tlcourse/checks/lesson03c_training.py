"""Tasks of the clinic after lesson 03 on modes: a loop that thaws its backbone, an evaluation in training mode."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["ACCURACY", "TRAIN_HEAD"]

BATCH = 8

# 03c.1: a backbone that was frozen before the loop ------------------------------------------------------------


def _draw_train(rng: np.random.Generator) -> Inputs:
    return {
        "images": (2 + rng.normal(size=(BATCH * int(rng.integers(2, 4)), 4))).astype(np.float32),
        "epochs": int(rng.integers(2, 5)),
        "width": int(rng.integers(4, 7)),
        "seed": int(rng.integers(1000)),
    }


def _parts(inputs: Inputs) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    network = small_network(inputs["seed"], inputs["width"])
    images = torch.from_numpy(inputs["images"])
    return nn.Sequential(network.stem, network.block), network.head, images, (images.sum(dim=1) > 8).long()


def _probe_train(answer, inputs: Inputs) -> Outputs:
    backbone, head, images, labels = _parts(inputs)
    before = copy.deepcopy(backbone.state_dict()), copy.deepcopy(head.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        losses = answer(backbone, head, images, labels, inputs["epochs"])
    moved = {name: (new - before[0][name]).abs().max().item() for name, new in backbone.state_dict().items()}
    return {
        "losses": plain(losses, what="what `train_head` returned"),
        "statistics_moved": max(change for name, change in moved.items() if "running" in name),
        "weights_moved": max(change for name, change in moved.items() if name.endswith(("weight", "bias"))),
        "head_moved": any(not torch.equal(new, before[1][name]) for name, new in head.state_dict().items()),
    }


def _oracle_train(inputs: Inputs, *, accumulate: bool = False) -> Outputs:
    """On features that are computed once, which is what a frozen backbone allows."""
    backbone, head, images, labels = _parts(inputs)
    with torch.no_grad():
        features = backbone.eval()(images)
    losses = []
    gradients = [torch.zeros_like(p) for p in head.parameters()]
    for _ in range(inputs["epochs"]):
        losses.append(0.0)
        for x, y in zip(features.split(BATCH), labels.split(BATCH), strict=True):
            loss = F.cross_entropy(head(x), y)
            new = torch.autograd.grad(loss, list(head.parameters()))
            gradients = [old + g if accumulate else g for old, g in zip(gradients, new, strict=True)]
            with torch.no_grad():
                for parameter, gradient in zip(head.parameters(), gradients, strict=True):
                    parameter -= 0.1 * gradient
            losses[-1] += loss.item() * len(x) / len(images)
    return {"losses": losses, "statistics_moved": 0.0, "weights_moved": 0.0, "head_moved": True}


TRAIN_HEAD = Exercise(
    id="03c.1",
    title="Frozen, and then train() was called",
    points=4,
    difficulty=2,
    minutes=15,
    entry="train_head",
    draw=_draw_train,
    probe=_probe_train,
    oracle=_oracle_train,
    aspects=(
        Aspect("statistics_moved", "the frozen statistics stay", 0.4, 0.0),
        Aspect("losses", "the losses", 0.4, 1e-4),
        Aspect("weights_moved", "the frozen weights stay", 0.1, 0.0),
        Aspect("head_moved", "the head learns", 0.1),
    ),
    misconceptions=(
        Misconception(
            "the head does not learn",
            "The backbone is still, and so is the head: after {inputs[epochs]} epochs none of its numbers has moved.",
            shows=lambda i, o, e: not o["head_moved"],
        ),
        Misconception(
            "the backbone learns too",
            "Its weights moved by {outputs[weights_moved]:.2g}. Evaluation mode does not stop gradients, and the "
            "optimiser "
            "was given every parameter.",
            shows=lambda i, o, e: o["weights_moved"] > 0,
        ),
        Misconception(
            "the statistics drifted",
            "No weight of the backbone moved, but its running statistics moved by {outputs[statistics_moved]:.2f}. "
            "Something "
            "in the loop sends the whole model back into training mode.",
            shows=lambda i, o, e: o["statistics_moved"] > 0,
        ),
        Misconception(
            "gradients were added up",
            "The backbone is still. But each step also takes the gradients of all batches before it: they are added "
            "to what "
            "is there until somebody clears it.",
            wrong=lambda i: _oracle_train(i, accumulate=True),
        ),
        Misconception(
            "put right after the training",
            "The backbone is again what it was, but while the head learnt it was something else: the losses are not "
            "those of "
            "a frozen backbone. The first is {outputs[losses][0]:.4f} instead of {expected[losses][0]:.4f}. The head "
            "fits "
            "features that it will not meet again.",
            shows=lambda i, o, e: o["statistics_moved"] == 0 and np.shape(o["losses"]) == np.shape(e["losses"]),
        ),
    ),
    begun=lambda i, o, e: len(o["losses"]) == i["epochs"] and min(o["losses"]) > 0,
    hints=(
        "Print `backbone.training` inside the loop, before the first batch of each epoch.",
        "`model.train()` reaches every part of the model, the backbone too, and it comes after `backbone.eval()`.",
        "Put backbone.eval() below model.train(), inside the loop over the epochs.",
    ),
)

# 03c.2: evaluation in training mode ------------------------------------------------------------


def _draw_accuracy(rng: np.random.Generator) -> Inputs:
    batch = int(rng.integers(5, 9))
    rest = int(rng.integers(2, 4))  # one row alone cannot be normalised by its batch: that would say it too early
    count = batch * int(rng.integers(2, 4)) + rest
    return {
        "images": (1 + 2 * rng.normal(size=(count, 4))).astype(np.float32),
        "labels": rng.integers(0, 2, count),
        "batch_size": batch,
        "training": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


def _probe_accuracy(answer, inputs: Inputs) -> Outputs:
    network = small_network(inputs["seed"], 6).train(inputs["training"])
    before = copy.deepcopy(network.state_dict())
    images, labels = (torch.from_numpy(inputs[name]) for name in ("images", "labels"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        found = answer(network, images, labels, inputs["batch_size"])
    return {
        "accuracy": plain(found, what="what `accuracy` returned"),
        "moved": max((new - before[name]).abs().max().item() for name, new in network.state_dict().items()),
        "training": network.training,
    }


def _right(inputs: Inputs) -> np.ndarray:
    with torch.no_grad():
        logits = small_network(inputs["seed"], 6).eval()(torch.from_numpy(inputs["images"]))
    return logits.argmax(dim=1).numpy() == inputs["labels"]


def _over_batches(inputs: Inputs) -> Outputs:
    right, size = _right(inputs), inputs["batch_size"]
    return {"accuracy": float(np.mean([right[start : start + size].mean() for start in range(0, len(right), size)]))}


def _whole_batches(inputs: Inputs) -> Outputs:
    right, size = _right(inputs), inputs["batch_size"]
    return {"accuracy": float(right[: len(right) // size * size].mean())}


ACCURACY = Exercise(
    id="03c.2",
    title="An accuracy that depends on the neighbours",
    points=4,
    difficulty=2,
    minutes=10,
    entry="accuracy",
    draw=_draw_accuracy,
    probe=_probe_accuracy,
    oracle=lambda i: {"accuracy": float(_right(i).mean()), "moved": 0.0, "training": i["training"]},
    aspects=(
        Aspect("accuracy", "the accuracy", 0.5, 1e-6),
        Aspect("moved", "the network is not changed by being tested", 0.3, 0.0),
        Aspect("training", "the mode is as before", 0.2),
    ),
    misconceptions=(
        Misconception(
            "evaluated in training mode",
            "You have {outputs[accuracy]:.3f} where {expected[accuracy]:.3f} is right, and the network's statistics "
            "moved by "
            "{outputs[moved]:.2f} while it was tested. In training mode dropout draws, each image is normalised with "
            "its "
            "neighbours, and the test images are written into what is stored.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "the mean of the batches' means",
            "You have {outputs[accuracy]:.3f}: the mean over *batches*. The last one has {inputs[batch_size]} images "
            "or fewer "
            "and counts as much as a full one. Count right answers, and divide by all images.",
            wrong=_over_batches,
        ),
        Misconception(
            "the last batch was dropped",
            "You have {outputs[accuracy]:.3f}, which leaves out the images of the last, smaller batch. Every test "
            "image counts.",
            wrong=_whole_batches,
        ),
        Misconception(
            "the mode was changed",
            "The accuracy is right, but the network comes back in another mode than it came in. Called in the middle "
            "of a "
            "training, this switches training mode off for good, or on.",
            shows=lambda i, o, e: o["training"] != e["training"],
        ),
    ),
    begun=lambda i, o, e: isinstance(o["accuracy"], (float, np.ndarray)),
    hints=(
        "Call it twice on the same network and the same images. Then with another batch size.",
        "Two things happen in the forward pass of this network that should not happen in a test: dropout, and batch "
        "statistics. One call switches both off.",
        "mode = network.training; network.eval(); count as before, under torch.no_grad(); network.train(mode); return.",
    ),
    draws=12,
)
