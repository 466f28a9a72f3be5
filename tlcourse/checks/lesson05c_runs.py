"""Repairs of the clinic after lesson 05 on ending a run and going on with it: early stopping, and a checkpoint."""

import copy
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["EARLY", "RESUME"]

# 05c.4: the best network ------------------------------------------------------------


def _draw_early(rng: np.random.Generator) -> Inputs:
    """One half of the draws stop early, the others never; who strays comes to an end of their own."""
    stops = bool(rng.integers(2))
    ways = [way for name, way in WAYS.items() if stops or name not in ("too long", "the one before")]
    while True:
        made = {
            "losses": [1.0, *(rng.integers(3, 10, size=int(rng.integers(7, 10)) - 2 * (not stops)) / 10).tolist()],
            "patience": int(rng.integers(2, 4)) if stops else 3,
        }
        right = _fitted(made)
        waited = right["epochs_run"] - 1 - right["best_epoch"]
        if not waited or (waited >= made["patience"]) != stops:
            continue
        if stops and (
            right["epochs_run"] == len(made["losses"]) or _fitted(made, before=True)["best_loss"] <= right["best_loss"]
        ):
            continue
        if all(_fitted(made, **way) != right for way in ways):
            return made


WAYS = {
    "never reset": {"reset": False},
    "too long": {"extra": 1},
    "too short": {"extra": -1},
    "the one before": {"before": True},
    "ties": {"ties": True},
}


def _fitted(
    i: Inputs, *, reset: bool = True, extra: int = 0, before: bool = False, ties: bool = False, restored: bool = True
) -> Outputs:
    """Early stopping on a list of losses; the flags are known ways to get it wrong."""
    best, best_epoch, waited, previous, epoch = float("inf"), -1, 0, float("inf"), -1
    for epoch, loss in enumerate(i["losses"]):  # noqa: B007 - the last one that was run is wanted below
        if loss < (previous if before else best) or (ties and loss == best):
            best, best_epoch, waited = loss, epoch, 0 if reset else waited
        else:
            waited += 1
        previous = loss
        if waited >= i["patience"] + extra:
            break
    held = best_epoch if restored else epoch
    return {
        "best_epoch": best_epoch,
        "best_loss": best,
        "epochs_run": epoch + 1,
        "weights_of": held,
        "statistics_of": held,
    }


def _probe_early(answer, inputs: Inputs) -> Outputs:
    network, losses = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), list(inputs["losses"])
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(-1)
    ran = []

    def run_epoch(model: nn.Module) -> None:
        """Every number of the network becomes the number of the epoch: in place, as an optimiser does it."""
        if len(ran) >= len(losses):
            raise ValueError(f"run_epoch was called more than {len(losses)} times, which is `epochs`")
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor += 1
        ran.append(len(ran))

    def validate(model: nn.Module) -> float:
        epoch = round(model[0].weight[0, 0].item())
        if epoch < 0:
            raise ValueError("validate was called before the first epoch was run")
        return losses[epoch]

    returned = plain(answer(network, run_epoch, validate, len(losses), inputs["patience"]), what="what `fit` returned")
    if not isinstance(returned, list) or len(returned) != 2:
        raise AnswerError("`fit` returns two things, the best epoch and its loss: `return best_epoch, best_loss`")
    return {
        "best_epoch": returned[0],
        "best_loss": returned[1],
        "epochs_run": len(ran),
        "weights_of": round(network[0].weight[0, 0].item()),
        "statistics_of": round(network[1].running_mean[0].item()),
    }


