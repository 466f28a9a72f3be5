"""Squares of the gradients of single samples, summed over a data set, for a whole network and a batch at a time.

One backward pass of a batch gives the gradient of each sample at the output of every layer, as long as no layer mixes
samples. From that, and what entered the layer, `layer_gradients` has the gradients of each sample for its parameters.
What has no rule goes through ``torch.func`` instead. Which is which is found out, never assumed:

- The calls of functions that have a rule are recorded while a batch runs. The graph that autograd built tells how often
  each parameter is used: a parameter goes by the rules where every one of its uses is a recorded call.
- Before the first batch, two samples run, and NaN flows back from one and then the other. Wherever it shows in the row
  of the wrong sample, the first axis of that call is not the samples, and its parameters do not go by the rules.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from tlcourse.layer_gradients import Call, Use, read_call, sample_gradients, square_sums

__all__ = ["LARGEST_CHUNK", "Moments", "squared_gradients", "undisturbed"]

LARGEST_CHUNK = 2**28  # bytes of gradients of single samples that are held at once, where a single one is not larger

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the squared gradients of ``count`` samples: parameter name -> their sum, and their scatter where asked for.

    The scatter is the sum of squared distances from the mean.
    """

    count: int
    sums: dict[str, Tensor]
    scatters: dict[str, Tensor] | None


def squared_gradients(
    network: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    batches: Iterable[Batch],
    cotangents: Callable[[Tensor, int], Iterable[Tensor]],
    *,
    scatter: bool = False,
    way: str = "auto",
) -> Moments:
    """Sum over samples and passes of the squared gradients of some parameters.

    Parameters
    ----------
    network
        Called with the tensors of a batch, it returns logits (n, classes). In the mode in which it is to be judged.
    parameters
        Those of the network that are asked for, by their names in it. All require a gradient.
    batches
        Tuples of tensors, samples along the first axis of each.
    cotangents
        From the logits of a batch (without gradient) and the number of samples before it to what flows back to them,
        (n, classes), for each pass.
    scatter
        Whether to keep how the sums over passes differ from sample to sample. Every batch then holds the gradients of
        all its samples in memory.
    way
        ``"auto"``; or for a comparison ``"vmap"`` or ``"loop"`` for every parameter.

    Returns
    -------
    Moments
        Shaped like the parameters, in float32 at least.

    Raises
    ------
    ValueError
        If a BatchNorm normalises by the batch: a sample then has no gradient of its own.

    Examples
    --------
    >>> network = torch.nn.Linear(2, 1, bias=False)
    >>> batches = [(torch.tensor([[1.0, 2.0], [3.0, 0.0]]),)]
    >>> parameters = dict(network.named_parameters())
    >>> squared_gradients(network, parameters, batches, lambda logits, before: [torch.ones_like(logits)]).sums
    {'weight': tensor([[10.,  4.]])}
    """
    with undisturbed(next(iter(parameters.values())).device):
        total, trusted = _Total(parameters, scatter), None
        for batch in batches:
            batch = tuple(part.clone() if part.is_inference() else part for part in batch)
            if trusted is None:
                trusted, spread = _probe(network, parameters, batch) if way == "auto" else (set(), False)
            total.open(len(batch[0]))
            recorder = _Recorder(parameters, len(batch[0]), spread)
            with recorder:
                logits = network(*batch)
            passes = cotangents(logits.detach(), total.count)
            uses = _known_uses(logits, recorder.calls, parameters, len(batch[0]))
            direct = {name: found for name, found in uses.items() if found is not None and name in trusted}
            others = [name for name, found in uses.items() if name not in direct]
            if others:
                passes = list(passes)
            _by_rules(logits, direct, passes, total)
            del logits, recorder, uses, direct
            if others:
                _by_samples(network, {name: parameters[name] for name in others}, batch, passes, total, way)
            total.close()
    return Moments(total.count, total.sums, total.scatters if scatter else None)


