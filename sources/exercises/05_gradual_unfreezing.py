# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Exercises 05 · Gradual unfreezing
#
# Five tasks on a recipe in phases: its rates, how a stage joins, what AdamW does with a newcomer, what is left for a
# stage that opens late, and what a phase costs. About an hour. Do lesson 05 before.
#
# **How it works.** Replace `raise NotImplementedError` by your code and run the cell; then run the check below it. A
# check draws inputs, runs your function on them, and where something is wrong says what, with the smallest example that
# it has found. `hint("05.1")` opens a hint, three in all, each saying more than the one before. Your answer goes into
# the one cell that is there for it, with everything that it needs: only that cell is graded. A check is not a grade;
# grading draws other inputs and has tests that you do not see.

# %% tags=["setup"]
import math

import numpy as np
import torch

from tlcourse.checks import check, hint, progress

# %% [markdown] tags=["task"] task="05.1"
# Howard and Ruder let all rates rise for a short while and fall for a long one. In their equation 3 the factor of the
# rates at a step is $(1 + p\,(r - 1))\,/\,r$, where $r$ is `ratio` and $p$ runs from 0 up to 1 and back:
#
# $$p = \frac{\text{step}}{\text{peak}} \ \text{ before the peak, and } \quad
# p = 1 - \frac{\text{step} - \text{peak}}{\text{peak}\,(1/\text{cut} - 1)} \ \text{ from the peak on}$$
#
# Steps are counted from 0. The peak is `cut` times `total`, rounded down to a whole step. The lesson met two traps of
# the formula as it is printed. Mend both: **the peak is at least 1, and p never below 0.**
#
# **Write `slanted(total, cut, ratio)`**: the list of the factors at all `total` steps of a run. `total` is a whole
# number, 1 or more, `cut` lies between 0 and 1, and `ratio` is above 1.
#
# When it works, let `cut` be 0.1 and `ratio` 32. Of the runs of 10 to 100 steps, how many would end with a *negative*
# rate, were it not for your second repair?


# %% tags=["answer"] task="05.1"
def slanted(total, cut, ratio):
    # BEGIN SOLUTION
    peak = max(1, math.floor(cut * total))
    factors = []
    for step in range(total):
        p = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        factors.append((1 + max(p, 0.0) * (ratio - 1)) / ratio)
    return factors
    # END SOLUTION


# %% tags=["check"]
check("05.1", slanted)


# %% tags=["right"] task="05.1"
def slanted(total, cut, ratio):
    """Two lines: the triangle is the lower of them, and the floor the higher of that and 0."""
    peak = max(1, int(cut * total))
    step = np.arange(total)
    up, down = step / peak, 1 - (step - peak) * cut / (peak * (1 - cut))
    return 1 / ratio + np.maximum(np.minimum(up, down), 0) * (1 - 1 / ratio)


# %% tags=["right"] task="05.1"
def slanted(total, cut, ratio):
    """By corners: at the peak it is 1, and it is at the floor at 0 and from a certain step on."""
    peak = max(1, math.floor(cut * total))
    end = peak + peak * (1 / cut - 1)
    return np.interp(range(total), [0, peak, end], [1 / ratio, 1, 1 / ratio]).tolist()


# %% tags=["wrong"] task="05.1" misconception="below the floor"
def slanted(total, cut, ratio):
    peak = max(1, math.floor(total * cut))
    factors = []
    for step in range(total):
        p = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        factors.append((1 + p * (ratio - 1)) / ratio)
    return factors


# %% tags=["wrong"] task="05.1" misconception="the peak was not rounded"
def slanted(total, cut, ratio):
    peak, factors = max(1, cut * total), []
    for step in range(total):
        p = max(0.0, step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1)))
        factors.append((1 + p * (ratio - 1)) / ratio)
    return factors


# %% tags=["wrong"] task="05.1" misconception="one step late"
def slanted(total, cut, ratio):
    peak = max(1, math.floor(cut * total))
    factors = []
    for step in range(1, total + 1):
        p = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        factors.append((1 + max(p, 0.0) * (ratio - 1)) / ratio)
    return factors


# %% tags=["wrong"] task="05.1" misconception="the peak was rounded up"
def slanted(total, cut, ratio):
    peak = math.ceil(cut * total)
    factors = []
    for step in range(total):
        p = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        factors.append((1 + max(p, 0.0) * (ratio - 1)) / ratio)
    return factors


