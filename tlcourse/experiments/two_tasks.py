"""One task after another: what the second costs the first, at which rate and after how many epochs. See lesson 08.

What is run, apart from how often (`lesson08`): the kept results depend on this file's text, not on the list of seeds.
"""

import torch

from tlcourse.backbones import Model, attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.data import Task, load_task
from tlcourse.evaluation import evaluate
from tlcourse.experiments.texts import BATCH_SIZE, HEAD_LR, MAX_LENGTH
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train

__all__ = ["CELLS", "NEWS_LABELS", "TWEETS", "learn_news", "news_then_tweets", "run_cells", "run_texts"]

NEWS_LABELS, NEWS_LR, NEWS_EPOCHS = 500, 5e-5, 2
TWEETS = 1500  # one pass
CELLS, CELLS_LR, MONO_EPOCHS = 400, 1e-3, 4


def news_then_tweets(seed: int) -> tuple[Task, Task]:
    """The old task, topics of 500 news articles, and the new one, the mood of 1,500 tweets; 32 tokens each."""
    news = load_task("news", labels=NEWS_LABELS, seed=seed, max_length=MAX_LENGTH)
    return news, load_task("sentiment", labels=TWEETS, seed=seed, max_length=MAX_LENGTH)


def learn_news(news: Task, *, seed: int) -> Model:
    """MiniLM fully fine-tuned on the news: the model that has something to forget."""
    model = attach_head(load_embedded("minilm"), news, seed=seed)
    plan = full_fine_tune(model, lr=NEWS_LR, head_lr=HEAD_LR)
    train(model, news, plan, epochs=NEWS_EPOCHS, batch_size=BATCH_SIZE, seed=seed, progress=False)
    return model


def run_texts(lr: float, *, seed: int) -> dict[str, float]:
    """Learn the topics of news, then the mood of tweets with a head of its own, and open the test splits.

    Parameters
    ----------
    lr
        Of the backbone while it learns the tweets; their head moves at 1e-3.
    seed
        Draws the splits, the labels, the heads and the order of the batches.

    Returns
    -------
    dict
        Accuracies on the test splits: ``old_before`` and ``old``, the news with their own head, before and after the
        tweets; ``new``, the tweets; ``probe_before`` and ``probe``, the news with a probe that is fitted anew to the
        features of their training split.
    """
    news, tweets = news_then_tweets(seed)
    model = learn_news(news, seed=seed)
    scores = {"old_before": evaluate(model, news.test)["accuracy"], "probe_before": _probed(model, news)}
    model.add_head(tweets.name, len(tweets.class_names), seed=seed)
    plan = full_fine_tune(model, lr=lr, head_lr=HEAD_LR)
    train(model, tweets, plan, epochs=1, batch_size=BATCH_SIZE, seed=seed, progress=False)
    old, new = (evaluate(model, task.test, head=task.name)["accuracy"] for task in (news, tweets))
    return {**scores, "old": old, "new": new, "probe": _probed(model, news)}


def run_cells(epochs: int, *, seed: int) -> dict[str, float]:
    """Learn defects of mono cells, then of poly cells, with one head, at 64 px and 1e-3; open the test splits.

    Parameters
    ----------
    epochs
        Over the 400 poly cells; 0 for none.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``old`` and ``new``: the AUC on mono and on poly cells.
    """
    mono, poly = (load_task("solar", labels=CELLS, cells=kind, seed=seed, size=64) for kind in ("mono", "poly"))
    model = attach_head(load_embedded("efficientnet_lite0"), mono, seed=seed)
    plan = full_fine_tune(model, lr=CELLS_LR)
    train(model, mono, plan, epochs=MONO_EPOCHS, seed=seed, progress=False)
    if epochs:
        train(model, poly, plan, epochs=epochs, seed=seed, progress=False)
    old, new = (evaluate(model, task.test)["auc"] for task in (mono, poly))
    return {"old": old, "new": new}


def _probed(model: Model, task: Task) -> float:
    train_x, test_x = (extract_features(model, split.inputs) for split in (task.train, task.test))
    probe = fit_probe(train_x, task.train.labels, strengths=(0.01,))
    guessed = torch.as_tensor(probe.probabilities(test_x)).argmax(dim=1)
    return (guessed == task.test.labels).double().mean().item()
