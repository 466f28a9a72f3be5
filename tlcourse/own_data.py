"""A learner's own images or texts, read with care: what cannot be used is listed and left out. Lesson 13 uses it.

Images come as a folder with a sub-folder a class, or as a folder and a CSV with the columns ``file`` and ``label``.
Texts come as a CSV. Nothing is opened before its size is known.
"""

import csv
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tlcourse.audit import Audit, Finding, Sample, alike_images, alike_texts, audited, one_of_each
from tlcourse.backbones import Backbone, TextPreprocessing, load_text_preprocessing
from tlcourse.data import Task, make_task
from tlcourse.masked import Masked
from tlcourse.readers import Provenance

__all__ = ["load_images", "load_texts", "read_image", "read_rows"]

SIZES = (64, 96, 224)
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LARGEST_IMAGE, LARGEST_TABLE = 100 * 2**20, 500 * 2**20  # bytes of one file
MOST_PIXELS = 50_000_000
TINIEST = 16  # pixels of the shorter side: below, there is nothing to see
DELIMITERS = (",", ";", "\t")


def load_images(
    folder: str | Path, *, labels: str | Path | None = None, size: int = 96, seed: int = 0
) -> tuple[Task, Audit]:
    """A task from a folder of images, and what was found in it.

    Parameters
    ----------
    folder
        One sub-folder a class, its name the label; or, with ``labels``, the folder that file names start from.
    labels
        A CSV with the columns ``file`` and ``label``.
    size
        Side in pixels, 64, 96 or 224: images are resized to a square, whatever their shape was.
    seed
        Draws the splits.

    Raises
    ------
    ValueError
        If there is no such folder, no image in it, an option is out of range, or fewer than two classes are left.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    >>> for number in range(20):
    ...     place = folder / ("left", "right")[number % 2] / f"{number}.png"
    ...     place.parent.mkdir(exist_ok=True)
    ...     Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(place)
    >>> task, audit = load_images(folder, size=64)
    >>> task.class_names, tuple(task.train.inputs.shape[1:]), audit.kept
    (('left', 'right'), (3, 64, 64), 20)
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: give one with a sub-folder a class, or a CSV of texts with --text")
    if size not in SIZES:
        raise ValueError(f"size={size}: images are resized to {', '.join(map(str, SIZES))} pixels")
    found: list[Finding] = []
    files = _listed(folder, Path(labels), found) if labels is not None else _in_folders(folder, found)
    given = len(files) + sum(len(finding.items) for finding in found)
    if not files:
        said = "".join(f"\n- {finding}" for finding in found)
        raise ValueError(
            f"no image with a label in {folder}: put images into one sub-folder a class, or give --labels{said}"
        )
    samples, bad, enlarged = [], {}, []
    for name, label in files:
        try:
            image, side = _opened(folder / name, size)
        except _Unusable as error:
            bad.setdefault(error.kind, []).append(f"{name}: {error}")
            continue
        if side < size:
            enlarged.append(name)
        samples.append(Sample(name, label, image, hashlib.sha256(image.numpy().tobytes()).hexdigest()))
    for kind, items in bad.items():
        found.append(Finding(kind, f"{len(items)} files are left out", tuple(items), left_out=True))
    if enlarged:
        message = f"{len(enlarged)} images are smaller than {size} pixels and were enlarged"
        found.append(Finding("enlarged", message, tuple(enlarged)))
    kept, audit = audited(samples, given=given, alike=alike_images, findings=found)
    return _dealt("images", folder, torch.stack, kept, audit, seed=seed, options={"size": size})


def load_texts(
    path: str | Path,
    *,
    text: str,
    label: str,
    backbone: str | Backbone = "minilm",
    max_length: int = 64,
    seed: int = 0,
) -> tuple[Task, Audit]:
    """A task from a CSV of texts in UTF-8, and what was found in it.

    Parameters
    ----------
    text, label
        Names of the columns.
    backbone
        Whose tokenizer reads the texts: ``"minilm"``, or any loaded text backbone.
    max_length
        Longest text in tokens; the rest is cut off.

    Raises
    ------
    ValueError
        If the file is missing, too large, not UTF-8 or no CSV, a column is missing, fewer than two classes are left, or
        the backbone reads images or is a name other than ``"minilm"``.
    """
    path = Path(path)
    rows = read_rows(path, (text, label))
    preprocessing = load_text_preprocessing(backbone) if isinstance(backbone, str) else backbone.preprocessing
    if not isinstance(preprocessing, TextPreprocessing):
        raise ValueError(f"{path} holds texts, but backbone {backbone.name!r} reads images")
    samples, empty = [], []
    for source, row in rows:
        words = re.sub(r"\s+", " ", row[text]).strip()
        if not words:
            empty.append(source)
            continue
        samples.append(Sample(source, row[label], words, hashlib.sha256(words.casefold().encode()).hexdigest()))
    found = [Finding("empty", f"{len(empty)} rows have no text", tuple(empty), left_out=True)] if empty else []
    kept, audit = audited(samples, given=len(rows), alike=alike_texts, findings=found)
    options = {"max_length": max_length, "text": text, "label": label}
    collate = partial(preprocessing.tokenize, max_length=max_length)
    name = preprocessing.name
    return _dealt("texts", path, collate, kept, audit, seed=seed, options=options, preprocessing_name=name)


def read_image(path: str | Path, *, size: int) -> Tensor:
    """One image as uint8 (3, size, size), turned upright and resized as `load_images` does.

    Raises
    ------
    ValueError
        If the file is missing, too large, no picture or damaged; the message says which.
    """
    return _opened(Path(path), size)[0]


def read_rows(path: str | Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    """(``"row 2"``, row) of each row of a CSV in UTF-8; a missing value is an empty text.

    Fields are separated by commas, semicolons or tabs, whichever gives the columns.

    Raises
    ------
    ValueError
        If the file is missing, too large, not UTF-8 or no CSV, or a column is missing.
    """
    path = Path(path)
    content = _decoded(path)
    header: list[str] = []
    for delimiter in DELIMITERS:
        lines = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter)
        try:
            names = list(lines.fieldnames or ())
            header = header if len(header) > len(names) else names
            if set(columns) <= set(names):
                return [
                    (f"row {number}", {name: row[name] or "" for name in columns})
                    for number, row in enumerate(lines, start=2)
                ]
        except csv.Error as error:
            raise ValueError(f"{path} is no CSV that can be read: after line {lines.line_num}: {error}") from error
    missing = [name for name in columns if name not in header]
    raise ValueError(f"{path} has no column {missing[0]!r}; its columns are: {', '.join(map(repr, header)) or 'none'}")


class _Unusable(ValueError):
    """A file that cannot be used, and what kind of trouble it is."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _opened(path: Path, size: int) -> tuple[Tensor, int]:
    """An image as uint8 (3, size, size), and how long its shorter side was."""
    from PIL import Image, ImageOps

    try:
        weight = path.stat().st_size
    except OSError as error:
        raise _Unusable("missing", f"there is no such file ({error.strerror})") from error
    if weight > LARGEST_IMAGE:
        most = LARGEST_IMAGE / 2**20
        raise _Unusable("too large", f"{weight / 2**20:,.0f} MiB, more than {most:.0f}: it was not opened")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a damaged file makes Pillow mention; the bound on pixels is ours
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MOST_PIXELS:
                    raise _Unusable("too large", f"{width} x {height} pixels are more than {MOST_PIXELS:,}")
                if min(width, height) < TINIEST:
                    raise _Unusable("tiny", f"{width} x {height} pixels; at least {TINIEST} a side are needed")
                upright = _in_colour(ImageOps.exif_transpose(image))
    except _Unusable:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged file leads them to
        reason = "it is empty" if weight == 0 else f"{type(error).__name__}: {error}"
        raise _Unusable("unreadable", reason.replace(str(path), path.name)) from error
    square = upright.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous(), min(width, height)


