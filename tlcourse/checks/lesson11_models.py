"""Tasks of lesson 11 on two kinds of networks: what a decoder reads from a mask, what a row of convolutions costs."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["COST", "FROM_MASK"]

# 11.1: places, sight and the last token, from the mask ------------------------------------------------------------


def _draw_mask(rng: np.random.Generator) -> Inputs:
    """At least one text that is padded on the left, and one on the right."""
    width = int(rng.integers(4, 7))
    sides = rng.permutation(["left", "right", str(rng.choice(["left", "right"]))][: int(rng.integers(2, 4))])
    lengths, places = rng.integers(2, width, len(sides)), np.arange(width)
    rows = [
        places >= width - length if side == "left" else places < length
        for side, length in zip(sides, lengths, strict=True)
    ]
    return {"mask": np.stack(rows).astype(int).tolist()}


def _probe_mask(answer, inputs: Inputs) -> Outputs:
    mask = torch.tensor(inputs["mask"], dtype=torch.bool)
    found = plain(answer(mask.clone()), what="what `from_mask` returned")
    if not isinstance(found, list) or len(found) != 3:
        raise AnswerError("`from_mask` returns three things: `return places, sees, last`")
    places, sees, last = found
    return {"places": _shown_places(places, mask.numpy()), "sees": _shown_sees(sees, mask.numpy()), "last": last}


def _shown_places(places, mask: np.ndarray):
    """With 0 in padding, which does not count; as they came where the shape is another."""
    return np.where(mask, places, 0).tolist() if np.shape(places) == mask.shape else places


def _shown_sees(sees, mask: np.ndarray):
    """A word of 0 and 1 for each real token, which a message shows whole."""
    if np.shape(sees) != (*mask.shape, mask.shape[1]):
        raise AnswerError(f"`sees` has the shape {np.shape(sees)}; wanted is {(*mask.shape, mask.shape[1])}, (n, L, L)")
    return [
        ["".join("1" if sight else "0" for sight in row) for row, is_real in zip(rows, real, strict=True) if is_real]
        for rows, real in zip(np.asarray(sees).tolist(), mask, strict=True)
    ]


def _oracle_mask(inputs: Inputs) -> Outputs:
    """Token by token."""
    mask = _mask(inputs)
    places, sees, last = np.zeros(mask.shape, dtype=int), np.zeros((*mask.shape, mask.shape[1]), dtype=bool), []
    for text, row in enumerate(mask):
        real = [position for position, is_real in enumerate(row) if is_real]
        for place, position in enumerate(real):
            places[text, position] = place
            sees[text, position, real[: place + 1]] = True
        last.append(real[-1])
    return {"places": places.tolist(), "sees": _shown_sees(sees, mask), "last": last}


def _mask(inputs: Inputs) -> np.ndarray:
    return np.array(inputs["mask"], dtype=bool)


def _sees(inputs: Inputs, cut, *, padding: bool = False) -> Outputs:
    """As somebody has it who cuts another part out of the square, or leaves padding in its columns."""
    mask = _mask(inputs)
    square = np.broadcast_to(padding | mask[:, None, :], (*mask.shape, mask.shape[1]))
    return {"sees": _shown_sees(cut(square), mask)}


def _counted(inputs: Inputs, places) -> Outputs:
    mask = _mask(inputs)
    return {"places": _shown_places(np.broadcast_to(places(mask), mask.shape), mask)}


FROM_MASK = Exercise(
    id="11.1",
    title="What a decoder reads from a mask",
    points=4,
    difficulty=2,
    minutes=12,
    entry="from_mask",
    draw=_draw_mask,
    probe=_probe_mask,
    oracle=_oracle_mask,
    aspects=(
        Aspect("places", "the places of the real tokens", 0.3, 0.0),
        Aspect("sees", "who sees whom", 0.4, 0.0),
        Aspect("last", "the last real token of each text", 0.3, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the last position instead of the last token",
            "Your `last` is the last *position* of every text. Where a text is padded on the right, that is padding: "
            "its features would be those of a token that stands for nothing, and no shape complains. Look at the mask.",
            wrong=lambda i: {"last": [len(row) - 1 for row in i["mask"]]},
        ),
        Misconception(
            "as if padding were always on the right",
            "Your `last` is the number of real tokens, less one. That is their last *place*, and only where the "
            "padding stands on the right it is a position too. Many tokenizers of decoders pad on the left.",
            wrong=lambda i: {"last": [sum(row) - 1 for row in i["mask"]]},
        ),
        Misconception(
            "the future is seen",
            "In your `sees`, a token sees real tokens *after* it, as in BERT. A decoder has learnt to predict the next "
            "token; shown the next token, it gets states that it has never met.",
            wrong=lambda i: _sees(i, lambda square: square),
        ),
        Misconception(
            "only the future is seen",
            "In your `sees`, each token sees itself and what comes *after* it: rows and columns are exchanged, or the "
            "other half of the square was cut off. `sees[text, a, b]` is about a, which looks at b.",
            wrong=lambda i: _sees(i, np.triu),
        ),
        Misconception(
            "padding before the text is seen",
            "Your triangle is right, but it forgets the mask: where the padding stands on the left, it lies before "
            "the real tokens, and all of them look at it.",
            wrong=lambda i: _sees(i, np.tril, padding=True),
        ),
        Misconception(
            "the token does not see itself",
            "In your `sees`, a token sees those before it but not itself. The first one then sees nothing at all, and "
            "its softmax has nothing to divide by.",
            wrong=lambda i: _sees(i, lambda square: np.tril(square, -1)),
        ),
        Misconception(
            "padding takes places",
            "Your `places` count positions, padding included: padded on the left, the first word of a text would be "
            "embedded as if it stood further on, and differently in each batch. Count real tokens.",
            wrong=lambda i: _counted(i, lambda mask: np.arange(mask.shape[1])),
        ),
        Misconception(
            "places from one",
            "Your `places` begin at 1. The first real token of a text has the place 0: shifted by one, every token "
            "gets its neighbour's position.",
            wrong=lambda i: _counted(i, lambda mask: mask.cumsum(axis=1)),
        ),
    ),
    hints=(
        "Write all three by hand for one text of two tokens in four positions, padded on the left; then for the same "
        "text padded on the right.",
        "`mask.cumsum(dim=1)` counts the real tokens up to each position. `torch.ones(L, L).tril()` is a triangle. For "
        "`last`, which position is the largest among the real ones?",
        "places = mask.cumsum(dim=1) - 1; sees = mask[:, None, :] & torch.ones(L, L, dtype=torch.bool).tril(); last = "
        "(mask * torch.arange(1, L + 1)).argmax(dim=1).",
    ),
)

# 11.2: what a row of convolutions costs ------------------------------------------------------------


def _draw_cost(rng: np.random.Generator) -> Inputs:
    """A stem, a grouped convolution, a pointwise one: how an EfficientNet begins."""
    width, out = int(rng.choice([4, 6, 8])), int(rng.choice([10, 12, 16]))
    groups = width if rng.integers(3) else 2
    return {
        "layers": [
            _layer(3, width, 3, 2, 1),
            _layer(width, width, int(rng.choice([3, 5])), int(rng.integers(1, 3)), groups),
            _layer(width, out, 1, 1, 1),
        ],
        "side": 4 * int(rng.integers(2, 6)) + 1,
    }


def _layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> dict[str, int]:
    return {"inputs": inputs, "outputs": outputs, "kernel": kernel, "stride": stride, "groups": groups}


def _probe_cost(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(inputs["layers"], inputs["side"]), what="what `cost` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`cost` returns two numbers: `return parameters, multiply_adds`")
    return {"parameters": found[0], "multiply_adds": found[1]}


def _oracle_cost(inputs: Inputs) -> Outputs:
    """By PyTorch's own layers, on the meta device: each output number takes a multiply-add for each of its weights."""
    parameters = work = 0
    images = torch.empty(1, inputs["layers"][0]["inputs"], inputs["side"], inputs["side"], device="meta")
    for layer in inputs["layers"]:
        convolution = nn.Conv2d(
            layer["inputs"],
            layer["outputs"],
            layer["kernel"],
            stride=layer["stride"],
            padding=layer["kernel"] // 2,
            groups=layer["groups"],
            bias=False,
            device="meta",
        )
        images = convolution(images)
        parameters += convolution.weight.numel()
        work += images.numel() * convolution.weight[0].numel()
    return {"parameters": parameters, "multiply_adds": work}


