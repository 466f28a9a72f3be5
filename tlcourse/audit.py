"""What is wrong with a learner's own data, found before anything is trained on it. Lesson 13 walks through it.

`own_data` reads the files; here is what is asked of samples and labels whatever they are: spellings of one label,
duplicates, near-duplicates that would leak from training into the test, classes with too few samples, imbalance.
What is bad is listed and left out, the rest is kept.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tlcourse.readers import SAME_TEXT, _connected, _similar_images

__all__ = ["FEWEST", "Audit", "Finding", "Sample", "alike_images", "alike_texts", "audited", "one_of_each"]

FEWEST = (
    5  # samples of a class, near-duplicates counted once: at least one for the test, one for validation, three more
)
UNBALANCED = 10  # samples of the largest class for one of the smallest
MOST_COMPARED = 20_000  # samples that are compared each with each: the matrix has the square of that
SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """One kind of trouble, and where it is.

    Attributes
    ----------
    kind
        A word or two, such as ``"unreadable"``; the same for the same trouble.
    message
        What was found and what was done about it.
    items
        The files or rows concerned.
    left_out
        Whether these samples are not in the task.
    """

    kind: str
    message: str
    items: tuple[str, ...] = ()
    left_out: bool = False

    def __str__(self) -> str:
        more = len(self.items) - SHOWN
        items = "; ".join(self.items[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        return f"{self.kind}: {self.message}" + (f" ({items})" if items else "")


@dataclass(frozen=True)
class Audit:
    """What was given, what is kept, and why the rest is not.

    Attributes
    ----------
    given
        How many samples there were.
    sources
        File or row of each sample that is kept, in the order of the task's ``index``.
    groups
        int64 (kept,): near-duplicates share a number, and so a split.
    counts
        Class -> samples kept.
    """

    given: int
    sources: tuple[str, ...]
    groups: Tensor
    counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def kept(self) -> int:
        """How many samples are in the task."""
        return len(self.sources)

    def found(self, kind: str) -> Finding | None:
        """The finding of a kind, or None."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    def __str__(self) -> str:
        counts = ", ".join(f"{name} {count}" for name, count in self.counts.items())
        return "\n".join([f"kept {self.kept} of {self.given}: {counts}", *(f"- {each}" for each in self.findings)])


@dataclass(frozen=True)
class Sample:
    """One sample as it was read.

    Attributes
    ----------
    source
        The file's name or the row's number, for messages.
    label
        As it was written.
    content
        An image (C, H, W) of uint8, or a text.
    digest
        The same for the same content.
    """

    source: str
    label: str
    content: Tensor | str
    digest: str


def audited(
    samples: Sequence[Sample],
    *,
    given: int,
    alike: Callable[[Sequence], Tensor],
    findings: Sequence[Finding] = (),
    fewest: int = FEWEST,
) -> tuple[list[Sample], Audit]:
    """The samples that can be learnt from, their labels in one spelling each, and what was found.

    Parameters
    ----------
    samples
        What could be read.
    given
        How many there were before, for the count.
    alike
        From the contents to groups (n,): `alike_images` or `alike_texts`.
    findings
        What was found while reading.
    fewest
        A class with fewer groups than this is left out.

    Raises
    ------
    ValueError
        If fewer than two classes are left; the message says how many samples each had and what was left out.

    Examples
    --------
    >>> texts = [Sample(f"row {n}", "Spam" if n % 2 else "ham ", f"text number {n}", str(n)) for n in range(20)]
    >>> kept, audit = audited(texts, given=20, alike=alike_texts)
    >>> print(audit)
    kept 20 of 20: Spam 10, ham 10
    """
    found = list(findings)
    samples = _spelt_alike(samples, found)
    samples = _without_copies(samples, found)
    counts = Counter(sample.label for sample in samples)
    groups = _near_duplicates(samples, alike, found) if samples else torch.empty(0, dtype=torch.int64)
    pairs = {(sample.label, int(group)) for sample, group in zip(samples, groups, strict=True)}
    distinct = Counter(label for label, _ in pairs)
    rare = {label for label in counts if distinct[label] < fewest}
    if rare:
        items = tuple(f"{label!r}: {distinct[label]}" for label in sorted(rare))
        message = f"a class needs at least {fewest} different samples; those with fewer are left out"
        found.append(Finding("too few", message, items, left_out=True))
    rows = [row for row, sample in enumerate(samples) if sample.label not in rare]
    samples = [samples[row] for row in rows]
    kept = {label: counts[label] for label in sorted(counts) if label not in rare}
    if len(kept) < 2:
        what = f"one class only, {next(iter(kept))!r}" if kept else "no class"
        had = ", ".join(f"{label!r} {number}" for label, number in sorted(distinct.items())) or "none"
        lines = "".join(f"\n- {finding}" for finding in found)
        raise ValueError(
            f"{what} with at least {fewest} different samples is left of {given} samples, and two are needed. "
            f"Different samples a class: {had}{lines}"
        )
    if max(kept.values()) > UNBALANCED * min(kept.values()):
        rarest = min(kept, key=kept.get)
        message = (
            f"{rarest!r} has {kept[rarest]} of {len(samples)} samples: plain accuracy would hide it, so balanced "
            "accuracy (the mean of the classes' recalls) is the criterion"
        )
        found.append(Finding("unbalanced", message))
    sources = tuple(sample.source for sample in samples)
    return samples, Audit(given, sources, groups[torch.tensor(rows)], kept, tuple(found))


