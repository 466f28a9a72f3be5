"""Made-up image tasks, each of which needs one kind of feature and no other. Lesson 02 probes the stages with them.

In every world the cue of the class is drawn as stated, and everything else (brightness, contrast, tint, place, size,
texture) at random in the same way for all classes: the mean brightness of an image says nothing about its class.
"""

from collections.abc import Callable

import numpy as np
import torch

from tlcourse.data import Task, make_task
from tlcourse.readers import Provenance

__all__ = ["WORLDS", "make_world"]

BRIGHTNESS, CONTRAST, TINT = (0.4, 0.6), (0.1, 0.16), 0.06
RED_AGAINST_CYAN = np.array([2.0, -1.0, -1.0]) / 6**0.5
GREEN_AGAINST_BLUE = np.array([0.0, 1.0, -1.0]) / 2**0.5  # both leave the mean of the three channels alone

ARRANGEMENTS = {  # places of four discs, (down, across)
    "line": ((0, 0), (0, 1), (0, 2), (0, 3)),
    "square": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "star": ((0, 0), (0, 1), (3**0.5 / 2, -0.5), (-(3**0.5) / 2, -0.5)),
    "two pairs": ((0, 0), (1, 0), (0, 2), (1, 2)),
}


def make_world(
    name: str,
    *,
    classes: int = 2,
    samples: int = 600,
    size: int = 32,
    noise: float = 0.02,
    labels: int | None = None,
    seed: int = 0,
) -> Task:
    """An image task whose classes differ in one kind of feature.

    Parameters
    ----------
    name
        ``"colour"``: the hue of the image. ``"orientation"``: the angle of a grating. ``"texture"``: the density of the
        spots that add up to a noise texture, whose spectrum and spread are those of every other class. ``"shape"``: how
        many lobes the outline of an object has, whose area and texture are those of every other class.
        ``"arrangement"``: where four discs lie relative to each other: in a line, a square, a star, two pairs.
    classes
        How many, each equally often: the more, the finer the difference.
    samples, size
        How many images (n, 3, size, size) in all, and their side in pixels.
    noise
        Standard deviation of what is added to every pixel value, in the unit 0..1.
    labels
        How many of the training samples to keep, as in `load_task`.
    seed
        Draws the images, the splits and the subsets.

    Returns
    -------
    Task
        uint8 images in three splits, named like the world.

    Raises
    ------
    KeyError
        If there is no such world.
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> task = make_world("orientation", classes=4, samples=80)
    >>> task.class_names, tuple(task.test.inputs.shape[1:])
    (('0 degrees', '45 degrees', '90 degrees', '135 degrees'), (3, 32, 32))
    """
    if name not in WORLDS:
        raise KeyError(f"no world {name!r}; there are: {', '.join(WORLDS)}")
    draw, name_of, most = WORLDS[name]
    if not 2 <= classes <= most:
        raise ValueError(f"classes={classes}: the world {name!r} has 2 to {most}")
    for key, value, least in (("samples", samples, 10 * classes), ("size", size, 16), ("noise", noise, 0)):
        if not least <= value < np.inf:
            raise ValueError(f"{key}={value}: at least {least} is needed, and finite")
    rng = np.random.default_rng([seed, *name.encode()])
    targets = np.arange(samples) % classes
    images = np.stack([_rendered(draw(int(target), classes, size, rng), noise, rng) for target in targets])
    return make_task(
        name,
        torch.from_numpy(images),
        torch.from_numpy(targets),
        class_names=[name_of(label, classes) for label in range(classes)],
        labels=labels,
        seed=seed,
        provenance=Provenance(title=f"made-up images: {name}", source="drawn by tlcourse.worlds", licence="MIT"),
        options={"classes": classes, "samples": samples, "size": size, "noise": noise},
    )


