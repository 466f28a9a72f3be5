"""Two frozen towers joined: from the name of a class to the weights that recognise its pictures. Lesson 11 measures it.

One network has read texts, another has learnt ImageNet, and neither has heard of the other. A ridge regression from the
embedding of a class's name to that class's row in the image classifier joins them; what it says of a name that it has
not seen is a classifier for a class of which there was no picture. CLIP trains both towers for that from the start.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tlcourse.sources import package_path

__all__ = ["ImageNetHead", "Join", "imagenet_head", "join_towers", "rank_of_own"]


@dataclass(frozen=True)
class ImageNetHead:
    """The classifier that stood on EfficientNet-Lite0.

    Attributes
    ----------
    names
        What each of the 1,000 classes is called, synonyms separated by commas.
    weights, bias
        float32 (1000, 1280) and (1000,): ``features @ weights.T + bias`` are the logits.
    """

    names: tuple[str, ...]
    weights: Tensor
    bias: Tensor


def imagenet_head() -> ImageNetHead:
    """The head that `load_backbone` leaves behind, and the names of its classes, which come with timm.

    Raises
    ------
    tlcourse.sources.SourceError
        If the embedded package is missing or altered.

    Examples
    --------
    >>> head = imagenet_head()
    >>> head.weights.shape, head.names[985]
    (torch.Size([1000, 1280]), 'daisy')
    """
    from timm.data import ImageNetInfo

    *_, weights, bias = torch.load(package_path("efficientnet_lite0"), map_location="cpu", weights_only=True).values()
    classes = ImageNetInfo()
    return ImageNetHead(tuple(classes.index_to_description(row) for row in range(len(bias))), weights, bias)


@dataclass(frozen=True)
class Join:
    """What `join_towers` found: ``join(texts)`` gives a row of weights for each text, (m, p) -> (m, q)."""

    text_mean: Tensor
    weight_mean: Tensor
    coefficients: Tensor

    def __call__(self, texts: Tensor) -> Tensor:
        """Weights (m, q), float64, of texts (m, p)."""
        if texts.dim() != 2 or texts.shape[1] != len(self.text_mean):
            raise ValueError(f"texts are {tuple(texts.shape)}; (m, {len(self.text_mean)}) is needed")
        return self.weight_mean + (texts.double() - self.text_mean) @ self.coefficients


def join_towers(texts: Tensor, weights: Tensor, *, strength: float) -> Join:
    """Ridge regression from the embeddings of names to the weights of their classes, with an intercept.

    Minimises ``sum |W - m - (T - t) B|^2 + strength |B|^2`` over B, with t and m the means of both, in float64.

    Parameters
    ----------
    texts, weights
        (n, p) and (n, q): a row for each class.
    strength
        Above 0. Choose it on classes that were kept aside.

    Raises
    ------
    ValueError
        If the rows do not fit together, a value is not finite, or the strength is not above 0.

    Examples
    --------
    >>> join = join_towers(torch.eye(3), torch.tensor([[1.0], [2.0], [3.0]]), strength=1e-9)
    >>> join(torch.eye(3)).squeeze().round(decimals=4).tolist()
    [1.0, 2.0, 3.0]
    """
    if texts.dim() != 2 or weights.dim() != 2 or len(texts) != len(weights) or not len(texts):
        shapes = f"{tuple(texts.shape)} and {tuple(weights.shape)}"
        raise ValueError(f"texts and weights are {shapes}; (n, p) and (n, q) with the same n are needed")
    if not 0 < strength < float("inf"):
        raise ValueError(f"strength={strength}: a number above 0 is needed")
    if not (texts.isfinite().all() and weights.isfinite().all()):
        raise ValueError("texts or weights hold a value that is not finite")
    texts, weights = texts.double(), weights.double()
    t, m = texts.mean(dim=0), weights.mean(dim=0)
    gram = (texts - t).T @ (texts - t) + strength * torch.eye(texts.shape[1], dtype=torch.float64)  # (p, p)
    return Join(t, m, torch.linalg.solve(gram, (texts - t).T @ (weights - m)))


def rank_of_own(predicted: Tensor, true: Tensor) -> Tensor:
    """For each predicted row, how many rows of ``true`` are nearer to it by cosine than its own.

    Both are centred on the mean of ``true``, since the rows of a classifier share a direction that tells none apart.

    Parameters
    ----------
    predicted, true
        (k, q): row i of one belongs to row i of the other.

    Returns
    -------
    int64 (k,), from 0, which is the best, to k - 1; guessing is right one time in k.

    Raises
    ------
    ValueError
        If the shapes differ, or there are fewer than two rows.

    Examples
    --------
    >>> true = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> rank_of_own(true[[1, 0, 2]], true).tolist()
    [1, 1, 0]
    """
    if predicted.dim() != 2 or predicted.shape != true.shape or len(true) < 2:
        shapes = f"{tuple(predicted.shape)} and {tuple(true.shape)}"
        raise ValueError(f"predicted and true are {shapes}; both must be (k, q), the same, with 2 rows or more")
    centre = true.double().mean(dim=0)
    ours, theirs = (torch.nn.functional.normalize(rows.double() - centre, dim=1) for rows in (predicted, true))
    likeness = ours @ theirs.T  # (k, k)
    return (likeness > likeness.diagonal()[:, None]).sum(dim=1)
