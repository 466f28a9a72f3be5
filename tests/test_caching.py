import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import caching
from tlcourse import run as behind_the_loop
from tlcourse.backbones import attach_head
from tlcourse.caching import cached_prefix, evaluating, extract_features, frozen_depth
from tlcourse.data import load_task, make_task, random_flips
from tlcourse.masked import Masked
from tlcourse.plans import Plan, Rule
from tlcourse.strategies import (
    bias_only,
    discriminative,
    feature_extraction,
    full_fine_tune,
    gradual_unfreezing,
    last_stages,
    layerwise_decay,
    lora,
    lp_ft,
    norm_only,
)
from tlcourse.training import train

pytestmark = pytest.mark.usefixtures("one_thread")
DEPTHS = [  # plan, how many of stem, block1, block10 and neck never change
    (feature_extraction, 4),
    (lambda model: last_stages(model, 1), 2),
    (lambda model: last_stages(model, 2), 1),
    (lambda model: last_stages(model, 3), 0),
    (discriminative, 0),
    (full_fine_tune, 0),
    (lambda model: Plan("middle", (Rule("block1", 1e-3), Rule("*", 0.0))), 1),
    (lambda model: Plan("first", (Rule("stem", 1e-3), Rule("*", 0.0))), 0),
    (lambda model: Plan("one tensor", (Rule("block10/1.bias", 1e-3), Rule("*", 0.0))), 2),
]
EQUAL_RUNS = [  # data, plan, how many stages are kept; high rates amplify any difference in rounding
    ("cells", lambda model: feature_extraction(model, lr=1e-2), 9),
    ("cells", lambda model: last_stages(model, 2, lr=1e-3), 7),
    ("cells", lambda model: last_stages(model, 4, lr=1e-3), 5),
    ("noise", lambda model: last_stages(model, 2, lr=1e-3), 7),
    ("minilm", lambda model: feature_extraction(model, lr=1e-2), 8),
    ("tiny", lambda model: last_stages(model, 1, lr=1e-2), 2),  # with dropout behind the kept stages
]
EVERY_PLAN = {  # plan or schedule; how many stages are kept in each epoch: of the tiny network's 4, of minilm's 8
    "feature extraction": (feature_extraction, [4, 4], [8, 8]),
    "last stages": (lambda model, lr: last_stages(model, 1, lr=lr), [2, 2], [6, 6]),
    "full": (full_fine_tune, [0, 0], [0]),
    "discriminative": (discriminative, [0, 0], [0]),
    "layer-wise decay": (layerwise_decay, [0, 0], [0]),
    "normalisation": (norm_only, [0, 0], [0]),
    "biases": (bias_only, [0, 0], [0]),
    "LoRA": (lambda model, lr: lora(model, rank=2, targets=(f"{last_layer(model)}/*",), lr=lr), [2, 2], [6, 6]),
    "LP-FT": (lambda model, lr: lp_ft(model, head_epochs=1, epochs=1, lr=lr), [4, 0], [8, 0]),
    "unfreezing": (gradual_unfreezing, [4, 2, 1, 0], [8, 6, 5, 4, 3, 2, 1, 0]),
}
TEXT_RUNS = [  # plan, texts, in buckets
    *((plan, "wide", True) for plan in EVERY_PLAN),
    *((plan, "mixed", False) for plan in ("feature extraction", "last stages", "LoRA", "LP-FT")),
    *((plan, "even", bucket) for plan, bucket in (("last stages", False), ("last stages", True), ("LP-FT", True))),
]
LITE0_RUNS = [  # plan, how many of its nine stages are kept in each epoch
    (lambda model: lora(model, rank=2, targets=("block7/*",), lr=1e-2), [7, 7]),
    (lambda model: lp_ft(model, head_epochs=1, epochs=1), [9, 0]),
]


def last_layer(model):
    return [name for name, stage in model.backbone.stages.items() if any(True for _ in stage.parameters())][-1]


@pytest.fixture(scope="module")
def cases(lite0, minilm, tiny_backbone, tiny_task, lines):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (48, 1, 64, 64), dtype=torch.uint8, generator=generator)
    noise = make_task("noise", images, torch.arange(48) % 2, class_names=("a", "b"))
    cells = load_task("solar", labels=50, size=64)
    assert len(set(lines.train.inputs.mask.sum(1).tolist())) > 1  # texts of mixed length
    return {
        "cells": (lite0, cells),
        "noise": (lite0, noise),
        "minilm": (minilm, lines),
        "tiny": (tiny_backbone, tiny_task),
    }


