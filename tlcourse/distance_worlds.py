"""Made-up image tasks at a known distance from a source task. Lesson 07 measures its decision framework on them.

An image shows one glyph, a few strokes of ink, on a ground of streaks; the class is the glyph. Distance is an angle. At
distance d the whole picture is turned by 90 d degrees, and its ink by 90 d degrees on the circle of colours from light
against dark (distance 0) to red against cyan (distance 1). So glyphs, streaks and colours all move away from what
a network of the source has learnt, and none of it makes the task harder: both turns keep the product of any two
pictures, and with it the distance between them, to a few percent of a picture's own at 48 pixels (the grid), and to the
rounding at a right angle. Of what sees nothing else, such as a kernel machine, the score stays; and a network drawn
from scratch prefers neither a colour nor a direction.

The same seed draws the same scenes at every distance: worlds at several distances are paired.
"""

import math

import numpy as np
import torch

from tlcourse.data import Task, make_task
from tlcourse.readers import Provenance

__all__ = ["MOST_CLASSES", "MOST_COMPLEXITY", "make_distance_world"]

MOST_CLASSES, MOST_COMPLEXITY = 10, 3
LIGHT, RED_AGAINST_CYAN = np.array([1.0, 1.0, 1.0]) / 3**0.5, np.array([2.0, -1.0, -1.0]) / 6**0.5
STROKES, SHARED = 4, 2  # of a glyph, on the 20 edges between neighbours of a 3 x 3 grid; two glyphs share two at most
HALF_WIDTH, CONTRAST, STREAKS = 0.13, 0.09, 0.7  # of a stroke, in grid steps; of ink; of streaks against ink


def make_distance_world(
    distance: float = 0.0,
    *,
    classes: int = 4,
    complexity: int = 1,
    alphabet: int = 0,
    samples: int = 1000,
    size: int = 32,
    noise: float = 0.05,
    labels: int | None = None,
    seed: int = 0,
) -> Task:
    """An image task at a distance from the source world, which is the one at distance 0 with ``alphabet=0``.

    Parameters
    ----------
    distance
        0 to 1: the share of a right angle by which the picture, and its ink on the circle of colours, are turned.
        The task stays as hard for a network that starts from scratch; what changes is how much of the source helps.
    classes
        2 to 10, each equally often. A world of fewer classes has the first ones of a world of more.
    complexity
        1 to 3: of how many different glyphs each class consists, each equally often. More is harder.
    alphabet
        0 or more: which glyphs. Another alphabet is a new set of classes in pictures of the same kind.
    samples, size
        How many images (n, 3, size, size) in all, and their side in pixels, 16 or more.
    noise
        Standard deviation of what is added to every value, in the unit 0..1, independently of colour and place.
    labels
        How many of the training samples to keep, as in `load_task`.
    seed
        Draws the scenes (place, size and slant of the glyph, streaks), the noise, the splits and the subsets. The
        glyphs come from the alphabet alone.

    Returns
    -------
    Task
        uint8 images in three splits; its ``options`` hold the knobs.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> source, target = make_distance_world(classes=8), make_distance_world(0.5, alphabet=1, samples=200, labels=20)
    >>> source.name, target.name, len(target.train), tuple(target.train.inputs.shape[1:])
    ('distance 0 %', 'distance 50 %', 20, (3, 32, 32))
    """
    _check(distance, classes, complexity, alphabet, samples, size, noise)
    scenes, noises = np.random.default_rng([seed, 7]), np.random.default_rng([seed, 8])
    targets = np.arange(samples) % classes
    variants = np.arange(samples) // classes % complexity
    glyphs = _alphabet(alphabet)[variants * MOST_CLASSES + targets]  # (n, strokes, ends, 2)
    angle = distance * math.pi / 2
    ink = _pictures(glyphs, size, angle, scenes)
    colour = math.cos(angle) * LIGHT + math.sin(angle) * RED_AGAINST_CYAN
    images = 0.5 + CONTRAST * ink[:, None] * colour[:, None, None].astype(np.float32)
    images += np.float32(noise) * noises.standard_normal(images.shape, dtype=np.float32)
    options = {"distance": distance, "classes": classes, "complexity": complexity, "alphabet": alphabet}
    return make_task(
        f"distance {round(100 * distance)} %",  # a name of a head may hold no point
        torch.from_numpy((images.clip(0, 1) * 255).round().astype(np.uint8)),
        torch.from_numpy(targets),
        class_names=[f"glyph {alphabet}.{label}" for label in range(classes)],
        labels=labels,
        seed=seed,
        provenance=Provenance(
            title=f"made-up glyphs, {90 * distance:g} degrees from the source's",
            source="drawn by tlcourse.distance_worlds",
            licence="MIT",
        ),
        options=options | {"samples": samples, "size": size, "noise": noise},
    )


