# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Adapters and large models
#
# **The question: must a large network move as a whole to learn something new, or is a small addition enough, and what
# does the addition forget?**
#
# Everything so far decided how fast a stage may move. Here the stages stand still, and something small is put beside
# them. You
#
# 1. write LoRA by hand in a dozen lines, and get the same numbers from the library that everybody uses;
# 2. merge it into the weights, and see what rounding does to that;
# 3. count what it saves and what it does not;
# 4. train a small GPT-2 on half of the news, which has to beat a trigram model before we say anything about it;
# 5. teach it sport with LoRA of four ranks and in full, and read what it learnt and what it forgot;
# 6. walk over six bridges, from here to what you may want to do next.
#
# About 45 minutes of your time and about two of the machine's. You need lessons 04, 06 and 09.

# %%
import copy
import math
import time

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from tlcourse import (
    apply_plan,
    articles_of,
    attach_head,
    claim,
    describe_plan,
    evaluate,
    feature_extraction,
    fit_trigram,
    full_fine_tune,
    load_backbone,
    load_results,
    load_task,
    lora,
    merge_lora,
    over_seeds,
    parameter_groups,
    perplexity,
    plots,
    rows_of_tokens,
    train,
    train_language,
    train_tokenizer,
    training_memory,
    unmerge_lora,
    widgets,
)
from tlcourse.adapters import lora_layers
from tlcourse.experiments.languages import (
    NEW_ARTICLES,
    OLD_ARTICLES,
    OLD_EPOCHS,
    OLD_LR,
    REPLAYED,
    VOCABULARY,
    fine_tuning_plan,
    old_and_new,
    small_gpt2,
)
from tlcourse.experiments.lesson09 import REMEDIES_COMPARED, TRIALS
from tlcourse.experiments.lesson12 import LANGUAGE_RANKS, RANKS
from tlcourse.zoo import ZOO

SEEDS = range(5)

# %% [markdown]
# ## Your prediction
#
# A small GPT-2 has read about business, politics and tech. Then it reads 40 articles about sport. Training all of its
# weights makes sport less perplexing by some amount. LoRA of rank 4 holds every weight, and moves about one number for
# each seventeen of them. Which share of that gain does it reach?

# %%
share_prediction = widgets.predict(
    "Gain of LoRA, rank 4, as a share of the gain of full fine-tuning?",
    low=0.0,
    high=1.5,
    step=0.05,
    key="12-rank-4-share",
)

# %% [markdown]
# ## LoRA by hand
#
# A linear layer computes $W x$. Fine-tuning replaces $W$ by $W + \Delta$, and $\Delta$ has as many numbers as $W$. Hu
# and others (2021) let $\Delta$ be a product of two thin matrices: $\Delta = \frac{\alpha}{r} B A$, where $A$ has $r$
# rows and $B$ has $r$ columns. $W$ is frozen, $A$ starts at random, $B$ at zero.


# %%
class LowRank(nn.Module):
    """A frozen linear layer, and beside it a product of two thin matrices that can learn."""

    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.empty(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.T) @ self.B.T


layer = nn.Linear(384, 384)
x = torch.randn(16, 384)
adapted = LowRank(copy.deepcopy(layer), rank=4, alpha=8)
assert torch.equal(adapted(x), layer(x))  # B is zero: nothing has changed yet
print(f"the layer {sum(p.numel() for p in layer.parameters()):,} numbers, LoRA {adapted.A.numel() + adapted.B.numel():,}")

# %% [markdown]
# Two starts at zero would be the end of it: the gradient of $A$ has $B$ as a factor, and that of $B$ has $A$. One of
# them zero is enough to begin at the pre-trained function *exactly*, and leaves a gradient to begin with.
#
# ## The same with peft
#
# `lora(model, ...)` is a plan like any other. It says what has to be added before training, and the library peft adds
# it. We put both into MiniLM, at *query* and *value* of every layer, give both the same random $A$ and $B$, and compare
# the logits of eight articles and every gradient. Expected: no difference above `1e-5`, for five draws.

# %%
news = load_task("news", labels=50, max_length=32)
minilm = load_backbone("minilm")
plain = attach_head(minilm, news)
TARGETS = ("query", "value")


