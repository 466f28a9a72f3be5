"""How much a task minds each weight: the diagonal of the Fisher information.

``F_i = E_x E_{y ~ p(y|x)} (d log p(y|x) / d theta_i)^2``: the labels are the model's own, the square is taken for each
sample, before the mean. Elastic weight consolidation holds weights by it (`penalties.consolidate`). Lesson 10 takes it
apart.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Model
from tlcourse.caching import evaluating
from tlcourse.masked import Masked
from tlcourse.per_sample import LARGEST_CHUNK, Moments, squared_gradients, undisturbed
from tlcourse.runtime import seeded

__all__ = ["KINDS", "fisher_diagonal", "fisher_with_error"]

KINDS = ("exact", "sampled", "empirical", "batched")


def fisher_diagonal(
    model: nn.Module,
    inputs: Tensor | Masked,
    *,
    targets: Tensor | None = None,
    kind: str = "exact",
    batch_size: int = 64,
    samples: int = 1,
    seed: int = 0,
    head: str | None = None,
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information over the inputs, in eval mode (Kunstner et al. 2019, equations 2 to 4).

    Nothing of the model changes, and no global random state; the same at any batch size but for ``"batched"``.

    Parameters
    ----------
    model
        A `Model`, or any module that gives logits (n, classes).
    inputs
        What the model takes: uint8 images (n, C, H, W) or `Masked` token ids (n, L) for a `Model`.
    targets
        Labels of the data, int64 (n,), for ``"empirical"`` and ``"batched"``.
    kind
        ``"exact"`` sums over all labels, weighted by the model's probabilities: one backward pass fewer than classes.
        ``"sampled"`` draws labels from the model. ``"empirical"`` takes the data's labels: near zero on what the model
        has fitted, which the others are not. ``"batched"`` squares the mean gradient of a batch, of the data's labels
        where given, else drawn ones: wrong, by about the batch size, and here for the lesson alone.
    samples
        Labels drawn for each input, for ``"sampled"``.
    seed
        Draws the labels.
    head
        Which head of a `Model`; None is its only one.

    Returns
    -------
    dict
        Name -> tensor like the parameter, float32 (float64 for a model in float64), for every parameter of the backbone
        and the head that requires a gradient; tied ones once.

    Raises
    ------
    ValueError
        If the kind is unknown, there is no input, targets or samples do not fit the kind or the inputs, or no parameter
        requires a gradient.
    KeyError
        If the model has no such head.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(model.weight)  # both labels with probability 1/2: F = x^2 / 4
    >>> fisher_diagonal(model, torch.tensor([[2.0, 0.0], [2.0, 2.0]]))
    {'weight': tensor([[1.0000, 0.5000], [1.0000, 0.5000]])}
    """
    view, batches, passes = _prepared(model, inputs, targets, kind, batch_size, samples, seed, head)
    with evaluating(model), seeded(seed, _device(model)):
        if kind == "batched":
            return _named(_batched(view, batches, passes, len(inputs)))
        found = squared_gradients(view, view.moving(), batches, passes)
    return _named({name: value / found.count for name, value in found.sums.items()})


