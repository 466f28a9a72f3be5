"""A repair of the clinic after lesson 10: weight decay on what EWC holds."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["DECAY"]

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's defaults


class TwoHeads(nn.Module):
    """A backbone with the head of an old task and that of a new one, which a call uses."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = nn.Linear(2, width)
            self.old = nn.Linear(width, 2, bias=False)
            self.new = nn.Linear(width, 2)
            nn.init.constant_(self.new.bias, 2.0)  # large enough that its decay is seen
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.new(torch.tanh(self.backbone(x)))


def _draw_decay(rng: np.random.Generator) -> Inputs:
    return {
        "x": rng.normal(size=(int(rng.integers(4, 7)), 2)).round(2),
        "strength": float(rng.choice([1.0, 10.0])),
        "lr": float(rng.choice([0.05, 0.1])),
        "decay": float(rng.choice([0.2, 0.5])),
        "steps": int(rng.integers(4, 9)),
        "width": int(rng.integers(2, 4)),
        "seed": int(rng.integers(1000)),
    }


def _penalty(network: TwoHeads, strength: float):
    """All but the new head is held where it is, alike."""
    anchor = {name: value.detach().clone() for name, value in network.named_parameters() if not name.startswith("new")}

    def penalty(now: nn.Module) -> Tensor:
        values = dict(now.named_parameters())
        return strength / 2 * sum((values[name] - held).square().sum() for name, held in anchor.items())

    return penalty, list(anchor)


def _batch(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(inputs["x"]), torch.arange(len(inputs["x"])) % 2


def _left(network: TwoHeads, before: dict[str, Tensor]) -> Outputs:
    now = {name: value.detach() for name, value in network.named_parameters()}
    return {
        "old_head_moved": (now["old.weight"] - before["old.weight"]).abs().max().item(),
        "backbone": now["backbone.weight"].numpy().copy(),
        "new_head": now["new.weight"].numpy().copy(),
        "new_bias": now["new.bias"].numpy().copy(),
    }


def _probe_decay(answer, inputs: Inputs) -> Outputs:
    network = TwoHeads(inputs["width"], inputs["seed"])
    before = copy.deepcopy(network.state_dict())
    penalty, anchored = _penalty(network, inputs["strength"])
    options = {name: inputs[name] for name in ("lr", "decay", "steps")}
    found = answer(network, penalty, anchored, *_batch(inputs), **options)
    plain(found, what="what `train_new` returned")
    return _left(network, before)


def _by_hand(
    inputs: Inputs, *, decayed=("new",), coupled: bool = False, held: bool = True, still: tuple = ()
) -> Outputs:
    """AdamW, written out (Loshchilov and Hutter 2019, algorithm 2)."""
    network = TwoHeads(inputs["width"], inputs["seed"])
    before = copy.deepcopy(network.state_dict())
    (penalty, _), (x, y) = _penalty(network, inputs["strength"]), _batch(inputs)
    parameters = {name: value for name, value in network.named_parameters() if not name.startswith(still)}
    first, second = ({name: torch.zeros_like(value) for name, value in parameters.items()} for _ in range(2))
    for step in range(1, inputs["steps"] + 1):
        loss = F.cross_entropy(network(x), y) + held * penalty(network)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is None:  # AdamW passes over what no loss reaches
                    continue
                decay = inputs["decay"] if name.startswith(decayed) else 0.0
                if coupled:
                    gradient = gradient + decay * value
                else:
                    value *= 1 - inputs["lr"] * decay
                first[name].mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
                second[name].mul_(BETAS[1]).add_(gradient**2, alpha=1 - BETAS[1])
                scale = (second[name] / (1 - BETAS[1] ** step)).sqrt() + EPS
                value -= inputs["lr"] * first[name] / (1 - BETAS[0] ** step) / scale
    return _left(network, before)


DECAY = Exercise(
    id="10c.5",
    title="Held, and decaying all the same",
    points=4,
    difficulty=3,
    minutes=15,
    entry="train_new",
    draw=_draw_decay,
    probe=_probe_decay,
    oracle=_by_hand,
    aspects=(
        Aspect("old_head_moved", "the old head stays", 0.4, 0.0),
        Aspect("backbone", "the backbone is held, and learns", 0.3, 1e-5),
        Aspect("new_head", "the new head learns, and decays", 0.2, 1e-5),
        Aspect("new_bias", "so does its bias", 0.1, 1e-5),
    ),
    misconceptions=(
        Misconception(
            "decay on what is held",
            "The old head, which the new task does not reach, moved by {outputs[old_head_moved]:.3f} in "
            "{inputs[steps]} steps. At its anchor the penalty has a gradient of zero; for AdamW zero is a gradient, "
            "and what has one decays, at every step. EWC says where these weights should be, and decay says zero.",
            shows=lambda i, o, e: o["old_head_moved"] > 0,
        ),
        Misconception(
            "the old head frozen, the backbone decaying",
            "The old head is still, and the backbone under it is decayed towards zero all the same, against the "
            "penalty that holds it. Everything in `anchored` is to be spared, not the old head alone.",
            wrong=lambda i: _by_hand(i, decayed=("new", "backbone"), still=("old",)),
        ),
        Misconception(
            "no decay at all",
            "What is held is held. But the new head has lost its decay too, and nothing else holds *it*: keep the "
            "decay of what is not in `anchored`.",
            wrong=lambda i: _by_hand(i, decayed=()),
        ),
        Misconception(
            "the new head's bias left out",
            "All is right but for the bias of the new head, which has no decay in yours. Many recipes leave biases "
            "out; here *everything* that is not in `anchored` keeps its decay.",
            wrong=lambda i: _by_hand(i, decayed=("new.weight",)),
        ),
        Misconception(
            "decay through the gradient",
            "The decay of the new head now goes through Adam's gradient, which is divided by its own size: that is no "
            "longer the decay that was asked for. AdamW's is decoupled.",
            wrong=lambda i: _by_hand(i, coupled=True),
        ),
        Misconception(
            "the penalty was left out",
            "Nothing decays that should not, and nothing is held: the backbone went where the new task wanted it. The "
            "penalty belongs to the loss.",
            wrong=lambda i: _by_hand(i, held=False),
        ),
        Misconception(
            "the backbone was frozen",
            "The backbone did not move at all. The penalty is there to let it learn what the old task does not mind; "
            "freezing it is lesson 03.",
            wrong=lambda i: _by_hand(i, still=("old", "backbone")),
        ),
    ),
    begun=lambda i, o, e: not np.array_equal(o["new_head"], _by_hand({**i, "steps": 0})["new_head"]),
    hints=(
        "What is the gradient of the old head, in numbers? And is it None?",
        "An optimiser takes a list of groups, each a dict with its own `params` and `weight_decay`.",
        "groups = [{'params': [p for n, p in network.named_parameters() if n in anchored], 'weight_decay': 0.0}, "
        "{'params': [... if n not in anchored], 'weight_decay': decay}]",
    ),
)
