"""Tasks of lesson 09 on what is kept: a few old samples with the same chance, and the best state of a training."""

import math
import operator
import random
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["BEST_STATE", "KEEP_SOME"]

# 09.3: a reservoir ------------------------------------------------------------

PASSES, PICKS = 20_000, 60


def _draw_stream(rng: np.random.Generator) -> Inputs:
    capacity = int(rng.integers(2, 4))
    return {"samples": capacity + int(rng.integers(2, 4)), "capacity": capacity}


class _Choices:
    """A `pick` that goes, pass by pass, through all that it may return."""

    def __init__(self) -> None:
        self.path: list[list[int]] = []
        self.place = 0

    def pick(self, k: int) -> int:
        k = operator.index(k)
        if k < 1:
            raise ValueError(f"pick({k}): k is at least 1")
        if self.place == PICKS:
            raise AnswerError(f"`keep_some` called `pick` more than {PICKS} times in one pass over {self.stream}")
        if self.place == len(self.path):
            self.path.append([0, k])
        self.place += 1
        return self.path[self.place - 1][0]

    @property
    def chance(self) -> float:
        return 1 / math.prod(k for _, k in self.path)

    def passes(self, samples: int) -> Iterator[int]:
        self.stream = f"{samples} samples"
        for number in range(PASSES):
            self.place = 0
            yield number
            while self.path and self.path[-1][0] == self.path[-1][1] - 1:
                self.path.pop()
            if not self.path:
                return
            self.path[-1][0] += 1
        raise AnswerError("`keep_some` picks so much that not all cases can be tried: pick once or twice a sample")


class _Sample:
    """Something whose end can be noticed."""


def _probe_stream(answer, inputs: Inputs) -> Outputs:
    samples, capacity = inputs["samples"], inputs["capacity"]
    chances, sizes, choices = np.zeros(samples), set(), _Choices()
    for _ in choices.passes(samples):
        kept = answer(iter([f"sample {number}" for number in range(samples)]), capacity, choices.pick)
        numbers = [int(name.split()[1]) for name in _list(kept)]
        sizes.add(len(numbers))
        chances[list(set(numbers))] += choices.chance
    return {
        "chances": chances,
        "sizes": [min(sizes), max(sizes)],
        "held": max(0, _most_alive(answer, capacity) - capacity - 2),
    }


def _list(kept: object) -> list:
    if not isinstance(kept, (list, tuple)):
        raise AnswerError(f"what `keep_some` returned is a {type(kept).__name__}; wanted is a list of samples")
    if not all(isinstance(name, str) and name.startswith("sample ") for name in kept):
        raise AnswerError("what `keep_some` returned holds something that was not in the stream")
    return list(kept)


def _most_alive(answer, capacity: int) -> int:
    """How many samples are there at once where nobody but the answer holds one."""
    alive, counts = weakref.WeakSet(), [0]

    def stream() -> Iterator[_Sample]:
        for _ in range(capacity + 12):
            sample = _Sample()
            alive.add(sample)
            yield sample
            del sample
            counts.append(len(alive))

    answer(stream(), capacity, random.Random(0).randrange)
    return max(counts)


def _chances(inputs: Inputs, accept: Callable[[int], float]) -> Outputs:
    """Sample t from 0, once the buffer is full, enters with a chance, into any slot alike."""
    samples, capacity = inputs["samples"], inputs["capacity"]
    chances = np.ones(samples)
    for t in range(capacity, samples):
        chances[:t] *= 1 - accept(t) / capacity
        chances[t] = accept(t)
    return {"chances": chances}


def _newest(inputs: Inputs) -> Outputs:
    return {"chances": (np.arange(inputs["samples"]) >= inputs["samples"] - inputs["capacity"]).astype(float)}


def _oldest_leaves(inputs: Inputs) -> Outputs:
    """Rightly accepted, in the place of whatever is there longest: how many come in after a sample decides."""
    samples, capacity = inputs["samples"], inputs["capacity"]
    chances = []
    for number in range(samples):
        later = np.ones(1)  # chance that 0, 1, ... of the samples after it were accepted
        for t in range(max(capacity, number + 1), samples):
            later = np.convolve(later, [1 - capacity / (t + 1), capacity / (t + 1)])
        enters = min(1.0, capacity / (number + 1))
        ahead = min(number, capacity - 1)  # those that leave before it
        chances.append(enters * later[: ahead + 1].sum())
    return {"chances": np.array(chances)}


def _oracle_stream(inputs: Inputs) -> Outputs:
    samples, capacity = inputs["samples"], inputs["capacity"]
    size = min(samples, capacity)
    return {"chances": np.full(samples, size / samples), "sizes": [size, size], "held": 0}


