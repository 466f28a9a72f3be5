"""Tasks of lesson 12 on what LoRA costs: rounding when it is merged, and bytes while it is trained."""

import numpy as np
import torch
from torch import Tensor

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["LARGEST_RANK", "MERGE"]

# 12.2: merging, and what rounding takes ------------------------------------------------------------


def _some_adapter(rng: np.random.Generator) -> Inputs:
    """Factors of few binary digits: their product is exact in float32, so that only the last rounding decides."""
    rank, outputs, inputs = int(rng.choice([2, 4])), int(rng.integers(3, 6)), int(rng.integers(3, 6))
    weight = torch.from_numpy(rng.normal(0, 8, (outputs, inputs))).to(torch.bfloat16).float().numpy()
    factors = {"A": rng.integers(-31, 32, (rank, inputs)) / 16, "B": rng.integers(-31, 32, (outputs, rank)) / 16}
    return {
        "weight": weight,
        **{name: factor.astype(np.float32) for name, factor in factors.items()},
        "alpha": rank * float(rng.choice([0.25, 0.5, 2.0]) if rank == 4 else rng.choice([0.25, 2.0])),
        "dtype": "bfloat16",
    }


def _draw_merge(rng: np.random.Generator) -> Inputs:
    ways = [_oracle_merge, *(lambda i, way=way: {**_oracle_merge(i), **way(i)} for way in _MERGE_WAYS.values())]
    return draw_apart(rng, _some_adapter, ways)


