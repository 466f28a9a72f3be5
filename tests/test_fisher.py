import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.backbones import attach_head
from tlcourse.fisher import fisher_diagonal

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def softmax_regression(classes=4):
    torch.manual_seed(0)
    return nn.Linear(3, classes).double(), draw(11, 3).double()


def by_definition(model, inputs, parameters, forward=None):
    """One sample and one label at a time, in the words of the definition."""
    forward = forward or model
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for row in range(len(inputs)):
        log_p = forward(inputs[row : row + 1]).log_softmax(1)[0]
        for value in log_p:
            gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    total[name] += value.detach().exp() * gradient.square() / len(inputs)
    return total


def same(found, expected, rtol=1e-4, atol=1e-8):
    assert list(found) == list(expected)
    for name, value in expected.items():
        scale = float(value.abs().max())
        assert torch.allclose(found[name], value, rtol=rtol, atol=atol + 1e-5 * scale), name


def moving(model):
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def test_softmax_regression_has_a_closed_form():
    """F of weight (k, i) is the mean of p_k (1 - p_k) x_i^2."""
    model, x = softmax_regression()
    p = model(x).softmax(1).detach()
    found = fisher_diagonal(model, x)
    assert torch.allclose(found["weight"], (p * (1 - p)).T @ x.square() / len(x), rtol=1e-12)
    assert torch.allclose(found["bias"], (p * (1 - p)).mean(0), rtol=1e-12)


def test_for_softmax_regression_it_is_the_diagonal_of_the_hessian():
    model, x = softmax_regression()
    labels = torch.arange(len(x)) % 4

    def loss(weight):
        return F.cross_entropy(F.linear(x, weight.view_as(model.weight), model.bias), labels)

    hessian = torch.autograd.functional.hessian(loss, model.weight.detach().flatten())
    assert torch.allclose(fisher_diagonal(model, x)["weight"].flatten(), hessian.diagonal(), rtol=1e-10)


def test_a_model_with_two_heads(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.add_head("other", 3)
    inputs = tiny_task.train.inputs[:7]
    for head in ("bright", "other"):
        own = {name: value for name, value in moving(model).items() if "heads" not in name or f"heads.{head}" in name}
        same(
            fisher_diagonal(model, inputs, head=head, batch_size=3),
            by_definition(model, inputs, own, lambda x, head=head: model(x, head=head)),
        )
