"""Tasks of lesson 08 on the record of what is still known: reading the matrix R, and making it."""

import numpy as np
import torch
from torch import nn

from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["LEARN_IN_TURN", "TRANSFERS"]

# 08.1: reading R ------------------------------------------------------------


def _draw_matrix(rng: np.random.Generator) -> Inputs:
    tasks = int(rng.integers(3, 5))
    return {
        "R": np.round(rng.uniform(0.3, 1.0, (tasks, tasks)), 2),
        "baselines": np.round(rng.uniform(0.1, 0.3, tasks), 2),
    }


def _probe_transfers(answer, inputs: Inputs) -> Outputs:
    found = answer(**inputs)
    if not isinstance(found, dict):
        raise AnswerError(f"what `transfers` returned is a {type(found).__name__}; wanted is a dict of three numbers")
    return {
        key: plain(found.get(key), what=f"what `transfers` returned for {key!r}")
        for key in ("accuracy", "backward", "forward")
    }


def _oracle_transfers(inputs: Inputs) -> Outputs:
    """Number by number."""
    R, start, tasks = inputs["R"], inputs["baselines"], len(inputs["R"])
    return {
        "accuracy": sum(R[tasks - 1, task] for task in range(tasks)) / tasks,
        "backward": sum(R[tasks - 1, task] - R[task, task] for task in range(tasks - 1)) / (tasks - 1),
        "forward": sum(R[task - 1, task] - start[task] for task in range(1, tasks)) / (tasks - 1),
    }


def _turned(inputs: Inputs) -> Outputs:
    return _oracle_transfers({**inputs, "R": inputs["R"].T})


def _share_of_all(inputs: Inputs) -> Outputs:
    right, tasks = _oracle_transfers(inputs), len(inputs["R"])
    return {"backward": right["backward"] * (tasks - 1) / tasks}


TRANSFERS = Exercise(
    id="08.1",
    title="What a task did to the others",
    points=3,
    difficulty=2,
    minutes=10,
    entry="transfers",
    draw=_draw_matrix,
    probe=_probe_transfers,
    oracle=_oracle_transfers,
    aspects=(
        Aspect("accuracy", "the accuracy in the end", 0.2, 1e-9),
        Aspect("backward", "the backward transfer", 0.4, 1e-9),
        Aspect("forward", "the forward transfer", 0.4, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "rows taken for columns",
            "You read R the other way: a *row* is a state of the network, after one task more; a *column* is a task "
            "that it was asked. `R[-1]` is what the network knows in the end.",
            wrong=lambda i: {"accuracy": _turned(i)["accuracy"], "backward": _turned(i)["backward"]},
        ),
        Misconception(
            "the last task counts as one of the earlier ones",
            "The last task has had no later one, and its difference is always 0. Counting it in the mean makes the "
            "backward transfer too small: it is a mean over all tasks but the last.",
            wrong=_share_of_all,
        ),
        Misconception(
            "forgetting in the place of transfer",
            "The sign is turned: what you give is how much was *lost*. Transfer is what was gained, last minus "
            "first, and negative where something was forgotten.",
            wrong=lambda i: {"backward": -_oracle_transfers(i)["backward"]},
        ),
        Misconception(
            "the baseline was not taken off",
            "Your forward transfer is a plain score. A network that has learnt no task at all has a score too; "
            "transfer is what the earlier tasks add to it.",
            wrong=lambda i: {
                "forward": _oracle_transfers({**i, "baselines": 0 * i["baselines"]})["forward"],
            },
        ),
        Misconception(
            "the task itself was already learnt",
            "You took the diagonal less the baseline: that is what *learning the task* brought. Forward transfer asks "
            "before that: row i - 1, column i.",
            wrong=lambda i: {"forward": float(np.mean((np.diagonal(i["R"]) - i["baselines"])[1:]))},
        ),
    ),
    hints=(
        "Mark in a small matrix which entries are read: the last row, the diagonal, and the diagonal above it.",
        "`R.diagonal()` is each task right after it was learnt, `R.diagonal(1)` each task but the first right before.",
        "backward: (R[-1] - R.diagonal())[:-1].mean(); forward: (R.diagonal(1) - baselines[1:]).mean().",
    ),
)

# 08.2: making R ------------------------------------------------------------


def _draw_turns(rng: np.random.Generator) -> Inputs:
    tasks = int(rng.integers(2, 5))
    # Each wish is far from the others, so that every step of learning changes every score.
    return {"tasks": (rng.permutation(np.arange(tasks) * 2.0 + 1) + np.round(rng.uniform(0, 0.5, tasks), 2)).tolist()}


def _network() -> nn.Module:
    network = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
    return network


