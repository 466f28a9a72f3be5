import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import per_sample
from tlcourse.backbones import Backbone, Model, attach_head
from tlcourse.fisher import fisher_diagonal, fisher_with_error
from tlcourse.plans import apply_plan
from tlcourse.strategies import last_stages

pytestmark = pytest.mark.usefixtures("one_thread")
REFUSED = [  # options, words
    ({"kind": "true"}, "kind='true': it is one of exact, sampled"),
    ({"kind": "empirical"}, "give targets="),
    ({"kind": "exact", "targets": torch.zeros(11, dtype=torch.long)}, "the data's are 'empirical'"),
    (
        {"kind": "empirical", "targets": torch.zeros(10, dtype=torch.long)},
        r"targets are \(10,\): one label for each of",
    ),
    ({"kind": "empirical", "targets": torch.full((11,), 4)}, "targets hold 4 to 4: the model has classes 0 to 3"),
    ({"kind": "empirical", "targets": torch.full((11,), -1)}, "targets hold -1 to -1"),
    ({"kind": "sampled", "samples": 0}, "samples=0: at least 1"),
    ({"kind": "exact", "samples": 2}, "samples=2 with kind='exact'"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"head": "solar"}, "head='solar': a Linear has no heads"),
]
KINDS = [  # options that give the same at any batch size
    {"kind": "exact"},
    {"kind": "sampled", "samples": 3, "seed": 4},
    {"kind": "empirical", "targets": torch.arange(17) % 2},
]


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


@pytest.mark.parametrize("options", KINDS)
def test_the_batch_size_changes_nothing(options, tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    inputs = tiny_task.train.inputs[:17]
    expected, error = fisher_with_error(model, inputs, batch_size=17, **options)
    for batch_size in (1, 7):
        same(fisher_diagonal(model, inputs, batch_size=batch_size, **options), expected)
        mean, other = fisher_with_error(model, inputs, batch_size=batch_size, **options)
        same(mean, expected)
        same(other, error, rtol=1e-3)


@pytest.mark.parametrize("options", KINDS[:2])
def test_data_given_twice_give_the_same(options, tiny_backbone, tiny_task):
    """Sampled: with the standard error of three draws."""
    model = attach_head(tiny_backbone, tiny_task)
    inputs = tiny_task.train.inputs
    once = fisher_diagonal(model, inputs, **options)
    twice = fisher_diagonal(model, torch.cat([inputs, inputs]), **options)
    same(twice, once, rtol=1e-4 if options["kind"] == "exact" else 0.5)


def test_empirical_takes_the_labels_of_the_data():
    model, x = softmax_regression()
    targets = torch.arange(len(x)) % 4
    away = F.one_hot(targets, 4) - model(x).softmax(1).detach()
    found = fisher_diagonal(model, x, kind="empirical", targets=targets, batch_size=4)
    assert torch.allclose(found["weight"], away.square().T @ x.square() / len(x))


def test_batched_is_the_square_of_the_mean_and_too_small_by_the_batch_size():
    model, x = softmax_regression()
    targets = torch.arange(len(x)) % 4
    found = fisher_diagonal(model, x, kind="batched", targets=targets, batch_size=4)
    expected = torch.zeros_like(model.weight)
    for rows in torch.arange(11).split(4):  # the last one is short, and counts for less
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x[rows]), targets[rows]), model.weight)
        expected += gradient.square() * len(rows) / 11
    assert torch.allclose(found["weight"], expected)
    # Under the model's own labels the mean gradient is 0, so that only the variance is left, a batch-th of F.
    many = draw(20_000, 3, seed=1).double()
    ratio = (
        fisher_diagonal(model, many)["weight"] / fisher_diagonal(model, many, kind="batched", batch_size=10)["weight"]
    )
    assert torch.allclose(ratio, torch.full_like(ratio, 10), rtol=0.2)  # 2,000 batches: some 3 % each
    alone = fisher_diagonal(model, x, kind="batched", batch_size=1, seed=2)
    same(alone, fisher_diagonal(model, x, kind="sampled", seed=2))


