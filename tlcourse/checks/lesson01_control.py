"""A task of lesson 01 on its control: the same network, with nothing learnt."""

import copy

import numpy as np
import torch
from torch import nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs

__all__ = ["RANDOM_TWIN"]

# 01.2: the random twin ------------------------------------------------------------


def _draw_twin(rng: np.random.Generator) -> Inputs:
    return {"width": int(rng.integers(4, 9)), "seed": int(rng.integers(1000))}


def learnt_network(seed: int, width: int) -> nn.Sequential:
    """A network in which no number is as in a new one: weights, normalisations and statistics are all elsewhere."""
    network, generator = small_network(seed, width), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                moved = torch.rand(value.shape, generator=generator)
                value.copy_(2 + moved if "running" in name else 1.5 + moved)
    return network


def _tensors(twin, network: nn.Module) -> dict:
    if not isinstance(twin, nn.Module):
        raise AnswerError(f"`random_twin` returned a {type(twin).__name__}; wanted is a network, an nn.Module")
    found = {name: value.detach().clone() for name, value in twin.state_dict().items() if value.is_floating_point()}
    wanted = {name: value.shape for name, value in network.state_dict().items() if value.is_floating_point()}
    if {name: value.shape for name, value in found.items()} != wanted:
        raise AnswerError("the twin has other layers than the network: names or shapes of its numbers differ")
    return found


def _probe_twin(answer, inputs: Inputs) -> Outputs:
    network = learnt_network(inputs["seed"], inputs["width"])
    before = copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        twin, again, other = (_tensors(answer(network, inputs["seed"] + more), network) for more in (0, 0, 1))
    norms = [name for name in twin if name.rpartition(".")[0].endswith(".1")]  # of stem and block
    drawn = [name for name in twin if name not in norms]
    fresh = {name: 1.0 if name.endswith(("weight", "running_var")) else 0.0 for name in norms}
    off = {name: (twin[name] - fresh[name]).abs().max().item() for name in norms}
    fan_in = {name: before[name.rpartition(".")[0] + ".weight"].shape[1] for name in drawn}
    widest = max(twin[name].abs().max().item() * fan_in[name] ** 0.5 for name in drawn)
    return {
        "original_moved": max(
            (value - before[name]).abs().max().item() for name, value in network.state_dict().items()
        ),
        "kept": sum(torch.equal(twin[name], before[name]) for name in drawn),
        "norms_off": max(value for name, value in off.items() if "running" not in name),
        "statistics_off": max(value for name, value in off.items() if "running" in name),
        "same_seed_off": max((twin[name] - again[name]).abs().max().item() for name in drawn),
        "other_seed_same": sum(torch.equal(twin[name], other[name]) for name in drawn),
        "too_wide": max(0.0, widest - 1),
    }


RANDOM_TWIN = Exercise(
    id="01.2",
    title="The twin that has learnt nothing",
    points=4,
    difficulty=2,
    minutes=15,
    entry="random_twin",
    draw=_draw_twin,
    probe=_probe_twin,
    oracle=lambda inputs: {
        "original_moved": 0.0,
        "kept": 0,
        "norms_off": 0.0,
        "statistics_off": 0.0,
        "same_seed_off": 0.0,
        "other_seed_same": 0,
        "too_wide": 0.0,
    },
    aspects=(
        Aspect("original_moved", "the network itself is as before", 0.2, 0.0),
        Aspect("kept", "no weight or bias of a linear layer is left from the network", 0.2),
        Aspect("norms_off", "normalisations scale by 1 and shift by 0", 0.15),
        Aspect("statistics_off", "stored means are 0 and variances 1", 0.2),
        Aspect("same_seed_off", "a seed gives the same twin again", 0.1, 0.0),
        Aspect("other_seed_same", "another seed gives another twin", 0.1),
        Aspect("too_wide", "the numbers are as PyTorch draws them", 0.05, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "the network itself was overwritten",
            "The numbers of the network that you were given moved by {outputs[original_moved]:.2f}: the comparison has "
            "lost the side that it was to be compared with. Work on a copy (copy.deepcopy).",
            shows=lambda i, o, e: o["original_moved"] > 0,
        ),
        Misconception(
            "a part was left as it was",
            "{outputs[kept]} weights and biases of linear layers are the network's own. A control that keeps a part of "
            "what was learnt measures less than all of it.",
            shows=lambda i, o, e: o["kept"] > 0,
        ),
        Misconception(
            "the normalisations were left as they were",
            "The linear layers are new, but the normalisations are not: their scale and shift are off by "
            "{outputs[norms_off]:.2f}. They were learnt too.",
            shows=lambda i, o, e: o["norms_off"] > 1e-6,
        ),
        Misconception(
            "the statistics were left as they were",
            "Every parameter is new, but the stored means and variances are off by {outputs[statistics_off]:.2f}. They "
            "are buffers, not parameters, and hold what the network has seen: network.parameters() does not list them.",
            shows=lambda i, o, e: o["statistics_off"] > 1e-6,
        ),
        Misconception(
            "another twin each time",
            "Two calls with the same seed differ by {outputs[same_seed_off]:.2f}. A result that nobody can make again "
            "is none.",
            shows=lambda i, o, e: o["same_seed_off"] > 0,
        ),
        Misconception(
            "one twin for all seeds",
            "Two different seeds gave {outputs[other_seed_same]} equal weights and biases. Then ten seeds are one "
            "random network, measured ten times, and the interval says nothing about others.",
            shows=lambda i, o, e: o["other_seed_same"] > 0,
        ),
        Misconception(
            "drawn on another scale",
            "The twin is random, but not as PyTorch draws it: a linear layer with n inputs gets numbers between "
            "-1/sqrt(n) and 1/sqrt(n), and yours reach beyond that. The lesson says why it matters: part of what "
            "pre-training gives is a good scale.",
            shows=lambda i, o, e: o["too_wide"] > 1e-4,
        ),
    ),
    begun=lambda i, o, e: o["kept"] == 0 or o["norms_off"] == 0 or o["statistics_off"] == 0,
    hints=(
        "Copy the network, fix the seed, then go through the modules of the copy. Which of them hold numbers?",
        "`layer.reset_parameters()` gives a layer the numbers of a new one. Linear layers and batch normalisations "
        "have it; activations, dropout and containers do not.",
        "twin = copy.deepcopy(network); torch.manual_seed(seed); for module in twin.modules(): if hasattr(module, "
        '"reset_parameters"): module.reset_parameters(). For a batch normalisation that resets the statistics as well.',
    ),
)
