"""A class is the mean of its few samples: the probe for a handful of labels. Lesson 06 uses it."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Centroids", "nearest_centroid"]

TEMPERATURES = {"cosine": 0.1, "euclidean": 1.0}


@dataclass(frozen=True)
class Centroids:
    """The mean of each class, float64 (classes, D) on the CPU, and how distances to it become probabilities."""

    centroids: Tensor
    distance: str
    temperature: float

    def distances(self, features: Tensor) -> Tensor:
        """Distances (n, classes), float64, of features (n, D): cosine in 0..2, or squared Euclidean."""
        x = _checked(features)
        if x.shape[1] != self.centroids.shape[1]:
            raise ValueError(f"features of {x.shape[1]} numbers each: the centroids are of {self.centroids.shape[1]}")
        if self.distance == "cosine":
            return 1 - F.normalize(x, dim=1) @ F.normalize(self.centroids, dim=1).T
        # The short way, through products of the vectors, would lose digits where both are far from 0.
        return torch.cdist(x, self.centroids, compute_mode="donot_use_mm_for_euclid_dist").square()

    def probabilities(self, features: Tensor) -> np.ndarray:
        """Class probabilities (n, classes) of features (n, D).

        Raises
        ------
        ValueError
            If the features are not finite, or not of as many numbers as the centroids.
        """
        return (-self.distances(features) / self.temperature).softmax(dim=1).numpy()


def nearest_centroid(
    features: Tensor,
    labels: Tensor,
    *,
    distance: Literal["cosine", "euclidean"] = "cosine",
    temperature: float | None = None,
    classes: int | None = None,
) -> Centroids:
    """Classify by the nearest class mean: ``p(class | x) = softmax(-distance(x, mean of the class) / temperature)``.

    Mensink et al. 2013 (Distance-based image classification), section 3.1, with plain Euclidean distance as the metric;
    Snell et al. 2017 (Prototypical networks), equations 1 and 2, on frozen features. Nothing is learned but the means,
    so one sample a class is enough; `fit_probe` learns more, from more. The temperature changes how sure the
    probabilities are, never which class comes first.

    Parameters
    ----------
    features, labels
        Floats (n, D) and int64 (n,), from 0: the few samples.
    distance
        ``"cosine"``, 1 - cos, sees directions alone; a vector of zeros is at 1 from everything. ``"euclidean"`` is the
        squared distance, as in both papers.
    temperature
        Above 0. Default: 0.1 for the cosine; 1 for the squared distance, as in Snell et al. Squared distances grow with
        the scale and the number of features: compare log-losses at a temperature chosen on validation.
    classes
        How many there are. Default: the highest label + 1.

    Returns
    -------
    Centroids
        Its ``probabilities`` takes features, like that of a `probes.Probe`.

    Raises
    ------
    ValueError
        If a class has no sample, there are fewer than two, features are not finite or not (n, D), labels do not fit
        them, or distance or temperature is none.

    Examples
    --------
    >>> few = torch.tensor([[1.0, 0.0], [3.0, 0.2], [0.0, 2.0]])
    >>> probe = nearest_centroid(few, torch.tensor([0, 0, 1]))
    >>> probe.probabilities(torch.tensor([[9.0, 1.0], [0.1, 0.5]])).round(2)
    array([[1., 0.],
           [0., 1.]])
    """
    if distance not in TEMPERATURES:
        raise ValueError(f"distance={distance!r}: it is one of {', '.join(TEMPERATURES)}")
    temperature = TEMPERATURES[distance] if temperature is None else temperature
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature={temperature}: a number above 0 is needed")
    x, y = _checked(features), labels.cpu()
    if y.shape != x.shape[:1] or y.is_floating_point() or not len(y):
        raise ValueError(f"labels {y.dtype} {tuple(y.shape)} for features {tuple(x.shape)}: a whole number each")
    classes = int(y.max()) + 1 if classes is None else classes
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels from {y.min()} to {y.max()}: {classes} classes are counted from 0 to {classes - 1}")
    if classes < 2:
        raise ValueError(f"all {len(y)} labels are of one class: a probe needs two")
    absent = sorted(set(range(classes)) - set(y.tolist()))
    if absent:
        raise ValueError(f"class {absent[0]} of {classes} has no sample among these {len(y)}: it has no centroid")
    centroids = torch.stack([x[y == label].mean(dim=0) for label in range(classes)])
    return Centroids(centroids, distance, temperature)


def _checked(features: Tensor) -> Tensor:
    """Features as float64 on the CPU, where every device's can be compared."""
    if features.dim() != 2:
        raise ValueError(f"features must be (n, D), not {tuple(features.shape)}")
    x = features.detach().cpu().double()
    bad = int((~x.isfinite()).any(dim=1).sum())
    if bad:
        raise ValueError(f"the features of {bad} of {len(x)} samples are not finite")
    return x
