import numpy as np
import pytest
import torch

from tlcourse.caching import extract_features
from tlcourse.centroids import TEMPERATURES, nearest_centroid
from tlcourse.probes import fit_probe

pytestmark = pytest.mark.usefixtures("one_thread")
DISTANCES = {  # of one sample from one centroid, in its own words
    "cosine": lambda x, c: 1 - (x * c).sum() / np.sqrt((x * x).sum() * (c * c).sum()),
    "euclidean": lambda x, c: ((x - c) ** 2).sum(),
}
X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
REFUSED = [  # features, labels, options, words
    (X, [0, 2, 2], {}, "class 1 of 3 has no sample among these 3"),
    (X, [0, 1, 1], {"classes": 4}, "class 2 of 4 has no sample"),
    (X, [0, 1, 2], {"classes": 2}, "labels from 0 to 2: 2 classes are counted from 0 to 1"),
    (X, [0, 1, -1], {}, "labels from -1 to 1"),
    (X, [0, 0, 0], {}, "all 3 labels are of one class"),
    (X, [0, 1], {}, r"labels torch.int64 \(2,\) for features \(3, 2\)"),
    (X, [0.0, 1.0, 1.0], {}, "labels torch.float32"),
    (X[:0], torch.zeros(0).long(), {}, r"labels torch.int64 \(0,\)"),
    (X[0], [0], {}, r"features must be \(n, D\), not \(2,\)"),
    (X.log(), [0, 1, 1], {}, "the features of 2 of 3 samples are not finite"),
    (X * torch.nan, [0, 1, 1], {}, "the features of 3 of 3 samples are not finite"),
    (X, [0, 1, 1], {"distance": "manhattan"}, "distance='manhattan': it is one of cosine, euclidean"),
    (X, [0, 1, 1], {"temperature": 0.0}, "temperature=0.0: a number above 0"),
    (X, [0, 1, 1], {"temperature": float("nan")}, "temperature=nan"),
    (X, [0, 1, 1], {"temperature": float("inf")}, "temperature=inf"),
]


def clouds(n, *, seed, classes=3, dimensions=5, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n).pow(2) % classes  # classes of unequal size
    labels[:classes] = torch.arange(classes)
    centres = 1.5 * torch.eye(classes, dimensions)
    return torch.randn(n, dimensions, generator=generator) + centres[labels] + shift, labels


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [None, 0.05, 3.0])
@pytest.mark.parametrize("distance", DISTANCES)
def test_it_is_the_softmax_of_the_negative_distance_over_the_temperature(distance, temperature):
    x, y = clouds(31, seed=0)
    new, _ = clouds(9, seed=1)
    probe = nearest_centroid(x, y, distance=distance, temperature=temperature)
    means = [x[y == label].double().numpy().mean(axis=0) for label in range(3)]
    away = np.array([[DISTANCES[distance](row, mean) for mean in means] for row in new.double().numpy()])
    found = probe.probabilities(new)
    assert found.shape == (9, 3)
    assert np.abs(found - softmax(-away / (temperature or TEMPERATURES[distance]))).max() < 1e-12
    assert np.abs(probe.distances(new).numpy() - away).max() < 1e-12


def test_by_euclidean_distance_it_is_that_of_scikit_learn():
    """Theirs divides by the spread within classes, so on features where that is 1 both give the same probabilities."""
    from sklearn.neighbors import NearestCentroid

    x, y = clouds(60, seed=2)
    spread = NearestCentroid().fit(x.double().numpy(), y.numpy()).within_class_std_dev_
    x = x.double() / torch.from_numpy(spread)
    new = 2 * torch.randn(200, 5, generator=torch.Generator().manual_seed(3)).double()
    theirs = NearestCentroid().fit(x.numpy(), y.numpy())
    ours = nearest_centroid(x, y, distance="euclidean")
    assert np.abs(ours.centroids.numpy() - theirs.centroids_).max() < 1e-12
    assert np.array_equal(ours.probabilities(new).argmax(axis=1), theirs.predict(new.numpy()))
    assert len(set(theirs.predict(new.numpy()))) == 3
    assert np.abs(ours.probabilities(new) - theirs.predict_proba(new.numpy())).max() < 1e-9


def test_by_squared_distance_it_is_a_linear_model():
    """Snell et al. 2017, section 2.4: weights 2 c / T and bias -c.c / T."""
    x, y = clouds(40, seed=4)
    probe = nearest_centroid(x, y, distance="euclidean", temperature=2.0)
    c = probe.centroids.numpy()
    logits = x.double().numpy() @ c.T - (c**2).sum(axis=1) / 2
    assert np.abs(probe.probabilities(x) - softmax(logits)).max() < 1e-12


def test_the_cosine_sees_no_lengths_and_the_euclidean_distance_no_shift():
    x, y = clouds(40, seed=5)
    x, new = x.double(), clouds(9, seed=6)[0].double()
    cosine = nearest_centroid(x, y)
    assert np.abs(cosine.probabilities(1e3 * new) - cosine.probabilities(new)).max() < 1e-12
    assert np.abs(nearest_centroid(7 * x, y).probabilities(new) - cosine.probabilities(new)).max() < 1e-12
    near, far = (
        nearest_centroid(x + shift, y, distance="euclidean").probabilities(new + shift) for shift in (0.0, 1e5)
    )
    assert np.abs(near - far).max() < 1e-7  # the shift costs five of the sixteen digits


def test_a_vector_of_zeros_is_as_far_from_everything():
    x, y = clouds(12, seed=7)
    assert np.allclose(nearest_centroid(x, y).probabilities(torch.zeros(1, 5)), 1 / 3)


def test_no_class_comes_first_by_another_temperature():
    x, y = clouds(40, seed=8)
    new, _ = clouds(50, seed=9)
    for distance in DISTANCES:
        cold, warm = (nearest_centroid(x, y, distance=distance, temperature=t).probabilities(new) for t in (0.5, 5.0))
        assert np.array_equal(cold.argmax(axis=1), warm.argmax(axis=1))
        assert cold.max(axis=1).mean() > warm.max(axis=1).mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_features_of_any_precision_are_left_as_they_are(dtype):
    x, y = clouds(12, seed=10)
    x = x.to(dtype).requires_grad_()
    probe = nearest_centroid(x, y, distance="euclidean", classes=3)
    assert probe.centroids.dtype == torch.float64
    assert not probe.centroids.requires_grad
    assert torch.allclose(probe.centroids[0], x[y == 0].double().mean(dim=0))
    assert np.allclose(probe.probabilities(x).sum(axis=1), 1)


def test_with_one_text_a_class_it_beats_guessing_and_stands_where_a_probe_stands(minilm, lines):
    features, rows = extract_features(minilm, lines.train.inputs), lines.train.labels
    few = torch.tensor([int((rows == label).nonzero()[0]) for label in (0, 1)])
    ours = nearest_centroid(features[few], rows[few]).probabilities(features)
    theirs = fit_probe(features[few], rows[few], strengths=(1.0,)).probabilities(features)
    assert ours.shape == theirs.shape
    assert (ours.argmax(axis=1) == rows.numpy()).mean() > 0.9


@pytest.mark.parametrize(("features", "labels", "options", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(features, labels, options, words):
    with pytest.raises(ValueError, match=words):
        nearest_centroid(features, torch.as_tensor(labels), **options)


def test_new_features_are_checked_too():
    probe = nearest_centroid(X, torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="of 3 numbers each: the centroids are of 2"):
        probe.probabilities(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="the features of 1 of 3 samples are not finite"):
        probe.probabilities(torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [0.0, 0.0]]))
