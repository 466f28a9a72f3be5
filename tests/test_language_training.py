import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tlcourse.backbones import Backbone
from tlcourse.causal_stages import RightPadded, causal_stages
from tlcourse.language import LanguageModel, perplexity
from tlcourse.language_training import BETAS, train_language
from tlcourse.masked import Masked
from tlcourse.plans import Plan, Rule
from tlcourse.rates import warmup_cosine
from tlcourse.strategies import feature_extraction, full_fine_tune, lora

pytestmark = pytest.mark.usefixtures("one_thread")
REFUSED = [  # options, words
    ({"epochs": 0}, "epochs=0: a whole number, at least 1"),
    ({"batch_size": 0}, "batch_size=0: a whole number"),
    ({"replayed": 0}, "replayed=0: a whole number"),
    ({"replayed": 2}, "replayed=2, but there is nothing to replay"),
    ({"tokens": slice(0, 0)}, "there is no row to train on"),
    ({"replay": slice(0, 0)}, "there is no row to train on, or to replay"),
]


def chain(count, *, seed, shift):
    """Rows of 9 tokens, cut at random, in which each token of 8 is the one before it plus a shift, seldom another."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 8, (count, 1), generator=generator)
    values = (start + shift * torch.arange(9)) % 8
    noise = torch.rand(values.shape, generator=generator) < 0.05
    values = torch.where(noise, torch.randint(0, 8, values.shape, generator=generator), values)
    return Masked(values, torch.arange(9) < torch.randint(3, 10, (count, 1), generator=generator))


def tiny(*, dropout=0.0, seed=0):
    import transformers

    sizes = {"vocab_size": 8, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 9, "initializer_range": 0.1}
    none = dict.fromkeys(("bos_token_id", "eos_token_id"), 0)
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    config = transformers.GPT2Config(**sizes, **none, **drops, tie_word_embeddings=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages, head = causal_stages(transformers.AutoModel.from_config(config)), nn.Linear(16, 8)
    reads = RightPadded(name="tiny", folder="nowhere")
    backbone = Backbone("tiny", stages, feature_dim=16, preprocessing=reads, pretrained=False)
    return LanguageModel(backbone, head=head).eval()


def by_hand(model, tokens, *, lr, epochs, batch_size, seed, replay=None):
    """The same lines without a library: every tensor of two dimensions decays, none of one."""
    matrices = [value for value in model.parameters() if value.dim() > 1]
    vectors = [value for value in model.parameters() if value.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}], lr=lr, betas=BETAS
    )
    generator, losses, step = torch.Generator().manual_seed(seed), [], 0
    batches = math.ceil(len(tokens) / batch_size)
    for _ in range(epochs):
        for index in torch.randperm(len(tokens), generator=generator).tensor_split(batches):
            for group in optimizer.param_groups:
                group["lr"] = lr * warmup_cosine(step, epochs * batches)
            values, mask = tokens.values[index], tokens.mask[index]
            if replay is not None:
                old = torch.randint(len(replay), (len(index),), generator=generator)
                values, mask = torch.cat([values, replay.values[old]]), torch.cat([mask, replay.mask[old]])
            logits = model(Masked(values, mask))
            losses_of_tokens = F.cross_entropy(logits[:, :-1].transpose(1, 2), values[:, 1:], reduction="none")
            loss = losses_of_tokens[mask[:, 1:]].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            step += 1
    return losses


@pytest.mark.parametrize("replays", [False, True])
def test_the_loop_is_the_one_by_hand(replays):
    tokens, old = chain(22, seed=0, shift=1), chain(13, seed=1, shift=3) if replays else None
    one, other = tiny(), tiny()
    options = {"epochs": 2, "batch_size": 5, "seed": 4, "replay": old}
    history = train_language(one, tokens, full_fine_tune(one, lr=1e-2), device="cpu", **options)
    losses = by_hand(other, tokens, lr=1e-2, **options)
    assert history.train_loss == pytest.approx([sum(losses[:5]) / 5, sum(losses[5:]) / 5], rel=1e-4)
    for name, value in one.state_dict().items():
        if "c_attn.bias" in name:
            continue  # that of the keys has no gradient but rounding's, of which AdamW makes steps
        assert torch.allclose(value, other.state_dict()[name], atol=1e-4), name


def test_what_is_learnt_is_scored_and_recorded():
    model, tokens, val = tiny(), chain(64, seed=0, shift=1), chain(40, seed=1, shift=1)
    before = perplexity(model, val)
    history = train_language(model, tokens, full_fine_tune(model, lr=1e-2), epochs=4, val=val, device="cpu")
    assert history.val[-1]["perplexity"] == pytest.approx(perplexity(model, val))
    assert history.val[-1]["log_loss"] == pytest.approx(math.log(perplexity(model, val)))
    assert history.val[-1]["perplexity"] < min(3, before / 2)
    assert history.epochs == [1, 2, 3, 4] and len(history.seconds) == 4 and history.best_epoch > 1
    assert set(history.lr[0]) == {"embeddings", "layer1", "layer2", "norm", "head"}
    assert not any(part.training for part in model.modules())
    assert train_language(tiny(), tokens, full_fine_tune(model), device="cpu").val == []


PLANS = [  # a plan, the stages whose tensors move
    (lambda m: feature_extraction(m, lr=1e-2), {"head"}),
    (lambda m: full_fine_tune(m, lr=1e-2), {"embeddings", "layer1", "layer2", "norm", "head"}),
    (lambda m: Plan("one", (Rule("layer2", 1e-2), Rule("*", 0.0))), {"layer2"}),
]


@pytest.mark.parametrize(("plan", "moving"), PLANS)
def test_what_the_plan_freezes_stands_still_and_is_in_eval_mode(plan, moving):
    model = tiny(dropout=0.3)
    before = copy.deepcopy(model.state_dict())
    train_language(model, chain(20, seed=0, shift=1), plan(model), device="cpu")
    for stage, module in model.stages.items():
        prefix = "heads." if stage == "head" else f"backbone.stages.{stage}."
        moved = any(not torch.equal(value, before[prefix + name]) for name, value in module.state_dict().items())
        assert moved is (stage in moving)
        frozen = any(True for _ in module.parameters()) and stage not in moving
        assert (stage in model.frozen_stages) is frozen or stage == "pool"
    model.train()
    modes = {part.training for name in model.frozen_stages for part in model.stages[name].modules()}
    assert modes <= {False}


def test_lora_trains_what_it_added_alone_and_can_be_trained_on():
    model, tokens = tiny(), chain(20, seed=0, shift=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan = lora(model, rank=2, lr=1e-2, head_lr=0.0)
    for _ in range(2):  # the second time it is there already
        train_language(model, tokens, plan, device="cpu")
    added = [name for name, value in model.named_parameters() if value.requires_grad]
    assert len(added) == 2 * 4 * 2 and all("lora_" in name for name in added)
    after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_replay_is_drawn_from_the_old_rows_and_keeps_them():
    new, old, val = (chain(40, seed=seed, shift=shift) for seed, shift in ((0, 1), (1, 3), (2, 3)))
    base = tiny()
    train_language(base, old, full_fine_tune(base, lr=1e-2), epochs=6, device="cpu")
    scores = {}
    for name, options in {"none": {}, "some": {"replay": old, "replayed": 1}, "all": {"replay": old}}.items():
        model = copy.deepcopy(base)
        train_language(model, new, full_fine_tune(model, lr=3e-3), epochs=3, seed=1, device="cpu", **options)
        scores[name] = perplexity(model, val)
    assert scores["all"] < scores["some"] < scores["none"]


def test_what_moves_trains_with_dropout():
    losses = []
    for dropout in (0.0, 0.5):
        model = tiny(dropout=dropout)  # the same weights
        losses += train_language(model, chain(20, seed=0, shift=1), full_fine_tune(model), device="cpu").train_loss
    assert losses[0] != losses[1]


def test_training_repeats_from_its_seed():
    def losses(seed):
        model = tiny(dropout=0.2)
        tokens = chain(20, seed=0, shift=1)
        return train_language(model, tokens, full_fine_tune(model), epochs=2, seed=seed, device="cpu").train_loss

    state = torch.get_rng_state()
    assert losses(1) == losses(1) != losses(2)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_bad_input_is_named(options, words):
    tokens = chain(8, seed=0, shift=1)
    options = {name: tokens[value] if isinstance(value, slice) else value for name, value in options.items()}
    model = tiny()
    with pytest.raises(ValueError, match=words):
        train_language(model, **{"tokens": tokens, **options}, plan=full_fine_tune(model), device="cpu")


def test_a_loss_that_is_no_number_is_an_error():
    model = tiny()
    with pytest.raises(FloatingPointError, match="lower the rates of 'full fine-tuning'"):
        train_language(model, chain(20, seed=0, shift=1), full_fine_tune(model, lr=1e30), device="cpu")
