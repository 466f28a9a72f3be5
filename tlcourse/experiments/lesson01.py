"""Lesson 01: what pre-training is worth, in labels and in compute, on solar cells.

Four strategies that differ in two things alone: where the weights come from, and whether the backbone may move.
"""

from tlcourse.backbones import attach_head, load_backbone
from tlcourse.caching import extract_features
from tlcourse.data import load_task, random_flips
from tlcourse.evaluation import evaluate, metrics
from tlcourse.plans import full_fine_tune
from tlcourse.probes import fit_probe
from tlcourse.results import Experiment
from tlcourse.training import train

__all__ = ["BUDGETS", "LABELS", "LEARNING_CURVE", "REFERENCE", "TRAINED_LABELS", "epochs_for", "run_strategy"]

LABELS = (25, 50, 200, 1000, 2000)
TRAINED_LABELS = (25, 200, 1000, 2000)  # training the whole network costs minutes a point: one size fewer
SEEDS = (0, 1, 2, 3, 4)
IMAGES_SEEN = 4000
PRETRAINED = {"probe": True, "full fine-tuning": True, "random features": False, "from scratch": False}
PROBES = ("probe", "random features")


def epochs_for(labels: int) -> int:
    """Passes over the labels that make about 4,000 images, at most 40. The same for every strategy."""
    return min(40, round(IMAGES_SEEN / labels))


def run_strategy(
    strategy: str, labels: int, epochs: int | None = None, *, size: int = 64, seed: int
) -> dict[str, float]:
    """Train one strategy and open the test split once.

    Parameters
    ----------
    strategy
        ``"probe"`` and ``"random features"``: logistic regression on the frozen network, pre-trained or random;
        ``"full fine-tuning"`` and ``"from scratch"``: every stage trained, from pre-trained or random weights.
    labels
        Labelled cells to learn from. Validation cells come on top; they choose the probe's C and nothing else.
    epochs
        Default `epochs_for`; the probes have none.
    size
        Side of the images in pixels.
    seed
        Draws the splits, the labels, the random weights, the head and the order of the batches.

    Returns
    -------
    dict
        ``auc``, ``balanced_accuracy``, ``log_loss`` on the test split; ``train_auc``; ``images``, how many the network
        was trained on, repeats included.
    """
    task = load_task("solar", labels=labels, seed=seed, size=size)
    backbone = load_backbone("efficientnet_lite0", pretrained=PRETRAINED[strategy], seed=seed)
    if strategy in PROBES:
        train_x, val_x, test_x = (extract_features(backbone, part.inputs) for part in (task.train, task.val, task.test))
        probe = fit_probe(train_x, task.train.labels, validation=(val_x, task.val.labels))
        test, seen = metrics(task.test.labels, probe.probabilities(test_x)), 0
        learnt = metrics(task.train.labels, probe.probabilities(train_x))
    else:
        epochs = epochs or epochs_for(labels)
        model = attach_head(backbone, task, seed=seed)
        plan = full_fine_tune(model, lr=1e-3)
        train(model, task, plan, epochs=epochs, seed=seed, augment=random_flips, progress=False)
        test, seen = evaluate(model, task.test), epochs * labels
        learnt = evaluate(model, task.train)
    kept = {name: test[name] for name in ("auc", "balanced_accuracy", "log_loss")}
    return {**kept, "train_auc": learnt["auc"], "images": seen}


LEARNING_CURVE = Experiment(
    "learning_curve",
    run_strategy,
    settings=tuple(
        {"strategy": strategy, "labels": labels}
        for strategy in PRETRAINED
        for labels in (LABELS if strategy in PROBES else TRAINED_LABELS)
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)

BUDGETS = Experiment(
    "budgets",
    run_strategy,
    settings=(
        {"strategy": "full fine-tuning", "labels": 1000, "epochs": 1},
        {"strategy": "from scratch", "labels": 1000, "epochs": 8},
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)

REFERENCE = Experiment(
    "reference",
    run_strategy,
    settings=(
        *({"strategy": "probe", "labels": labels, "size": 96} for labels in (50, 200, 1000)),
        {"strategy": "full fine-tuning", "labels": 1000, "epochs": 8, "size": 96},
    ),
    seeds=SEEDS,
    data=("solar", "efficientnet_lite0"),
)
