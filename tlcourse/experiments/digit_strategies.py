"""EfficientNet-Lite0 learns handwritten digits: the strategies of the worlds on a real task far from photographs.

What is run, apart from how often (`lesson07`): the kept results depend on this file's text, not on the list of seeds.
"""

from dataclasses import replace

import torch

from tlcourse.backbones import attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.data import Split, load_task
from tlcourse.evaluation import evaluate, metrics
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune, last_stages
from tlcourse.training import train

__all__ = ["DIGIT_IMAGES", "MOST_EPOCHS", "run_digit_strategy"]

DIGIT_IMAGES, MOST_EPOCHS = 3000, 40  # in training, repeats included; the same for every strategy that trains
LR = 1e-3


def run_digit_strategy(strategy: str, labels: int, *, seed: int) -> dict[str, float]:
    """Learn digits at 28 px with a strategy, and open the test split once.

    Parameters
    ----------
    strategy
        ``"probe"`` (a logistic regression on the features, C 0.01), ``"last 2 stages"``, ``"full fine-tuning"`` or
        ``"from scratch"``; all rates are 1e-3.
    labels
        Labelled digits, passed through 3,000 / labels times, rounded, and 40 at most.
    seed
        Draws the splits, the labels, the random weights, the head and the order of the batches.

    Returns
    -------
    dict
        ``accuracy``.
    """
    task = load_task("digits", labels=labels, seed=seed)
    backbone = load_embedded("efficientnet_lite0", pretrained=strategy != "from scratch", seed=seed)
    if strategy == "probe":
        train_x, test_x = (extract_features(backbone, part.inputs) for part in (task.train, task.test))
        probe = fit_probe(train_x, task.train.labels, strengths=(0.01,))
        return {"accuracy": metrics(task.test.labels, probe.probabilities(test_x))["accuracy"]}
    # Validation chooses nothing here; the loop looks at it after each epoch: two digits a class are enough for that.
    rows = torch.cat([(task.val.labels == digit).nonzero()[:2, 0] for digit in range(len(task.class_names))])
    few = Split(task.val.inputs[rows], task.val.labels[rows], task.val.index[rows])
    model = attach_head(backbone, task, seed=seed)
    moving = last_stages(model, 2, lr=LR, head_lr=LR) if strategy == "last 2 stages" else full_fine_tune(model, lr=LR)
    epochs = min(MOST_EPOCHS, round(DIGIT_IMAGES / labels))
    train(model, replace(task, val=few), moving, epochs=epochs, seed=seed, progress=False)
    return {"accuracy": evaluate(model, task.test)["accuracy"]}
