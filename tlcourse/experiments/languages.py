"""A small GPT-2 that read about money, politics and machines, then reads about sport: how, and what is left. Lesson 12.

What is run, apart from how often (`lesson12`): the kept results depend on this file's text, not on the list of seeds.
"""

import copy
import math
import time
from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from tlcourse.backbones import Backbone
from tlcourse.causal_stages import RightPadded, causal_stages
from tlcourse.corpora import articles_of, rows_of_tokens, train_tokenizer
from tlcourse.data import load_task
from tlcourse.language import LanguageModel, Trigram, fit_trigram, perplexity
from tlcourse.language_training import train_language
from tlcourse.masked import Masked
from tlcourse.plans import Plan, parameter_groups
from tlcourse.runtime import seeded
from tlcourse.strategies import feature_extraction, full_fine_tune
from tlcourse.strategies import lora as lora_plan

__all__ = [
    "METHODS",
    "NEW_ARTICLES",
    "OLD_ARTICLES",
    "OLD_EPOCHS",
    "OLD_LR",
    "REPLAYED",
    "VOCABULARY",
    "Reading",
    "fine_tuning_plan",
    "learn_old",
    "old_and_new",
    "run_language",
    "small_gpt2",
]

OLD, NEW = (0, 2, 4), (3,)  # business, politics and tech; sport
OLD_ARTICLES, NEW_ARTICLES, TEST_ARTICLES = 200, 40, 40
# 256 bytes, the end of a text, and the 43 most frequent pairs: hardly more than letters. With 2,048 tokens this little
# computing does not reach a trigram model.
VOCABULARY, LENGTH = 300, 64
WIDTH, LAYERS, ATTENTION_HEADS = 96, 2, 6
# Drawn with GPT-2's own spread of 0.02, a network this narrow stays long with what single tokens tell.
SPREAD = 0.05
OLD_LR, OLD_EPOCHS = 5e-3, 3
NEW_EPOCHS, BATCH = 2, 8
LR, SMALL_LR, LORA_LR = 3e-3, 1e-3, 5e-3
REPLAYED = 2  # old rows to a batch of eight new ones
METHODS = ("full", "small rate", "replay", "head", "LoRA")


@dataclass(frozen=True)
class Reading:
    """Rows of tokens (n, 64) of old and new articles, and the tokenizer, which was trained on old ones."""

    tokenizer: object
    old: Masked
    old_test: Masked
    new: Masked
    new_test: Masked


@lru_cache(maxsize=1)
def old_and_new(seed: int) -> Reading:
    """200 articles about business, politics and tech; 40 about sport; 40 of each for the test."""
    task = load_task("news", seed=seed)
    old = articles_of(task.train, topics=OLD)[:OLD_ARTICLES]
    new = articles_of(task.train, topics=NEW)[:NEW_ARTICLES]
    tests = (articles_of(task.test, topics=topics)[:TEST_ARTICLES] for topics in (OLD, NEW))
    tokenizer = train_tokenizer(old, vocabulary=VOCABULARY)
    old_test, new_test = (rows_of_tokens(tokenizer, texts, length=LENGTH) for texts in tests)
    return Reading(
        tokenizer,
        rows_of_tokens(tokenizer, old, length=LENGTH),
        old_test,
        rows_of_tokens(tokenizer, new, length=LENGTH),
        new_test,
    )


def small_gpt2(*, seed: int, layers: int = LAYERS) -> LanguageModel:
    """Transformers' GPT-2 with 96 features, a head of its own and random weights, as stages."""
    from transformers import AutoModel, GPT2Config

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=layers,
        n_head=ATTENTION_HEADS,
        n_positions=LENGTH,
        initializer_range=SPREAD,
        tie_word_embeddings=False,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id"), 0),
    )
    with seeded(seed):
        stages, head = causal_stages(AutoModel.from_config(config)), nn.Linear(WIDTH, VOCABULARY, bias=False)
    reads = RightPadded(name="news of one seed", folder="a tokenizer that is trained on them")
    backbone = Backbone("small GPT-2", stages, feature_dim=WIDTH, preprocessing=reads, pretrained=False)
    return LanguageModel(backbone, head=head).eval()


@lru_cache(maxsize=1)
def learn_old(seed: int) -> tuple[LanguageModel, dict[str, float]]:
    """The model that has read the old articles, and its scores beside the trigram model's: see `run_language`.

    It is kept for the next point: copy it before you train it.
    """
    model, reading = small_gpt2(seed=seed), old_and_new(seed)
    train_language(model, reading.old, full_fine_tune(model, lr=OLD_LR), epochs=OLD_EPOCHS, batch_size=BATCH, seed=seed)
    trigram = fit_trigram(reading.old, vocabulary=VOCABULARY)
    return model, {
        "trigram": _nats(trigram, reading.old_test),
        "old_before": _nats(model, reading.old_test),
        "new_before": _nats(model, reading.new_test),
    }


def fine_tuning_plan(model: LanguageModel, method: str, rank: int | None, *, seed: int = 0) -> Plan:
    """What moves while the model reads about sport: all of it, its head, or LoRA with everything else held.

    LoRA is scaled by 2, whatever the rank.
    """
    if method == "LoRA":
        return lora_plan(model, rank=rank, alpha=2 * rank, lr=LORA_LR, head_lr=0.0, seed=seed)
    if method == "head":
        return feature_extraction(model, lr=LR, decay=0.0)
    return full_fine_tune(model, lr=SMALL_LR if method == "small rate" else LR, decay=0.0)


def run_language(method: str, rank: int | None = None, *, seed: int) -> dict[str, float]:
    """Read the old articles, then the new ones by one of the methods; score on held-out articles of both.

    Parameters
    ----------
    method
        One of `METHODS`; ``"small rate"`` is ``"full"`` at a third of the rate, ``"replay"`` is ``"full"`` with
        `REPLAYED` old rows in each batch.
    rank
        Of LoRA.
    seed
        Draws the splits, the weights and the order of the rows.

    Returns
    -------
    dict
        Mean negative log-likelihoods by token, in nats: ``trigram``, of old articles by the trigram model of the same
        tokens; ``old_before`` and ``new_before``, by the network after the old articles; ``old`` and ``new``, after the
        new ones; ``moving``, how many parameters moved; ``seconds`` of the second training.
    """
    learnt, before = learn_old(seed)
    reading, model = old_and_new(seed), copy.deepcopy(learnt)
    plan = fine_tuning_plan(model, method, rank, seed=seed)
    replay = {"replay": reading.old, "replayed": REPLAYED} if method == "replay" else {}
    began = time.perf_counter()
    train_language(model, reading.new, plan, epochs=NEW_EPOCHS, batch_size=BATCH, seed=1000 + seed, **replay)
    seconds = time.perf_counter() - began
    moving = sum(value.numel() for group in parameter_groups(model, plan) for value in group["params"])
    after = {"old": _nats(model, reading.old_test), "new": _nats(model, reading.new_test)}
    return {**before, **after, "moving": moving, "seconds": seconds}


def _nats(model: LanguageModel | Trigram, rows: Masked) -> float:
    return math.log(perplexity(model, rows, batch_size=64))
