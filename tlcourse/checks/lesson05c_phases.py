"""Repairs of the clinic after lesson 05 on opening and closing: who is on the list, and what AdamW remembers."""

from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["PHASES", "REOPEN", "three_stages"]

STEPS = 3  # in each phase of 05c.1
RATE, MOMENTUM = 0.1, 0.9


def three_stages(seed: int, width: int) -> nn.Sequential:
    """Stem, block and head on rows of four numbers, without dropout and statistics: nothing is drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem = nn.Sequential(nn.Linear(4, width), nn.Tanh())
        block = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        return nn.Sequential(OrderedDict(stem=stem, block=block, head=nn.Linear(width, 2)))


def _copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def _moved(network: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """The children of which some parameter differs."""
    changed = {
        name.partition(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])
    }
    return [name for name, _ in network.named_children() if name in changed]


# 05c.1: the optimiser was there first ------------------------------------------------------------


def _draw_phases(rng: np.random.Generator) -> Inputs:
    count = int(rng.integers(5, 8))
    gradual = [["head"], ["head", "block"], ["head", "block", "stem"]]
    at_once = [["head"], ["head", "block", "stem"]]  # who opens one name a phase is found out
    return {
        "phases": (gradual[:2], gradual, at_once, at_once)[rng.integers(4)],
        "images": rng.normal(size=(count, 4)).round(2).astype(np.float32),
        "labels": np.arange(count, dtype=np.int64) % 2,
        "width": int(rng.integers(3, 6)),
        "seed": int(rng.integers(1000)),
    }


def _probe_phases(answer, inputs: Inputs) -> Outputs:
    network = three_stages(inputs["seed"], inputs["width"])
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(_copy_of(module)))
    images, labels = torch.from_numpy(inputs["images"]), torch.from_numpy(inputs["labels"])
    losses = plain(answer(network, inputs["phases"], images, labels), what="what `train_in_phases` returned")
    first = {name: None for name, _ in network.named_children()}
    states = [*seen, _copy_of(network)]
    for step in range(len(seen)):
        for name in first:
            same = all(
                torch.equal(value, states[step + 1][key])
                for key, value in states[step].items()
                if key.partition(".")[0] == name
            )
            first[name] = step if first[name] is None and not same else first[name]
    frozen = [name for name, child in network.named_children() if not any(p.requires_grad for p in child.parameters())]
    return {"first_moved": first, "losses": losses, "frozen": frozen}


def _oracle_phases(i: Inputs, *, forget: bool = False, newcomers: bool = False, everything: bool = False) -> Outputs:
    """Gradient descent with momentum by hand; the flags are known ways to get it wrong."""
    network = three_stages(i["seed"], i["width"])
    images, labels = torch.from_numpy(i["images"]), torch.from_numpy(i["labels"])
    velocity, losses, first, had = {}, [], {name: None for name, _ in network.named_children()}, []
    for phase in i["phases"]:
        names = [name for name in phase if name not in had] if newcomers else list(phase)
        names = list(first) if everything else names
        had, velocity = list(phase), {} if forget else velocity
        for _ in range(STEPS):
            loss = F.cross_entropy(network(images), labels)
            moving = {key: p for key, p in network.named_parameters() if key.partition(".")[0] in names}
            gradients = torch.autograd.grad(loss, list(moving.values()))
            with torch.no_grad():
                for (key, parameter), gradient in zip(moving.items(), gradients, strict=True):
                    velocity[key] = MOMENTUM * velocity[key] + gradient if key in velocity else gradient
                    parameter -= RATE * velocity[key]
            first.update({name: len(losses) for name in names if first[name] is None})
            losses.append(loss.item())
    return {"first_moved": first, "losses": losses, "frozen": [name for name in first if name not in i["phases"][-1]]}


PHASES = Exercise(
    id="05c.1",
    title="Opened, and nothing moves",
    points=4,
    difficulty=2,
    minutes=10,
    entry="train_in_phases",
    draw=_draw_phases,
    probe=_probe_phases,
    oracle=_oracle_phases,
    aspects=(
        Aspect("first_moved", "each child moves from the first step of its phase on", 0.45),
        Aspect("losses", "the losses", 0.4, 1e-4),
        Aspect("frozen", "what is never opened stays frozen", 0.15),
    ),
    misconceptions=(
        Misconception(
            "one newcomer of several",
            "Some of the children that this phase opens move, and others never do: your optimiser got one of the "
            "newcomers. A phase may open several at once.",
            shows=lambda i, o, e: (
                len(i["phases"][-1]) - len(i["phases"][-2]) > 1
                and sum(o["first_moved"][name] is None for name in i["phases"][-1]) == 1
            ),
        ),
        Misconception(
            "the loss after the step",
            "Your losses are right, but each comes a step late: it was measured *after* the step. Take the one from "
            "which the gradient came.",
            shows=lambda i, o, e: (
                len(o["losses"]) == len(e["losses"]) and np.allclose(o["losses"][:-1], e["losses"][1:], atol=1e-4)
            ),
        ),
        Misconception(
            "the optimiser was built too early",
            "The block was opened at step {expected[first_moved][block]} and never moved: its gradients are computed "
            "and nobody uses them. The optimiser made its list before, and moves what is on the list. The losses fall "
            "all the same, since the head learns.",
            shows=lambda i, o, e: any(o["first_moved"][name] is None for name in i["phases"][-1]),
        ),
        Misconception(
            "all moved from the start",
            "The block moved at step {outputs[first_moved][block]}; it should stand still until step "
            "{expected[first_moved][block]}, when its phase begins. Then nothing is gradual.",
            shows=lambda i, o, e: o["first_moved"]["block"] < e["first_moved"]["block"],
        ),
        Misconception(
            "momentum was lost between the phases",
            "All that should move does. But with each phase the optimiser begins anew, and what was moving loses its "
            "momentum: the losses part at step 4 and not before. Add a group to the one optimiser.",
            wrong=lambda i: {"losses": _oracle_phases(i, forget=True)["losses"]},
        ),
        Misconception(
            "only the newcomer moves",
            "In each phase your optimiser holds the newcomer alone, and what was opened before has stopped. A phase "
            "opens one stage *more*.",
            wrong=lambda i: {"losses": _oracle_phases(i, newcomers=True)["losses"]},
        ),
    ),
    hints=(
        "Which tensors does the optimiser know, in the first phase and in the second? `optimizer.param_groups` tells.",
        "`requires_grad_(True)` tells autograd. The optimiser has to be told too: `add_param_group`.",
        'In each phase after the first: optimizer.add_param_group({"params": [...]}) with the parameters of the '
        "children that are new in this phase.",
    ),
    draws=8,
    seconds=10.0,
)

# 05c.3: opened again ------------------------------------------------------------

LR = 1e-3


def _draw_reopen(rng: np.random.Generator) -> Inputs:
    return {
        "steps": rng.choice(np.arange(3, 7), size=3, replace=False).tolist(),  # unequal: a count tells its phases
        "images": rng.normal(size=(8, 4)).round(2).astype(np.float32),
        "width": int(rng.integers(3, 6)),
        "seed": int(rng.integers(1000)),
    }


def _probe_reopen(answer, inputs: Inputs) -> Outputs:
    network = three_stages(inputs["seed"], inputs["width"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.0)
    images, is_open, closed_moved, downhill = torch.from_numpy(inputs["images"]), [], 0.0, 0.0
    weight = network.block[0].weight
    plans = (["block", "head"], ["head"], ["block", "head"])
    for phase, (names, steps) in enumerate(zip(plans, inputs["steps"], strict=True)):
        answer(network, optimizer, list(names))
        is_open.append([n for n, child in network.named_children() if all(p.requires_grad for p in child.parameters())])
        target = phase // 2  # another label in the third phase, so that gradients turn round
        for step in range(steps):
            before = weight.detach().clone()
            loss = F.cross_entropy(network(images), torch.full((len(images),), target))
            optimizer.zero_grad(set_to_none=False)
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
            change = weight.detach() - before
            closed_moved = max(closed_moved, change.abs().max().item()) if phase == 1 else closed_moved
            if (phase, step) == (2, 0) and weight.grad is not None:
                downhill = -(change * weight.grad.sign()).mean().item() / LR
    counts = {name: optimizer.state.get(part, {}).get("step", 0) for name, part in _matrices(network).items()}
    return {
        "open": is_open,
        "closed_moved": closed_moved,
        "downhill": downhill,
        "counted": {name: int(count) for name, count in counts.items()},
    }


def _matrices(network: nn.Module) -> dict[str, Tensor]:
    return {"block": network.block[0].weight, "head": network.head.weight}


def _oracle_reopen(inputs: Inputs) -> Outputs:
    return {
        "open": [["block", "head"], ["head"], ["block", "head"]],
        "closed_moved": 0.0,
        "downhill": 1.0,  # the whole rate, whatever the gradient
        "counted": {"block": inputs["steps"][2], "head": sum(inputs["steps"])},
    }


def _first_of_empty_averages(before: int) -> float:
    """AdamW's first step over the rate where the averages are 0 and the count is not."""
    number = before + 1
    return 0.1 / (1 - 0.9**number) / (0.001 / (1 - 0.999**number)) ** 0.5