def _check(distance, classes, complexity, alphabet, samples, size, noise) -> None:
    ranges = {
        "distance": (distance, 0, 1),
        "classes": (classes, 2, MOST_CLASSES),
        "complexity": (complexity, 1, MOST_COMPLEXITY),
        "alphabet": (alphabet, 0, 10_000),
        "samples": (samples, 10 * classes, 1_000_000),
        "size": (size, 16, 512),
        "noise": (noise, 0, 1),
    }
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:  # refuses NaN too
            raise ValueError(f"{name}={value}: between {least} and {most:,} is possible")
        if name not in ("distance", "noise") and value != int(value):
            raise ValueError(f"{name}={value}: a whole number is needed")


def _alphabet(number: int) -> np.ndarray:
    """Glyphs (30, strokes, ends, 2) as (across, down) in -1..1; the first of each class come first.

    A glyph is a walk over the grid that takes no edge twice. Any two share few edges, wherever they come from a class.
    """
    points = [(across, down) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    rng, kept = np.random.default_rng([2022, number]), []
    while len(kept) < MOST_CLASSES * MOST_COMPLEXITY:
        at, edges = points[rng.integers(9)], []
        while len(edges) < STROKES:
            near = [p for p in points if p != at and max(abs(p[0] - at[0]), abs(p[1] - at[1])) == 1]
            ways = [(at, p) for p in near if (at, p) not in edges and (p, at) not in edges]
            if not ways:
                break
            edges.append(ways[rng.integers(len(ways))])
            at = edges[-1][1]
        signature = {frozenset(edge) for edge in edges}
        if len(signature) == STROKES and all(len(signature & other) <= SHARED for _, other in kept):
            kept.append((edges, signature))
    return np.array([edges for edges, _ in kept], dtype=np.float32)


def _pictures(glyphs: np.ndarray, size: int, angle: float, rng: np.random.Generator) -> np.ndarray:
    """Ink (n, size, size), float32, of mean 0 and spread 1 an image: a glyph on streaks, all turned by the angle."""
    n = len(glyphs)
    middle = (size - 1) / 2
    down, across = (np.mgrid[:size, :size] - middle).astype(np.float32)
    turned = math.cos(angle) * across + math.sin(angle) * down, math.cos(angle) * down - math.sin(angle) * across
    step = size * rng.uniform(0.17, 0.21, n)  # from one point of the grid to the next, in pixels
    reach, way = size * 0.12 * rng.uniform(0, 1, n) ** 0.5, rng.uniform(0, 2 * np.pi, n)
    slant = rng.uniform(-0.35, 0.35, n)
    place = np.stack([reach * np.cos(way), reach * np.sin(way)], axis=1)  # in a disc, which turns into itself
    cosine, sine = (part[:, None, None].astype(np.float32) for part in (np.cos(slant), np.sin(slant)))
    x, y = ((axis - place[:, i, None, None].astype(np.float32)) for i, axis in enumerate(turned))
    scale = step[:, None, None].astype(np.float32)
    x, y = (cosine * x + sine * y) / scale, (cosine * y - sine * x) / scale  # in the glyph's own grid
    away = np.full(x.shape, np.inf, dtype=np.float32)
    for stroke in range(STROKES):
        start, end = glyphs[:, stroke, 0], glyphs[:, stroke, 1]
        (sx, sy), (ex, ey) = ((p[:, 0, None, None], p[:, 1, None, None]) for p in (start, end - start))
        along = (((x - sx) * ex + (y - sy) * ey) / (ex**2 + ey**2)).clip(0, 1)
        np.minimum(away, (x - sx - along * ex) ** 2 + (y - sy - along * ey) ** 2, out=away)
    ink = _standardised(1 / (1 + np.exp((np.sqrt(away) - HALF_WIDTH) * 12)))
    return _standardised(ink + STREAKS * _streaks(turned, size, n, rng))


def _streaks(turned: tuple[np.ndarray, np.ndarray], size: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Waves (n, size, size) that run nearly across the unturned picture: six random ones an image."""
    total = np.zeros((n, size, size), dtype=np.float32)
    for _ in range(6):
        frequency, tilt = rng.uniform(2, 6, n) * 2 * np.pi / size, rng.normal(0, 0.15, n)
        phase = rng.uniform(0, 2 * np.pi, n)
        fx, fy = ((frequency * f(tilt))[:, None, None].astype(np.float32) for f in (np.sin, np.cos))
        total += np.cos(fx * turned[0] + fy * turned[1] + phase[:, None, None].astype(np.float32))
    edge = np.hypot(*turned)[None] / (size / 2)  # out to a circle: corners would not turn into themselves
    return _standardised(total) * ((1 - edge) / 0.2).clip(0, 1)


def _standardised(pictures: np.ndarray) -> np.ndarray:
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return centred / centred.std(axis=(1, 2), keepdims=True)
