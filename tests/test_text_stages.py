import copy

import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, Model, attach_head
from tlcourse.caching import frozen_depth
from tlcourse.data import make_task
from tlcourse.masked import Masked
from tlcourse.plans import Plan, Rule, describe_plan
from tlcourse.strategies import last_stages
from tlcourse.text_stages import POOLINGS, Pool, text_stages
from tlcourse.training import train
from tlcourse.zoo import load_backbone

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = ["bert", "roberta", "deberta", "deberta_plain", "deberta_absolute"]
PADDINGS = [(0, 0), (5, 0), (5, 1)]  # how much more of it, and of which token: RoBERTa's own is number 1
WORDS = ["rates", "rise", "goal", "bank", "team"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ROBERTA = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]  # in the order of <s>, <pad>, </s>, <unk>
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
ORIGINAL = {  # how the name of a tensor starts among our stages, and in transformers
    "shared.embeddings.": "encoder.rel_embeddings.",
    "shared.norm.": "encoder.LayerNorm.",
    "embeddings.embeddings.": "embeddings.",
    **{f"layer{number}.layer.": f"encoder.layer.{number - 1}." for number in (1, 2, 3)},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Family -> the folder of a tiny checkpoint with its tokenizer, as save_pretrained writes it."""
    from transformers import AutoModel, BertConfig, BertTokenizerFast, DebertaV2Config, RobertaConfig

    configurations = {
        "bert": BertConfig(vocab_size=20, **SIZES),
        # As in roberta-base: there are two positions more than the longest text has tokens.
        "roberta": RobertaConfig(
            vocab_size=20, pad_token_id=1, bos_token_id=0, eos_token_id=2, max_position_embeddings=18, **SIZES
        ),
        "deberta": DebertaV2Config(vocab_size=20, **SIZES, **RELATIVE),
        "deberta_plain": DebertaV2Config(vocab_size=20, **SIZES, **RELATIVE | {"norm_rel_ebd": "none"}),
        "deberta_absolute": DebertaV2Config(vocab_size=20, **SIZES, type_vocab_size=0),
    }
    folders = {}
    for name, config in configurations.items():
        folders[name] = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            AutoModel.from_config(config).save_pretrained(folders[name])
        words = [*(ROBERTA if name == "roberta" else SPECIAL), *WORDS]
        (folders[name] / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(vocab={word: row for row, word in enumerate(words)}).save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, saved):
    """The staged backbone and the original network, each loaded by itself."""
    from transformers import AutoModel

    return load_backbone(str(saved[request.param])), AutoModel.from_pretrained(saved[request.param]).eval()


def padded(tokens, more, filler):
    pad = nn.functional.pad
    mask = pad(tokens.mask, (0, more))
    return Masked(pad(tokens.values, (0, more)).where(mask, filler), mask)


def pooled(network, tokens):
    hidden = network(input_ids=tokens.values, attention_mask=tokens.mask.long()).last_hidden_state
    return torch.stack([row[mask].mean(0) for row, mask in zip(hidden, tokens.mask, strict=True)])


def original_name(name):
    name = name.removeprefix("stages.")
    start = next(start for start in ORIGINAL if name.startswith(start))
    return ORIGINAL[start] + name.removeprefix(start)


@pytest.mark.parametrize(("more", "filler"), PADDINGS)
def test_stages_and_their_gradients_are_those_of_the_original(more, filler, pair):
    """Tensor by tensor, each under the name that it has in transformers."""
    backbone, original = copy.deepcopy(pair)
    tokens = backbone.preprocessing.tokenize(TEXTS, max_length=16)
    assert len(set(tokens.mask.sum(1).tolist())) == 3  # mixed lengths
    alone = backbone(tokens).detach()
    tokens = padded(tokens, more, filler)
    ours, theirs = backbone(tokens), pooled(original, tokens)
    assert (ours - theirs).abs().max() < 1e-6
    every = original(input_ids=tokens.values, attention_mask=tokens.mask.long()).last_hidden_state
    assert (backbone.run(tokens, stop=-1).values - every).abs().max() < 1e-5  # also where there is padding
    assert (ours - alone).abs().max() < 1e-6
    target = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    for features in (ours, theirs):
        (features * target).sum().backward()
    expected = {key: value for key, value in original.named_parameters() if value.grad is not None}
    names = list(backbone.named_parameters(remove_duplicate=False))
    found = {original_name(key): value for key, value in names}
    assert found.keys() == expected.keys()
    assert len(found) == len(names)  # each tensor is in one stage, once
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
        assert torch.allclose(found[key].grad, value.grad, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("filler", [0, 1])
def test_positions_of_roberta_start_behind_its_padding(filler, saved):
    """The oracle is the sum: a text's first token has position number 2, whatever stands behind the text."""
    backbone = load_backbone(str(saved["roberta"]))
    tokens = backbone.preprocessing.tokenize(TEXTS, max_length=16)
    assert tokens.values[~tokens.mask].unique().tolist() == [1]
    parts = backbone.stages["embeddings"].embeddings
    words, positions, kind = parts.word_embeddings.weight, parts.position_embeddings.weight, parts.token_type_embeddings
    tokens = padded(tokens, 5, filler)
    hidden = backbone.run(tokens, stop=1).values
    for row, ids, length in zip(hidden, tokens.values, tokens.mask.sum(1).tolist(), strict=True):
        summed = words[ids[:length]] + positions[2 : 2 + length] + kind.weight[0]
        assert torch.allclose(row[:length], parts.LayerNorm(summed), atol=1e-6)


@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_training_on_the_kept_prefix_gives_the_same_losses(family, bucket, saved):
    backbone = load_backbone(str(saved[family]))
    texts = [" ".join(WORDS[(row + column) % 5] for column in range(1 + 5 * row % 13)) for row in range(36)]
    tokens = padded(backbone.preprocessing.tokenize(texts, max_length=16), 3, 1)
    task = make_task(
        "lines", tokens, torch.arange(36) % 2, class_names=("a", "b"), preprocessing_name=backbone.preprocessing.name
    )
    histories = {}
    for cache in (True, False):
        model = attach_head(backbone, task)
        plan = last_stages(model, 1, lr=1e-2, head_lr=1e-2)
        histories[cache] = train(
            model, task, plan, epochs=3, batch_size=8, bucket=bucket, cache=cache, device="cpu", progress=False
        )
    assert histories[True].cached_stages == list(backbone.stages).index("layer3")
    assert histories[True].train_loss == pytest.approx(histories[False].train_loss, abs=1e-5)
    assert len({round(loss, 4) for loss in histories[True].train_loss}) == 3  # and it did learn


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
    # Its output, the tokens, never changes; but what the layers do with it does.
    assert frozen_depth(model, Plan("relative", (Rule("shared", 1e-3), Rule("*", 0.0)))) == 0


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


def test_the_mean_is_bit_for_bit_what_it_was(saved):
    """Kept results rest on this order of operations: multiply, sum, divide. A text without tokens gives zeros."""
    from transformers import AutoModel

    hidden = torch.randn(4, 7, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.tensor([3, 7, 0, 5])[:, None]
    weights = mask.unsqueeze(-1).float()
    wanted = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    shares = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
    assert not torch.equal((hidden * shares).sum(dim=1), wanted)  # the same mean in another order
    backbone = load_backbone(str(saved["bert"]))
    for pool in (Pool(), backbone.stages["pool"], text_stages(AutoModel.from_pretrained(saved["bert"]))["pool"]):
        assert torch.equal(pool(Masked(hidden, mask)), wanted)


def test_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"pooling='min'.*mean, cls, max"):
        load_backbone("minilm", pooling="min")
    with pytest.raises(ValueError, match="revision='abc': 'minilm' does not come from the hub"):
        load_backbone("minilm", revision="abc")


def test_other_families_are_refused():
    from transformers import AutoModel, GPT2Config

    network = AutoModel.from_config(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=8, n_positions=8))
    with pytest.raises(ValueError, match="'gpt2'; as stages there are: bert, roberta, deberta-v2"):
        text_stages(network)


def test_a_convolution_beside_the_layers_is_refused():
    from transformers import AutoModel, DebertaV2Config

    network = AutoModel.from_config(DebertaV2Config(vocab_size=8, conv_kernel_size=3, **SIZES))
    with pytest.raises(ValueError, match="a convolution beside its first layer"):
        text_stages(network)


def test_the_pooling_is_part_of_the_name():
    backbone = load_backbone("minilm", pretrained=False, pooling="max")
    assert isinstance(backbone, Backbone)
    assert (backbone.name, backbone.preprocessing.name) == ("minilm (max)", "minilm")