@pytest.fixture(scope="module")
def texts(minilm):
    """24 texts: of mixed lengths, the same with more padding, and all of one length, where there is none."""
    rng, words, tasks = np.random.default_rng(3), (("goal", "match", "team"), ("bank", "shares", "profit")), {}
    for name in ("mixed", "wide", "even"):
        counts = np.full(24, 4) if name == "even" else rng.integers(1, 9, size=24)
        lines = [" ".join(rng.choice(words[row % 2], size=count)) for row, count in enumerate(counts)]
        tokens = minilm.preprocessing.tokenize(lines, max_length=16)
        if name == "wide":
            tokens = Masked(F.pad(tokens.values, (0, 6)), F.pad(tokens.mask, (0, 6)))
        assert tokens.mask.all() == (name == "even")
        tasks[name] = make_task(
            name, tokens, torch.arange(24) % 2, class_names=("sport", "money"), preprocessing_name="minilm"
        )
    return tasks


@pytest.fixture
def model(tiny_backbone, tiny_task):
    return attach_head(tiny_backbone, tiny_task)


@pytest.mark.parametrize(("make", "depth"), DEPTHS)
def test_the_prefix_ends_before_the_first_stage_that_moves(make, depth, model):
    assert frozen_depth(model, make(model)) == depth


@pytest.mark.parametrize(("name", "make", "depth"), EQUAL_RUNS)
def test_training_on_the_kept_prefix_gives_the_same_losses(name, make, depth, cases):
    backbone, task = cases[name]
    histories = {}
    for cache in (True, False):
        model = attach_head(backbone, task)
        histories[cache] = train(
            model, task, make(model), epochs=3, batch_size=16, cache=cache, device="cpu", progress=False
        )
    kept, direct = histories[True], histories[False]
    assert (kept.cached_stages, direct.cached_stages) == (depth, 0)
    assert kept.train_loss == pytest.approx(direct.train_loss, abs=1e-5)
    assert [scores["log_loss"] for scores in kept.val] == pytest.approx(
        [scores["log_loss"] for scores in direct.val], abs=1e-5
    )
    assert len({round(loss, 4) for loss in direct.train_loss}) == 3  # and it did learn


def trained(backbone, task, make, epochs, *, cache, **options):
    """The history of a plan or schedule, and how many stages were kept in each epoch."""
    model, kept = attach_head(backbone, task), []
    plan = make(model)
    history = train(
        model,
        task,
        plan if isinstance(plan, tuple) else ((plan, epochs),),
        cache=cache,
        device="cpu",
        progress=lambda so_far: kept.append(so_far.cached_stages),
        **options,
    )
    return history, kept


def check_both_ways(backbone, task, make, depths, **options):
    kept, found = trained(backbone, task, make, len(depths), cache=True, **options)
    direct, none = trained(backbone, task, make, len(depths), cache=False, **options)
    assert (found, none) == (depths, [0] * len(depths))
    assert kept.train_loss == pytest.approx(direct.train_loss, abs=1e-5)
    assert [scores["log_loss"] for scores in kept.val] == pytest.approx(
        [scores["log_loss"] for scores in direct.val], abs=1e-5
    )
    assert len({round(loss, 4) for loss in direct.train_loss}) == len(depths)  # and it did learn


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_every_plan_on_images(name, tiny_backbone, tiny_task):
    make, depths, _ = EVERY_PLAN[name]
    check_both_ways(tiny_backbone, tiny_task, lambda model: make(model, lr=1e-2), depths, batch_size=16)


@pytest.mark.parametrize(("name", "which", "bucket"), TEXT_RUNS)
def test_every_plan_on_texts(name, which, bucket, minilm, texts):
    make, _, depths = EVERY_PLAN[name]
    check_both_ways(
        minilm, texts[which], lambda model: make(model, lr=1e-4), depths, batch_size=9, bucket=bucket, seed=1
    )


@pytest.mark.parametrize(("make", "depths"), LITE0_RUNS)
def test_lora_and_a_schedule_on_a_published_network(make, depths, cases):
    check_both_ways(*cases["noise"], make, depths, batch_size=18)


