import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import kurtosis
from sklearn.metrics import roc_auc_score

from tlcourse.worlds import WORLDS, make_world

SAMPLES = 400
# Two classes of 200: the standard error of an area of one half under the ROC curve is 0.029. Four of them.
HALF = 0.115
BAD_CALLS = [  # world, options, error, words
    ("sound", {}, KeyError, "no world 'sound'; there are: colour, orientation, texture, shape, arrangement"),
    ("colour", {"classes": 1}, ValueError, "classes=1: the world 'colour' has 2 to 12"),
    ("shape", {"classes": 5}, ValueError, "classes=5: the world 'shape' has 2 to 4"),
    ("arrangement", {"samples": 19}, ValueError, "samples=19: at least 20"),
    ("arrangement", {"size": 8}, ValueError, "size=8: at least 16"),
    ("arrangement", {"noise": -0.1}, ValueError, "noise=-0.1: at least 0"),
    ("arrangement", {"noise": float("nan")}, ValueError, "noise=nan"),
    ("arrangement", {"noise": float("inf")}, ValueError, "noise=inf: at least 0 is needed, and finite"),
]


def redness(image):
    return image[0].mean() - image[1:].mean()


def tilt(image):
    """Energy of the changes across against those down: 0 degrees changes across."""
    light = image.mean(axis=0)
    return np.square(np.diff(light, axis=1)).mean() - np.square(np.diff(light, axis=0)).mean()


def tails(image):
    """How much heavier than Gaussian: few spots."""
    return kurtosis(image.mean(axis=0), axis=None)


def lobes(image):
    """Fourth against third harmonic of the outline around the object's middle, from its silhouette alone."""
    light = ndimage.gaussian_filter(image.mean(axis=0), 0.7)
    ground = np.median(light)
    apart = np.abs(light - ground)
    inside = ndimage.binary_fill_holes(apart > 0.5 * np.percentile(apart, 97))
    pieces, _ = ndimage.label(inside)
    inside = pieces == np.bincount(pieces[pieces > 0]).argmax()
    down, across = np.nonzero(inside)
    middle = down.mean(), across.mean()
    angles = np.arctan2(down - middle[0], across - middle[1])
    distances = np.hypot(down - middle[0], across - middle[1])
    three, four = (abs((np.exp(1j * k * angles) * distances).sum()) for k in (3, 4))
    return four - three


def elongation(image):
    """How much of the spread of what stands out lies in one direction."""
    light = ndimage.gaussian_filter(image.mean(axis=0), 0.7)
    apart = np.abs(light - np.median(light))
    weak, strong = np.linalg.eigvalsh(np.cov(np.nonzero(apart > 0.5 * apart.max())))
    return strong / (weak + strong)


def brightness(image):
    return image.mean()


def spread(image):
    return image.mean(axis=0).std()


def fineness(image):
    """Mean frequency of the power spectrum."""
    light = image.mean(axis=0)
    power = np.abs(np.fft.fft2(light - light.mean())) ** 2
    frequency = np.fft.fftfreq(len(light))
    return (power * np.hypot(frequency[:, None], frequency)).sum() / power.sum()


CUES = [  # world, its cue (larger for the first class or the second), how well it separates
    ("colour", redness, 0.999),
    ("orientation", tilt, 0.999),
    ("texture", tails, 0.98),
    ("shape", lobes, 0.98),
    ("arrangement", elongation, 0.98),
]
OTHER_CUES = [  # world, a cue that must say nothing
    *((world, brightness) for world in WORLDS),
    *((world, redness) for world in WORLDS if world != "colour"),
    *((world, tilt) for world in WORLDS if world != "orientation"),
    *((world, tails) for world in WORLDS if world != "texture"),
    *((world, spread) for world in WORLDS),
    *((world, fineness) for world in WORLDS),
]


@pytest.fixture(scope="module")
def drawn():
    """All images (n, 3, H, W) in 0..1 and labels of each world with two classes."""

    def whole(name, **options):
        task = make_world(name, samples=SAMPLES, **options)
        parts = (task.train, task.val, task.test)
        return np.concatenate([p.inputs.numpy() for p in parts]) / 255, np.concatenate(
            [p.labels.numpy() for p in parts]
        )

    return {name: whole(name) for name in WORLDS}


def area(cue, images, labels):
    return roc_auc_score(labels, [cue(image) for image in images])


@pytest.mark.parametrize(("world", "cue", "least"), CUES)
def test_the_cue_separates_the_classes(world, cue, least, drawn):
    found = area(cue, *drawn[world])
    assert max(found, 1 - found) >= least


@pytest.mark.parametrize(("world", "cue"), OTHER_CUES)
def test_other_cues_say_nothing(world, cue, drawn):
    assert area(cue, *drawn[world]) == pytest.approx(0.5, abs=HALF)


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_comes_from_its_seed(world):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is meant
    first, again, other = (make_world(world, samples=60, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.labels, again.test.labels)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_has_as_many_classes_as_asked_for(world):
    most = WORLDS[world][2]
    task = make_world(world, classes=most, samples=20 * most, size=24, labels=2 * most)
    assert len(task.train) == 2 * most
    assert task.train.inputs.dtype == torch.uint8
    assert task.train.inputs.shape[1:] == (3, 24, 24)
    assert len(set(task.class_names)) == most
    assert sorted(set(task.train.labels.tolist())) == list(range(most))
    assert task.options == {"classes": most, "samples": 20 * most, "size": 24, "noise": 0.02}


def test_an_image_whose_spots_cancel_is_drawn_again():
    """Seed 5 once drew two spots, a light and a dark one, at the same place: a pattern of nothing, divided by 0."""
    task = make_world("texture", samples=100, size=16, seed=5)
    for part in (task.train, task.val, task.test):
        assert part.inputs.double().mean(dim=(1, 2, 3)).min() > 0.35 * 255


def test_classes_are_named_for_what_is_drawn():
    """In order of elongation: the star and the square have none, two pairs some, the line is nothing else."""
    task = make_world("arrangement", classes=4, samples=200, size=48, noise=0.0)
    found = {name: [] for name in task.class_names}
    for image, label in zip(task.train.inputs.numpy() / 255, task.train.labels, strict=True):
        found[task.class_names[label]].append(elongation(image))
    expected = {"line": 1.0, "square": 0.5, "star": 0.5, "two pairs": 0.8}  # 4 : 1 in the squares of the sides
    assert {name: np.median(values) for name, values in found.items()} == pytest.approx(expected, abs=0.06)


def test_noise_is_the_spread_that_it_says():
    """Neighbours differ by the noise of both, beyond what the pattern differs by."""
    quiet, loud = (make_world("colour", samples=60, noise=noise).train.inputs.double() / 255 for noise in (0.0, 0.1))
    difference = [images.diff(dim=3).square().mean() for images in (quiet, loud)]
    assert (difference[1] - difference[0]).item() == pytest.approx(2 * 0.1**2, rel=0.1)


@pytest.mark.parametrize(("world", "options", "error", "words"), BAD_CALLS)
def test_bad_calls_are_named(world, options, error, words):
    with pytest.raises(error, match=words):
        make_world(world, **options)
