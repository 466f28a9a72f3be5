import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from tlcourse.backbones import Backbone, Model
from tlcourse.causal_stages import RightPadded, causal_stages
from tlcourse.language import LanguageModel, fit_trigram, next_token_loss, perplexity
from tlcourse.masked import Masked
from tlcourse.plans import Plan, Rule, apply_plan

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = [[0, 1, 2], [0, 1, 3, 0, 1, 2], [4]]  # of a vocabulary of five


def masked(texts, filler=0):
    longest = max(map(len, texts))
    values = torch.tensor([text + [filler] * (longest - len(text)) for text in texts])
    return Masked(values, torch.arange(longest) < torch.tensor([[len(text)] for text in texts]))


@pytest.fixture
def tiny():
    import transformers

    config = transformers.GPT2Config(
        vocab_size=5, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=4, eos_token_id=4
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = transformers.GPT2LMHeadModel(config).eval()
        for value in network.parameters():
            value.data += 0.3 * torch.randn(value.shape)
    reads = RightPadded(name="tiny", folder="nowhere")
    stages = causal_stages(copy.deepcopy(network.transformer))
    return network, Backbone("tiny", stages, feature_dim=8, preprocessing=reads, pretrained=False).eval()


def by_hand(texts, history, word, vocabulary=5):
    """Witten and Bell's recursion, over lists."""
    events = []
    for text in texts:
        row = [None, *text]
        events += [((row[t - 1], row[t]), row[t + 1]) for t in range(1, len(text))]
    lower = 1 / vocabulary
    for length in range(3):
        followed = [following for past, following in events if past[2 - length :] == history[2 - length :]]
        if followed:
            kinds = len(set(followed))
            lower = (followed.count(word) + kinds * lower) / (len(followed) + kinds)
    return lower


def test_one_probability_is_that_of_pencil_and_paper():
    """Seven tokens are predicted, of four kinds, two of them a 2; after 1 came 2, 3, 2; after 0 and 1 the same."""
    single = (2 + 4 * 0.2) / (7 + 4)
    pair = (2 + 2 * single) / (3 + 2)
    triple = (2 + 2 * pair) / (3 + 2)
    model = fit_trigram(masked(TEXTS), vocabulary=5)
    assert model.log_probabilities(masked([[3, 0, 1, 2]]))[0, -1].exp() == pytest.approx(triple)
    assert by_hand(TEXTS, (0, 1), 2) == pytest.approx(triple)


def test_the_trigram_is_the_recursion_and_sums_to_one():
    model = fit_trigram(masked(TEXTS), vocabulary=5)
    for earlier in (None, *range(5)):
        for before in range(5):
            text = [before] if earlier is None else [earlier, before]
            rows = masked([[*text, word] for word in range(5)])
            found = model.log_probabilities(rows)[:, -1].exp()
            wanted = [by_hand(TEXTS, (earlier, before), word) for word in range(5)]
            assert found.tolist() == pytest.approx(wanted, rel=1e-12)
            assert found.sum().item() == pytest.approx(1)


def test_the_perplexity_of_a_trigram_is_by_token():
    model = fit_trigram(masked(TEXTS), vocabulary=5)
    logs = []
    for text in TEXTS:
        row = [None, *text]
        logs += [math.log(by_hand(TEXTS, (row[t - 1], row[t]), row[t + 1])) for t in range(1, len(text))]
    assert len(logs) == 7
    for batch_size in (1, 2, 16):
        for filler in (0, 4):
            found = perplexity(model, masked(TEXTS, filler), batch_size=batch_size)
            assert found == pytest.approx(math.exp(-np.mean(logs)))


def test_texts_seen_before_are_less_perplexing():
    rng = np.random.default_rng(0)
    steps = rng.dirichlet(np.full(12, 0.1), size=12)  # a chain of twelve words
    texts = []
    for _ in range(200):
        text = [int(rng.integers(12))]
        for _ in range(int(rng.integers(2, 20))):
            text.append(int(rng.choice(12, p=steps[text[-1]])))
        texts.append(text)
    model = fit_trigram(masked(texts[:150]), vocabulary=12)
    entropy = -(steps * np.log(np.where(steps > 0, steps, 1))).sum(1)
    assert perplexity(model, masked(texts[:150])) < perplexity(model, masked(texts[150:])) < 12
    assert perplexity(model, masked(texts[150:])) > math.exp(entropy.min())


def test_loss_and_perplexity_of_a_network_are_those_of_the_original(tiny):
    original, backbone = tiny
    model, tokens = LanguageModel(backbone), masked(TEXTS)
    labels = tokens.values.masked_fill(~tokens.mask, -100)
    wanted = original(input_ids=tokens.values, attention_mask=tokens.mask.long(), labels=labels).loss
    loss = next_token_loss(model(tokens), tokens)
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-6)
    loss.backward()
    wanted.backward()
    both = backbone.stages["embeddings"].words.weight.grad, original.transformer.wte.weight.grad
    assert torch.allclose(*both, atol=1e-6)  # of the embedding and the head together
    for batch_size in (1, 2, 16):
        assert perplexity(model, masked(TEXTS, filler=3), batch_size=batch_size) == pytest.approx(
            math.exp(wanted.item()), rel=1e-5
        )


