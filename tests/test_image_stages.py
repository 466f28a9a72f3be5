import pytest
import torch
from torchvision.models import VisionTransformer

from tlcourse.backbones import Backbone, ImagePreprocessing, attach_head
from tlcourse.data import make_task
from tlcourse.image_stages import vit_stages
from tlcourse.strategies import last_stages
from tlcourse.training import train

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


def test_training_on_the_kept_prefix_gives_the_same_losses(network):
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    backbone = Backbone("vit", vit_stages(network), feature_dim=16, preprocessing=grey, pretrained=False)
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