def by_hand(model, rank, alpha):
    """A copy with `LowRank` in the place of each target, and these in order."""
    model, made = copy.deepcopy(model), []
    for parent in list(model.backbone.modules()):
        for name, part in list(parent.named_children()):
            if name in TARGETS:
                setattr(parent, name, LowRank(part, rank, alpha))
                made.append(getattr(parent, name))
    return model, made


def with_peft(rank, alpha):
    model = copy.deepcopy(plain)
    apply_plan(model, lora(model, rank=rank, alpha=alpha, targets=TARGETS))
    return model, lora_layers(model)


def largest_difference(seed):
    """Between ours and peft's, over logits and the gradients of every A and B, relative to the largest value."""
    (ours, mine), (theirs, layers) = by_hand(plain, 4, 8), with_peft(4, 8)
    generator = torch.Generator().manual_seed(seed)
    batch, labels = news.test.inputs[seed * 8 : seed * 8 + 8], news.test.labels[seed * 8 : seed * 8 + 8]
    pairs = []
    for one, other in zip(mine, layers, strict=True):
        pairs += [(one.A, other.lora_A["default"].weight), (one.B, other.lora_B["default"].weight)]
    for one, other in pairs:
        one.data = 0.05 * torch.randn(one.shape, generator=generator)
        other.data = one.data.clone()
    logits = [model.eval()(batch) for model in (ours, theirs)]
    for each in logits:
        F.cross_entropy(each, labels).backward()
    compared = [logits, *([one.grad, other.grad] for one, other in pairs)]
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in compared)


same = claim(
    "By hand and by peft: logits and gradients differ by less than 1e-5 of the largest",
    over_seeds(largest_difference, SEEDS),
    below=1e-5,
)

# %% [markdown]
# So there is no secret in it. What a library adds is care: which layers, names that can be saved, merging. By default
# our plan takes *every* linear layer and convolution; `targets=` narrows that by name. And the rank?

# %%
print(f"{'targets':<18}{'rank':>5}{'layers':>8}{'moving':>12}")
for targets in (TARGETS, ()):
    for rank in (1, 8, 64):
        model = copy.deepcopy(plain)
        plan = lora(model, rank=rank, targets=targets)
        apply_plan(model, plan)
        moving = sum(value.numel() for group in parameter_groups(model, plan) for value in group["params"])
        print(f"{' '.join(targets) or 'all':<18}{rank:>5}{len(lora_layers(model)):>8}{moving:>12,}")
print(f"all of MiniLM: {sum(value.numel() for value in plain.parameters()):,}")

# %% [markdown]
# The scale is $\alpha / r$: who doubles the rank and leaves $\alpha$ halves the step that each direction makes. We keep
# $\alpha / r$ at 2 below, so that the rank alone changes. (`rank_stabilised=True` divides by $\sqrt{r}$ instead.)
#
# ## Merging, and its rounding
#
# $W + \frac{\alpha}{r} B A$ is one matrix. Once learnt, the addition can be *merged*, and costs nothing any more. On
# paper that changes nothing. In numbers it rounds: the sum has to fit into as many bits as $W$. Expected, over five
# draws of $B$ of the size that training makes: in float32 the logits move by less than `1e-5`; in bfloat16, which has
# eight bits for a number's digits, by more than `1e-3`.

# %%


def moved_by_merging(seed, dtype):
    """Largest change of a logit when LoRA is merged, and whether taking it out again gives the base's bits."""
    model, layers = with_peft(8, 16)
    generator = torch.Generator().manual_seed(seed)
    for layer in layers:
        layer.lora_B["default"].weight.data = 0.02 * torch.randn(384, 8, generator=generator)
    model.eval().to(dtype)
    base = [layer.base_layer.weight.clone() for layer in layers]
    with torch.no_grad():
        before = model(news.test.inputs[:16])
        merge_lora(model)
        after = model(news.test.inputs[:16])
        unmerge_lora(model)
    changed = sum((layer.base_layer.weight != old).sum().item() for layer, old in zip(layers, base, strict=True))
    return {"logit": (after - before).abs().max().item(), "changed": changed / sum(old.numel() for old in base)}


single, half = (
    over_seeds(lambda seed, dtype=dtype: moved_by_merging(seed, dtype), SEEDS)
    for dtype in (torch.float32, torch.bfloat16)
)

# %%
exact = claim("In float32, merging moves a logit by less than 1e-5", single["logit"], below=1e-5)
rounded = claim("In bfloat16, merging moves a logit by more than 1e-3", half["logit"], above=1e-3)