def _counted_while_closed(i: Inputs, o: Outputs, e: Outputs) -> bool:
    """The state was taken away and made anew, of zeros, in the phase in which the child was closed."""
    _, two, three = i["steps"]
    return o["counted"]["block"] == two + three and abs(o["downhill"] - _first_of_empty_averages(two)) < 1e-3


def _empty_but_counted(i: Inputs, o: Outputs, e: Outputs) -> bool:
    one, two, _ = i["steps"]
    return any(abs(o["downhill"] - _first_of_empty_averages(count)) < 1e-3 for count in (one, two, one + two))


REOPEN = Exercise(
    id="05c.3",
    title="A memory of another time",
    points=5,
    difficulty=3,
    minutes=15,
    entry="set_open",
    draw=_draw_reopen,
    probe=_probe_reopen,
    oracle=_oracle_reopen,
    aspects=(
        Aspect("open", "what is named is open, and nothing else", 0.2),
        Aspect("closed_moved", "a closed child stands still", 0.2, 0.0),
        Aspect("downhill", "opened again, its first step goes down its gradient, at its rate", 0.35, 2e-3),
        Aspect("counted", "AdamW's count of steps", 0.25),
    ),
    misconceptions=(
        Misconception(
            "not opened again",
            "The block was named in the third phase and is still frozen: `set_open` must open as well as close.",
            shows=lambda i, o, e: "block" not in o["open"][2],
        ),
        Misconception(
            "not closed",
            "In the second phase the block was not named, and is open. Its parameters should have no gradient.",
            shows=lambda i, o, e: "block" in o["open"][1],
        ),
        Misconception(
            "closed, and it goes on moving",
            "The block is closed and moved by {outputs[closed_moved]:.2g} in a step: its gradients are zeros (this "
            "loop does not set them to None), and for zeros AdamW goes on along its averages. Only a gradient of None "
            "makes it pass a tensor over.",
            shows=lambda i, o, e: o["closed_moved"] > 0,
        ),
        Misconception(
            "all was forgotten",
            "AdamW has counted {outputs[counted][head]} steps for the head, which has made {expected[counted][head]} "
            "and was open all the time: you threw away what AdamW knows about everything.",
            shows=lambda i, o, e: o["counted"]["head"] < e["counted"]["head"],
        ),
        Misconception(
            "forgotten, and counted again",
            "You took the block's averages away, but while it was closed its gradients were zeros and not None (this "
            "loop does not set them to None). AdamW made a new state of them and counted: {outputs[counted][block]} "
            "steps in the end, where {expected[counted][block]} is right. With weight decay the block would have moved "
            "as well.",
            shows=_counted_while_closed,
        ),
        Misconception(
            "the averages are gone, the count is not",
            "The block's first step after reopening has {outputs[downhill]:.2f} of the rate instead of 1. Its "
            "averages are 0, but its count of steps is not, so that the correction for beginning at 0 is off. A "
            "newcomer has no state at all.",
            shows=_empty_but_counted,
        ),
        Misconception(
            "stale momentum",
            "Opened again, the block makes a first step that goes {outputs[downhill]:.2f} of the rate down its present "
            "gradient, where a newcomer's goes 1.00 (below 0 is uphill), and AdamW counts {outputs[counted][block]} "
            "steps for it. It goes on from averages of the first phase, which point to where the loss fell *then*. "
            "Take them out of `optimizer.state`.",
            shows=lambda i, o, e: o["counted"]["block"] > e["counted"]["block"],
        ),
    ),
    hints=(
        "Look at `optimizer.state[network.block[0].weight]` just before the third phase begins. How old is it?",
        "`optimizer.state` is a dict from tensors to what AdamW knows about each. What is closed should not be in it.",
        "For each parameter of a closed child: requires_grad False, grad None, and optimizer.state.pop(parameter, "
        "None).",
    ),
    seconds=10.0,
)
