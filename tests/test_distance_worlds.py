import time

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from tlcourse.backbones import attach_head
from tlcourse.distance_worlds import MOST_CLASSES, _alphabet, make_distance_world
from tlcourse.distances import domain_distance, median_bandwidth

DISTANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
BAD_CALLS = [  # options, words
    ({"distance": 1.1}, "distance=1.1: between 0 and 1"),
    ({"distance": -0.1}, "distance=-0.1"),
    ({"distance": float("nan")}, "distance=nan"),
    ({"classes": 1}, "classes=1: between 2 and 10"),
    ({"classes": 11}, "classes=11: between 2 and 10"),
    ({"classes": 2.5}, "classes=2.5: a whole number"),
    ({"complexity": 4}, "complexity=4: between 1 and 3"),
    ({"alphabet": -1}, "alphabet=-1: between 0"),
    ({"samples": 39}, "samples=39: between 40 and"),
    ({"size": 8}, "size=8: between 16"),
    ({"noise": -1}, "noise=-1: between 0 and 1"),
    ({"labels": 3}, "labels=3: 'distance 0 %' has 4 classes"),
]


def whole(task):
    """Images (n, 3, H, W) in 0..1 and labels of all splits, in the order in which they were drawn."""
    parts = (task.train, task.val, task.test)
    order = torch.cat([part.index for part in parts]).argsort()
    images = torch.cat([part.inputs for part in parts])[order]
    return images.numpy() / 255, torch.cat([part.labels for part in parts])[order].numpy()


@pytest.fixture(scope="module")
def worlds():
    return {d: whole(make_distance_world(d, samples=600, noise=0.03)) for d in DISTANCES}


def simple_features(images):
    """What anyone would measure: spread and edges of light and of red against cyan, along and across."""
    light, red = images.mean(axis=1), images[:, 0] - images[:, 1:].mean(axis=1)
    edges = [np.abs(np.diff(part, axis=axis)).mean(axis=(1, 2)) for part in (light, red) for axis in (1, 2)]
    return torch.from_numpy(np.stack([light.std(axis=(1, 2)), red.std(axis=(1, 2)), *edges], axis=1))


def grams(images):
    """Products (n, n) of pictures, without the grey that all share."""
    flat = (images - 0.5).reshape(len(images), -1)
    return flat @ flat.T


@pytest.mark.parametrize("distance", DISTANCES[1:])
def test_the_products_of_pictures_are_those_of_the_source(distance):
    """At 1 to what 8 bits round, between to what a turned grid of pixels adds: so no angle is the harder one."""
    near, far = (whole(make_distance_world(d, samples=200, noise=0.0, size=48))[0] for d in (0.0, distance))
    first, second = grams(near), grams(far)
    tolerance = 0.02 if distance == 1 else 0.06
    assert np.abs(first - second).max() < tolerance * np.diag(first).mean()
    assert np.abs(first - second).mean() < 0.01 * np.diag(first).mean()
    off = ~np.eye(len(first), dtype=bool)
    assert np.corrcoef(first[off], second[off])[0, 1] > 0.998


def test_the_task_is_as_hard_at_every_distance(worlds):
    """A linear classifier on the pixels, asked about 200 of the same scenes: 6 of its answers may change.

    It sees nothing but products of pictures. What a convolutional network scores is measured where the lesson does.
    """
    scores = []
    for images, labels in worlds.values():
        flat = images.reshape(len(images), -1)
        scores.append(RidgeClassifier(alpha=100.0).fit(flat[:400], labels[:400]).score(flat[400:], labels[400:]))
    assert 0.5 < min(scores) < 0.95  # neither guessing nor certain: it could have moved
    assert max(scores) - min(scores) <= 6 / 200


def test_the_measured_distance_grows_with_the_knob(worlds):
    source, _ = whole(make_distance_world(0.0, samples=600, noise=0.03, seed=1))
    source, *features = map(simple_features, (source, *(images for images, _ in worlds.values())))
    width = median_bandwidth(source, features[-1])
    found = [domain_distance(source, each, bandwidth=width) for each in features]
    apart = [each.mmd_squared.value for each in found]
    assert apart == sorted(apart)
    assert found[0].mmd_squared.low < 0.01
    assert all(a.mmd_squared.high < b.mmd_squared.low for a, b in zip(found, found[2:], strict=False))
    assert abs(found[0].a_distance.value) < 0.4
    assert found[-1].a_distance.value == 2