def one_of_each(samples: Sequence[Sample], audit: Audit) -> tuple[list[Sample], Audit]:
    """The first sample of each group alone: what is left where groups are too large to be dealt to three splits."""
    _, first = np.unique(audit.groups.numpy(), return_index=True)
    rows = sorted(first.tolist())
    items = tuple(sample.source for row, sample in enumerate(samples) if row not in set(rows))
    message = "too few groups to deal them whole to three splits: one sample of each group is kept"
    kept = [samples[row] for row in rows]
    counts = Counter(sample.label for sample in kept)
    return kept, replace(
        audit,
        sources=tuple(sample.source for sample in kept),
        groups=audit.groups[torch.tensor(rows)],
        counts={label: counts[label] for label in audit.counts},
        findings=(*audit.findings, Finding("large groups", message, items, left_out=True)),
    )


def alike_images(images: Sequence[Tensor]) -> Tensor:
    """Groups (n,) of images (C, H, W) whose thumbnails of 32 pixels correlate above 0.99, as in the course's tasks."""
    small = torch.stack([image.float().mean(dim=0) for image in images])  # (n, H, W)
    small = torch.nn.functional.interpolate(small[:, None], size=(32, 32), mode="bilinear", antialias=True)
    return _similar_images(small.numpy())


def alike_texts(texts: Sequence[str]) -> Tensor:
    """Groups (n,) of texts that share more than half of their five-word runs (Jaccard), in any script.

    Texts of fewer than five words are alike only where they are equal, which is found before.

    Examples
    --------
    >>> text = "one two three four five six seven eight nine ten eleven twelve"
    >>> alike_texts([text, "something else altogether is written here", text + " thirteen"]).tolist()
    [0, 1, 0]
    """
    from sklearn.feature_extraction.text import CountVectorizer

    runs = CountVectorizer(ngram_range=(5, 5), binary=True, token_pattern=r"\w+", dtype=np.float32)
    try:
        present = runs.fit_transform(texts)
    except ValueError:  # no text has five words: sklearn calls the vocabulary empty
        return torch.arange(len(texts))
    sizes = np.asarray(present.sum(axis=1)).ravel()
    shared = (present @ present.T).tocoo()
    same = shared.data > SAME_TEXT * (sizes[shared.row] + sizes[shared.col] - shared.data)
    return _connected(np.stack([shared.row[same], shared.col[same]], axis=1), len(texts))


def _spelt_alike(samples: Sequence[Sample], found: list[Finding]) -> list[Sample]:
    """Give labels that differ by case or space the spelling that occurs most."""
    unlabelled = tuple(sample.source for sample in samples if not sample.label.strip())
    if unlabelled:
        found.append(Finding("no label", f"{len(unlabelled)} without a label are left out", unlabelled, left_out=True))
    spellings: dict[str, Counter] = defaultdict(Counter)
    for sample in samples:
        spellings[_folded(sample.label)][sample.label] += 1
    chosen = {key: max(sorted(counts), key=counts.get).strip() for key, counts in spellings.items()}
    # A space at an end is merged as well, but that alone is not worth a word.
    several = {
        key: sorted({re.sub(r"\s+", " ", label.strip()) for label in counts}) for key, counts in spellings.items()
    }
    items = tuple(
        f"{' = '.join(map(repr, names))} -> {chosen[key]!r}" for key, names in several.items() if len(names) > 1
    )
    if items:
        found.append(Finding("spelling", "labels that differ only by case or space are taken as one", items))
    return [
        Sample(sample.source, chosen[_folded(sample.label)], sample.content, sample.digest)
        for sample in samples
        if sample.label.strip()
    ]


def _folded(label: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", label).strip()).casefold()


def _without_copies(samples: list[Sample], found: list[Finding]) -> list[Sample]:
    """Keep one of each content; of a content that has two labels, none."""
    by_digest: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_digest[sample.digest].append(sample)
    kept, copies, contradictions = [], [], []
    for same in by_digest.values():
        if len({sample.label for sample in same}) > 1:
            contradictions.append(" = ".join(f"{sample.source} ({sample.label})" for sample in same))
            continue
        kept.append(same[0])
        copies += [f"{sample.source} = {same[0].source}" for sample in same[1:]]
    if copies:
        found.append(Finding("duplicates", f"{len(copies)} exact copies are left out", tuple(copies), left_out=True))
    if contradictions:
        message = f"{len(contradictions)} times the same content has two labels: all its copies are left out"
        found.append(Finding("two labels", message, tuple(contradictions), left_out=True))
    return kept


def _near_duplicates(samples: list[Sample], alike: Callable, found: list[Finding]) -> Tensor:
    if len(samples) > MOST_COMPARED:
        message = f"{len(samples)} samples are too many to compare each with each: near-duplicates were not looked for"
        found.append(Finding("not compared", message))
        return torch.arange(len(samples))
    groups = alike([sample.content for sample in samples])
    members: dict[int, list[Sample]] = defaultdict(list)
    for sample, group in zip(samples, groups.tolist(), strict=True):
        members[group].append(sample)
    several = [same for same in members.values() if len(same) > 1]
    if several:
        items = tuple(" ~ ".join(sample.source for sample in same[:SHOWN]) for same in several)
        message = f"{sum(map(len, several))} samples in {len(several)} groups; each group stays in one split"
        found.append(Finding("near-duplicates", message, items))
    mixed = [same for same in several if len({sample.label for sample in same}) > 1]
    if mixed:
        items = tuple(" ~ ".join(f"{sample.source} ({sample.label})" for sample in same[:SHOWN]) for same in mixed)
        message = "near-duplicates with different labels are kept: see whether the labels are right"
        found.append(Finding("near-duplicates, two labels", message, items))
    return groups