def test_padding_and_first_tokens_have_no_part_in_the_loss():
    tokens = masked(TEXTS)
    logits = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    rows = [
        -logits[row, place].log_softmax(0)[text[place + 1]]
        for row, text in enumerate(TEXTS)
        for place in range(len(text) - 1)
    ]
    assert next_token_loss(logits, tokens).item() == pytest.approx(torch.stack(rows).mean().item())


def test_perplexity_leaves_the_model_as_it_is(tiny):
    _, backbone = tiny
    model = LanguageModel(backbone)
    evaluated = perplexity(model, masked(TEXTS))
    model.train()  # with dropout, which has no part in it
    assert perplexity(model, masked(TEXTS)) == evaluated
    assert all(part.training for part in model.modules())
    assert all(value.grad is None for value in model.parameters())


def test_a_head_of_its_own_is_used(tiny):
    _, backbone = tiny
    head = nn.Linear(8, 5)
    model, tokens = LanguageModel(backbone, head=head), masked(TEXTS)
    hidden = backbone.run(tokens, stop=-1).values
    assert torch.equal(model(tokens), head(hidden))
    assert len(list(model.parameters())) == len(list(backbone.parameters())) + 2


def test_a_head_that_was_not_the_embedding_must_be_given():
    import transformers

    sizes = {"vocab_size": 5, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.LlamaConfig(**sizes, intermediate_size=8, tie_word_embeddings=False)
    original = transformers.LlamaForCausalLM(config).eval()
    reads = RightPadded(name="tiny", folder="nowhere")
    stages = causal_stages(original.model)
    backbone = Backbone("tiny", stages, feature_dim=8, preprocessing=reads, pretrained=False).eval()
    with pytest.raises(ValueError, match="'tiny' was trained with a head of its own, .* give head="):
        LanguageModel(backbone)
    tokens = masked(TEXTS)
    wanted = original(input_ids=tokens.values, attention_mask=tokens.mask.long()).logits
    found = LanguageModel(backbone, head=original.lm_head)(tokens)
    assert (found - wanted)[tokens.mask].abs().max() < 1e-6


def test_a_plan_reaches_the_language_model(tiny):
    """The tied head is a parameter of ``embeddings``: frozen, it stands still, though the loss ends in it."""
    _, backbone = tiny
    apply_plan(Model(backbone), Plan("layers", (Rule("embeddings", 0.0), Rule("layer*", 1e-2), Rule("*", 0.0))))
    model, tokens = LanguageModel(backbone), masked(TEXTS)
    next_token_loss(model(tokens), tokens).backward()
    moved = {name.split(".")[2] for name, value in model.named_parameters() if value.grad is not None}
    assert moved == {"layer1"}


def test_what_cannot_be_predicted_is_refused(tiny, tiny_backbone):
    single = masked([[1], [2]])
    _, backbone = tiny
    with pytest.raises(ValueError, match="nothing to predict"):
        next_token_loss(torch.zeros(2, 1, 5), single)
    with pytest.raises(ValueError, match="nothing to predict"):
        perplexity(LanguageModel(backbone), single)
    with pytest.raises(ValueError, match="nothing to count"):
        fit_trigram(single, vocabulary=5)
    with pytest.raises(ValueError, match="tokens from 0 to 4: a vocabulary of 4 ends at 3"):
        fit_trigram(masked(TEXTS), vocabulary=4)
    with pytest.raises(ValueError, match="'tiny' is no decoder: its stages are stem"):
        LanguageModel(tiny_backbone)
