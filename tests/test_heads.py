import pytest
import torch

from tlcourse.backbones import Model
from tlcourse.heads import expand_head


def model_with(tiny_backbone, classes=2):
    model = Model(tiny_backbone)
    model.add_head("bright", classes, seed=3)
    return model.eval()


def test_old_outputs_stay(tiny_backbone):
    model, images = model_with(tiny_backbone), torch.randint(0, 256, (4, 1, 12, 12), dtype=torch.uint8)
    old = model.heads["bright"]
    with torch.no_grad():
        before = model(images)
        expand_head(model, 5, seed=7)
        assert torch.allclose(model(images)[:, :2], before, atol=1e-6)  # a wider product may round otherwise
    assert torch.equal(model.heads["bright"].weight[:2], old.weight)
    assert torch.equal(model.heads["bright"].bias[:2], old.bias)


def test_new_outputs_come_from_the_seed_and_leave_the_global_state(tiny_backbone):
    rows = {}
    for seed in (7, 7, 8):
        model, state = model_with(tiny_backbone), torch.get_rng_state()
        expand_head(model, 4, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        rows.setdefault(seed, []).append(model.heads["bright"].weight[2:].clone())
    assert torch.equal(*rows[7])
    assert not torch.equal(rows[7][0], rows[8][0])


def test_modes_and_gradients_are_kept(tiny_backbone):
    model = model_with(tiny_backbone)
    model.heads["bright"].requires_grad_(False)
    expand_head(model, 3)
    assert not model.heads["bright"].weight.requires_grad
    assert not model.heads["bright"].training
    assert model.heads["bright"].bias.shape == (3,)


@pytest.mark.parametrize("classes", [2, 1, 0])
def test_a_head_only_grows(tiny_backbone, classes):
    with pytest.raises(ValueError, match=f"to {classes}: the head 'bright' has 2 outputs already"):
        expand_head(model_with(tiny_backbone), classes)


def test_unknown_head(tiny_backbone):
    with pytest.raises(KeyError, match="'dark' was asked for"):
        expand_head(model_with(tiny_backbone), 3, head="dark")