def _probe_turns(answer, inputs: Inputs) -> Outputs:
    learnt = []

    def learn(network: nn.Module, task: float) -> None:
        """Go three quarters of the way to the task's best weight."""
        learnt.append(task)
        with torch.no_grad():
            network.weight += 0.75 * (task - network.weight)

    def score(network: nn.Module, task: float) -> float:
        return -abs(network.weight.item() - task)

    network = _network()
    found = answer(network, list(inputs["tasks"]), learn, score)
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise AnswerError("what `learn_in_turn` returned is no pair: wanted are R and the list of networks")
    R, networks = found
    if not isinstance(networks, (list, tuple)) or not all(hasattr(kept, "weight") for kept in networks):
        raise AnswerError("the second thing that `learn_in_turn` returned is no list of networks")
    return {
        "R": plain(R, what="the matrix R that `learn_in_turn` returned"),
        "kept": [kept.weight.item() for kept in networks],
        "learnt": [float(task) for task in learnt],
        "in_the_end": network.weight.item(),
    }


def _oracle_turns(inputs: Inputs) -> Outputs:
    place, places = 0.0, []
    for task in inputs["tasks"]:
        place += 0.75 * (task - place)
        places.append(place)
    return {
        "R": -np.abs(np.subtract.outer(places, inputs["tasks"])),
        "kept": places,
        "learnt": list(inputs["tasks"]),
        "in_the_end": places[-1],
    }


def _matrix(value) -> np.ndarray:
    """R as numbers, or empty where it is none."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return np.empty(0)


def _same(got, wanted) -> bool:
    return np.shape(got) == np.shape(wanted) and bool(np.allclose(got, wanted, atol=1e-4))


def _one_behind(inputs: Inputs) -> Outputs:
    places = [0.0, *_oracle_turns(inputs)["kept"][:-1]]
    return {"R": -np.abs(np.subtract.outer(places, inputs["tasks"]))}


def _afresh(inputs: Inputs) -> Outputs:
    places = [0.75 * task for task in inputs["tasks"]]
    return {"R": -np.abs(np.subtract.outer(places, inputs["tasks"]))}


LEARN_IN_TURN = Exercise(
    id="08.2",
    title="One task after the other",
    points=4,
    difficulty=3,
    minutes=15,
    entry="learn_in_turn",
    draw=_draw_turns,
    probe=_probe_turns,
    oracle=_oracle_turns,
    aspects=(
        Aspect("R", "the matrix R", 0.4, 1e-4),
        Aspect("kept", "the network after each task", 0.3, 1e-4),
        Aspect("learnt", "each task is learnt once, in order", 0.15),
        Aspect("in_the_end", "the network itself has learnt them all", 0.15, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "each task on a fresh copy",
            "Every task began at the same start: nothing was learnt in turn, so nothing could be forgotten. One "
            "network has to go through all tasks.",
            wrong=_afresh,
        ),
        Misconception(
            "scored before it was learnt",
            "Your rows are one behind: the first one is the network that has learnt nothing. Row i is the state after "
            "task i.",
            wrong=_one_behind,
        ),
        Misconception(
            "rows taken for columns",
            "R is turned: a row is a state of the network, a column a task that it is asked.",
            shows=lambda i, o, e: _same(_matrix(o["R"]).T, e["R"]),
        ),
        Misconception(
            "asked only in the end",
            "All rows of your R are the same: the network was asked after all tasks, and what it knew on the way is "
            "gone. What was forgotten can only be seen by who has asked before.",
            shows=lambda i, o, e: (
                _matrix(o["R"]).shape == e["R"].shape and _same(_matrix(o["R"])[:-1], _matrix(o["R"])[1:])
            ),
        ),
        Misconception(
            "every kept network is the last one",
            "R is right, but all networks of your list are one and the same, as it is in the end: a list holds the "
            "object, not what it was then. Keep a copy.",
            shows=lambda i, o, e: (
                _same(_matrix(o["R"]), e["R"]) and _same(o["kept"], [e["in_the_end"]] * len(e["kept"]))
            ),
        ),
        Misconception(
            "the network that was given has learnt nothing",
            "R and the kept networks are right, but the network that you were given stands elsewhere than after the "
            "last task: a copy was trained in its place.",
            shows=lambda i, o, e: _same(_matrix(o["R"]), e["R"]) and _same(o["kept"], e["kept"]),
        ),
    ),
    hints=(
        "A loop over the tasks; inside of it, learn, then ask *all* tasks, then keep a copy.",
        "`learn` changes the network in place and returns nothing. `copy.deepcopy(network)` is a copy that later "
        "training does not reach.",
        "for i, task in enumerate(tasks): learn(network, task); R[i] = [score(network, other) for other in tasks]; "
        "networks.append(copy.deepcopy(network)).",
    ),
)
