import copy

import pytest
import torch
from torch import nn

from tlcourse import hierarchy
from tlcourse.backbones import Backbone, ImagePreprocessing, attach_head
from tlcourse.caching import extract_features
from tlcourse.data import make_task
from tlcourse.evaluation import metrics
from tlcourse.hierarchy import (
    activation_maps,
    drift,
    max_pool,
    mean_pool,
    probe_stages,
    stage_features,
    top_inputs,
)
from tlcourse.masked import Masked
from tlcourse.probes import fit_probe
from tlcourse.similarity import linear_cka

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = ["stem", "block1", "block10", "neck"]
TEXT = Masked(
    torch.tensor([[[1.0], [3.0], [90.0]], [[-5.0], [90.0], [90.0]]]), torch.tensor([[1, 1, 0], [1, 0, 0]]) > 0
)
MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]], [[[0.0, 0.0], [0.0, -4.0]]]])
POOLS = [  # pool, state, rows
    (mean_pool, MAPS, [[3.0], [-1.0]]),
    (max_pool, MAPS, [[6.0], [0.0]]),
    (mean_pool, TEXT, [[2.0], [-5.0]]),  # the padding counts for nothing
    (max_pool, TEXT, [[3.0], [-5.0]]),
    (mean_pool, torch.tensor([[1.0, 2.0]]), [[1.0, 2.0]]),
    (max_pool, torch.tensor([[1.0, 2.0]]), [[1.0, 2.0]]),
]
BAD_CALLS = [  # call, words
    (
        lambda b, x: activation_maps(b, x[0], stage="block2"),
        "no stage 'block2'; there are: stem, block1, block10, neck",
    ),
    (lambda b, x: activation_maps(b, x[:1], stage="stem"), r"without a batch axis, not \(1, 1, 12, 12\)"),
    (lambda b, x: top_inputs(b, x, stage="stem", channel=8), "channel=8: stage 'stem' has the channels 0 to 7"),
    (lambda b, x: top_inputs(b, x, stage="stem", channel=-1), "channel=-1"),
    (lambda b, x: top_inputs(b, x[:3], stage="stem", channel=0, count=4), "count=4: there are 3 inputs"),
    (lambda b, x: top_inputs(b, x, stage="stem", channel=0, count=0), "count=0"),
    (lambda b, x: stage_features(b, x[:0]), "no inputs"),
    (lambda b, x: stage_features(b, x, batch_size=-1), "batch_size=-1: at least 1"),
    (lambda b, x: top_inputs(b, x, stage="stem", channel=0, batch_size=0), "batch_size=0: at least 1"),
    (
        lambda b, x: top_inputs(b, x, stage="stem", channel=0, pool=lambda state: state),
        r"pool made \(\d+, 8, 6, 6\) .* stage 'stem'",
    ),
    (lambda b, x: drift(b, silenced(b), x[:9]), "block1 after does not vary"),
    (lambda b, x: drift(silenced(b), b, x[:9]), "block1 before does not vary"),
    (lambda b, x: stage_features(b, x, pool=lambda state: state), r"pool made \(\d+, 8, 6, 6\) .* stage 'stem'"),
    (lambda b, x: stage_features(b, x, pool=lambda s: s.flatten(1).T), "one row a sample"),
]


def in_place_backbone():
    """Every stage after the first overwrites what it is given; the states are rows, so that pooling copies nothing."""
    torch.manual_seed(0)
    stages = {
        "rows": nn.Sequential(nn.Flatten(), nn.Linear(48, 6)),
        "relu": nn.ReLU(inplace=True),
        "drop": nn.Sequential(nn.Threshold(0.5, -7.0, inplace=True), nn.Linear(6, 3)),
    }
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    return Backbone("in place", stages, feature_dim=3, preprocessing=grey, pretrained=False).eval()


def silenced(backbone):
    """A copy whose second stage puts out the same for every image."""
    changed = copy.deepcopy(backbone)
    torch.nn.init.zeros_(changed.stages["block1"][0].weight)
    return changed


