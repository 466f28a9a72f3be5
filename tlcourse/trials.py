"""One strategy on one split: how a model comes out of it, and which of several did best. Lesson 13 uses it.

No clock is read here: `transfer` decides how much there is time for, and the experiment of lesson 13 that judges its
choices calls the same functions.
"""

import numpy as np
import torch
from torch import Tensor

from tlcourse.advice import BATCH, STRATEGIES, Recipe, recipes
from tlcourse.backbones import Backbone, Model, attach_head
from tlcourse.caching import extract_features
from tlcourse.data import Task
from tlcourse.evaluation import evaluate
from tlcourse.masked import Masked
from tlcourse.probes import Probe, fit_probe
from tlcourse.resplits import resplit
from tlcourse.runtime import pick_device
from tlcourse.training import train

__all__ = ["PROBE", "STRATEGIES", "compared", "set_head", "trained", "validated"]

PROBE = "probe"


def compared(scores: dict[str, dict[int, float]]) -> dict[str, float]:
    """Strategy -> mean over the splits that all of them were tried on, the best first; of equals, the first given.

    Examples
    --------
    >>> compared({"probe": {0: 0.5, 1: 0.7, 2: 0.9}, "full fine-tuning": {0: 0.6, 1: 0.8}})
    {'full fine-tuning': 0.7, 'probe': 0.6}
    """
    common = set.intersection(*map(set, scores.values()))
    means = {name: float(np.mean([by_seed[seed] for seed in sorted(common)])) for name, by_seed in scores.items()}
    return dict(sorted(means.items(), key=lambda pair: -pair[1]))


def validated(
    task: Task, backbone: Backbone, strategy: str, *, seed: int, groups: Tensor | None = None, strength: float = 1.0
) -> float:
    """Balanced accuracy on validation, where training and validation are dealt anew; a guess's where it diverged.

    Parameters
    ----------
    strategy, strength
        As in `trained`.
    seed
        Draws the split, the head and the order of the batches.
    groups
        int64, a number for each row that the task's ``index`` names: samples of one group stay in one split.
    """
    dealt = resplit(task, seed=seed, groups=groups)
    try:
        model = trained(dealt, backbone, strategy, seed=seed, strength=strength)
    except FloatingPointError:
        return 1 / len(task.class_names)
    return evaluate(model, dealt.val)["balanced_accuracy"]


def trained(task: Task, backbone: Backbone, strategy: str, *, seed: int, strength: float = 1.0) -> Model:
    """The model that a strategy makes of the task's training split.

    Parameters
    ----------
    strategy
        One of `STRATEGIES`.
    seed
        Draws the head and the order of the batches.
    strength
        The probe's ``C``, which the pilot chose; the other strategies have none.

    Raises
    ------
    FloatingPointError
        If the training diverged.
    """
    model = attach_head(backbone, task, seed=seed).to(pick_device())
    if strategy == PROBE:
        features = extract_features(model, task.train.inputs)
        set_head(model, fit_probe(features, task.train.labels, strengths=(strength,)))
        return model
    recipe: Recipe = recipes(model)[strategy]
    options = {"batch_size": BATCH, "seed": seed, "bucket": isinstance(task.train.inputs, Masked)}
    train(model, task, recipe.plan, epochs=recipe.epochs, progress=False, **options)
    return model


def set_head(model: Model, probe: Probe) -> None:
    """Make the model's only head the linear map that the probe is, standardisation included.

    With ``z = (x - mean) / scale`` the logits ``w z + b`` are ``(w / scale) x + b - (w / scale) mean``; of two classes
    the first has the logit 0.

    Examples
    --------
    >>> from tlcourse import attach_head, digit_network, extract_features, fit_probe, load_task
    >>> task = load_task("digits8", labels=40)
    >>> model = attach_head(digit_network(), task)
    >>> features = extract_features(model, task.train.inputs)
    >>> probe = fit_probe(features, task.train.labels, strengths=(0.01,))
    >>> set_head(model, probe)
    >>> with torch.no_grad():
    ...     ours = model.eval()(task.train.inputs).softmax(dim=1)
    >>> bool((ours - torch.from_numpy(probe.probabilities(features))).abs().max() < 1e-5)
    True
    """
    scaler, regression = probe.pipeline[0], probe.pipeline[-1]
    weight = torch.from_numpy(regression.coef_ / scaler.scale_)
    bias = torch.from_numpy(regression.intercept_) - weight @ torch.from_numpy(scaler.mean_).to(weight.dtype)
    if len(weight) == 1:
        weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
    head = model.heads[model.head_name(None)]
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
