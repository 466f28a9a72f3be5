import pytest
import torch
from torchvision.models import VisionTransformer

from tlcourse.image_stages import vit_stages

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=24).eval()
        torch.nn.init.normal_(network.class_token)  # zeros at the start would hide that it is missing
    network.heads = torch.nn.Identity()
    return network


def test_stages_compose_to_the_original_vision_transformer(network):
    stages = vit_stages(network)
    assert list(stages) == ["embeddings", "block1", "block2", "block3", "neck"]
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = images.contiguous(memory_format=torch.channels_last)
        for stage in stages.values():
            state = stage(state)
        assert (state - network(images)).abs().max() < 1e-6
    owned = [id(parameter) for stage in stages.values() for parameter in stage.parameters()]
    assert sorted(owned) == sorted(map(id, network.parameters()))


def test_images_of_another_size_are_refused(network):
    with pytest.raises(ValueError, match=r"\(24, 32\) pixels: its positions are for 32 x 32"):
        vit_stages(network)["embeddings"](torch.zeros(1, 3, 24, 32))