@pytest.mark.parametrize(("pool", "state", "rows"), POOLS)
def test_pooling_gives_one_row_a_sample(pool, state, rows):
    assert pool(state).tolist() == rows


@pytest.mark.parametrize("batch_size", [1, 7, 200])
def test_features_are_those_of_running_to_each_stage(batch_size, tiny_backbone, tiny_task):
    images = tiny_task.train.inputs[:20]
    features = stage_features(tiny_backbone, images, batch_size=batch_size)
    assert list(features) == STAGES
    for stop, name in enumerate(STAGES, start=1):
        state = extract_features(tiny_backbone, images, stop=stop)
        expected = state.mean(dim=(2, 3)) if state.dim() == 4 else state
        assert torch.allclose(features[name], expected, atol=1e-6)
        assert not features[name].requires_grad


def test_texts_are_pooled_over_their_own_tokens(minilm, lines):
    texts = lines.train.inputs[:6]
    features = stage_features(minilm, texts, batch_size=4)
    assert list(features) == list(minilm.stages)
    assert torch.allclose(features["layer6"], features["pool"], atol=1e-5)
    for row, alone in enumerate(texts):
        for name in ("embeddings", "layer3"):
            state = extract_features(minilm, alone, stop=list(minilm.stages).index(name) + 1)
            assert torch.allclose(features[name][row], state.values[0].mean(dim=0), atol=1e-5)


def test_one_pass_over_the_data_serves_all_stages(tiny_backbone, tiny_task):
    calls = []
    backbone = copy.deepcopy(tiny_backbone)
    for name, stage in backbone.stages.items():
        stage.register_forward_pre_hook(lambda module, inputs, name=name: calls.append((name, len(inputs[0]))))
    stage_features(backbone, tiny_task.train.inputs[:10], batch_size=6)
    assert calls == [(name, size) for size in (6, 4) for name in STAGES]


def test_a_stage_that_works_in_place_does_not_change_what_was_recorded():
    backbone = in_place_backbone()
    images = torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8)
    features = stage_features(backbone, images)
    with torch.no_grad():
        rows = backbone.stages["rows"](backbone.preprocessing(images))
        assert (rows < 0).any()
        assert torch.equal(features["rows"], rows)
        assert torch.equal(features["relu"], rows.clamp(min=0))