class _Total:
    """Sums over batches; with scatter, the sums over passes of each sample of the open batch too."""

    def __init__(self, parameters: Mapping[str, Tensor], scatter: bool) -> None:
        self.count, self.n, self.scatter = 0, 0, scatter
        self.like = {name: _wide_like(value) for name, value in parameters.items()}
        self.sums = {name: torch.zeros_like(value) for name, value in self.like.items()}
        self.scatters = {name: torch.zeros_like(value) for name, value in self.like.items()} if scatter else {}
        self.samples: dict[str, Tensor] = {}

    def open(self, n: int) -> None:
        self.n = n
        if self.scatter:
            self.samples = {name: value.new_zeros(n, *value.shape) for name, value in self.like.items()}

    def add(self, name: str, squares: Tensor, start: int = 0) -> None:
        """Squares (rows, *shape) of the samples from ``start``."""
        if self.scatter:
            self.samples[name][start : start + len(squares)] += squares
        else:
            self.sums[name] += squares.sum(0)

    def close(self) -> None:
        """Chan, Golub and LeVeque 1983: the scatter of two sets is theirs and that of their means."""
        for name, samples in self.samples.items():
            here, before = samples.sum(0), self.sums[name]
            self.scatters[name] += (samples - here / self.n).square_().sum(0)
            if self.count:
                apart = (here / self.n - before / self.count).square_()
                self.scatters[name] += apart * (self.n * self.count / (self.n + self.count))
            before += here
        self.count += self.n
        self.samples = {}