def fisher_with_error(
    model: nn.Module,
    inputs: Tensor | Masked,
    *,
    targets: Tensor | None = None,
    kind: str = "sampled",
    batch_size: int = 64,
    samples: int = 1,
    seed: int = 0,
    head: str | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What `fisher_diagonal` gives, and its standard error: over the draw of the inputs and, if sampled, their labels.

    The gradients of all samples of a batch are held, so that a batch is cut to `per_sample.LARGEST_CHUNK`.

    Raises
    ------
    ValueError
        As in `fisher_diagonal`; also for ``"batched"``, and for fewer than two inputs.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> mean, error = fisher_with_error(model, torch.tensor([[2.0, 0.0], [2.0, 2.0]]), kind="exact")
    >>> error["weight"]
    tensor([[0.0000, 0.5000], [0.0000, 0.5000]])
    """
    if kind == "batched" or len(inputs) < 2:
        raise ValueError(f"kind={kind!r} on {len(inputs)} inputs: a standard error needs two inputs, each by itself")
    moving = sum(value.numel() for value in model.parameters() if value.requires_grad)
    batch_size = min(batch_size, max(1, LARGEST_CHUNK // (4 * max(1, moving))))
    view, batches, passes = _prepared(model, inputs, targets, kind, batch_size, samples, seed, head)
    with evaluating(model), seeded(seed, _device(model)):
        found: Moments = squared_gradients(view, view.moving(), batches, passes, scatter=True)
    n = found.count
    mean = {name: value / n for name, value in found.sums.items()}
    error = {name: (value / (n * (n - 1))).sqrt() for name, value in found.scatters.items()}
    return _named(mean), _named(error)


class _Logits(nn.Module):
    """A model as a function of tensors alone: what enters its first moving stage, and the mask of texts."""

    def __init__(self, model: nn.Module, head: str | None) -> None:
        super().__init__()
        self.model, self.head, self.start = model, head, 0
        if isinstance(model, Model):
            stages = list(model.backbone.stages.values())
            moving = [number for number, stage in enumerate(stages) if _moves(stage)]
            self.start = moving[0] if moving else len(stages)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        state = values if mask is None else Masked(values, mask)
        if isinstance(self.model, Model):
            return self.model.run(state, start=self.start, head=self.head)
        return self.model(state)

    def enter(self, inputs: Tensor | Masked) -> tuple[Tensor, ...]:
        """Raw inputs through the frozen stages, once and without gradients."""
        with torch.no_grad():
            state = inputs.to(_device(self.model))
            if isinstance(self.model, Model):
                backbone = self.model.backbone
                state = backbone.run(backbone.preprocessing(state), stop=self.start)
        return (state.values, state.mask) if isinstance(state, Masked) else (state,)

    def moving(self) -> dict[str, nn.Parameter]:
        """Every parameter that requires a gradient, without those of other heads."""
        own = f"model.heads.{self.head}."
        return {
            name: value
            for name, value in self.named_parameters()
            if value.requires_grad
            and (not isinstance(self.model, Model) or name.startswith(own) or not name.startswith("model.heads."))
        }


def _prepared(
    model: nn.Module,
    inputs: Tensor | Masked,
    targets: Tensor | None,
    kind: str,
    batch_size: int,
    samples: int,
    seed: int,
    head: str | None,
) -> tuple[_Logits, Iterator[tuple[Tensor, ...]], Callable[[Tensor, int], Iterable[Tensor]]]:
    """The model as a function of tensors, its batches, and what flows back to the logits: after the checks."""
    n = len(inputs)
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: it is one of {', '.join(KINDS)}")
    if n == 0:
        raise ValueError("there are no inputs: the Fisher information is a mean over some")
    for name, value in {"batch_size": batch_size, "samples": samples}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: at least 1 is needed")
    if samples > 1 and kind != "sampled":
        raise ValueError(f"samples={samples} with kind={kind!r}: only kind='sampled' draws several labels")
    if kind == "empirical" and targets is None:
        raise ValueError("kind='empirical' takes the data's labels: give targets=, or kind='exact', which needs none")
    if targets is not None and kind in ("exact", "sampled"):
        raise ValueError(f"targets with kind={kind!r}: it takes the model's own labels; the data's are 'empirical'")
    if targets is not None and targets.shape != (n,):
        raise ValueError(f"targets are {tuple(targets.shape)}: one label for each of the {n} inputs is needed")
    if head is not None and not isinstance(model, Model):
        raise ValueError(f"head={head!r}: a {type(model).__name__} has no heads to choose from")
    view = _Logits(model, model.head_name(head) if isinstance(model, Model) else None)
    if not view.moving():
        raise ValueError("no parameter requires a gradient: everything is frozen, and the Fisher information is empty")
    batches = (view.enter(inputs[start : start + batch_size]) for start in range(0, n, batch_size))
    if kind == "exact":
        return view, batches, _all_labels
    if targets is not None:
        return view, batches, partial(_given_labels, targets=targets)
    draws = torch.rand(n, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return view, batches, partial(_drawn_labels, draws=draws)


def _all_labels(logits: Tensor, before: int) -> Iterator[Tensor]:
    """One cotangent fewer than labels, whose squares add to those of all labels weighted by their probabilities.

    The gradient of log p(y|x) at the logits is e_y - p, and the mean over y of its outer product diag(p) - p p^T. That
    is L D L^T with D_k = p_k q_{k+1} / q_k and L_jk = -p_j / q_{k+1} below the diagonal, q_k = p_k + p_{k+1} + ...
    (Tanabe and Sagae 1992); its last column is zero. Each column of L D^{1/2} takes one backward pass.
    """
    log_p = _checked(logits).log_softmax(1)
    log_q = log_p.flip(1).logcumsumexp(1).flip(1)
    for k in range(log_p.shape[1] - 1):
        size = ((log_p[:, k] + log_q[:, k + 1] - log_q[:, k]) / 2).exp()
        column = torch.zeros_like(log_p)
        column[:, k] = size
        column[:, k + 1 :] = -size[:, None] * (log_p[:, k + 1 :] - log_q[:, k + 1 : k + 2]).exp()
        yield column.to(logits.dtype)


def _given_labels(logits: Tensor, before: int, *, targets: Tensor) -> Iterator[Tensor]:
    labels = targets[before : before + len(logits)].to(logits.device)
    classes = logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"targets hold {labels.min()} to {labels.max()}: the model has classes 0 to {classes - 1}")
    yield _away_from(labels, logits)


def _drawn_labels(logits: Tensor, before: int, *, draws: Tensor) -> Iterator[Tensor]:
    """A column of ``draws`` (n, samples) in 0..1 for each pass: the same labels at any batch size."""
    steps = _checked(logits).softmax(1).cumsum(1)
    for draw in draws[before : before + len(logits)].to(logits.device, steps.dtype).T:
        labels = (steps < draw[:, None]).sum(1).clamp(max=logits.shape[1] - 1)
        yield _away_from(labels, logits) / math.sqrt(draws.shape[1])


def _away_from(labels: Tensor, logits: Tensor) -> Tensor:
    """The gradient of log p(y|x) at the logits."""
    return (F.one_hot(labels, logits.shape[1]) - _checked(logits).softmax(1)).to(logits.dtype)


def _checked(logits: Tensor) -> Tensor:
    if logits.dim() != 2 or logits.shape[1] < 2 or not logits.isfinite().all():
        raise ValueError(f"the model gives {tuple(logits.shape)}: finite logits (n, classes) are needed, of 2 or more")
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _batched(view: _Logits, batches: Iterator[tuple[Tensor, ...]], passes: Callable, n: int) -> dict[str, Tensor]:
    """The mistake: the square of the mean gradient of each batch."""
    parameters, before = view.moving(), 0
    total = {
        name: torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
        for name, value in parameters.items()
    }
    with undisturbed(_device(view)):
        for batch in batches:
            logits = view(*batch)
            (cotangent,) = passes(logits.detach(), before)
            size = len(cotangent)
            gradients = torch.autograd.grad(logits, list(parameters.values()), cotangent / size, allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += gradient.to(total[name].dtype).square() * (size / n)
            before += size
    return total


def _moves(module: nn.Module) -> bool:
    return any(value.requires_grad for value in module.parameters())


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _named(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): value for name, value in values.items()}
