"""Tasks of lesson 02 on a network's stages: recording what each puts out, and grafting some onto another network."""

import copy
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["GRAFT", "RECORD"]

NAMES = ["stem", "block1", "block2", "block3", "head"]


# 02.2: what each stage says ------------------------------------------------------------


def picture_network(seed: int, stages: int, width: int) -> nn.Sequential:
    """Stages of a convolution each. All but the first begin with a ReLU that works in place, on what they are given."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = OrderedDict(stem=nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)))
        for number in range(1, stages):
            layers = [nn.ReLU(inplace=True), nn.Conv2d(width, width + 1, 3, padding=1), nn.BatchNorm2d(width + 1)]
            parts[f"block{number}"] = nn.Sequential(*layers)
            width += 1
        return nn.Sequential(parts)


def _draw_record(rng: np.random.Generator) -> Inputs:
    side = int(rng.integers(3, 5))
    return {
        "images": rng.normal(size=(int(rng.integers(2, 4)), 3, side, side + 1)).astype(np.float32),
        "stages": int(rng.integers(2, 4)),
        "width": int(rng.integers(2, 4)),
        "seed": int(rng.integers(1000)),
    }


def _mode_after(answer, inputs: Inputs, network: nn.Module) -> str:
    """The mode in which a network comes back that came in evaluation mode."""
    answer(network.eval(), torch.from_numpy(inputs["images"]))
    return _mode(network)


def _mode(network: nn.Module) -> str:
    modes = {"training" if part.training else "evaluation" for part in network.modules()}
    return modes.pop() if len(modes) == 1 else "mixed"


def _probe_record(answer, inputs: Inputs) -> Outputs:
    network = picture_network(inputs["seed"], inputs["stages"], inputs["width"])  # a new one: in training mode
    untouched = copy.deepcopy(network)
    before = {name: value for name, value in untouched.state_dict().items() if value.is_floating_point()}
    found = answer(network, torch.from_numpy(inputs["images"]))
    if not isinstance(found, dict):
        raise AnswerError(f"`stage_means` returned a {type(found).__name__}; wanted is a dict: stage -> tensor")
    means = plain(found, what="what `stage_means` returned")
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())
    return {
        "means": means,
        "order": list(means),
        "graph": any(bool(getattr(value, "requires_grad", False)) for value in found.values()),
        "moved": max((network.state_dict()[name] - value).abs().max().item() for name, value in before.items()),
        "hooks": hooks,
        "modes": {"training": _mode(network), "evaluation": _mode_after(answer, inputs, untouched)},
    }


def _recorded(inputs: Inputs, pool, *, overwritten: bool = False) -> dict[str, np.ndarray]:
    network, means = picture_network(inputs["seed"], inputs["stages"], inputs["width"]).eval(), {}
    state = torch.from_numpy(inputs["images"].copy())
    with torch.no_grad():
        for number, (name, stage) in enumerate(network.named_children(), start=1):
            state = stage(state.clone())
            means[name] = pool(state.clamp(min=0) if overwritten and number < len(network) else state).numpy()
    return means


def _mean(state: Tensor) -> Tensor:
    return state.mean(dim=(2, 3))


def _oracle_record(inputs: Inputs) -> Outputs:
    means = _recorded(inputs, _mean)
    modes = {mode: mode for mode in ("training", "evaluation")}
    return {"means": means, "order": list(means), "graph": False, "moved": 0.0, "hooks": 0, "modes": modes}


RECORD = Exercise(
    id="02.2",
    title="What each stage says",
    points=4,
    difficulty=3,
    minutes=20,
    entry="stage_means",
    draw=_draw_record,
    probe=_probe_record,
    oracle=_oracle_record,
    aspects=(
        Aspect("means", "each channel's mean over the places", 0.5, 1e-5),
        Aspect("order", "one entry a stage, in the order of execution", 0.1),
        Aspect("graph", "no graph is kept", 0.1),
        Aspect("moved", "the network is not changed", 0.1, 0.0),
        Aspect("hooks", "no hook is left behind", 0.1),
        Aspect("modes", "the mode in which the network leaves", 0.1),
    ),
    misconceptions=(
        Misconception(
            "recorded in training mode",
            "The running statistics moved by {outputs[moved]:.2g} while you only looked. In training mode each picture "
            "is also normalised with its neighbours, so that its features depend on who they were.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "overwritten by the next stage",
            "Nothing in your record is negative, except in the last stage: the next stage begins with a ReLU that "
            "works in place, on the very tensor that you kept. Take the mean, or a clone, before the next stage runs.",
            wrong=lambda i: {"means": _recorded(i, _mean, overwritten=True)},
        ),
        Misconception(
            "the places taken for channels",
            "You averaged over the channels and kept the places. A state is (pictures, channels, height, width), and "
            "the question is what each *channel* says over all places.",
            wrong=lambda i: {"means": _recorded(i, lambda state: state.mean(dim=1).flatten(1))},
        ),
        Misconception(
            "the loudest place instead of the mean",
            "You took the largest value over the places. It answers another question: is it anywhere? Asked for is the "
            "mean.",
            wrong=lambda i: {"means": _recorded(i, lambda state: state.amax(dim=(2, 3)))},
        ),
        Misconception(
            "the hooks were left behind",
            "Hooks that are still on the network: {outputs[hooks]}. Whatever passes through it from now on is recorded "
            "too, and kept. Each register_forward_hook returns a handle with remove().",
            shows=lambda i, o, e: o["hooks"] > 0,
        ),
        Misconception(
            "the graph was kept",
            "The record carries the graph that made it (requires_grad is True), and with it every intermediate value "
            "of the network.",
            shows=lambda i, o, e: o["graph"],
        ),
        Misconception(
            "the mode was changed",
            "A network that came in training mode left in the mode: {outputs[modes][training]}; one that came in "
            "evaluation mode, in the mode: {outputs[modes][evaluation]}. Who only looks leaves things as they were.",
            shows=lambda i, o, e: o["modes"] != e["modes"],
        ),
    ),
    begun=lambda i, o, e: len(o["means"]) > 0,
    hints=(
        "`network.named_children()` gives the stages in order. What one puts out is what the next is given, so a loop "
        "will do; no hook is needed.",
        "Take the mean of each state *before* the next stage gets it: state.mean(dim=(2, 3)) makes a new tensor, which "
        "nobody overwrites.",
        "mode = network.training; network.eval(); with torch.no_grad(): for name, stage in network.named_children(): "
        "state = stage(state); means[name] = state.mean(dim=(2, 3)); then network.train(mode).",
    ),
)

# 02.5: a graft ------------------------------------------------------------


def digit_stages(seed: int, stages: int, width: int) -> nn.Sequential:
    """Stages of a linear layer and a tanh each, and a head, on rows of four numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [4] + [width] * stages
        parts = [nn.Sequential(nn.Linear(few, many), nn.Tanh()) for few, many in zip(sizes, sizes[1:], strict=False)]
        return nn.Sequential(OrderedDict(zip(NAMES, [*parts, nn.Linear(width, 2)], strict=False)))


