"""The gradient of each sample for the parameters of a layer, from what enters the layer and what flows back to it.

A layer is known by the function that it calls (``F.linear``, ``F.conv2d``, ...) and not by its class, so that what a
subclass does around the call, such as padding before or an activation after, needs no rule of its own. Lesson 10 shows
the rule of a linear layer; `per_sample` uses them all.
"""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Call", "Use", "read_call", "sample_gradients", "square_sums"]

# How many values (of a layer's inputs, outputs or gradients) are worked on at once where only the sum of squares is
# wanted. On a CPU they should stay in its caches; a card wants as much work at a time as it can get.
BLOCK = {"cpu": 2**18}
LARGE_BLOCK = 2**26


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a function that has a rule, on a batch.

    Attributes
    ----------
    x
        What entered, samples along the first axis.
    parameters
        Those among its arguments that are asked for: ``"weight"``, ``"bias"`` or both.
    options
        Its other arguments, and the shape of its weight.
    """

    function: Callable
    x: Tensor
    parameters: dict[str, Tensor]
    options: dict[str, object]


@dataclass(frozen=True, eq=False)
class Use:
    """A parameter in a call (``role``: "weight" or "bias"), and what flowed back to the call's output."""

    call: Call
    role: str
    gradient: Tensor

    def rows(self, start: int, stop: int) -> "Use":
        """The same for some of the samples."""
        return Use(replace(self.call, x=self.call.x[start:stop]), self.role, self.gradient[start:stop])


def read_call(function: Callable, args: Sequence, kwargs: Mapping[str, object], wanted: Collection[int]) -> Call | None:
    """The call, if there is a rule for it and it uses parameters in the way that the rule knows; else None.

    Parameters
    ----------
    wanted
        The ``id`` of each tensor whose gradients are asked for.

    Examples
    --------
    >>> layer, x = torch.nn.Linear(3, 2), torch.zeros(5, 3)
    >>> call = read_call(F.linear, (x, layer.weight, layer.bias), {}, [id(layer.bias)])
    >>> list(call.parameters)
    ['bias']
    """
    if function not in _RULES:
        return None
    given = dict(zip(_NAMES[function], args, strict=False)) | dict(kwargs)
    used = {name: value for name, value in given.items() if id(value) in wanted}
    if not used or not used.keys() <= {"weight", "bias"} or given.get("weight") is None:
        return None  # a parameter as the input of a layer, for instance
    options = {name: value for name, value in given.items() if name not in ("input", "weight", "bias")}
    call = Call(function, given["input"].detach(), used, options | {"shape": given["weight"].shape})
    return call if _RULES[function].holds(call) else None


def sample_gradients(uses: Sequence[Use]) -> Tensor:
    """The gradient of each sample for one parameter, which all these uses are of.

    Returns
    -------
    Tensor
        (n, *shape of the parameter), summed over the positions of a sample and over the uses, in float32 at least.

    Examples
    --------
    >>> layer, x = torch.nn.Linear(3, 2), torch.ones(5, 4, 3)  # 5 samples of 4 positions
    >>> call = read_call(F.linear, (x, layer.weight, layer.bias), {}, [id(layer.weight)])
    >>> sample_gradients([Use(call, "weight", torch.ones(5, 4, 2))])[0]
    tensor([[4., 4., 4.],
            [4., 4., 4.]])
    """
    total = None
    for use in uses:
        rule, gradient = _RULES[use.call.function], _wide(use.gradient)
        found = (
            rule.bias(use.call, gradient) if use.role == "bias" else rule.weight(use.call, _wide(use.call.x), gradient)
        )
        found = found.reshape(len(gradient), *use.call.parameters[use.role].shape)
        total = found if total is None else total + found
    return total


