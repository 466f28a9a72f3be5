"""Lesson 08: its experiments, and what its prose says about the code."""

from dataclasses import replace

import pytest
import torch

from tlcourse.data import Split
from tlcourse.experiments import two_tasks
from tlcourse.experiments.lesson08 import CELLS_IN_TURN, POLY_EPOCHS, TEXTS_IN_TURN, TWEET_RATES
from tlcourse.experiments.two_tasks import NEWS_LABELS, TWEETS, news_then_tweets, run_cells, run_texts
from tlcourse.plans import parameter_groups


@pytest.fixture
def trained(monkeypatch):
    """What would be trained, in order: (task, rates of the stages, named arguments)."""
    calls = []

    def train(model, task, plan, **named):
        rates = {group["stage"]: group["lr"] for group in parameter_groups(model, plan)}
        calls.append((task, rates, named, list(model.heads)))

    monkeypatch.setattr(two_tasks, "train", train)
    return calls


def test_the_tasks_have_the_sizes_that_the_lesson_states():
    news, tweets = news_then_tweets(0)
    assert (len(news.train), len(tweets.train)) == (NEWS_LABELS, TWEETS) == (500, 1500)
    assert (len(news.class_names), len(tweets.class_names)) == (5, 3)


def test_tweets_follow_the_news_with_a_head_of_their_own(trained, monkeypatch):
    few = {}

    def fewer(seed):
        return few.setdefault(seed, tuple(_shortened(task) for task in news_then_tweets(seed)))

    monkeypatch.setattr(two_tasks, "news_then_tweets", fewer)
    scores = run_texts(2e-4, seed=3)
    (first, first_rates, first_named, first_heads), (second, second_rates, second_named, second_heads) = trained
    assert (first.name, second.name) == ("news", "sentiment")
    assert (first_named["epochs"], second_named["epochs"]) == (2, 1)
    assert first_named["seed"] == second_named["seed"] == 3
    assert (first_rates["layer6"], first_rates["head"]) == (5e-5, 1e-3)
    assert (second_rates["embeddings"], second_rates["layer6"], second_rates["head"]) == (2e-4, 2e-4, 1e-3)
    assert (first_heads, second_heads) == (["news"], ["news", "sentiment"])
    # Nothing was trained, so nothing was forgotten.
    assert scores["old"] == scores["old_before"]
    assert scores["probe"] == scores["probe_before"]
    assert set(scores) == {"old_before", "probe_before", "old", "new", "probe"}


@pytest.mark.parametrize("epochs", [0, 3])
def test_poly_cells_follow_mono_cells_with_one_head(trained, epochs):
    assert set(run_cells(epochs, seed=1)) == {"old", "new"}
    assert [named["epochs"] for _, _, named, _ in trained] == [4, 3][: 1 + (epochs > 0)]
    assert [task.options["cells"] for task, *_ in trained] == ["mono", "poly"][: 1 + (epochs > 0)]
    for task, rates, _, heads in trained:
        assert len(task.train) == 400
        assert set(rates.values()) == {1e-3}
        assert heads == ["solar"]


def test_the_kept_settings_are_those_that_the_lesson_compares():
    assert [setting["lr"] for setting in TEXTS_IN_TURN.settings] == list(TWEET_RATES) == [2e-5, 1e-4, 2e-4, 5e-4]
    assert [setting["epochs"] for setting in CELLS_IN_TURN.settings] == list(POLY_EPOCHS)
    assert POLY_EPOCHS[0] == 0  # what the old task scores before the new one


def _shortened(task):
    def first(split):
        rows = torch.arange(min(40, len(split)))
        return Split(split.inputs[rows], split.labels[rows], split.index[rows])

    return replace(task, train=first(task.train), val=first(task.val), test=first(task.test))