def test_sampled_comes_to_exact_within_its_standard_error():
    """One input many times: the labels are all that is random, and distances in errors are standard normal."""
    model, x = softmax_regression()
    exact = fisher_diagonal(model, x[:1])["weight"]
    distances = []
    for seed in range(40):
        mean, error = fisher_with_error(model, x[:1].expand(200, -1), kind="sampled", samples=2, seed=seed)
        distances.append((mean["weight"] - exact) / error["weight"])
    # A row of the weight moves as one, so that there are 40 x 4 distances, which within a seed are related.
    distances = torch.stack(distances)[..., 0]
    assert distances.mean().abs() < 0.35
    assert 0.8 < distances.square().mean().sqrt() < 1.25


def test_more_samples_come_closer():
    model, x = softmax_regression()
    exact = fisher_diagonal(model, x)["weight"]
    away = [(fisher_diagonal(model, x, kind="sampled", samples=s)["weight"] - exact).norm() for s in (1, 30, 1000)]
    assert away[0] > 2 * away[1] > 4 * away[2]


def test_the_standard_error_is_that_of_the_mean_over_inputs():
    model, x = softmax_regression()
    p = model(x).softmax(1).detach()
    each = (p * (1 - p)).unsqueeze(2) * x.square().unsqueeze(1)
    mean, error = fisher_with_error(model, x, kind="exact", batch_size=4)
    assert torch.allclose(mean["weight"], each.mean(0))
    assert torch.allclose(error["weight"], each.std(0) / len(x) ** 0.5)


