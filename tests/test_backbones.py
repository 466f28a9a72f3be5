import copy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tlcourse.backbones import ImagePreprocessing, Model, attach_head, load_embedded, load_text_preprocessing
from tlcourse.masked import Masked
from tlcourse.sources import package_path

STAGES = {
    "efficientnet_lite0": (["stem", *(f"block{n}" for n in range(1, 8)), "neck"], 1280),
    "minilm": (["embeddings", *(f"layer{n}" for n in range(1, 7)), "pool"], 384),
}
TEXTS = ["Rates rise.", "The minister said that the bank would not move before the spring, whatever came.", "Goal!"]
BAD_IMAGES = [(3, 32, 32), (2, 4, 32, 32), (2, 2, 32, 32), (2, 32)]


def pictures(n=2, channels=3, side=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=generator)


def gap(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max().item()


@pytest.fixture(scope="module")
def originals():
    """The networks as their own libraries make them, each as a function from prepared inputs to features."""
    import timm
    from transformers import AutoModel

    lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    packaged = torch.load(package_path("efficientnet_lite0"), weights_only=True)
    lite0.load_state_dict(dict(zip(lite0.state_dict(), packaged.values(), strict=True)))
    lite0.reset_classifier(0)
    bert = AutoModel.from_pretrained(package_path("minilm")).eval()

    def pooled(tokens):
        hidden = bert(input_ids=tokens.values, attention_mask=tokens.mask.long()).last_hidden_state
        return torch.stack([row[mask].mean(0) for row, mask in zip(hidden, tokens.mask, strict=True)])

    return {"efficientnet_lite0": lite0.eval(), "minilm": pooled}


@pytest.mark.parametrize("channels", [1, 3])
def test_stages_compose_to_the_original_image_network(channels, lite0, originals):
    prepared = lite0.preprocessing(pictures(channels=channels))
    with torch.no_grad():
        assert gap(lite0(pictures(channels=channels)), originals["efficientnet_lite0"](prepared)) < 1e-6


def test_preprocessing_is_that_of_the_pre_training(lite0):
    expected = (pictures().double() / 255 - 0.5) / 0.5
    assert gap(lite0.preprocessing(pictures()), expected.float()) < 1e-6


@pytest.mark.parametrize("padding", [0, 5])
def test_stages_compose_to_the_original_text_network(padding, minilm, originals):
    tokens = minilm.preprocessing.tokenize(TEXTS, max_length=32)
    assert len(set(tokens.mask.sum(1).tolist())) == 3  # mixed lengths
    pad = torch.nn.functional.pad
    tokens = Masked(pad(tokens.values, (0, padding)), pad(tokens.mask, (0, padding)))
    with torch.no_grad():
        assert gap(minilm(tokens), originals["minilm"](tokens)) < 1e-6


def test_a_text_alone_gives_what_it_gives_among_longer_ones(minilm):
    together = minilm.preprocessing.tokenize(TEXTS, max_length=32)
    with torch.no_grad():
        features = minilm(together)
        for row, alone in enumerate(together):
            assert gap(minilm(alone), features[row : row + 1]) < 1e-5  # other padding, other order of additions


def test_a_long_text_is_cut(minilm):
    assert minilm.preprocessing.tokenize(["word " * 100], max_length=16).values.shape == (1, 16)


def test_the_packaged_weights_know_a_daisy(lite0):
    from sklearn.datasets import load_sample_image

    weight, bias = list(torch.load(package_path("efficientnet_lite0"), weights_only=True).values())[-2:]
    flower = torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None].float()
    flower = torch.nn.functional.interpolate(flower, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = lite0(flower.round().byte()) @ weight.T + bias
    assert logits.argmax().item() == 985  # ImageNet's daisy, the nearest of its thousand classes


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_named_in_order_and_features_have_their_size(name, lite0, minilm):
    backbone = {"efficientnet_lite0": lite0, "minilm": minilm}[name]
    names, features = STAGES[name]
    assert list(backbone.stages) == names
    assert backbone.feature_dim == features
    assert not backbone.training


@pytest.mark.parametrize("cut", [0, 1, 4, 9])
def test_running_in_two_parts_is_running_at_once(cut, lite0):
    with torch.no_grad():
        state = lite0.preprocessing(pictures())
        half = lite0.run(state, stop=cut)
        assert torch.equal(lite0.run(half, start=cut), lite0.run(state))


@pytest.mark.parametrize("name", ["resnet18", "EfficientNet_lite0", ""])
def test_an_unknown_backbone_lists_what_there_is(name):
    with pytest.raises(KeyError) as error:
        load_embedded(name)
    assert all(known in str(error.value) for known in (repr(name), *STAGES))


@pytest.mark.parametrize(("name", "pooling"), [("efficientnet_lite0", "cls"), ("minilm", "min")])
def test_a_pooling_without_a_meaning_is_refused(name, pooling):
    with pytest.raises(
        ValueError, match=f"pooling='{pooling}' for '{name}': text backbones take one of mean, cls, max"
    ):
        load_embedded(name, pretrained=False, pooling=pooling)


def test_packaged_weights_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *args, **options: {"weight": torch.zeros(3)})
    with pytest.raises(RuntimeError, match="no longer has the tensors"):
        load_embedded("efficientnet_lite0")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "minilm"])
