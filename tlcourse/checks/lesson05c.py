"""The clinic after lesson 05: who is on the optimiser's list, by which name, with which memory, and up to when."""

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.lesson05c_phases import PHASES, REOPEN
from tlcourse.checks.lesson05c_runs import EARLY, RESUME
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs

__all__ = ["EXERCISES", "TWO_RATES"]

# 05c.2: the head by its name ------------------------------------------------------------

NETWORKS = (
    ("fc", ["stem", "block1.fc1", "block1.se.fc", "fc_norm", "fc"]),
    ("block1", ["stem", "block1", "block1.norm", "block10", "neck.block1"]),
    ("head", ["stem", "attention.head", "attention.heads", "head_norm", "head", "head.out"]),
    ("blocks.1", ["stem", "blocks.0", "blocks.1", "blocks.1.norm", "blocks.10", "neck.blocks.1"]),
    ("layers.2", ["layers.1", "layers.2", "layers.20", "layers.2.out", "encoder.layers.2"]),
    ("model.fc", ["model.stem", "model.fc", "model.fc2", "side.model.fc"]),
)


def _draw_names(rng: np.random.Generator) -> Inputs:
    head, modules = NETWORKS[rng.integers(len(NETWORKS))]
    return {"modules": list(modules), "head": head, "lr": float(rng.choice([1e-5, 2e-5])), "head_lr": 1e-3}


class Part(nn.Module):
    """A module with one parameter, and with whatever is hung below it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def build(modules: list[str]) -> nn.Module:
    """A network whose modules have these paths; every one of them holds a `weight`."""
    network = nn.Module()
    for path in modules:
        at = network
        for name in path.split(".")[:-1]:
            if name not in dict(at.named_children()):
                at.add_module(name, nn.Module())
            at = getattr(at, name)
        at.add_module(path.rpartition(".")[2], Part())
    return network


def _probe_names(answer, inputs: Inputs) -> Outputs:
    network = build(inputs["modules"])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = answer(network, inputs["head"], inputs["lr"], inputs["head_lr"])
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise AnswerError("`two_rates` returns a list of dicts, each with the keys params and lr")
    found = {"at_head_lr": [], "at_lr": [], "elsewhere": []}
    for group in groups:
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        key = {inputs["head_lr"]: "at_head_lr", inputs["lr"]: "at_lr"}.get(group.get("lr"), "elsewhere")
        found[key].extend(names.get(id(member), "a tensor that is not the network's") for member in members)
    return {key: sorted(members) for key, members in found.items()}


def _split(i: Inputs, belongs) -> Outputs:
    names = sorted(f"{path}.weight" for path in i["modules"])
    mine = [name for name in names if belongs(name, i["head"])]
    return {"at_head_lr": mine, "at_lr": [name for name in names if name not in mine], "elsewhere": []}


def _below(name: str, head: str) -> bool:
    return f"{name}.".startswith(f"{head}.")


def _anywhere(name: str, head: str) -> bool:
    return head in name


def _prefix(name: str, head: str) -> bool:
    return name.startswith(head)


def _some_part(name: str, head: str) -> bool:
    return head in name.split(".")


def _inner_path(name: str, head: str) -> bool:
    return f".{head}." in f".{name}"


def _directly(name: str, head: str) -> bool:
    return name.rpartition(".")[0] == head


def _first_part(name: str, head: str) -> bool:
    return name.split(".")[0] == head


def _swapped(found: Outputs) -> Outputs:
    return {"at_head_lr": found["at_lr"], "at_lr": found["at_head_lr"]}


TWO_RATES = Exercise(
    id="05c.2",
    title="The head, and all who bear its name",
    points=3,
    difficulty=2,
    minutes=10,
    entry="two_rates",
    draw=_draw_names,
    probe=_probe_names,
    oracle=lambda i: _split(i, _below),
    aspects=(
        Aspect("at_head_lr", "the head, and nothing else, is at the head's rate", 0.5),
        Aspect("at_lr", "everything else is at the other rate", 0.4),
        Aspect("elsewhere", "there is no third rate", 0.1),
    ),
    misconceptions=(
        Misconception(
            "in two groups",
            "A tensor is in both groups. AdamW refuses such a list; a loop by hand would move it twice in each step.",
            shows=lambda i, o, e: bool(set(o["at_lr"]) & set(o["at_head_lr"])),
        ),
        Misconception(
            "the name is somewhere in it",
            "`{inputs[head]}` occurs in the names {outputs[at_head_lr]}, and all of them are at the head's rate, far "
            "too fast for a backbone. Ask for what *lies below* the head.",
            wrong=lambda i: _split(i, _anywhere),
        ),
        Misconception(
            "the name begins like it",
            "At the head's rate are {outputs[at_head_lr]}: all that *begins* with `{inputs[head]}`, another module "
            "with a longer name as well. A module's name ends at a dot.",
            wrong=lambda i: _split(i, _prefix),
        ),
        Misconception(
            "only the first part was compared",
            "You compared what stands before the first dot. The head may lie deeper: for `{inputs[head]}` you found "
            "{outputs[at_head_lr]}.",
            wrong=lambda i: _split(i, _first_part),
        ),
        Misconception(
            "a part of the path, wherever it is",
            "You found `{inputs[head]}` in the middle of other paths, or not at all where it has a dot itself. At the "
            "head's rate are {outputs[at_head_lr]}, and should be {expected[at_head_lr]}. The path *begins* with the "
            "head's.",
            shows=lambda i, o, e: any(
                all(o[key] == value for key, value in _split(i, way).items()) for way in (_some_part, _inner_path)
            ),
        ),
        Misconception(
            "what lies below was left out",
            "At the head's rate are {outputs[at_head_lr]}, and should be {expected[at_head_lr]}: a module may hold "
            "others, and what lies in them belongs to the head as well.",
            wrong=lambda i: _split(i, _directly),
        ),
        Misconception(
            "the rest was left out",
            "Only the head is in a group. What is on no list does not move at all: {expected[at_lr]} should, at the "
            "lower rate.",
            wrong=lambda i: {**_split(i, _below), "at_lr": []},
        ),
        Misconception(
            "the rates are swapped",
            "The groups are right and their rates are swapped: the head is to be the fast one.",
            wrong=lambda i: _swapped(_split(i, _below)),
        ),
    ),
    hints=(
        "Print the names of the parameters in each of the two groups.",
        "A parameter of the module `fc` has a name that begins with `fc` *and a dot*. Or ask the network for the "
        "module itself.",
        'name.startswith(head + "."), or the ids of network.get_submodule(head).parameters().',
    ),
    draws=12,
)

EXERCISES = (PHASES, TWO_RATES, REOPEN, EARLY, RESUME)
