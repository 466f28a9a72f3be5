"""Four strategies on solar cells that differ in two things alone: the first weights, and whether the backbone may move.

What is run, apart from how often (`lesson01`): the kept results depend on this file's text, not on the list of seeds.
"""

from tlcourse.backbones import attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.data import load_task, random_flips
from tlcourse.evaluation import evaluate, metrics
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune
from tlcourse.training import train

__all__ = ["IMAGES_SEEN", "PRETRAINED", "PROBES", "epochs_for", "run_strategy"]

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
    backbone = load_embedded("efficientnet_lite0", pretrained=PRETRAINED[strategy], seed=seed)
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
