"""Tasks of lesson 10 on the Fisher information: by the formula of softmax regression, and sample by sample."""

from collections import OrderedDict
from functools import partial

import numpy as np
import torch
from torch import nn

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["BY_FORMULA", "BY_SAMPLE"]

# 10.1: softmax regression ------------------------------------------------------------


def _any_regression(rng: np.random.Generator) -> Inputs:
    classes, pixels, count = (int(rng.integers(low, 5)) for low in (3, 2, 3))
    return {
        "W": rng.normal(size=(classes, pixels)).round(2),
        "b": rng.normal(size=classes).round(2),
        "x": rng.uniform(0.3, 2.0, (count, pixels)).round(2),
    }


def _probe_formula(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(**inputs), what="what `softmax_fisher` returned")
    if not isinstance(found, list) or len(found) != 2:
        raise AnswerError("`softmax_fisher` should return two arrays, (F_W, F_b)")
    return {"weight": found[0], "bias": found[1]}


def _by_labels(i: Inputs, *, trust=lambda p: p, size=np.square, over=np.mean, averaged: bool = False) -> Outputs:
    """Label by label: ``trust`` weighs the labels, ``size`` is of the inputs, ``over`` takes the samples together."""
    logits = i["x"] @ i["W"].T + i["b"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    if averaged:
        p = np.broadcast_to(p.mean(axis=0), p.shape)
    away = np.eye(p.shape[1])[:, None] - p  # (label, sample, class): the gradient at the logits
    curved = np.einsum("ny,ynk->nk", trust(p), away**2)
    weight = over(curved[:, :, None] * size(i["x"])[:, None, :], axis=0)
    return {"weight": weight, "bias": over(curved, axis=0)}


def _own_label(i: Inputs) -> Outputs:
    """Only the label whose weights they are."""
    logits = i["x"] @ i["W"].T + i["b"]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    curved = p * (1 - p) ** 2
    return {"weight": np.einsum("nk,nj->kj", curved, i["x"] ** 2) / len(p), "bias": curved.mean(axis=0)}


_summed = partial(_by_labels, over=np.sum)
_not_squared = partial(_by_labels, size=np.abs)
_alike = partial(_by_labels, trust=lambda p: np.full_like(p, 1 / p.shape[1]))
_likeliest = partial(_by_labels, trust=lambda p: np.eye(p.shape[1])[p.argmax(axis=1)])
_averaged = partial(_by_labels, averaged=True)


def _draw_regression(rng: np.random.Generator) -> Inputs:
    ways = (_by_labels, _own_label, _summed, _not_squared, _alike, _likeliest, _averaged)
    return draw_apart(rng, _any_regression, ways)


BY_FORMULA = Exercise(
    id="10.1",
    title="The Fisher information in closed form",
    points=3,
    difficulty=3,
    minutes=15,
    entry="softmax_fisher",
    draw=_draw_regression,
    probe=_probe_formula,
    oracle=_by_labels,
    aspects=(
        Aspect("weight", "the Fisher information of the weights", 0.6, 1e-6),
        Aspect("bias", "the Fisher information of the biases", 0.4, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "a sum over the samples",
            "Your numbers grow with the number of inputs: the Fisher information is an expectation, so the *mean* over "
            "x. Each of yours is as many times too large as x has rows.",
            wrong=_summed,
        ),
        Misconception(
            "the inputs were not squared",
            "The biases are right. A gradient of W[k, j] has the factor x[j], and it is the *squared* gradient that is "
            "averaged: the factor becomes x[j] squared.",
            wrong=_not_squared,
        ),
        Misconception(
            "only the label that is the row's own",
            "You took the gradient for the label y = k, which comes with probability p[k], and nothing else. With "
            "probability 1 - p[k] it is another label, and then the gradient of row k is -p[k] x[j], not zero.",
            wrong=_own_label,
        ),
        Misconception(
            "every label counts alike",
            "You took all labels, each as likely as any other. They are to be weighted by what the model believes: a "
            "label that it rules out hardly counts. For the first bias you have {outputs[bias][0]:.3f} instead of "
            "{expected[bias][0]:.3f}.",
            wrong=_alike,
        ),
        Misconception(
            "only the likeliest label",
            "You took the one label that the model holds most likely. Where it is sure, that gradient is near zero, "
            "and what little it believes of the other labels carries the information: the expectation runs over all of "
            "them.",
            wrong=_likeliest,
        ),
        Misconception(
            "the probabilities were averaged first",
            "You averaged p over the samples, and then took p (1 - p). A model that is sure of each sample, but of "
            "another class each time, would then look undecided. Take p (1 - p) for each sample; the mean comes last.",
            wrong=_averaged,
        ),
    ),
    hints=(
        "Take one sample. For the label y, the gradient of log p(y|x) by the logit k is 1[y = k] - p[k]. What is its "
        "square if y is k, what if not, and how probable is each?",
        "p[k] (1 - p[k])**2 + (1 - p[k]) p[k]**2 is p[k] (1 - p[k]). By the chain rule, the logit k has the derivative "
        "x[j] by W[k, j], and 1 by b[k].",
        "q = p * (1 - p), of shape (n, classes); F_W = q.T @ x**2 / n; F_b = q.mean(axis=0).",
    ),
)

# 10.2: any network ------------------------------------------------------------


def _draw_network(rng: np.random.Generator) -> Inputs:
    return {
        "x": rng.normal(size=(int(rng.integers(3, 6)), 3)).round(2).astype(np.float32),
        "width": int(rng.integers(2, 4)),
        "classes": int(rng.integers(3, 5)),
        "frozen": str(rng.choice(["hidden", "head"])),
        "seed": int(rng.integers(1000)),
    }


def _network(inputs: Inputs) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        hidden, head = nn.Linear(3, inputs["width"]), nn.Linear(inputs["width"], inputs["classes"])
    with torch.no_grad():
        head.weight *= 3  # as if it had learnt something
    network = nn.Sequential(OrderedDict(hidden=hidden, bend=nn.Tanh(), head=head)).eval()
    if inputs["frozen"]:
        getattr(network, inputs["frozen"]).requires_grad_(False)
    return network


def _probe_samples(answer, inputs: Inputs) -> Outputs:
    network = _network(inputs)
    found = plain(answer(network, torch.from_numpy(inputs["x"])), what="what `exact_fisher` returned")
    if not isinstance(found, dict):
        raise AnswerError("`exact_fisher` should return a dict: name of the parameter -> tensor of its shape")
    moving = [name for name, value in network.named_parameters() if value.requires_grad]
    fisher = {name: found.get(name) for name in moving}
    return {
        "fisher": fisher,
        "names": sorted(found),
        "total": sum(float(np.sum(value)) for value in fisher.values() if isinstance(value, np.ndarray)),
    }


def _every_gradient(inputs: Inputs) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The probabilities (n, classes), and for each parameter the gradients (n, classes, *shape) of all labels."""
    network = _network(inputs)
    moving = {name: value for name, value in network.named_parameters() if value.requires_grad}
    log_p = network(torch.from_numpy(inputs["x"])).log_softmax(dim=1)
    rows = [
        [torch.autograd.grad(value, list(moving.values()), retain_graph=True) for value in sample] for sample in log_p
    ]
    gradients = {
        name: np.array([[labels[number].numpy() for labels in sample] for sample in rows], dtype=float)
        for number, (name) in enumerate(moving)
    }
    return log_p.exp().detach().numpy().astype(float), gradients


def _gathered(inputs: Inputs, gather=lambda p, g: (p * g**2).sum(axis=1).mean(axis=0)) -> Outputs:
    p, gradients = _every_gradient(inputs)
    fisher = {name: gather(p.reshape(p.shape + (1,) * (g.ndim - 2)), g) for name, g in gradients.items()}
    total = sum(float(value.sum()) for value in fisher.values())
    return {"fisher": fisher, "names": sorted(fisher), "total": total}


def _of_likeliest(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    return np.mean([g[n, p[n].argmax()] ** 2 for n in range(len(p))], axis=0)


def _unweighted(inputs: Inputs, outputs: Outputs, expected: Outputs) -> bool:
    """A sum or a mean over the labels, each counting alike."""
    right = _gathered(inputs, lambda p, g: (g**2).sum(axis=1).mean(axis=0))["total"]
    return any(abs(outputs["total"] - right / share) < 1e-4 * right for share in (1, inputs["classes"]))


BY_SAMPLE = Exercise(
    id="10.2",
    title="Per sample, over the model's own labels",
    points=5,
    difficulty=4,
    minutes=25,
    entry="exact_fisher",
    draw=_draw_network,
    probe=_probe_samples,
    oracle=_gathered,
    aspects=(
        Aspect("fisher", "the Fisher information", 0.75, 1e-4),
        Aspect("names", "every parameter that moves, and no other", 0.15),
        Aspect("total", "its sum", 0.1, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "what is frozen was counted too",
            "`{inputs[frozen]}` is frozen, and you have an entry for it. EWC holds what can move; leave out every "
            "parameter that requires no gradient.",
            shows=lambda i, o, e: set(o["names"]) > set(e["names"]),
        ),
        Misconception(
            "only the likeliest label",
            "You took the label that the model holds most likely, so that the sum is {outputs[total]:.3f} instead of "
            "{expected[total]:.3f}. Where a model is sure, the gradient of that label is near zero. The expectation "
            "runs over *all* labels.",
            wrong=lambda i: _gathered(i, _of_likeliest),
        ),
        Misconception(
            "averaged before it was squared",
            "Everything that you have is zero, or nearly: you added the gradients of all labels, weighted by p, before "
            "you squared. That sum *is* zero, for every model: the score has no mean, and the Fisher information is "
            "its variance. Square the gradient of each label.",
            wrong=lambda i: _gathered(i, lambda p, g: (p * g).sum(axis=1).mean(axis=0) ** 2),
        ),
        Misconception(
            "the mean over the samples came before the square",
            "You squared the mean gradient of all samples together, where single gradients cancel: the sum is "
            "{outputs[total]:.3f} instead of {expected[total]:.3f}. Square the gradient of *one* sample; then take the "
            "mean.",
            wrong=lambda i: _gathered(i, lambda p, g: ((p * g).mean(axis=0) ** 2).sum(axis=0)),
        ),
        Misconception(
            "the probability was squared too",
            "The probability of a label got into the square: you have p**2 * gradient**2. Weigh the *squared* gradient "
            "by p, once.",
            wrong=lambda i: _gathered(i, lambda p, g: ((p * g) ** 2).sum(axis=1).mean(axis=0)),
        ),
        Misconception(
            "every label counts alike",
            "Each label's squared gradient counts alike in your sum of {outputs[total]:.3f}; it should be "
            "{expected[total]:.3f}. Labels that the model rules out have the largest gradients of all. Weigh each by "
            "the model's probability.",
            shows=_unweighted,
        ),
        Misconception(
            "a sum over the samples",
            "You added up over the samples. It is a mean: divide by their number, or the strength of EWC would mean "
            "something else for every data set.",
            wrong=lambda i: _gathered(i, lambda p, g: (p * g**2).sum(axis=(0, 1))),
        ),
    ),
    hints=(
        "Two loops: over the samples, and within it over the labels. What does the innermost line compute, and which "
        "number does it belong to?",
        "For one row of x: log_p = network(row[None])[0].log_softmax(dim=0). Then "
        "torch.autograd.grad(log_p[label], parameters, retain_graph=True) for each label.",
        "total[name] += log_p[label].exp().detach() * gradient**2 / len(x), with parameters = those of "
        "network.named_parameters() that require a gradient.",
    ),
)
