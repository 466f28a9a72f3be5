import math

import numpy as np
import pytest
import torch
from torch import nn

from tlcourse.backbones import attach_head
from tlcourse.evaluation import evaluate, metrics, predict_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")
BINARY = ([0, 0, 0, 1, 1], [0.1, 0.6, 0.4, 0.4, 0.9])  # labels, probability of class 1
CLOSED_FORMS = [  # score, its value on BINARY, worked out by hand
    ("accuracy", 3 / 5),  # the second and the fourth are wrong
    ("balanced_accuracy", (2 / 3 + 1 / 2) / 2),
    ("auc", (3 + 1.5) / 6),  # of 6 pairs: 0.9 wins 3; 0.4 wins 1, ties 1, loses 1
    ("log_loss", -(math.log(0.9) + math.log(0.4) + math.log(0.6) + math.log(0.4) + math.log(0.9)) / 5),
    # 15 bins: confidence 0.9 twice, both right; 0.6 three times, one right
    ("calibration_error", 2 / 5 * (1 - 0.9) + 3 / 5 * (0.6 - 1 / 3)),
]
CALIBRATION = [  # confidence in class 0, how many of them are right of how many, the error in closed form
    ([(0.95, 19, 20)], 0.0),
    ([(0.95, 10, 20)], 0.45),
    ([(0.75, 3, 4), (0.95, 0, 4)], 0.475),
    ([(1.0, 1, 2)], 0.5),  # the right edge falls in the last bin
]


def columns(p):
    p = torch.tensor(p, dtype=torch.float64)
    return torch.stack([1 - p, p], dim=1)


@pytest.mark.parametrize(("score", "value"), CLOSED_FORMS)
def test_scores_are_what_they_are_by_hand(score, value):
    labels, p = BINARY
    assert metrics(torch.tensor(labels), columns(p))[score] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("bins", "error"), CALIBRATION)
def test_calibration_error_has_its_closed_form(bins, error):
    labels = [0 if row < right else 1 for _, right, count in bins for row in range(count)]
    p = [1 - confidence for confidence, _, count in bins for _ in range(count)]
    assert metrics(torch.tensor(labels), columns(p))["calibration_error"] == pytest.approx(error, abs=1e-12)


def test_many_classes_agree_with_the_definitions():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(200) % 4)
    p = rng.dirichlet(np.ones(4), size=200)
    p[np.arange(200), labels] += 0.4
    p /= p.sum(axis=1, keepdims=True)
    scores = metrics(torch.from_numpy(labels), p)

    def area(positive, negative):
        return np.mean(positive[:, None] > negative) + np.mean(positive[:, None] == negative) / 2

    guess = p.argmax(axis=1)
    assert scores == {
        "accuracy": pytest.approx(np.mean(guess == labels)),
        "balanced_accuracy": pytest.approx(np.mean([np.mean(guess[labels == c] == c) for c in range(4)])),
        "auc": pytest.approx(np.mean([area(p[labels == c, c], p[labels != c, c]) for c in range(4)])),
        "log_loss": pytest.approx(-np.log(p[np.arange(200), labels]).mean()),
        "calibration_error": pytest.approx(
            sum(
                np.mean(inside) * abs(np.mean(guess[inside] == labels[inside]) - p.max(axis=1)[inside].mean())
                for b in range(15)
                if (inside := (p.max(axis=1) >= b / 15) & (p.max(axis=1) < (b + 1) / 15)).any()
            )
        ),
    }


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_probabilities_that_are_no_numbers_are_refused(bad):
    p = columns([0.1, 0.9])
    p[0, 0] = bad
    with pytest.raises(ValueError, match="1 predicted probabilities are not finite: training diverged"):
        metrics(torch.tensor([0, 1]), p)


@pytest.mark.parametrize(("labels", "absent"), [([0, 0], 1), ([1, 1], 0)])
def test_a_class_that_does_not_occur_is_named(labels, absent):
    with pytest.raises(ValueError, match=f"class {absent} of 2 does not occur in these 2 labels"):
        metrics(torch.tensor(labels), columns([0.4, 0.6]))


def test_probabilities_of_float32_are_taken_as_they_come(recwarn):
    """A softmax in float32 does not add up to one exactly; scikit-learn would warn of it."""
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0)) * 10
    metrics(torch.arange(64) % 10, logits.softmax(dim=1))
    assert not recwarn.list


def test_evaluate_measures_the_model_in_eval_mode_and_leaves_it_as_it_was(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task).train()
    model.backbone.stages["block1"].eval()
    modes = [part.training for part in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    noise = torch.get_rng_state()
    scores = evaluate(model, tiny_task.test)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(noise, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        expected = metrics(tiny_task.test.labels, model.eval()(tiny_task.test.inputs).softmax(1))
    assert scores == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_the_batch_size_changes_nothing(batch_size, minilm, lines):
    model = attach_head(minilm, lines)
    few = lines.test.inputs[0:9]
    whole = predict_probabilities(model, few, batch_size=9)
    assert torch.allclose(predict_probabilities(model, few, batch_size=batch_size), whole, atol=1e-5)


def test_prediction_may_start_behind_the_kept_stages(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    with torch.no_grad():
        state = model.backbone.run(model.backbone.preprocessing(tiny_task.val.inputs), stop=2)
    direct = predict_probabilities(model, tiny_task.val.inputs)
    assert torch.allclose(predict_probabilities(model, state, start=2), direct, atol=1e-6)
    assert torch.allclose(direct.sum(1), torch.ones(len(direct)))


def test_each_head_is_evaluated_by_name(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    alone = evaluate(model, tiny_task.test)
    model.heads["turned"] = nn.Linear(12, 2)
    with torch.no_grad():
        model.heads["turned"].weight.copy_(model.heads["bright"].weight.flip(0))
        model.heads["turned"].bias.copy_(model.heads["bright"].bias.flip(0))
    assert evaluate(model, tiny_task.test, head="bright") == alone
    assert evaluate(model, tiny_task.test, head="turned")["auc"] == pytest.approx(1 - alone["auc"])
    with pytest.raises(KeyError, match="name one with head="):
        evaluate(model, tiny_task.test)