def _rendered(drawn: tuple[np.ndarray, np.ndarray | None], noise: float, rng: np.random.Generator) -> np.ndarray:
    """A pattern (H, W) of light and dark, and a tint (3,) or None for any, -> uint8 (3, H, W) of random brightness."""
    pattern, tint = drawn
    if tint is None:
        tint = _hue(rng.uniform(0, 2 * np.pi))
    image = _standardised(pattern) * rng.uniform(*CONTRAST) + TINT * tint[:, None, None]
    image = image + noise * rng.standard_normal(image.shape)
    image += rng.uniform(*BRIGHTNESS) - image.mean()
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _colour(label: int, classes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A smooth pattern in the tint of the class."""
    angle = 2 * np.pi * (label + rng.uniform(-0.15, 0.15)) / classes
    return _smooth_noise(size, rng.uniform(2, 4), rng), _hue(angle)


def _orientation(label: int, classes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, None]:
    """A grating of random phase and period; its waves run across at the angle of the class."""
    angle = np.pi * (label + rng.uniform(-0.15, 0.15)) / classes
    down, across = np.mgrid[:size, :size]
    period = rng.uniform(4, 8)
    along = across * np.cos(angle) + down * np.sin(angle)
    return np.cos(2 * np.pi * along / period + rng.uniform(0, 2 * np.pi)), None


def _texture(label: int, classes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, None]:
    """Spots, light and dark, at random places: their density changes neither the spectrum nor the spread.

    A sum of many is Gaussian noise, a sum of few has tails: only statistics of a higher order tell them apart.
    """
    density = 0.025 * 20 ** (label / (classes - 1))  # spots a pixel: from 0.025 to 0.5
    count = max(2, rng.poisson(density * size**2))
    spots = np.zeros((size, size))
    while not spots.any():  # in a small image, two spots at the same place may leave nothing of each other
        np.add.at(spots, tuple(rng.integers(size, size=(2, count))), rng.choice([-1.0, 1.0], size=count))
    return _blurred(spots, rng.uniform(1.1, 1.4)), None


def _shape(label: int, classes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, None]:
    """An object with three lobes or more, turned at random, on a ground of another texture."""
    lobes = label + 3
    depth = 1 / lobes  # more lobes are shallower: the length of the outline is about the same for all
    down, across = np.mgrid[:size, :size] - size / 2 - rng.uniform(-size / 10, size / 10, size=(2, 1, 1))
    radius = rng.uniform(0.24, 0.32) * size / (1 + depth**2 / 2) ** 0.5  # and so is the area
    outline = radius * (1 + depth * np.cos(lobes * (np.arctan2(down, across) + rng.uniform(0, 2 * np.pi))))
    inside = np.hypot(down, across) < outline
    object_texture, ground = (0.3 * _standardised(_smooth_noise(size, rng.uniform(0.7, 3), rng)) for _ in range(2))
    return np.where(inside, 2 * rng.choice([-1.0, 1.0]) + object_texture, ground), None


def _arrangement(label: int, classes: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, None]:
    """Four discs in the arrangement of the class, turned at random; all lighter or all darker than the ground."""
    places = np.array(list(ARRANGEMENTS.values())[label], dtype=float)
    places -= places.mean(axis=0)
    places /= np.square(places).sum(axis=1).mean() ** 0.5  # as far apart, on average, as those of the other classes
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centres = places @ turn.T * size * rng.uniform(0.2, 0.26) + size / 2 + rng.uniform(-size / 20, size / 20, size=2)
    radius = size * rng.uniform(0.055, 0.07)
    down, across = np.mgrid[:size, :size] + 0.5
    inside = np.any([np.hypot(down - y, across - x) < radius for y, x in centres], axis=0)
    return inside * rng.choice([-1.0, 1.0]) + 0.1 * _standardised(_smooth_noise(size, 2.0, rng)), None


def _hue(angle: float) -> np.ndarray:
    """The tint (3,) at an angle of the colour circle, which changes no brightness."""
    return np.cos(angle) * RED_AGAINST_CYAN + np.sin(angle) * GREEN_AGAINST_BLUE


def _smooth_noise(size: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    return _blurred(rng.standard_normal((size, size)), radius)


def _blurred(image: np.ndarray, radius: float) -> np.ndarray:
    """Convolved, around the edges, with a Gaussian of this standard deviation in pixels."""
    frequency = np.fft.fftfreq(len(image))
    kernel = np.exp(-2 * (np.pi * radius * frequency) ** 2)  # a Gaussian's transform
    return np.fft.ifft2(np.fft.fft2(image) * np.outer(kernel, kernel)).real


def _standardised(pattern: np.ndarray) -> np.ndarray:
    return (pattern - pattern.mean()) / pattern.std()


WORLDS: dict[str, tuple[Callable, Callable[[int, int], str], int]] = {  # draws one, names a class, most classes
    "colour": (_colour, lambda label, classes: f"hue {360 * label // classes}", 12),
    "orientation": (_orientation, lambda label, classes: f"{180 * label // classes} degrees", 12),
    "texture": (_texture, lambda label, classes: f"density {label + 1} of {classes}", 6),
    "shape": (_shape, lambda label, classes: f"{label + 3} lobes", 4),
    "arrangement": (_arrangement, lambda label, classes: list(ARRANGEMENTS)[label], 4),
}
