"""Tasks of lesson 04 on what an optimiser is given, and on what it has changed."""

import copy

import numpy as np
import torch
from torch import Tensor, nn

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["GROUPS", "HOW_FAR"]

# 04.2: groups by hand ------------------------------------------------------------


def four_stages(seed: int, tied: bool) -> nn.Module:
    """Stem, block, neck and head; if tied, block and neck share their matrix, as some language models do."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
            self.block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
            self.neck = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
            self.head = nn.Linear(3, 2)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network()
    if tied:
        network.neck[0].weight = network.block[0].weight
    return network


def _draw_groups(rng: np.random.Generator) -> Inputs:
    lr = float(rng.choice([1e-5, 1e-4]))
    return {
        "rates": {"block": lr, "neck": lr, "head": float(rng.choice([1e-3, 2e-3]))},
        "decay": float(rng.choice([1e-4, 0.02, 0.1])),
        "tied": True,
        "seed": int(rng.integers(1000)),
    }


def _probe_groups(answer, inputs: Inputs) -> Outputs:
    network = four_stages(inputs["seed"], inputs["tied"])
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = answer(network, dict(inputs["rates"]), inputs["decay"])
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise AnswerError("`make_groups` returns a list of dicts, each with the keys params, lr and weight_decay")
    rates, decays = {}, {}
    for group in groups:
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        for parameter in members:
            name = names.get(id(parameter), "a tensor that is not the network's")
            # What AdamW takes where a group says nothing
            rates.setdefault(name, []).append(plain(group.get("lr", 1e-3), what="a rate"))
            decays.setdefault(name, []).append(plain(group.get("weight_decay", 0.01), what="a weight decay"))
    return {"rates": rates, "decays": decays}


def _oracle_groups(inputs: Inputs) -> Outputs:
    rates, decays = {}, {}
    for name, parameter in four_stages(inputs["seed"], inputs["tied"]).named_parameters():
        stage = name.partition(".")[0]
        if stage in inputs["rates"]:
            rates[name] = [inputs["rates"][stage]]
            decays[name] = [inputs["decay"] if parameter.dim() > 1 else 0.0]
    return {"rates": rates, "decays": decays}


def _left_out(o: Outputs, e: Outputs) -> set[str]:
    return set(e["rates"]) - set(o["rates"])


def _vectors(e: Outputs) -> set[str]:
    return {name for name, decay in e["decays"].items() if decay == [0.0]}


def _decayed_vectors(o: Outputs, e: Outputs) -> set[str]:
    return {name for name in _vectors(e) & set(o["decays"]) if o["decays"][name] != [0.0]}


GROUPS = Exercise(
    id="04.2",
    title="Groups by hand",
    points=5,
    difficulty=3,
    minutes=15,
    entry="make_groups",
    draw=_draw_groups,
    probe=_probe_groups,
    oracle=_oracle_groups,
    aspects=(
        Aspect("rates", "each moving tensor is in one group, at the rate of its stage", 0.6, 1e-9),
        Aspect("decays", "matrices are decayed and vectors are not", 0.4, 1e-9),
    ),
    misconceptions=(
        Misconception(
            "a frozen stage got a group",
            "A stage that has no rate is frozen, and yet its tensors are in a group: the optimiser would move them, or "
            "at a rate of 0 carry them along for nothing.",
            shows=lambda i, o, e: any(name.partition(".")[0] not in i["rates"] for name in o["rates"]),
        ),
        Misconception(
            "a shared tensor is in two groups",
            "block and neck share their matrix, and it is in two groups: it would be moved twice in each step (AdamW "
            "refuses such a list). Remember which tensors you have had, by id(tensor).",
            shows=lambda i, o, e: any(len(rates) > 1 for rates in o["rates"].values()),
        ),
        Misconception(
            "vectors were left out",
            "No bias and no scale of a normalisation is in any group: none of them would move. What they should be "
            "spared is the decay, not the training.",
            shows=lambda i, o, e: _left_out(o, e) == _vectors(e),
        ),
        Misconception(
            "equal values taken for one tensor",
            "Tensors are missing in your groups. The scales of two normalisations are both all ones, and still two "
            "tensors: what makes a tensor the same is its identity and not its values.",
            shows=lambda i, o, e: bool(_left_out(o, e)),
        ),
        Misconception(
            "one rate for all",
            "Every group has the same rate, but each stage has its own.",
            shows=lambda i, o, e: len({str(rates) for rates in o["rates"].values()}) == 1 and len(i["rates"]) > 1,
        ),
        Misconception(
            "left to the default",
            "Your vectors have a decay of 0.01, which you did not write: it is what AdamW takes for a group that says "
            "nothing. Without decay is `weight_decay` 0.0, said aloud.",
            shows=lambda i, o, e: (
                _decayed_vectors(o, e) == _vectors(e) and all(o["decays"][name] == [0.01] for name in _vectors(e))
            ),
        ),
        Misconception(
            "chosen by the name bias",
            "The biases are spared the decay, the scales of the normalisations are not: their name ends in weight, "
            "too. Decay pulls a scale to zero, and zero switches a normalisation off. Ask how many dimensions there "
            "are.",
            shows=lambda i, o, e: (
                bool(_decayed_vectors(o, e)) and all(name.endswith("weight") for name in _decayed_vectors(o, e))
            ),
        ),
        Misconception(
            "vectors are decayed",
            "Biases and scales of normalisations have a decay of {inputs[decay]:g} in your groups. For a scale, zero "
            "means switched off, and a bias only shifts: only what has more than one dimension is decayed.",
            shows=lambda i, o, e: _decayed_vectors(o, e) == _vectors(e),
        ),
    ),
    hints=(
        "Go through the stages in `rates`, and through `getattr(network, stage).parameters()`. Two questions decide "
        "about each tensor: has it been here before, and how many dimensions has it?",
        "Keep a set of id(tensor) over all stages. Each stage then makes two groups: dim() > 1 with the decay, the "
        "others with 0.0.",
        "seen = set(); for each stage: new = [p for p in ...parameters() if id(p) not in seen]; seen.update(map(id, "
        "new)); then append two dicts with params, lr and weight_decay.",
    ),
)

# 04.3: how far each stage has moved ------------------------------------------------------------


def _draw_how_far(rng: np.random.Generator) -> Inputs:
    return {
        "by": {name: float(np.round(rng.uniform(0.05, 0.4), 2)) for name in ("stem", "block", "head")},
        "batches": int(rng.integers(3, 20)),
        "width": int(rng.integers(2, 5)),
        "seed": int(rng.integers(1000)),
    }


def _pair(inputs: Inputs) -> tuple[nn.Module, nn.Module]:
    """A network, and the same after a training that changed parameters and statistics."""
    generator = torch.Generator().manual_seed(inputs["seed"])
    before = small_network(inputs["seed"], inputs["width"])
    with torch.no_grad():
        for name, tensor in before.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.5)
        after = copy.deepcopy(before)
        for name, tensor in after.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor += inputs["batches"]
            else:
                size = inputs["by"][name.partition(".")[0]] * (2 if "running" in name else 1)
                tensor.add_(size * torch.randn(tensor.shape, generator=generator))
    return before, after


def _probe_how_far(answer, inputs: Inputs) -> Outputs:
    found = plain(answer(*_pair(inputs)), what="what `how_far` returned")
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise AnswerError("`how_far` returns a dict: name of a child -> a dict with the keys weights and statistics")
    return {key: {name: row.get(key) for name, row in found.items()} for key in ("weights", "statistics")}


def _tensors(inputs: Inputs, *, counter: bool = False) -> dict[str, dict[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Pairs of the old and the new tensor, flat: for each kind, for each stage."""
    before, after = (network.state_dict() for network in _pair(inputs))
    found = {kind: {name: [] for name in inputs["by"]} for kind in ("weights", "statistics")}
    for name, old in before.items():
        kind = "statistics" if "running" in name or name.endswith("num_batches_tracked") else "weights"
        if counter or not name.endswith("num_batches_tracked"):
            pair = (old.double().numpy().ravel(), after[name].double().numpy().ravel())
            found[kind][name.partition(".")[0]].append(pair)
    return found