def test_worlds_of_one_seed_are_the_same_scenes_turned(worlds):
    """A quarter turn of the picture, and light for red: what is left is noise and rounding."""
    near, far = (whole(make_distance_world(d, samples=100, noise=0.0))[0] for d in (0.0, 1.0))
    light = (near - 0.5).sum(axis=1) / 3**0.5
    red = np.tensordot(far - 0.5, np.array([2, -1, -1]) / 6**0.5, axes=(1, 0))
    assert np.abs(np.rot90(light, -1, axes=(1, 2)) - red).max() < 0.01
    assert np.abs((far - 0.5).sum(axis=1)).max() < 0.01  # and no light is left


@pytest.mark.parametrize("distance", [0.0, 1.0])
def test_brightness_and_spread_say_nothing_about_the_class(distance, worlds):
    images, labels = worlds[distance]
    for cue in (images.mean(axis=(1, 2, 3)), images.mean(axis=(2, 3))[:, 0], images.std(axis=(1, 2, 3))):
        means = [cue[labels == label].mean() for label in range(4)]
        assert np.ptp(means) < 5 * cue.std() / 150**0.5


def test_few_values_are_cut_off_at_black_and_white(worlds):
    for images, _ in worlds.values():
        assert np.mean((images == 0) | (images == 1)) < 0.01


def test_a_world_of_fewer_classes_has_the_first_of_a_world_of_more():
    two, ten = (make_distance_world(classes=c, samples=200, noise=0.0, size=48) for c in (2, 10))
    assert ten.class_names[:2] == two.class_names
    drawn = [(images.mean(axis=1), labels) for images, labels in map(whole, (two, ten))]
    means = [[images[labels == label].mean(axis=0) for label in (0, 1)] for images, labels in drawn]
    likeness = np.corrcoef([mean.ravel() for pair in means for mean in pair])
    assert likeness[0, 2] > likeness[0, 3]
    assert likeness[1, 3] > likeness[1, 2]


def test_glyphs_are_different_within_and_between_alphabets():
    def signatures(number):
        return [frozenset(frozenset(map(tuple, edge)) for edge in glyph) for glyph in _alphabet(number).tolist()]

    first, second = signatures(0), signatures(1)
    assert len(first) == 3 * MOST_CLASSES
    assert all(len(glyph) == 4 for glyph in first)
    assert max(len(a & b) for i, a in enumerate(first) for b in first[:i]) == 2
    assert len(set(first) & set(second)) <= 3


def test_complexity_is_how_many_glyphs_a_class_has():
    """The mean picture of each glyph of a class, from two halves of its samples: like itself, unlike the others."""
    images, labels = whole(make_distance_world(complexity=3, samples=1200, noise=0.0, size=48))
    assert np.bincount(labels).tolist() == [300] * 4
    own = images[labels == 0].mean(axis=1).reshape(50, 2, 3, -1)  # glyphs take turns
    halves = own.mean(axis=0).transpose(1, 0, 2)  # (glyph, half, pixels)
    likeness = np.corrcoef(np.concatenate([halves[:, 0], halves[:, 1]]))[:3, 3:]
    assert likeness.diagonal().min() > likeness[~np.eye(3, dtype=bool)].max() + 0.1
    plain = whole(make_distance_world(samples=1200, noise=0.0, size=48))
    single = plain[0][plain[1] == 0].mean(axis=1).reshape(50, 2, 3, -1).mean(axis=(0, 1))
    assert np.corrcoef(single)[np.triu_indices(3, 1)].min() > likeness[~np.eye(3, dtype=bool)].max() + 0.1


def test_noise_is_the_spread_that_it_says():
    quiet, loud = (whole(make_distance_world(samples=60, noise=noise))[0] for noise in (0.0, 0.1))
    assert (loud - quiet).std() == pytest.approx(0.1, rel=0.03)


def test_a_world_comes_from_its_seed():
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is meant
    first, again, other = (make_distance_world(0.3, samples=60, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.labels, again.test.labels)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


@pytest.mark.parametrize("distance", [0.125, 1 / 3])
def test_a_head_can_be_named_for_it(distance, tiny_backbone):
    task = make_distance_world(distance, samples=60, classes=3, labels=9, size=16)
    assert len(task.train) == 9
    assert task.train.inputs.dtype == torch.uint8
    assert task.options["distance"] == distance
    assert attach_head(tiny_backbone, task)(task.train.inputs).shape == (9, 3)


def test_a_thousand_images_take_less_than_a_second():
    make_distance_world(samples=60)
    start = time.process_time()
    make_distance_world(0.5, samples=1000)
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("options", "words"), BAD_CALLS)
def test_bad_calls_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        make_distance_world(**options)
