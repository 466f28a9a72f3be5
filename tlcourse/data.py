"""Tasks: real data with honest splits, few-shot subsets that nest, and where it all comes from. Lesson 00 shows them.

A task is decoded once and kept in memory as uint8 images or token ids. Its splits are disjoint, stratified, drawn from
the seed, and near-duplicates (the same cell photographed twice, a reprinted article) never stand on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tlcourse.backbones import Backbone, TextPreprocessing, load_text_preprocessing
from tlcourse.masked import Masked
from tlcourse.readers import READERS, Provenance

__all__ = ["Provenance", "Split", "Task", "load_task", "make_task", "random_flips"]

TEST_SHARE, VALIDATION_SHARE = 0.19, 0.047  # solar cells: 499 test, 123 validation, 2,002 to learn from
LARGEST_TEST, LARGEST_VALIDATION = 1000, 500


@dataclass(frozen=True)
class Split:
    """Inputs and labels of one part of a task.

    Attributes
    ----------
    inputs
        uint8 images (n, C, H, W) or `Masked` token ids (n, L).
    labels
        int64 (n,).
    index
        int64 (n,): rows of the source that these samples are.
    """

    inputs: Tensor | Masked
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        """The same samples with inputs and labels on a device."""
        return Split(self.inputs.to(device), self.labels.to(device), self.index)


@dataclass(frozen=True)
class Task:
    """A classification task: three disjoint splits, class names, provenance.

    Attributes
    ----------
    train, val, test
        ``train`` has as many samples as labels were asked for; ``val`` chooses, ``test`` is opened once.
    preprocessing_name
        The tokenizer that made the ids, None for images: `attach_head` refuses a backbone that reads another.
    """

    name: str
    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    provenance: Provenance
    seed: int
    preprocessing_name: str | None = None
    options: dict = field(default_factory=dict)

    def describe(self) -> str:
        """Sizes, classes, provenance and licence, in a few lines."""
        p = self.provenance
        sizes = f"train {len(self.train)} · validation {len(self.val)} · test {len(self.test)}"
        lines = [
            f"{self.name}: {p.title}",
            f"  splits   {sizes} (seed {self.seed})",
            f"  classes  {', '.join(self.class_names)}",
            f"  source   {p.source}",
            f"  licence  {p.licence}",
        ]
        return "\n".join(lines + ([f"  note     {p.note}"] if p.note else []))


def load_task(
    name: str,
    *,
    labels: int | None = None,
    seed: int = 0,
    size: int = 96,
    cells: str = "all",
    backbone: str | Backbone = "minilm",
    max_length: int = 64,
) -> Task:
    """Load one of the course's tasks.

    Parameters
    ----------
    name
        ``"solar"``, ``"news"``, ``"sentiment"``, ``"digits"`` or ``"digits8"``.
    labels
        How many labelled samples to train on; None for all. The subsets of one seed nest: those of ``labels=50``
        are among those of ``labels=200``, each stratified.
    seed
        Draws the splits and the subsets.
    size
        Side of the images in pixels, ``solar`` only: 64, 96 or 224.
    cells
        ``"mono"``, ``"poly"`` or ``"all"``, ``solar`` only.
    backbone
        Whose tokenizer reads the texts (a name or a loaded backbone), texts only.
    max_length
        Longest text in tokens, texts only.

    Raises
    ------
    KeyError
        If there is no such task.
    ValueError
        If an option is out of range, or ``labels`` is below the number of classes or above what there is.
    tlcourse.sources.SourceError
        If the embedded package is missing or altered.

    Examples
    --------
    >>> task = load_task("digits8", labels=50, seed=1)
    >>> len(task.train), tuple(task.train.inputs.shape)
    (50, (50, 1, 8, 8))
    """
    if name not in READERS:
        raise KeyError(f"no task {name!r}; there are: {', '.join(sorted(READERS))}")
    if name == "solar" and size not in (64, 96, 224):
        raise ValueError(f"size={size}: solar cells are kept at 64, 96 or 224 pixels")
    if name == "solar" and cells not in ("mono", "poly", "all"):
        raise ValueError(f"cells={cells!r}: use 'mono', 'poly' or 'all'")
    read, provenance, class_names = READERS[name]
    options = {"size": size, "cells": cells} if name == "solar" else {}
    if name in ("news", "sentiment"):
        tokenizer = load_text_preprocessing(backbone) if isinstance(backbone, str) else backbone.preprocessing
        if not isinstance(tokenizer, TextPreprocessing):
            raise ValueError(f"task {name!r} holds texts, but backbone {backbone.name!r} reads images")
        options = {"tokenizer": tokenizer, "max_length": max_length}
    inputs, targets, groups = read(**options)
    return make_task(
        name,
        inputs,
        targets,
        class_names=class_names,
        groups=groups,
        labels=labels,
        seed=seed,
        provenance=provenance,
        preprocessing_name=options["tokenizer"].name if "tokenizer" in options else None,
        options={key: value for key, value in options.items() if key != "tokenizer"},
    )


def make_task(
    name: str,
    inputs: Tensor | Masked,
    targets: Tensor,
    *,
    class_names: Sequence[str],
    groups: Tensor | None = None,
    labels: int | None = None,
    seed: int = 0,
    provenance: Provenance | None = None,
    preprocessing_name: str | None = None,
    options: dict | None = None,
) -> Task:
    """A task from arrays of your own, with the splits described in `load_task`.

    Parameters
    ----------
    inputs, targets
        uint8 images (n, C, H, W) or `Masked` token ids (n, L); int64 labels (n,).
    groups
        int64 (n,): samples of one group stay in one split; None where every sample stands alone.

    Raises
    ------
    ValueError
        If there is one class only, ``labels`` cannot be had, the groups leave a split without some class, or texts are
        padded on the left.
    """
    classes, counts = np.unique(targets.numpy(), return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"task {name!r} holds one class only ({class_names[int(classes[0])]!r}): nothing to tell apart"
        )
    if counts.min() < 3:
        rare = class_names[int(classes[counts.argmin()])]
        raise ValueError(f"task {name!r}: class {rare!r} has {counts.min()} sample(s); three splits need at least 3")
    if isinstance(inputs, Masked) and (inputs.mask[:, 1:] > inputs.mask[:, :-1]).any():
        raise ValueError(f"task {name!r}: some text has padding before a token; pad on the right")
    rng = np.random.default_rng([seed, 2024])
    owners = np.arange(len(targets)) if groups is None else groups.numpy()
    train, val, test = _split(targets.numpy(), owners, rng)
    for part, rows in {"training": train, "validation": val, "test": test}.items():
        absent = sorted(set(classes.tolist()) - set(targets[rows].tolist()))
        if absent:
            raise ValueError(
                f"task {name!r}: the {part} split would hold no {class_names[absent[0]]!r}, since samples of one group "
                f"stay together and there are {len(np.unique(owners))} group(s): use smaller groups"
            )
    train = _stratified_order(targets.numpy(), train, rng)
    if labels is not None:
        if labels < len(classes):
            raise ValueError(
                f"labels={labels}: {name!r} has {len(classes)} classes, so at least {len(classes)} are needed"
            )
        if labels > len(train):
            raise ValueError(
                f"labels={labels}: {name!r} has {len(train)} samples to train on (options {options or {}})"
            )
        train = train[:labels]

    def pick(index: np.ndarray) -> Split:
        rows = torch.from_numpy(index)
        return Split(inputs[rows], targets[rows], rows)

    return Task(
        name=name,
        train=pick(train),
        val=pick(val),
        test=pick(test),
        class_names=tuple(class_names),
        provenance=provenance or Provenance(title=name, source="your own data", licence="yours"),
        seed=seed,
        preprocessing_name=preprocessing_name,
        options=options or {},
    )


def random_flips(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (n, C, H, W) left-right and top-bottom, each with probability one half.

    A solar cell may hang either way round; most photographs may not be turned upside down.
    """
    coins = torch.rand(2, len(images), 1, 1, 1, generator=generator).to(images.device) < 0.5
    images = torch.where(coins[0], images.flip(3), images)
    return torch.where(coins[1], images.flip(2), images)


