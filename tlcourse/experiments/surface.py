"""Strategies on worlds whose distance to the source is a knob, over labels: the surface of lesson 07.

What is run, apart from how often (`lesson07`): the kept results depend on this file's text, not on the list of seeds.
"""

import math
from dataclasses import replace
from functools import lru_cache

import torch

from tlcourse.backbones import Backbone, ImagePreprocessing, Model, attach_head
from tlcourse.caching import extract_features
from tlcourse.data import Split, Task
from tlcourse.distance_worlds import make_distance_world
from tlcourse.distances import median_bandwidth, mmd_squared, proxy_a_distance
from tlcourse.evaluation import evaluate, metrics
from tlcourse.grafts import digit_network
from tlcourse.plans import Plan
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune, last_stages
from tlcourse.training import train

__all__ = [
    "IMAGES_SEEN",
    "STRATEGIES",
    "learn_source",
    "run_apart",
    "run_world",
    "source_world",
    "target_world",
    "world_network",
    "world_plan",
]

STRATEGIES = ("probe", "last 2 stages", "full fine-tuning", "from scratch")
IMAGES_SEEN = 6000  # in training, repeats included: the same for every strategy that trains
LR = 3e-3
BATCH_SIZE = 32
WORLD = {"complexity": 2, "noise": 0.08}
SOURCE_CLASSES, SOURCE_SAMPLES, SOURCE_EPOCHS = 10, 8000, 8
TARGET_SAMPLES = 5000
COMPARED = 500  # pictures of each side, without their labels


def world_network(seed: int = 0) -> Backbone:
    """The small convolutional network of lesson 02, drawn from the seed, for pictures in the middle of grey."""
    digits = digit_network(seed)
    return Backbone(
        "world_network",
        dict(digits.stages.items()),
        feature_dim=digits.feature_dim,
        preprocessing=ImagePreprocessing(mean=(0.5,) * 3, std=(0.2,) * 3),
        pretrained=False,
    ).eval()


def source_world(seed: int) -> Task:
    """The source task: ten classes of alphabet 0, at distance 0."""
    return make_distance_world(classes=SOURCE_CLASSES, samples=SOURCE_SAMPLES, seed=1000 + seed, **WORLD)


def target_world(distance: float, *, labels: int, classes: int = 6, seed: int) -> Task:
    """A target at a distance: glyphs of alphabet 1. The test pictures are the same scenes whatever the distance.

    Validation keeps two pictures a class: it chooses nothing here, and the loop looks at it after each epoch.
    """
    task = make_distance_world(
        distance, alphabet=1, classes=classes, samples=TARGET_SAMPLES, labels=labels, seed=seed, **WORLD
    )
    few = torch.cat([(task.val.labels == label).nonzero()[:2, 0] for label in range(classes)])
    val = Split(task.val.inputs[few], task.val.labels[few], task.val.index[few])
    return replace(task, val=val)


@lru_cache(maxsize=1)
def learn_source(seed: int) -> Model:
    """The pre-trained network. It is kept for the next point: copy it before you train it."""
    task = source_world(seed)
    model = attach_head(world_network(seed), task, seed=seed)
    train(model, task, full_fine_tune(model, lr=LR), epochs=SOURCE_EPOCHS, batch_size=64, seed=seed, progress=False)
    return model


def world_plan(model: Model, strategy: str) -> Plan:
    """The plan of a strategy that trains: of ``STRATEGIES``, all but the probe.

    Raises
    ------
    KeyError
        If there is no such strategy.
    """
    plans = {
        "last 2 stages": lambda: last_stages(model, 2, lr=LR, head_lr=LR),
        "full fine-tuning": lambda: full_fine_tune(model, lr=LR),
        "from scratch": lambda: full_fine_tune(model, lr=LR),
    }
    return plans[strategy]()


def run_world(
    strategy: str, distance: float, labels: int, classes: int = 6, images: int = IMAGES_SEEN, *, seed: int
) -> dict[str, float]:
    """Learn the source, then a target at a distance with a strategy, and open the test split once.

    Parameters
    ----------
    strategy
        One of ``STRATEGIES``. The probe is a logistic regression on the features, of a fixed strength.
    distance, classes
        As in `make_distance_world`.
    labels
        Labelled pictures to learn from.
    images
        How many pass through training, repeats included; at least one epoch.
    seed
        Draws both tasks, the networks, the head and the order of the batches.

    Returns
    -------
    dict
        ``accuracy`` on the test split; classes are equally frequent.
    """
    task = target_world(distance, labels=labels, classes=classes, seed=seed)
    backbone = world_network(2000 + seed) if strategy == "from scratch" else learn_source(seed).backbone
    if strategy == "probe":
        train_x, test_x = (extract_features(backbone, part.inputs) for part in (task.train, task.test))
        probe = fit_probe(train_x, task.train.labels, strengths=(1.0,))
        return {"accuracy": metrics(task.test.labels, probe.probabilities(test_x))["accuracy"]}
    model = attach_head(backbone, task, seed=seed)
    epochs = max(1, math.ceil(images / labels))
    plan = world_plan(model, strategy)
    train(model, task, plan, epochs=epochs, batch_size=BATCH_SIZE, seed=seed, progress=False)
    return {"accuracy": evaluate(model, task.test)["accuracy"]}


def run_apart(distance: float, *, seed: int) -> dict[str, float]:
    """How far a target is from the source, in the features of the network that learnt the source.

    Returns
    -------
    dict
        ``mmd``, the squared maximum mean discrepancy, with the bandwidth of the source's own pictures for all
        distances; ``a_distance``; both between 500 pictures of the source's test split and 500 of the target.
    """
    network, source = learn_source(seed).backbone, source_world(seed).test.inputs[:COMPARED]
    target = target_world(distance, labels=COMPARED, seed=seed).train.inputs
    here, there = (extract_features(network, inputs) for inputs in (source, target))
    bandwidth = median_bandwidth(here[::2], here[1::2])
    return {
        "mmd": mmd_squared(here, there, bandwidth=bandwidth, seed=seed).value,
        "a_distance": proxy_a_distance(here, there, seed=seed).value,
    }