# %% [markdown]
# In float32 the largest change is {{ f"{single['logit'].mean:.0e}" }}, in bfloat16 {{ f"{half['logit'].mean:.0e}" }}.
# And who merges and takes out again does not get back what he had:
# {{ f"{100 * single['changed'].mean:.0f} %" }} of the base's weights differ in their last bits in float32,
# {{ f"{100 * half['changed'].mean:.0f} %" }} in bfloat16. So keep the base untouched on disk and the adapter beside it,
# and merge a copy. A second merge would add the product twice; it is refused.

# %%
merged, _ = with_peft(8, 16)
merge_lora(merged)
try:
    merge_lora(merged)
except ValueError as error:
    print(error)

# %% [markdown]
# ## What it saves, and what it does not
#
# AdamW keeps two numbers for each weight that moves, and a gradient is a third. What does not move needs none of the
# three. But to reach $A$ and $B$ in the first layer, the backward pass has to go through all layers, and keeps their
# activations. We count both for a batch of 16 articles of 64 tokens.

# %%
longer = load_task("news", labels=50, max_length=64)
PLANS = {
    "full": lambda model: full_fine_tune(model, lr=1e-4),
    "LoRA, rank 8": lambda model: lora(model, rank=8, targets=TARGETS),
    "head alone": feature_extraction,
}
memory, seconds = {}, {}
for name, make in PLANS.items():
    model = copy.deepcopy(plain)
    plan = make(model)
    memory[name] = training_memory(model, plan, longer.train.inputs[:16], batch_size=16)
    apply_plan(model, plan)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        F.cross_entropy(model(longer.train.inputs[:16]), longer.train.labels[:16]).backward()
        times.append(time.perf_counter() - began)
    seconds[name] = min(times)
assert memory["LoRA, rank 8"].optimiser < 0.02 * memory["full"].optimiser
assert memory["LoRA, rank 8"].activations > 0.8 * memory["full"].activations


def memory_table():
    lines = ["| plan | weights | gradients | AdamW | activations | all, in MB | time, full is 1 |", "|" + "---|" * 7]
    for name, m in memory.items():
        parts = (m.weights, m.gradients, m.optimiser, m.activations, m.total)
        cells = " | ".join(f"{part / 1e6:.1f}" for part in parts)
        lines.append(f"| {name} | {cells} | {seconds[name] / seconds['full']:.2f} |")
    return "\n".join(lines)


# %% [markdown]
# {{ memory_table() }}
#
# LoRA does away with the optimiser's memory, and with next to nothing of the activations. The time is of one forward
# and backward pass on this machine, without the optimiser's step, and it is no claim: only the products for the frozen
# weights' gradients fall away. **Of a large model weights and their moments are most of the memory, so LoRA saves most
# of it; of long texts in large batches the activations are, and it saves little.**
#
# ## A small language model
#
# To see what LoRA learns and forgets, we want a model that predicts words. It must be small enough to be trained here
# over several seeds, from nothing. So we take transformers' GPT-2, two layers and 96 features. It reads
# {{ OLD_ARTICLES }} articles about business, politics and tech, {{ OLD_EPOCHS }} times. Sport is kept away.
# Near-duplicates never stand on both sides (lesson 00). The tokenizer is of GPT-2's kind and trained on the same 200
# articles, but its {{ VOCABULARY }} tokens are hardly more than letters: that is as far as a minute of one core goes.

# %%
reading = old_and_new(0)
tokens = reading.tokenizer("Shares in the company rose.".lower())["input_ids"]
print("·".join(reading.tokenizer.convert_ids_to_tokens(tokens)).replace("Ġ", "_"))
for name in ("old", "old_test", "new", "new_test"):
    rows = getattr(reading, name)
    print(f"{name:<9}{len(rows):>6,} rows of at most {rows.mask.shape[1]} tokens")

# %% [markdown]
# The loop is that of lesson 03, with the loss of the next token. Live we take one pass over a quarter of the rows, a
# twelfth of the real training: enough to see it learn.

# %%
live = small_gpt2(seed=0)
quarter = reading.old[torch.arange(0, len(reading.old), 4)]
untrained = perplexity(live, reading.old_test, batch_size=64)
live_history = train_language(live, quarter, full_fine_tune(live, lr=OLD_LR), epochs=1, seed=0)
short = perplexity(live, reading.old_test, batch_size=64)
assert short < untrained / 5

