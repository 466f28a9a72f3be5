"""What stands behind the loop: data on the device, phases, rates, the record, and the way back to a checkpoint.

`training.train` is the loop, `rates.find_rate` another one over the same batches. Lesson 03 introduces the record,
lesson 05 the phases.
"""

import copy
import hashlib
import json
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor

from tlcourse.adapters import lora_layers
from tlcourse.backbones import Model
from tlcourse.batching import bucketed_order
from tlcourse.caching import cached_prefix, frozen_depth
from tlcourse.checkpoints import read_checkpoint, write_checkpoint
from tlcourse.evaluation import metrics, predict_probabilities
from tlcourse.masked import Masked
from tlcourse.plans import Plan, apply_plan, parameter_groups
from tlcourse.runtime import pick_device, seeded, show_progress

__all__ = ["History"]

DEFAULT_EPOCHS = 6


@dataclass
class History:
    """What happened, one entry an epoch.

    Attributes
    ----------
    train_loss
        Mean loss over the samples of the epoch, penalties included, in nats, as seen during training.
    val
        `evaluation.metrics` on the validation split.
    lr
        Stage -> rate at the end of the epoch, the highest where it has several; stages that did not move are not in it.
    seconds
        Wall time, validation included.
    cached_stages
        How many frozen stages were computed once, in the last phase; 0 where the prefix ran for every batch.
    """

    epochs: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val: list[dict[str, float]] = field(default_factory=list)
    lr: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cached_stages: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch, from 1, with the lowest validation log-loss, the first of equals; 0 before the first epoch."""
        return min(self.epochs, key=lambda epoch: self.val[epoch - 1]["log_loss"], default=0)


class _Run:
    """What the loop needs: the model on its device, batches, rates, the record."""

    def __init__(
        self, model, task, plan, *, epochs, batch_size, rates, patience, seed, augment, penalties, head, bucket, device
    ) -> None:
        for name, value in {"epochs": epochs, "batch_size": batch_size, "patience": patience}.items():
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise ValueError(f"{name}={value}: a whole number, at least 1, is needed")
        self.model, self.task, self.augment, self.penalties = model, task, augment, penalties
        self.phases = _phases(plan, epochs)
        self.ends = list(accumulate(epochs for _, epochs in self.phases))
        self.epochs, self.batch_size, self.patience, self.seed = self.ends[-1], batch_size, patience, seed
        if bucket and not isinstance(task.train.inputs, Masked):
            raise ValueError(f"bucket=True: task {task.name!r} holds images, which have no lengths")
        self.head, self.bucket = model.head_name(head or task.name), bucket
        self.device = pick_device(device)
        self.total_steps = self.epochs * self.steps_an_epoch
        self.rates, self.factors = rates, _factors(rates, self.total_steps)
        _check_phases(model, self.phases, patience)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.phase, self.optimizer, self.bar, self.prefix = None, None, None, None
        self._begin_phase(0)
        self.generator = torch.Generator().manual_seed(seed)
        self.history = History()
        self.steps_done, self.losses = 0, []
        self.best, self.last_checkpoint, self.generators = None, None, None

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.task.train) / self.batch_size)

    @property
    def largest_batch(self) -> int:
        return math.ceil(len(self.task.train) / self.steps_an_epoch)

    def epochs_left(self) -> Iterator[int]:
        """The epochs to come; before one of them the next phase may begin."""
        for epoch in range(len(self.history.epochs), self.epochs):
            if self._out_of_patience():
                return
            self._begin_phase(self._phase_of(epoch))
            self._keep_prefix()
            yield epoch

    def _phase_of(self, epoch: int) -> int:
        return bisect_right(self.ends, epoch)

    def _begin_phase(self, number: int) -> None:
        """Freeze and group as the phase's plan says: what goes on moving keeps its momentum, what closes loses it."""
        if number == self.phase:
            return
        prepared = self.model.prepared
        for earlier, _ in self.phases[:number]:
            if earlier.prepare:  # a run that is resumed finds the network as this phase left it
                apply_plan(self.model, earlier)
        self.phase, self.plan = number, self.phases[number][0]
        apply_plan(self.model, self.plan)
        if self.model.prepared != prepared:
            self.prefix = None  # what was kept came out of other stages
        before, self.optimizer = self.optimizer, torch.optim.AdamW(parameter_groups(self.model, self.plan))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        if before is not None:
            before.zero_grad(set_to_none=True)
            for parameter in (parameter for group in self.optimizer.param_groups for parameter in group["params"]):
                if parameter in before.state:
                    self.optimizer.state[parameter] = before.state[parameter]
        if self.bar is not None:
            self.bar.set_description(self.plan.name)

    def prepare_inputs(self, *, cache: bool) -> None:
        """Move the data to the device once; replace them by the output of the frozen prefix where that is allowed."""
        self.cache = cache
        self._begin_phase(self._phase_of(min(len(self.history.epochs), self.epochs - 1)))
        self._keep_prefix()

    def _keep_prefix(self) -> None:
        # Random changes of the raw input would have to pass through the prefix each time.
        prefix = frozen_depth(self.model, self.plan) if self.cache and self.augment is None else 0
        if prefix == self.prefix:
            return  # the same stages were frozen in the phase before: what they put out still holds
        self.prefix = prefix
        train, val = self.task.train.to(self.device), self.task.val.to(self.device)
        self.labels, self.val_labels = train.labels, val.labels
        self.inputs, self.val_inputs, self.depth = train.inputs, val.inputs, 0
        if prefix:
            # In batches of the size that training takes: another size rounds otherwise, and high rates amplify that.
            kept = [
                cached_prefix(self.model, train.inputs, depth=prefix, batch_size=self.largest_batch),
                cached_prefix(self.model, val.inputs, depth=prefix),
            ]
            if all(inputs is not None for inputs in kept):
                (self.inputs, self.val_inputs), self.depth = kept, prefix
        self.history.cached_stages = self.depth

    def batches(self) -> Iterator[tuple[Tensor | Masked, Tensor]]:
        """Every sample once, in a new random order; the sizes of the batches differ by at most one."""
        if self.bucket:
            lengths = self.task.train.inputs.mask.sum(dim=1).cpu()
            order = [index.to(self.device) for index in bucketed_order(lengths, self.batch_size, self.generator)]
        else:
            shuffled = torch.randperm(len(self.labels), generator=self.generator).to(self.device)
            order = shuffled.tensor_split(self.steps_an_epoch)
        for index in order:
            state = self.inputs[index]
            if self.augment is not None:
                state = self.augment(state, self.generator)
            if self.depth == 0:
                state = self.model.backbone.preprocessing(state)
            for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
                group["lr"] = rate * self.factors[self.steps_done]
            yield state, self.labels[index]

    def step(self, loss: Tensor, count: int) -> None:
        """Move the parameters and note the loss, without waiting for the device."""
        self.optimizer.step()
        self.losses.append(loss * count)
        self.steps_done += 1
        if self.bar is not None:
            self.bar.update()

    @contextmanager
    def session(self, *, checkpoint, progress) -> Iterator[Callable[[int], bool]]:
        """Seeded, with a progress bar; what follows an epoch is the function that this yields."""
        watch = progress if callable(progress) else None
        with seeded(self.seed, self.device):
            self._set_generators()
            if progress is True and show_progress():
                from tqdm.auto import tqdm

                self.bar = tqdm(total=self.total_steps, initial=self.steps_done, desc=self.plan.name, leave=False)
            self.started = time.perf_counter()

            def after_epoch(epoch: int) -> bool:
                self._record(epoch)
                if self.patience is not None and self.history.best_epoch == epoch + 1:
                    self.best = copy.deepcopy(self._weights())
                if checkpoint is not None:
                    self._save(Path(checkpoint))
                if watch is not None:
                    watch(self.history)
                self.started = time.perf_counter()
                return not self._out_of_patience()

            try:
                yield after_epoch
                if self.best is not None:
                    self._begin_phase(self._phase_of(self.history.best_epoch - 1))
                    self._set_weights(self.best)
            except KeyboardInterrupt as interrupt:
                done = len(self.history.epochs)
                way_on = "give checkpoint= to be able to go on next time"
                if self.last_checkpoint:
                    path, kept = self.last_checkpoint
                    way_on = f"resume={str(path)!r} goes on after epoch {kept}"
                where = f"epoch {done + 1} of {self.epochs}, after step {self.steps_done} of {self.total_steps}"
                raise KeyboardInterrupt(f"stopped in {where}; {way_on}") from interrupt
            finally:
                self.model.eval()
                if self.bar is not None:
                    self.bar.close()

    def _out_of_patience(self) -> bool:
        return self.patience is not None and len(self.history.epochs) - self.history.best_epoch >= self.patience

    def _record(self, epoch: int) -> None:
        loss = torch.stack(self.losses).sum().item() / len(self.labels)
        self.losses = []
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss became {loss} in epoch {epoch + 1}: lower the rates of plan {self.plan.name!r}"
            )
        probabilities = predict_probabilities(self.model, self.val_inputs, start=self.depth, head=self.head)
        history = self.history
        history.epochs.append(epoch + 1)
        history.train_loss.append(loss)
        history.val.append(metrics(self.val_labels, probabilities))
        rates = sorted((group["lr"], group["stage"]) for group in self.optimizer.param_groups)
        history.lr.append({stage: rate for rate, stage in rates})  # the last one stays: the highest
        history.seconds.append(time.perf_counter() - self.started)

    def _weights(self) -> dict:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def _set_weights(self, stored: dict) -> None:
        self.model.load_state_dict(stored["model"])
        self.optimizer.load_state_dict(stored["optimizer"])

    def _fingerprint(self) -> dict:
        """Whatever two runs must have in common for one to go on where the other stopped."""
        task, rows = self.task, self.task.train
        drawn = hashlib.sha256(rows.index.numpy().tobytes() + rows.labels.cpu().numpy().tobytes())
        # Two schedules of one name may differ in an option; the last digits may differ between machines.
        factors = hashlib.sha256(json.dumps([f"{factor:.6g}" for factor in self.factors]).encode())
        return {
            "plan": ", then ".join(plan.to_json() for plan, _ in self.phases),
            "backbone": self.model.backbone.name,
            "head": self.head,
            "heads": ", ".join(f"{name} {tuple(head.weight.shape)}" for name, head in self.model.heads.items()),
            "LoRA merged": any(layer.merged for layer in lora_layers(self.model)),
            "task": task.name,
            "task seed": task.seed,
            "task options": repr(sorted(task.options.items())),
            "samples": len(rows),
            "samples drawn": drawn.hexdigest()[:12],
            "epochs": " + ".join(str(epochs) for _, epochs in self.phases),
            "batch_size": self.batch_size,
            "rates": f"{_name_of(self.rates)} {factors.hexdigest()[:12]}",
            "patience": self.patience,
            "seed": self.seed,
            "bucket": self.bucket,
            "augment": _name_of(self.augment),
            "penalties": ", ".join(map(_name_of, self.penalties)),
        }

    def _save(self, path: Path) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        stored = {
            "run": self._fingerprint(),
            **self._weights(),
            "best": self.best,
            "history": asdict(self.history),
            "steps_done": self.steps_done,
            "generators": [self.generator.get_state(), torch.get_rng_state(), cuda],
        }
        write_checkpoint(path, stored)
        self.last_checkpoint = path, len(self.history.epochs)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint: before the frozen prefix is computed, which its weights decide."""
        stored = read_checkpoint(path, self._fingerprint())
        self.history = History(**stored["history"])
        self._begin_phase(self._phase_of(len(self.history.epochs) - 1))  # the one that its optimiser is of
        self._set_weights(stored)
        self.steps_done, self.best = stored["steps_done"], stored["best"]
        self.last_checkpoint, self.generators = (path, len(self.history.epochs)), stored["generators"]

    def _set_generators(self) -> None:
        if self.generators is None:
            return
        own, everyones, cuda = self.generators
        self.generator.set_state(own)
        torch.set_rng_state(everyones)
        if cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.device)


def _phases(plan: Plan | tuple[tuple[Plan, int], ...], epochs: int | None) -> tuple[tuple[Plan, int], ...]:
    """A plan and its epochs, or a schedule, as a checked schedule."""
    if isinstance(plan, Plan):
        return ((plan, DEFAULT_EPOCHS if epochs is None else epochs),)
    if not isinstance(plan, tuple) or not plan:
        raise TypeError(f"a plan, or a schedule (a tuple of pairs of a plan and its epochs) is needed, not {plan!r}")
    for number, phase in enumerate(plan, start=1):
        if not (isinstance(phase, tuple) and len(phase) == 2 and isinstance(phase[0], Plan)):
            raise TypeError(f"phase {number} of the schedule must be a pair of a plan and its epochs, not {phase!r}")
        if not isinstance(phase[1], Integral) or phase[1] < 1:
            raise ValueError(
                f"phase {number} of the schedule, {phase[0].name!r}, takes {phase[1]} epochs: a whole number from 1 on "
                "is needed"
            )
    each = [epochs for _, epochs in plan]
    if epochs not in (None, sum(each)):
        terms = " + ".join(map(str, each))
        raise ValueError(f"epochs={epochs}, but the phases of the schedule take {terms} = {sum(each)}: leave it out")
    return plan


def _check_phases(model: Model, phases: tuple[tuple[Plan, int], ...], patience: int | None) -> None:
    """Say what is wrong with a later plan before the first one is trained."""
    changes = [step for plan, _ in phases[1:] for step in plan.prepare if step not in phases[0][0].prepare]
    if changes and patience is not None:
        raise ValueError(
            f"patience={patience} may go back to an epoch before {changes[0]!r} changed the network, whose state would "
            "not fit: leave patience out, or let the first plan prepare the network"
        )
    if any(plan.prepare for plan, _ in phases):
        model = copy.deepcopy(model)
        for plan, _ in phases:
            apply_plan(model, plan)
            parameter_groups(model, plan)
    else:
        for plan, _ in phases[1:]:
            parameter_groups(model, plan)


def _factors(rates: Callable[[int, int], float], total: int) -> list[float]:
    """The factor of the rates at each step."""
    factors = [rates(step, total) for step in range(total)]
    for step, factor in enumerate(factors):
        if not 0 <= factor < math.inf:
            raise ValueError(
                f"rates={_name_of(rates)}: the factor at step {step} of {total} is {factor}, not 0 or more"
            )
    return factors


def _name_of(function: Callable | None) -> str:
    """A name that tells augmentations, penalties and rates apart, for functions and for objects that are called."""
    if isinstance(function, partial):
        values = [*map(_value_of, function.args), *(f"{k}={_value_of(v)}" for k, v in function.keywords.items())]
        return f"{_name_of(function.func)}({', '.join(values)})"
    return "none" if function is None else getattr(function, "__qualname__", type(function).__qualname__)


def _value_of(value: object) -> str:
    """Plain values as they are; of all else the kind, since its text may hold an address."""
    return repr(value) if isinstance(value, (bool, int, float, str)) else type(value).__qualname__
