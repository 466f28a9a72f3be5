import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tlcourse.backbones import attach_head
from tlcourse.data import Split, Task
from tlcourse.plans import apply_plan, describe_plan
from tlcourse.readers import Provenance
from tlcourse.segmentation import (
    attach_dense_head,
    evaluate_segmentation,
    segmentation_scores,
    train_segmentation,
)
from tlcourse.strategies import feature_extraction, full_fine_tune, last_stages

NAN = math.nan
HAND = [  # true pixels, predicted pixels, classes, accuracy, mean of intersections over unions, and without background
    ([0, 0, 1, 1], [0, 0, 1, 1], 2, 1.0, 1.0, 1.0),
    ([0, 0, 1, 1], [0, 1, 1, 1], 2, 0.75, (1 / 2 + 2 / 3) / 2, 2 / 3),
    ([0, 0, 1, 1], [1, 1, 0, 0], 2, 0.0, 0.0, 0.0),
    ([0, 0, 1, 1], [0, 1, 1, 1], 5, 0.75, (1 / 2 + 2 / 3) / 2, 2 / 3),  # classes that neither has
    ([0, 0, 0, 1], [0, 0, 2, 1], 3, 0.75, (2 / 3 + 1 + 0) / 3, 1 / 2),  # one that is only predicted
    ([0, 2, 2, 2], [0, 0, 0, 0], 3, 0.25, (1 / 4 + 0) / 2, 0.0),  # one that is only true
    ([0, 0, 0, 0], [0, 0, 0, 0], 3, 1.0, 1.0, NAN),  # background alone
    ([1, 1, 1, 1], [1, 1, 1, 2], 3, 0.75, (3 / 4 + 0) / 2, 3 / 8),  # no background
]
BAD_SCORES = [  # true, predicted, classes, words
    (torch.zeros(2, 2).long(), torch.zeros(2, 3).long(), 2, r"masks \(2, 2\) and predictions \(2, 3\)"),
    (torch.zeros(0, 2).long(), torch.zeros(0, 2).long(), 2, "pixels do not pair"),
    (torch.tensor([0, 2]), torch.tensor([0, 1]), 2, "masks hold torch.int64 from 0 to 2: 2 classes"),
    (torch.tensor([0, 1]), torch.tensor([-1, 1]), 2, "predictions hold torch.int64 from -1 to 1"),
    (torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), 2, "predictions hold torch.float32"),
]


