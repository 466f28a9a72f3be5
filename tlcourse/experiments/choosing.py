"""How well does `transfer` choose? Its trial of the strategies on many small sets, judged on all the data beside them.

What is run, apart from how often (`lesson13`): the kept results depend on this file's text, not on the list of seeds.
The clock is out of it: each strategy is tried on as many splits as `transfer` asks for at least.
"""

import time
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tlcourse.advice import advise
from tlcourse.backbones import load_embedded, load_text_preprocessing
from tlcourse.data import Split, Task, make_task
from tlcourse.evaluation import evaluate
from tlcourse.masked import Masked
from tlcourse.readers import READERS
from tlcourse.trials import PROBE, STRATEGIES, compared, trained, validated

__all__ = ["HELD_OUT", "SAMPLES", "SPLITS", "chosen_by_validation", "run_choice", "sampled_set"]

SAMPLES = 500
SPLITS = (0, 1, 2)
HELD_OUT = {"solar": 2000, "news": 1000}  # at most
SIZE, MAX_LENGTH = 64, 32
BACKBONES = {"solar": "efficientnet_lite0", "news": "minilm"}


@cache
def _whole(name: str) -> tuple[Tensor | Masked, Tensor, Tensor]:
    """Inputs, labels and groups: cells at 64 px, articles cut to 32 tokens, as ``--max-length 32`` does."""
    read, _, _ = READERS[name]
    if name == "solar":
        return read(size=SIZE, cells="all")
    return read(tokenizer=load_text_preprocessing(BACKBONES[name]), max_length=MAX_LENGTH)


def sampled_set(name: str, *, seed: int) -> tuple[Task, Tensor, Split]:
    """A set of 500 samples, as somebody might bring it, and what is beside it.

    Parameters
    ----------
    name
        ``"solar"`` or ``"news"``.
    seed
        Draws the set, and the task's splits in it.

    Returns
    -------
    tuple
        The task of these samples; the group of each, int64 (500,), as `transfer` takes it; and up to `HELD_OUT` other
        samples, none of which is nearly the same as one of the set.
    """
    inputs, labels, groups = _whole(name)
    rng = np.random.default_rng([seed, SAMPLES])
    members = [np.flatnonzero(groups.numpy() == group) for group in rng.permutation(np.unique(groups.numpy()))]
    rows, beside = [], []
    for member in members:
        (rows if len(rows) + len(member) <= SAMPLES else beside).extend(member.tolist())
    inside, outside = torch.tensor(rows), torch.tensor(beside[: HELD_OUT[name]])
    _, provenance, class_names = READERS[name]
    task = make_task(
        name,
        inputs[inside],
        labels[inside],
        class_names=class_names,
        groups=groups[inside],
        seed=seed,
        provenance=provenance,
        preprocessing_name=BACKBONES[name] if name == "news" else None,
    )
    return task, groups[inside], Split(inputs[outside], labels[outside], outside)


def run_choice(task: str, strategy: str, *, seed: int) -> dict[str, float]:
    """What `transfer` sees of one strategy on one set, and what it does not see: balanced accuracies.

    Parameters
    ----------
    task
        As in `sampled_set`.
    strategy
        One of `trials.STRATEGIES`. The probe's scores on validation are those of the pilot, as in `transfer`.
    seed
        Draws the set.

    Returns
    -------
    dict
        ``val_0`` to ``val_2``, on validation, one split of `SPLITS` each; ``own_test``, on the set's own test split,
        and ``held_out``, on the samples beside the set, of the model that `transfer` would save; ``seconds``, of that
        training. The probe also has ``advised``: the place in `STRATEGIES` of what the advice puts first.
    """
    given, groups, held_out = sampled_set(task, seed=seed)
    backbone = load_embedded(BACKBONES[task])
    strength, advised = 1.0, {}
    if strategy == PROBE:
        advice = advise(given, backbone, groups=groups, seeds=SPLITS)
        strength, on_validation = advice.pilot.strength, advice.pilot.probe
        advised = {"advised": STRATEGIES.index(advice.ranking[0].strategy)}
    else:
        on_validation = [validated(given, backbone, strategy, seed=split, groups=groups) for split in SPLITS]
    began = time.perf_counter()
    model = trained(given, backbone, strategy, seed=0, strength=strength)
    seconds = time.perf_counter() - began
    return {
        **{f"val_{split}": score for split, score in zip(SPLITS, on_validation, strict=True)},
        "own_test": evaluate(model, given.test)["balanced_accuracy"],
        "held_out": evaluate(model, held_out)["balanced_accuracy"],
        "seconds": seconds,
        **advised,
    }


def chosen_by_validation(scores: dict[str, dict[str, float]]) -> str:
    """The strategy that `transfer` chooses from what `run_choice` returned for each.

    Examples
    --------
    >>> chosen_by_validation({"probe": {"val_0": 0.7, "val_1": 0.8, "val_2": 0.6, "held_out": 0.9}})
    'probe'
    """
    return next(iter(compared({name: {n: found[f"val_{n}"] for n in SPLITS} for name, found in scores.items()})))
