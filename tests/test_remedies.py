from dataclasses import replace

import pytest
import torch

from tlcourse.backbones import Model, attach_head
from tlcourse.plans import Plan, Rule
from tlcourse.remedies import EWC, L2SP, Distillation, Dropout, EarlyStopping, Remedy, Replay, WeightAveraging
from tlcourse.training import train

# Moving statistics would move the old answers whatever holds the weights.
ALL = Plan("all", (Rule("head", 1e-2, 0.0), Rule("*", 1e-2, 0.0, "affine")))
pytestmark = pytest.mark.usefixtures("one_thread")
# What keeps hold of the old task, at a strength that leaves little room, and the bytes that it keeps: (model) -> bytes.
HOLDING = [
    ("EWC", lambda: EWC(1e4), lambda model: 2 * _bytes(model.parameters())),
    ("EWC, empirical", lambda: EWC(1e4, kind="empirical"), lambda model: 2 * _bytes(model.parameters())),
    ("L2-SP", lambda: L2SP(100.0), lambda model: _bytes(model.parameters())),
    ("distillation", lambda: Distillation(100.0), lambda model: _bytes(model.state_dict().values())),
    ("replay", lambda: Replay(40, ratio=2.0), lambda model: 40 * (12 * 12 + 8)),
    ("weight averaging", lambda: WeightAveraging(0.1), lambda model: _bytes(model.backbone.state_dict().values())),
]


def _bytes(tensors):
    return sum(tensor.nbytes for tensor in tensors)


def learnt(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task, seed=0)
    train(model, tiny_task, ALL, epochs=4, seed=0, progress=False)
    return model


def answers(model, task):
    with torch.no_grad():
        return model(task.test.inputs, head=task.name).softmax(dim=1)


def moved_by_the_next_task(remedy, tiny_backbone, tiny_task):
    """How far the answers of the old head have moved once a new one has learnt the labels turned round."""
    model = learnt(tiny_backbone, tiny_task)
    before = answers(model, tiny_task)
    remedy.keep(model, tiny_task, head=tiny_task.name)
    turned = replace(tiny_task.train, labels=1 - tiny_task.train.labels)
    model.add_head("dark", 2, seed=1)
    remedy.begin(model, head="dark")
    train(
        model,
        replace(tiny_task, name="dark", train=turned),
        ALL,
        epochs=4,
        seed=1,
        head="dark",
        penalties=remedy.penalties(model, head="dark"),
        progress=False,
        **remedy.options(),
    )
    remedy.end(model)
    return (answers(model, tiny_task) - before).abs().mean().item(), model


@pytest.mark.parametrize(("name", "make", "bytes_of"), HOLDING, ids=[row[0] for row in HOLDING])
def test_what_holds_on_moves_less_and_says_what_it_keeps(name, make, bytes_of, tiny_backbone, tiny_task):
    plain, _ = moved_by_the_next_task(Remedy(), tiny_backbone, tiny_task)
    remedy = make()
    assert remedy.kept_bytes == 0
    held, model = moved_by_the_next_task(remedy, tiny_backbone, tiny_task)
    # Kept samples are learnt further, which moves their answers too: test_sequences.py sees what replay holds.
    assert held < plain / 2 or name == "replay"
    before = Model(tiny_backbone)
    before.add_head(tiny_task.name, 2)
    assert remedy.kept_bytes == bytes_of(before)


def test_nothing_is_added_before_a_task_was_learnt(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    for _, make, _ in HOLDING:
        assert make().penalties(model, head=tiny_task.name) == ()


def test_early_stopping_is_the_loops(tiny_backbone, tiny_task):
    assert EarlyStopping(2).options() == {"patience": 2}
    assert Remedy().options() == {}


def test_dropout_is_set_and_put_back(tiny_backbone, tiny_task):
    model, remedy = attach_head(tiny_backbone, tiny_task), Dropout(0.7)
    shares = [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    remedy.begin(model, head=tiny_task.name)
    assert [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)] == [0.7] * len(shares)
    remedy.end(model)
    assert [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)] == shares


def test_weights_end_where_alpha_says(tiny_backbone, tiny_task):
    model, remedy = learnt(tiny_backbone, tiny_task), WeightAveraging(0.25)
    remedy.keep(model, tiny_task, head=tiny_task.name)
    before = model.backbone.stages["stem"][0].weight.detach().clone()
    with torch.no_grad():
        model.backbone.stages["stem"][0].weight += 4.0
    remedy.end(model)
    assert torch.allclose(model.backbone.stages["stem"][0].weight, before + 1.0)


def test_refused(tiny_backbone, tiny_task):
    with pytest.raises(ValueError, match=r"Dropout\(1.0\): a share from 0 to below 1"):
        Dropout(1.0)
    model = attach_head(tiny_backbone, tiny_task)
    for stage in model.backbone.stages.values():
        for name, layer in list(stage.named_children()):
            if isinstance(layer, torch.nn.Dropout):
                setattr(stage, name, torch.nn.Identity())
    with pytest.raises(ValueError, match="'tiny' has no layer of dropout"):
        Dropout(0.5).begin(model, head=tiny_task.name)
