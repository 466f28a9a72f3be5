import copy

import pytest
import torch
from torch import nn

from tlcourse.adapters import inject_lora, lora_layers
from tlcourse.backbones import Backbone, Model
from tlcourse.causal_stages import LastToken, RightPadded, causal_mask, causal_stages
from tlcourse.masked import Masked

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TINY = {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}
LENGTHS = [7, 1, 4]
REFUSED = {
    "bert": ("BertConfig", SIZES, {}, "type 'bert'; as stages there are: gpt2, llama"),
    "cross": ("GPT2Config", TINY | {"add_cross_attention": True}, {}, "attends to an encoder beside it"),
    "dynamic": (
        "LlamaConfig",
        SIZES | {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        {},
        "'dynamic' depend on the longest text",
    ),
    "pooling": ("GPT2Config", TINY, {"pooling": "cls"}, "pooling='cls': for a decoder it is one of last, mean, max"),
}


def decoder(family, **options):
    import transformers

    config = (
        transformers.GPT2Config(**TINY | options) if family == "gpt2" else transformers.LlamaConfig(**SIZES | options)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.AutoModel.from_config(config).eval()
        for value in network.parameters():  # scales of one, and weights so small that no attention shows
            value.data += 0.2 * torch.randn(value.shape)
    return network


def texts():
    values = torch.randint(0, 20, (3, 7), generator=torch.Generator().manual_seed(0))
    return Masked(values, torch.arange(7) < torch.tensor(LENGTHS)[:, None])


def backbone(network, **options):
    reads = RightPadded(name="tiny", folder="nowhere")
    return Backbone(
        "tiny", causal_stages(network, **options), feature_dim=16, preprocessing=reads, pretrained=False
    ).eval()


@pytest.mark.parametrize(("family", "rope"), [("gpt2", None), *(("llama", rope) for rope in (None, "linear", "yarn"))])
def test_states_and_gradients_are_those_of_the_original(family, rope):
    options = {"rope_parameters": {"rope_type": rope, "rope_theta": 1e4, "factor": 2.0}} if rope else {}
    network = decoder(family, **options)
    ours, tokens = backbone(copy.deepcopy(network)), texts()
    arguments = {"input_ids": tokens.values, "attention_mask": tokens.mask.long(), "use_cache": False}
    theirs = network(**arguments).last_hidden_state
    found = ours.run(tokens, stop=-1).values
    assert (found - theirs)[tokens.mask].abs().max() < 1e-6
    target = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)) * tokens.mask.unsqueeze(-1)
    for states in (found, theirs):
        (states * target).sum().backward()
    wanted = {name: gradient_of(part, value) for name, part, value in tensors(network)}
    gradients = sorted(wanted.values())
    assert len(gradients) == len(list(ours.parameters()))
    for one, other in zip(gradients, sorted(value.grad.flatten().tolist() for value in ours.parameters()), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def tensors(network):
    """(name, its module, tensor) of every parameter."""
    for name, value in network.named_parameters():
        yield name, network.get_submodule(name.rpartition(".")[0]), value


def gradient_of(part, value):
    """As a list, in the order of a linear layer's weight: that of a ``Conv1D`` is the transposed."""
    transposed = type(part).__name__ == "Conv1D" and value.dim() == 2
    return (value.grad.T if transposed else value.grad).flatten().tolist()


def test_the_maps_of_gpt2_are_linear_layers_and_lora_finds_them():
    network = decoder("gpt2").train()
    ours, state = copy.deepcopy(network), torch.get_rng_state()
    stages = causal_stages(ours)
    assert torch.equal(state, torch.get_rng_state())
    pairs = 0
    for (name, one), (other_name, other) in zip(network.h.named_modules(), ours.h.named_modules(), strict=True):
        assert name == other_name
        if type(one).__name__ == "Conv1D":
            assert type(other) is nn.Linear and other.training
            assert (other.in_features, other.out_features) == tuple(one.weight.shape)
            assert torch.equal(other.weight, one.weight.T) and torch.equal(other.bias, one.bias)
            assert other.weight.is_contiguous() and other.weight.requires_grad
            pairs += 1
    assert pairs == 8  # four in each of two layers
    reads = RightPadded(name="tiny", folder="nowhere")
    model = Model(Backbone("tiny", stages, feature_dim=16, preprocessing=reads, pretrained=False))
    inject_lora(model, rank=2)
    assert len(lora_layers(model)) == 8


def test_what_was_frozen_is_frozen_in_the_linear_layer_too():
    network = decoder("gpt2").requires_grad_(False)
    causal_stages(network)
    assert not any(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_position_sees_nothing_of_what_follows(family):
    ours, tokens = backbone(decoder(family)), texts()
    changed = Masked(tokens.values.clone(), tokens.mask)
    changed.values[0, 4] = (tokens.values[0, 4] + 1) % 20
    with torch.no_grad():
        moved = (ours.run(tokens, stop=-1).values - ours.run(changed, stop=-1).values)[0].abs().amax(dim=1)
    assert moved[:4].max() == 0
    assert moved[4:].min() > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_where_the_padding_stands_changes_nothing(family):
    """Positions are counted from the first real token: a text padded on the left gives what it gives on the right."""
    ours, tokens = backbone(decoder(family)), texts()
    left = Masked(
        torch.stack([row.roll(7 - n) for row, n in zip(tokens.values, LENGTHS, strict=True)]), tokens.mask.flip(1)
    )
    with torch.no_grad():
        assert (ours(left) - ours(tokens)).abs().max() < 1e-6


def test_the_head_of_gpt2_is_its_embedding():
    """The row of stages has no head; what predicts words is in it already, as the embedding."""
    import transformers

    network = transformers.GPT2LMHeadModel(transformers.GPT2Config(**TINY)).eval()
    stages = causal_stages(network.transformer)
    assert stages["embeddings"].words.weight is network.lm_head.weight
    tokens = texts()
    wanted = network(input_ids=tokens.values, attention_mask=tokens.mask.long()).logits
    state = tokens
    for stage in list(stages.values())[:-1]:
        state = stage(state)
    assert (state.values @ stages["embeddings"].words.weight.T - wanted)[tokens.mask].abs().max() < 1e-6


def test_dropout_of_the_embeddings_is_that_of_the_stage():
    stage = backbone(decoder("gpt2", embd_pdrop=0.5)).stages["embeddings"]
    tokens = texts()
    assert (stage(tokens).values == 0).sum() == 0
    dropped = (stage.train()(tokens).values == 0).float().mean().item()
    assert 0.3 < dropped < 0.7


def test_no_row_of_the_softmax_is_empty():
    mask = torch.tensor([[False, True, True], [False, False, False]])
    assert causal_mask(mask)[:, 0].tolist() == [
        [[True, False, False], [False, True, False], [False, True, True]],
        [[True, False, False], [False, True, False], [False, False, True]],
    ]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_text_without_tokens_gives_zeros_and_no_gradient(family):
    tokens = texts()
    tokens.mask[1] = False
    ours = backbone(decoder(family))
    features = ours(tokens)
    assert features[1].abs().max() == 0
    assert features[0].abs().max() > 0
    features.sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in ours.parameters())


def test_the_last_token_is_the_last_real_one():
    values = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    assert LastToken()(Masked(values, mask)).flatten().tolist() == [2.0, 11.0]


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_other_poolings_are_over_real_tokens(pooling):
    network, tokens = decoder("gpt2"), texts()
    ours = backbone(network, pooling=pooling)
    with torch.no_grad():
        states = ours.run(tokens, stop=-1).values
        rows = [row[mask] for row, mask in zip(states, tokens.mask, strict=True)]
        wanted = torch.stack([row.mean(0) if pooling == "mean" else row.amax(0) for row in rows])
        assert (ours(tokens) - wanted).abs().max() < 1e-6


def test_longer_texts_than_it_has_positions_are_refused():
    tokens = Masked(torch.zeros(1, 13, dtype=torch.long), torch.ones(1, 13, dtype=torch.bool))
    with pytest.raises(ValueError, match="texts of 13 tokens: its positions end at 12; cut them with max_length"):
        backbone(decoder("gpt2"))(tokens)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_row_of_stages_is_refused(kind):
    import transformers

    configuration, sizes, options, words = REFUSED[kind]
    network = transformers.AutoModel.from_config(getattr(transformers, configuration)(**sizes))
    with pytest.raises(ValueError, match=words):
        causal_stages(network, **options)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_runs_where_there_is_no_data(family):
    """On the meta device any tensor that stays behind, on a device written into the code, is an error."""
    meta = torch.device("meta")
    assert backbone(decoder(family)).to(meta)(texts().to(meta)).shape == (3, 16)
