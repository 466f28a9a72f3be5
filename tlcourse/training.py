"""The training loop, on one screen, and what it records. Lesson 03 builds it by hand and then prints it.

A plan says which stages move; the frozen prefix is computed once; batches are an iterator; rates are an object with a
``step``; what follows an epoch is one function. There are no hooks.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.batching import bucketed_order
from tlcourse.caching import cached_prefix, frozen_depth
from tlcourse.data import Task
from tlcourse.evaluation import metrics, predict_probabilities
from tlcourse.masked import Masked
from tlcourse.plans import Plan, apply_plan, parameter_groups
from tlcourse.runtime import autocast, pick_device, seeded, show_progress

__all__ = ["History", "train", "warmup_cosine"]


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
        Stage -> rate at the end of the epoch.
    seconds
        Wall time, validation included.
    cached_stages
        How many frozen stages were computed once; 0 where the prefix ran for every batch.
    """

    epochs: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    val: list[dict[str, float]] = field(default_factory=list)
    lr: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cached_stages: int = 0


def train(
    model: Model,
    task: Task,
    plan: Plan,
    *,
    epochs: int = 6,
    batch_size: int = 32,
    seed: int = 0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    penalties: tuple[Callable, ...] = (),
    head: str | None = None,
    cache: bool = True,
    bucket: bool = False,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool | Callable[[History], object] = True,
) -> History:
    """Train a model on a task as the plan says: AdamW, cross-entropy, cosine rates after a warm-up.

    Parameters
    ----------
    model
        Changed in place, and left on the device in eval mode.
    augment
        ``augment(images, generator)`` changes raw inputs at random; the frozen prefix is then run for every batch.
    penalties
        Each ``penalty(model, state, logits)`` is added to the loss; ``state`` is what enters the first trained stage.
    head
        Which head; default: the task's own.
    cache
        Compute the frozen prefix once. The losses are the same without it, only later.
    bucket
        Put texts of similar length into a batch, which needs less padding then: `batching.bucketed_order`.
    checkpoint, resume
        Write everything to this file after each epoch; go on from such a file, to the same weights as without a stop.
    progress
        True for a bar, or a function that is called with the history after each epoch.

    Raises
    ------
    ValueError
        If an argument is out of range, or the checkpoint is none or is of another run.
    FloatingPointError
        If the loss stops being a number.
    KeyboardInterrupt
        If interrupted; the message says what is left. The model keeps its last step's weights.

    Examples
    --------
    >>> from tlcourse import attach_head, feature_extraction, load_backbone, load_task
    >>> task = load_task("digits8", labels=20)
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> history = train(model, task, feature_extraction(model), epochs=2, progress=False)
    >>> len(history.train_loss), history.cached_stages
    (2, 9)
    """
    run = _Run(
        model,
        task,
        plan,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        augment=augment,
        penalties=penalties,
        head=head,
        device=device,
        bucket=bucket,
    )
    if resume is not None:
        run.load(Path(resume))
    run.prepare_inputs(cache=cache)
    with run.session(checkpoint=checkpoint, progress=progress) as after_epoch:
        for epoch in run.epochs_left:
            model.train()
            for state, labels in run.batches():
                with autocast(run.device):
                    logits = model.run(state, start=run.depth, head=run.head)
                    loss = F.cross_entropy(logits, labels)
                    for penalty in penalties:
                        loss = loss + penalty(model, state, logits)
                run.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                run.step(loss.detach(), len(labels))
            if not after_epoch(epoch):
                break
    return run.history


def warmup_cosine(step: int, total: int, *, warmup: float = 0.1) -> float:
    """Factor of the rate at a step (from 0): linear over the first share ``warmup``, then half a cosine down to 0."""
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