def test_random_weights_come_from_the_seed_alone(name, lite0, minilm):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is meant
    first, again, other = (load_embedded(name, pretrained=False, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert all(torch.equal(first[key], again[key]) for key in first)
    weights = [key for key in first if first[key].dim() > 1 and first[key].is_floating_point()]
    assert not any(torch.equal(first[key], other[key]) for key in weights)
    packaged = {"efficientnet_lite0": lite0, "minilm": minilm}[name].state_dict()
    assert not any(torch.equal(first[key], packaged[key]) for key in weights)


def test_preprocessing_is_the_stated_formula():
    prepare = ImagePreprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    expected = (torch.tensor([0.0, 0.2, 1.0]).view(3, 1) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.5, 1, 2])
    assert torch.allclose(prepare(images)[:, :, 0, 0], expected)
    assert torch.allclose(prepare(images.float() / 255), prepare(images))
    assert images.flatten().tolist() == [0, 51, 255]  # the task's own pixels stay
    assert prepare(pictures()).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", BAD_IMAGES)
def test_what_is_no_batch_of_images_is_refused(shape, lite0):
    with pytest.raises(ValueError) as error:
        lite0(torch.zeros(shape, dtype=torch.uint8))
    assert str(shape) in str(error.value)


def test_a_text_backbone_wants_masked_tokens(minilm):
    with pytest.raises(TypeError, match="Masked token ids, not Tensor"):
        minilm(torch.zeros(2, 3, dtype=torch.long))


def test_a_tokenizer_must_be_a_text_backbones():
    for name in ("efficientnet_lite0", "roberta-base"):
        with pytest.raises(ValueError, match=f"{name}' is no text backbone .* minilm.*backbone=load_backbone.'{name}'"):
            load_text_preprocessing(name)


def test_the_digest_of_a_tokenizer_is_that_of_its_files(tmp_path, monkeypatch):
    """It goes into cache keys: the same files give the same anywhere, weights do not count, and each file does."""
    packaged = load_text_preprocessing("minilm")
    shutil.copytree(packaged.folder, tmp_path / "copy")
    copied = replace(packaged, name="another", folder=tmp_path / "copy")
    assert copied.digest() == packaged.digest()
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"other weights")
    assert copied.digest() == packaged.digest()
    for name in ("vocab.txt", "tokenizer_config.json", "config.json"):
        before, file = copied.digest(), tmp_path / "copy" / name
        file.write_bytes(file.read_bytes().swapcase())  # as long as it was
        assert copied.digest() != before, name
    assert replace(packaged, folder=str(packaged.folder)).digest() == packaged.digest()
    wanted, listed = packaged.digest(), Path.glob
    monkeypatch.setattr(Path, "glob", lambda *given: reversed(list(listed(*given))))  # folders list in any order
    assert packaged.digest() == wanted


def test_a_model_is_a_copy_with_a_head_of_its_own_seed(tiny_backbone, tiny_task):
    state = torch.get_rng_state()
    first, again, other = (attach_head(tiny_backbone, tiny_task, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.heads["bright"].weight, again.heads["bright"].weight)
    assert not torch.equal(first.heads["bright"].weight, other.heads["bright"].weight)
    own = {parameter.data_ptr() for parameter in tiny_backbone.parameters()}
    assert not own & {parameter.data_ptr() for parameter in first.parameters()}
    assert list(first.stages) == ["stem", "block1", "block10", "neck", "head"]


def test_tasks_and_backbones_that_do_not_fit_are_refused(tiny_backbone, minilm, tiny_task, lines):
    with pytest.raises(ValueError, match="'bright' holds images, but backbone 'minilm' reads texts"):
        attach_head(minilm, tiny_task)
    with pytest.raises(ValueError, match="'lines' holds texts, but backbone 'tiny' reads images"):
        attach_head(tiny_backbone, lines)
    foreign = copy.copy(minilm)
    foreign.name, foreign.preprocessing = "bert", copy.copy(minilm.preprocessing)
    object.__setattr__(foreign.preprocessing, "name", "bert")
    with pytest.raises(ValueError, match=r"tokenised for 'minilm', but backbone 'bert' reads 'bert'"):
        attach_head(foreign, lines)


def test_heads_are_found_by_name(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    images = tiny_task.val.inputs
    with torch.no_grad():
        expected = model.heads["bright"](model.backbone(images))
        assert torch.equal(model(images), expected)  # the only head needs no name
        model.add_head("other", 3)
        assert torch.equal(model(images, head="bright"), expected)
        assert model(images, head="other").shape == (len(images), 3)
    for asked in (None, "nothing"):
        with pytest.raises(KeyError, match=r"\['bright', 'other'\]"):
            model(images, head=asked)
    with pytest.raises(KeyError, match="already has a head 'other'"):
        model.add_head("other", 2)


def test_frozen_stages_stay_in_eval_mode_whoever_calls_train(tiny_backbone, tiny_task):
    model = attach_head(tiny_backbone, tiny_task)
    model.frozen_stages = frozenset({"stem", "block1"})
    model.train()
    assert {name: any(part.training for part in stage.modules()) for name, stage in model.stages.items()} == {
        "stem": False,
        "block1": False,
        "block10": True,
        "neck": True,
        "head": True,
    }
    assert model.eval().training is False


def test_a_model_runs_where_there_is_no_data(monkeypatch, tiny_backbone, tiny_task, minilm, lines):
    """On the meta device any tensor that stays behind, on a device written into the code, is an error."""
    from transformers import masking_utils

    # A short cut of transformers where no text is padded: it looks at the values of the mask.
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *args, **options: False)
    meta = torch.device("meta")
    for backbone, task in ((tiny_backbone, tiny_task), (minilm, lines)):
        model = Model(copy.deepcopy(backbone).to(meta))
        model.add_head(task.name, len(task.class_names))
        logits = model(task.val.to(meta).inputs)
        assert logits.device.type == "meta"
        assert logits.shape == (len(task.val), len(task.class_names))
