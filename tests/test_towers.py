import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from tlcourse.towers import imagenet_head, join_towers, rank_of_own
from tlcourse.zoo import load_backbone


def drawn(n=30, p=7, q=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, p, generator=generator) + 3, torch.randn(n, q, generator=generator) - 2


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("n", [30, 4])
def test_joining_is_ridge_regression(strength, n):
    texts, weights = drawn(n=n)
    names, _ = drawn(n=6, seed=1)
    found = join_towers(texts, weights, strength=strength)(names)
    wanted = Ridge(alpha=strength).fit(texts.double().numpy(), weights.double().numpy()).predict(names.double().numpy())
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-8, atol=1e-8)


def test_the_head_fits_the_backbone(lite0):
    head = imagenet_head()
    assert len(head.names) == 1000
    assert {name for name in head.names if head.names.count(name) > 1} == {"crane"}  # the bird and the machine
    assert head.weights.shape == (1000, lite0.feature_dim)
    assert head.bias.shape == (1000,)


def test_the_head_recognises_a_photograph():
    from sklearn.datasets import load_sample_image

    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None, :, :, 100:520]
    head = imagenet_head()
    with torch.no_grad():
        features = load_backbone("efficientnet_lite0")(flower)
    best = (features @ head.weights.T + head.bias)[0].topk(5).indices.tolist()
    assert "daisy" in [head.names[row] for row in best]


def slow_ranks(predicted, true):
    """By the definition, pair by pair."""
    centre = true.mean(axis=0)

    def cosine(a, b):
        return a @ b / np.sqrt(a @ a) / np.sqrt(b @ b)

    likeness = [[cosine(p - centre, t - centre) for t in true] for p in predicted]
    return [sum(other > row[i] for other in row) for i, row in enumerate(likeness)]


def test_ranks_are_those_of_the_definition():
    _, true = drawn(n=12)
    predicted = true + torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    found = rank_of_own(predicted, true).tolist()
    assert found == slow_ranks(predicted.double().numpy(), true.double().numpy())
    assert 0 < sum(found) < 12 * 11
    assert rank_of_own(true, true).tolist() == [0] * 12


REFUSED = [
    (lambda: join_towers(torch.ones(3, 2), torch.ones(4, 2), strength=1.0), r"\(3, 2\) and \(4, 2\)"),
    (lambda: join_towers(torch.ones(0, 2), torch.ones(0, 2), strength=1.0), r"\(0, 2\) and \(0, 2\)"),
    (lambda: join_towers(torch.ones(3), torch.ones(3, 2), strength=1.0), r"\(3,\) and \(3, 2\)"),
    (lambda: join_towers(torch.ones(3, 2), torch.ones(3, 2), strength=0.0), "strength=0.0"),
    (lambda: join_towers(torch.full((3, 2), float("nan")), torch.ones(3, 2), strength=1.0), "not finite"),
    (lambda: join_towers(*drawn(), strength=1.0)(torch.ones(2, 3)), r"texts are \(2, 3\); \(m, 7\) is needed"),
    (lambda: rank_of_own(torch.ones(3, 2), torch.ones(2, 2)), r"\(3, 2\) and \(2, 2\)"),
    (lambda: rank_of_own(torch.ones(1, 2), torch.ones(1, 2)), "2 rows or more"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