def _in_colour(image):
    """Red, green and blue in 0..255: 16 bits are scaled, what is transparent becomes white."""
    from PIL import Image

    if image.mode == "F":
        raise _Unusable("unreadable", "pixels are fractions of an unknown range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.float64) / 257  # 0..65535
        image = Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _in_folders(folder: Path, found: list[Finding]) -> list[tuple[str, str]]:
    """(name below the folder, label) of each image; the first folder is its class."""
    files, loose, other = [], [], []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in below.parts):
            continue
        if path.suffix.lower() not in ENDINGS:
            other.append(str(below))
        elif len(below.parts) == 1:
            loose.append(str(below))
        else:
            files.append((str(below), below.parts[0]))
    if loose:
        found.append(
            Finding("no label", "images outside of a class's folder are left out", tuple(loose), left_out=True)
        )
    if other:
        found.append(Finding("no image", f"files that do not end in {', '.join(ENDINGS)}", tuple(other), left_out=True))
    return files


def _listed(folder: Path, labels: Path, found: list[Finding]) -> list[tuple[str, str]]:
    files, outside = [], []
    for source, row in read_rows(labels, ("file", "label")):
        name = row["file"].strip()
        if not name or not (folder / name).resolve().is_relative_to(folder.resolve()):
            outside.append(f"{source}: {name}")
        else:
            files.append((name, row["label"]))
    if outside:
        message = f"these do not name a file below {folder}"
        found.append(Finding("outside", message, tuple(outside), left_out=True))
    return files


def _decoded(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    weight = path.stat().st_size
    if weight > LARGEST_TABLE:
        raise ValueError(
            f"{path} has {weight / 2**20:,.0f} MiB, more than {LARGEST_TABLE / 2**20:.0f}, and was not opened: give a "
            "part of its rows"
        )
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16, not UTF-8: {_conversion(path, 'utf-16')}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}. Files of Excel on Windows are often "
            f"cp1252; then {_conversion(path, 'cp1252')}"
        ) from error


def _conversion(path: Path, encoding: str) -> str:
    new = path.with_name(f"{path.stem}-utf8{path.suffix}")
    return f"convert it with: iconv -f {encoding} -t utf-8 '{path}' > '{new}'"


def _dealt(
    name: str,
    path: Path,
    collate: Callable[[list], Tensor | Masked],
    kept: list[Sample],
    audit: Audit,
    *,
    seed: int,
    options: dict,
    preprocessing_name: str | None = None,
) -> tuple[Task, Audit]:
    """The task of these samples; of fewer, where large groups would leave a split without some class."""

    def deal() -> Task:
        names = tuple(audit.counts)
        return make_task(
            name,
            collate([sample.content for sample in kept]),
            torch.tensor([names.index(sample.label) for sample in kept]),
            class_names=names,
            groups=audit.groups,
            seed=seed,
            provenance=Provenance(title=path.name, source="your own data", licence="yours"),
            preprocessing_name=preprocessing_name,
            options=options,
        )

    try:
        return deal(), audit
    except ValueError:
        if len(audit.groups.unique()) == audit.kept:
            raise
    kept, audit = one_of_each(kept, audit)
    return deal(), audit