def _length(parts) -> float:
    return float(np.sqrt(sum((part**2).sum() for part in parts)))


def _share(pairs) -> float:
    size = _length(old for old, _ in pairs)
    return _length(new - old for old, new in pairs) / size if size else 0.0


def _measured(inputs: Inputs, by=_share, *, counter: bool = False) -> Outputs:
    return {
        kind: {stage: by(pairs) for stage, pairs in stages.items()}
        for kind, stages in _tensors(inputs, counter=counter).items()
    }


def _all_in_one(inputs: Inputs) -> Outputs:
    tensors = _tensors(inputs, counter=True)
    return {"weights": {name: _share(tensors["weights"][name] + tensors["statistics"][name]) for name in inputs["by"]}}


def _between_lengths(pairs) -> float:
    old, new = (_length(pair[side] for pair in pairs) for side in (0, 1))
    return abs(new - old) / old if old else 0.0


def _after_as_measure(pairs) -> float:
    size = _length(new for _, new in pairs)
    return _length(new - old for old, new in pairs) / size if size else 0.0


def _mean_share(pairs) -> float:
    return float(np.mean([_share([pair]) for pair in pairs])) if pairs else 0.0


HOW_FAR = Exercise(
    id="04.3",
    title="What moved, and how far",
    points=4,
    difficulty=3,
    minutes=15,
    entry="how_far",
    draw=_draw_how_far,
    probe=_probe_how_far,
    oracle=_measured,
    aspects=(
        Aspect("weights", "how far the parameters went", 0.6, 1e-4),
        Aspect("statistics", "how far the statistics went", 0.4, 1e-4),
    ),
    misconceptions=(
        Misconception(
            "parameters and statistics in one pot",
            "What you call weights holds the running statistics as well: state_dict() has both. At a tiny rate it is "
            "the statistics alone that move, and in one pot that could not be seen.",
            wrong=_all_in_one,
        ),
        Misconception(
            "the counter counts",
            "The weights are right. Among the statistics you took `num_batches_tracked`, which counts batches and "
            "went up by {inputs[batches]}: it is no statistic of a feature, and drowns the others.",
            wrong=lambda i: {"statistics": _measured(i, counter=True)["statistics"]},
        ),
        Misconception(
            "the change without its measure",
            "You returned the length of the change itself. A stage of many or of large numbers then seems to have "
            "moved far; divide by the length of what was there *before*.",
            wrong=lambda i: {
                "weights": _measured(i, lambda pairs: _length(new - old for old, new in pairs))["weights"]
            },
        ),
        Misconception(
            "measured by what came after",
            "You divided by the length of the stage *after* training. It has itself moved; the measure is what was "
            "there before.",
            wrong=lambda i: {"weights": _measured(i, _after_as_measure)["weights"]},
        ),
        Misconception(
            "the difference of the lengths",
            "You compared two lengths. A vector that turns without growing would not have moved at all: take the "
            "length of the difference.",
            wrong=lambda i: {"weights": _measured(i, _between_lengths)["weights"]},
        ),
        Misconception(
            "the mean over tensors",
            "You took the share of each tensor and then their mean, so that two numbers of a bias weigh as much as a "
            "matrix. The stage is one long vector: add up squares over its tensors, then divide once.",
            wrong=lambda i: {"weights": _measured(i, _mean_share)["weights"]},
        ),
    ),
    hints=(
        "Both networks have the same names: `dict(child.named_parameters())` of one, and of the other. Statistics are "
        "among `named_buffers()`.",
        "Length of a stage: the root of the sum of squares over all its tensors. Two lengths are needed: of the "
        "differences, and of what was there.",
        "Over the pairs old, new of one stage: sqrt(sum(((new - old) ** 2).sum())) / sqrt(sum((old ** 2).sum())). For "
        "the statistics take the buffers whose name ends in running_mean or running_var; 0.0 where there are none.",
    ),
)
