"""The task of lesson 11 on loading: what a file lacks must not stay at random."""

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["LOAD"]

# 11.3: a file that lacks a tensor ------------------------------------------------------------

REST = ("cls.bias", "cls.weight")  # the head of the network that was saved: of no use here


def _draw_load(rng: np.random.Generator) -> Inputs:
    return {
        "prefix": str(rng.choice(["bert.", "model.", "encoder."])),
        "width": int(rng.integers(3, 6)),
        "lacks_weight": str(rng.choice(["stem.0.weight", "block.0.weight", "block.1.bias"])),
        "lacks_statistic": str(rng.choice(["stem.1.running_mean", "block.1.running_var"])),
        "other_shape": str(rng.choice(["stem.0.bias", "block.0.bias"])),
        "seed": int(rng.integers(1000)),
    }


def _backbone(seed: int, width: int) -> nn.Sequential:
    return small_network(seed, width)[:2]


def _published(inputs: Inputs) -> dict[str, Tensor]:
    """The file of a network with other weights and other statistics, and of its head."""
    numbers = np.random.default_rng(inputs["seed"])
    state = {
        inputs["prefix"] + name: torch.from_numpy(np.asarray(1 + numbers.random(tuple(value.shape)))).to(value.dtype)
        for name, value in _backbone(0, inputs["width"]).state_dict().items()
    }
    return state | {name: torch.ones(2) for name in REST}


def _flat(network: nn.Module) -> np.ndarray:
    return torch.cat([value.detach().double().flatten() for value in network.state_dict().values()]).numpy()


def _files(inputs: Inputs) -> dict[str, dict[str, Tensor]]:
    """The whole one, two that lack a tensor, and one in which a bias has a single number."""
    whole, prefix = _published(inputs), inputs["prefix"]
    lacking = {
        kind: {name: value for name, value in whole.items() if name != prefix + inputs[f"lacks_{kind}"]}
        for kind in ("weight", "statistic")
    }
    other = prefix + inputs["other_shape"]
    return {"whole": whole, **lacking, "shape": {**whole, other: whole[other][:1]}}


def _probe_load(answer, inputs: Inputs) -> Outputs:
    unused, ends, moved, weights = None, {}, 0.0, None
    for kind, file in _files(inputs).items():
        network = _backbone(inputs["seed"], inputs["width"])
        before = _flat(network)
        try:
            returned = answer(network, file, inputs["prefix"])
            ends[kind] = "loaded"
        except NotImplementedError:
            raise
        except Exception as error:  # which one it is, is what the task asks
            if kind == "whole" and not isinstance(error, ValueError):
                raise
            returned, ends[kind] = None, type(error).__name__
        if kind == "whole":
            unused, weights = plain(returned, what="what `load_or_refuse` returned"), _flat(network)
        elif ends[kind] != "loaded":
            moved = max(moved, float(np.abs(_flat(network) - before).max()))
    return {"weights": weights, "unused": unused, "ends": ends, "moved": moved}


def _oracle_load(inputs: Inputs) -> Outputs:
    network, published = _backbone(inputs["seed"], inputs["width"]), _published(inputs)
    network.load_state_dict({name: published[inputs["prefix"] + name] for name in network.state_dict()})
    return {
        "weights": _flat(network),
        "unused": list(REST),
        "ends": {"whole": "loaded", "weight": "ValueError", "statistic": "ValueError", "shape": "ValueError"},
        "moved": 0.0,
    }


def _start(inputs: Inputs) -> np.ndarray:
    return _flat(_backbone(inputs["seed"], inputs["width"]))


LOAD = Exercise(
    id="11.3",
    title="What the loader left at random",
    points=4,
    difficulty=3,
    minutes=15,
    entry="load_or_refuse",
    draw=_draw_load,
    probe=_probe_load,
    oracle=_oracle_load,
    aspects=(
        Aspect("weights", "a whole file is loaded, statistics included", 0.35, 1e-6),
        Aspect("ends", "a file that does not fit is refused", 0.35),
        Aspect("unused", "what was not used is told", 0.15),
        Aspect("moved", "a refused file leaves the network as it was", 0.15, 0.0),
    ),
    misconceptions=(
        Misconception(
            "nothing was loaded",
            "The file holds everything, yet the network has the same random numbers as before: in the file its names "
            "begin with {inputs[prefix]!r}, so that none agreed. A loader that is not strict takes that for success.",
            shows=lambda i, o, e: o["ends"]["whole"] == "loaded" and np.array_equal(o["weights"], _start(i)),
        ),
        Misconception(
            "a whole file was refused",
            "You refuse a file that has all that the network needs: each of its names, after {inputs[prefix]!r}, and "
            "beside them a head, {expected[unused]}. Published files are like that: the network was saved together "
            "with what it was trained for.",
            shows=lambda i, o, e: o["ends"]["whole"] == "ValueError",
        ),
        Misconception(
            "what the file lacks stays random",
            "A file without {inputs[lacks_weight]!r} was loaded. That tensor keeps what it was born with, at random, "
            "in the middle of a network that is said to be pre-trained; nothing crashes, and the score is merely low.",
            shows=lambda i, o, e: o["ends"]["weight"] == "loaded",
        ),
        Misconception(
            "only parameters were looked at",
            "A missing weight is refused, but a file without {inputs[lacks_statistic]!r} was loaded. Stored statistics "
            "are no parameters (they are *buffers*), and without them the network normalises by 0 and 1.",
            shows=lambda i, o, e: o["ends"]["statistic"] == "loaded",
        ),
        Misconception(
            "another shape was accepted",
            "In the last file, {inputs[other_shape]!r} has one number instead of {inputs[width]}, and it was loaded: "
            "copied into all places (`copy_` stretches it without a word), or passed over. Compare shapes as well.",
            shows=lambda i, o, e: o["ends"]["shape"] == "loaded",
        ),
        Misconception(
            "refused when it was half loaded",
            "You refuse what does not fit, but too late: by then a part of the file is in the network (some number "
            "moved by {outputs[moved]:.2f}). Whoever catches the error goes on with a chimera. PyTorch's own strict "
            "`load_state_dict` does the same. Look first, then copy.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "refused by another error",
            "What does not fit is refused, but not by a ValueError: the three files that do not fit end in "
            "{outputs[ends][weight]}, {outputs[ends][statistic]} and {outputs[ends][shape]}. Whoever calls you waits "
            "for the error that was agreed on, and would take another for a fault of your code.",
            shows=lambda i, o, e: set(o["ends"].values()) - {"loaded", "ValueError"} != set(),
        ),
        Misconception(
            "what was left over is not told",
            "All is loaded or refused as it should. But you return {outputs[unused]}, where the file holds "
            "{expected[unused]} beside what was used: names as they stand in the file, sorted. Whoever reads that list "
            "sees what network the file was made for.",
            shows=lambda i, o, e: o["ends"] == e["ends"] and o["unused"] != e["unused"],
        ),
    ),
    hints=(
        "Print the names of `network.state_dict()` beside those of `file`. Which set must lie within which?",
        "For each name of `network.state_dict()`, look for prefix + name in the file, and compare the shapes. Only "
        "when all are there and fit, copy.",
        "own = network.state_dict(); bad = [n for n in own if prefix + n not in file or file[prefix + n].shape != "
        "own[n].shape]; if bad: raise ValueError(...); network.load_state_dict({n: file[prefix + n] for n in own}); "
        "return the other names, sorted.",
    ),
)
