"""Replay: some samples of earlier tasks are kept, and trained on among those of the new one. Lesson 10 uses it.

A buffer decides which samples are kept: `Reservoir` gives each one offered the same chance, `BalancedReservoir` each
class the same share. `rehearse` binds a buffer to a penalty ``penalty(model, state, logits)`` for
``train(penalties=...)``: the loop needs to know nothing of it.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tlcourse.backbones import Model
from tlcourse.caching import cached_prefix, evaluating
from tlcourse.data import Split
from tlcourse.masked import Masked, join
from tlcourse.penalties import Penalty, entry_stage

__all__ = ["BalancedReservoir", "Kept", "Reservoir", "rehearse"]


@dataclass(frozen=True)
class Kept:
    """Samples from a buffer, rows that belong together.

    Attributes
    ----------
    inputs
        Raw: uint8 images (n, C, H, W) or `Masked` token ids (n, L).
    labels
        int64 (n,).
    heads
        Name of the head that each sample is answered by.
    """

    inputs: Tensor | Masked
    labels: Tensor
    heads: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Reservoir:
    """A uniform sample, without replacement, of all samples offered so far (Vitter 1985, algorithm R).

    Sample t, counted from 0, fills a free slot; where there is none it replaces slot j, drawn from 0..t, if
    j < ``capacity``. Offer each sample once: one offered twice has twice the chance.

    Parameters
    ----------
    capacity
        How many samples are kept at most.
    seed
        Decides which, whatever else draws random numbers.

    Raises
    ------
    ValueError
        If the capacity is below 1.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> buffer = Reservoir(20, seed=0)
    >>> buffer.add(load_task("digits8", labels=100).train, head="digits8")
    >>> len(buffer), buffer.nbytes, buffer.sample(5).inputs.shape
    (20, 1440, torch.Size([5, 1, 8, 8]))
    """

    def __init__(self, capacity: int, *, seed: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: at least 1 is needed")
        self.capacity = capacity
        self.inputs: Tensor | Masked | None = None
        self.labels = torch.empty(0, dtype=torch.int64)
        self.heads: tuple[str, ...] = ()
        self.additions = 0  # tells whether what was computed from the buffer still holds
        self._offered: Counter = Counter()  # group -> samples
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Kept]:
        """Each kept sample, as a `Kept` of one row."""
        return (self._rows(torch.tensor([row])) for row in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes of the inputs and labels that are kept."""
        return self.labels.nbytes + (0 if self.inputs is None else self.inputs.nbytes)

    def add(self, split: Split, *, head: str) -> None:
        """Offer every sample of a split, in its order; texts are padded to the longest.

        Raises
        ------
        ValueError
            If the inputs are not raw, or not of the kind and shape of those that are kept.
        """
        _check_raw(split.inputs)
        if self.inputs is not None:
            _check_alike(split.inputs, self.inputs)
        before = len(self)
        labels = [*self.labels.tolist(), *split.labels.tolist()]
        heads = [*self.heads, *[head] * len(split)]
        groups = [self._group(*pair) for pair in zip(heads, labels, strict=True)]
        members = defaultdict(list)  # group -> numbers of samples, kept and then offered, in their slots
        for number in range(before):
            members[groups[number]].append(number)
        for number in range(before, len(groups)):
            self._offer(number, groups[number], members)
        chosen = [number for numbers in members.values() for number in numbers]
        rows, where = torch.tensor(chosen, dtype=torch.int64), self.labels.device
        new = split.inputs.to(where)
        self.inputs = (new if self.inputs is None else join([self.inputs, new]))[rows]
        self.labels = torch.tensor([labels[number] for number in chosen], dtype=torch.int64)
        self.heads = tuple(heads[number] for number in chosen)
        self.additions += 1

    def sample(self, n: int) -> Kept:
        """Draw n kept samples, each as often as any other, or once more.

        Raises
        ------
        ValueError
            If the buffer is empty.
        """
        return self._rows(_draw(n, self, self._generator))

    def state_dict(self) -> dict:
        """Everything that decides what the buffer does next: tensors and plain values, for ``torch.save``."""
        masked = isinstance(self.inputs, Masked)
        return {
            "kind": type(self).__name__,
            "capacity": self.capacity,
            "inputs": self.inputs.values if masked else self.inputs,
            "mask": self.inputs.mask if masked else None,
            "labels": self.labels,
            "heads": list(self.heads),
            "offered": [[list(group), count] for group, count in self._offered.items()],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from what `state_dict` gave: the same samples, and the same draws from now on.

        Raises
        ------
        ValueError
            If it is of a buffer of another kind or capacity.
        """
        for name, own in {"kind": type(self).__name__, "capacity": self.capacity}.items():
            if state[name] != own:
                raise ValueError(f"the state is of a buffer of {name} {state[name]!r}; this one's is {own!r}")
        inputs, mask = state["inputs"], state["mask"]
        self.inputs = inputs if mask is None else Masked(inputs, mask)
        self.labels, self.heads = state["labels"], tuple(state["heads"])
        self._offered = Counter({tuple(group): count for group, count in state["offered"]})
        self._generator.set_state(state["generator"])
        self.additions += 1

    def _group(self, head: str, label: int) -> tuple:
        """Within which the chances are equal; here there is but one."""
        return ()

    def _share(self, group: tuple) -> int:
        """How many slots a group has."""
        return self.capacity

    def _offer(self, number: int, group: tuple, members: dict[tuple, list[int]]) -> None:
        """Give a sample a slot of its group, or none."""
        slots, room = members[group], self._share(group)
        if len(slots) < room:
            slots.append(number)
        elif (slot := self._integer(self._offered[group] + 1)) < room:
            slots[slot] = number
        self._offered[group] += 1

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._generator))

    def _rows(self, rows: Tensor) -> Kept:
        return Kept(self.inputs[rows], self.labels[rows], tuple(self.heads[row] for row in rows.tolist()))


class BalancedReservoir(Reservoir):
    """An equal share of the capacity for each class of each head, and a `Reservoir` within each.

    When a class is met for the first time the shares shrink, and those above theirs drop samples at random: what stays
    is a uniform sample of the class as before. A class that has fewer samples than its share leaves slots free.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> buffer = BalancedReservoir(20, seed=0)
    >>> buffer.add(load_task("digits8", labels=100).train, head="digits8")
    >>> buffer.labels.bincount().tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    def add(self, split: Split, *, head: str) -> None:
        """Offer every sample of a split, as `Reservoir.add` does.

        Raises
        ------
        ValueError
            As there, or if there would be more classes than the capacity.
        """
        classes = self._offered.keys() | {(head, label) for label in split.labels.tolist()}
        if len(classes) > self.capacity:
            raise ValueError(
                f"capacity={self.capacity}: with head {head!r} there are {len(classes)} classes, and each needs a slot"
            )
        super().add(split, head=head)

    def _group(self, head: str, label: int) -> tuple:
        return head, label

    def _share(self, group: tuple) -> int:
        """What does not divide goes to those that were met first."""
        place = list(self._offered).index(group)
        return (self.capacity - place - 1) // len(self._offered) + 1

    def _offer(self, number: int, group: tuple, members: dict[tuple, list[int]]) -> None:
        if group not in self._offered:
            self._offered[group] = 0
            for other in self._offered:
                while len(members[other]) > self._share(other):
                    members[other].pop(self._integer(len(members[other])))
        super()._offer(number, group, members)


def rehearse(
    buffer: Reservoir,
    *,
    ratio: float = 1.0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Penalty:
    """Train on kept samples among the new ones: experience replay (Robins 1995; Chaudhry et al. 2019, algorithm 1).

    Beside a batch of B new samples, m = round(``ratio`` * B) kept ones are drawn, at least one. What is added is their
    mean cross-entropy, each through its own head, times m / B: a kept sample then counts as much as a new one, and the
    gradient is that of the mean over all B + m, times (B + m) / B.

    They enter where the new ones do, so that what the frozen stages put out for them is computed once. BatchNorm that
    moves sees new and kept samples as two batches, and its statistics follow both.

    The draws come from PyTorch's global generator, which `train` seeds and keeps in its checkpoints. The buffer is not
    in them: a run that is resumed needs the same one (see `Reservoir.state_dict`).

    Parameters
    ----------
    buffer
        What is in it when the penalty is called counts. Fewer kept samples than m are drawn more than once.
    ratio
        Kept samples for each new one.
    augment
        ``augment(inputs, generator)`` changes raw inputs at random, as in `train`; nothing is then kept of the frozen
        stages.

    Raises
    ------
    ValueError
        If the ratio is not above 0; when called, if the buffer is empty.
    KeyError
        When called, if the model lacks a head of the buffer.

    Examples
    --------
    >>> from tlcourse import attach_head, digit_network, feature_extraction, load_task, train
    >>> task = load_task("digits8", labels=20)
    >>> model, buffer = attach_head(digit_network(), task), Reservoir(10, seed=0)
    >>> buffer.add(task.val, head="digits8")
    >>> replay = rehearse(buffer, ratio=0.5)
    >>> history = train(model, task, feature_extraction(model), epochs=1, penalties=(replay,), progress=False)
    """
    if not 0 < ratio < math.inf:
        raise ValueError(f"ratio={ratio}: a number above 0 is needed")
    return partial(_rehearse, buffer=buffer, ratio=ratio, augment=augment, prefix=_Prefix())


def _rehearse(model: Model, state, logits, *, buffer: Reservoir, ratio: float, augment, prefix: "_Prefix") -> Tensor:
    start, count, device = entry_stage(model, state), max(1, round(ratio * len(logits))), logits.device
    rows = _draw(count, buffer)
    labels, heads = buffer.labels[rows].to(device), [buffer.heads[row] for row in rows.tolist()]
    entering = None
    if start and augment is None:
        entering = prefix.rows(model, buffer, rows, start=start, device=device)
    if entering is None:
        raw = buffer.inputs[rows].to(device)
        raw = raw if augment is None else augment(raw, torch.default_generator)
        entering = model.backbone.preprocessing(raw)
        if start:
            with evaluating(model.backbone):
                entering = model.backbone.run(entering, stop=start)
    features = model.backbone.run(entering, start=start)  # (m, D), for all heads at once
    total = features.new_zeros((), dtype=torch.float32)
    for head in sorted(set(heads)):
        own = torch.tensor([name == head for name in heads], device=device)
        answers = model.heads[model.head_name(head)](features[own])
        total = total + F.cross_entropy(answers, labels[own], reduction="sum")
    return total / len(logits)


class _Prefix:
    """What the frozen stages put out for a whole buffer, computed anew where something that decides it has changed."""

    def __init__(self) -> None:
        self.tensors, self.versions, self.kept = None, None, None

    def rows(self, model: Model, buffer: Reservoir, rows: Tensor, *, start: int, device) -> Tensor | Masked | None:
        """The state of these rows, on the device; None where keeping all of it would take too much memory."""
        stages = list(model.backbone.stages.values())[:start]
        tensors = [tensor for stage in stages for tensor in (*stage.parameters(), *stage.buffers())]
        versions = (buffer.additions, start, [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors])
        if versions != self.versions:
            with torch.autocast(device.type, enabled=False):
                # In batches of the size that training takes: another size rounds otherwise.
                self.kept = cached_prefix(model, buffer.inputs, depth=start, batch_size=len(rows))
            self.tensors, self.versions = tensors, versions  # held, so that no other tensor gets their ids
        return None if self.kept is None else self.kept[rows.to(device)]


def _draw(n: int, buffer: Reservoir, generator: torch.Generator | None = None) -> Tensor:
    """Rows of a buffer (n,): a permutation, and another where that is not enough."""
    if not len(buffer):
        raise ValueError("the buffer is empty: offer it samples first, with buffer.add(task.train, head=task.name)")
    rounds = max(1, -(-n // len(buffer)))
    return torch.cat([torch.randperm(len(buffer), generator=generator) for _ in range(rounds)])[:n]


def _check_raw(inputs: Tensor | Masked) -> None:
    raw = inputs.values if isinstance(inputs, Masked) else inputs
    texts = isinstance(inputs, Masked) and raw.dim() == 2 and raw.dtype == torch.int64
    if not texts and (raw.dim() != 4 or raw.dtype != torch.uint8):
        raise ValueError(
            f"a buffer keeps raw inputs, uint8 images (n, C, H, W) or Masked token ids (n, L), not {_kind(inputs)}"
        )


def _check_alike(new: Tensor | Masked, kept: Tensor | Masked) -> None:
    if _kind(new) != _kind(kept):
        raise ValueError(f"the buffer keeps {_kind(kept)}, these are {_kind(new)}: use one buffer for each")


def _kind(inputs: Tensor | Masked) -> str:
    """The text that tells which inputs can be kept together."""
    if isinstance(inputs, Masked):
        values = inputs.values
        return "texts" if values.dtype == torch.int64 else f"masked values {tuple(values.shape)} of {values.dtype}"
    sizes = ", ".join(map(str, inputs.shape[1:]))
    return f"{'images' if inputs.dtype == torch.uint8 else f'{inputs.dtype} values'} (n, {sizes})"