def test_the_prefix_runs_once(model, tiny_task):
    seen = []
    model.backbone.stages["stem"].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    train(model, tiny_task, last_stages(model, 1), epochs=4, progress=False)
    assert sum(seen) == len(tiny_task.train) + len(tiny_task.val) + 2  # and one sample each, to measure its size


def test_random_changes_of_the_input_rule_the_cache_out(model, tiny_task):
    seen = []
    model.backbone.stages["stem"].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    history = train(model, tiny_task, feature_extraction(model), epochs=2, augment=random_flips, progress=False)
    assert history.cached_stages == 0
    assert sum(seen) == 2 * (len(tiny_task.train) + len(tiny_task.val))


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_past_the_bound_it_says_so_and_trains_directly(name, cases, monkeypatch):
    backbone, task = cases[name]
    runs = {}
    for bound in (caching.LARGEST_CACHE, 1000):
        monkeypatch.setattr(
            behind_the_loop, "cached_prefix", lambda *a, b=bound, **k: cached_prefix(*a, max_bytes=b, **k)
        )
        model = attach_head(backbone, task)
        plan = feature_extraction(model)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            runs[bound] = train(model, task, plan, epochs=2, device="cpu", progress=False)
        messages = [str(warning.message) for warning in said]
        if bound == 1000:
            assert any("more than the bound of 0.0 GB" in message and "anew" in message for message in messages)
        else:
            assert not messages
    assert runs[1000].cached_stages == 0
    assert runs[1000].train_loss == pytest.approx(runs[caching.LARGEST_CACHE].train_loss, abs=1e-5)


@pytest.mark.parametrize("over", [True, False])
def test_the_bound_counts_the_bytes_that_are_kept(over, model, minilm, lines, tiny_task):
    """Nothing large is made first: the whole is known from one sample, also where that is a short text."""
    shortest = lines.train.inputs.mask.sum(1).argsort()
    for network, inputs, depth in ((model, tiny_task.train.inputs, 2), (minilm, lines.train.inputs[shortest], 3)):
        kept = extract_features(network, inputs, stop=depth)
        bound = kept.nbytes - 1 if over else kept.nbytes
        if over:
            with pytest.warns(UserWarning, match=f"{depth} frozen stages for {len(inputs)} samples"):
                assert cached_prefix(network, inputs, depth=depth, max_bytes=bound) is None
        else:
            assert len(cached_prefix(network, inputs, depth=depth, max_bytes=bound)) == len(inputs)


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_features_do_not_depend_on_the_batches(batch_size, tiny_backbone, tiny_task):
    with torch.no_grad():
        expected = tiny_backbone(tiny_task.train.inputs)
    features = extract_features(tiny_backbone, tiny_task.train.inputs, batch_size=batch_size)
    assert torch.allclose(features, expected, atol=1e-6)
    assert not features.requires_grad


def test_texts_of_mixed_length_keep_their_masks(minilm, lines):
    few = lines.train.inputs[0:10]
    hidden = extract_features(minilm, few, stop=2, batch_size=3)
    assert isinstance(hidden, Masked)
    assert torch.equal(hidden.mask, few.mask)
    with torch.no_grad():
        expected = minilm.run(few, stop=2)
    real = few.mask.unsqueeze(-1)
    assert torch.allclose(hidden.values * real, expected.values * real, atol=1e-5)


def test_features_are_taken_in_eval_mode_and_every_mode_comes_back(tiny_backbone, tiny_task):
    backbone = copy.deepcopy(tiny_backbone)
    expected = extract_features(backbone, tiny_task.val.inputs)
    backbone.train()
    backbone.stages["block1"].eval()
    backbone.stages["block1"][3].train()
    modes = [part.training for part in backbone.modules()]
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert torch.equal(extract_features(backbone, tiny_task.val.inputs), expected)
    assert [part.training for part in backbone.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_modes_come_back_after_an_error():
    network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(RuntimeError, match="out of memory"), evaluating(network):
        assert not any(part.training for part in network.modules())
        raise RuntimeError("out of memory")
    assert [part.training for part in network.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_a_model_stands_for_its_backbone(model, tiny_task):
    features = extract_features(model, tiny_task.val.inputs)
    assert torch.equal(features, extract_features(model.backbone, tiny_task.val.inputs, device=torch.device("cpu")))
    assert features.shape == (len(tiny_task.val), 12)
