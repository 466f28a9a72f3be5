"""Tasks of lesson 12: LoRA by hand, what it costs, and the language model that it is tried on."""

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.lesson12_language import PERPLEXITY, UNTIE
from tlcourse.checks.lesson12_merging import LARGEST_RANK, MERGE
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EXERCISES", "LORA"]

# 12.1: LoRA by hand ------------------------------------------------------------


def _draw_lora(rng: np.random.Generator) -> Inputs:
    inputs, outputs, rank = int(rng.integers(3, 6)), int(rng.integers(3, 6)), int(rng.integers(2, 4))
    return {
        "x": rng.normal(size=(int(rng.integers(2, 4)), inputs)).round(1).astype(np.float32),
        "A": rng.normal(size=(rank, inputs)).round(1).astype(np.float32),
        "B": rng.normal(size=(outputs, rank)).round(1).astype(np.float32),
        "alpha": float(rng.choice([4, 8, 16])),
        "bias": bool(rng.integers(2)),
        "seed": int(rng.integers(1000)),
    }


def _frozen_to_be(inputs: Inputs) -> nn.Linear:
    """The layer that an answer gets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        return nn.Linear(inputs["A"].shape[1], inputs["B"].shape[0], bias=inputs["bias"])


def _probe_lora(answer, inputs: Inputs) -> Outputs:
    layer, x = _frozen_to_be(inputs), torch.from_numpy(inputs["x"])
    rank = len(inputs["A"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"] + 1)
        module = answer(layer, rank, inputs["alpha"])
        if not isinstance(module, nn.Module):
            raise AnswerError(f"`LoRA(layer, rank, alpha)` gave a {type(module).__name__}; wanted is an nn.Module")
        start = module(x)
        _weighed(start).backward()
        reached = [_reached(module, name) for name in ("A", "B")]
        trained = {name: list(p.shape) for name, p in module.named_parameters() if p.requires_grad}
        with torch.no_grad():
            module.A.copy_(torch.from_numpy(inputs["A"]))
            module.B.copy_(torch.from_numpy(inputs["B"]))
        then = module(x)
        if then.requires_grad:
            _weighed(then).backward()
    old = [0.0 if parameter.grad is None else parameter.grad.abs().sum().item() for parameter in layer.parameters()]
    return {
        "start": plain(start, what="what the module computes"),
        "then": plain(then, what="what the module computes"),
        "trained": trained,
        "reached": reached,
        "old_gradient": sum(old),
    }


def _weighed(outputs: Tensor) -> Tensor:
    """A loss in which each output has another weight."""
    weights = torch.arange(1.0, outputs.numel() + 1).sqrt().reshape(outputs.shape)
    return (outputs * weights).sum() if outputs.requires_grad else torch.zeros((), requires_grad=True) * 1


def _reached(module: nn.Module, name: str) -> int:
    """How many numbers of a parameter the gradient reaches."""
    if not hasattr(module, name):
        raise AnswerError(f"the module has no attribute `{name}`; wanted are two parameters, `A` and `B`")
    gradient = getattr(getattr(module, name), "grad", None)
    return 0 if gradient is None else int(torch.count_nonzero(gradient))


def _then(inputs: Inputs, scale: float, *, base: bool = True) -> np.ndarray:
    x = inputs["x"].astype(float)
    layer = _frozen_to_be(inputs).double()
    with torch.no_grad():
        old = layer(torch.from_numpy(x)).numpy() if base else 0.0
    return old + scale * x @ inputs["A"].T.astype(float) @ inputs["B"].T.astype(float)


def _oracle_lora(inputs: Inputs) -> Outputs:
    return {
        "start": _then(inputs, 0.0),
        "then": _then(inputs, inputs["alpha"] / len(inputs["A"])),
        "trained": {"A": list(inputs["A"].shape), "B": list(inputs["B"].shape)},
        "reached": [0, inputs["B"].size],
        "old_gradient": 0.0,
    }


def _scale_is(inputs: Inputs, outputs: Outputs, scale: float, **other) -> bool:
    found, wanted = np.asarray(outputs["then"], dtype=float), _then(inputs, scale, **other)
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-4, atol=1e-4)


def _same_start(outputs: Outputs, expected: Outputs) -> bool:
    found = np.asarray(outputs["start"], dtype=float)
    return found.shape == expected["start"].shape and np.allclose(found, expected["start"], atol=1e-4)


LORA = Exercise(
    id="12.1",
    title="A frozen layer, and a little beside it",
    points=5,
    difficulty=3,
    minutes=20,
    entry="LoRA",
    draw=_draw_lora,
    probe=_probe_lora,
    oracle=_oracle_lora,
    aspects=(
        Aspect("start", "at the start it computes what the layer computes", 0.15, 1e-4),
        Aspect("then", "with A and B of our own, the outputs", 0.35, 1e-4),
        Aspect("trained", "A and B, and nothing else, can be trained", 0.2),
        Aspect("reached", "the first gradient reaches B, and B alone", 0.2),
        Aspect("old_gradient", "no gradient reaches the old layer", 0.1, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the layer itself is gone",
            "Your module computes the low-rank product and nothing else. It stands *beside* the frozen layer: the "
            "outputs of the layer, plus those.",
            shows=lambda i, o, e: _scale_is(i, o, i["alpha"] / len(i["A"]), base=False),
        ),
        Misconception(
            "the old layer learns too",
            "Beside A and B, the layer's own tensors can be trained. Then this is full fine-tuning with something on "
            "top: it costs more, and forgets as much. Freeze the layer with requires_grad_(False).",
            shows=lambda i, o, e: bool(set(o["trained"]) - {"A", "B"}),
        ),
        Misconception(
            "both start at zero",
            "At the start, no gradient reaches A or B. With B = 0 the gradient of A is zero, and with A = 0 that of B: "
            "where both are zero, nothing ever moves, and the loss stands still without any error. One of them has to "
            "start at random.",
            shows=lambda i, o, e: o["reached"] == [0, 0] and _same_start(o, e),
        ),
        Misconception(
            "A is zero, and B is not",
            "This would learn as well, and is the other way round: by the convention of the paper, and of every file "
            "of adapters that you will load, B starts at zero and A at random.",
            shows=lambda i, o, e: o["reached"][0] > 0 and o["reached"][1] == 0 and _same_start(o, e),
        ),
        Misconception(
            "another network at the start",
            "Before the first step, your module computes something else than the layer. All that was pre-trained is "
            "disturbed by random numbers, and the first steps go into undoing that. B starts at zero.",
            shows=lambda i, o, e: not _same_start(o, e),
        ),
        Misconception(
            "alpha without the rank",
            "You multiply by alpha = {inputs[alpha]:g}. The factor is alpha / rank: then the sum over the rank stays "
            "of one size, and a rate that suits one rank suits another.",
            shows=lambda i, o, e: _scale_is(i, o, i["alpha"]),
        ),
        Misconception(
            "no alpha at all",
            "Your product has no factor, or 1 / rank. It is alpha / rank, here {inputs[alpha]:g} / rank.",
            shows=lambda i, o, e: _scale_is(i, o, 1.0) or _scale_is(i, o, 1 / len(i["A"])),
        ),
        Misconception(
            "the root of the rank",
            "You divide by the root of the rank. That is rank-stabilised LoRA (Kalajdzievski 2023), which has its "
            "reasons at large ranks; here the plain alpha / rank was asked for.",
            shows=lambda i, o, e: _scale_is(i, o, i["alpha"] / len(i["A"]) ** 0.5),
        ),
    ),
    hints=(
        "In __init__: freeze the layer, make two nn.Parameter, keep the factor. In forward: two terms.",
        "self.A = nn.Parameter(torch.randn(rank, layer.in_features) * 0.1); self.B = nn.Parameter(torch.zeros(...)) of "
        "shape (layer.out_features, rank).",
        "return self.layer(x) + self.scale * (x @ self.A.T @ self.B.T), with self.scale = alpha / rank and "
        "self.layer = layer.requires_grad_(False).",
    ),
)

EXERCISES = (LORA, MERGE, LARGEST_RANK, PERPLEXITY, UNTIE)
