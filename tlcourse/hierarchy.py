"""What each stage of a network knows: pooled features of all stages at once, a probe at each, units and their maps.

Lesson 02 reads the feature hierarchy off these: early stages hold edges and colours, late ones what the source task was
about. Lesson 08 asks with `drift` which stages a new task has moved.
"""

from collections.abc import Callable, Sequence

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from tlcourse.backbones import Backbone, Model, attach_head
from tlcourse.caching import evaluating, extract_features
from tlcourse.data import Task
from tlcourse.evaluation import metrics
from tlcourse.masked import Masked
from tlcourse.probes import STRENGTHS, fit_probe
from tlcourse.similarity import cka_matrix
from tlcourse.text_stages import Pool

__all__ = ["activation_maps", "drift", "max_pool", "mean_pool", "probe_stages", "stage_features", "top_inputs"]

Pooling = Callable[[Tensor | Masked], Tensor]


def mean_pool(state: Tensor | Masked) -> Tensor:
    """One row a sample (n, d): the mean over space of maps (n, d, h, w), over the real tokens of `Masked` (n, L, d)."""
    if isinstance(state, Masked):
        return Pool("mean")(state)
    return state.flatten(2).mean(dim=2) if state.dim() > 2 else state


def max_pool(state: Tensor | Masked) -> Tensor:
    """One row a sample (n, d): the largest value over space or over the real tokens."""
    if isinstance(state, Masked):
        return Pool("max")(state)
    return state.flatten(2).amax(dim=2) if state.dim() > 2 else state


def stage_features(
    network: Backbone | Model,
    inputs: Tensor | Masked,
    *,
    pool: Pooling = mean_pool,
    batch_size: int = 128,
    device: torch.device | None = None,
) -> dict[str, Tensor]:
    """The pooled output of every stage, in one pass over the data, in eval mode and float32.

    Parameters
    ----------
    network
        A backbone, or a model whose backbone is meant.
    inputs
        uint8 images (n, C, H, W) or `Masked` token ids (n, L).
    pool
        From the state of a batch to (n, d): `mean_pool`, `max_pool` or your own.
    device
        Where to compute; the network is moved there. None stays where it is. The result stays there too.

    Returns
    -------
    dict
        Stage -> (n, d), in the order of execution. A later stage that works in place does not change them.

    Raises
    ------
    ValueError
        If there are no inputs, or ``pool`` does not return one row a sample.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> features = stage_features(backbone, torch.zeros(2, 1, 32, 32, dtype=torch.uint8))
    >>> {name: tuple(values.shape) for name, values in list(features.items())[:2]}
    {'stem': (2, 32), 'block1': (2, 16)}
    """
    backbone = backbone_of(network)
    if len(inputs) == 0:
        raise ValueError("there are no inputs to compute features of")
    _check_batch_size(batch_size)
    if device is not None:
        backbone.to(device)
    where = next(backbone.parameters()).device
    parts: dict[str, list[Tensor]] = {name: [] for name in backbone.stages}
    with evaluating(backbone):
        for start in range(0, len(inputs), batch_size):
            batch = inputs[start : start + batch_size].to(where)
            state = backbone.preprocessing(batch)
            for name, stage in backbone.stages.items():
                state = stage(state)
                # A copy: where pooling returns the state itself, the next stage may overwrite it in place.
                parts[name].append(_rows(pool, state, stage=name, samples=len(batch)).clone())
    return {name: torch.cat(values) for name, values in parts.items()}


def probe_stages(
    backbone: Backbone | Model,
    task: Task,
    *,
    pool: Pooling = mean_pool,
    strengths: Sequence[float] = STRENGTHS,
    batch_size: int = 128,
) -> dict[str, dict[str, float]]:
    """A logistic probe on the pooled output of every stage: where in the network the task can be read off.

    Each probe learns on the training split, chooses its ``C`` on validation and is scored on the test split.

    Returns
    -------
    dict
        Stage -> what `evaluation.metrics` returns, and ``C``; in the order of execution.

    Raises
    ------
    ValueError
        If the backbone cannot read the task.

    Examples
    --------
    >>> from tlcourse import digit_network, load_task
    >>> scores = probe_stages(digit_network(), load_task("digits8", labels=30), strengths=(0.01,))
    >>> len(scores), sorted(scores["conv1"])
    (6, ['C', 'accuracy', 'auc', 'balanced_accuracy', 'calibration_error', 'log_loss'])
    """
    network = attach_head(backbone_of(backbone), task)  # refuses a task that this backbone cannot read
    train, val, test = (
        stage_features(network, split.inputs, pool=pool, batch_size=batch_size)
        for split in (task.train, task.val, task.test)
    )
    scores = {}
    # On matrices this small, two threads of linear algebra take twice as long as one.
    with threadpool_limits(1, user_api="blas"):
        for name in train:
            validation = (val[name], task.val.labels)
            probe = fit_probe(train[name], task.train.labels, validation=validation, strengths=strengths)
            scores[name] = metrics(task.test.labels, probe.probabilities(test[name])) | {"C": probe.C}
    return scores