def _draw_graft(rng: np.random.Generator) -> Inputs:
    stages = int(rng.integers(3, 5))
    return {
        "stages": stages,
        "width": int(rng.integers(2, 5)),
        "n": int(rng.integers(1, stages)),
        "seed": int(rng.integers(1000)),
    }


def _values(network: nn.Module) -> list[Tensor]:
    """One flat tensor a child."""
    return [torch.cat([torch.zeros(0), *(p.detach().flatten() for p in c.parameters())]) for c in network.children()]


def _same(first: list[Tensor], second: list[Tensor]) -> list[int]:
    return [k for k, (a, b) in enumerate(zip(first, second, strict=True)) if torch.equal(a, b)]


def _grafted(answer, inputs: Inputs, frozen: bool) -> Outputs:
    """A graft, what it is made of, and what two steps of training move."""
    donor, fresh = (digit_stages(inputs["seed"] + k, inputs["stages"], inputs["width"]) for k in (0, 1))
    was_donor, was_fresh = _values(donor), _values(fresh)
    grown = answer(donor, fresh, inputs["n"], frozen)
    if not isinstance(grown, nn.Module):
        raise AnswerError(f"`graft` returned a {type(grown).__name__}; wanted is a network, an nn.Sequential")
    start = _values(grown)
    if [len(value) for value in start] != [len(value) for value in was_donor]:
        raise AnswerError("the graft has other children than the two networks: their number or their sizes differ")
    batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(inputs["seed"]))
    for _ in range(2):  # steps of plain gradient descent on whatever is open
        loss = (grown(batch) - 3).pow(2).mean()
        grown.zero_grad()
        if loss.requires_grad:
            loss.backward()
        with torch.no_grad():
            for parameter in grown.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    return {
        "from_donor": _same(start, was_donor),
        "from_fresh": _same(start, was_fresh),
        "still": _same(start, _values(grown)),
        "donor_moved": len(_same(was_donor, _values(donor))) < len(was_donor),
        "fresh_moved": len(_same(was_fresh, _values(fresh))) < len(was_fresh),
    }


