"""EWC as other libraries write it: the same number of ``strength`` holds twice as hard in some. Lesson 10 needs it.

Read in their code: Avalanche 0.6.0, ``EWCPlugin.before_backward`` and ``compute_importances`` in
``avalanche/training/plugins/ewc.py``; mammoth at e75a491, ``EwcOn.penalty`` and ``end_task`` in ``models/ewc_on.py``;
van de Ven's continual-learning at e6d795a, ``ContinualLearner.estimate_fisher`` and ``ewc_loss`` in
``models/cl/continual_learner.py``. With n samples in batches of B, d the way from the anchor, and g a gradient of
-log p(y|x):

==========  =======================  ======================================================================
library     what is added            F of one task
==========  =======================  ======================================================================
tlcourse    strength / 2 * F d^2     a mean over n samples
Avalanche   ewc_lambda * F d^2       mean over batches of (batch mean of g)^2, the data's labels
mammoth     e_lambda * F d^2         sum over samples of p(y|x) g^2, the data's labels, over ceil(n / B) B
van de Ven  strength gamma/2 * F d^2 sum over samples, by default over all labels weighted by p, over n - 1
==========  =======================  ======================================================================

Constants can be converted, and `convert_ewc` does it. What F is an estimate of cannot. A square of a batch's mean is,
where gradients average to zero, about 1/B of the mean square, so Avalanche's F, and the lambda that suits it, depend on
the batch size. mammoth's weight p(y|x) gives one of the terms of the exact sum over labels, and it computes them in
training mode, on augmented images.
"""

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

__all__ = ["convert_ewc"]

Library = Literal["tlcourse", "avalanche", "mammoth", "van_de_ven"]
LIBRARIES = ("tlcourse", "avalanche", "mammoth", "van_de_ven")


def convert_ewc(
    strength: float,
    fisher: Mapping[str, Tensor],
    *,
    source: Library,
    target: Library = "tlcourse",
    samples: int | None = None,
    batch_size: int | None = None,
    gamma: float = 1.0,
) -> tuple[float, dict[str, Tensor]]:
    """Strength and Fisher information of one library in the convention of another; the penalty is the same.

    Parameters
    ----------
    strength
        ``ewc_lambda`` of Avalanche, ``e_lambda`` of mammoth, ``reg_strength`` of van de Ven.
    fisher
        Parameter name -> tensor, of one task: convert before you add those of several. Empty for the strength alone.
    samples, batch_size
        From how many, in batches of how many, the other library computed its Fisher: mammoth needs both, van de Ven the
        first. Where ``fisher_n`` cut the pass short, the latter's division is right: give ``math.inf``.
    gamma
        Van de Ven's in online mode, 1 in offline mode: the old Fisher is multiplied by it when a task is added, as in
        `consolidate`, and the sum again in the loss. Elsewhere it is that of `consolidate`, and changes nothing here.

    Returns
    -------
    float, dict
        What ``target`` takes; new tensors.

    Raises
    ------
    ValueError
        If a library is unknown, a number is missing or out of range.

    Examples
    --------
    >>> convert_ewc(0.4, {}, source="avalanche")
    (0.8, {})
    >>> convert_ewc(0.8, {}, source="tlcourse", target="mammoth", samples=64, batch_size=32)
    (0.4, {})
    """
    for name in (source, target):
        if name not in LIBRARIES:
            raise ValueError(f"no convention {name!r}; there are: {', '.join(LIBRARIES)}")
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength={strength}: a number, 0 or more, is needed")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma={gamma}: above 0, and at most 1")
    (theirs, large), (ours, small) = (_constants(name, samples, batch_size, gamma) for name in (source, target))
    scale = large / small
    return strength * theirs / ours / scale, {name: value * scale for name, value in fisher.items()}


def _constants(library: str, samples: float | None, batch_size: int | None, gamma: float) -> tuple[float, float]:
    """What stands before strength * F d^2, and what makes F a mean over the samples."""
    if library in ("tlcourse", "avalanche"):
        return 0.5 if library == "tlcourse" else 1.0, 1.0
    if samples is None or samples < 2:
        raise ValueError(f"samples={samples}: {library!r} needs how many the Fisher information is of, 2 or more")
    if library == "van_de_ven":
        return gamma / 2, 1 - 1 / samples
    if batch_size is None or batch_size < 1 or samples == math.inf:
        raise ValueError(f"batch_size={batch_size}, samples={samples}: 'mammoth' divides by whole batches, give both")
    return 1.0, math.ceil(samples / batch_size) * batch_size / samples