def square_sums(uses: Sequence[Use]) -> Tensor:
    """The sum over samples of the squares of `sample_gradients`, without more of them at a time than need be.

    Returns
    -------
    Tensor
        Shaped like the parameter.

    Examples
    --------
    >>> layer, x = torch.nn.Linear(3, 1, bias=False), torch.ones(5, 4, 3)
    >>> call = read_call(F.linear, (x, layer.weight), {}, [id(layer.weight)])
    >>> square_sums([Use(call, "weight", torch.ones(5, 4, 1))])
    tensor([[80., 80., 80.]])
    """
    first = uses[0]
    rule, n = _RULES[first.call.function], len(first.gradient)
    if len(uses) == 1 and first.role == "weight" and rule.squares is not None:
        found = rule.squares(first.call, _wide(first.call.x), _wide(first.gradient))
        if found is not None:
            return found
    values = (first.call.parameters[first.role], first.call.x[0], first.gradient[0])
    each = max(value.numel() for value in values)
    rows = max(1, BLOCK.get(first.gradient.device.type, LARGE_BLOCK) // each)
    total = 0
    for start in range(0, n, rows):
        found = sample_gradients([use.rows(start, start + rows) for use in uses])
        total = total + found.square().sum(0)
    return total


def _wide(values: Tensor) -> Tensor:
    """Squares of float16 underflow, and sums of bfloat16 lose their last terms."""
    if not values.is_floating_point():
        return values
    return values.to(torch.promote_types(values.dtype, torch.float32))


@dataclass(frozen=True)
class _Rule:
    weight: Callable[[Call, Tensor, Tensor], Tensor]  # call, x, gradient -> (n, ...)
    bias: Callable[[Call, Tensor], Tensor] | None = None
    squares: Callable[[Call, Tensor, Tensor], Tensor | None] | None = None  # a shorter way to the sum of squares
    holds: Callable[[Call], bool] = lambda call: call.x.dim() > 1  # whether it fits a call


def _last(call: Call, gradient: Tensor) -> Tensor:
    """Of the bias of a linear layer: features are the last axis."""
    return gradient.flatten(1, -2).sum(1) if gradient.dim() > 2 else gradient


def _channels(call: Call, gradient: Tensor) -> Tensor:
    """Of a bias a channel: channels are the second axis."""
    return gradient.flatten(2).sum(2) if gradient.dim() > 2 else gradient


def _linear(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    if x.dim() == 2:
        return gradient.unsqueeze(2) * x.unsqueeze(1)
    return gradient.flatten(1, -2).transpose(1, 2) @ x.flatten(1, -2)  # (n, out, positions) @ (n, positions, in)


def _linear_squares(call: Call, x: Tensor, gradient: Tensor) -> Tensor | None:
    """With one position the square of the outer product is the outer product of the squares."""
    if x.dim() > 2 and x.shape[1:-1].numel() != 1:
        return None
    return (
        gradient.flatten(1, -2 if x.dim() > 2 else -1).reshape(len(x), -1).square().T @ x.reshape(len(x), -1).square()
    )


def _convolution(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    """(n, out, in / groups, *kernel) of a convolution over one or two axes."""
    shape, groups = call.options["shape"], call.options.get("groups", 1)
    if x.dim() == 3:  # one axis: the same with a height of 1
        x, gradient = x.unsqueeze(2), gradient.unsqueeze(2)
    kernel = _both(tuple(shape[2:]), len(shape), 1)
    stride, dilation = (_both(call.options.get(name, 1), len(shape), 1) for name in ("stride", "dilation"))
    x = _padded(x, call.options.get("padding", 0), len(shape), kernel, dilation)
    if groups == x.shape[1] == shape[0] and kernel != (1, 1):
        return _depthwise(x, gradient, kernel, stride, dilation)
    height, width = gradient.shape[2:]
    if kernel == (1, 1):
        x = x[:, :, :: stride[0], :: stride[1]][:, :, :height, :width].flatten(2)
    else:
        x = F.unfold(x, kernel, dilation=dilation, stride=stride)
    gradient = gradient.flatten(2)
    if groups > 1:
        x, gradient = (values.reshape(len(values) * groups, -1, height * width) for values in (x, gradient))
    return gradient @ x.transpose(1, 2)  # (n, out, positions) @ (n, positions, in * kernel)


def _depthwise(x: Tensor, gradient: Tensor, kernel: tuple, stride: tuple, dilation: tuple) -> Tensor:
    """One channel each: a product and a sum for every place of the kernel, which copies nothing as unfolding would."""
    height, width = gradient.shape[2:]
    x, gradient = (values.permute(0, 2, 3, 1).contiguous() for values in (x, gradient))  # (n, H, W, channels)
    found = gradient.new_empty(len(x), *kernel, x.shape[-1])
    for row in range(kernel[0]):
        down = slice(row * dilation[0], row * dilation[0] + stride[0] * (height - 1) + 1, stride[0])
        for column in range(kernel[1]):
            across = slice(column * dilation[1], column * dilation[1] + stride[1] * (width - 1) + 1, stride[1])
            torch.sum(x[:, down, across] * gradient, (1, 2), out=found[:, row, column])
    return found.permute(0, 3, 1, 2)


def _both(value: int | Sequence[int], axes: int, first: int) -> tuple[int, int]:
    """An option for two axes; ``first`` is for the one that a convolution over one axis (a weight of 3) lacks."""
    values = (value,) if isinstance(value, int) else tuple(value)
    if axes == 3:
        return first, values[0]
    return values if len(values) == 2 else values * 2


def _padded(x: Tensor, padding: int | str | Sequence[int], axes: int, kernel: tuple, dilation: tuple) -> Tensor:
    if padding == "same":  # what does not divide by two goes to the end
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in total)
    else:
        top, left = bottom, right = (0, 0) if padding == "valid" else _both(padding, axes, 0)
    return F.pad(x, (left, right, top, bottom)) if any((top, bottom, left, right)) else x


def _embedding(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    found = gradient.new_zeros(len(x), *call.options["shape"])
    rows = torch.arange(len(x), device=x.device).repeat_interleave(x[0].numel())
    gradient = gradient.masked_fill((x == _padding(call)).unsqueeze(-1), 0)
    return found.index_put_((rows, x.flatten()), gradient.reshape(len(rows), -1), accumulate=True)


def _embedding_squares(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    """Only rows that occur: positions of a sample with the same token are summed, then squared."""
    tokens, width = call.options["shape"]
    rows = torch.arange(len(x), device=x.device).repeat_interleave(x[0].numel())
    pairs, place = (rows * tokens + x.flatten()).unique(return_inverse=True)
    gradient = gradient.masked_fill((x == _padding(call)).unsqueeze(-1), 0).reshape(-1, width)
    summed = gradient.new_zeros(len(pairs), width).index_add_(0, place, gradient)
    return gradient.new_zeros(tokens, width).index_add_(0, pairs % tokens, summed.square_())


def _padding(call: Call) -> int:
    """The token whose row gets no gradient; -1 is none."""
    index = call.options.get("padding_idx")
    return -1 if index is None else index % call.options["shape"][0]


def _layer_norm(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    shape = call.options["shape"]
    product = gradient * F.layer_norm(x, shape, eps=call.options.get("eps", 1e-5))
    return product.reshape(len(x), -1, *shape).sum(1)


def _layer_norm_bias(call: Call, gradient: Tensor) -> Tensor:
    return gradient.reshape(len(gradient), -1, *call.parameters["bias"].shape).sum(1)


def _group_norm(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    normal = F.group_norm(x, call.options["num_groups"], eps=call.options.get("eps", 1e-5))
    return _channels(call, gradient * normal)


def _batch_norm(call: Call, x: Tensor, gradient: Tensor) -> Tensor:
    mean, variance = (_wide(call.options[name]) for name in ("running_mean", "running_var"))
    around = (1, -1) + (1,) * (x.dim() - 2)
    products = _channels(call, gradient * (x - mean.view(around)))
    return products * (variance + call.options.get("eps", 1e-5)).rsqrt()


def _has_two_axes(call: Call) -> bool:
    return call.x.dim() > 1 and len(call.options["shape"]) == 2


def _uses_running_statistics(call: Call) -> bool:
    return call.x.dim() > 1 and not call.options.get("training", False)


def _plain_lookup(call: Call) -> bool:
    return call.x.dim() > 0 and not call.options.get("scale_grad_by_freq", False)


_RULES = {
    F.linear: _Rule(_linear, _last, _linear_squares, _has_two_axes),
    F.conv1d: _Rule(_convolution, _channels, holds=lambda call: call.x.dim() == 3),
    F.conv2d: _Rule(_convolution, _channels, holds=lambda call: call.x.dim() == 4),
    F.embedding: _Rule(_embedding, None, _embedding_squares, _plain_lookup),
    F.layer_norm: _Rule(_layer_norm, _layer_norm_bias, holds=lambda call: call.x.dim() > len(call.options["shape"])),
    F.group_norm: _Rule(_group_norm, _channels),
    F.batch_norm: _Rule(_batch_norm, _channels, holds=_uses_running_statistics),
}
# The order of the arguments; those that are written in C++ have no signature to read.
_NAMES = {
    F.linear: ("input", "weight", "bias"),
    F.conv1d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    F.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    **{f: tuple(inspect.signature(f).parameters) for f in (F.embedding, F.layer_norm, F.group_norm, F.batch_norm)},
}
