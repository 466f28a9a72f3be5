"""News topics with MiniLM: how many labels, which rates, which strategy. See lesson 06.

What is run, apart from how often (`lesson06`): the kept results depend on this file's text, not on the list of seeds.
"""

from dataclasses import replace

import torch

from tlcourse.backbones import Model, attach_head, load_embedded
from tlcourse.data import Split, load_task
from tlcourse.evaluation import evaluate
from tlcourse.plans import Schedule
from tlcourse.strategies import discriminative, feature_extraction, full_fine_tune, gradual_unfreezing, last_stages
from tlcourse.training import train

__all__ = ["BATCH_SIZE", "EPOCHS", "HEAD_LR", "MAX_LENGTH", "run_text", "text_schedule"]

MAX_LENGTH = 32  # tokens: a headline and the beginning of the first sentence
BATCH_SIZE = 16
HEAD_LR = 1e-3
EPOCHS = {5: 20, 20: 20, 100: 8, 500: 2}  # about 1,000 documents where there are 500 labels or 100


def text_schedule(model: Model, strategy: str, lr: float | None, epochs: int) -> Schedule:
    """The schedule that a strategy's name stands for; its head moves at `HEAD_LR`, its backbone at ``lr``.

    Parameters
    ----------
    strategy
        ``"feature extraction"`` (no ``lr``), ``"last stages"`` (the last two layers), ``"full fine-tuning"``,
        ``"discriminative"`` and ``"gradual unfreezing"`` (no ``lr``: the head's, over 2.6 for each stage below).
    epochs
        How many in all; gradual unfreezing takes one for each stage.

    Raises
    ------
    KeyError
        If there is no such strategy.
    """
    if strategy == "gradual unfreezing":
        return gradual_unfreezing(model, lr=HEAD_LR)
    plans = {
        "feature extraction": lambda: feature_extraction(model, lr=HEAD_LR),
        "last stages": lambda: last_stages(model, 2, lr=lr, head_lr=HEAD_LR),
        "full fine-tuning": lambda: full_fine_tune(model, lr=lr, head_lr=HEAD_LR),
        "discriminative": lambda: discriminative(model, lr=HEAD_LR),
    }
    return ((plans[strategy](), epochs),)


def run_text(strategy: str, labels: int, lr: float | None = None, *, seed: int) -> dict[str, float]:
    """Train MiniLM on the topics of BBC News, cut to 32 tokens, and open the test split once.

    Parameters
    ----------
    strategy, lr
        As in `text_schedule`.
    labels
        A key of `EPOCHS`.
    seed
        Draws the splits, the labels, the head and the order of the batches.

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy``, ``log_loss`` on the test split; ``train_accuracy``; ``documents``, how many
        the network was trained on, repeats included.
    """
    task = load_task("news", labels=labels, seed=seed, max_length=MAX_LENGTH)
    # Validation chooses nothing here; the loop looks at it after each epoch: two documents a class are enough for that.
    rows = torch.cat([(task.val.labels == topic).nonzero()[:2, 0] for topic in range(len(task.class_names))])
    few = Split(task.val.inputs[rows], task.val.labels[rows], task.val.index[rows])
    model = attach_head(load_embedded("minilm"), task, seed=seed)
    schedule = text_schedule(model, strategy, lr, EPOCHS[labels])
    train(model, replace(task, val=few), schedule, batch_size=BATCH_SIZE, seed=seed, progress=False)
    test = evaluate(model, task.test)
    kept = {name: test[name] for name in ("accuracy", "balanced_accuracy", "log_loss")}
    documents = labels * sum(epochs for _, epochs in schedule)
    return {**kept, "train_accuracy": evaluate(model, task.train)["accuracy"], "documents": documents}
