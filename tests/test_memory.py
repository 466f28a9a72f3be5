"""The memory of training, against counts by hand on networks of two or three layers."""

import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, Model, attach_head
from tlcourse.masked import Masked
from tlcourse.memory import training_memory
from tlcourse.plans import Plan, Rule, apply_plan
from tlcourse.strategies import feature_extraction, full_fine_tune, lora

pytestmark = pytest.mark.usefixtures("one_thread")
NUMBER = 4  # bytes of a float32

# All take images of 3 x 2 x 2, 12 numbers, and the head makes 2 of 8 features.
LINEAR = {"flat": nn.Flatten, "layer": lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU())}
SMOOTH = {"flat": nn.Flatten, "layer": lambda: nn.Sequential(nn.Linear(12, 8), nn.GELU())}
CONV = {"conv": lambda: nn.Sequential(nn.Conv2d(3, 8, 2), nn.ReLU()), "flat": nn.Flatten}
TWO = {"flat": nn.Flatten, "first": lambda: nn.Linear(12, 10), "second": lambda: nn.Linear(10, 8)}
STRANGE = {"flat": nn.Flatten, "layer": lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5))}
ONLY = {name: Plan(name, (Rule(name, 0.1), Rule("*", 0.0))) for name in ("layer", "first", "second")}
LAYER, CONVOLUTION, HEAD = 12 * 8 + 8, 3 * 8 * 4 + 8, 8 * 2 + 2

CASES = {  # stages, plan, parameters, how many of them move, numbers kept a sample
    "all of a linear layer": (LINEAR, full_fine_tune, LAYER + HEAD, LAYER + HEAD, 12 + 8),  # the input, ReLU's output
    "GELU keeps its input too": (SMOOTH, full_fine_tune, LAYER + HEAD, LAYER + HEAD, 12 + 8 + 8),
    "the head alone": (LINEAR, feature_extraction, LAYER + HEAD, HEAD, 8),
    "a layer under a frozen head": (LINEAR, lambda _: ONLY["layer"], LAYER + HEAD, LAYER, 12 + 8),
    "a convolution": (CONV, full_fine_tune, CONVOLUTION + HEAD, CONVOLUTION + HEAD, 12 + 8),
    "a frozen convolution": (CONV, feature_extraction, CONVOLUTION + HEAD, HEAD, 8),
    "a frozen prefix": (TWO, lambda _: ONLY["second"], 130 + 88 + HEAD, 88, 10),
    "the first of three": (TWO, lambda _: ONLY["first"], 130 + 88 + HEAD, 130, 12),  # frozen weights need no input
    "LoRA": (LINEAR, lambda model: lora(model, rank=3), LAYER + HEAD + 60, HEAD + 60, 12 + 3 + 8),  # x, A x, ReLU
    "dropout keeps its mask, which is of floats": (STRANGE, full_fine_tune, LAYER + HEAD, LAYER + HEAD, 12 + 8 + 8 + 8),
    "a frozen stage drops nothing": (STRANGE, feature_extraction, LAYER + HEAD, HEAD, 8),
}
BAD = [  # batch size, example, words
    (0, torch.zeros(1, 3, 2, 2), "batch_size=0"),
    (2.5, torch.zeros(1, 3, 2, 2), "batch_size=2.5"),
    (4, torch.zeros(0, 3, 2, 2), "no example"),
]


def model_of(stages):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = {name: make() for name, make in stages.items()}
    half = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    model = Model(Backbone("tiny", built, feature_dim=8, preprocessing=half, pretrained=False))
    model.add_head("pairs", 2)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_bytes_are_those_counted_by_hand(name, batch_size):
    stages, make, parameters, moving, kept = CASES[name]
    model = model_of(stages)
    memory = training_memory(model, make(model), torch.ones(2, 3, 2, 2), batch_size=batch_size)
    assert memory.weights == parameters * NUMBER
    assert memory.gradients == moving * NUMBER
    assert memory.optimiser == 2 * moving * NUMBER
    assert memory.activations == batch_size * kept * NUMBER
    assert memory.total == (parameters + 3 * moving + batch_size * kept) * NUMBER


def test_the_gradients_and_moments_are_those_of_a_real_step(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    plan = Plan("two stages", (Rule("head", 0.1), Rule("block10", 0.1), Rule("*", 0.0)))
    memory = training_memory(model, plan, tiny_task.train.inputs[:1], batch_size=8)
    apply_plan(model, plan)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(moving)
    model.train()(tiny_task.train.inputs[:8]).sum().backward()
    optimizer.step()
    assert memory.gradients == sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.requires_grad)
    assert memory.optimiser == sum(
        state[key].nbytes for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")
    )
    assert memory.weights == sum(value.nbytes for value in model.state_dict().values())


def test_the_model_and_the_random_state_stay_as_they_were():
    model = model_of(STRANGE)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    training_memory(model, lora(model, rank=2), torch.ones(1, 3, 2, 2), batch_size=4)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert (model.frozen_stages, model.prepared, model.training) == (frozenset(), frozenset(), False)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_measured_where_gradients_are_off_too():
    model = model_of(LINEAR)
    with torch.no_grad():
        memory = training_memory(model, full_fine_tune(model), torch.ones(1, 3, 2, 2), batch_size=1)
    assert memory.activations == (12 + 8) * NUMBER


def test_texts_are_repeated_to_fill_the_batch(minilm, lines):
    model = attach_head(minilm, lines)
    one: Masked = lines.train.inputs[:1]
    memory = training_memory(model, feature_extraction(model), one, batch_size=6)
    assert memory.activations == 6 * 384 * NUMBER


def test_all_examples_take_part(minilm, lines):
    model = attach_head(minilm, lines)
    lengths = lines.train.inputs.mask.sum(dim=1)
    both = lines.train.inputs[torch.stack([lengths.argmin(), lengths.argmax()])]
    plan = full_fine_tune(model)
    short, longest = (training_memory(model, plan, part, batch_size=2).activations for part in (both[:1], both))
    assert longest > 1.5 * short


@pytest.mark.parametrize(("batch_size", "example", "words"), BAD)
def test_refuses(batch_size, example, words):
    model = model_of(LINEAR)
    with pytest.raises(ValueError, match=words):
        training_memory(model, feature_extraction(model), example, batch_size=batch_size)


def test_a_model_without_a_head_is_refused():
    model = model_of(LINEAR)
    plan = full_fine_tune(model)
    model.heads.clear()
    with pytest.raises(ValueError, match="no head; attach_head"):
        training_memory(model, plan, torch.ones(1, 3, 2, 2), batch_size=1)
