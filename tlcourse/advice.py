"""Which strategy? The rules of thumb, each with its source, and measurements on the task itself. Lesson 07 judges both.

`rules` answers from what one knows without a computer, `advise` from a pilot of cached probes. Both return an `Advice`,
which says what it is, ranks the strategies, and names what would change its mind. What was not tried has no expected
score: that fine-tuning would gain so much is nothing that a probe can know.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from tlcourse.backbones import Backbone, Model, attach_head
from tlcourse.caching import extract_features, frozen_depth
from tlcourse.data import Split, Task
from tlcourse.distances import domain_distance
from tlcourse.estimates import Estimate
from tlcourse.evaluation import metrics
from tlcourse.hierarchy import stage_features
from tlcourse.masked import join
from tlcourse.memory import training_memory
from tlcourse.plans import Plan, apply_plan, parameter_groups
from tlcourse.probes import fit_probe
from tlcourse.resplits import over_splits, resplit
from tlcourse.runtime import autocast, pick_device, seeded
from tlcourse.strategies import feature_extraction, full_fine_tune, last_stages
from tlcourse.transferability import h_score, logme

__all__ = ["Advice", "Pilot", "Recipe", "Suggestion", "advise", "recipes", "rules"]

STRATEGIES = ("probe", "last 2 stages", "full fine-tuning")  # the cheapest first
FEW, MANY = 100, 10_000
BATCH = 32
OF_ITS_OWN = 10_000  # seed of the split on which the probe's penalty is chosen, which no score comes from
STEPS = 3  # timed, of each strategy
LITTLE_LEFT = 0.03  # of balanced accuracy
WIDE = 0.1
NEAR = 0.5  # of the proxy A-distance: a classifier is right on less than 63 % then


@dataclass(frozen=True)
class Suggestion:
    """One strategy, why it stands where it stands, and what it costs.

    Attributes
    ----------
    expected
        Balanced accuracy where it was measured, else None.
    seconds, memory
        Of one training on this machine: wall time, and bytes; None where nothing was measured.
    """

    strategy: str
    why: tuple[str, ...]
    expected: Estimate | None = None
    seconds: float | None = None
    memory: int | None = None

    def __str__(self) -> str:
        score = "not tried" if self.expected is None else f"balanced accuracy {self.expected}"
        cost = "" if self.seconds is None else f", {self.seconds:.1f} s and {self.memory / 1e6:.0f} MB a training"
        return f"{self.strategy}: {score}{cost}; {'; '.join(self.why)}"


@dataclass(frozen=True)
class Pilot:
    """What was measured: balanced accuracies of probes, a split each, and scores of the features.

    Attributes
    ----------
    probe, half, earlier
        On the features; on them with half of the training labels; on what enters the last two stages.
    strength
        The probe's ``C``, chosen on a split of its own.
    log_evidence, h
        LogME and the H-score with shrinkage: to compare backbones on this task, and for nothing else.
    a_distance
        From the reference features; None without them.
    """

    seeds: tuple[int, ...]
    probe: tuple[float, ...]
    half: tuple[float, ...]
    earlier: tuple[float, ...]
    strength: float
    log_evidence: float
    h: float
    a_distance: Estimate | None = None


@dataclass(frozen=True)
class Advice:
    """A ranking of strategies, the best first, and what would change it.

    Attributes
    ----------
    kind
        ``"rules of thumb"`` or ``"measurements"``.
    doubts
        What would change its mind.
    pilot
        What was measured; None for rules.
    """

    kind: str
    ranking: tuple[Suggestion, ...]
    doubts: tuple[str, ...]
    pilot: Pilot | None = None

    def __str__(self) -> str:
        lines = [f"advice from {self.kind}"]
        lines += [f"  {place}. {suggestion}" for place, suggestion in enumerate(self.ranking, start=1)]
        return "\n".join(lines + [f"  what would change it: {doubt}" for doubt in self.doubts])


@dataclass(frozen=True)
class Recipe:
    """How a strategy is trained here."""

    plan: Plan
    epochs: int


def recipes(model: Model) -> dict[str, Recipe]:
    """Strategy -> plan and epochs, with the rates that suit images, or texts (Devlin et al. 2019, appendix A.3).

    The plan of ``"probe"`` says what moves; it is fitted by `probes.fit_probe`, which converges.
    """
    if model.backbone.preprocessing.modality == "text":
        rates, epochs = {"lr": 5e-5, "head_lr": 1e-3}, 3
    else:
        rates, epochs = {"lr": 1e-3, "head_lr": 1e-3}, 6
    return {
        "probe": Recipe(feature_extraction(model), epochs),
        "last 2 stages": Recipe(last_stages(model, 2, **rates), epochs),
        "full fine-tuning": Recipe(full_fine_tune(model, **rates), epochs),
    }


def rules(
    *, labels: int, similarity: str | None = None, complexity: str = "several classes", text: bool = False
) -> Advice:
    """What the rules of thumb say; each strategy gets a vote from each rule that names it.

    Parameters
    ----------
    labels
        Labelled samples to train on.
    similarity
        Of the target to the data that the backbone was trained on: ``"near"``, ``"far"`` or None (unknown).
    complexity
        ``"two classes"``, ``"several classes"`` or ``"pixels"`` (segmentation).
    text
        Whether the backbone reads texts.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> rules(labels=60, similarity="near").ranking[0].strategy
    'probe'
    """
    if labels < 1:
        raise ValueError(f"labels={labels}: at least 1 is needed")
    if similarity not in ("near", "far", None):
        raise ValueError(f"similarity={similarity!r}: use 'near', 'far' or None")
    if complexity not in ("two classes", "several classes", "pixels"):
        raise ValueError(f"complexity={complexity!r}: use 'two classes', 'several classes' or 'pixels'")
    probe, last, full = STRATEGIES
    practice = "practice; no paper gives the number"
    votes: list[tuple[str, str]] = []
    if labels < FEW:
        votes.append((probe, f"fewer than {FEW} labels: a frozen backbone and a simple classifier ({practice})"))
    elif labels <= MANY:
        votes.append((last, f"{FEW} to {MANY:,} labels: the top layers ({practice})"))
    else:
        votes.append((full, f"more than {MANY:,} labels: all layers, or from scratch (He et al. 2019, section 5)"))
    if similarity == "near":
        votes.append((probe, "the same domain: the features serve as they are (Yosinski et al. 2014, section 4)"))
    if similarity == "far":
        votes.append((full, "another domain: more layers must move (Yosinski et al. 2014, section 4)"))
    if complexity == "two classes":
        votes.append((probe, f"two classes: frozen features may do ({practice})"))
    if complexity == "pixels":
        votes.append((full, "every pixel: all layers (Long et al. 2015, section 4.3)"))
    why = {name: tuple(said for strategy, said in votes if strategy == name) for name in STRATEGIES}
    ranking = sorted(STRATEGIES, key=lambda name: -len(why[name]))  # stable: of equals the cheapest first
    doubts = ["a measurement on the task: these rules have not seen it"]
    if similarity is None:
        doubts.append("whether the target is near to the source, which was not said")
    if text:
        doubts.append("the rate: 2e-5 to 5e-5 for BERT (Devlin et al. 2019, appendix A.3)")
    suggestions = tuple(Suggestion(name, why[name] or ("no rule names it",)) for name in ranking)
    return Advice("rules of thumb", suggestions, tuple(doubts))


def advise(
    task: Task,
    backbone: Backbone,
    *,
    groups: Tensor | None = None,
    reference: Tensor | None = None,
    seeds: Sequence[int] = range(5),
) -> Advice:
    """What a pilot says: probes on features that are computed once, over several splits; the test split is not opened.

    Parameters
    ----------
    groups
        int64, a number for each row that the task's ``index`` names: samples of one group stay in one split.
    reference
        Features (n, feature_dim) of other data, such as the backbone's source, to measure the distance from.
    seeds
        One split of training and validation each, at least 2.

    Raises
    ------
    ValueError
        If there are fewer than 2 seeds, the backbone cannot read the task, or a class has too few groups.

    Examples
    --------
    >>> from tlcourse import digit_network, load_task
    >>> advice = advise(load_task("digits8", labels=60), digit_network(), seeds=range(2))
    >>> advice.kind, len(advice.ranking), len(advice.pilot.probe)
    ('measurements', 3, 2)
    """
    if len(seeds) < 2:
        raise ValueError(f"{len(seeds)} split(s): an interval needs at least 2")
    model = attach_head(backbone, task).to(pick_device())  # refuses a task that the backbone cannot read
    inputs = join([task.train.inputs, task.val.inputs])
    index = torch.cat([task.train.index, task.val.index])
    started = time.perf_counter()
    features = stage_features(model, inputs)
    forward = (time.perf_counter() - started) / len(inputs)
    pilot = _piloted(task, model, index, features, groups, tuple(seeds))
    if reference is not None:
        distance = domain_distance(list(features.values())[-1], reference).a_distance
        pilot = replace(pilot, a_distance=distance)
    costs = {
        name: (
            forward * len(inputs) if name == "probe" else _seconds(model, task, recipe, forward),
            training_memory(model, recipe.plan, task.train.inputs[:1], batch_size=BATCH).total,
        )
        for name, recipe in recipes(model).items()
    }
    order, why, doubts = _judged(task, pilot)
    expected = {"probe": over_splits(pilot.probe)}
    ranking = tuple(Suggestion(name, why[name], expected.get(name), *costs[name]) for name in order)
    return Advice("measurements", ranking, doubts, pilot)


def _piloted(
    task: Task, model: Model, index: Tensor, features: dict[str, Tensor], groups: Tensor | None, seeds: tuple[int, ...]
) -> Pilot:
    place = torch.empty(int(index.max()) + 1, dtype=torch.int64)
    place[index] = torch.arange(len(index))  # row of the source -> row of the features
    last = list(features.values())[-1]
    moving = [name for name, stage in model.backbone.stages.items() if any(True for _ in stage.parameters())]
    names = list(features)
    earlier = features[names[max(0, names.index(moving[max(0, len(moving) - 2)]) - 1)]]

    def fitted(x: Tensor, split: Split, **options):
        return fit_probe(x[place[split.index]], split.labels, **options)

    def scored(x: Tensor, dealt: Task, learnt: Split) -> float:
        probe = fitted(x, learnt, strengths=(strength,))
        probabilities = probe.probabilities(x[place[dealt.val.index]])
        return metrics(dealt.val.labels, probabilities)["balanced_accuracy"]

    # On matrices this small, two threads of linear algebra take twice as long as one.
    with threadpool_limits(1, user_api="blas"):
        aside = resplit(task, seed=OF_ITS_OWN, groups=groups)
        strength = fitted(last, aside.train, validation=(last[place[aside.val.index]], aside.val.labels)).C
        scores: list[tuple[float, float, float]] = []
        for seed in seeds:
            dealt = resplit(task, seed=seed, groups=groups)
            scores.append(
                (
                    scored(last, dealt, dealt.train),
                    scored(last, dealt, _half(dealt.train)),
                    scored(earlier, dealt, dealt.train),
                )
            )
        labels = torch.cat([task.train.labels, task.val.labels])
        probe, half, early = zip(*scores, strict=True)
        return Pilot(seeds, probe, half, early, strength, logme(last, labels), h_score(last, labels, shrinkage=True))


def _half(split: Split) -> Split:
    """Every second sample of each class, and at least one."""
    rows = torch.cat([(split.labels == label).nonzero()[::2, 0] for label in split.labels.unique()])
    return Split(split.inputs[rows], split.labels[rows], split.index[rows])


def _judged(task: Task, pilot: Pilot) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The order, the reason of each place, and what would change it."""
    probe, last, full = STRATEGIES
    score = over_splits(pilot.probe)
    later = over_splits([a - b for a, b in zip(pilot.probe, pilot.earlier, strict=True)])
    rising = over_splits([a - b for a, b in zip(pilot.probe, pilot.half, strict=True)])
    labels = len(task.train) + len(task.val)
    doubts = []
    if 1 - score.value < LITTLE_LEFT:
        order, reason = STRATEGIES, f"the probe leaves {1 - score.value:.3f} to win"
    elif labels < FEW:
        order, reason = STRATEGIES, f"{labels} labels are few, and the probe has the least to fit"
        doubts.append(f"more than {FEW} labels")
    elif pilot.a_distance is not None and pilot.a_distance.high < NEAR:
        order, reason = STRATEGIES, f"the features are those of the reference: A-distance {pilot.a_distance}"
    elif later.high < 0:
        order = (full, last, probe)
        reason = (
            f"a probe before the last two stages does better than after them, by {-later.value:.3f}: they must move"
        )
    elif labels > MANY:
        order, reason = (full, last, probe), f"{labels:,} labels can move all stages"
    else:
        order, reason = (
            (last, full, probe),
            f"the probe leaves {1 - score.value:.3f} to win, and {labels} labels can try",
        )
    why = dict.fromkeys(STRATEGIES, (f"behind {order[0]}",)) | {order[0]: (reason,)}
    if rising.low > 0:
        doubts.append(f"more labels: from half of them to all the probe still rose by {rising}")
    if score.high - score.low > WIDE:
        doubts.append(f"more splits, or more labels: the probe's interval is {score.high - score.low:.2f} wide")
    simple = rules(labels=labels, complexity="two classes" if len(task.class_names) == 2 else "several classes")
    if simple.ranking[0].strategy != order[0]:
        doubts.append(f"the rules of thumb put {simple.ranking[0].strategy} first ({simple.ranking[0].why[0]})")
    doubts.append("a trial: nothing but the probe was trained")
    return tuple(order), why, tuple(doubts)


def _seconds(model: Model, task: Task, recipe: Recipe, forward: float) -> float:
    """Of one training: the fastest of a few steps on a copy is timed, for others may use the machine too."""
    model = copy.deepcopy(model)
    apply_plan(model, recipe.plan)
    device, depth = next(model.parameters()).device, frozen_depth(model, recipe.plan)
    model.to(memory_format=torch.channels_last).train()
    rows = torch.arange(BATCH) % len(task.train)
    state = extract_features(model, task.train.inputs[rows], stop=depth)
    labels = task.train.labels[rows].to(device)
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.plan))
    taken = []
    with seeded(0, device):
        for _ in range(STEPS):
            started = time.perf_counter()
            with autocast(device):
                loss = F.cross_entropy(model.run(state, start=depth), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            float(loss.detach())  # waits for the device
            taken.append(time.perf_counter() - started)
    samples = len(task.train) + len(task.val)
    steps = recipe.epochs * math.ceil(samples / BATCH)
    return steps * min(taken) + forward * samples * (1 + recipe.epochs / 5)  # validation, a fifth, after each epoch
