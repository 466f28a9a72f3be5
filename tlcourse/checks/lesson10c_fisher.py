"""Repairs of the clinic after lesson 10 on the Fisher information: squared too late, and measured with side effects."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["SIDE_EFFECTS", "SQUARED_LATE"]

# 10c.2: the square of a batch ------------------------------------------------------------


def _any_batches(rng: np.random.Generator) -> Inputs:
    size = int(rng.integers(3, 5))
    count = size * int(rng.integers(1, 3)) + int(rng.integers(1, size))
    return {
        "x": rng.normal(size=(count, 2)).round(2).astype(np.float32),
        "y": rng.integers(0, 3, count),
        "batch_size": size,
        "seed": int(rng.integers(1000)),
    }


def _three_classes(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 3))


def _probe_batches(answer, inputs: Inputs) -> Outputs:
    network = _three_classes(inputs["seed"])
    x, y = torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["y"])
    found = plain(answer(network, x, y, inputs["batch_size"]), what="what `empirical_fisher` returned")
    if not isinstance(found, dict):
        raise AnswerError("`empirical_fisher` should return a dict: name of the parameter -> tensor of its shape")
    sizes = [float(np.sum(value)) for value in found.values() if isinstance(value, np.ndarray)]
    return {"fisher": found, "total": sum(sizes)}


def _gradients(inputs: Inputs) -> dict[str, np.ndarray]:
    """Name -> the gradients of all samples (n, *shape)."""
    network, rows = _three_classes(inputs["seed"]), []
    for sample, label in zip(torch.from_numpy(inputs["x"]), torch.from_numpy(inputs["y"]), strict=True):
        loss = F.cross_entropy(network(sample[None]), label[None])
        rows.append(torch.autograd.grad(loss, list(network.parameters())))
    names = [name for name, _ in network.named_parameters()]
    return {name: np.stack([row[k].numpy() for row in rows]).astype(float) for k, name in enumerate(names)}


def _over_batches(inputs: Inputs, gather) -> Outputs:
    """``gather(batches)`` for the gradients of each parameter, batch by batch."""
    edges = range(inputs["batch_size"], len(inputs["x"]), inputs["batch_size"])
    fisher = {name: gather(np.split(rows, edges)) for name, rows in _gradients(inputs).items()}
    return {"fisher": fisher, "total": sum(float(value.sum()) for value in fisher.values())}


def _sample_by_sample(inputs: Inputs) -> Outputs:
    return _over_batches(inputs, lambda batches: (np.concatenate(batches) ** 2).mean(axis=0))


def _squared_means(inputs: Inputs) -> Outputs:
    count = len(inputs["x"])
    return _over_batches(inputs, lambda batches: sum(len(g) * g.mean(axis=0) ** 2 for g in batches) / count)


def _squared_sums(inputs: Inputs) -> Outputs:
    count = len(inputs["x"])
    return _over_batches(inputs, lambda batches: sum(g.sum(axis=0) ** 2 for g in batches) / count)


def _mean_of_means(inputs: Inputs) -> Outputs:
    return _over_batches(inputs, lambda batches: np.mean([(g**2).mean(axis=0) for g in batches], axis=0))


def _by_batches(inputs: Inputs) -> Outputs:
    return _over_batches(inputs, lambda batches: (np.concatenate(batches) ** 2).sum(axis=0) / len(batches))


def _summed(inputs: Inputs) -> Outputs:
    return _over_batches(inputs, lambda batches: (np.concatenate(batches) ** 2).sum(axis=0))


def _piled_up(inputs: Inputs) -> Outputs:
    """The gradients of all samples so far, since nobody set them back."""
    return _over_batches(inputs, lambda batches: (np.concatenate(batches).cumsum(axis=0) ** 2).mean(axis=0))


def _draw_batches(rng: np.random.Generator) -> Inputs:
    ways = (_sample_by_sample, _squared_means, _squared_sums, _mean_of_means, _by_batches, _summed, _piled_up)
    return draw_apart(rng, _any_batches, [_total(way) for way in ways])


def _total(way):
    return lambda i: {"total": way(i)["total"]}


SQUARED_LATE = Exercise(
    id="10c.2",
    title="A Fisher information that needs ten million",
    points=4,
    difficulty=3,
    minutes=15,
    entry="empirical_fisher",
    draw=_draw_batches,
    probe=_probe_batches,
    oracle=_sample_by_sample,
    aspects=(
        Aspect("fisher", "the Fisher information", 0.9, 1e-4),
        Aspect("total", "its sum", 0.1, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "the mean before the square",
            "`backward()` gives the mean gradient of a batch, in which single gradients cancel, and you square *that*. "
            "The sum over all weights is {outputs[total]:.3f} instead of {expected[total]:.3f}, and it shrinks with "
            "the batch size. Square the gradient of each sample; then take the mean.",
            wrong=_squared_means,
        ),
        Misconception(
            "the sum before the square",
            "You square the *summed* gradient of a batch. That is not too small any more, but no better: single "
            "gradients still cancel, or pile up, according to who is in a batch with whom. No factor undoes it.",
            wrong=_squared_sums,
        ),
        Misconception(
            "the mean of the batches' means",
            "Each sample is squared by itself, as it should be. But you average over batches, and the short one at the "
            "end counts as much as a full one. Divide by the number of *samples*, once.",
            wrong=_mean_of_means,
        ),
        Misconception(
            "divided by the number of batches",
            "You sum over samples and divide by the number of batches, so that the result grows with the batch size: "
            "{outputs[total]:.3f} instead of {expected[total]:.3f}.",
            wrong=_by_batches,
        ),
        Misconception(
            "gradients piled up",
            "`backward()` *adds* to what is in `.grad`. Yours is set back once or never, so that each sample's "
            "gradient holds those of all before it. Set the gradients back before every sample.",
            wrong=_piled_up,
        ),
        Misconception(
            "a sum over the samples",
            "You added up over the samples. It is a mean: divide by their number, or a strength would mean something "
            "else for every data set.",
            wrong=_summed,
        ),
    ),
    hints=(
        "Call it with batch_size=1 and with batch_size=100. It should not matter.",
        "(a + b)**2 / 4 is not (a**2 + b**2) / 2. What is in p.grad after `backward()`, of how many samples?",
        "for sample, label in zip(x, y): zero_grad, backward on cross_entropy(network(sample[None]), label[None]), and "
        "fisher[name] += p.grad**2 / len(x).",
    ),
)

# 10c.3: a measurement that leaves traces ------------------------------------------------------------


def _draw_traces(rng: np.random.Generator) -> Inputs:
    """A network that does not answer almost always the same, and that training mode makes another."""
    while True:
        made = _any_traces(rng)
        right, other = (way(made)["fisher"]["head.bias"] for way in (_oracle_traces, _in_training))
        if right.max() > 0.02 and np.abs(right - other).max() > 0.01:
            return made


def _any_traces(rng: np.random.Generator) -> Inputs:
    return {
        "x": (1 + 2 * rng.normal(size=(int(rng.integers(3, 6)), 4))).round(2).astype(np.float32),
        "training": [["block", "head"], ["stem", "head"], ["head"], ["stem", "block"]][int(rng.integers(4))],
        "gradient": float(rng.choice([0.5, 1.0, 2.0])),
        "seed": int(rng.integers(1000)),
    }


def _with_modes(inputs: Inputs) -> nn.Sequential:
    network = small_network(inputs["seed"], 6)
    for name, part in network.named_children():
        part.train(name in inputs["training"])
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, inputs["gradient"])
    return network


def _modes(network: nn.Module) -> dict[str, bool]:
    return {name or "network": part.training for name, part in network.named_modules()}


def _probe_traces(answer, inputs: Inputs) -> Outputs:
    network = _with_modes(inputs)
    before = copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        found = plain(answer(network, torch.from_numpy(inputs["x"])), what="what `exact_fisher` returned")
    if not isinstance(found, dict):
        raise AnswerError("`exact_fisher` should return a dict: name of the parameter -> tensor of its shape")
    gone = [name for name, p in network.named_parameters() if p.grad is None]
    return {
        "fisher": found,
        "moved": max((new - before[name]).abs().max().item() for name, new in network.state_dict().items()),
        "gradients_moved": None
        if gone
        else max((p.grad - inputs["gradient"]).abs().max().item() for p in network.parameters()),
        "modes": _modes(network),
    }


def _of_pass(network: nn.Module, log_p: Tensor) -> dict[str, np.ndarray]:
    """Over the model's own labels, for the log-probabilities (n, classes) of one pass."""
    parameters = dict(network.named_parameters())
    fisher = {name: np.zeros(value.shape) for name, value in parameters.items()}
    for value in log_p.flatten():
        gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True)
        for name, gradient in zip(fisher, gradients, strict=True):
            fisher[name] += value.exp().item() * gradient.numpy().astype(float) ** 2 / len(log_p)
    return fisher


