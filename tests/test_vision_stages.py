"""Kinds of vision transformers, and what is refused; that the families are exact is in test_zoo.py too."""

import pytest
import torch

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
