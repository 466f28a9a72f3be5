"""Tasks of lesson 05 on a stage that joins a running optimisation: its groups, and its first steps."""

import numpy as np
import torch

from tlcourse.checks.networks import small_network
from tlcourse.checks.spec import AnswerError, Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["JOIN", "RELATIVE_STEPS"]

# 05.2: joining at the present rate ------------------------------------------------------------


def _draw_join(rng: np.random.Generator) -> Inputs:
    head = float(rng.choice([1e-3, 2e-3]))
    return {
        "head_peak": head,
        "peak": float(rng.choice([1e-4, 4e-4])),
        "factor": float(rng.choice([0.1, 0.25, 0.6])),
        "steps": int(rng.integers(2, 6)),
        "width": int(rng.integers(3, 6)),
        "seed": int(rng.integers(1000)),
    }


def _probe_join(answer, inputs: Inputs) -> Outputs:
    network = small_network(inputs["seed"], inputs["width"]).requires_grad_(False).eval()
    network.head.requires_grad_(True).train()
    head = {"params": list(network.head.parameters()), "peak": inputs["head_peak"], "lr": inputs["head_peak"]}
    optimizer = torch.optim.AdamW([head], weight_decay=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])

        def step() -> None:
            loss = network(torch.randn(8, 4)).pow(2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        for _ in range(inputs["steps"]):
            step()
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * inputs["factor"]
        returned = answer(optimizer, network.block, inputs["peak"])
        if not isinstance(returned, torch.optim.Optimizer):
            raise AnswerError("`open_stage` returns the optimiser that the training goes on with: `return optimizer`")
        optimizer = returned
        owner = {id(parameter): name.partition(".")[0] for name, parameter in network.named_parameters()}
        rates, peaks, listed = {}, {}, {}
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                child = owner.get(id(parameter), "a tensor that is not the network's")
                listed[child] = listed.get(child, 0) + 1
                for found, key in ((rates, "lr"), (peaks, "peak")):
                    value = plain(group.get(key), what=f"`{key}` of a group")
                    if value not in found.setdefault(child, []):
                        found[child].append(value)
        step()
    counted = optimizer.state.get(network.head.weight, {}).get("step", 0)
    children = dict(network.named_children())
    return {
        "listed": listed,
        "rates": rates,
        "peaks": peaks,
        "head_steps": int(counted),
        "open": [name for name, child in children.items() if all(p.requires_grad for p in child.parameters())],
        "training": [name for name, child in children.items() if all(part.training for part in child.modules())],
    }


def _oracle_join(inputs: Inputs) -> Outputs:
    peaks = {"head": [inputs["head_peak"]], "block": [inputs["peak"]]}
    return {
        "listed": {"head": 2, "block": 4},
        "rates": {name: [peak * inputs["factor"] for peak in values] for name, values in peaks.items()},
        "peaks": peaks,
        "head_steps": inputs["steps"] + 1,
        "open": ["block", "head"],
        "training": ["block", "head"],
    }


def _block_has(values: dict, wanted: float) -> bool:
    return len(values["block"]) == 1 and abs(values["block"][0] - wanted) < 1e-9


JOIN = Exercise(
    id="05.2",
    title="Joining at the present rate",
    points=4,
    difficulty=3,
    minutes=15,
    entry="open_stage",
    draw=_draw_join,
    probe=_probe_join,
    oracle=_oracle_join,
    aspects=(
        Aspect("listed", "each tensor of the stage is on the optimiser's list once", 0.15, 0.0),
        Aspect("rates", "each group has its present rate", 0.25, 1e-9),
        Aspect("peaks", "each group knows its peak", 0.15, 1e-9),
        Aspect("head_steps", "what AdamW knows about the head is kept", 0.15, 1e-9),
        Aspect("open", "the stage has gradients", 0.15),
        Aspect("training", "the stage is in training mode", 0.15),
    ),
    misconceptions=(
        Misconception(
            "not on the optimiser's list",
            "The stage is open, and no group holds its tensors: they get gradients that nobody uses. An optimiser "
            "moves what is on its list.",
            shows=lambda i, o, e: "block" not in o["listed"],
        ),
        Misconception(
            "AdamW began anew",
            "After the next step AdamW has counted {outputs[head_steps]} for the head, and should have counted "
            "{expected[head_steps]}: this is a new optimiser, which has forgotten the averages, so that the head "
            "takes a first step again. Add a group to the one that you have.",
            shows=lambda i, o, e: o["head_steps"] < e["head_steps"],
        ),
        Misconception(
            "without gradients",
            "The stage is on the optimiser's list and still frozen: without gradients, the optimiser passes it over.",
            shows=lambda i, o, e: "block" not in o["open"],
        ),
        Misconception(
            "still in evaluation mode",
            "The stage learns, but in evaluation mode: its dropout is off, and its statistics do not follow. Open "
            "means both.",
            shows=lambda i, o, e: "block" not in o["training"],
        ),
        Misconception(
            "joined at its peak",
            "The newcomer joins at {inputs[peak]:g}, its peak, while the schedule has turned all others down to "
            "{inputs[factor]} of theirs. It takes first steps of full size, and those at full rate.",
            shows=lambda i, o, e: _block_has(o["rates"], i["peak"]),
        ),
        Misconception(
            "joined at the head's rate",
            "The newcomer has the rate of the head. Its own peak is {inputs[peak]:g}; only the *factor* is the same "
            "for all groups.",
            shows=lambda i, o, e: _block_has(o["rates"], i["head_peak"] * i["factor"]),
        ),
        Misconception(
            "the present rate for the peak",
            "The rate is right, but you noted it as the peak as well. At the next step the schedule multiplies the "
            "peak by its factor: the stage is turned down twice.",
            shows=lambda i, o, e: _block_has(o["peaks"], i["peak"] * i["factor"]),
        ),
        Misconception(
            "no peak was noted",
            "The rate is right, but the new group has no entry `peak`: at the next step, the loop looks for it.",
            shows=lambda i, o, e: o["peaks"]["block"] == [None],
        ),
    ),
    hints=(
        "There are four things to do: gradients, mode, the optimiser's list, and two numbers of the new group. Where "
        "could you read the present factor?",
        "In each group, lr / peak is the present factor. `optimizer.add_param_group({...})` keeps everything that the "
        "optimiser knows.",
        "stage.requires_grad_(True).train(); group = optimizer.param_groups[0]; then add_param_group with params, "
        "peak, and lr = peak * group['lr'] / group['peak'].",
    ),
    seconds=10.0,
)

# 05.3: the first steps of a newcomer ------------------------------------------------------------


def _draw_steps(rng: np.random.Generator) -> Inputs:
    joined = int(rng.integers(2, 4))
    count = joined + int(rng.integers(2, 5))
    signs = rng.choice([-1, 1], size=count)
    beta1, beta2 = ((0.9, 0.999), (0.8, 0.95), (0.9, 0.98))[rng.integers(3)]
    return {
        "gradients": (signs * 10.0 ** rng.uniform(-4, -1, size=count)).round(6),
        "joined": joined,
        "beta1": beta1,
        "beta2": beta2,
    }


def _probe_steps(answer, inputs: Inputs) -> Outputs:
    steps = plain(answer(**inputs), what="what `relative_steps` returned")
    steps = steps.tolist() if isinstance(steps, np.ndarray) else steps
    whole = isinstance(steps, list) and len(steps) == len(inputs["gradients"])
    return {"first": steps[inputs["joined"]] if whole else None, "steps": steps}


def _steps(
    i: Inputs, *, joined: int | None = None, clock: int | None = None, corrected=(1, 1), watched: bool = False
) -> Outputs:
    """AdamW by the book; `clock` is the step from which the correction counts, `corrected` which averages have it.

    `watched` averages the gradients of the frozen time as well.
    """
    joined = i["joined"] if joined is None else joined
    clock = joined if clock is None else clock
    mean = square = 0.0
    steps = []
    for step, gradient in enumerate(i["gradients"].tolist()):
        if step >= joined or watched:
            mean = i["beta1"] * mean + (1 - i["beta1"]) * gradient
            square = i["beta2"] * square + (1 - i["beta2"]) * gradient**2
        if step < joined:
            steps.append(0.0)
            continue
        number = step - clock + 1
        up = mean / (1 - i["beta1"] ** number if corrected[0] else 1)
        down = square / (1 - i["beta2"] ** number if corrected[1] else 1)
        steps.append(up / down**0.5)
    return {"first": steps[i["joined"]], "steps": steps}


def _without_root(i: Inputs) -> Outputs:
    found = []
    for step in range(len(i["gradients"])):
        past = i["gradients"][i["joined"] : step + 1]
        if not len(past):
            found.append(0.0)
            continue
        first, second = (beta ** np.arange(len(past))[::-1] for beta in (i["beta1"], i["beta2"]))
        found.append(float(np.average(past, weights=first) / np.average(past**2, weights=second)))
    return {"first": found[i["joined"]], "steps": found}


RELATIVE_STEPS = Exercise(
    id="05.3",
    title="The first steps of a newcomer",
    points=4,
    difficulty=3,
    minutes=15,
    entry="relative_steps",
    draw=_draw_steps,
    probe=_probe_steps,
    oracle=_steps,
    aspects=(
        Aspect("first", "the first step", 0.3, 1e-6),
        Aspect("steps", "all steps", 0.7, 1e-6),
    ),
    misconceptions=(
        Misconception(
            "it moved before it was opened",
            "Your number moves from the first gradient on. It was frozen until step {inputs[joined]}: until then "
            "nothing is averaged, and nothing moves.",
            wrong=lambda i: _steps(i, joined=0),
        ),
        Misconception(
            "on the optimiser's clock",
            "Your correction counts all steps of the run, or takes the frozen time for gradients of zero. A newcomer's "
            "averages are corrected by *its own* number of steps. Your first step is {outputs[first]:.2f} of the rate, "
            "where one that has just joined takes exactly 1 of it, up or down. (Optimisers that keep one count for all "
            "tensors have this defect.)",
            wrong=lambda i: _steps(i, clock=0),
        ),
        Misconception(
            "averaged while it was frozen",
            "Your number stands still until step {inputs[joined]}, and its averages do not: they hold gradients from "
            "before. What is frozen has none, and AdamW passes it over: both averages are still 0 when it joins.",
            shows=lambda i, o, e: any(
                np.allclose(o["steps"], _steps(i, clock=clock, watched=True)["steps"], rtol=1e-5, atol=1e-9)
                for clock in (0, i["joined"])
            ),
        ),
        Misconception(
            "without the correction",
            "You divided the averages as they are. Both begin at 0 and are too small at first, the squares more so: "
            "your first step is {outputs[first]:.2f}, which is (1 - beta1) over the root of (1 - beta2), and not 1.",
            wrong=lambda i: _steps(i, corrected=(0, 0)),
        ),
        Misconception(
            "one average was corrected",
            "Only one of your two averages is corrected for its beginning at 0. Each has its own: 1 - beta1 ** n and "
            "1 - beta2 ** n.",
            shows=lambda i, o, e: any(
                np.allclose(o["steps"], _steps(i, corrected=which)["steps"], rtol=1e-5, atol=1e-9)
                for which in ((1, 0), (0, 1))
            ),
        ),
        Misconception(
            "the square of the mean",
            "Every step of yours has the full size of the rate. You squared the average of the gradients, where it is "
            "the average of their *squares* that divides: gradients that disagree make small steps.",
            shows=lambda i, o, e: np.allclose(np.abs(o["steps"][i["joined"] :]), 1, atol=1e-6),
        ),
        Misconception(
            "divided by the squares",
            "Your first step is {outputs[first]:.3g}, one over the gradient: the root of the averaged square is "
            "missing. The smaller the gradient, the larger your step.",
            wrong=_without_root,
        ),
    ),
    hints=(
        "Work out the first step after `joined` by hand, with a gradient g: both averages, both corrections.",
        "Keep two numbers that begin at 0, and a count n of the steps since `joined`, the first being 1.",
        "m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g ** 2; the step is (m / (1 - beta1 ** n)) / "
        "sqrt(v / (1 - beta2 ** n)); 0.0 before `joined`.",
    ),
)
