"""What does a unit look for? An image is changed by gradient ascent until it excites the unit. Lesson 02 shows them.

Feature visualisation by optimisation (Olah et al. 2017). Plain pixels end in high-frequency noise, so the image is made
of waves and of colours that vary independently in photographs, and it is shifted by a few pixels at every step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import evaluating
from tlcourse.hierarchy import backbone_of, check_channel, stage_number

__all__ = ["Visualisation", "visualise"]

TARGETS = ("channel", "neuron", "stage")
# How red, green and blue vary together in ImageNet's photographs: a square root of their covariance, as published with
# Olah et al. 2017 (the library lucid). Columns: light against dark, red against blue, green against both.
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


@dataclass(frozen=True)
class Visualisation:
    """Images and how they came about.

    Attributes
    ----------
    images
        float32 (count, 3, size, size) in 0..1; count times the channels where there are several.
    objective
        One entry a step: what was ascended, before that step, as a mean over the images.
    """

    images: Tensor
    objective: list[float]


def visualise(
    network: Backbone | Model,
    *,
    stage: str,
    channel: int | Sequence[int] | None = None,
    target: str = "channel",
    count: int = 1,
    size: int = 64,
    steps: int = 128,
    lr: float = 0.05,
    jitter: int = 4,
    seed: int = 0,
) -> Visualisation:
    """Images that excite a unit, a channel or a whole stage, found by gradient ascent (Adam) from faint noise.

    A unit behind a ReLU that is silent for the whole image has no gradient. Where the gradient of an image is exactly
    zero, the step is taken again with ReLUs that pass on what would wake them, so that any noise will do as a start.
    (Doing so for live units too, in the first quarter of the steps, was tried and led to far weaker images.)

    Parameters
    ----------
    stage, channel
        Which unit; ``channel`` is left out where ``target="stage"``. Several channels are ascended at the same time,
        each in images of its own: the first ``count`` images are for the first channel, and so on.
    target
        ``"channel"``: the channel's mean over space, which gives a texture; ``"neuron"``: the channel at the centre
        alone; ``"stage"``: the mean square of everything that the stage puts out, as in DeepDream.
    count
        How many images of each channel, each from noise of its own.
    size
        Side in pixels.
    jitter
        Largest random shift at each step, in pixels. An image made of waves is periodic: shifting it leaves no seam.
    seed
        Draws the noise and the shifts; the global random state stays.

    Returns
    -------
    Visualisation
        On the device of the network, which is left as it was.

    Raises
    ------
    ValueError
        If the backbone reads texts, there is no such stage, channel or target, or a number is out of range.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> found = visualise(backbone, stage="stem", channel=3, size=32, steps=4)
    >>> found.images.shape, found.objective[-1] > found.objective[0]
    (torch.Size([1, 3, 32, 32]), True)
    """
    backbone = backbone_of(network)
    stop = stage_number(backbone, stage) + 1
    if backbone.preprocessing.modality != "image":
        raise ValueError(f"backbone {backbone.name!r} reads texts: there is no image to find")
    if target not in TARGETS:
        raise ValueError(f"target={target!r}: use one of {', '.join(map(repr, TARGETS))}")
    if (channel is None) is not (target == "stage"):
        raise ValueError(
            f"target={target!r} with channel={channel}: a stage takes no channel, everything else takes one"
        )
    for name, value, least in (("count", count, 1), ("size", size, 2), ("steps", steps, 1), ("jitter", jitter, 0)):
        if value < least:
            raise ValueError(f"{name}={value}: at least {least} is needed")
    several = [None] if channel is None else np.atleast_1d(channel).tolist()
    if not several:
        raise ValueError("channel=[]: name at least one")
    if channel is not None and any(type(one) is not int for one in several):
        raise ValueError(f"channel={channel!r}: a whole number is needed, or a row of them")
    generator = torch.Generator().manual_seed(int(seed))
    where = next(backbone.parameters()).device
    spectrum = _faint_noise(count * len(several), size, generator).to(where).requires_grad_()
    optimizer = torch.optim.Adam([spectrum], lr=lr)
    history = []

    def objective(shift: list[int]) -> Tensor:  # (count,)
        images = torch.roll(_to_images(spectrum, size), shift, dims=(2, 3))
        state = backbone.run(backbone.preprocessing(images), stop=stop)
        return _excitement(state, target=target, channels=several, stage=stage)

    with evaluating(backbone), torch.enable_grad():
        for _ in range(steps):
            shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            excitement, gradient = _ascent(objective, shift, spectrum)
            history.append(excitement.mean())
            spectrum.grad = -gradient  # Adam descends
            optimizer.step()
        images = _to_images(spectrum.detach(), size)
    return Visualisation(images, torch.stack(history).tolist())


def _ascent(objective: Callable[[list[int]], Tensor], shift: list[int], spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """The objective (count,) and its gradient; images without any gradient get the one that would wake the unit."""
    excitement = objective(shift)
    (gradient,) = torch.autograd.grad(excitement.sum(), spectrum)  # of each image alone: eval mode mixes no samples
    silent = gradient.flatten(1).abs().amax(dim=1) == 0
    if silent.any():
        with _WakingReLU():
            (waking,) = torch.autograd.grad(objective(shift).sum(), spectrum)
        gradient = torch.where(silent.view(-1, 1, 1, 1, 1), waking, gradient)
    return excitement.detach(), gradient


def _excitement(state: Tensor, *, target: str, channels: list[int | None], stage: str) -> Tensor:
    """What is ascended for each image (images,), of a stage's output (images, C, h, w) or (images, D)."""
    if target == "stage":
        return state.flatten(1).square().mean(dim=1)
    for channel in channels:
        check_channel(channel, state.shape[1], stage)
    of_each = torch.tensor(channels, device=state.device).repeat_interleave(len(state) // len(channels))
    maps = state[torch.arange(len(state), device=state.device), of_each]  # (images, h, w) or (images,)
    if maps.dim() == 1:
        return maps
    if target == "neuron":
        return maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
    return maps.flatten(1).mean(dim=1)


def _faint_noise(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Real and imaginary amplitudes (count, 3, size, size // 2 + 1, 2) of the waves of an almost grey image."""
    return 0.01 * torch.randn(count, 3, size, size // 2 + 1, 2, generator=generator)


def _to_images(spectrum: Tensor, size: int) -> Tensor:
    """Amplitudes of waves -> images (count, 3, size, size) in 0..1."""
    device = spectrum.device
    rows = torch.fft.fftfreq(size, device=device).view(-1, 1)
    columns = torch.fft.rfftfreq(size, device=device)
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1 / size)
    # Photographs hold less of the short waves, in proportion to their length: so that every step moves them in keeping.
    waves = torch.view_as_complex(spectrum.contiguous()) * (size / frequency)
    independent = torch.fft.irfft2(waves, s=(size, size)) / 4
    colours = torch.tensor(COLOURS, device=device)
    colours = colours / colours.norm(dim=0).max()
    return torch.einsum("rc,nchw->nrhw", colours, independent).sigmoid()


class _WakingReLU(TorchFunctionMode):
    """Inside, a ReLU (a saturated ReLU6 too) passes on the part of the gradient that would move it off its flat part.

    It works on the calls, so that it finds ReLUs wherever a network holds them, in modules or in its own code.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (F.relu, torch.relu, torch.Tensor.relu):
            return _Waking.apply(args[0], 0.0, math.inf)
        if func is F.relu6:
            return _Waking.apply(args[0], 0.0, 6.0)
        if func is F.hardtanh:  # what the module ReLU6 calls
            return _Waking.apply(args[0], kwargs["min_val"], kwargs["max_val"])
        return func(*args, **kwargs)


class _Waking(torch.autograd.Function):
    """Forward: clamp. Backward, for ascent: a value outside passes on what leads it inside, and nothing else."""

    @staticmethod
    def forward(context, x: Tensor, bottom: float, top: float) -> Tensor:
        context.save_for_backward(x)
        context.bounds = bottom, top
        return x.clamp(bottom, top)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,), (bottom, top) = context.saved_tensors, context.bounds
        blocked = (x <= bottom) & (gradient < 0) | (x >= top) & (gradient > 0)
        return gradient.masked_fill(blocked, 0), None, None
