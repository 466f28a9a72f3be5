"""The experiments that are kept: their budgets, what they return, and that the seed decides it."""

import pytest

from tlcourse.experiments import EXPERIMENTS
from tlcourse.experiments.lesson01 import LABELS
from tlcourse.experiments.solar import IMAGES_SEEN, PRETRAINED, epochs_for, run_strategy
from tlcourse.results import load_results

EPOCHS = {25: 40, 50: 40, 100: 40, 200: 20, 1000: 4, 2000: 2}
RUNS = [("probe", 25, 0), ("random features", 25, 0), ("full fine-tuning", 25, 25), ("from scratch", 25, 25)]


@pytest.mark.parametrize(("labels", "epochs"), EPOCHS.items())
def test_epochs_follow_the_budget(labels, epochs):
    assert epochs_for(labels) == epochs


@pytest.mark.parametrize("labels", LABELS)
def test_no_size_is_trained_on_more_images_than_the_budget(labels):
    assert epochs_for(labels) * labels <= IMAGES_SEEN


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "labels", "images"), RUNS)
def test_a_run_scores_and_counts_what_it_saw(strategy, labels, images):
    scores = run_strategy(strategy, labels, epochs=1, seed=3)
    assert set(scores) == {"auc", "balanced_accuracy", "log_loss", "train_auc", "images"}
    assert scores["images"] == images
    assert all(0 <= scores[name] <= 1 for name in ("auc", "balanced_accuracy", "train_auc"))
    assert scores["log_loss"] > 0


@pytest.mark.slow
def test_the_weights_are_what_tells_the_strategies_apart():
    one = {strategy: run_strategy(strategy, 25, epochs=1, seed=3)["log_loss"] for strategy in PRETRAINED}
    assert len(set(one.values())) == len(PRETRAINED)
    assert run_strategy("probe", 25, seed=3)["log_loss"] == one["probe"]
    assert run_strategy("probe", 25, seed=4)["log_loss"] != one["probe"]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(KeyError, match="wishful thinking"):
        run_strategy("wishful thinking", 25, seed=0)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_is_kept_whole_and_fresh(experiment):
    kept = load_results(experiment)
    assert len(kept.points()) == len(experiment.settings) * len(experiment.seeds)