EARLY = Exercise(
    id="05c.4",
    title="The best epoch, and another one's network",
    points=4,
    difficulty=2,
    minutes=12,
    entry="fit",
    draw=_draw_early,
    probe=_probe_early,
    oracle=_fitted,
    aspects=(
        Aspect("best_epoch", "the best epoch", 0.15),
        Aspect("best_loss", "its loss", 0.1, 1e-9),
        Aspect("epochs_run", "how many epochs were run", 0.2),
        Aspect("weights_of", "the weights are those of the best epoch", 0.35),
        Aspect("statistics_of", "the statistics are those of the best epoch", 0.2),
    ),
    misconceptions=(
        Misconception(
            "only where it was stopped",
            "Where the patience ran out you went back to the best epoch. Here it never did: all epochs were run, and "
            "the network is left in the state of the last, where epoch {expected[best_epoch]} was better.",
            shows=lambda i, o, e: (
                o == _fitted(i, restored=False) and e["epochs_run"] - 1 - e["best_epoch"] < i["patience"]
            ),
        ),
        Misconception(
            "the network of the last epoch",
            "You return epoch {outputs[best_epoch]}, and the network is that of epoch {outputs[weights_of]}, the last "
            "one: `state_dict()` holds the network's own tensors, in a new dict, and goes on changing with them. "
            "Loading it afterwards does nothing. Keep a copy of the tensors, and load it into the very network "
            "that came in.",
            wrong=lambda i: _fitted(i, restored=False),
        ),
        Misconception(
            "the statistics of the last epoch",
            "The weights are those of epoch {outputs[weights_of]}, the running statistics those of epoch "
            "{outputs[statistics_of]}: parameters are not all that a network holds. No epoch ever had this network.",
            wrong=lambda i: {**_fitted(i), "statistics_of": _fitted(i, restored=False)["statistics_of"]},
        ),
        Misconception(
            "the patience was never reset",
            "You stopped after {outputs[epochs_run]} epochs, because {inputs[patience]} of them, *in all*, brought "
            "nothing. Wanted are {inputs[patience]} in a row: an epoch that is better begins the count again.",
            wrong=lambda i: _fitted(i, reset=False),
        ),
        Misconception(
            "one epoch too many",
            "You ran {outputs[epochs_run]} epochs instead of {expected[epochs_run]}: with a patience of "
            "{inputs[patience]}, the run ends with epoch number {inputs[patience]} in a row that is not better.",
            wrong=lambda i: _fitted(i, extra=1),
        ),
        Misconception(
            "one epoch too few",
            "You ran {outputs[epochs_run]} epochs instead of {expected[epochs_run]}: the patience of "
            "{inputs[patience]} was not yet used up.",
            wrong=lambda i: _fitted(i, extra=-1),
        ),
        Misconception(
            "better than the epoch before",
            "You compare each loss with that of the epoch *before*. After a bad epoch a mediocre one looks like "
            "progress: yours ends with a loss of {outputs[best_loss]}, and the lowest was {expected[best_loss]}.",
            wrong=lambda i: _fitted(i, before=True),
        ),
        Misconception(
            "as good is not better",
            "A loss that equals the best one counted as an improvement in yours. It begins the count again and "
            "replaces a network that has moved less.",
            wrong=lambda i: _fitted(i, ties=True),
        ),
    ),
    hints=(
        "Keep the state of epoch 0, run another epoch, and look at the kept state again. What has become of it?",
        "`network.state_dict()` gives the tensors themselves; so does `dict(...)` of it. What you keep must be a copy "
        "of each tensor.",
        "best_state = {name: value.clone() for name, value in network.state_dict().items()}, or copy.deepcopy of it.",
    ),
    draws=8,
)

# 05c.5: going on from a checkpoint ------------------------------------------------------------

STEPS = 2  # in each phase
RATES = (1e-3, 4e-4, 2e-4)  # of the groups, when they join; each further step turns all of them down
FALL = 0.8


def equal_stages(seed: int, width: int) -> nn.Sequential:
    """Four children of one shape each, so that a state which goes to the wrong tensor fits it."""
    names = ("stem", "block", "neck", "head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(OrderedDict((name, nn.Sequential(nn.Linear(width, width), nn.Tanh())) for name in names))


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    width = network.stem[0].in_features
    x = torch.randn(6, width, generator=torch.Generator().manual_seed(number))
    loss = F.cross_entropy(network(x), torch.arange(6) % width)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _interrupted(inputs: Inputs) -> tuple[nn.Module, torch.optim.Optimizer, dict]:
    """A run up to its last step, and the checkpoint that was written then."""
    network = equal_stages(inputs["seed"], inputs["width"]).requires_grad_(False)
    optimizer, number = None, 0
    for phase in range(inputs["phase"] + 1):
        part = getattr(network, inputs["order"][phase]).requires_grad_(True)
        group = {"params": list(part.parameters()), "lr": RATES[phase]}
        if optimizer is None:
            optimizer = torch.optim.AdamW([group])
        else:
            optimizer.add_param_group(group)
        for _ in range(STEPS):
            _step(network, optimizer, number)
            number += 1
            for group in optimizer.param_groups:
                group["lr"] *= FALL
    states = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "phase": inputs["phase"]}
    return network, optimizer, copy.deepcopy(states)


def _draw_resume(rng: np.random.Generator) -> Inputs:
    return {
        "order": ["head", "neck", "block", "stem"],
        "phase": int(rng.integers(1, 3)),
        "width": int(rng.integers(2, 4)),
        "seed": int(rng.integers(1000)),
    }