KEEP_SOME = Exercise(
    id="09.3",
    title="A few of many, without knowing how many",
    points=4,
    difficulty=3,
    minutes=20,
    entry="keep_some",
    draw=_draw_stream,
    probe=_probe_stream,
    oracle=_oracle_stream,
    aspects=(
        Aspect("chances", "each sample has the same chance", 0.6, 1e-9),
        Aspect("sizes", "as many are kept as fit", 0.2),
        Aspect("held", "no more are held at any time", 0.2),
    ),
    misconceptions=(
        Misconception(
            "everything was held",
            "The chances are right, but at one time you held {outputs[held]} samples more than a buffer of that size "
            "needs. Whoever may keep the whole stream needs no reservoir. Look at each sample once, and let go of it.",
            shows=lambda i, o, e: o["held"] > 0 and bool(np.allclose(o["chances"], e["chances"])),
        ),
        Misconception(
            "the buffer has another size",
            "You keep up to {outputs[sizes][1]} samples, and the capacity is {inputs[capacity]}. The first ones fill "
            "the buffer, whatever `pick` says; after that, one enters only where another leaves.",
            shows=lambda i, o, e: o["sizes"] != e["sizes"],
        ),
        Misconception(
            "off by one, for the newest",
            "The first sample has a chance of {outputs[chances][0]:.3f} to be kept; each should have "
            "{expected[chances][0]:.3f}, and the last ones have more. Sample t, counted from 0, is one of t + 1 so "
            "far, itself among them: draw among t + 1 numbers.",
            wrong=lambda i: _chances(i, lambda t: i["capacity"] / t),
        ),
        Misconception(
            "off by one, against the newest",
            "The first sample has a chance of {outputs[chances][0]:.3f} to be kept; each should have "
            "{expected[chances][0]:.3f}, and the last ones have less. You draw among one number too many: sample t, "
            "counted from 0, is one of t + 1 so far.",
            wrong=lambda i: _chances(i, lambda t: i["capacity"] / (t + 2)),
        ),
        Misconception(
            "the newest always gets in",
            "Each new sample replaces one, for certain: the last has a chance of 1, the first of "
            "{outputs[chances][0]:.3f}. After a long stream nothing old would be left, which is what replay is for. "
            "Let it in with a chance of capacity / samples so far.",
            wrong=lambda i: _chances(i, lambda t: 1.0),
        ),
        Misconception(
            "each newcomer has the same chance to enter",
            "The first sample stays with a chance of {outputs[chances][0]:.3f}, and each should have "
            "{expected[chances][0]:.3f}. You treat the newest as one of capacity + 1, however many there have been: a "
            "thousandth sample then enters as easily as the first that did not fit. It has to become rarer.",
            wrong=lambda i: _chances(i, lambda t: i["capacity"] / (i["capacity"] + 1)),
        ),
        Misconception(
            "one in so many, whatever fits",
            "The first sample has a chance of {outputs[chances][0]:.3f} to be kept, and each should have "
            "{expected[chances][0]:.3f}: you let a newcomer in with 1 / samples so far. There are {inputs[capacity]} "
            "places: it is capacity / samples so far.",
            wrong=lambda i: _chances(i, lambda t: 1 / (t + 1)),
        ),
        Misconception(
            "the last ones are kept",
            "You keep the newest samples. That is a window: after the new task has begun, nothing of the old one is in "
            "it.",
            wrong=_newest,
        ),
        Misconception(
            "the first ones are kept",
            "Once the buffer is full nothing enters any more. Whatever comes late, such as the next task, is never "
            "replayed.",
            wrong=lambda i: _chances(i, lambda t: 0.0),
        ),
        Misconception(
            "the oldest one has to leave",
            "Each sample enters with the right chance, but the first one stays only with {outputs[chances][0]:.3f} "
            "instead of {expected[chances][0]:.3f}: you let the *oldest* leave. Who leaves must be drawn as well, each "
            "alike.",
            wrong=_oldest_leaves,
        ),
    ),
    hints=(
        "Write down, for a buffer of 1: with which chance must sample 2 replace sample 1, so that both are equal? And "
        "sample 3 then, whatever is in the buffer?",
        "Sample t, counted from 0, must enter with the chance capacity / (t + 1). Then one of the slots, each alike, "
        "is overwritten. A single draw can do both.",
        "slot = pick(t + 1); if slot < capacity: buffer[slot] = sample. Only once the buffer is full; before, append.",
    ),
    draws=4,
)

# 09.4: the best state ------------------------------------------------------------


def _follow(
    losses: list[float],
    patience: int,
    *,
    ties: bool = False,
    total: bool = False,
    previous: bool = False,
    late: int = 0,
) -> tuple[int, int]:
    """The best epoch and how many there were, of one who may stray."""
    best, best_epoch, waited, epoch = math.inf, 0, 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if loss < best or (ties and loss == best):
            best, best_epoch, waited = loss, epoch, waited if total else 0
        else:
            waited += 1
        best = loss if previous else best
        if waited >= patience + late:
            break
    return best_epoch, epoch


def _draw_losses(rng: np.random.Generator) -> Inputs:
    """One half of the draws stop early, the others never; who strays comes to an end of their own."""
    stops = bool(rng.integers(2))
    epochs, patience = int(rng.integers(7, 9)) + stops, int(rng.integers(2, 4)) if stops else 3
    while True:
        losses = [0.9, *(rng.integers(3, 9, epochs - 1) / 10).tolist()]
        best, ran = _follow(losses, patience)
        if best == ran or (ran < epochs) != stops or (not stops and epochs - best == patience):
            continue
        ways = [{"ties": True}, {"total": True}, *([{"previous": True}, {"late": 1}] if stops else [])]
        if len({(best, ran), *(_follow(losses, patience, **way) for way in ways)}) == len(ways) + 1:
            return {"losses": losses, "patience": patience, "epochs": epochs}