def _weights(layer: dict[str, int]) -> int:
    return layer["outputs"] * layer["inputs"] // layer["groups"] * layer["kernel"] ** 2


def _count(
    inputs: Inputs,
    *,
    weights: Callable[[dict], int] = _weights,
    after: Callable[[int, int], int] = lambda side, stride: -(-side // stride),
    at_input: bool = False,
    each: int = 1,
) -> Outputs:
    """As somebody counts who has another idea of the weights, of the side after a layer, or of what counts."""
    side, parameters, work = inputs["side"], 0, 0
    for layer in inputs["layers"]:
        left = after(side, layer["stride"])
        parameters += weights(layer)
        work += each * weights(layer) * (side if at_input else left) ** 2
        side = left
    return {"parameters": parameters, "multiply_adds": work}


COST = Exercise(
    id="11.2",
    title="What a row of convolutions costs",
    points=4,
    difficulty=2,
    minutes=12,
    entry="cost",
    draw=_draw_cost,
    probe=_probe_cost,
    oracle=_oracle_cost,
    aspects=(
        Aspect("parameters", "the parameters", 0.4, 1e-9),
        Aspect("multiply_adds", "the multiply-adds", 0.6, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "the groups were forgotten",
            "You count {outputs[parameters]} parameters, there are {expected[parameters]}: each output channel of a "
            "grouped convolution reads the inputs of its own group alone. That is the whole economy of a depthwise "
            "one.",
            wrong=lambda i: _count(i, weights=lambda layer: _weights({**layer, "groups": 1})),
        ),
        Misconception(
            "divided by the groups twice",
            "You count {outputs[parameters]} parameters, there are {expected[parameters]}. One group has inputs / "
            "groups and outputs / groups channels, that is right; but there are as many groups as that.",
            wrong=lambda i: _count(i, weights=lambda layer: _weights(layer) // layer["groups"]),
        ),
        Misconception(
            "a kernel is a line",
            "You count {outputs[parameters]} parameters, there are {expected[parameters]}: a kernel of 3 has 3 x 3 "
            "weights for each pair of channels.",
            wrong=lambda i: _count(i, weights=lambda layer: _weights(layer) // layer["kernel"]),
        ),
        Misconception(
            "the stride changes nothing",
            "The parameters are right. But all your layers work on images of side {inputs[side]}: a stride of 2 halves "
            "the side of what comes out, and it and whatever comes after it have about a quarter of the positions.",
            wrong=lambda i: {"multiply_adds": _count(i, after=lambda side, stride: side)["multiply_adds"]},
        ),
        Misconception(
            "counted at the input's positions",
            "The parameters are right. But a kernel is applied once for each position of what comes *out*. You counted "
            "those of what goes in: a layer of stride 2 comes out about four times as dear as it is.",
            wrong=lambda i: {"multiply_adds": _count(i, at_input=True)["multiply_adds"]},
        ),
        Misconception(
            "the side was rounded down",
            "The parameters are right. But with a padding of half the kernel, a stride of 2 takes positions 0, 2, 4, … "
            "of {inputs[side]}: an odd side gives one more than half of it, rounded down.",
            wrong=lambda i: {"multiply_adds": _count(i, after=lambda side, stride: side // stride)["multiply_adds"]},
        ),
        Misconception(
            "multiplications and additions were counted apart",
            "Your {outputs[multiply_adds]} are twice {expected[multiply_adds]}: these are floating-point operations "
            "(FLOPs). A multiply-add is one multiplication with its addition. Papers use both words for both numbers: "
            "ask which, before you compare.",
            wrong=lambda i: {"multiply_adds": _count(i, each=2)["multiply_adds"]},
        ),
    ),
    hints=(
        "What is the shape of the weight of `nn.Conv2d(8, 16, 3, groups=4, bias=False)`? Look it up before you guess.",
        "The weight is (outputs, inputs / groups, kernel, kernel). Each position of the output takes one multiply-add "
        "for each of its numbers. After a layer the side is the old one divided by the stride, rounded up.",
        "In a loop: side = math.ceil(side / stride); weights = outputs * (inputs // groups) * kernel**2; parameters += "
        "weights; multiply_adds += weights * side**2.",
    ),
)