def _oracle_traces(inputs: Inputs) -> Outputs:
    network = _with_modes(inputs)
    modes = _modes(network)
    fisher = _of_pass(network, network.eval()(torch.from_numpy(inputs["x"])).log_softmax(dim=1))
    return {"fisher": fisher, "moved": 0.0, "gradients_moved": 0.0, "modes": modes}


def _in_training(inputs: Inputs) -> Outputs:
    """Of a copy in training mode, with the numbers that the probe's seed gives to dropout."""
    network = _with_modes(inputs).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        log_p = network(torch.from_numpy(inputs["x"])).log_softmax(dim=1)
    return {"fisher": _of_pass(network, log_p), "moved": 0.0}


SIDE_EFFECTS = Exercise(
    id="10c.3",
    title="A measurement that changes what it measures",
    points=4,
    difficulty=3,
    minutes=15,
    entry="exact_fisher",
    draw=_draw_traces,
    probe=_probe_traces,
    oracle=_oracle_traces,
    aspects=(
        Aspect("fisher", "the Fisher information", 0.4, 1e-5),
        Aspect("moved", "weights and statistics stay", 0.2, 0.0),
        Aspect("gradients_moved", "the gradients that were there are there", 0.2, 0.0),
        Aspect("modes", "every part is in the mode in which it came", 0.2),
    ),
    misconceptions=(
        Misconception(
            "measured in training mode",
            "The network's running statistics moved by {outputs[moved]:.2f} while you only *measured*: the old task's "
            "answers are others now, before the new task has begun. And the Fisher information is that of a network "
            "with dropout, normalised by its batch. Measure in evaluation mode.",
            shows=lambda i, o, e: o["moved"] > 0,
        ),
        Misconception(
            "the Fisher information of another network",
            "Nothing of the network has changed, but what you measured was in training mode: dropout drew, and each "
            "sample was normalised with its neighbours. A copy must be put into evaluation mode, too.",
            wrong=_in_training,
        ),
        Misconception(
            "the gradients were thrown away",
            "The gradients that the parameters held, {inputs[gradient]} in each, are gone. Who accumulates "
            "gradients over several batches loses those of the first ones. `torch.autograd.grad` returns gradients "
            "without touching those that are stored.",
            shows=lambda i, o, e: o["gradients_moved"] is None or o["gradients_moved"] == i["gradient"],
        ),
        Misconception(
            "gradients were left behind",
            "The parameters hold other gradients than before, off by up to {outputs[gradients_moved]:.2f}: those of "
            "your last sample and label. The next step of an optimiser takes them for the new task's.",
            shows=lambda i, o, e: o["gradients_moved"] > 0,
        ),
        Misconception(
            "the modes were not put back",
            "The Fisher information is right, but not every part is in the mode in which it came. In training "
            "mode were {inputs[training]}, and nothing else. A frozen part that comes back in training mode drifts; "
            "one mode for the whole network cannot put back several.",
            shows=lambda i, o, e: o["modes"] != e["modes"],
        ),
    ),
    begun=lambda i, o, e: len(o["fisher"]) > 0,
    hints=(
        "Three things of the network are other afterwards than before. Which line does what?",
        "modes = {part: part.training for part in network.modules()}, then network.eval(), and in the end each part "
        "gets its own mode back. Gradients: torch.autograd.grad(value, parameters, retain_graph=True).",
        "In the end: for part, mode in modes.items(): part.training = mode. In the loop: gradients = "
        "torch.autograd.grad(value, list(network.parameters()), retain_graph=True), and no zero_grad, no backward.",
    ),
    draws=8,
)
