"""News and then tweets once more, with something that holds the news: EWC, or fifty documents. See lesson 10.

What is run, apart from how often (`lesson10`): the kept results depend on this file's text, not on the list of seeds.
Without a remedy it is `two_tasks.run_texts`, whose kept points pair with these.
"""

import copy
from functools import lru_cache

from tlcourse.backbones import Model
from tlcourse.evaluation import evaluate
from tlcourse.experiments.texts import BATCH_SIZE, HEAD_LR
from tlcourse.experiments.two_tasks import learn_news, news_then_tweets
from tlcourse.remedies import EWC, Replay
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train

__all__ = ["TWEET_LR", "run_held_texts"]

TWEET_LR = 2e-4
REPLAYED = 0.25  # kept documents beside each tweet


@lru_cache(maxsize=1)
def _learnt(seed: int) -> Model:
    """The model of the news, kept for the next point: copy it before you train it."""
    news, _ = news_then_tweets(seed)
    return learn_news(news, seed=seed)


def run_held_texts(remedy: str, value: float, *, seed: int) -> dict[str, float]:
    """Learn the topics of news, then the mood of tweets at 2e-4 under a remedy, and open the test splits.

    Parameters
    ----------
    remedy, value
        ``"EWC"`` and its strength, or ``"replay"`` and how many documents are kept; a quarter of a document comes with
        each tweet. There is no weight decay on the tweets, which would move the old head.
    seed
        Draws the splits, the labels, the heads and the order of the batches.

    Returns
    -------
    dict
        Accuracies: ``old`` and ``new``, on the news and on the tweets, test splits; ``old_val`` and ``new_val``, on
        the validation splits, where the value was chosen.
    """
    news, tweets = news_then_tweets(seed)
    model = copy.deepcopy(_learnt(seed))
    held = EWC(value) if remedy == "EWC" else Replay(int(value), ratio=REPLAYED, seed=seed)
    held.keep(model, news, head=news.name)
    model.add_head(tweets.name, len(tweets.class_names), seed=seed)
    train(
        model,
        tweets,
        full_fine_tune(model, lr=TWEET_LR, head_lr=HEAD_LR, decay=0.0),
        epochs=1,
        batch_size=BATCH_SIZE,
        seed=seed,
        penalties=held.penalties(model, head=tweets.name),
        head=tweets.name,
        progress=False,
    )
    found = {}
    for name, task in (("old", news), ("new", tweets)):
        found[name] = evaluate(model, task.test, head=task.name)["accuracy"]
        found[f"{name}_val"] = evaluate(model, task.val, head=task.name)["accuracy"]
    return found
