"""Tasks of lesson 03 on batch statistics: how much of them is left after training mode, and measuring how fast."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["IMAGENET_LEFT", "MEASURE_MOMENTUM", "sealed_norm"]

# 03.1: how much of ImageNet is left ------------------------------------------------------------


def _draw_left(rng: np.random.Generator) -> Inputs:
    batch = int(rng.integers(2, 9))
    return {
        "images": int(batch * rng.integers(1, 4) + rng.integers(1, batch)),  # the last batch is never full
        "batch_size": batch,
        "epochs": int(rng.integers(2, 5)),
        "momentum": float(rng.choice([0.01, 0.05, 0.1, 0.2])),
    }


def _probe_left(answer, inputs: Inputs) -> Outputs:
    return {"left": plain(answer(**inputs), what="what `imagenet_left` returned")}


def _steps(inputs: Inputs, *, images: int | None = None) -> int:
    return inputs["epochs"] * -(-(images or inputs["images"]) // inputs["batch_size"])


def _left_after(inputs: Inputs, steps: int) -> Outputs:
    """By running it: what is stored is 1 for ImageNet, and every batch of ours adds 0."""
    stored = 1.0
    for _ in range(steps):
        stored = (1 - inputs["momentum"]) * stored
    return {"left": stored}


IMAGENET_LEFT = Exercise(
    id="03.1",
    title="What is left of ImageNet",
    points=2,
    difficulty=1,
    minutes=5,
    entry="imagenet_left",
    draw=_draw_left,
    probe=_probe_left,
    oracle=lambda inputs: _left_after(inputs, _steps(inputs)),
    aspects=(Aspect("left", "the share that is left", 1.0, 1e-9),),
    misconceptions=(
        Misconception(
            "the last batch was dropped",
            "{inputs[images]} images in batches of {inputs[batch_size]} leave a smaller batch at the end, and that "
            "batch "
            "moves the statistics as much as a full one.",
            wrong=lambda i: _left_after(i, i["epochs"] * (i["images"] // i["batch_size"])),
        ),
        Misconception(
            "one step an epoch",
            "The statistics move once with each batch, not once with each epoch.",
            wrong=lambda i: _left_after(i, i["epochs"]),
        ),
        Misconception(
            "one step an image",
            "A batch moves the statistics once, however many images are in it.",
            wrong=lambda i: _left_after(i, i["epochs"] * i["images"]),
        ),
        Misconception(
            "momentum the other way round",
            "In PyTorch, momentum {inputs[momentum]} is the weight of the *new* batch; what is stored keeps the rest. "
            "(TensorFlow counts it the other way round.)",
            wrong=lambda i: {"left": i["momentum"] ** _steps(i)},
        ),
        Misconception(
            "the share that was lost",
            "{outputs[left]:.3g} is the share that was replaced. Asked for is the share that is left.",
            wrong=lambda i: {"left": 1 - _left_after(i, _steps(i))["left"]},
        ),
        Misconception(
            "subtracting instead of shrinking",
            "Each batch replaces a share of what is *still there*, so that the rest shrinks by a factor. Taking the "
            "same "
            "amount away each time would leave nothing, or less, after a while.",
            wrong=lambda i: {"left": 1 - i["momentum"] * _steps(i)},
        ),
    ),
    hints=(
        "Each batch that passes in training mode changes what is stored, once.",
        "After one batch, 1 - momentum of the old value is left; after two, 1 - momentum of that.",
        "Raise 1 - momentum to the number of batches, which is epochs times images / batch_size, rounded up.",
    ),
)

# 03.2: measuring a layer's momentum ------------------------------------------------------------


def sealed_norm(features: int, momentum: float, seed: int) -> nn.Module:
    """A batch normalisation that does not tell its momentum; its stored statistics are not at their start."""

    class SealedNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            self.register_buffer("running_mean", 3 + torch.randn(features, generator=generator))
            self.register_buffer("running_var", 0.5 + torch.rand(features, generator=generator))

        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(x, self.running_mean, self.running_var, training=self.training, momentum=momentum)

    return SealedNorm()


def _draw_momentum(rng: np.random.Generator) -> Inputs:
    return {
        "features": int(rng.integers(1, 5)),
        "momentum": float(np.round(rng.uniform(0.02, 0.45), 3)),
        "training": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


def _probe_momentum(answer, inputs: Inputs) -> Outputs:
    layer = sealed_norm(inputs["features"], inputs["momentum"], inputs["seed"]).train(inputs["training"])
    before = copy.deepcopy(layer.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        measured = plain(answer(layer, inputs["features"]), what="what `measure_momentum` returned")
    moved = max((layer.state_dict()[name] - old).abs().max().item() for name, old in before.items())
    return {"momentum": measured, "left_moved": moved, "training": layer.training}


MEASURE_MOMENTUM = Exercise(
    id="03.2",
    title="Measure the drift of a sealed layer",
    points=4,
    difficulty=3,
    minutes=15,
    entry="measure_momentum",
    draw=_draw_momentum,
    probe=_probe_momentum,
    oracle=lambda i: {"momentum": i["momentum"], "left_moved": 0.0, "training": i["training"]},
    aspects=(
        Aspect("momentum", "the momentum", 0.6, 1e-3),
        Aspect("left_moved", "the stored statistics are as before", 0.25, 0.0),
        Aspect("training", "the mode is as before", 0.15),
    ),
    misconceptions=(
        Misconception(
            "measured in evaluation mode",
            "You measured {outputs[momentum]:.3g}: nothing moved. In evaluation mode a layer only uses what is "
            "stored; it "
            "is training mode in which the forward pass changes it.",
            shows=lambda i, o, e: o["momentum"] == 0,
        ),
        Misconception(
            "the momentum of the old value",
            "You found {outputs[momentum]:.3f}, and that is 1 minus the momentum: the weight of what was stored. "
            "PyTorch "
            "calls the weight of the new batch the momentum.",
            wrong=lambda i: {"momentum": 1 - i["momentum"]},
        ),
        Misconception(
            "the experiment left its traces",
            "The momentum is right, but your batch is now part of the layer: its statistics are off by "
            "{outputs[left_moved]:.2f}. That is the trap of the lesson, in your own measurement.",
            shows=lambda i, o, e: abs(_number(o["momentum"]) - e["momentum"]) < 1e-3 and o["left_moved"] > 0,
        ),
        Misconception(
            "the mode was changed",
            "The statistics are back, but the layer was in {expected[training]} training mode before and is now in "
            "{outputs[training]}: whoever uses it next gets another layer.",
            shows=lambda i, o, e: abs(_number(o["momentum"]) - e["momentum"]) < 1e-3 and o["left_moved"] == 0,
        ),
        Misconception(
            "as if the stored mean had been zero",
            "The momentum is how far the stored mean moved, divided by how far it *could* have moved: from where it "
            "was, "
            "to the mean of your batch. You divided by something else.",
            shows=lambda i, o, e: np.isfinite(_number(o["momentum"])),
        ),
    ),
    begun=lambda i, o, e: 0 < o["momentum"] < 1,
    hints=(
        "Give the layer a batch whose mean you know, in training mode, and look at `layer.running_mean` before and "
        "after.",
        "stored_new = (1 - momentum) * stored_old + momentum * batch_mean: solve it for momentum. Copy what is stored "
        "first, with .clone(): without it you hold the very tensor that is about to change.",
        "momentum = (new - old) / (batch_mean - old), for one feature. A batch needs at least two rows. Afterwards "
        "load_state_dict the copy, and layer.train(mode) with the mode that layer.training had.",
    ),
)


def _number(value) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")