def test_nothing_changes(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.add_head("other", 2)
    model.train()
    model.backbone.stages["block1"].eval()
    model.backbone.stages["stem"].requires_grad_(False)
    model.heads["bright"].weight.grad = torch.ones_like(model.heads["bright"].weight)
    before = copy.deepcopy(model.state_dict())
    kept = [(value.grad, value.requires_grad, value) for value in model.parameters()]
    modes, state = [part.training for part in model.modules()], torch.get_rng_state()
    targets = tiny_task.train.labels
    for options in [{}, {"kind": "sampled"}, {"kind": "empirical", "targets": targets}, {"kind": "batched"}]:
        fisher_diagonal(model, tiny_task.train.inputs, head="bright", **options)
    fisher_with_error(model, tiny_task.train.inputs, head="bright")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for (grad, requires, value), now in zip(kept, model.parameters(), strict=True):
        assert value is now
        assert now.grad is grad
        assert now.requires_grad is requires
    assert model.heads["bright"].weight.grad.unique().tolist() == [1]
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_of_eval_mode_and_own_draws_whatever_the_mode_and_state(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    inputs = tiny_task.train.inputs[:20]
    expected = fisher_diagonal(model, inputs, kind="sampled", seed=3)
    torch.manual_seed(9)
    found = fisher_diagonal(model.train(), inputs, kind="sampled", seed=3)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    other = fisher_diagonal(model, inputs, kind="sampled", seed=4)
    assert not torch.equal(other["heads.bright.bias"], expected["heads.bright.bias"])


def test_frozen_stages_run_once_and_without_gradients(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    apply_plan(model, last_stages(model, 2))
    seen = []
    stem = model.backbone.stages["stem"]
    stem.register_forward_hook(lambda *call: seen.append((torch.is_grad_enabled(), len(call[2]))))
    inputs = tiny_task.train.inputs[:20]
    found = fisher_diagonal(model, inputs, batch_size=8)
    assert seen == [(False, 8), (False, 8), (False, 4)]
    same(found, by_definition(model, inputs, moving(model)))
    assert {name.split(".")[2] for name in found if "heads" not in name} == {"block1", "block10"}


def test_a_frozen_tensor_in_a_moving_stage_is_out(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.backbone.stages["block1"][0].weight.requires_grad_(False)
    found = fisher_diagonal(model, tiny_task.train.inputs[:8])
    assert "backbone.stages.block1.0.weight" not in found
    same(found, by_definition(model, tiny_task.train.inputs[:8], moving(model)))


def test_tied_tensors_come_once():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    x = draw(9, 4)
    found = fisher_diagonal(model, x)
    assert list(found) == ["0.weight", "0.bias", "2.bias"]
    same(found, by_definition(model, x, moving(model)))


def test_positions_are_summed_before_the_square():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3))
    x = draw(6, 5, 3)
    same(fisher_diagonal(model, x), by_definition(model, x, moving(model)))


def test_positions_that_cannot_be_spread_over_the_samples():
    """With a copy a sample, the sum over the first axis would count each of them, and the logits be others."""

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions, self.head = nn.Embedding(5, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(x.unsqueeze(1) * self.positions(torch.arange(5).unsqueeze(0)).sum(0)).tanh().sum(1)

    torch.manual_seed(0)
    model, x = Summed(), draw(7, 6)
    same(fisher_diagonal(model, x, batch_size=4), by_definition(model, x, moving(model)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_it_is_float32_at_least(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).to(dtype)
    x = draw(9, 3).to(dtype)
    expected = fisher_diagonal(copy.deepcopy(model).double(), x.double())
    found = fisher_diagonal(model, x)
    assert {value.dtype for value in found.values()} == {torch.promote_types(dtype, torch.float32)}
    for name, value in expected.items():
        assert torch.allclose(found[name].double(), value, rtol=0.1 if dtype == torch.bfloat16 else 1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["exact", "batched"])
def test_autocast_around_it_changes_nothing(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = draw(9, 3)
    expected = fisher_diagonal(model, x, kind=kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fisher_diagonal(model, x, kind=kind)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_many_labels_and_certain_answers():
    """Twelve labels, of which some have probabilities that float32 rounds to 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 12))
    model[2].weight.data *= 60
    x = draw(15, 3)
    assert model(x).softmax(1).min() < 1e-30
    same(fisher_diagonal(model, x), by_definition(model, x, moving(model)), rtol=1e-3)


def test_backward_passes_are_fewer_than_labels(monkeypatch):
    model, x = softmax_regression()
    passes, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **options: passes.append(1) or grad(*args, **options))
    fisher_diagonal(model, x)
    one = len(passes)
    fisher_diagonal(model, x, batch_size=6)
    assert len(passes) - one == one + 3  # two batches for one: three passes for four labels


def test_texts_of_several_lengths(minilm, lines, monkeypatch):
    """The encoder cut to two layers; there is a rule for everything in it."""
    monkeypatch.delattr(per_sample, "_by_samples")
    stages = {name: minilm.stages[name] for name in ("embeddings", "layer1", "layer2", "pool")}
    cut = Backbone("cut", stages, feature_dim=384, preprocessing=minilm.preprocessing, pretrained=True)
    model = Model(copy.deepcopy(cut))
    model.add_head("lines", 2)
    inputs = lines.train.inputs[:4]
    found = fisher_diagonal(model, inputs, batch_size=3)
    expected = by_definition(model, inputs, moving(model))
    same(found, expected, rtol=1e-3)
    used = inputs.values[inputs.mask].unique()
    rows = found["backbone.stages.embeddings.embeddings.word_embeddings.weight"].sum(1).nonzero().flatten()
    assert rows.tolist() == used.tolist()


def test_a_published_convolutional_network(lite0, monkeypatch):
    """Three stages of it, with padding in the convolutions and activations in the norms: rules for everything."""
    monkeypatch.delattr(per_sample, "_by_samples")
    stages = {name: lite0.stages[name] for name in ("stem", "block1", "block2")}
    stages["neck"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = Model(
        copy.deepcopy(Backbone("cut", stages, feature_dim=24, preprocessing=lite0.preprocessing, pretrained=True))
    )
    model.add_head("two", 2)
    inputs = torch.randint(256, (5, 1, 20, 20), dtype=torch.uint8)
    same(fisher_diagonal(model, inputs, batch_size=3), by_definition(model, inputs, moving(model)))


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_bad_input_is_named(options, words):
    model, x = softmax_regression()
    with pytest.raises(ValueError, match=words):
        fisher_diagonal(model, x, **options)


def test_what_cannot_be_measured_is_named(tiny_backbone, tiny_task):
    model, x = softmax_regression()
    with pytest.raises(ValueError, match="there are no inputs"):
        fisher_diagonal(model, x[:0])
    with pytest.raises(ValueError, match="two inputs"):
        fisher_with_error(model, x[:1])
    with pytest.raises(ValueError, match="kind='batched'"):
        fisher_with_error(model, x, kind="batched")
    with pytest.raises(ValueError, match=r"the model gives \(11, 1\)"):
        fisher_diagonal(nn.Linear(3, 1).double(), x)
    with pytest.raises(ValueError, match="finite"):
        fisher_diagonal(model, x * torch.inf)
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        fisher_diagonal(model.requires_grad_(False), x)
    model = attach_head(tiny_backbone, tiny_task)
    with pytest.raises(KeyError, match="the heads \\['bright'\\]; 'solar' was asked for"):
        fisher_diagonal(model, tiny_task.train.inputs, head="solar")