class _Run:
    """What the loop needs: the model on its device, batches, rates, the record."""

    def __init__(
        self, model, task, plan, *, epochs, batch_size, seed, augment, penalties, head, device, bucket
    ) -> None:
        for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"{name}={value}: at least 1 is needed")
        self.model, self.task, self.plan, self.augment, self.penalties = model, task, plan, augment, penalties
        self.epochs, self.batch_size, self.seed = epochs, batch_size, seed
        if bucket and not isinstance(task.train.inputs, Masked):
            raise ValueError(f"bucket=True: task {task.name!r} holds images, which have no lengths")
        self.bucket = bucket
        self.head = model.head_name(head or task.name)
        self.device = pick_device(device)
        self.model.to(self.device, memory_format=torch.channels_last)
        apply_plan(model, plan)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, plan))
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.total_steps = epochs * self.steps_an_epoch
        self.generator = torch.Generator().manual_seed(seed)
        self.history = History()
        self.steps_done, self.losses, self.bar = 0, [], None
        self.last_checkpoint, self.generators = None, None

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.task.train) / self.batch_size)

    @property
    def largest_batch(self) -> int:
        return math.ceil(len(self.task.train) / self.steps_an_epoch)

    @property
    def epochs_left(self) -> range:
        return range(len(self.history.epochs), self.epochs)

    def prepare_inputs(self, *, cache: bool) -> None:
        """Move the data to the device once; replace them by the output of the frozen prefix where that is allowed."""
        train, val = self.task.train.to(self.device), self.task.val.to(self.device)
        self.labels, self.val_labels = train.labels, val.labels
        self.inputs, self.val_inputs, self.depth = train.inputs, val.inputs, 0
        depth = frozen_depth(self.model, self.plan)
        # Random changes of the raw input would have to pass through the prefix each time.
        if cache and depth and self.augment is None:
            # In batches of the size that training takes: another size rounds otherwise, and high rates amplify that.
            kept = [
                cached_prefix(self.model, train.inputs, depth=depth, batch_size=self.largest_batch),
                cached_prefix(self.model, val.inputs, depth=depth),
            ]
            if all(inputs is not None for inputs in kept):
                (self.inputs, self.val_inputs), self.depth = kept, depth
        self.history.cached_stages = self.depth

    def batches(self) -> Iterator[tuple[Tensor | Masked, Tensor]]:
        """Every sample once, in a new random order; the sizes of the batches differ by at most one."""
        if self.bucket:
            lengths = self.task.train.inputs.mask.sum(dim=1)
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
            self._set_rates()
            yield state, self.labels[index]

    def _set_rates(self) -> None:
        factor = warmup_cosine(self.steps_done, self.total_steps)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

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

                self.bar = tqdm(
                    total=self.total_steps,
                    initial=self.steps_done,
                    desc=self.plan.name,
                    leave=False,
                )
            self.started = time.perf_counter()

            def after_epoch(epoch: int) -> bool:
                self._record(epoch)
                if checkpoint is not None:
                    self._save(Path(checkpoint))
                if watch is not None:
                    watch(self.history)
                self.started = time.perf_counter()
                return True

            try:
                yield after_epoch
            except KeyboardInterrupt as interrupt:
                done = len(self.history.epochs)
                way_on = "give checkpoint= to be able to go on next time"
                if self.last_checkpoint:
                    way_on = f"resume={str(self.last_checkpoint)!r} goes on after epoch {done}"
                where = f"epoch {done + 1} of {self.epochs}, after step {self.steps_done} of {self.total_steps}"
                raise KeyboardInterrupt(f"stopped in {where}; {way_on}") from interrupt
            finally:
                self.model.eval()
                if self.bar is not None:
                    self.bar.close()

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
        history.lr.append({group["stage"]: group["lr"] for group in self.optimizer.param_groups})
        history.seconds.append(time.perf_counter() - self.started)

    def _fingerprint(self) -> dict:
        """Whatever two runs must have in common for one to go on where the other stopped."""
        task, rows = self.task, self.task.train
        drawn = hashlib.sha256(rows.index.numpy().tobytes() + rows.labels.cpu().numpy().tobytes())
        return {
            "plan": self.plan.to_json(),
            "backbone": self.model.backbone.name,
            "head": self.head,
            "task": task.name,
            "task seed": task.seed,
            "task options": repr(sorted(task.options.items())),
            "samples": len(rows),
            "samples drawn": drawn.hexdigest()[:12],
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "bucket": self.bucket,
            "augment": _name_of(self.augment),
            "penalties": ", ".join(map(_name_of, self.penalties)),
        }

    def _save(self, path: Path) -> None:
        """Write a checkpoint beside its place, then move it there: a reader sees the old one or the new one whole."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            torch.save(
                {
                    "run": self._fingerprint(),
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "history": asdict(self.history),
                    "steps_done": self.steps_done,
                    "generators": [self.generator.get_state(), torch.get_rng_state(), cuda],
                },
                temporary,
            )
            os.replace(temporary, path)
            self.last_checkpoint = path
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"the checkpoint {path} could not be written ({error}); the one before it is intact"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint: before the frozen prefix is computed, which its weights decide."""
        try:
            # Generator states must stay on the CPU; load_state_dict moves the rest.
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError as error:
            raise ValueError(f"resume={str(path)!r}: there is no such checkpoint") from error
        except Exception as error:
            raise ValueError(f"resume={str(path)!r} is not a checkpoint of train(): {error}") from error
        ours, theirs = self._fingerprint(), stored.get("run") if isinstance(stored, dict) else None
        if not isinstance(theirs, dict) or theirs.keys() != ours.keys():
            raise ValueError(f"resume={str(path)!r} is not a checkpoint of this version's train()")
        different = [f"{key}: {theirs[key]} there, {ours[key]} here" for key in ours if ours[key] != theirs[key]]
        if different:
            raise ValueError(f"resume={str(path)!r} is of another run ({'; '.join(different)})")
        self.model.load_state_dict(stored["model"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.history = History(**stored["history"])
        self.steps_done = stored["steps_done"]
        self.last_checkpoint, self.generators = path, stored["generators"]

    def _set_generators(self) -> None:
        if self.generators is None:
            return
        own, everyones, cuda = self.generators
        self.generator.set_state(own)
        torch.set_rng_state(everyones)
        if cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(cuda, self.device)


def _name_of(function: Callable | None) -> str:
    """A name that tells augmentations and penalties apart, for functions and for objects that are called."""
    return "none" if function is None else getattr(function, "__qualname__", type(function).__qualname__)
