"""A fully connected network for handwritten digits, without normalisation: nothing in it changes but by a gradient.

Lessons 08 and 10 forget with it, where a moving statistic would be a second cause.
"""

from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing
from tlcourse.grafts import DIGIT_MEAN, DIGIT_STD
from tlcourse.runtime import seeded

__all__ = ["dense_network"]


def dense_network(seed: int = 0, *, width: int = 100, pixels: int = 28 * 28) -> Backbone:
    """Two hidden layers of ReLUs on the pixels, drawn from the seed: stages ``pixels``, ``hidden1``, ``hidden2``.

    Parameters
    ----------
    width
        Of both hidden layers; the features are those of the second.
    pixels
        Of an image, height times width; only the first of its channels is read, for digits are grey.

    Examples
    --------
    >>> import torch
    >>> backbone = dense_network()
    >>> list(backbone.stages), backbone(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
    (['pixels', 'hidden1', 'hidden2'], torch.Size([2, 100]))
    """
    with seeded(seed):
        first, second = nn.Linear(pixels, width), nn.Linear(width, width)
    return Backbone(
        "dense_network",
        {
            "pixels": _GreyPixels(),
            "hidden1": nn.Sequential(first, nn.ReLU()),
            "hidden2": nn.Sequential(second, nn.ReLU()),
        },
        feature_dim=width,
        preprocessing=ImagePreprocessing(mean=(DIGIT_MEAN,) * 3, std=(DIGIT_STD,) * 3),
        pretrained=False,
    ).eval()


class _GreyPixels(nn.Module):
    def forward(self, images):
        return images[:, 0].flatten(1)  # (n, pixels)
