"""Handwritten digits pasted on solar cells: a segmentation task whose masks are exact. Lesson 07 uses it.

Each picture is a cell with a few digits, dark where the cell is light and light where it is dark. The mask is known
because the picture was made from it; no one had to draw around anything. Cells and digits stay in the split that
`load_task` gives them, so that no cell, no near-duplicate of one and no digit is in two splits.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tlcourse.data import Split, Task, load_task
from tlcourse.readers import Provenance

__all__ = ["paste_digits"]

SHARES = {"train": 0.6, "val": 0.15, "test": 0.25}
SIDE = (0.3, 0.5)  # of a digit's box, as a share of the picture's side
OPACITY = 0.85


def paste_digits(
    *,
    samples: int = 400,
    size: int = 64,
    classes: int = 10,
    digits: tuple[int, int] = (1, 3),
    labels: int | None = None,
    seed: int = 0,
) -> Task:
    """A segmentation task: which pixels belong to a digit, and to which.

    Parameters
    ----------
    samples
        How many pictures in all: 60 % to train on, 15 % to choose, 25 % to test.
    size
        Side of the pictures in pixels: 64, 96 or 224.
    classes
        10: each digit is a class of its own. 2 to 9: only the first so many digits occur. 1: all ten occur, as one
        class ``digit``. The background is class 0 always, and digit d class d + 1.
    digits
        The fewest and the most digits of a picture. Where two overlap, the later one covers the earlier.
    labels
        How many of the training pictures to keep; those of fewer are among those of more.
    seed
        Draws the splits of cells and digits, and the pictures.

    Returns
    -------
    Task
        ``inputs`` uint8 (n, 3, size, size); ``labels`` int64 (n, size, size), one class a pixel; ``index`` the row of
        the cell among the solar cells. `segmentation` trains on it.

    Raises
    ------
    ValueError
        If a number is out of range.
    tlcourse.sources.SourceError
        If an embedded package is missing or altered.

    Examples
    --------
    >>> task = paste_digits(samples=20, classes=1)
    >>> task.class_names, tuple(task.train.inputs.shape), tuple(task.train.labels.shape)
    (('background', 'digit'), (12, 3, 64, 64), (12, 64, 64))
    """
    fewest, most = digits
    if not 1 <= classes <= 10:
        raise ValueError(f"classes={classes}: 1 for any digit, or 2 to 10 for the first so many")
    if not 1 <= fewest <= most <= 10:
        raise ValueError(f"digits={digits}: the fewest and the most of a picture, from 1 to 10")
    if samples < 10:
        raise ValueError(f"samples={samples}: three splits need at least 10")
    counts = {part: round(share * samples) for part, share in SHARES.items()}
    if labels is not None and not 1 <= labels <= counts["train"]:
        raise ValueError(f"labels={labels}: of {samples} samples {counts['train']} are there to train on")
    cells, glyphs = load_task("solar", size=size, seed=seed), load_task("digits", seed=seed)
    splits = {}
    for number, (part, count) in enumerate(counts.items()):
        rng = np.random.default_rng([seed, number, 555])
        splits[part] = _split(getattr(cells, part), _first(getattr(glyphs, part), classes), count, digits, rng)
    if classes == 1:
        splits = {part: Split(s.inputs, s.labels.clamp(max=1), s.index) for part, s in splits.items()}
    if labels is not None:
        train = splits["train"]
        splits["train"] = Split(train.inputs[:labels], train.labels[:labels], train.index[:labels])
    return Task(
        name="pasted digits",
        **splits,
        class_names=("background", *(["digit"] if classes == 1 else map(str, range(classes)))),
        provenance=Provenance(
            title="handwritten digits pasted on photographs of solar cells",
            source=f"{cells.provenance.source}; {glyphs.provenance.source}",
            licence=f"{cells.provenance.licence}; digits: {glyphs.provenance.licence}",
        ),
        seed=seed,
        options={"samples": samples, "size": size, "classes": classes, "digits": tuple(digits)},
    )


def _first(glyphs: Split, classes: int) -> Split:
    kept = glyphs.labels < (10 if classes == 1 else classes)
    return Split(glyphs.inputs[kept], glyphs.labels[kept], glyphs.index[kept])


def _split(cells: Split, glyphs: Split, count: int, digits: tuple[int, int], rng: np.random.Generator) -> Split:
    """Pictures on distinct cells, as long as there are any; every digit is as likely as any other."""
    rounds = -(-count // len(cells))
    chosen = np.concatenate([rng.permutation(len(cells)) for _ in range(rounds)])[:count]
    pictures, masks = [], []
    for row in chosen:
        picture = cells.inputs[row, 0].float() / 255
        mask = torch.zeros(picture.shape, dtype=torch.int64)
        for _ in range(rng.integers(digits[0], digits[1] + 1)):
            label = rng.choice(np.unique(glyphs.labels))
            glyph = glyphs.inputs[rng.choice(np.flatnonzero(glyphs.labels == label)), 0]
            _paste(picture, mask, glyph, int(label) + 1, rng)
        pictures.append((picture * 255).round().byte().expand(3, -1, -1))
        masks.append(mask)
    return Split(torch.stack(pictures), torch.stack(masks), cells.index[torch.from_numpy(chosen)])


def _paste(picture: Tensor, mask: Tensor, glyph: Tensor, label: int, rng: np.random.Generator) -> None:
    """Put one digit (28, 28) somewhere on a picture (H, W) in 0..1, and its pixels into the mask, both in place."""
    size = len(picture)
    side = round(size * rng.uniform(*SIDE))
    ink = F.interpolate(glyph[None, None] / 255, size=(side, side), mode="bilinear", antialias=True)[0, 0]
    down, across = rng.integers(size - side + 1, size=2)
    place = slice(down, down + side), slice(across, across + side)
    cover = OPACITY * ink
    shade = float((cover * picture[place]).sum() < cover.sum() / 2)  # dark on light ground, light on dark
    picture[place] = (1 - cover) * picture[place] + cover * shade
    mask[place][ink >= 0.5] = label