def drift(
    before: Backbone | Model,
    after: Backbone | Model,
    inputs: Tensor | Masked,
    *,
    pool: Pooling = mean_pool,
    batch_size: int = 128,
) -> list[dict]:
    """How far training has moved each stage: in what it puts out for these inputs, and in its weights.

    The two need not agree: features move where the weights of an *earlier* stage have, and a rotation of the features
    moves every weight but no CKA.

    Returns
    -------
    list of dict
        ``stage``; ``features``: 1 - debiased CKA; ``weights``: the norm of the change of the stage's parameters over
        their norm before, 0 where it has none (running statistics are no parameters). In the order of execution.

    Raises
    ------
    ValueError
        If the two networks differ in their stages or in the shapes of their parameters, or features do not vary.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> images = torch.randint(0, 256, (8, 1, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    >>> {row["weights"] for row in drift(backbone, backbone, images)}
    {0.0}
    """
    old, new = backbone_of(before), backbone_of(after)
    shapes = [{key: tuple(value.shape) for key, value in part.stages.named_parameters()} for part in (old, new)]
    if list(old.stages) != list(new.stages) or shapes[0] != shapes[1]:
        raise ValueError(
            f"drift compares a network with a later state of itself, but {old.name!r} and {new.name!r} differ in "
            "their stages or in the shapes of their parameters"
        )
    features = [stage_features(part, inputs, pool=pool, batch_size=batch_size) for part in (old, new)]
    rows = []
    for name, stage in old.stages.items():
        first = [parameter.detach().flatten() for parameter in stage.parameters()]
        last = [parameter.detach().flatten().to(first[0].device) for parameter in new.stages[name].parameters()]
        moved = 0.0
        if first:
            anchor = torch.cat(first)
            moved = float((torch.cat(last) - anchor).norm() / anchor.norm())
        # As a matrix of one entry, so that an error names the stage and the network.
        alike = cka_matrix({f"{name} before": features[0][name]}, {f"{name} after": features[1][name]})
        rows.append({"stage": name, "features": 1 - float(alike), "weights": moved})
    return rows


def activation_maps(backbone: Backbone | Model, image: Tensor, *, stage: str) -> Tensor:
    """What every channel of a stage puts out for one image, place by place.

    Parameters
    ----------
    image
        (1 or 3, H, W): uint8, or float in 0..1.

    Returns
    -------
    Tensor
        (C, h, w); (C,) for a stage that has pooled space away.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> activation_maps(backbone, torch.zeros(3, 32, 32, dtype=torch.uint8), stage="stem").shape
    torch.Size([32, 16, 16])
    """
    if image.dim() != 3:
        raise ValueError(f"image must be (1 or 3, H, W), one image without a batch axis, not {tuple(image.shape)}")
    return extract_features(backbone, image[None], stop=stage_number(backbone, stage) + 1)[0]


def top_inputs(
    backbone: Backbone | Model,
    inputs: Tensor | Masked,
    *,
    stage: str,
    channel: int,
    count: int = 9,
    pool: Pooling = max_pool,
    batch_size: int = 128,
) -> tuple[Tensor, Tensor]:
    """The samples that excite a unit most, the strongest first.

    Parameters
    ----------
    pool
        What "excite" means: `max_pool`, at its best place, or `mean_pool`, all over the image.

    Returns
    -------
    index, activation
        int64 and float32 (count,): rows of ``inputs``, and how strongly each excites the unit. Of equals the first
        comes first.

    Raises
    ------
    ValueError
        If there is no such channel, or ``count`` is not in 1..n.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> images = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    >>> backbone = load_backbone("efficientnet_lite0", pretrained=False)
    >>> index, activation = top_inputs(backbone, images, stage="block2", channel=5, count=2)
    >>> index.shape, bool(activation[0] >= activation[1])
    (torch.Size([2]), True)
    """
    stop = stage_number(backbone, stage) + 1
    if not 1 <= count <= len(inputs):
        raise ValueError(f"count={count}: there are {len(inputs)} inputs")
    _check_batch_size(batch_size)
    excitement = []
    for start in range(0, len(inputs), batch_size):
        batch = inputs[start : start + batch_size]
        pooled = _rows(pool, extract_features(backbone, batch, stop=stop), stage=stage, samples=len(batch))
        check_channel(channel, pooled.shape[1], stage)
        excitement.append(pooled[:, channel])
    activation, index = torch.cat(excitement).sort(descending=True, stable=True)
    return index[:count], activation[:count]


def stage_number(network: Backbone | Model, stage: str) -> int:
    """Where in the order of execution a stage stands, from 0."""
    names = list(backbone_of(network).stages)
    if stage not in names:
        raise ValueError(f"no stage {stage!r}; there are: {', '.join(names)}")
    return names.index(stage)


def check_channel(channel: int, width: int, stage: str) -> None:
    """Refuse a channel that a stage of this width does not have."""
    if not 0 <= channel < width:
        raise ValueError(f"channel={channel}: stage {stage!r} has the channels 0 to {width - 1}")


def backbone_of(network: Backbone | Model) -> Backbone:
    """The backbone itself, or the one that a model is built on."""
    return network.backbone if isinstance(network, Model) else network


def _rows(pool: Pooling, state: Tensor | Masked, *, stage: str, samples: int) -> Tensor:
    """The pooled state (samples, d)."""
    pooled = pool(state)
    if pooled.dim() != 2 or len(pooled) != samples:
        raise ValueError(
            f"pool made {tuple(pooled.shape)} of the output of stage {stage!r} for {samples} samples: "
            "it must return one row a sample"
        )
    return pooled


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: at least 1 is needed")