# %% [markdown]
# Perplexity is `exp` of the mean loss by token: a model that hesitates between $k$ equally likely tokens has $k$. From
# {{ f"{untrained:.0f}" }} it fell to {{ f"{short:.1f}" }}. Is that any good? That only a second model can say. A
# *trigram* model counts which token followed which two; there is nothing to train, and it is hard to beat on little
# text. A network that does not beat it has learnt less than a table.
#
# So this comes first, over {{ len(LANGUAGE_RANKS.seeds) }} seeds. Each draws splits, tokenizer, weights and order
# (`make experiments NAME=language_ranks`). A pilot on a seed that is not used here chose sizes and rates. Written down
# before the run, in nats by token on held-out old articles: **the network beats the trigram model of the same text and
# the same tokens by more than `0.05`.**

# %%
kept = load_results(LANGUAGE_RANKS)


def read(metric, method="full", rank=None):
    return kept.scores(metric, method=method, rank=rank)


beats = claim(
    "On held-out old text, GPT-2 beats a trigram model of the same text and tokens by over 0.05 nats",
    read("trigram") - read("old_before"),
    above=0.05,
)


# %% [markdown]
# Perplexity {{ f"{math.exp(read('old_before').mean):.1f}" }} against {{ f"{math.exp(read('trigram').mean):.1f}" }}.
# {{ "Now we may go on." if beats.found == "supported" else "That is not what we had asked for; read on with care." }}
#
# ## New text: what rank learns, what rank forgets
#
# Each of the {{ len(LANGUAGE_RANKS.seeds) }} models then reads {{ NEW_ARTICLES }} articles about sport, twice: in full;
# in full at a third of the rate; in full with {{ REPLAYED }} old rows to eight new ones (*replay*, lesson 09); with its
# head alone; and with LoRA at every linear layer, head frozen. The rates come from a pilot: of two for full fine-tuning
# we took the one that is better *on sport*, the other is the small rate; LoRA has one for all ranks.
#
# We measure in nats by token, on held-out articles, what sport gains and what the old topics lose. Biderman and others
# (2024) found of far larger models that *LoRA learns less and forgets less*; we compare the direction only. Written
# down before the run:
#
# - full fine-tuning **gains more** than rank 4, by over `0.05`, and **loses more**, by over `0.05`;
# - rank 64 gains more than rank 1, by over `0.05`, and loses more, by over `0.03`;
# - rank 4 gains more than the head alone;
# - replay saves the old topics more than `0.05`, and costs sport less than `0.03`.
#
# Lesson 09 taught to compare every remedy with a small rate. So: **at a third of the rate, full fine-tuning gains more
# than rank 4, by over `0.03`, and loses not more than `0.06` beyond what rank 4 loses.**

# %%
METHODS = {"full": ("full", None), "small rate": ("small rate", None), "replay": ("replay", None)}
METHODS |= {"head alone": ("head", None)} | {f"LoRA {rank}": ("LoRA", rank) for rank in RANKS}
gained = {name: read("new_before", *which) - read("new", *which) for name, which in METHODS.items()}
lost = {name: read("old", *which) - read("old_before", *which) for name, which in METHODS.items()}

# %%
learns = claim("Full fine-tuning gains over 0.05 more than rank 4", gained["full"] - gained["LoRA 4"], above=0.05)
forgets = claim("Full fine-tuning loses over 0.05 more than rank 4", lost["full"] - lost["LoRA 4"], above=0.05)
claim("Rank 64 gains over 0.05 more than rank 1", gained["LoRA 64"] - gained["LoRA 1"], above=0.05)
claim("Rank 64 loses over 0.03 more than rank 1", lost["LoRA 64"] - lost["LoRA 1"], above=0.03)
claim("Rank 4 gains more than the head alone", gained["LoRA 4"] - gained["head alone"], above=0.0)
claim("Replay saves the old topics over 0.05", lost["full"] - lost["replay"], above=0.05)
claim("Replay costs sport less than 0.03", gained["full"] - gained["replay"], below=0.03)

# %%
small_gains = claim(
    "At a small rate, full fine-tuning gains over 0.03 more than rank 4",
    gained["small rate"] - gained["LoRA 4"],
    above=0.03,
)
small_loses = claim(
    "and loses at most 0.06 more than rank 4", lost["small rate"] - lost["LoRA 4"], below=0.06
)
