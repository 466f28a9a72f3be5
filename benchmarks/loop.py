"""What `train()` costs over the same steps in bare PyTorch.

The same batches, schedule and optimiser, once through `train()` and once as a loop without a record. The bars: at most
3 % where a step takes 10 ms or more, at most 40 microseconds a step elsewhere. Both sides run by turns, and the
quickest round of each is compared: what else runs on the machine only ever adds.

    python benchmarks/loop.py
"""

import copy
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from tlcourse import (
    Backbone,
    Model,
    Plan,
    Task,
    attach_head,
    evaluate,
    full_fine_tune,
    load_backbone,
    make_task,
    parameter_groups,
    train,
)
from tlcourse.backbones import ImagePreprocessing
from tlcourse.rates import warmup_cosine

EPOCHS, BATCH_SIZE = 1, 32
LONG_STEP, SHARE, MICROSECONDS = 10e-3, 0.03, 40


def short() -> tuple[tuple[Model, Task], int]:
    """A linear network on pictures of 8 x 8: 400 steps, each far below 10 ms, and few validation samples."""
    stages = {"only": nn.Sequential(nn.Flatten(), nn.Linear(192, 16))}
    grey = ImagePreprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    backbone = Backbone("flat", stages, feature_dim=16, preprocessing=grey, pretrained=False)
    return _prepared(backbone, images=12800, side=8), 25


def long() -> tuple[tuple[Model, Task], int]:
    """EfficientNet-Lite0 on pictures of 64 x 64, every stage trained: 12 steps of some 0.2 s on two cores."""
    return _prepared(load_backbone("efficientnet_lite0", pretrained=False), images=512, side=64), 5


def _prepared(backbone: Backbone, *, images: int, side: int) -> tuple[Model, Task]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, side, side), dtype=torch.uint8, generator=generator)
    task = make_task("noise", pixels, torch.arange(images) % 2, class_names=("a", "b"))
    return attach_head(backbone, task), task


def bare(model: Model, task: Task, plan: Plan) -> None:
    """Do the steps of `train` with nothing around them but validation once an epoch."""
    split = task.train
    optimizer = torch.optim.AdamW(parameter_groups(model, plan))
    steps = math.ceil(len(split) / BATCH_SIZE)
    base = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(0)
    step = 0
    for _ in range(EPOCHS):
        model.train()
        for index in torch.randperm(len(split), generator=generator).tensor_split(steps):
            for group, rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * warmup_cosine(step, EPOCHS * steps)
            x = model.backbone.preprocessing(split.inputs[index])
            loss = F.cross_entropy(model.run(x), split.labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1


def overhead(model: Model, task: Task, rounds: int) -> tuple[float, float]:
    """Seconds a step, in bare PyTorch and through `train`: the quickest of rounds that take turns."""
    steps = EPOCHS * math.ceil(len(task.train) / BATCH_SIZE)
    plain, through = [], []
    for number in range(rounds + 1):
        for timings, run in ((plain, _run_bare), (through, _run_train)):
            copied = copy.deepcopy(model)
            plan = full_fine_tune(copied)
            start = time.perf_counter()
            run(copied, task, plan)
            if number:  # the first round warms up
                timings.append((time.perf_counter() - start) / steps)
    return min(plain), min(through)


def _run_bare(model: Model, task: Task, plan: Plan) -> None:
    bare(model, task, plan)
    evaluate(model, task.val)


def _run_train(model: Model, task: Task, plan: Plan) -> None:
    train(model, task, plan, epochs=EPOCHS, batch_size=BATCH_SIZE, device="cpu", progress=False)


def main() -> int:
    """Print both cases; 0 where both bars are kept."""
    kept = True
    threads = torch.get_num_threads()
    for name, (case, rounds) in {"short": short(), "long": long()}.items():
        torch.set_num_threads(1 if name == "short" else threads)  # threads that wait for each other would be timed
        plain, through = overhead(*case, rounds)
        extra = through - plain
        if plain >= LONG_STEP:
            good, bar = extra <= SHARE * plain, f"{SHARE:.0%}"
        else:
            good, bar = extra <= MICROSECONDS * 1e-6, f"{MICROSECONDS} microseconds"
        kept &= good
        print(
            f"{name} steps: bare {plain * 1e3:.3f} ms, train {through * 1e3:.3f} ms, "
            f"extra {extra * 1e6:.1f} microseconds ({extra / plain:+.1%}); bar {bar}: {'kept' if good else 'MISSED'}"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