# %% tags=["wrong"] task="05.1" misconception="down to zero"
def slanted(total, cut, ratio):
    peak = max(1, math.floor(cut * total))
    step = np.arange(total)
    return np.clip(np.where(step < peak, step / peak, 1 - (step - peak) / (peak * (1 / cut - 1))), 0, 1)


# %% tags=["wrong"] task="05.1" misconception="as steep down as up"
def slanted(total, cut, ratio):
    peak = max(1, math.floor(cut * total))
    return [(1 + max(1 - abs(step - peak) / peak, 0) * (ratio - 1)) / ratio for step in range(total)]


# %% tags=["wrong"] task="05.1" misconception="stretched to the end of the run"
def slanted(total, cut, ratio):
    peak = max(1, math.floor(cut * total))
    factors = []
    for step in range(total):
        p = step / peak if step < peak else 1 - (step - peak) / (total - peak)
        factors.append((1 + p * (ratio - 1)) / ratio)
    return factors


# %% tags=["wrong"] task="05.1" misconception="a long way up"
def slanted(total, cut, ratio):
    cut = 1 - cut
    peak = max(1, math.floor(cut * total))
    factors = []
    for step in range(total):
        p = step / peak if step < peak else 1 - (step - peak) / (peak * (1 / cut - 1))
        factors.append((1 + max(p, 0.0) * (ratio - 1)) / ratio)
    return factors


# %% tags=["hidden"] task="05.1"
def draw_05_1(rng):
    """A single step, a cut that fits exactly, an even triangle, a ratio that is no whole number."""
    return {
        "total": int(rng.choice([1, 2, 3, 8, 16, 40])),
        "cut": float(rng.choice([0.125, 0.25, 0.5, 0.75])),
        "ratio": float(rng.choice([1.5, 32.0, 100.0])),
    }


# %% [markdown] tags=["task"] task="05.2"
# A training is under way, and one more stage is to be opened. **Write `open_stage(optimizer, stage, peak)`**.
#
# `optimizer` is a `torch.optim.AdamW`. Each of its groups has, beside its `params` and its `lr`, an entry `peak`;
# before each step, the loop sets the `lr` of every group to its `peak` times the schedule's factor at that step, the
# same factor for all groups. It has just done so. Nobody tells you the factor, and it is not 0. `stage` is an
# `nn.Module` that is frozen, and in evaluation mode.
#
# After your call the stage is open: its parameters have gradients from the next backward pass on, and it is in training
# mode. Each of its tensors is in exactly one group of the optimiser, with `peak` as its peak and with the rate that the
# schedule gives it *now*; the loop will not set the rates again before the next step. Weight decay is not our concern
# here. For what was being trained already, nothing changes: neither rates, nor peaks, nor what AdamW knows about it.
# Return the optimiser with which the training goes on.


# %% tags=["answer"] task="05.2"
def open_stage(optimizer, stage, peak):
    # BEGIN SOLUTION
    stage.requires_grad_(True).train()
    group = optimizer.param_groups[0]
    factor = group["lr"] / group["peak"]
    optimizer.add_param_group({"params": list(stage.parameters()), "lr": peak * factor, "peak": peak})
    return optimizer
    # END SOLUTION


# %% tags=["check"]
check("05.2", open_stage)


# %% tags=["right"] task="05.2"
def open_stage(optimizer, stage, peak):
    """A group for each tensor, and the factor from the last group."""
    last = optimizer.param_groups[-1]
    now = last["lr"] * peak / last["peak"]
    stage.train()
    for parameter in stage.parameters():
        parameter.requires_grad = True
        optimizer.add_param_group({"params": [parameter], "lr": now, "peak": peak})
    return optimizer


# %% tags=["right"] task="05.2"
def open_stage(optimizer, stage, peak):
    """A new optimiser, which is handed everything that the old one knows."""
    stage.train(True)
    stage.requires_grad_()
    factor = optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["peak"]
    newcomer = {"params": list(stage.parameters()), "lr": factor * peak, "peak": peak, "weight_decay": 0.0}
    successor = torch.optim.AdamW([*optimizer.param_groups, newcomer])
    successor.state.update(optimizer.state)
    return successor


# %% tags=["wrong"] task="05.2" misconception="not on the optimiser's list"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="AdamW began anew"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    group = optimizer.param_groups[0]
    newcomer = {"params": list(stage.parameters()), "lr": peak * group["lr"] / group["peak"], "peak": peak}
    return torch.optim.AdamW([*optimizer.param_groups, newcomer])


