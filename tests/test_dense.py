"""The fully connected network: its stages compose by hand, and nothing in it moves without a gradient."""

import doctest

import pytest
import torch

from tlcourse import dense
from tlcourse.backbones import attach_head
from tlcourse.data import load_task
from tlcourse.dense import dense_network
from tlcourse.evaluation import evaluate
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train


@pytest.fixture(scope="module")
def task():
    return load_task("digits", labels=100)


def test_examples_in_docstrings():
    assert doctest.testmod(dense).failed == 0


def test_it_is_two_matrices_with_relus(task):
    backbone = dense_network(3)
    weights = backbone.state_dict()
    x = ((task.train.inputs[:4, 0].float() / 255 - 0.13) / 0.31).flatten(1)
    for stage in ("hidden1", "hidden2"):
        x = (x @ weights[f"stages.{stage}.0.weight"].T + weights[f"stages.{stage}.0.bias"]).clamp(min=0)
    assert torch.allclose(backbone(task.train.inputs[:4]), x, atol=1e-5)


def test_the_seed_draws_it_and_leaves_the_global_state():
    state = torch.get_rng_state()
    first, again, other = (dense_network(seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["stages.hidden1.0.weight"], other["stages.hidden1.0.weight"])


def test_it_has_nothing_but_weights_and_learns(task):
    model = attach_head(dense_network(), task)
    assert not list(model.buffers())
    train(model, task, full_fine_tune(model, lr=3e-3), epochs=8, progress=False)
    assert evaluate(model, task.test)["accuracy"] > 0.6