def _probe_resume(answer, inputs: Inputs) -> Outputs:
    *_, checkpoint = _interrupted(inputs)
    saved = copy.deepcopy(checkpoint["network"])
    network = equal_stages(inputs["seed"] + 1000, inputs["width"])
    optimizer = answer(network, checkpoint, list(inputs["order"]))
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise AnswerError("`resume` returns the optimiser that the training goes on with: `return optimizer`")
    off = max((value - saved[name]).abs().max().item() for name, value in network.state_dict().items())
    return {"weights_off": off, **_after_next(network, optimizer, inputs)}


def _after_next(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: Inputs) -> Outputs:
    rates = {}
    for name, child in network.named_children():
        held = {id(parameter) for parameter in child.parameters()}
        for group in optimizer.param_groups:
            if held & {id(parameter) for parameter in group["params"]}:
                rates[name] = plain(group["lr"], what="a rate")
    is_open = [name for name, child in network.named_children() if all(p.requires_grad for p in child.parameters())]
    before = [child[0].weight.detach().clone() for child in network]
    if is_open:
        _step(network, optimizer, 99)
    changes = {
        name: ((child[0].weight.detach() - old).flatten()[:3] * 1000).tolist()
        for (name, child), old in zip(network.named_children(), before, strict=True)
    }
    counted = {name: int(optimizer.state.get(getattr(network, name)[0].weight, {}).get("step", 0)) for name in rates}
    return {"open": is_open, "rates": rates, "counted": counted, "next_step": changes}


def _oracle_resume(inputs: Inputs) -> Outputs:
    network, optimizer, _ = _interrupted(inputs)
    return {"weights_off": 0.0, **_after_next(network, optimizer, inputs)}


RESUME = Exercise(
    id="05c.5",
    title="Going on as if nothing had happened",
    points=5,
    difficulty=4,
    minutes=15,
    entry="resume",
    draw=_draw_resume,
    probe=_probe_resume,
    oracle=_oracle_resume,
    aspects=(
        Aspect("weights_off", "the weights are those of the checkpoint", 0.15, 0.0),
        Aspect("open", "what was closed is closed", 0.15),
        Aspect("rates", "each stage has the rate that it had", 0.15, 1e-9),
        Aspect("counted", "AdamW's count of steps", 0.2),
        Aspect("next_step", "the next step is the one that the run would have made (in thousandths)", 0.35, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "the weights began anew",
            "The network has not got the weights of the checkpoint: some are off by {outputs[weights_off]:.2f}.",
            shows=lambda i, o, e: o["weights_off"] > 0,
        ),
        Misconception(
            "AdamW began anew",
            "Weights and rates are back, but after the next step AdamW counts {outputs[counted][head]} for the head "
            "instead of {expected[counted][head]}: its averages are lost, and every tensor takes a first step again, "
            "of full size. That is the jump in the loss. The checkpoint has the optimiser's state.",
            shows=lambda i, o, e: all(count == 1 for count in o["counted"].values()),
        ),
        Misconception(
            "the memory of another stage",
            "AdamW counts {outputs[counted][head]} steps for the head, where {expected[counted][head]} is right: each "
            "stage has got the averages of another one. An optimiser's state is saved by *place*, not by name. Here "
            "all shapes are equal, so nothing complained. Build the groups in the order in which they were opened.",
            shows=lambda i, o, e: (
                o["counted"] != e["counted"] and sorted(o["counted"].values()) == sorted(e["counted"].values())
            ),
        ),
        Misconception(
            "all is open",
            "The next step is right. But {outputs[open]} are open: a checkpoint does not hold what was frozen, and a "
            "new network is open. Gradients are computed that nobody uses, and the next phase opens nothing.",
            shows=lambda i, o, e: set(o["open"]) > set(e["open"]),
        ),
        Misconception(
            "the rates began anew",
            "AdamW's averages are back, but the head goes on at a rate of {outputs[rates][head]:.2g} instead of "
            "{expected[rates][head]:.2g}. The schedule had turned it down; the saved groups tell how far.",
            shows=lambda i, o, e: any(
                name in o["rates"] and abs(o["rates"][name] - rate) > 1e-9 for name, rate in e["rates"].items()
            ),
        ),
    ),
    hints=(
        "What does a step of AdamW depend on, other than the weights and the gradient?",
        "`optimizer.load_state_dict(...)` brings back averages, counts and rates, for as many groups as there were.",
        'Between building the optimiser and returning it: optimizer.load_state_dict(checkpoint["optimizer"]).',
    ),
    seconds=10.0,
)
