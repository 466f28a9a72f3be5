"""Candidates ranked before anything is trained on the target, and what came of them. See lesson 07.

Three kinds of candidates: EfficientNet-Lite0 cut after each of its stages, networks that were never trained, and small
networks trained here, each on a source of its own. What is run, apart from how often (`lesson07_ranking`): the kept
results depend on this file's text, not on the list of seeds.
"""

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Backbone, Model, attach_head, load_embedded
from tlcourse.caching import extract_features
from tlcourse.data import Split, Task, load_task
from tlcourse.distance_worlds import make_distance_world
from tlcourse.evaluation import evaluate, metrics, predict_probabilities
from tlcourse.grafts import digit_network, split_classes
from tlcourse.hierarchy import stage_features
from tlcourse.probes import fit_probe
from tlcourse.strategies import full_fine_tune
from tlcourse.towers import imagenet_head
from tlcourse.training import train
from tlcourse.transferability import h_score, leep, logme, nce
from tlcourse.worlds import make_world

__all__ = [
    "CLASSIFIERS",
    "CUTS",
    "EPOCHS",
    "LABELS",
    "NO_BOUND",
    "SOURCES",
    "TRUTH",
    "UNTRAINED",
    "WHOLE",
    "candidate",
    "run_candidate",
    "source_task",
]

WHOLE = "Lite0 whole"
CUTS = ("Lite0 to stem", *(f"Lite0 to block{number}" for number in range(1, 8)), WHOLE)
UNTRAINED = ("untrained Lite0", "untrained small")
SOURCES = (
    *(f"small, {count} digits" for count in (2, 5, 10)),
    *(f"small, world at {distance} %" for distance in (0, 50, 100)),
    "small, orientation world",
)
CLASSIFIERS = (WHOLE, *SOURCES)  # those that still have the head of their source

TRUTH = {"solar": "auc", "digits": "balanced_accuracy"}  # the target and what it is scored by
LABELS = 100
# Where features fit a class to the last digit, its evidence has no bound: LogME is infinite. A kept number is not.
NO_BOUND = 10.0
EPOCHS = 8  # of a fine-tune of everything
LR, HEAD_LR, BATCH = 1e-3, 1e-2, 16
IMAGES_SEEN, SOURCE_LR = 3000, 3e-3  # of a small network on its source


def source_task(name: str, *, seed: int) -> Task:
    """What a small network is trained on before: 8 x 8 digits brought to 28 px, or a made-up world at 32 px.

    Raises
    ------
    KeyError
        If ``name`` is none of `SOURCES`.
    """
    if name not in SOURCES:
        raise KeyError(f"no small network {name!r}; there are: {'; '.join(SOURCES)}")
    what = name.removeprefix("small, ").split()
    if what[-1] == "digits":
        task = load_task("digits8", seed=seed)
        kept = np.random.default_rng(seed).permutation(10)[: int(what[0])].tolist()  # those of fewer are among more's
        task = task if len(kept) == 10 else split_classes(task, kept)[0]
        return replace(task, **{part: _enlarged(getattr(task, part)) for part in ("train", "val", "test")})
    if what[-1] == "%":
        return make_distance_world(int(what[2]) / 100, classes=8, samples=1200, seed=seed)
    return make_world(what[0], classes=4, samples=1200, seed=seed)


@lru_cache(maxsize=1)
def candidate(name: str, *, seed: int) -> Backbone | Model:
    """A network by its name: a model where it still has its source's classifier, as head ``source``, else a backbone.

    It is kept for the next point: copy it before you train it.

    Parameters
    ----------
    name
        One of `CUTS`, `UNTRAINED` or `SOURCES`. A cut ends in a mean over space, if it does not have one.
    seed
        Draws what is not pre-trained, and a small network's source.

    Raises
    ------
    KeyError
        If there is no such candidate.
    """
    if name == WHOLE:
        known, model = imagenet_head(), Model(_lite0())
        model.add_head("source", len(known.bias))
        model.heads["source"].load_state_dict({"weight": known.weights, "bias": known.bias})
        return model.eval()
    if name in CUTS:
        return _cut(_lite0(), last=name.removeprefix("Lite0 to "))
    if name in UNTRAINED:
        lite0 = name == "untrained Lite0"
        return load_embedded("efficientnet_lite0", pretrained=False, seed=seed) if lite0 else digit_network(seed)
    task = replace(source_task(name, seed=seed), name="source")
    model = attach_head(digit_network(seed), task, seed=seed)
    epochs = max(1, round(IMAGES_SEEN / len(task.train)))
    train(model, task, full_fine_tune(model, lr=SOURCE_LR), epochs=epochs, seed=seed, progress=False)
    return model


