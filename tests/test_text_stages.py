import copy

import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, Model, load_backbone
from tlcourse.masked import Masked
from tlcourse.plans import describe_plan
from tlcourse.strategies import last_stages
from tlcourse.text_stages import POOLINGS, Pool, text_stages

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = ["bert", "roberta", "deberta"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "rates", "rise", "goal", "bank", "team"]
TEXTS = ["rates rise", "goal", "the bank team rise goal rates bank team"]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Family -> the folder of a tiny checkpoint with its tokenizer, as save_pretrained writes it."""
    from transformers import AutoModel, BertConfig, BertTokenizerFast, DebertaV2Config, RobertaConfig

    configurations = {
        "bert": BertConfig(vocab_size=20, **SIZES),
        "roberta": RobertaConfig(vocab_size=20, pad_token_id=0, bos_token_id=2, eos_token_id=3, **SIZES),
        "deberta": DebertaV2Config(vocab_size=20, **SIZES, **RELATIVE),
    }
    folders = {}
    for name, config in configurations.items():
        folders[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModel.from_config(config).save_pretrained(folders[name])
        (folders[name] / "vocab.txt").write_text("\n".join(WORDS))
        BertTokenizerFast(vocab={word: row for row, word in enumerate(WORDS)}).save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, saved):
    """The staged backbone and the original network, each loaded by itself."""
    from transformers import AutoModel

    return load_backbone(str(saved[request.param])), AutoModel.from_pretrained(saved[request.param]).eval()


def padded(tokens, more):
    pad = nn.functional.pad
    return Masked(pad(tokens.values, (0, more)), pad(tokens.mask, (0, more)))


def pooled(network, tokens):
    hidden = network(input_ids=tokens.values, attention_mask=tokens.mask.long()).last_hidden_state
    return torch.stack([row[mask].mean(0) for row, mask in zip(hidden, tokens.mask, strict=True)])


@pytest.mark.parametrize("more", [0, 5])
def test_stages_and_their_gradients_are_those_of_the_original(more, pair):
    backbone, original = copy.deepcopy(pair)
    tokens = backbone.preprocessing.tokenize(TEXTS, max_length=16)
    assert len(set(tokens.mask.sum(1).tolist())) == 3  # mixed lengths
    tokens = padded(tokens, more)
    ours, theirs = backbone(tokens), pooled(original, tokens)
    assert (ours - theirs).abs().max() < 1e-6
    target = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    for features in (ours, theirs):
        (features * target).sum().backward()
    expected = {key: value.grad for key, value in original.named_parameters() if value.grad is not None}
    found = [value.grad for value in backbone.parameters()]
    assert len(found) == len(expected)
    by_shape = sorted(expected.values(), key=lambda grad: (tuple(grad.shape), grad.norm().item()))
    for mine, other in zip(
        sorted(found, key=lambda grad: (tuple(grad.shape), grad.norm().item())), by_shape, strict=True
    ):
        assert mine.norm().item() == pytest.approx(other.norm().item(), rel=1e-4, abs=1e-5)


def test_a_text_alone_gives_what_it_gives_among_longer_ones(pair):
    backbone, _ = pair
    together = backbone.preprocessing.tokenize(TEXTS, max_length=16)
    with torch.no_grad():
        features = backbone(together)
        for row, alone in enumerate(together):
            assert (backbone(alone) - features[row]).abs().max() < 1e-5


def test_the_relative_embeddings_are_one_stage_that_a_copy_keeps(saved):
    backbone = load_backbone(str(saved["deberta"]))
    assert list(backbone.stages) == ["shared", "embeddings", "layer1", "layer2", "layer3", "pool"]
    twin = copy.deepcopy(backbone)
    assert twin.stages["layer3"].shared[0] is twin.stages["shared"]
    assert twin.stages["shared"] is not backbone.stages["shared"]
    model = Model(twin)
    model.add_head("a", 2)
    moving = {row["stage"] for row in describe_plan(model, last_stages(model, 1)) if row["trainable"]}
    assert moving == {"layer3", "head"}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_counts(pooling):
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) - 5  # all below the zeros of padding
    lengths = [2, 5, 1]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    expected = {
        "mean": lambda row: row.mean(0),
        "cls": lambda row: row[0],
        "max": lambda row: row.max(0).values,
    }[pooling]
    wanted = torch.stack([expected(row[:length]) for row, length in zip(hidden, lengths, strict=True)])
    for filler in (0.0, 1e4):
        state = Masked(hidden.masked_fill(~mask.unsqueeze(-1), filler), mask)
        assert torch.allclose(Pool(pooling)(state), wanted, atol=1e-6)


def test_what_is_not_there_is_refused(saved, monkeypatch):
    import transformers

    with pytest.raises(ValueError, match=r"pooling='min'.*mean, cls, max"):
        load_backbone("minilm", pooling="min")
    with pytest.raises(ValueError, match="pooling='cls' for 'resnet50'"):
        load_backbone("resnet50", pretrained=False, pooling="cls")
    with pytest.raises(ValueError, match="revision='abc': 'minilm' does not come from the hub"):
        load_backbone("minilm", revision="abc")

    def unreachable(name, **options):
        raise OSError(f"no route to host for {name} at {options['revision']}")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", unreachable)
    with pytest.raises(RuntimeError, match="no route to host for roberta-base at abc.*load_backbone.'minilm'"):
        load_backbone("roberta-base", revision="abc")


def test_other_families_are_refused():
    from transformers import AutoModel, GPT2Config

    network = AutoModel.from_config(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8, n_positions=8))
    with pytest.raises(ValueError, match="'gpt2'; as stages there are: bert, roberta, deberta-v2"):
        text_stages(network)


def test_the_pooling_is_part_of_the_name():
    backbone = load_backbone("minilm", pretrained=False, pooling="max")
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.preprocessing.name) == ("minilm (max)", "minilm")
