import warnings

import numpy as np
import pytest
import torch

from tlcourse.probes import STRENGTHS, fit_probe


def gaussians(n, *, seed, gap=1.0, dimensions=6, classes=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = gap * torch.eye(classes, dimensions)
    return torch.randn(n, dimensions, generator=generator) + centres[labels], labels


def penalised_loss(x, y, weights, bias, strength):
    """The objective of a logistic probe on standardised features, in its own words."""
    margins = (2 * y - 1) * (x @ weights + bias)
    return strength * np.logaddexp(0, -margins).sum() + 0.5 * weights @ weights


@pytest.mark.parametrize("strength", [1e-3, 1.0, 100.0])
def test_the_probe_is_at_the_minimum_of_its_objective(strength):
    from scipy.optimize import minimize

    x, y = gaussians(80, seed=0)
    probe = fit_probe(x, y, strengths=(strength,))
    standard = (x - x.mean(0)).numpy() / x.numpy().std(axis=0)
    found = minimize(
        lambda w: penalised_loss(standard, y.numpy(), w[:-1], w[-1], strength), np.zeros(7), options={"gtol": 1e-8}
    ).x
    expected = 1 / (1 + np.exp(-(standard @ found[:-1] + found[-1])))
    assert np.abs(probe.probabilities(x)[:, 1] - expected).max() < 5e-3


def test_features_are_standardised_on_the_training_samples_alone():
    x, y = gaussians(60, seed=1)
    scale, shift = torch.tensor([1e-3, 1, 10, 1e3, 1, 1]), torch.tensor([0, 5, 0, -1e3, 0, 0.0])
    elsewhere = gaussians(40, seed=2)
    plain = fit_probe(x, y, strengths=(0.1,))
    stretched = fit_probe(x * scale + shift, y, strengths=(0.1,))
    wanted = plain.probabilities(elsewhere[0])
    assert np.abs(stretched.probabilities(elsewhere[0] * scale + shift) - wanted).max() < 2e-3
    # What is seen of validation or predicted later moves neither mean nor spread.
    validated = fit_probe(x, y, validation=(elsewhere[0] + 100, elsewhere[1]), strengths=(0.1,))
    assert np.array_equal(validated.probabilities(elsewhere[0]), wanted)
    assert np.allclose(plain.probabilities(elsewhere[0][:1]), wanted[:1])


@pytest.mark.parametrize(("gap", "dimensions", "few"), [(0.0, 40, 30), (6.0, 6, 200)])
def test_the_strength_is_the_best_on_validation(gap, dimensions, few):
    x, y = gaussians(few, seed=3, gap=gap, dimensions=dimensions)
    validation = gaussians(400, seed=4, gap=gap, dimensions=dimensions)
    losses = {}
    for strength in STRENGTHS:
        p = fit_probe(x, y, strengths=(strength,)).probabilities(validation[0])
        losses[strength] = -np.log(p[np.arange(400), validation[1].numpy()]).mean()
    best = min(losses, key=losses.get)
    chosen = fit_probe(x, y, validation=validation)
    assert best == chosen.C
    assert (best == min(STRENGTHS)) is (gap == 0)  # pure noise calls for the strongest penalty


def test_it_converges_where_classes_are_hard_to_separate():
    x, y = gaussians(300, seed=5, gap=0.2, dimensions=200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_probe(x * torch.logspace(-4, 4, 200), y, strengths=(1.0, 100.0), validation=(x, y))


def test_many_classes_give_a_probability_each():
    x, y = gaussians(90, seed=6, gap=4.0, classes=5)
    p = fit_probe(x, y, strengths=(1.0,)).probabilities(x)
    assert p.shape == (90, 5)
    assert np.allclose(p.sum(axis=1), 1)
    assert (p.argmax(axis=1) == y.numpy()).mean() > 0.8


def test_a_constant_feature_does_no_harm():
    x, y = gaussians(60, seed=7)
    x[:, 5] = 3.0
    assert np.isfinite(fit_probe(x, y, strengths=(1.0,)).probabilities(x)).all()


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="all 4 training labels are of one class"):
        fit_probe(torch.randn(4, 2), torch.ones(4).long(), strengths=(1.0,))


def test_a_choice_without_validation_is_refused():
    x, y = gaussians(10, seed=8)
    with pytest.raises(ValueError, match=r"strengths=\(0.1, 1.0\): give validation="):
        fit_probe(x, y, strengths=(0.1, 1.0))