def _probe_graft(answer, inputs: Inputs) -> Outputs:
    frozen, moving = (_grafted(answer, inputs, choice) for choice in (True, False))
    return {
        "from_donor": [k for k in frozen["from_donor"] if k in moving["from_donor"]],
        "from_fresh": [k for k in frozen["from_fresh"] if k in moving["from_fresh"]],
        "still_frozen": frozen["still"],
        "still_moving": moving["still"],
        "donor_moved": frozen["donor_moved"] or moving["donor_moved"],
        "fresh_moved": frozen["fresh_moved"] or moving["fresh_moved"],
    }


def _oracle_graft(inputs: Inputs) -> Outputs:
    inherited, new = list(range(inputs["n"])), list(range(inputs["n"], inputs["stages"] + 1))
    return {
        "from_donor": inherited,
        "from_fresh": new,
        "still_frozen": inherited,
        "still_moving": [],
        "donor_moved": False,
        "fresh_moved": False,
    }


GRAFT = Exercise(
    id="02.5",
    title="AnB and AnB+",
    points=4,
    difficulty=3,
    minutes=20,
    entry="graft",
    draw=_draw_graft,
    probe=_probe_graft,
    oracle=_oracle_graft,
    aspects=(
        Aspect("from_donor", "the children that begin as the donor's, in AnB and AnB+ (counted from 0)", 0.25),
        Aspect("from_fresh", "the children that begin as the fresh network's, in both", 0.15),
        Aspect("still_frozen", "the children that training leaves alone in AnB", 0.2),
        Aspect("still_moving", "the children that training leaves alone in AnB+", 0.15),
        Aspect("donor_moved", "training the graft leaves the donor alone", 0.15),
        Aspect("fresh_moved", "training the graft leaves the fresh network alone", 0.1),
    ),
    misconceptions=(
        Misconception(
            "one stage too many",
            "From the donor are the children {outputs[from_donor]}; with n = {inputs[n]} it should be "
            "{expected[from_donor]}: the *first n*, and children are counted from 0.",
            shows=lambda i, o, e: o["from_donor"] == list(range(i["n"] + 1)),
        ),
        Misconception(
            "the wrong end",
            "From the donor are the children {outputs[from_donor]}: its *last* ones, which belong to its own task. The "
            "experiment asks how general the first ones are.",
            shows=lambda i, o, e: o["from_donor"] and 0 not in o["from_donor"],
        ),
        Misconception(
            "the whole donor",
            "All children are the donor's. What lies behind the cut must be new, or it is no graft but plain "
            "fine-tuning.",
            shows=lambda i, o, e: o["from_donor"] == list(range(i["stages"] + 1)),
        ),
        Misconception(
            "built from the two networks themselves",
            "Training the graft moved the donor or the fresh network: you built in their modules themselves. The next "
            "graft from this donor would get stages that have already been trained on B. Copy them (copy.deepcopy).",
            shows=lambda i, o, e: o["donor_moved"] or o["fresh_moved"],
        ),
        Misconception(
            "everything was frozen",
            "With frozen=True, training moved nothing at all. What lies behind the cut has to learn B.",
            shows=lambda i, o, e: o["still_frozen"] == list(range(i["stages"] + 1)),
        ),
        Misconception(
            "AnB+ was frozen too",
            "With frozen=False, training left the children {outputs[still_moving]} alone, and should leave none. The "
            "difference between AnB and AnB+ is this one switch.",
            shows=lambda i, o, e: bool(o["still_moving"]),
        ),
        Misconception(
            "AnB was not frozen",
            "With frozen=True, training left the children {outputs[still_frozen]} alone, and should leave "
            "{expected[still_frozen]}. Where the donor's stages adapt to B, you no longer measure how general they "
            "*were*.",
            shows=lambda i, o, e: o["still_frozen"] != e["still_frozen"],
        ),
    ),
    hints=(
        "Begin with a deep copy of the fresh network, and put copies of the donor's first n children in the places of "
        "its own.",
        "A child of an nn.Sequential can be replaced by its place: grown[k] = copy.deepcopy(donor[k]).",
        "grown = copy.deepcopy(fresh); for k in range(n): grown[k] = copy.deepcopy(donor[k]); "
        "grown[k].requires_grad_(not frozen); return grown.",
    ),
)