@pytest.fixture(scope="module")
def squares():
    """72 dark images of 16 pixels with one bright square each, which is the mask."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (72, 3, 16, 16), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(72, 16, 16, dtype=torch.int64)
    for number, (down, across) in enumerate(torch.randint(0, 9, (72, 2), generator=generator).tolist()):
        masks[number, down : down + 8, across : across + 8] = 1
    images = torch.where(masks[:, None] == 1, images + 150, images)

    def part(start, stop):
        return Split(images[start:stop], masks[start:stop], torch.arange(start, stop))

    return Task(
        name="squares",
        train=part(0, 40),
        val=part(40, 52),
        test=part(52, 72),
        class_names=("background", "square"),
        provenance=Provenance("squares", "drawn", "MIT"),
        seed=0,
    )


@pytest.mark.parametrize(("true", "predicted", "classes", "accuracy", "mean", "foreground"), HAND)
def test_scores_are_those_counted_by_hand(true, predicted, classes, accuracy, mean, foreground):
    masks, predictions = (torch.tensor(pixels).reshape(1, 2, 2) for pixels in (true, predicted))
    found = segmentation_scores(masks, predictions, classes=classes)
    expected = {"pixel_accuracy": accuracy, "mean_iou": mean, "foreground_iou": foreground}
    assert found == pytest.approx(expected, nan_ok=True)


def test_overlaps_are_counted_over_all_images_together():
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    masks[0, :2] = 1  # 8 pixels, all found
    masks[1, 0, 0] = 1  # 1 pixel, missed: the mean over images would be 0.5
    predictions = masks.clone()
    predictions[1] = 0
    assert segmentation_scores(masks, predictions, classes=2)["foreground_iou"] == pytest.approx(8 / 9)


@pytest.mark.parametrize(("true", "predicted", "classes", "words"), BAD_SCORES)
def test_bad_masks_are_named(true, predicted, classes, words):
    with pytest.raises(ValueError, match=words):
        segmentation_scores(true, predicted, classes=classes)


def test_the_head_is_linear_in_the_hypercolumn_of_a_pixel(squares, tiny_backbone):
    """Stages brought to the size of the image first, standardised, and one matrix over all of their channels."""
    model = attach_dense_head(tiny_backbone, squares, stages=["stem", "block10"])
    state = model.backbone.preprocessing(squares.val.inputs)
    stem = model.backbone.run(state, stop=1)
    late = model.backbone.run(stem, start=1)
    head = model.heads["squares"].scores
    head["stem"][0].running_mean.uniform_(-1, 1)
    head["stem"][0].running_var.uniform_(0.5, 2)
    columns = []
    for name, values in (("stem", stem), ("block10", late)):
        mean, spread = head[name][0].running_mean, (head[name][0].running_var + 1e-5).sqrt()
        values = (values - mean[:, None, None]) / spread[:, None, None]
        columns.append(F.interpolate(values, size=(16, 16), mode="bilinear", align_corners=False))
    weight = torch.cat([head[name][1].weight[:, :, 0, 0] for name in head], dim=1)
    bias = sum(head[name][1].bias for name in head)
    expected = torch.einsum("kc,nchw->nkhw", weight, torch.cat(columns, dim=1)) + bias[:, None, None]
    assert torch.allclose(model(squares.val.inputs), expected, atol=1e-5)


def test_the_last_stage_of_each_size_is_read_and_the_rest_left_out(squares, tiny_backbone):
    model = attach_dense_head(tiny_backbone, squares)
    assert list(model.heads["squares"].scores) == ["block10"]  # all three put out 8 x 8
    assert list(model.backbone.stages) == ["stem", "block1", "block10"]
    early = attach_dense_head(tiny_backbone, squares, stages=["stem"])
    assert list(early.stages) == ["stem", "head"]
    assert early.backbone.feature_dim == 8
    assert len(tiny_backbone.stages) == 4


def test_a_real_backbone_is_read_at_five_sizes(lite0, squares):
    large = Split(squares.train.inputs.repeat(1, 1, 4, 4), squares.train.labels.repeat(1, 4, 4), squares.train.index)
    model = attach_dense_head(lite0, replace(squares, train=large))
    assert list(model.heads["squares"].scores) == ["block1", "block2", "block3", "block5", "block7"]
    assert "neck" not in model.backbone.stages
    own = dict(model.backbone.named_parameters())
    for name, value in lite0.named_parameters():
        if name in own:
            assert torch.equal(own[name], value)
            assert own[name] is not value


PLANS = [  # a plan, which stages move
    (lambda m: feature_extraction(m, lr=0.05), {"head"}),
    (lambda m: last_stages(m, 1, lr=0.01, head_lr=0.05), {"block10", "head"}),
    (lambda m: full_fine_tune(m, lr=0.02), {"stem", "block1", "block10", "head"}),
]


@pytest.mark.parametrize(("plan", "moving"), PLANS)
def test_the_strategies_are_plans_on_the_same_stages(plan, moving, squares, tiny_backbone, one_thread):
    model = attach_dense_head(tiny_backbone, squares, stages=["stem", "block10"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    untrained = evaluate_segmentation(model, squares.test)
    history = train_segmentation(model, squares, plan(model), epochs=6, batch_size=8, device="cpu")
    assert {row["stage"] for row in describe_plan(model, plan(model)) if row["trainable"]} == moving
    for stage in ("stem", "block1", "block10"):
        names = [name for name in before if name.startswith(f"backbone.stages.{stage}.")]
        assert any(not torch.equal(before[name], model.state_dict()[name]) for name in names) is (stage in moving)
    scores = evaluate_segmentation(model, squares.test)
    assert scores["foreground_iou"] > max(0.5, untrained["foreground_iou"] + 0.1)
    assert scores["log_loss"] < untrained["log_loss"]
    assert history.train_loss[-1] < history.train_loss[0]
    assert not model.training
    assert history.val[-1] == pytest.approx(evaluate_segmentation(model, squares.val))
    assert len(history.epochs) == len(history.seconds) == len(history.lr) == 6
    assert set(history.lr[0]) == moving


def test_training_repeats_from_its_seed(squares, tiny_backbone, one_thread):
    def losses(seed):
        model = attach_dense_head(tiny_backbone, squares)
        return train_segmentation(model, squares, full_fine_tune(model), epochs=2, seed=seed, device="cpu").train_loss

    state = torch.get_rng_state()
    assert losses(1) == losses(1) != losses(2)
    assert torch.equal(state, torch.get_rng_state())


def test_the_loss_is_the_mean_over_pixels(squares, tiny_backbone):
    model = attach_dense_head(tiny_backbone, squares)
    logits = model(squares.test.inputs).log_softmax(dim=1)
    picked = logits.gather(1, squares.test.labels[:, None])
    modes = [part.training for part in model.train().modules()]
    found = evaluate_segmentation(model, squares.test, batch_size=7)
    assert found["log_loss"] == pytest.approx(-picked.mean().item(), rel=1e-5)
    assert any(modes)
    assert modes == [part.training for part in model.modules()]


def test_a_frozen_stage_keeps_its_statistics(squares, tiny_backbone):
    model = attach_dense_head(tiny_backbone, squares)
    apply_plan(model, feature_extraction(model))
    model.train()
    before = model.backbone.stages["stem"][1].running_mean.clone()
    model(squares.train.inputs)
    assert torch.equal(before, model.backbone.stages["stem"][1].running_mean)


def test_bad_input_is_named(squares, tiny_task, tiny_backbone, monkeypatch):
    with pytest.raises(ValueError, match=r"labels of task 'bright' are \(90,\): masks are \(n, H, W\)"):
        attach_dense_head(tiny_backbone, tiny_task)
    with pytest.raises(ValueError, match="stage 'neck' puts out no map .* those that do: stem, block1, block10"):
        attach_dense_head(tiny_backbone, squares, stages=["stem", "neck"])
    with pytest.raises(ValueError, match="stage 'block7' puts out no map"):
        attach_dense_head(tiny_backbone, squares, stages=["block7"])
    with pytest.raises(ValueError, match="no stage of backbone 'tiny' is named"):
        attach_dense_head(tiny_backbone, squares, stages=[])
    model = attach_dense_head(tiny_backbone, squares)
    with pytest.raises(ValueError, match="epochs=0: a whole number"):
        train_segmentation(model, squares, full_fine_tune(model), epochs=0)
    with pytest.raises(ValueError, match="start=1: a dense head reads early stages"):
        model.run(squares.val.inputs.float(), start=1)
    with pytest.raises(FloatingPointError, match="the loss became .* lower the rates of 'full fine-tuning'"):
        train_segmentation(model, squares, full_fine_tune(model, lr=1e30), epochs=2)
    assert attach_head(tiny_backbone, tiny_task).heads  # the backbone is still whole
