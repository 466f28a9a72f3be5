"""A class for every pixel: a dense head on the stages of a backbone, under the same plans. Lesson 07 compares them.

Classification reads what the last stage puts out, pooled; segmentation has to know where, and the early stages do. The
dense head is the counterpart of the linear one: at each pixel it is linear in what the named stages put out there.

`training.train` scores by `evaluation.metrics`, which takes one label a sample; masks train by `loops.run_epochs`.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import evaluating
from tlcourse.data import Split, Task
from tlcourse.loops import run_epochs
from tlcourse.plans import Plan, apply_plan
from tlcourse.run import History
from tlcourse.runtime import pick_device, seeded

__all__ = ["DenseModel", "attach_dense_head", "evaluate_segmentation", "segmentation_scores", "train_segmentation"]


class DenseModel(Model):
    """A backbone and dense heads, which read several of its stages; plans see it as they see any model."""

    def run(self, state: Tensor, *, start: int = 0, head: str | None = None) -> Tensor:
        """Logits (n, classes, H, W) of preprocessed images (n, 3, H, W)."""
        if start:
            raise ValueError(
                f"start={start}: a dense head reads early stages too, so every pass starts from the images"
            )
        size, maps = state.shape[-2:], {}
        for name, stage in self.backbone.stages.items():
            maps[name] = state = stage(state)
        return self.heads[self.head_name(head)](maps, size)


class _DenseHead(nn.Module):
    """The sum of 1x1 convolutions of standardised stages, each brought to the size of the image."""

    def __init__(self, channels: dict[str, int], classes: int) -> None:
        super().__init__()
        # Stages put out numbers of very different size: standardised, one rate serves them all.
        self.scores = nn.ModuleDict(
            {
                name: nn.Sequential(nn.BatchNorm2d(width, affine=False), nn.Conv2d(width, classes, 1))
                for name, width in channels.items()
            }
        )

    def forward(self, maps: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        # Upsampling is linear: to do it after the convolution gives the same and costs less.
        return sum(
            F.interpolate(score(maps[name]), size=size, mode="bilinear", align_corners=False)
            for name, score in self.scores.items()
        )


def attach_dense_head(
    backbone: Backbone, task: Task, *, stages: Sequence[str] | None = None, seed: int = 0
) -> DenseModel:
    """A model of a copy of the backbone and a new dense head for the task, named like the task.

    A linear classifier of each pixel's hypercolumn (Hariharan et al. 2015, section 3): what the named stages put out,
    standardised and brought to the size of the image. Sums of scores from several depths: Long et al. 2015, section 4.

    Parameters
    ----------
    task
        With masks as labels, such as that of `pasted.paste_digits`.
    stages
        Which the head reads; each must put out maps (n, C, h, w). None takes the last one of every size. What follows
        the last of them, such as the pooling, is left out of the model, so that ``last_stages`` counts what is used.
    seed
        Draws the head.

    Raises
    ------
    ValueError
        If the task's labels are no masks, a stage is unknown or puts out no map, or none does.

    Examples
    --------
    >>> from tlcourse import load_backbone
    >>> from tlcourse.pasted import paste_digits
    >>> task = paste_digits(samples=20, classes=1)
    >>> model = attach_dense_head(load_backbone("efficientnet_lite0", pretrained=False), task)
    >>> list(model.heads[task.name].scores), model(task.val.inputs).shape
    (['block1', 'block2', 'block3', 'block5', 'block7'], torch.Size([3, 2, 64, 64]))
    """
    if task.train.labels.dim() != 3:
        raise ValueError(f"the labels of task {task.name!r} are {tuple(task.train.labels.shape)}: masks are (n, H, W)")
    shapes, state = {}, task.train.inputs[:1].to(next(backbone.parameters()).device)
    with evaluating(backbone):
        state = backbone.preprocessing(state)
        for name, stage in backbone.stages.items():
            state = stage(state)
            shapes[name] = tuple(state.shape) if isinstance(state, Tensor) else ()
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 4}
    if stages is None:
        last = {shape[-2:]: name for name, shape in maps.items()}
        stages = [name for name in maps if name in last.values()]
    for name in stages:
        if name not in maps:
            raise ValueError(f"stage {name!r} puts out no map (n, C, h, w); those that do: {', '.join(maps) or 'none'}")
    if not stages:
        raise ValueError(f"no stage of backbone {backbone.name!r} is named that puts out a map (n, C, h, w)")
    names = list(backbone.stages)
    used = names[: 1 + max(names.index(name) for name in stages)]
    trunk = Backbone(
        backbone.name,
        {name: copy.deepcopy(backbone.stages[name]) for name in used},
        feature_dim=maps[used[-1]][1],
        preprocessing=backbone.preprocessing,
        pretrained=backbone.pretrained,
    )
    model = DenseModel(trunk)
    with seeded(seed):
        head = _DenseHead({name: maps[name][1] for name in used if name in stages}, len(task.class_names))
    model.heads[task.name] = head.to(next(trunk.parameters()).device)
    return model.eval()


def train_segmentation(
    model: DenseModel,
    task: Task,
    plan: Plan,
    *,
    epochs: int = 10,
    batch_size: int = 16,
    seed: int = 0,
    head: str | None = None,
    device: str | torch.device | None = None,
) -> History:
    """Train on masks as the plan says: AdamW, the mean cross-entropy of all pixels, cosine rates after a warm-up.

    Parameters
    ----------
    model
        Changed in place, and left on the device in eval mode.
    head
        Which head; default: the task's own.

    Returns
    -------
    History
        ``val`` holds what `evaluate_segmentation` returns.

    Raises
    ------
    ValueError
        If a number is out of range, or the plan does not fit the model.
    FloatingPointError
        If the loss stops being a number.

    Examples
    --------
    >>> from tlcourse import digit_network, feature_extraction
    >>> from tlcourse.pasted import paste_digits
    >>> task = paste_digits(samples=20, classes=1)
    >>> model = attach_dense_head(digit_network(), task)
    >>> len(train_segmentation(model, task, feature_extraction(model), epochs=2).train_loss)
    2
    """
    where, name = pick_device(device), model.head_name(head or task.name)
    model.to(where, memory_format=torch.channels_last)
    apply_plan(model, plan)
    train = task.train.to(where)

    def loss_of(index: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
        index = index.to(where)
        logits = model(train.inputs[index], head=name)  # (n, classes, H, W)
        return F.cross_entropy(logits, train.labels[index]), len(index)

    return run_epochs(
        model,
        plan,
        loss_of,
        rows=len(train),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=where,
        score=lambda: evaluate_segmentation(model, task.val, head=name, batch_size=batch_size),
    )


def evaluate_segmentation(
    model: DenseModel, split: Split, *, head: str | None = None, batch_size: int = 64
) -> dict[str, float]:
    """Scores of a model on a split of masks, in eval mode and float32; the model is left as it was.

    Returns
    -------
    dict
        What `segmentation_scores` returns, and ``log_loss``: the mean cross-entropy of all pixels, in nats.
    """
    where = next(model.parameters()).device
    predictions, total = [], 0.0
    with evaluating(model):
        for first in range(0, len(split), batch_size):
            logits = model(split.inputs[first : first + batch_size].to(where), head=head)
            masks = split.labels[first : first + batch_size].to(where)
            total += F.cross_entropy(logits, masks, reduction="sum").item()
            predictions.append(logits.argmax(dim=1))
    classes = logits.shape[1]
    scores = segmentation_scores(split.labels.to(where), torch.cat(predictions), classes=classes)
    return {**scores, "log_loss": total / split.labels.numel()}


def segmentation_scores(masks: Tensor, predictions: Tensor, *, classes: int) -> dict[str, float]:
    """Scores from true and predicted classes of pixels, counted over all images together.

    Parameters
    ----------
    masks, predictions
        int64 (n, H, W), or any one shape, from 0; class 0 is the background.
    classes
        How many there are, the background included.

    Returns
    -------
    dict
        ``pixel_accuracy``; ``mean_iou``: of every class, the pixels that both have over those that either has
        (Everingham et al. 2010, section 4.4), and their mean; ``foreground_iou``: the mean without the background. A
        class that neither has is left out; one that is only predicted, or only true, counts 0. ``foreground_iou`` is
        NaN where there is nothing but background.

    Raises
    ------
    ValueError
        If the shapes differ, there is no pixel, or a class lies outside of 0 to ``classes - 1``.

    Examples
    --------
    >>> scores = segmentation_scores(torch.tensor([[0, 0], [1, 1]]), torch.tensor([[0, 1], [1, 1]]), classes=3)
    >>> scores["pixel_accuracy"], round(scores["mean_iou"], 4), round(scores["foreground_iou"], 4)
    (0.75, 0.5833, 0.6667)
    """
    if masks.shape != predictions.shape or not masks.numel():
        raise ValueError(f"masks {tuple(masks.shape)} and predictions {tuple(predictions.shape)}: pixels do not pair")
    for name, values in {"masks": masks, "predictions": predictions}.items():
        if values.is_floating_point() or values.min() < 0 or values.max() >= classes:
            raise ValueError(
                f"{name} hold {values.dtype} from {values.min().item()} to {values.max().item()}: {classes} classes "
                f"are counted from 0 to {classes - 1}"
            )
    pairs = torch.bincount(masks.flatten() * classes + predictions.flatten(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes).double()  # (true, predicted)
    both = confusion.diag()
    either = confusion.sum(dim=0) + confusion.sum(dim=1) - both
    present = either > 0
    overlap = both / either
    return {
        "pixel_accuracy": float(both.sum() / confusion.sum()),
        "mean_iou": float(overlap[present].mean()),
        "foreground_iou": float(overlap[1:][present[1:]].mean()),
    }