class _Recorder(TorchFunctionMode):
    """Notes each call that `read_call` understands, with the place in the graph where its gradient arrives.

    An in-place activation changes the output afterwards; the place in the graph stays.
    """

    def __init__(self, parameters: Mapping[str, Tensor], n: int, spread: bool) -> None:
        super().__init__()
        self.wanted, self.n, self.spread = {id(value) for value in parameters.values()}, n, spread
        self.calls: list[tuple[Call, GradientEdge]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.batch_norm and (args[5:6] or [kwargs.get("training", False)])[0]:
            raise ValueError(
                "a BatchNorm normalises by the batch here, in eval mode because it keeps no running statistics: no "
                "sample has a gradient of its own; give it statistics, or put a GroupNorm in its place"
            )
        call = read_call(function, args, kwargs, self.wanted)
        if call is None:
            return function(*args, **kwargs)
        if self.spread and len(call.x) == 1 < self.n:
            # Position embeddings (1, L, D) are one value for the whole batch: one for each sample has a gradient each.
            given = args[0] if args else kwargs["input"]
            given = given.expand(self.n, *given.shape[1:])
            args, kwargs = ((given, *args[1:]), kwargs) if args else (args, kwargs | {"input": given})
            call = replace(call, x=given.detach())
        output = function(*args, **kwargs)
        if output.requires_grad:
            self.calls.append((call, get_gradient_edge(output)))
        return output


def _known_uses(logits: Tensor, calls: Sequence, parameters: Mapping[str, Tensor], n: int) -> dict[str, list | None]:
    """Parameter name -> (call, role, place) of every use, or None where some use is no recorded call on n samples."""
    edges, seen = _graph(logits)
    found = defaultdict(list)
    for call, edge in calls:
        if edge.node in seen:
            for role, value in call.parameters.items():
                found[id(value)].append((call, role, edge))
    return {
        name: found[id(value)]
        if len(found[id(value)]) == edges[id(value)] and all(len(call.x) == n for call, _, _ in found[id(value)])
        else None
        for name, value in parameters.items()
    }


def _graph(logits: Tensor) -> tuple[Counter, set[Node]]:
    """How many edges of the graph lead to each tensor that requires a gradient, and the nodes of the graph."""
    edges, seen = Counter(), set()
    waiting = [logits.grad_fn] if logits.grad_fn is not None else []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is None:
                continue
            if hasattr(following, "variable"):
                edges[id(following.variable)] += 1
            else:
                waiting.append(following)
    return edges, seen


def _flowing_back(logits: Tensor, places: Sequence[GradientEdge], cotangent: Tensor, keep: bool) -> list[Tensor | None]:
    if not places:
        return []
    return torch.autograd.grad(logits, places, cotangent, retain_graph=keep, allow_unused=True)


def _probe(network: nn.Module, parameters: Mapping[str, Tensor], batch: Batch) -> tuple[set[str], bool]:
    """Names of the parameters whose calls keep samples apart along the first axis, and whether calls may be spread."""
    rows = torch.arange(2, device=batch[0].device) % len(batch[0])
    batch = tuple(part[rows] for part in batch)
    with torch.no_grad():
        expected = network(*batch)
    for spread in (True, False):
        recorder = _Recorder(parameters, 2, spread)
        try:
            with recorder:
                logits = network(*batch)
        except Exception:  # a network that cannot do with n values for one raises whatever it likes
            if not spread:
                raise
            continue
        if logits.shape == expected.shape and torch.allclose(logits, expected, rtol=1e-4, atol=1e-5):
            break
    uses = _known_uses(logits, recorder.calls, parameters, 2)
    apart = {edge: True for _, edge in recorder.calls}
    for row in range(2):
        cotangent = torch.zeros_like(logits)
        cotangent[row] = torch.nan
        for edge, gradient in zip(apart, _flowing_back(logits, list(apart), cotangent, True), strict=True):
            if gradient is not None:
                apart[edge] = apart[edge] and len(gradient) == 2 and not gradient[1 - row].any()  # NaN counts as true
    trusted = {name for name, found in uses.items() if found is not None and all(apart[edge] for _, _, edge in found)}
    return trusted, spread


def _by_rules(logits: Tensor, uses: Mapping[str, list], passes: Iterable[Tensor], total: _Total) -> None:
    places = list(dict.fromkeys(edge for found in uses.values() for _, _, edge in found))
    for cotangent in passes if places else ():
        gradients = dict(zip(places, _flowing_back(logits, places, cotangent, True), strict=True))
        for name, found in uses.items():
            known = [Use(call, role, gradients[edge]) for call, role, edge in found if gradients[edge] is not None]
            if known and total.scatter:
                total.add(name, sample_gradients(known).square())
            elif known:
                total.sums[name] += square_sums(known)


def _by_samples(
    network: nn.Module, parameters: Mapping[str, Tensor], batch: Batch, passes: list[Tensor], total: _Total, way: str
) -> None:
    """Without rules: all samples at once where ``torch.func`` can, else one after the other."""
    flowing = torch.stack(passes, dim=1)  # (n, passes, classes)
    if way != "loop":
        try:
            return _by_vmap(network, parameters, batch, flowing, total)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # a network that looks at values cannot be traced; nothing was added yet
            if way == "vmap":
                raise
    return _by_loop(network, parameters, batch, flowing, total)


def _by_vmap(
    network: nn.Module, parameters: Mapping[str, Tensor], batch: Batch, flowing: Tensor, total: _Total
) -> None:
    def squares(values: dict[str, Tensor], sample: Batch, back: Tensor) -> dict[str, Tensor]:
        def logits(values: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(network, values, tuple(part.unsqueeze(0) for part in sample)).squeeze(0)

        _, pull = torch.func.vjp(logits, values)
        (gradients,) = torch.func.vmap(pull)(back)
        return {name: _wide_like(value).square().sum(0) for name, value in gradients.items()}

    values = {name: value.detach() for name, value in parameters.items()}
    rows = _rows(parameters, flowing.shape[1])
    every = torch.func.vmap(squares, in_dims=(None, 0, 0), randomness="same")
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no rule for vmap
        for start in range(0, len(flowing), rows):
            part = tuple(tensor[start : start + rows] for tensor in batch)
            for name, found in every(values, part, flowing[start : start + rows]).items():
                total.add(name, found, start)


def _by_loop(
    network: nn.Module, parameters: Mapping[str, Tensor], batch: Batch, flowing: Tensor, total: _Total
) -> None:
    for row in range(len(flowing)):
        logits = network(*(part[row : row + 1] for part in batch))
        for back in flowing[row]:
            gradients = torch.autograd.grad(
                logits, list(parameters.values()), back.unsqueeze(0), retain_graph=True, allow_unused=True
            )
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total.add(name, _wide_like(gradient).square().unsqueeze(0), row)


def _rows(parameters: Mapping[str, Tensor], passes: int) -> int:
    each = passes * sum(value.numel() * max(value.element_size(), 4) for value in parameters.values())
    return max(1, LARGEST_CHUNK // each)


def _wide_like(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """With gradients, in the precision of the parameters, whatever surrounds the call; NaN is no anomaly here."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        yield
