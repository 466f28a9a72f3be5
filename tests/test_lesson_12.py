"""Lesson 12: what its experiment runs, what was declared, and the lesson's own functions."""

import copy
import math
import re

import pytest
import torch
from torch import nn

from tests.lesson_functions import LESSONS, cut_out
from tlcourse.adapters import lora_layers
from tlcourse.experiments import languages
from tlcourse.experiments.languages import (
    LORA_LR,
    LR,
    SMALL_LR,
    VOCABULARY,
    fine_tuning_plan,
    learn_old,
    old_and_new,
    run_language,
    small_gpt2,
)
from tlcourse.experiments.lesson12 import LANGUAGE_RANKS, RANKS
from tlcourse.masked import Masked
from tlcourse.plans import apply_plan, parameter_groups
from tlcourse.results import load_results

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = {"embeddings", "layer1", "layer2", "norm", "head"}
PLANS = [  # method, rank, the rate, stages that move, how many numbers
    ("full", None, LR, STAGES, 287_616),
    ("replay", None, LR, STAGES, 287_616),
    ("small rate", None, SMALL_LR, STAGES, 287_616),
    ("head", None, LR, {"head"}, 96 * 300),
    ("LoRA", 1, LORA_LR, {"layer1", "layer2"}, 2 * 1536),
    ("LoRA", 4, LORA_LR, {"layer1", "layer2"}, 2 * 4 * 1536),
]


@pytest.fixture
def few(monkeypatch):
    for name, value in {"OLD_ARTICLES": 6, "NEW_ARTICLES": 3, "TEST_ARTICLES": 2, "OLD_EPOCHS": 1}.items():
        monkeypatch.setattr(languages, name, value)
    for made in (old_and_new, learn_old):
        made.cache_clear()
    yield
    for made in (old_and_new, learn_old):
        made.cache_clear()


@pytest.mark.parametrize(("method", "rank", "lr", "stages", "count"), PLANS)
def test_what_moves_and_how_fast(method, rank, lr, stages, count):
    model = small_gpt2(seed=0)
    plan = fine_tuning_plan(model, method, rank)
    apply_plan(model, plan)
    groups = parameter_groups(model, plan)
    assert {group["lr"] for group in groups} == {lr}
    assert {group["weight_decay"] for group in groups} == {0.0}
    assert {group["stage"] for group in groups} == stages
    assert sum(value.numel() for group in groups for value in group["params"]) == count
    assert {layer.scaling["default"] for layer in lora_layers(model)} == ({2.0} if rank else set())
    assert len(lora_layers(model)) == (8 if rank else 0)


def test_the_network_is_drawn_from_its_seed_and_nothing_else():
    state = torch.get_rng_state()
    one, same, other = (small_gpt2(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not torch.equal(pairs[0][0], pairs[0][2])
    assert not torch.equal(pairs[-1][0], pairs[-1][2])  # the head too


def test_old_and_new_share_no_text_and_the_tokenizer_has_read_the_old(few):
    reading = old_and_new(3)
    assert len(reading.tokenizer) == VOCABULARY
    texts = []
    for rows in (reading.old, reading.old_test, reading.new, reading.new_test):
        texts.append({tuple(values[mask].tolist()) for values, mask in zip(rows.values, rows.mask, strict=True)})
        assert rows.values.max() < VOCABULARY and rows.values.shape[1] == languages.LENGTH
    for number, one in enumerate(texts):
        assert not any(one & other for other in texts[:number])


@pytest.mark.slow
def test_every_setting_runs_from_the_same_start_and_the_seed_decides_it(few):
    found = {method: run_language(method, 2 if method == "LoRA" else None, seed=3) for method in languages.METHODS}
    for scores in found.values():
        assert set(scores) == {"trigram", "old_before", "new_before", "old", "new", "moving", "seconds"}
        for metric in ("trigram", "old_before", "new_before"):
            assert scores[metric] == found["full"][metric]
        assert scores["old"] != scores["old_before"] and scores["new"] < scores["new_before"]
    assert len({scores["new"] for scores in found.values()}) == len(found)
    again = run_language("LoRA", 2, seed=3)
    assert {**again, "seconds": 0} == {**found["LoRA"], "seconds": 0}
    assert run_language("full", seed=4)["trigram"] != found["full"]["trigram"]


def test_the_declared_points():
    assert len(LANGUAGE_RANKS.settings) == 4 + len(RANKS) and len(LANGUAGE_RANKS.seeds) >= 5
    assert {setting["method"] for setting in LANGUAGE_RANKS.settings} == set(languages.METHODS)
    assert 100 not in LANGUAGE_RANKS.seeds  # the pilot's


@pytest.mark.slow
def test_the_drawn_point_agrees():
    load_results(LANGUAGE_RANKS).rerun()


def low_rank():
    (path,) = LESSONS.glob("12_*.py")
    space = {"nn": nn, "torch": torch, "math": math}
    exec(re.search(r"(?m)^class LowRank\(.*?(?=^\S)", path.read_text(encoding="utf-8"), re.DOTALL).group(), space)
    return space["LowRank"]


def test_lora_by_hand_is_a_product_of_two_thin_matrices():
    base = nn.Linear(5, 7)
    weight, bias = base.weight.detach().clone(), base.bias.detach().clone()
    layer, x = low_rank()(base, rank=2, alpha=6), torch.randn(3, 5)
    assert torch.equal(layer(x), base(x))
    assert {name for name, value in layer.named_parameters() if value.requires_grad} == {"A", "B"}
    layer.B.data.normal_()
    wanted = x @ (weight + 3 * layer.B @ layer.A).T + bias
    assert torch.allclose(layer(x), wanted, atol=1e-5)


def test_by_hand_replaces_the_targets_alone():
    model = nn.ModuleDict({"query": nn.Linear(4, 4), "key": nn.Linear(4, 4)})
    wrapped = nn.Module()
    wrapped.backbone = nn.ModuleDict({"layer": model})
    by_hand = cut_out("12", "by_hand", copy=copy, TARGETS=("query", "value"), LowRank=low_rank())
    changed, made = by_hand(wrapped, 1, 2)
    assert len(made) == 1 and made[0] is changed.backbone["layer"]["query"]
    assert type(changed.backbone["layer"]["key"]) is type(wrapped.backbone["layer"]["query"]) is nn.Linear


def test_writing_appends_what_the_model_says_and_shows_it_no_more_than_it_can_read():
    class Tokens:
        def __call__(self, text):
            return {"input_ids": [int(sign) for sign in text]}

        def decode(self, ids):
            return "".join(map(str, ids))

    seen = []

    def model(tokens):
        seen.append(tokens.values.shape[1])
        return nn.functional.one_hot((tokens.values + 1) % 10, 10) * 100.0

    write = cut_out("12", "write", torch=torch, Masked=Masked, LENGTH=4)
    assert write(model, Tokens(), "78", count=5) == "7890123"
    assert seen == [2, 3, 4, 4, 4]
