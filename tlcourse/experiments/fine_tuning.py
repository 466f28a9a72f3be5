"""Fine-tuning solar cells: how deep, how fast, with how many labels; and from mono to poly cells. See lesson 04.

What is run, apart from how often (`lesson04`): the kept results depend on this file's text, not on the list of seeds.
"""

import torch

from tlcourse.backbones import Model, attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.data import Split, load_task, random_flips
from tlcourse.evaluation import evaluate
from tlcourse.masked import join
from tlcourse.plans import Plan
from tlcourse.strategies import discriminative, feature_extraction, full_fine_tune, last_stages
from tlcourse.training import train

__all__ = ["HEAD_LR", "IMAGES_SEEN", "depth_plan", "run_depth", "run_shift"]

IMAGES_SEEN = 2000
HEAD_LR = 1e-3
DECAY = 1e-4  # the classic recipe's
HEAD_EPOCHS, EPOCHS = 20, 4  # of the shift from mono to poly cells
MONO_LABELS = 500


def depth_plan(model: Model, strategy: str, lr: float | None = None) -> Plan:
    """The plan that a strategy's name stands for; its head moves at `HEAD_LR`, its backbone at ``lr``.

    Parameters
    ----------
    strategy
        ``"feature extraction"`` (no ``lr``), ``"last 2 stages"``, ``"last 5 stages"``, ``"full fine-tuning"``, or
        ``"discriminative"``, where ``lr`` is the rate of the first stage and the others lie between it and the head's.

    Raises
    ------
    KeyError
        If there is no such strategy.
    """
    plans = {
        "feature extraction": lambda: feature_extraction(model, lr=HEAD_LR, decay=DECAY),
        "last 2 stages": lambda: last_stages(model, 2, lr=lr, head_lr=HEAD_LR, decay=DECAY),
        "last 5 stages": lambda: last_stages(model, 5, lr=lr, head_lr=HEAD_LR, decay=DECAY),
        "full fine-tuning": lambda: full_fine_tune(model, lr=lr, head_lr=HEAD_LR, decay=DECAY),
        "discriminative": lambda: discriminative(model, lr=HEAD_LR, lowest=lr, decay=DECAY),
    }
    return plans[strategy]()


def run_depth(strategy: str, labels: int, lr: float | None = None, *, seed: int) -> dict[str, float]:
    """Fine-tune on solar cells at 64 px with flips, about 2,000 images in all, and open the test split once.

    Parameters
    ----------
    strategy, lr
        As in `depth_plan`.
    labels
        Labelled cells to learn from, passed through 2,000 / labels times.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``auc``, ``balanced_accuracy``, ``log_loss`` on the test split; ``train_auc``; ``images``, how many the network
        was trained on, repeats included.
    """
    task = load_task("solar", labels=labels, seed=seed, size=64)
    model = attach_head(load_embedded("efficientnet_lite0"), task, seed=seed)
    epochs = round(IMAGES_SEEN / labels)
    plan = depth_plan(model, strategy, lr)
    train(model, task, plan, epochs=epochs, seed=seed, augment=random_flips, progress=False)
    test = evaluate(model, task.test)
    kept = {name: test[name] for name in ("auc", "balanced_accuracy", "log_loss")}
    return {**kept, "train_auc": evaluate(model, task.train)["auc"], "images": epochs * labels}


def run_shift(strategy: str, lr: float | None = None, *, seed: int) -> dict[str, float]:
    """Train on mono cells, then test on other mono cells (in domain) and on all poly cells (out of domain), at 64 px.

    Parameters
    ----------
    strategy
        ``"linear probing"``: the head alone, 20 epochs at 1e-3; ``"full fine-tuning"``: everything, 4 epochs, the head
        at 1e-3; ``"LP-FT"``: the first, then everything at ``lr`` for 4 epochs under a schedule of rates of its own.
    lr
        Of the backbone; none for linear probing.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``auc_in`` and ``auc_out``; ``moved_in`` and ``moved_out``: how far the features of these cells moved, as the
        mean over cells of the distance over the length that they had (Kumar et al. 2022 call it distortion).
    """
    mono = load_task("solar", labels=MONO_LABELS, cells="mono", seed=seed, size=64)
    poly = load_task("solar", cells="poly", seed=seed, size=64)
    parts = (poly.train, poly.val, poly.test)
    out = Split(
        join([part.inputs for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.index for part in parts]),
    )
    model = attach_head(load_embedded("efficientnet_lite0"), mono, seed=seed)
    before = [extract_features(model, split.inputs) for split in (mono.test, out)]
    if strategy in ("linear probing", "LP-FT"):
        head_alone = feature_extraction(model, lr=HEAD_LR, decay=DECAY)
        train(model, mono, head_alone, epochs=HEAD_EPOCHS, seed=seed, progress=False)
    if strategy in ("full fine-tuning", "LP-FT"):
        head_lr = HEAD_LR if strategy == "full fine-tuning" else lr
        plan = full_fine_tune(model, lr=lr, head_lr=head_lr, decay=DECAY)
        train(model, mono, plan, epochs=EPOCHS, seed=seed, progress=False)
    elif strategy != "linear probing":
        raise KeyError(f"no strategy {strategy!r}; there are: linear probing, full fine-tuning, LP-FT")
    scores = {}
    for place, split, old in zip(("in", "out"), (mono.test, out), before, strict=True):
        scores[f"auc_{place}"] = evaluate(model, split)["auc"]
        new = extract_features(model, split.inputs)
        scores[f"moved_{place}"] = float(((new - old).norm(dim=1) / old.norm(dim=1)).mean())
    return scores
