"""What only towers have; that they are exact is in test_zoo.py."""

import pytest
import torch

from tlcourse.masked import Masked
from tlcourse.tower_stages import tower_stages

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TOWERS = {
    "text_config": {**SIZES, "vocab_size": 20, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 19},
    "vision_config": {**SIZES, "image_size": 32, "patch_size": 16},
}


def network(family):
    import transformers

    if family == "clip":
        return transformers.CLIPModel(transformers.CLIPConfig(**TOWERS, projection_dim=12)).eval()
    config = transformers.BlipConfig(**TOWERS, image_text_hidden_size=12)
    return transformers.BlipForImageTextRetrieval(config).eval()


@pytest.mark.parametrize("family", ["clip", "blip"])
@pytest.mark.parametrize("shape", [(16, 32), (16, 16), (64, 64)])
def test_images_of_another_size_are_refused(shape, family):
    """A smaller image would be given the positions of another place."""
    stages, _ = tower_stages(network(family), "vision")
    with pytest.raises(ValueError, match=rf"\({shape[0]}, {shape[1]}\) pixels: its positions are for 32 x 32"):
        stages["embeddings"](torch.zeros(1, 3, *shape))


@pytest.mark.parametrize("family", ["clip", "blip"])
def test_longer_texts_than_it_has_positions_are_refused(family):
    stages, _ = tower_stages(network(family), "text")
    tokens = Masked(torch.ones(1, 9, dtype=torch.long), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="texts of 9 tokens: its positions end at 8; cut them with max_length"):
        stages["embeddings"](tokens)


def test_texts_of_blip_lose_what_looks_at_images():
    original = network("blip")
    assert any("crossattention" in name for name, _ in original.named_parameters())
    stages, features = tower_stages(original, "text")
    assert not any("crossattention" in name for name, _ in torch.nn.ModuleDict(stages).named_parameters())
    assert features == 12


def test_other_networks_and_towers_are_refused():
    import transformers

    gpt2 = transformers.AutoModel.from_config(transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8))
    with pytest.raises(ValueError, match="type 'gpt2'; with two towers there are: blip, clip"):
        tower_stages(gpt2, "text")
    with pytest.raises(ValueError, match="tower='sound': it is one of vision, text"):
        tower_stages(network("clip"), "sound")
