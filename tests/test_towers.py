import numpy as np
import pytest

from tlcourse.towers import fit_towers, zero_shot

SHAPES = [(9, 4, 3), (4, 9, 3), (5, 5, 1), (2, 6, 6)]  # classes, text features, image features
STRENGTHS = [1e-3, 1.0, 50.0]


def arrays(classes, p, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(classes, p)) + 3, rng.normal(size=(classes, d)) - 1


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_map_is_scikit_learns_ridge(shape, strength):
    from sklearn.linear_model import Ridge

    names, rows = arrays(*shape)
    new = np.random.default_rng(1).normal(size=(4, shape[1]))
    wanted = Ridge(alpha=strength, solver="cholesky").fit(names, rows).predict(new).reshape(4, -1)
    assert np.allclose(fit_towers(names, rows, strength=strength)(new), wanted, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_of_the_penalised_error_is_zero(shape):
    names, rows = arrays(*shape)
    found = fit_towers(names, rows, strength=0.7)
    T, residual = names - names.mean(0), rows - found(names)
    assert np.allclose(T.T @ residual, 0.7 * found.matrix, atol=1e-10)
    assert np.allclose(residual.sum(0), 0)


def test_a_linear_world_is_recovered_on_classes_held_out():
    """Rows are a linear function of names: with enough classes, those never seen are classified as with true rows."""
    rng = np.random.default_rng(0)
    names, hidden = rng.normal(size=(60, 8)), rng.normal(size=(8, 20))
    rows = names @ hidden + 0.5
    seen, held = slice(0, 40), slice(40, 60)
    labels = np.arange(200) % 20
    centred = rows[held] - rows[held].mean(0)
    features = centred[labels] + 0.3 * rng.normal(size=(200, 20))
    predicted = fit_towers(names[seen], rows[seen], strength=1e-6)(names[held])
    assert np.allclose(predicted, rows[held], atol=1e-4)
    guesses = zero_shot(features, predicted).argmax(1)
    assert (guesses == zero_shot(features, rows[held]).argmax(1)).all()
    shuffled = fit_towers(names[seen], rows[seen][rng.permutation(40)], strength=1e-6)(names[held])
    assert (guesses == labels).mean() > 0.8 > 0.3 > (zero_shot(features, shuffled).argmax(1) == labels).mean()


def test_scores_are_products_with_vectors_of_length_one():
    features, vectors = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[3.0, 4.0], [0.0, -2.0]])
    assert np.allclose(zero_shot(features, vectors), [[2.2, -2.0], [1.0, 1.0]])
    assert np.allclose(zero_shot(features, vectors, normalise=False), features @ vectors.T)


@pytest.mark.parametrize(
    ("names", "rows", "strength", "words"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), 1.0, r"\(3, 2\) and class weights \(4, 2\)"),
        (np.zeros(3), np.zeros((3, 2)), 1.0, r"text vectors \(3,\)"),
        (np.zeros((1, 2)), np.zeros((1, 2)), 1.0, r"1 class\(es\)"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), 1.0, "not finite"),
        (np.zeros((3, 2)), np.full((3, 2), np.inf), 1.0, "not finite"),
        (np.zeros((3, 2)), np.zeros((3, 2)), 0.0, "strength=0.0"),
        (np.zeros((3, 2)), np.zeros((3, 2)), float("nan"), "strength=nan"),
    ],
)
def test_what_cannot_be_joined_is_refused(names, rows, strength, words):
    with pytest.raises(ValueError, match=words):
        fit_towers(names, rows, strength=strength)


def test_scores_of_what_does_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"features \(2, 3\) and class vectors \(2, 4\)"):
        zero_shot(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="the vector of class 1 is zero"):
        zero_shot(np.zeros((2, 2)), np.array([[1.0, 0.0], [0.0, 0.0]]))
