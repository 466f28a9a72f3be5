"""Lesson 06: pooling and counting by hand, facts that the prose states, the strategies of its experiment."""

import pytest
import torch

from tests.lesson_functions import cut_out
from tlcourse.backbones import attach_head
from tlcourse.data import make_task
from tlcourse.experiments.lesson06 import NEWS, RATES, USUAL_RATE
from tlcourse.experiments.texts import EPOCHS, HEAD_LR, MAX_LENGTH, text_schedule
from tlcourse.masked import Masked
from tlcourse.plans import describe_plan
from tlcourse.text_stages import POOLINGS, Pool
from tlcourse.zoo import load_backbone

# Strategy, rate: how many plans, epochs in all at 100 labels, the stages that the last plan moves.
LAYERS = [f"layer{number}" for number in range(1, 7)]
EVERYTHING = {"embeddings", *LAYERS, "head"}
SCHEDULES = [
    ("feature extraction", None, 1, 8, {"head"}),
    ("last stages", 5e-5, 1, 8, {"layer5", "layer6", "head"}),
    ("full fine-tuning", 5e-5, 1, 8, EVERYTHING),
    ("discriminative", None, 1, 8, EVERYTHING),
    ("gradual unfreezing", None, 8, 8, EVERYTHING),
]


@pytest.fixture(scope="module")
def model():
    tokens = Masked(torch.ones(10, 4, dtype=torch.int64), torch.ones(10, 4, dtype=torch.bool))
    task = make_task("lines", tokens, torch.arange(10) % 2, class_names=("a", "b"), preprocessing_name="minilm")
    return attach_head(load_backbone("minilm", pretrained=False), task)


@pytest.mark.parametrize(("strategy", "lr", "plans", "epochs", "moving"), SCHEDULES)
def test_a_strategy_moves_what_its_name_says(strategy, lr, plans, epochs, moving, model):
    schedule = text_schedule(model, strategy, lr, EPOCHS[100])
    assert (len(schedule), sum(length for _, length in schedule)) == (plans, epochs)
    rows = {row["stage"]: row for row in describe_plan(model, schedule[-1][0])}
    assert {stage for stage, row in rows.items() if row["trainable"]} == moving
    assert rows["head"]["lr"] == [HEAD_LR]
    if lr is not None:
        assert {rate for stage in moving - {"head"} for rate in rows[stage]["lr"]} == {lr}


def test_an_unknown_strategy_is_refused(model):
    with pytest.raises(KeyError, match="thawing"):
        text_schedule(model, "thawing", 1e-3, 1)


def test_the_experiment_has_the_points_that_the_lesson_reads():
    full = [setting for setting in NEWS.settings if setting["strategy"] == "full fine-tuning"]
    assert {setting["labels"] for setting in full if setting["lr"] == USUAL_RATE} == set(EPOCHS)
    assert {setting["lr"] for setting in full if setting["labels"] == 100} == set(RATES)
    assert (MAX_LENGTH, NEWS.seeds) == (32, tuple(range(10)))


def test_the_three_poolings_by_hand_are_the_library_s():
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    state = Masked(hidden, torch.arange(5) < torch.tensor([2, 5, 1])[:, None])
    three_poolings = cut_out("06", "three_poolings", Masked=Masked, torch=torch)
    assert torch.allclose(three_poolings(state), torch.cat([Pool(name)(state) for name in POOLINGS], dim=1))
    assert three_poolings(hidden[:, 0]) is not None


def test_tokens_are_counted_with_their_padding():
    from tlcourse.batching import bucketed_order

    lengths = torch.tensor([3] * 16 + [9] * 16)
    space = {"torch": torch, "lengths": {0: lengths}, "bucketed_order": bucketed_order}
    counted = cut_out("06", "processed", **space)(0)
    assert counted["bucketed"] == counted["real"] == 16 * 3 + 16 * 9
    assert counted["random"] == 32 * 9


def test_half_of_the_encoder_is_its_vocabulary(model):
    sizes = {name: sum(p.numel() for p in stage.parameters()) for name, stage in model.backbone.stages.items()}
    assert 0.45 < sizes["embeddings"] / sum(sizes.values()) < 0.6
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in model.modules())