def _split(targets: np.ndarray, owners: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Deal whole groups, in random order, to test, validation and training, keeping the class shares."""
    n = len(targets)
    counts = np.bincount(targets)
    test_size = min(round(TEST_SHARE * n), LARGEST_TEST)
    val_size = min(round(VALIDATION_SHARE * n), LARGEST_VALIDATION)
    rooms = [np.maximum(1, np.round(counts * size / n)) * (counts > 0) for size in (test_size, val_size)]
    _, owners = np.unique(owners, return_inverse=True)
    members = np.split(np.argsort(owners, kind="stable"), np.cumsum(np.bincount(owners))[:-1])
    parts: tuple[list, list, list] = ([], [], [])
    for group in rng.permutation(len(members)):
        held = np.bincount(targets[members[group]], minlength=len(counts))
        for part, room in zip(parts, rooms, strict=False):
            if (held <= room).all():
                room -= held
                part.append(members[group])
                break
        else:
            parts[2].append(members[group])
    test, val, train = (np.concatenate([np.empty(0, dtype=np.int64), *part]) for part in parts)
    return train, val, test


def _stratified_order(targets: np.ndarray, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order samples so that every prefix holds the classes in their shares, and each class from the start."""
    index = rng.permutation(index)
    key = np.empty(len(index))
    for label in np.unique(targets[index]):
        at = np.flatnonzero(targets[index] == label)
        key[at] = (np.arange(len(at)) + 0.5) / len(at)
        key[at[0]] = -1  # one of each class comes first
    return index[np.argsort(key, kind="stable")]
