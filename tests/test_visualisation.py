import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import visualisation
from tlcourse.backbones import Backbone, ImagePreprocessing
from tlcourse.visualisation import visualise

pytestmark = pytest.mark.usefixtures("one_thread")
TARGETS = [  # options, the same by hand from the output of the stage
    ({"stage": "block1", "channel": 2}, lambda state: state[:, 2].mean(dim=(1, 2))),
    ({"stage": "block1", "channel": 2, "target": "neuron"}, lambda state: state[:, 2, 6, 6]),
    ({"stage": "block1", "target": "stage"}, lambda state: state.square().mean(dim=(1, 2, 3))),
    ({"stage": "neck", "channel": 5}, lambda state: state[:, 5]),
    (
        {"stage": "block1", "channel": (2, 7)},
        lambda state: torch.cat([state[:3, 2], state[3:, 7]]).mean(dim=(1, 2)),
    ),
    ({"stage": "neck", "channel": 5, "target": "neuron"}, lambda state: state[:, 5]),
]
BAD_CALLS = [  # options, words
    ({"stage": "block2", "channel": 0}, "no stage 'block2'; there are: stem"),
    ({"channel": 8}, "channel=8: stage 'stem' has the channels 0 to 7"),
    ({"channel": None}, "target='channel' with channel=None"),
    ({"channel": 1.5}, "channel=1.5: a whole number is needed"),
    ({"channel": True}, "channel=True: a whole number"),
    ({"channel": "1"}, "channel='1': a whole number"),
    ({"channel": [[0, 1]]}, r"channel=\[\[0, 1\]\]: a whole number is needed, or a row of them"),
    ({"channel": []}, r"channel=\[\]: name at least one"),
    ({"channel": [0, 8]}, "channel=8: stage 'stem' has the channels 0 to 7"),
    ({"channel": [0, 1], "target": "stage"}, "a stage takes no channel"),
    ({"channel": 1, "target": "stage"}, "target='stage' with channel=1: a stage takes no channel"),
    ({"target": "layer"}, "target='layer': use one of 'channel', 'neuron', 'stage'"),
    ({"steps": 0}, "steps=0: at least 1"),
    ({"count": 0}, "count=0: at least 1"),
    ({"size": 1}, "size=1: at least 2"),
    ({"jitter": -1}, "jitter=-1: at least 0"),
]
WAKING = [  # value, top, gradient from above, gradient passed on
    (-1.0, 6.0, 2.0, 2.0),  # would wake it
    (-1.0, 6.0, -2.0, 0.0),
    (0.0, 6.0, 2.0, 2.0),
    (3.0, 6.0, 2.0, 2.0),
    (3.0, 6.0, -2.0, -2.0),
    (7.0, 6.0, -2.0, -2.0),
    (7.0, 6.0, 2.0, 0.0),
    (7.0, float("inf"), 2.0, 2.0),
]


