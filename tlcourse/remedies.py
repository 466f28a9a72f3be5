"""Remedies against forgetting, one protocol: what is kept after a task, and what changes while the next is learnt.

Lesson 09 compares them at an equal budget, lesson 10 takes one apart. Remedies that need no memory are plans and belong
to `strategies`: a small rate, weight decay, gradual unfreezing, LoRA.
"""

import copy
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from tlcourse.averaging import interpolate
from tlcourse.backbones import Model
from tlcourse.data import Task
from tlcourse.distillation import distill
from tlcourse.fisher import fisher_diagonal
from tlcourse.penalties import Consolidation, Penalty, consolidate, ewc, l2_sp
from tlcourse.replay import BalancedReservoir, rehearse

__all__ = ["EWC", "L2SP", "Distillation", "Dropout", "EarlyStopping", "Remedy", "Replay", "WeightAveraging"]


class Remedy:
    """Nothing is held and nothing is kept: plain training, and what every remedy is measured against.

    A sequence calls `begin` before it trains on a task, gives `penalties` and `options` to ``train``, calls `end`
    afterwards and, where another task follows, `keep`. A remedy holds what it keeps: each sequence needs its own.
    """

    def begin(self, model: Model, *, head: str) -> None:
        """Called before the task of ``head`` is learnt, once the head is there."""

    def penalties(self, model: Model, *, head: str) -> tuple[Penalty, ...]:
        """What is added to the loss while the task of ``head`` is learnt."""
        return ()

    def options(self) -> dict[str, object]:
        """What else ``train`` is given."""
        return {}

    def end(self, model: Model) -> None:
        """Called when the task was learnt."""

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        """Called before another task comes: take from the model and the task of ``head`` what will be needed."""

    @property
    def kept_bytes(self) -> int:
        """Memory of what is kept from task to task, in bytes."""
        return 0


class EWC(Remedy):
    """Elastic weight consolidation: `penalties.ewc` with the Fisher information of every task so far.

    Parameters
    ----------
    strength
        Of the penalty, whose half is included.
    kind, samples
        Of `fisher.fisher_diagonal`; ``"empirical"`` and ``"batched"`` take the labels of the data.
    mode, gamma
        Of `penalties.consolidate`.
    batch_size
        Of the Fisher information: it changes the result of ``"batched"`` alone.
    """

    def __init__(
        self,
        strength: float,
        *,
        kind: Literal["exact", "sampled", "empirical", "batched"] = "exact",
        samples: int = 1,
        mode: Literal["separate", "online"] = "separate",
        gamma: float = 1.0,
        batch_size: int = 64,
    ) -> None:
        self.strength, self.kind, self.samples = strength, kind, samples
        self.mode, self.gamma, self.batch_size = mode, gamma, batch_size
        self.terms: tuple[Consolidation, ...] = ()

    def penalties(self, model: Model, *, head: str) -> tuple[Penalty, ...]:
        return (ewc(self.terms, strength=self.strength),) if self.terms else ()

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        targets = task.train.labels if self.kind in ("empirical", "batched") else None
        fisher = fisher_diagonal(
            model,
            task.train.inputs,
            targets=targets,
            kind=self.kind,
            batch_size=self.batch_size,
            samples=self.samples,
            head=head,
        )
        self.terms = consolidate(model, fisher, previous=self.terms, mode=self.mode, gamma=self.gamma)

    @property
    def kept_bytes(self) -> int:
        return _bytes(value for term in self.terms for part in (term.anchor, term.fisher) for value in part.values())


class L2SP(Remedy):
    """`penalties.l2_sp` from where the task before left the model."""

    def __init__(self, strength: float, *, head_strength: float = 0.0) -> None:
        self.strength, self.head_strength, self.learnt, self._bytes = strength, head_strength, False, 0

    def penalties(self, model: Model, *, head: str) -> tuple[Penalty, ...]:
        if not self.learnt:
            return ()
        return (l2_sp(model, strength=self.strength, head_strength=self.head_strength, head=head),)

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        self.learnt, self._bytes = True, _bytes(model.parameters())

    @property
    def kept_bytes(self) -> int:
        return self._bytes


class Distillation(Remedy):
    """`distillation.distill`: the answers of the old heads, on the inputs of the new task (Li and Hoiem 2016)."""

    def __init__(self, strength: float, *, temperature: float = 2.0) -> None:
        self.strength, self.temperature = strength, temperature
        self.heads: list[str] = []
        self.before: Model | None = None

    def penalties(self, model: Model, *, head: str) -> tuple[Penalty, ...]:
        # Where the head itself goes on learning, its answers to the new batch are compared and no second pass is run.
        return tuple(
            distill(
                self.before,
                strength=self.strength,
                temperature=self.temperature,
                head=None if old == head else old,
            )
            for old in self.heads
        )

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        if head not in self.heads:
            self.heads.append(head)
        self.before = copy.deepcopy(model)

    @property
    def kept_bytes(self) -> int:
        return 0 if self.before is None else _bytes(self.before.state_dict().values())


class Replay(Remedy):
    """Some samples of every task so far, seen again: `replay.rehearse` of a balanced reservoir."""

    def __init__(self, capacity: int, *, ratio: float = 1.0, seed: int = 0) -> None:
        self.ratio, self.buffer, self.learnt = ratio, BalancedReservoir(capacity, seed=seed), False

    def penalties(self, model: Model, *, head: str) -> tuple[Penalty, ...]:
        return (rehearse(self.buffer, ratio=self.ratio),) if self.learnt else ()

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        self.buffer.add(task.train, head=head)
        self.learnt = True

    @property
    def kept_bytes(self) -> int:
        return self.buffer.nbytes


class EarlyStopping(Remedy):
    """Stop when the *new* task's validation loss has not fallen for ``patience`` epochs, and go back to its best."""

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def options(self) -> dict[str, object]:
        return {"patience": self.patience}


class Dropout(Remedy):
    """Another share of dropout wherever the backbone has dropout, while a task is learnt."""

    def __init__(self, share: float) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"Dropout({share}): a share from 0 to below 1 is needed")
        self.share, self._before = share, []

    def begin(self, model: Model, *, head: str) -> None:
        layers = [layer for layer in model.backbone.modules() if isinstance(layer, nn.Dropout)]
        if not layers:
            raise ValueError(f"Dropout: the backbone {model.backbone.name!r} has no layer of dropout")
        self._before = [(layer, layer.p) for layer in layers]
        for layer in layers:
            layer.p = self.share

    def end(self, model: Model) -> None:
        for layer, share in self._before:
            layer.p = share


class WeightAveraging(Remedy):
    """The backbone at the share ``alpha`` of the way from before the task to after it (WiSE-FT, Wortsman et al. 2022).

    Heads stay as they were trained: a new one has no state before its task that would mean anything.
    """

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.before: dict[str, Tensor] | None = None

    def end(self, model: Model) -> None:
        if self.before is not None:
            model.backbone.load_state_dict(interpolate(self.before, model.backbone, self.alpha))

    def keep(self, model: Model, task: Task, *, head: str) -> None:
        self.before = {name: value.detach().clone() for name, value in model.backbone.state_dict().items()}

    @property
    def kept_bytes(self) -> int:
        return 0 if self.before is None else _bytes(self.before.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