def test_the_network_is_left_as_it_was(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    features = stage_features(model, tiny_task.val.inputs)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(part.training for part in model.modules())
    expected = stage_features(tiny_backbone, tiny_task.val.inputs)
    assert all(torch.equal(features[name], expected[name]) for name in STAGES)


def test_a_probe_at_every_stage_is_the_probe_of_its_features(tiny_backbone, tiny_task):
    scores = probe_stages(tiny_backbone, tiny_task, strengths=(1e-3, 1.0))
    assert list(scores) == STAGES
    parts = {name: stage_features(tiny_backbone, getattr(tiny_task, name).inputs) for name in ("train", "val", "test")}
    for name in STAGES:
        probe = fit_probe(
            parts["train"][name],
            tiny_task.train.labels,
            validation=(parts["val"][name], tiny_task.val.labels),
            strengths=(1e-3, 1.0),
        )
        expected = metrics(tiny_task.test.labels, probe.probabilities(parts["test"][name]))
        assert scores[name] == pytest.approx(expected | {"C": probe.C})


def test_validation_chooses_and_the_test_split_only_scores(monkeypatch, tiny_backbone, tiny_task):
    seen = []

    def spy(features, labels, *, validation, strengths):
        seen.append((len(features), len(validation[0]), torch.equal(validation[1], tiny_task.val.labels)))
        return fit_probe(features, labels, validation=validation, strengths=strengths)

    monkeypatch.setattr(hierarchy, "fit_probe", spy)
    probe_stages(tiny_backbone, tiny_task, strengths=(1e-3,))
    assert len(tiny_task.val) != len(tiny_task.test)
    assert seen == [(len(tiny_task.train), len(tiny_task.val), True)] * 4


def test_a_task_that_the_backbone_cannot_read_is_refused(tiny_backbone, lines):
    with pytest.raises(ValueError, match="'lines' holds texts, but backbone 'tiny' reads images"):
        probe_stages(tiny_backbone, lines)


def test_drift_tells_features_from_weights(tiny_backbone, tiny_task):
    after = copy.deepcopy(tiny_backbone)
    with torch.no_grad():
        for parameter in after.stages["block1"].parameters():
            parameter.mul_(1.5)
        after.stages["block1"][0].weight[:4].neg_()
    rows = drift(tiny_backbone, after, tiny_task.train.inputs)
    assert [row["stage"] for row in rows] == STAGES
    by_stage = {row["stage"]: row for row in rows}
    weights = tiny_backbone.stages["block1"][0].weight.detach()
    change = 0.25 * sum(float(p.detach().square().sum()) for p in tiny_backbone.stages["block1"].parameters())
    change += (2.5**2 - 0.25) * float(weights[:4].square().sum())  # these went from w to -1.5 w
    norm = sum(float(p.detach().square().sum()) for p in tiny_backbone.stages["block1"].parameters())
    assert by_stage["block1"]["weights"] == pytest.approx((change / norm) ** 0.5, rel=1e-4)
    assert [by_stage[name]["weights"] for name in ("stem", "block10", "neck")] == [0, 0, 0]
    assert by_stage["stem"]["features"] == pytest.approx(0, abs=1e-9)
    ours = [stage_features(part, tiny_task.train.inputs)["block10"] for part in (tiny_backbone, after)]
    assert by_stage["block10"]["features"] == pytest.approx(1 - linear_cka(*ours))
    assert by_stage["block10"]["features"] > 1e-3  # its own weights stayed


def test_drift_between_different_networks_is_refused(tiny_backbone, lite0, tiny_task):
    with pytest.raises(ValueError, match="'tiny' and 'efficientnet_lite0' differ"):
        drift(tiny_backbone, lite0, tiny_task.val.inputs)


def test_maps_are_the_output_of_the_stage(tiny_backbone, tiny_task):
    image = tiny_task.val.inputs[0]
    maps = activation_maps(tiny_backbone, image, stage="block1")
    assert maps.shape == (8, 6, 6)
    assert torch.equal(maps, extract_features(tiny_backbone, image[None], stop=2)[0])
    assert activation_maps(tiny_backbone, image, stage="neck").shape == (12,)


@pytest.mark.parametrize("batch_size", [4, 128])
def test_the_strongest_inputs_come_first(batch_size, tiny_backbone, tiny_task):
    images = tiny_task.train.inputs[:30]
    for pool in (mean_pool, max_pool):
        every = pool(extract_features(tiny_backbone, images, stop=1))[:, 3]
        index, activation = top_inputs(
            tiny_backbone, images, stage="stem", channel=3, count=5, pool=pool, batch_size=batch_size
        )
        assert index.tolist() == sorted(range(30), key=lambda row: -every[row])[:5]
        assert torch.allclose(activation, every[index])


def test_of_equal_inputs_the_first_comes_first(tiny_backbone):
    images = torch.zeros(7, 3, 12, 12, dtype=torch.uint8)
    assert top_inputs(tiny_backbone, images, stage="stem", channel=0, count=7)[0].tolist() == list(range(7))


@pytest.mark.parametrize(("call", "words"), BAD_CALLS)
def test_bad_calls_are_named(call, words, tiny_backbone, tiny_task):
    with pytest.raises(ValueError, match=words):
        call(tiny_backbone, tiny_task.train.inputs)


def test_a_task_of_one_stage_finds_its_cue(tiny_backbone):
    """Brightness can be read off the first stage of a random network."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    images = (60 + 100 * labels.view(-1, 1, 1, 1) + 20 * torch.rand(120, 1, 12, 12, generator=generator)).byte()
    task = make_task("light", images, labels, class_names=("dark", "light"))
    assert probe_stages(tiny_backbone, task)["stem"]["auc"] == 1