def _probe_losses(answer, inputs: Inputs) -> Outputs:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    learnt = []

    def learn() -> None:
        if len(learnt) == inputs["epochs"]:
            raise AnswerError(f"`learn` was called more than {inputs['epochs']} times")
        learnt.append(len(learnt))
        with torch.no_grad():
            for value in network.state_dict().values():
                value += 1

    def validate() -> float:
        epoch = int(network[0].weight.item())
        if not epoch:
            raise AnswerError("`validate` was called before the first epoch: the untrained network is no candidate")
        return inputs["losses"][epoch - 1]

    found = answer(network, learn, validate, inputs["patience"], inputs["epochs"])
    return {
        "epochs": len(learnt),
        "best": plain(found, what="what `keep_best` returned"),
        "weights": network[0].weight.item(),
        "statistics": network[1].running_mean.item(),
    }


def _outcome(inputs: Inputs, **how) -> Outputs:
    best, epochs = _follow(inputs["losses"], inputs["patience"], **how)
    return {"epochs": epochs, "best": best, "weights": best, "statistics": best}


BEST_STATE = Exercise(
    id="09.4",
    title="Early stopping, and back to the best",
    points=3,
    difficulty=2,
    minutes=15,
    entry="keep_best",
    draw=_draw_losses,
    probe=_probe_losses,
    oracle=_outcome,
    aspects=(
        Aspect("epochs", "how many epochs were trained", 0.3),
        Aspect("best", "which epoch was the best", 0.2),
        Aspect("weights", "the weights are those of the best epoch", 0.3),
        Aspect("statistics", "and so are the statistics", 0.2),
    ),
    misconceptions=(
        Misconception(
            "only where it came to the stop",
            "Where patience ran out you went back to the best epoch, but here it never did: all {inputs[epochs]} "
            "epochs were trained, and the network is left in the state of the last, where epoch {expected[best]} was "
            "better.",
            shows=lambda i, o, e: (
                e["epochs"] == o["epochs"] == i["epochs"] == o["weights"] and i["epochs"] - e["best"] < i["patience"]
            ),
        ),
        Misconception(
            "left in the last state",
            "Epoch {expected[best]} was the best, and the network is in the state of epoch {outputs[weights]:.0f}, the "
            "last. Either nothing was loaded back, or what you kept was `state_dict()` itself: those are the network's "
            "own tensors, and they went on learning. Keep a copy.",
            shows=lambda i, o, e: o["epochs"] == e["epochs"] and o["weights"] == o["epochs"] == o["statistics"],
        ),
        Misconception(
            "the statistics stayed behind",
            "The weights are those of epoch {outputs[weights]:.0f}, the statistics of the normalisation those of epoch "
            "{outputs[statistics]:.0f}: a network that has never existed. Parameters are not all of a state.",
            shows=lambda i, o, e: o["weights"] == e["weights"] and o["statistics"] != e["statistics"],
        ),
        Misconception(
            "patience was counted in total",
            "You stopped after {outputs[epochs]} epochs instead of {expected[epochs]}. A new best loss gives the whole "
            "patience back: only epochs *in a row* count.",
            wrong=lambda i: _outcome(i, total=True),
        ),
        Misconception(
            "one epoch too many",
            "You trained {outputs[epochs]} epochs instead of {expected[epochs]}. When {inputs[patience]} epochs in a "
            "row have not been lower, the patience is used up: no other is trained.",
            wrong=lambda i: _outcome(i, late=1),
        ),
        Misconception(
            "an equal loss counts as lower",
            "You took {outputs[best]} for the best epoch. Its loss is *equal* to an earlier one, which is no progress; "
            "on a plateau such a training never stops.",
            wrong=lambda i: _outcome(i, ties=True),
        ),
        Misconception(
            "compared with the epoch before",
            "You took {outputs[best]} for the best epoch: its loss is lower than that of the epoch before, but not "
            "than all before. Compare with the best so far.",
            wrong=lambda i: _outcome(i, previous=True),
        ),
        Misconception(
            "epochs counted from zero",
            "Everything is right, but the first epoch is number 1 here: you returned {outputs[best]} for "
            "{expected[best]}.",
            wrong=lambda i: {**_outcome(i), "best": _outcome(i)["best"] - 1},
        ),
    ),
    hints=(
        "Three things are carried from epoch to epoch: the best loss, the state that had it, and how many epochs have "
        "passed since.",
        "`state_dict()` does not copy: copy.deepcopy(network.state_dict()). Going back belongs after the loop, where "
        "it is reached with a stop and without.",
        "if loss < best: best, best_epoch, kept = loss, epoch, a copy. Then: if epoch - best_epoch >= patience: break. "
        "After the loop: network.load_state_dict(kept).",
    ),
    draws=12,
)