class Functional(nn.Module):
    """A ReLU in the code of a network, not in a module of its own."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu

    def forward(self, x):
        return self.relu(x)


SILENT = {
    "module": lambda: nn.ReLU(),
    "in place": lambda: nn.ReLU(inplace=True),
    "saturating": lambda: nn.ReLU6(),
    "saturating in code": lambda: Functional(F.relu6),
    "in code": lambda: Functional(F.relu),
    "of a tensor": lambda: Functional(torch.Tensor.relu),
}


def one_filter(weight, *, bias=0.0, after=()):
    """A backbone of one convolution with known weights (out, 3, h, w)."""
    weight = torch.as_tensor(weight)
    layer = nn.Conv2d(3, len(weight), tuple(weight.shape[2:]), padding="same")
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.fill_(bias)
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    stages = {"stem": nn.Sequential(layer, *after)}
    return Backbone("filter", stages, feature_dim=len(weight), preprocessing=grey, pretrained=False).eval()


@pytest.mark.parametrize(("options", "by_hand"), TARGETS)
def test_what_is_recorded_is_the_stated_target(options, by_hand, tiny_backbone):
    """At rate 0 the images stay as they were drawn, and can be sent through the network again."""
    found = visualise(tiny_backbone, size=24, count=3, steps=2, lr=0.0, jitter=0, **options)
    stop = list(tiny_backbone.stages).index(options["stage"]) + 1
    with torch.no_grad():
        state = tiny_backbone.run(tiny_backbone.preprocessing(found.images), stop=stop)
    assert found.objective == pytest.approx([by_hand(state).mean().item()] * 2, abs=1e-6)
    assert (found.images - 0.5).abs().max() < 0.3  # the start is nearly grey
    assert found.images.std() > 1e-3


@pytest.mark.parametrize(("options", "by_hand"), TARGETS)
def test_the_target_grows(options, by_hand, tiny_backbone):
    found = visualise(tiny_backbone, size=24, count=2, steps=30, **options)
    channels = options.get("channel")
    assert found.images.shape == (2 * len(channels) if isinstance(channels, list | tuple) else 2, 3, 24, 24)
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert len(found.objective) == 30
    assert found.objective[-1] > found.objective[0] + 0.02
    assert not found.images.requires_grad


def test_channels_in_one_call_do_not_disturb_each_other(tiny_backbone):
    """Adam moves every number on its own. Without shifts, whose draws come after those of the noise."""
    options = {"stage": "block1", "size": 16, "steps": 5, "jitter": 0}
    together = visualise(tiny_backbone, channel=[2, 7], **options)
    alone = visualise(tiny_backbone, channel=2, **options)
    assert torch.allclose(together.images[:1], alone.images, atol=1e-5)
    assert not torch.allclose(together.images[:1], together.images[1:], atol=1e-2)


@pytest.mark.parametrize("channel", [np.int64(2), torch.tensor(2), [torch.tensor(2)]], ids=["numpy", "tensor", "list"])
def test_a_channel_may_come_from_an_argmax(tiny_backbone, channel):
    options = {"stage": "block1", "size": 16, "steps": 2}
    found = visualise(tiny_backbone, channel=channel, **options).images
    assert torch.equal(found, visualise(tiny_backbone, channel=2, **options).images)


def test_a_filter_of_colour_is_shown_its_colour():
    red = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1)
    images = visualise(one_filter(red), stage="stem", channel=0, size=16, steps=40, lr=0.2).images
    mean = images.mean(dim=(0, 2, 3))
    assert mean[0] > mean[2] + 0.3


@pytest.mark.parametrize("horizontal", [True, False])
def test_a_filter_of_edges_is_shown_their_direction(horizontal):
    edge = torch.tensor([[-1.0, 0.0, 1.0]] * 3).expand(1, 3, 3, 3)
    backbone = one_filter(edge if horizontal else edge.transpose(2, 3), after=(nn.ReLU(),))
    images = visualise(backbone, stage="stem", channel=0, size=24, steps=40, lr=0.2, jitter=2).images
    across = images.diff(dim=3).square().mean(), images.diff(dim=2).square().mean()
    assert across[0 if horizontal else 1] > 1.5 * across[1 if horizontal else 0]


@pytest.mark.parametrize("kind", SILENT)
def test_a_unit_that_is_silent_at_the_start_is_woken(kind, monkeypatch):
    """A unit that fires only far from grey, behind another one that does."""
    deep = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        deep.weight.fill_(1.0)
        deep.bias.fill_(-1.0)
    backbone = one_filter(torch.ones(1, 3, 3, 3), bias=-9.0, after=(SILENT[kind](), deep, SILENT[kind]()))
    options = {"stage": "stem", "channel": 0, "size": 12, "steps": 40, "count": 2, "lr": 0.1}
    woken = visualise(backbone, **options)
    assert woken.objective[0] == 0
    assert woken.objective[-1] > 0.5
    monkeypatch.setattr(visualisation, "_WakingReLU", nullcontext)
    assert visualise(backbone, **options).objective[-1] == 0  # nothing else wakes it


def test_a_unit_that_fires_keeps_its_own_gradient(monkeypatch, tiny_backbone):
    monkeypatch.setattr(visualisation, "_WakingReLU", None)  # would fail if it were entered
    found = visualise(tiny_backbone, stage="block10", channel=1, size=24, steps=5)
    assert min(found.objective) > 0


def test_of_several_images_only_the_silent_are_woken():
    """One image is far from grey already, and keeps the gradient that it has alone."""
    backbone = one_filter(torch.ones(1, 3, 3, 3), bias=-9.0, after=(nn.ReLU(),))
    spectrum = 0.01 * torch.randn(2, 3, 12, 7, 2)
    spectrum[1, 0, 0, 0, 0] = 8.0  # light

    def ascent(spectrum):
        spectrum = spectrum.clone().requires_grad_()

        def objective(shift):
            return backbone(visualisation._to_images(spectrum, 12))[:, 0].mean(dim=(1, 2))

        return visualisation._ascent(objective, [0, 0], spectrum)

    excitement, gradient = ascent(spectrum)
    assert excitement[0] == 0
    assert excitement[1] > 1
    assert gradient[0].abs().max() > 0
    images = spectrum[1:].clone().requires_grad_()
    backbone(visualisation._to_images(images, 12)).mean().backward()
    assert torch.allclose(gradient[1], images.grad[0], atol=1e-6)


@pytest.mark.parametrize(("value", "top", "above", "below"), WAKING)
def test_a_waking_relu_passes_on_what_leads_into_its_range(value, top, above, below):
    x = torch.tensor([value], requires_grad=True)
    y = visualisation._Waking.apply(x, 0.0, top)
    assert y.item() == min(max(value, 0), top)
    y.backward(torch.tensor([above]))
    assert x.grad.item() == below


def test_one_amplitude_is_one_wave_of_light():
    spectrum = torch.zeros(1, 3, 16, 9, 2)
    spectrum[0, 0, 0, 3, 0] = 0.5  # three periods across, none down
    images = visualisation._to_images(spectrum, 16)
    wave = torch.cos(2 * torch.pi * 3 * torch.arange(16) / 16)
    logits = images.logit()[0, 0]
    assert torch.allclose(logits, wave.expand(16, 16) * logits[0, 0], atol=1e-5)
    assert logits[0, 0] > 0.01
    assert images.std(dim=1).max() < 0.01  # light and dark, hardly a colour


def test_the_start_holds_long_waves_more_than_short_ones():
    generator = torch.Generator().manual_seed(0)
    logits = visualisation._to_images(visualisation._faint_noise(20, 32, generator), 32).logit()
    power = torch.fft.rfft2(logits).abs().square().mean(dim=(0, 1))
    ratio = power[0, 2] / power[0, 8]  # amplitudes fall with the frequency, so that powers fall by 4 squared
    assert 8 < ratio < 32


def test_everything_comes_from_the_seed(tiny_backbone):
    state = torch.get_rng_state()
    options = {"stage": "block1", "channel": 1, "size": 16, "steps": 6}
    first, again, other = (visualise(tiny_backbone, seed=seed, **options) for seed in (1, np.int64(1), 2))
    assert torch.equal(first.images, again.images)
    assert first.objective == again.objective
    assert not torch.equal(first.images, other.images)
    still = visualise(tiny_backbone, seed=1, jitter=0, **options)
    assert not torch.equal(first.images, still.images)
    assert torch.equal(state, torch.get_rng_state())


def test_the_network_is_left_as_it_was(tiny_backbone):
    backbone = copy.deepcopy(tiny_backbone).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    visualise(backbone, stage="block10", target="stage", size=16, steps=3)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in backbone.parameters())
    assert all(part.training for part in backbone.modules())


@pytest.mark.parametrize(("options", "words"), BAD_CALLS)
def test_bad_calls_are_named(options, words, tiny_backbone):
    with pytest.raises(ValueError, match=words):
        visualise(tiny_backbone, **({"stage": "stem", "channel": 0, "size": 16, "steps": 1} | options))


def test_a_text_backbone_has_no_image_to_find():
    backbone = one_filter(torch.ones(1, 3, 1, 1))
    backbone.preprocessing = type("Reads", (), {"modality": "text"})()
    with pytest.raises(ValueError, match="'filter' reads texts: there is no image to find"):
        visualise(backbone, stage="stem", channel=0)