# %% tags=["wrong"] task="05.2" misconception="without gradients"
def open_stage(optimizer, stage, peak):
    stage.train()
    group = optimizer.param_groups[0]
    newcomer = {"params": list(stage.parameters()), "lr": peak * group["lr"] / group["peak"], "peak": peak}
    optimizer.add_param_group(newcomer)
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="still in evaluation mode"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True)
    group = optimizer.param_groups[0]
    newcomer = {"params": list(stage.parameters()), "lr": peak * group["lr"] / group["peak"], "peak": peak}
    optimizer.add_param_group(newcomer)
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="joined at its peak"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    optimizer.add_param_group({"params": list(stage.parameters()), "lr": peak, "peak": peak})
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="joined at the head's rate"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    optimizer.param_groups[0]["params"].extend(stage.parameters())
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="the present rate for the peak"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    group = optimizer.param_groups[0]
    now = peak * group["lr"] / group["peak"]
    optimizer.add_param_group({"params": list(stage.parameters()), "lr": now, "peak": now})
    return optimizer


# %% tags=["wrong"] task="05.2" misconception="no peak was noted"
def open_stage(optimizer, stage, peak):
    stage.requires_grad_(True).train()
    group = optimizer.param_groups[0]
    optimizer.add_param_group({"params": list(stage.parameters()), "lr": peak * group["lr"] / group["peak"]})
    return optimizer


# %% tags=["hidden"] task="05.2"
def draw_05_2(rng):
    """A single step before; the schedule at its top; a newcomer whose peak is the head's."""
    return {
        "head_peak": 1e-3,
        "peak": float(rng.choice([1e-3, 1e-5])),
        "factor": float(rng.choice([1.0, 0.03125])),
        "steps": 1,
        "width": int(rng.integers(1, 4)),
        "seed": int(rng.integers(1000)),
    }


# %% [markdown] tags=["task"] task="05.3"
# Why did the neck of the lesson take a step of full size as soon as it was opened? Take a single number that AdamW
# moves. AdamW keeps an average $m$ of its gradients $g$ and an average $v$ of their squares, both 0 at first. With its
# $n$-th gradient, $n = 1, 2, \dots$,
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\,g^2, \qquad
# \text{step over rate} = \frac{m / (1 - \beta_1^n)}{\sqrt{v / (1 - \beta_2^n)}}$$
#
# We leave out weight decay and the small constant below the fraction line. The number belongs to a stage that is opened
# at step `joined`, counted from 0: before that it is frozen, AdamW gets no gradient for it and passes it over.
#
# **Write `relative_steps(gradients, joined, beta1, beta2)`**: `gradients` is a numpy array of shape `(steps,)`, what
# the gradient would be at each step of the run, and never 0. Return a list, for each step the step over the rate; 0.0
# where the number is frozen.
#
# When it works, give it gradients that are all alike, then some that alternate between 1 and -1, then random ones.