def run_candidate(name: str, target: str, tuned: bool, *, seed: int) -> dict[str, float]:
    """Foretell how a candidate will do on a target with 100 labels, then find out; the test split is opened last.

    Parameters
    ----------
    name
        As in `candidate`.
    target
        ``"solar"`` (64 px, scored by the area under the ROC curve) or ``"digits"`` (28 px, by balanced accuracy).
    tuned
        Whether to fine-tune as well.
    seed
        Draws the splits, the labels, the candidate where something in it is drawn, the head and the batches.

    Returns
    -------
    dict
        Foretold from the 100 labelled samples: ``logme``, at most `NO_BOUND`; ``h_score``, with shrinkage, and
        ``h_score_plain``, without; ``leep`` and ``nce`` where there is a source classifier. ``probe_val``, a probe's
        score on validation: what a pilot says. What came of it, on the test split: ``probe``, and if ``tuned`` also
        ``fine_tuned``, everything trained in `EPOCHS` passes. Of small networks also ``source_accuracy``, on the test
        split of their source.
    """
    task, truth = _target(target, seed), TRUTH[target]
    labels, (train_features, val_features, test_features) = task.train.labels, _features(name, target, seed)
    scores = {
        "logme": min(logme(train_features, labels), NO_BOUND),
        "h_score": h_score(train_features, labels, shrinkage=True),
        "h_score_plain": h_score(train_features, labels),
    }
    if name in CLASSIFIERS:
        p = predict_probabilities(candidate(name, seed=seed), task.train.inputs, head="source")
        scores |= {"leep": leep(p, labels), "nce": nce(p.argmax(dim=1), labels)}
    if name in SOURCES:
        test = source_task(name, seed=seed).test
        scores["source_accuracy"] = evaluate(candidate(name, seed=seed), test, head="source")["accuracy"]
    probe = fit_probe(train_features, labels, validation=(val_features, task.val.labels))
    for metric, split, features in (("probe_val", task.val, val_features), ("probe", task.test, test_features)):
        scores[metric] = metrics(split.labels, probe.probabilities(features))[truth]
    if tuned:
        scores["fine_tuned"] = evaluate(_tuned(name, task, seed), task.test)[truth]
    return scores


def _tuned(name: str, task: Task, seed: int) -> Model:
    backbone = _backbone(candidate(name, seed=seed))
    model = attach_head(backbone, task, seed=seed)
    # Cuts put out numbers of very different size: standardised, one rate of the head serves them all.
    standardised = nn.BatchNorm1d(backbone.feature_dim, affine=False)
    model.heads[task.name] = nn.Sequential(standardised, model.heads[task.name])
    plan = full_fine_tune(model, lr=LR, head_lr=HEAD_LR)
    train(model, task, plan, epochs=EPOCHS, batch_size=BATCH, seed=seed, progress=False)
    return model


@lru_cache(maxsize=2)
def _target(name: str, seed: int) -> Task:
    return load_task(name, labels=LABELS, seed=seed, **({"size": 64} if name == "solar" else {}))


def _features(name: str, target: str, seed: int) -> list[Tensor]:
    """What a candidate makes of the three splits, each (n, D)."""
    if name in CUTS:
        stage = "neck" if name == WHOLE else name.removeprefix("Lite0 to ")
        return [features[stage] for features in _features_of_cuts(target, seed)]
    return [extract_features(_backbone(candidate(name, seed=seed)), inputs) for inputs in _inputs(target, seed)]


@lru_cache(maxsize=2)
def _features_of_cuts(target: str, seed: int) -> list[dict[str, Tensor]]:
    """All cuts in one pass: what a cut puts out is the mean over space of its last stage."""
    return [stage_features(_lite0(), inputs) for inputs in _inputs(target, seed)]


def _inputs(target: str, seed: int) -> list[Tensor]:
    task = _target(target, seed)
    return [task.train.inputs, task.val.inputs, task.test.inputs]


@cache
def _lite0() -> Backbone:
    return load_embedded("efficientnet_lite0")


def _backbone(network: Backbone | Model) -> Backbone:
    return network.backbone if isinstance(network, Model) else network


def _cut(backbone: Backbone, *, last: str) -> Backbone:
    """The stages up to ``last``, then a mean over space."""
    if last not in backbone.stages:
        raise KeyError(f"no stage {last!r}; {backbone.name!r} has {', '.join(backbone.stages)}")
    names = list(backbone.stages)
    stages = {name: backbone.stages[name] for name in names[: names.index(last) + 1]}
    stages["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    with torch.no_grad():
        width = nn.Sequential(*stages.values())(torch.zeros(1, 3, 64, 64)).shape[1]
    return Backbone(
        f"{backbone.name} to {last}",
        stages,
        feature_dim=width,
        preprocessing=backbone.preprocessing,
        pretrained=backbone.pretrained,
    ).eval()


def _enlarged(split: Split) -> Split:
    larger = F.interpolate(split.inputs.float(), size=(28, 28), mode="bilinear", antialias=True)
    return replace(split, inputs=larger.round().byte())
