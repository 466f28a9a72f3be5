"""Planes of weights: coordinates and states are each other's inverse, and losses are those of the network there."""

import copy
import doctest

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tlcourse import weight_planes
from tlcourse.backbones import attach_head
from tlcourse.data import load_task
from tlcourse.grafts import digit_network
from tlcourse.weight_planes import losses_on_plane, weight_plane

PLACES = [(0.0, 0.0), (1.5, -2.0), (-0.25, 3.0)]


@pytest.fixture(scope="module")
def task():
    return load_task("digits", labels=20)


@pytest.fixture(scope="module")
def models(task):
    return [attach_head(digit_network(seed), task, seed=seed) for seed in range(3)]


@pytest.fixture(scope="module")
def plane(models):
    names = [name for name, _ in models[0].named_parameters()]
    return weight_plane(*(model.state_dict() for model in models), names=names)


def test_examples_in_docstrings():
    assert doctest.testmod(weight_planes).failed == 0


def test_the_three_states_lie_in_it(plane, models):
    corners = [plane.coordinates(model.state_dict()) for model in models]
    assert corners[0] == (0.0, 0.0)
    assert corners[1][0] > 0
    assert corners[1][1] == pytest.approx(0, abs=1e-6)
    assert corners[2][1] > 0
    for model, corner in zip(models, corners, strict=True):
        assert plane.outside(model.state_dict()) < 1e-6
        for name, value in plane.state(*corner).items():
            assert torch.allclose(value, model.state_dict()[name], atol=1e-6)


@pytest.mark.parametrize(("x", "y"), PLACES)
def test_a_place_has_its_coordinates(plane, x, y):
    assert plane.coordinates(plane.state(x, y)) == pytest.approx((x, y), abs=1e-5)


def test_distances_are_those_of_the_weights(plane, models):
    start, end = (torch.cat([p.flatten() for p in model.parameters()]) for model in (models[0], models[2]))
    assert np.hypot(*plane.coordinates(models[2].state_dict())) == pytest.approx((end - start).norm().item(), rel=1e-5)


def test_what_points_out_of_the_plane_is_told(plane, task):
    other = attach_head(digit_network(9), task, seed=9)
    assert plane.outside(other.state_dict()) > 0.1


def test_losses_are_those_of_the_network_at_the_place_and_it_is_left_alone(plane, models, task):
    model = copy.deepcopy(models[0]).train()
    before = copy.deepcopy(model.state_dict())
    x, y = plane.coordinates(models[1].state_dict())
    losses = losses_on_plane(model, plane, task.test, [0.0, x], [y, y + 1, y + 2])
    assert losses.shape == (3, 2)
    for column, there in enumerate(models[:2]):
        with torch.no_grad():
            expected = F.cross_entropy(there.eval()(task.test.inputs), task.test.labels).item()
        assert losses[0, column] == pytest.approx(expected, rel=1e-4)
    assert model.training
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_three_states_on_a_line_span_no_plane():
    states = [{"w": torch.tensor([float(n), 0.0])} for n in range(3)]
    with pytest.raises(ValueError, match="on one line"):
        weight_plane(*states, names=["w"])
    with pytest.raises(ValueError, match="the same weights"):
        weight_plane(states[0], states[0], states[1], names=["w"])
