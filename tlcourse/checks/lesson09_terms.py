"""Tasks of lesson 09 on terms of the loss: L2-SP, which holds weights, and distillation, which holds answers."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain
from tlcourse.distillation import distillation_loss
from tlcourse.penalties import l2_sp_penalty

__all__ = ["KEEP_ANSWERS", "L2_SP"]

# 09.1: L2-SP ------------------------------------------------------------

PULLED = {"stem": "stem.0.weight", "norm": "block.1.bias", "head": "head.weight", "bias": "head.bias"}


def _draw_l2_sp(rng: np.random.Generator) -> Inputs:
    return {
        "strength": float(rng.choice([0.5, 1.0, 2.0])),
        "head_strength": float(rng.choice([0.6, 1.5, 3.0])),
        "width": int(rng.integers(3, 6)),
        "seed": int(rng.integers(1000)),
    }


def _move(network: nn.Module, seed: int) -> None:
    """Weights and statistics as after some training: in place, as an optimiser does it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in network.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
        network.train()(3 * torch.randn(16, 4, generator=generator))


def _probe_l2_sp(answer, inputs: Inputs) -> Outputs:
    network = small_network(inputs["seed"], inputs["width"])
    penalty = answer(network, inputs["strength"], inputs["head_strength"])
    if not callable(penalty):
        raise AnswerError(f"`l2_sp` returned a {type(penalty).__name__}; wanted is a function, penalty(network)")
    start = plain(penalty(network), what="what your `penalty` returned")
    _move(network, inputs["seed"])
    found = penalty(network)
    return {"start": start, "value": plain(found, what="what your `penalty` returned"), "pull": _pull(found, network)}


