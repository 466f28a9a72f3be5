"""Kinds of vision transformers, and what is refused; that the families are exact is in test_zoo.py too."""

import pytest
import torch

from tlcourse.backbones import Backbone, ImagePreprocessing, attach_head
from tlcourse.data import make_task
from tlcourse.strategies import last_stages
from tlcourse.training import train
from tlcourse.vision_stages import vision_stages

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}
VARIANTS = [
    {},
    {"global_pool": "avg"},
    {"global_pool": "avg", "class_token": False},
    {"global_pool": "avg", "pool_include_prefix": True},
    {"global_pool": "avg", "fc_norm": False},
    {"reg_tokens": 3},
    {"reg_tokens": 3, "no_embed_class": True},
    {"reg_tokens": 2, "global_pool": "avg"},
    {"pre_norm": True},
    {"no_embed_class": True, "init_values": 0.1},
]
REFUSED = [
    ({"global_pool": "map"}, "pools by 'map'; there are: token, avg"),
    ({"global_pool": "avgmax"}, "pools by 'avgmax'"),
    ({"pos_embed": "none"}, "without learned positions for one size"),
    ({"dynamic_img_size": True}, "without learned positions for one size"),
]


def vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(**TINY | options).eval()
        for value in network.parameters():
            value.data += 0.1 * torch.randn(value.shape)
    return network


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_stages_compose_to_each_kind_of_vision_transformer(options):
    network = vit(**options)
    stages, features = vision_stages(network)
    state = images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for stage in stages.values():
            state = stage(state)
        assert (state - network(images)).abs().max() < 1e-6
    assert (list(stages), features) == (["embeddings", "block1", "block2", "neck"], 16)
    owned = [id(parameter) for stage in stages.values() for parameter in stage.parameters()]
    assert sorted(owned) == sorted(map(id, network.parameters()))


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_kinds_without_stages_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        vision_stages(vit(**options))


def test_images_of_another_size_are_refused():
    stages, _ = vision_stages(vit())
    with pytest.raises(ValueError, match=r"\(16, 32\) pixels: its positions are for 32 x 32"):
        stages["embeddings"](torch.zeros(1, 3, 16, 32))


def test_other_networks_are_refused():
    import timm
    import torchvision

    for network in (timm.create_model("test_convnext"), torchvision.models.squeezenet1_1()):
        words = (
            rf"kind {type(network).__module__.split('.')[0]}.{type(network).__name__}; .*torchvision's ResNet, .*timm's"
        )
        with pytest.raises(ValueError, match=words):
            vision_stages(network)


@pytest.fixture(scope="module")
def vit_of_torchvision():
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models.VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=24).eval()
        torch.nn.init.normal_(network.class_token)  # zeros at the start would hide that it is missing
    network.heads = torch.nn.Identity()
    return network


def test_stages_compose_to_the_original_vision_transformer(vit_of_torchvision):
    stages, features = vision_stages(vit_of_torchvision)
    assert (list(stages), features) == (["embeddings", "block1", "block2", "block3", "neck"], 16)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = images.contiguous(memory_format=torch.channels_last)
        for stage in stages.values():
            state = stage(state)
        assert (state - vit_of_torchvision(images)).abs().max() < 1e-6
    owned = [id(parameter) for stage in stages.values() for parameter in stage.parameters()]
    assert sorted(owned) == sorted(map(id, vit_of_torchvision.parameters()))


def test_images_of_another_size_than_torchvisions_are_refused(vit_of_torchvision):
    with pytest.raises(ValueError, match=r"\(24, 32\) pixels: its positions are for 32 x 32"):
        vision_stages(vit_of_torchvision)[0]["embeddings"](torch.zeros(1, 3, 24, 32))


def test_training_on_the_kept_prefix_gives_the_same_losses(vit_of_torchvision):
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    stages, features = vision_stages(vit_of_torchvision)
    backbone = Backbone("vit", stages, feature_dim=features, preprocessing=grey, pretrained=False)
    images = torch.randint(0, 256, (36, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    task = make_task("noise", images, torch.arange(36) % 2, class_names=("a", "b"))
    histories = {}
    for cache in (True, False):
        model = attach_head(backbone, task)
        plan = last_stages(model, 2, lr=1e-2, head_lr=1e-2)
        histories[cache] = train(model, task, plan, epochs=3, batch_size=8, cache=cache, device="cpu", progress=False)
    assert (histories[True].cached_stages, histories[False].cached_stages) == (3, 0)
    assert histories[True].train_loss == pytest.approx(histories[False].train_loss, abs=1e-5)
    assert len({round(loss, 4) for loss in histories[True].train_loss}) == 3  # and it did learn