# %% tags=["answer"] task="05.3"
def relative_steps(gradients, joined, beta1, beta2):
    # BEGIN SOLUTION
    steps, m, v = [0.0] * joined, 0.0, 0.0
    for n, g in enumerate(gradients[joined:], start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append((m / (1 - beta1**n)) / math.sqrt(v / (1 - beta2**n)))
    return steps
    # END SOLUTION


# %% tags=["check"]
check("05.3", relative_steps)


# %% tags=["right"] task="05.3"
def relative_steps(gradients, joined, beta1, beta2):
    """The corrected averages are weighted means, with weights that fall by beta into the past."""
    steps = np.zeros(len(gradients))
    for step in range(joined, len(gradients)):
        past = gradients[joined : step + 1]
        age = np.arange(len(past))[::-1]
        steps[step] = np.average(past, weights=beta1**age) / np.sqrt(np.average(past**2, weights=beta2**age))
    return steps


# %% tags=["right"] task="05.3"
def relative_steps(gradients, joined, beta1, beta2):
    """Ask AdamW."""
    number = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([number], lr=1.0, betas=(beta1, beta2), eps=1e-30, weight_decay=0.0)
    steps = []
    for step, g in enumerate(gradients):
        number.grad = torch.tensor([g], dtype=torch.float64) if step >= joined else None
        before = number.item()
        optimizer.step()
        steps.append(before - number.item())
    return steps


# %% tags=["wrong"] task="05.3" misconception="it moved before it was opened"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m, v = [], 0.0, 0.0
    for n, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append((m / (1 - beta1**n)) / math.sqrt(v / (1 - beta2**n)))
    return steps


# %% tags=["wrong"] task="05.3" misconception="on the optimiser's clock"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m, v = [], 0.0, 0.0
    for n, g in enumerate(gradients, start=1):
        g = 0.0 if n <= joined else g
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append((m / (1 - beta1**n)) / math.sqrt(v / (1 - beta2**n)) if v else 0.0)
    return steps


# %% tags=["wrong"] task="05.3" misconception="averaged while it was frozen"
def relative_steps(gradients, joined, beta1, beta2):
    mean, square, steps = 0.0, 0.0, []
    for step, gradient in enumerate(gradients):
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        number = step + 1
        size = (mean / (1 - beta1**number)) / (square / (1 - beta2**number)) ** 0.5
        steps.append(size if step >= joined else 0.0)
    return steps


# %% tags=["wrong"] task="05.3" misconception="without the correction"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m, v = [0.0] * joined, 0.0, 0.0
    for g in gradients[joined:]:
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append(m / math.sqrt(v))
    return steps


# %% tags=["wrong"] task="05.3" misconception="one average was corrected"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m, v = [0.0] * joined, 0.0, 0.0
    for n, g in enumerate(gradients[joined:], start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append((m / (1 - beta1**n)) / math.sqrt(v))
    return steps


# %% tags=["wrong"] task="05.3" misconception="the square of the mean"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m = [0.0] * joined, 0.0
    for n, g in enumerate(gradients[joined:], start=1):
        m = beta1 * m + (1 - beta1) * g
        mean = m / (1 - beta1**n)
        steps.append(mean / math.sqrt(mean**2))
    return steps


# %% tags=["wrong"] task="05.3" misconception="divided by the squares"
def relative_steps(gradients, joined, beta1, beta2):
    steps, m, v = [0.0] * joined, 0.0, 0.0
    for n, g in enumerate(gradients[joined:], start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        steps.append((m / (1 - beta1**n)) / (v / (1 - beta2**n)))
    return steps


# %% tags=["hidden"] task="05.3"
def draw_05_3(rng):
    """Open from the start, opened at the last step, gradients that agree, other averages."""
    count = int(rng.integers(1, 9))
    return {
        "gradients": rng.uniform(0.5, 2.0, size=count) * rng.choice([1, -1]),
        "joined": int(rng.choice([0, count - 1])),
        "beta1": float(rng.choice([0.0, 0.5, 0.95])),
        "beta2": float(rng.choice([0.5, 0.999])),
    }


# %% [markdown] tags=["task"] task="05.4"
# Two devices slow down the early stages: they open late, and their rates are lower. How much is each worth?
#
# AdamW moves a weight by about the rate in each step, so let us take the *sum of a stage's rates, over the steps in
# which it is open*, for how far it can go. `factors` is a numpy array: the schedule's factor at each step of the run.
# `opened` is a list of whole numbers, **from the head to the input**: the step, counted from 0, from which on a stage
# is open; it takes part in that step and stays open to the end. The first number is 0. The peak rate is the head's at
# the head, and falls by `fall` from each stage to the next: with a `fall` of 2, the third stage of the list has a
# quarter of the head's.
#
# **Write `slow_down(factors, opened, fall)`**. It returns two things, `return late, both`, each a list with a number
# for each stage, in the order of `opened`: how many times *less* far than the head the stage can go. In `late` as if
# all stages had the head's peak rate, in `both` with the rates as they are.
#
# When it works, try the lesson: ten stages, one opened every 13 of 156 steps, `slanted` with a `cut` of 0.1 and a
# `ratio` of 32, and a `fall` of 2.6. Which of the two brakes holds the stem?


# %% tags=["answer"] task="05.4"
def slow_down(factors, opened, fall):
    # BEGIN SOLUTION
    late = [float(factors.sum() / factors[step:].sum()) for step in opened]
    both = [own * fall**stage for stage, own in enumerate(late)]
    return late, both
    # END SOLUTION


# %% tags=["check"]
check("05.4", slow_down)


# %% tags=["right"] task="05.4"
def slow_down(factors, opened, fall):
    """How far at a peak rate of 1 for all, then at the rates as they are."""
    peaks = 1 / fall ** np.arange(len(opened))
    steps = np.arange(len(factors))
    is_open = steps >= np.array(opened)[:, None]
    even, own = is_open @ factors, (peaks[:, None] * is_open) @ factors
    return even[0] / even, own[0] / own


# %% tags=["right"] task="05.4"
def slow_down(factors, opened, fall):
    """Step by step, as a training would."""
    even, own = [0.0] * len(opened), [0.0] * len(opened)
    for step, factor in enumerate(factors):
        rate = 1.0
        for stage, begin in enumerate(opened):
            if step >= begin:
                even[stage] += factor
                own[stage] += rate * factor
            rate /= fall
    return [even[0] / way for way in even], [own[0] / way for way in own]


# %% tags=["wrong"] task="05.4" misconception="steps were counted"
def slow_down(factors, opened, fall):
    late = [len(factors) / (len(factors) - step) for step in opened]
    return late, [own * fall**stage for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="only the phase in which it was opened"
def slow_down(factors, opened, fall):
    ends = [*opened[1:], len(factors)]
    late = [factors.sum() / factors[begin:end].sum() for begin, end in zip(opened, ends, strict=True)]
    return late, [own * fall**stage for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="the schedule began anew"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[: len(factors) - step].sum() for step in opened]
    return late, [own * fall**stage for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="one step late"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[step + 1 if step else 0 :].sum() for step in opened]
    return late, [own * fall**stage for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="how much is left"
def slow_down(factors, opened, fall):
    late = [factors[step:].sum() / factors.sum() for step in opened]
    return late, [own / fall**stage for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="from the input to the head"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[step:].sum() for step in opened]
    both = [own * fall**stage for stage, own in enumerate(late)]
    return late[::-1], both[::-1]


# %% tags=["wrong"] task="05.4" misconception="the fall was not compounded"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[step:].sum() for step in opened]
    return late, [own * (fall if stage else 1) for stage, own in enumerate(late)]


# %% tags=["wrong"] task="05.4" misconception="the second brake by itself"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[step:].sum() for step in opened]
    return late, [fall**stage for stage in range(len(opened))]


# %% tags=["wrong"] task="05.4" misconception="one brake added to the other"
def slow_down(factors, opened, fall):
    late = [factors.sum() / factors[step:].sum() for step in opened]
    return late, [own + fall**stage - 1 for stage, own in enumerate(late)]


# %% tags=["hidden"] task="05.4"
def draw_05_4(rng):
    """A stage alone, all open at once, two that open together, one that opens at the last step, one rate for all."""
    total = int(rng.integers(3, 9))
    opened = ([0], [0, 0, 0], [0, 2, 2], [0, total - 1])[rng.integers(4)]
    return {
        "factors": rng.uniform(0.05, 1.0, size=total),
        "opened": opened,
        "fall": float(rng.choice([1.0, 2.6])),
    }


# %% [markdown] tags=["task"] task="05.5"
# What does a phase cost? Take a network whose stages lie in a row, stage 0 at the input and the head last. `costs` is a
# list: what each stage costs in the forward pass, in whichever unit. In the backward pass there are two kinds of work,
# and each costs a stage as much as its forward pass does:
#
# - its *own* gradient: that of its parameters, wherever they are to move;
# - *passing on*: from the gradient of what it puts out, the gradient of what it took in. Needed wherever a stage
#   further down, towards the input, waits for it.
#
# Only what is needed is done. **Write `backward_shares(costs, phases)`**: `phases` is a list with one list for each
# phase, holding the numbers of the stages that are open in it, in any order; they need not be neighbours. Return a
# list: for each phase, what the backward pass costs over what it costs where all stages are open. In a phase in which
# no stage is open there is no backward pass, and the share is 0.0.
#
# When it works, take ten stages of equal costs. What does a whole round of gradual unfreezing cost, one phase for each
# stage from the head down, over ten phases with everything open?


# %% tags=["answer"] task="05.5"
def backward_shares(costs, phases):
    # BEGIN SOLUTION
    def cost(phase):
        if not phase:
            return 0.0
        own = sum(costs[stage] for stage in phase)
        passing_on = sum(costs[min(phase) + 1 :])
        return own + passing_on

    return [cost(phase) / cost(range(len(costs))) for phase in phases]
    # END SOLUTION


# %% tags=["check"]
check("05.5", backward_shares)


# %% tags=["right"] task="05.5"
def backward_shares(costs, phases):
    """Stage by stage from the head down, as the gradient travels."""
    whole, shares = 2 * sum(costs) - costs[0], []
    for phase in phases:
        work = 0
        for stage in reversed(range(len(costs))):
            if stage in phase:
                work += costs[stage]
            if any(below in phase for below in range(stage)):
                work += costs[stage]
        shares.append(work / whole)
    return shares


# %% tags=["right"] task="05.5"
def backward_shares(costs, phases):
    """By masks."""
    costs = np.array(costs)
    own = np.array([[stage in phase for stage in range(len(costs))] for phase in phases])
    waiting = np.cumsum(own, axis=1) - own > 0
    return (own @ costs + waiting @ costs) / (costs.sum() + costs[1:].sum())


# %% tags=["wrong"] task="05.5" misconception="frozen stages are free"
def backward_shares(costs, phases):
    def cost(phase):
        return sum(costs[stage] * (2 if stage > min(phase) else 1) for stage in phase)

    return [cost(phase) / cost(range(len(costs))) for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="the lowest open stage passed it on"
def backward_shares(costs, phases):
    def cost(phase):
        return sum(costs[stage] for stage in phase) + sum(costs[min(phase) :])

    return [cost(phase) / cost(range(len(costs))) for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="back to the input"
def backward_shares(costs, phases):
    whole = 2 * sum(costs) - costs[0]
    return [(sum(costs[stage] for stage in phase) + sum(costs[1:])) / whole for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="frozen stages have gradients of their own"
def backward_shares(costs, phases):
    whole = 2 * sum(costs) - costs[0]
    return [(sum(costs[min(phase) :]) + sum(costs[min(phase) + 1 :])) / whole for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="nothing was passed on"
def backward_shares(costs, phases):
    return [sum(costs[stage] for stage in phase) / sum(costs) for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="taken for sorted"
def backward_shares(costs, phases):
    def cost(phase):
        return sum(costs[stage] for stage in phase) + sum(costs[phase[0] + 1 :])

    return [cost(phase) / cost(range(len(costs))) for phase in phases]


# %% tags=["wrong"] task="05.5" misconception="measured by twice the forward pass"
def backward_shares(costs, phases):
    return [
        (sum(costs[stage] for stage in phase) + sum(costs[min(phase) + 1 :])) / (2 * sum(costs)) for phase in phases
    ]


# %% tags=["wrong"] task="05.5" misconception="stages were counted"
def backward_shares(costs, phases):
    return [len(phase) / len(costs) for phase in phases]


# %% tags=["hidden"] task="05.5"
def draw_05_5(rng):
    """One stage alone, nothing open, one stage in the middle, numbers in another order."""
    stages = int(rng.integers(1, 6))
    some = rng.permutation(stages)[: int(rng.integers(1, stages + 1))].tolist()
    return {"costs": rng.uniform(0.5, 9, size=stages).tolist(), "phases": [[], some, [stages // 2]]}


# %% [markdown] tags=["solution"]
# ## What the numbers say
#
# **05.1.** As it is printed, the formula divides by zero in runs of fewer than ten steps; and of the 91 lengths from 10
# to 100 steps, 63 end with a negative rate. **05.3.** Gradients that are all alike make steps of the full rate for
# ever; those that alternate, and random ones, begin at the full rate as well, and shrink. So the first step of a
# newcomer is large because nothing is averaged yet, and not because its gradient is. **05.4.** For being late the stem
# can go about 15 times less far than the head, and for its rate 5,430 times: the second brake holds it. **05.5.** A
# round of ten equal stages costs 53 of 100 passes.


# %% tags=["solution"]
def last_as_printed(total, cut=0.1, ratio=32):
    peak = math.floor(cut * total)
    return (1 + (1 - (total - 1 - peak) / (peak * (1 / cut - 1))) * (ratio - 1)) / ratio


assert sum(last_as_printed(total) < 0 for total in range(10, 101)) == 63
alike, alternating = np.ones(50), np.tile([1.0, -1.0], 25)
noise = np.random.default_rng(0).normal(size=2000)
assert np.allclose(relative_steps(alike, 0, 0.9, 0.999), 1)
assert max(map(abs, relative_steps(alternating, 0, 0.9, 0.999)[20:])) < 0.1
assert 0.2 < np.square(relative_steps(noise, 0, 0.9, 0.999)[50:]).mean() ** 0.5 < 0.3
late, both = slow_down(np.array(slanted(156, 0.1, 32)), list(range(0, 130, 13)), 2.6)
assert 14 < late[-1] < 15.5 and 5_400 < both[-1] / late[-1] < 5_450
assert 0.525 < sum(backward_shares([1] * 10, [list(range(10 - k, 10)) for k in range(1, 11)])) / 10 < 0.53

# %% [markdown]
# ## Where you are
#
# The record of what you have tried and passed stays on your own machine. In a terminal, `python -m tlcourse progress`
# shows the same.

# %%
progress()