def _parts(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Weight in its own dtype, A and B in float32."""
    weight, a, b = (torch.from_numpy(inputs[name]) for name in ("weight", "A", "B"))
    return weight.to(getattr(torch, inputs["dtype"])), a, b


def _probe_merge(answer, inputs: Inputs) -> Outputs:
    weight, a, b = _parts(inputs)
    before = weight.float().clone()
    found = answer(weight, a, b, inputs["alpha"])
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise AnswerError("`merge` returns two things: `return merged, lost`")
    merged, lost = found
    if not isinstance(merged, Tensor):
        raise AnswerError(f"the first thing that `merge` returns is a {type(merged).__name__}; wanted is a tensor")
    lost = lost.double() if isinstance(lost, Tensor) else lost  # numpy has no bfloat16
    return {
        "merged": merged.detach().float().numpy().copy(),
        "dtype": str(merged.dtype).removeprefix("torch."),
        "lost": plain(lost, what="the second thing that `merge` returned"),
        "moved": (weight.float() - before).abs().max().item(),
    }


def _merged(inputs: Inputs, *, scale: float | None = None, rounded: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The new weight, and the change that was meant."""
    scale = inputs["alpha"] / len(inputs["A"]) if scale is None else scale
    change = scale * inputs["B"].astype(float) @ inputs["A"].astype(float)
    new = torch.from_numpy(inputs["weight"].astype(float) + change).float()
    return (new.to(getattr(torch, inputs["dtype"])) if rounded else new).double().numpy(), change


def _lost(inputs: Inputs, *, scale: float | None = None) -> float:
    new, change = _merged(inputs, scale=scale)
    return float(np.linalg.norm(new - inputs["weight"] - change) / np.linalg.norm(change))


def _oracle_merge(inputs: Inputs) -> Outputs:
    return {"merged": _merged(inputs)[0], "dtype": inputs["dtype"], "lost": _lost(inputs), "moved": 0.0}


def _with_scale(inputs: Inputs, scale: float) -> Outputs:
    return {"merged": _merged(inputs, scale=scale)[0], "lost": _lost(inputs, scale=scale)}


def _in_half(inputs: Inputs) -> Outputs:
    """Every operation in the weight's own precision."""
    weight, a, b = _parts(inputs)
    change = (inputs["alpha"] / len(a)) * (b.to(weight.dtype) @ a.to(weight.dtype))
    return {"merged": (weight + change).float().numpy()}


def _against_the_weight(inputs: Inputs) -> Outputs:
    new, change = _merged(inputs)
    return {"lost": float(np.linalg.norm(new - inputs["weight"] - change) / np.linalg.norm(inputs["weight"]))}


def _squared(inputs: Inputs) -> Outputs:
    return {"lost": _lost(inputs) ** 2}


_MERGE_WAYS = {
    "alpha": lambda i: _with_scale(i, i["alpha"]),
    "no alpha": lambda i: _with_scale(i, 1 / len(i["A"])),
    "plain": lambda i: _with_scale(i, 1.0),
    "taken off": lambda i: _with_scale(i, -i["alpha"] / len(i["A"])),
    "in half": _in_half,
    "against the weight": _against_the_weight,
    "kept": lambda i: {"lost": 1 - _lost(i)},
    "squared": _squared,
}

MERGE = Exercise(
    id="12.2",
    title="What merging rounds away",
    points=4,
    difficulty=3,
    minutes=15,
    entry="merge",
    draw=_draw_merge,
    probe=_probe_merge,
    oracle=_oracle_merge,
    aspects=(
        Aspect("merged", "the merged weight", 0.45, 1e-6),
        Aspect("dtype", "its dtype", 0.1),
        Aspect("lost", "the share that rounding took", 0.35, 1e-5),
        Aspect("moved", "the base's weight is as before", 0.1, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the base was overwritten",
            "The weight that you were given has moved by {outputs[moved]:.3f}: you added in place. The base is gone "
            "then: no second adapter can be tried on it, and merging again would add the change twice. Make a new "
            "tensor.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "kept in float32",
            "Your merged weight is {outputs[dtype]}, and the base is {inputs[dtype]}. The model would need twice the "
            "memory, or somebody rounds later and does not see what is lost.",
            shows=lambda i, o, e: o["dtype"] != e["dtype"],
        ),
        Misconception(
            "alpha without the rank",
            "Your change is multiplied by alpha. While it was trained the factor was alpha / rank: merged is to "
            "compute what unmerged computed.",
            wrong=_MERGE_WAYS["alpha"],
        ),
        Misconception(
            "no alpha at all",
            "Your change has no factor, or 1 / rank. While it was trained the factor was alpha / rank.",
            shows=lambda i, o, e: any(
                np.allclose(o["merged"], _MERGE_WAYS[way](i)["merged"], atol=1e-6) for way in ("no alpha", "plain")
            ),
        ),
        Misconception(
            "taken off instead of added",
            "You took the change off. That is how one takes an adapter out again.",
            wrong=_MERGE_WAYS["taken off"],
        ),
        Misconception(
            "rounded at every step",
            "Your numbers are off by a last digit here and there: product and sum were computed in {inputs[dtype]}, "
            "with a rounding each. Compute in float32, and round once, at the end.",
            wrong=lambda i: _in_half(i),
        ),
        Misconception(
            "the loss measured against the weight",
            "The merged weight is right. But you divided what was lost by the size of the *weight*: that is small "
            "whatever happens, since the change is small too. How much of the change is left is the question: divide "
            "by the change.",
            wrong=_MERGE_WAYS["against the weight"],
        ),
        Misconception(
            "the share that was kept",
            "The merged weight is right. {outputs[lost]:.3f} is 1 minus the share that was asked for.",
            wrong=_MERGE_WAYS["kept"],
        ),
        Misconception(
            "the squares without the root",
            "The merged weight is right. You divided sums of squares; a norm has a root.",
            wrong=_MERGE_WAYS["squared"],
        ),
    ),
    hints=(
        "Three tensors: the change that was meant, in float32; the weight after rounding; and what is between them.",
        "change = alpha / len(A) * (B @ A); merged = (weight.float() + change).to(weight.dtype).",
        "lost = ((merged.float() - weight.float() - change).norm() / change.norm()).item().",
    ),
)

# 12.3: the largest rank that fits ------------------------------------------------------------

TRAINED = 16  # bytes a number: itself, its gradient, two moments
FROZEN = 2


def _some_budget(rng: np.random.Generator) -> Inputs:
    layers = [[int(side) for side in rng.integers(12, 40, 2)] for _ in range(int(rng.integers(2, 4)))]
    head, rank = int(rng.integers(20, 60)), int(rng.integers(2, 6))
    biases = sum(outputs for _, outputs in layers)
    short = int(rng.integers(1, FROZEN * biases))  # of one rank more, which whoever forgets the biases takes
    shorter = int(rng.integers(FROZEN * biases + 1, TRAINED * head))  # the same, of whoever forgets the head
    scarce = [_bytes(layers, head, rank + more) for more in (1, 2, 0)]
    scarce = [scarce[0] - short, scarce[1] - shorter, scarce[2] + short]
    ample = _bytes(layers, head, min(map(min, layers)) + int(rng.integers(2, 5)))
    return {"layers": layers, "head": head, "scarce": scarce, "ample": [ample]}


def _draw_rank(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_budget, [_oracle_rank, *_RANK_WAYS.values()])


def _probe_rank(answer, inputs: Inputs) -> Outputs:
    outputs = {"scarce": [], "ample": []}
    for name, budgets in outputs.items():
        for budget in inputs[name]:
            found = plain(answer(inputs["layers"], inputs["head"], budget), what="what `largest_rank` returned")
            if not isinstance(found, list) or len(found) != 2:
                raise AnswerError("`largest_rank` returns two whole numbers: `return rank, trainable`")
            budgets.append(found)
    return outputs


def _bytes(
    layers: list[list[int]],
    head: int,
    rank: int,
    *,
    trained: int = TRAINED,
    frozen: int = FROZEN,
    biases: bool = True,
    head_bytes: int | None = None,
    sides: str = "both",
) -> int:
    """What a training holds, as somebody counts who takes one thing otherwise."""
    fixed = sum(a * b + biases * b for a, b in layers)
    moving = rank * sum({"both": a + b, "one": a, "product": a * b}[sides] for a, b in layers)
    return frozen * fixed + trained * moving + (trained if head_bytes is None else head_bytes) * head


def _found(
    inputs: Inputs, *, cap: bool = True, over: int = 0, with_head: bool = True, sides: str = "both", **other
) -> Outputs:
    layers, head = inputs["layers"], inputs["head"]
    most = min(map(min, layers)) if cap else 10**6
    first, step = (_bytes(layers, head, rank, sides=sides, **other) for rank in (0, 1))
    each = sum({"both": a + b, "one": a, "product": a * b}[sides] for a, b in layers)

    def found(budget: int) -> list[int]:
        rank = max(0, min(most, (budget - first) // (step - first) + over))
        return [rank, rank * each + with_head * head]

    return {name: [found(budget) for budget in inputs[name]] for name in ("scarce", "ample")}


def _oracle_rank(inputs: Inputs) -> Outputs:
    """By trying each rank, from the largest down."""
    layers, head = inputs["layers"], inputs["head"]

    def found(budget: int) -> list[int]:
        rank = next(k for k in range(min(map(min, layers)), -1, -1) if _bytes(layers, head, k) <= budget)
        return [rank, head + rank * sum(a + b for a, b in layers)]

    return {name: [found(budget) for budget in inputs[name]] for name in ("scarce", "ample")}


_RANK_WAYS = {
    "no moments": lambda i: _found(i, trained=8),
    "twelve": lambda i: _found(i, trained=12),
    "float32": lambda i: _found(i, frozen=4),
    "no biases": lambda i: _found(i, biases=False),
    "head is free": lambda i: _found(i, head_bytes=0),
    "one matrix": lambda i: _found(i, sides="one"),
    "product": lambda i: _found(i, sides="product"),
    "without head": lambda i: _found(i, with_head=False),
    "no cap": lambda i: _found(i, cap=False),
    "rounded up": lambda i: _found(i, over=1),
}

LARGEST_RANK = Exercise(
    id="12.3",
    title="The largest rank that fits",
    points=4,
    difficulty=2,
    minutes=15,
    entry="largest_rank",
    draw=_draw_rank,
    probe=_probe_rank,
    oracle=_oracle_rank,
    aspects=(
        Aspect("scarce", "rank and trainable numbers where memory is scarce", 0.7, 0.0),
        Aspect("ample", "rank and trainable numbers where it is ample", 0.3, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the moments were forgotten",
            "You count 8 bytes for each number that is trained: itself and its gradient. AdamW keeps two moments more, "
            "8 bytes again. With rank {outputs[scarce][0][0]} the first step would run out of memory.",
            wrong=_RANK_WAYS["no moments"],
        ),
        Misconception(
            "twelve bytes instead of sixteen",
            "You count 12 bytes for each number that is trained. There are four of 4 bytes: itself, its gradient, and "
            "AdamW's two moments.",
            wrong=_RANK_WAYS["twelve"],
        ),
        Misconception(
            "the frozen weights in float32",
            "You count 4 bytes for what is frozen. It is kept in bfloat16, 2 bytes: nothing is ever added to it, so it "
            "needs no more.",
            wrong=_RANK_WAYS["float32"],
        ),
        Misconception(
            "the biases were forgotten",
            "One number is missing for each output of each layer: the frozen biases. You are over the budget by a few "
            "bytes.",
            wrong=_RANK_WAYS["no biases"],
        ),
        Misconception(
            "the head takes no memory",
            "The head is trained too: its {inputs[head]} numbers take 16 bytes each.",
            wrong=_RANK_WAYS["head is free"],
        ),
        Misconception(
            "one matrix instead of two",
            "You count one matrix a layer. There are two: A has rank x inputs numbers, B has outputs x rank.",
            wrong=_RANK_WAYS["one matrix"],
        ),
        Misconception(
            "as many as the layer itself",
            "You count inputs x outputs numbers for each rank: that is a whole layer. LoRA has rank x (inputs + "
            "outputs), and for that reason it is small.",
            wrong=_RANK_WAYS["product"],
        ),
        Misconception(
            "the head is trained as well",
            "The rank is right. Trainable are A and B of every layer, {outputs[scarce][0][1]} numbers, and the "
            "{inputs[head]} of the head.",
            wrong=_RANK_WAYS["without head"],
        ),
        Misconception(
            "a rank that no layer has",
            "With ample memory you choose rank {outputs[ample][0][0]}. One of the layers has a side of "
            "{expected[ample][0][0]}: no change of its weight has a higher rank, so all beyond is memory for nothing.",
            wrong=_RANK_WAYS["no cap"],
        ),
        Misconception(
            "one rank too many",
            "Rank {outputs[scarce][0][0]} needs more than the budget: you rounded up, or stopped one too late.",
            wrong=_RANK_WAYS["rounded up"],
        ),
    ),
    hints=(
        "Write down the bytes of rank 0 first, then what each rank adds.",
        "fixed = 2 * sum(i * o + o for i, o in layers) + 16 * head; each rank adds 16 * sum(i + o for i, o in layers).",
        "rank = min((budget - fixed) // (16 * sides), the smallest side of all layers), with sides = sum(i + o for i, "
        "o in layers); trainable = rank * sides + head.",
    ),
)