def _pull(found: object, network: nn.Module) -> dict[str, np.ndarray]:
    """The gradient on some of the tensors; zeros where there is none."""
    parameters = [network.get_parameter(name) for name in PULLED.values()]
    gradients = [None] * len(parameters)
    if isinstance(found, Tensor) and found.requires_grad:
        gradients = torch.autograd.grad(found.sum(), parameters, allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
    return {key: gradient.numpy() for key, gradient in zip(PULLED, filled, strict=True)}


def _moved(inputs: Inputs) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network after it has moved, and what its state was before."""
    network = small_network(inputs["seed"], inputs["width"])
    before = copy.deepcopy(network.state_dict())
    _move(network, inputs["seed"])
    return network, before


def _oracle_l2_sp(inputs: Inputs) -> Outputs:
    strengths = {key: inputs[key] for key in ("strength", "head_strength")}
    network, before = _moved(inputs)
    anchor = {name: before[name] for name, _ in network.named_parameters() if not name.startswith("head")}
    found = l2_sp_penalty(network, anchor, **strengths)
    start = l2_sp_penalty(small_network(inputs["seed"], inputs["width"]), anchor, **strengths)
    return {"start": start.item(), "value": found.item(), "pull": _pull(found, network)}


def _sums(
    inputs: Inputs, *, zero: bool = False, head_start: bool = False, bias: bool = False, mean: bool = False
) -> Outputs:
    """The value after the move, of one who strays from the formula."""
    network, before = _moved(inputs)
    total = 0.0
    for name, parameter in network.named_parameters():
        head = name.startswith("head")
        if name == "head.bias" and not bias:
            continue
        from_start = head_start if head else not zero
        away = parameter.detach() - (before[name] if from_start else 0)
        size = away.square().mean() if mean else away.square().sum()
        total += inputs["head_strength" if head else "strength"] / 2 * size.item()
    return {"value": total}


def _matrices_alone(inputs: Inputs) -> list[float]:
    """The value where biases are free: those by name, and with them the scales of the normalisation, by shape."""
    network, before = _moved(inputs)
    head = inputs["head_strength"] / 2 * network.head.weight.detach().square().sum().item()
    held = {
        name: (parameter.detach() - before[name]).square().sum().item()
        for name, parameter in network.named_parameters()
        if not name.startswith("head") and name.endswith("weight")
    }
    return [
        head + inputs["strength"] / 2 * sum(size for name, size in held.items() if before[name].ndim >= least)
        for least in (1, 2)
    ]


def _with_statistics(inputs: Inputs) -> list[float]:
    """The value where running statistics are held as well, without the count of batches and with it."""
    network, before = _moved(inputs)
    found, values = _sums(inputs)["value"], []
    for floating in (True, False):
        sizes = [
            (buffer.double() - before[name].double()).square().sum().item()
            for name, buffer in network.named_buffers()
            if buffer.is_floating_point() or not floating
        ]
        values.append(found + inputs["strength"] / 2 * sum(sizes))
    return values


def _head_alone(inputs: Inputs) -> Outputs:
    return _sums({**inputs, "strength": 0.0})


def _no_half(inputs: Inputs) -> Outputs:
    return {key: 2 * value for key, value in _oracle_l2_sp(inputs).items() if key != "pull"}


L2_SP = Exercise(
    id="09.1",
    title="A pull to the start",
    points=4,
    difficulty=2,
    minutes=15,
    entry="l2_sp",
    draw=_draw_l2_sp,
    probe=_probe_l2_sp,
    oracle=_oracle_l2_sp,
    aspects=(
        Aspect("start", "the penalty before anything has moved", 0.2, 1e-5),
        Aspect("value", "the penalty after the weights have moved", 0.4, 1e-5),
        Aspect("pull", "its gradient", 0.4, 1e-5),
    ),
    misconceptions=(
        Misconception(
            "the term has no gradient",
            "The numbers are there, but nothing pulls: no gradient reaches any weight, so training goes as if there "
            "were no penalty. `state_dict()`, `.data` and `.item()` give numbers without a graph. Detach the anchor; "
            "the weights come from `network.parameters()`.",
            shows=lambda i, o, e: not any(gradient.any() for gradient in o["pull"].values()),
        ),
        Misconception(
            "the anchor moves along",
            "The stem moved, and your penalty feels no pull on it: {outputs[value]:.3f} is the head's part alone. What "
            "you keep are the network's own tensors, which the optimiser changes in place; a detached tensor shares "
            "its memory too. Keep a clone of each.",
            wrong=_head_alone,
        ),
        Misconception(
            "pulled to zero and not to the start",
            "This is weight decay: it pulls the pre-trained weights to zero, and a network at zero has forgotten "
            "everything. L2-SP pulls them to where they *started*. Before anything had moved your penalty was "
            "{outputs[start]:.3f}, and {expected[start]:.3f} is right.",
            wrong=lambda i: _sums(i, zero=True),
        ),
        Misconception(
            "the new head is held at its start",
            "You hold the head at its start too. It is new and starts at random: there is nothing in it worth keeping. "
            "It goes to zero.",
            wrong=lambda i: _sums(i, head_start=True),
        ),
        Misconception(
            "biases and scales left free",
            "You hold the weights of stem and block, and leave their biases free, or all of the normalisation. The old "
            "task minds those as well: the sum is over *all* parameters of the two.",
            shows=lambda i, o, e: any(np.isclose(o["value"], value, rtol=1e-4) for value in _matrices_alone(i)),
        ),
        Misconception(
            "the statistics are held too",
            "All is right but for the running statistics, which are in your sum. They are no parameters: the penalty "
            "has no gradient that could move them.",
            shows=lambda i, o, e: any(np.isclose(o["value"], value, rtol=1e-4) for value in _with_statistics(i)),
        ),
        Misconception(
            "the half is missing",
            "Yours is twice as large: {outputs[value]:.3f} instead of {expected[value]:.3f}. With the half, the "
            "gradient is strength times the distance. Papers and libraries differ here, so a strength means nothing "
            "before one has looked.",
            wrong=_no_half,
        ),
        Misconception(
            "the mean in the place of the sum",
            "You took means. Then a weight of a large tensor is pulled less than one of a small tensor, and the "
            "strength means something else in each. Sum the squares.",
            wrong=lambda i: _sums(i, mean=True),
        ),
        Misconception(
            "the head's bias is pulled too",
            "All is right but for the head's bias, which you pull to zero. It only says how frequent a class is, and "
            "is free.",
            wrong=lambda i: _sums(i, bias=True),
        ),
    ),
    hints=(
        "What has to be kept when `l2_sp` is called, and what is read when `penalty` is called? Print both once for "
        "one tensor, before and after a change in place.",
        "anchor = {name: p.detach().clone() for name, p in network.named_parameters() if not name.startswith('head')}.",
        "In penalty: strength / 2 * the sum over the anchor of (p - anchor[name]).square().sum(), plus head_strength / "
        "2 * network.head.weight.square().sum().",
    ),
)

# 09.2: distillation ------------------------------------------------------------

OLD_CLASSES = 2  # what small_network answers


def _draw_answers(rng: np.random.Generator) -> Inputs:
    rows = int(rng.integers(2, 4))
    return {
        "images": (3 + 6 * rng.normal(size=(rows, 4))).round(1).astype(np.float32),
        "student_logits": (3 * rng.normal(size=(rows, OLD_CLASSES + int(rng.integers(1, 4)))))
        .round(1)
        .astype("float32"),
        "temperature": float(rng.choice([2.0, 3.0, 4.0])),
        "training": True,
        "width": int(rng.integers(4, 6)),
        "seed": int(rng.integers(1000)),
    }


def _probe_answers(answer, inputs: Inputs) -> Outputs:
    teacher = small_network(inputs["seed"], inputs["width"]).train(inputs["training"])
    before = copy.deepcopy(teacher.state_dict())
    student = torch.from_numpy(inputs["student_logits"]).requires_grad_()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        found = answer(teacher, torch.from_numpy(inputs["images"]), student, inputs["temperature"])
    if isinstance(found, Tensor) and found.requires_grad:
        found.sum().backward()
    learnt = [parameter.grad.abs().sum().item() for parameter in teacher.parameters() if parameter.grad is not None]
    return {
        "value": plain(found, what="what `keep_answers` returned"),
        "gradient": np.zeros_like(inputs["student_logits"]) if student.grad is None else student.grad.numpy(),
        "teacher_moved": max((new - before[name]).abs().max().item() for name, new in teacher.state_dict().items()),
        "teacher_gradient": sum(learnt),
    }


def _both(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """All logits of the student, with a gradient, and those of the teacher."""
    with torch.no_grad():
        wanted = small_network(inputs["seed"], inputs["width"]).eval()(torch.from_numpy(inputs["images"]))
    return torch.from_numpy(inputs["student_logits"]).requires_grad_(), wanted


def _oracle_answers(inputs: Inputs) -> Outputs:
    student, wanted = _both(inputs)
    value = distillation_loss(student[:, :OLD_CLASSES], wanted, temperature=inputs["temperature"])
    (gradient,) = torch.autograd.grad(value, student)
    return {"value": value.item(), "gradient": gradient.numpy(), "teacher_moved": 0.0, "teacher_gradient": 0.0}


def _times(inputs: Inputs, factor: float) -> Outputs:
    return {"value": factor * _oracle_answers(inputs)["value"]}


def _divergence(inputs: Inputs, *, way: str) -> Outputs:
    """T^2 times the mean over samples, where the divergence itself goes another way."""
    student, wanted = _both(inputs)
    old, temperature = student.detach()[:, :OLD_CLASSES], inputs["temperature"]
    p, log_p = F.softmax(wanted / temperature, dim=1), F.log_softmax(wanted / temperature, dim=1)
    log_q = F.log_softmax(old / temperature, dim=1)
    terms = {
        "reversed": log_q.exp() * (log_q - log_p),
        "no logarithm": p * (log_p - log_q.exp()),
        "all outputs": p * (log_p - F.log_softmax(student.detach() / temperature, dim=1)[:, :OLD_CLASSES]),
        "student alone": F.softmax(wanted, dim=1) * (F.log_softmax(wanted, dim=1) - log_q),
        "teacher alone": p * (log_p - F.log_softmax(old, dim=1)),
        "cross-entropy": -p * log_q,
    }
    return {"value": temperature**2 * terms[way].sum(dim=1).mean().item()}


KEEP_ANSWERS = Exercise(
    id="09.2",
    title="The old answers, softened",
    points=4,
    difficulty=3,
    minutes=20,
    entry="keep_answers",
    draw=_draw_answers,
    probe=_probe_answers,
    oracle=_oracle_answers,
    aspects=(
        Aspect("value", "the loss", 0.4, 1e-4),
        Aspect("gradient", "its gradient on the student's logits", 0.2, 1e-4),
        Aspect("teacher_moved", "the teacher stays as it is", 0.2, 0.0),
        Aspect("teacher_gradient", "no gradient reaches the teacher", 0.2, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the teacher was in training mode",
            "The teacher came in training mode and was asked in it: dropout drew, each image was normalised with its "
            "neighbours, and its statistics moved by {outputs[teacher_moved]:.2f}. Those are not the answers that the "
            "old network gives. A teacher is asked in evaluation mode.",
            shows=lambda i, o, e: o["teacher_moved"] > 0,
        ),
        Misconception(
            "the teacher learns too",
            "A gradient reaches the teacher. Two networks that come to meet each other agree about something new; the "
            "old answers are then kept by nobody. Ask it under torch.no_grad().",
            shows=lambda i, o, e: o["teacher_gradient"] > 0,
        ),
        Misconception(
            "T squared is missing",
            "You have {outputs[value]:.4f}; times {inputs[temperature]:g}^2 it is right. Softening shrinks the "
            "gradient by the square of the temperature. The factor takes that back, so that a strength means the same "
            "at any.",
            wrong=lambda i: _times(i, i["temperature"] ** -2),
        ),
        Misconception(
            "the mean over classes too",
            "Yours is {outputs[value]:.4f}: divided by the number of classes as well. `reduction='mean'` of kl_div "
            "does that; `'batchmean'` is the mean over samples.",
            wrong=lambda i: _times(i, 1 / OLD_CLASSES),
        ),
        Misconception(
            "the sum over the images",
            "Yours is {outputs[value]:.4f}, a sum over the images: with a batch of twice the size, the same strength "
            "would hold twice as much. It is the mean over images; `reduction='batchmean'` of kl_div is that.",
            wrong=lambda i: _times(i, len(i["images"])),
        ),
        Misconception(
            "only the student was softened",
            "The student's logits are divided by the temperature, the teacher's are not. Then a student that repeats "
            "the teacher's logits exactly is told that it is wrong.",
            wrong=lambda i: _divergence(i, way="student alone"),
        ),
        Misconception(
            "the divergence the other way round",
            "This is KL(student || teacher). There, what the student never says costs nothing, though the teacher says "
            "it. Wanted is KL(teacher || student): the teacher's probabilities weigh, for they are the truth here.",
            wrong=lambda i: _divergence(i, way="reversed"),
        ),
        Misconception(
            "the new outputs take part",
            "The student's softmax runs over all its outputs, the new ones too, which the teacher has never had. Then "
            "this loss pushes the new classes down while the other learns them. Cut to the old outputs, *then* "
            "softmax.",
            wrong=lambda i: _divergence(i, way="all outputs"),
        ),
        Misconception(
            "probabilities where logarithms belong",
            "F.kl_div wants the student's *logarithms* of probabilities as its first argument; it takes probabilities "
            "without complaint, and gives {outputs[value]:.4f}. Use log_softmax.",
            wrong=lambda i: _divergence(i, way="no logarithm"),
        ),
        Misconception(
            "only the teacher was softened",
            "The teacher's logits are divided by the temperature, the student's are not. Then a student that repeats "
            "the teacher's logits exactly is told that it is wrong.",
            wrong=lambda i: _divergence(i, way="teacher alone"),
        ),
        Misconception(
            "cross-entropy in the place of the divergence",
            "The gradient is right; the value is too high by the teacher's own entropy, so that it is not 0 where both "
            "agree, and cannot be read as how far the student has moved.",
            wrong=lambda i: _divergence(i, way="cross-entropy"),
        ),
    ),
    begun=lambda i, o, e: isinstance(o["value"], (float, np.ndarray)) and o["value"] != i["temperature"],
    hints=(
        "Two things happen before any formula: the teacher is asked, in the right mode and without a graph, and the "
        "student's logits are cut to as many columns as the teacher has.",
        "Divide both by the temperature. log_softmax of both; the sum over classes of p_teacher * (log p_teacher - log "
        "p_student); the mean over samples; times T squared.",
        "temperature**2 * F.kl_div(F.log_softmax(student / T, dim=1), F.softmax(teacher / T, dim=1), "
        "reduction='batchmean').",
    ),
)
