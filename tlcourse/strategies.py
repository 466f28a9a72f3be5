"""The strategies of the field, each a function that returns a plan, or a schedule of plans.

Lesson 03 uses the first, lesson 04 compares those that are one plan, lesson 05 those that are several, lesson 12 LoRA.
"""

from tlcourse.backbones import Model
from tlcourse.norms import Norm, normalisation_layers
from tlcourse.plans import Plan, Rule, Schedule

__all__ = [
    "bias_only",
    "discriminative",
    "feature_extraction",
    "full_fine_tune",
    "gradual_unfreezing",
    "last_stages",
    "layerwise_decay",
    "lora",
    "lp_ft",
    "norm_only",
]


def feature_extraction(model: Model, *, lr: float = 1e-3, decay: float = 0.01) -> Plan:
    """Everything frozen but the head."""
    return Plan("feature extraction", (Rule("head", lr, decay), Rule("*", 0.0)))


def last_stages(model: Model, count: int, *, lr: float = 1e-4, head_lr: float = 1e-3, decay: float = 0.01) -> Plan:
    """The head and the last ``count`` stages that have parameters; the rest frozen.

    Raises
    ------
    ValueError
        If the backbone has fewer such stages.
    """
    names = [name for name in _with_parameters(model) if name != "head"]
    if not 1 <= count <= len(names):
        raise ValueError(f"last_stages(model, {count}): the backbone has {len(names)} stages with parameters: {names}")
    opened = tuple(Rule(name, lr, decay) for name in names[-count:])
    return Plan(f"last {count} stages", (Rule("head", head_lr, decay), *opened, Rule("*", 0.0)))


def discriminative(
    model: Model, *, lr: float = 1e-3, factor: float = 2.6, lowest: float | None = None, decay: float = 0.01
) -> Plan:
    """The head at ``lr``, and each stage below at the rate above it divided by ``factor``.

    2.6 is the factor of Howard & Ruder 2018 (ULMFiT), section 3.2. With ``lowest``, the factor is the one that gives
    the first stage this rate: fastai's ``slice(lowest, lr)``.

    Raises
    ------
    ValueError
        If an earlier stage would move faster.
    """
    names = _with_parameters(model)
    if lowest is not None:
        if not 0 < lowest <= lr:
            raise ValueError(f"lowest={lowest}: the first stage moves, and no faster than the head at lr={lr}")
        factor = (lr / lowest) ** (1 / max(1, len(names) - 1))
    if not factor >= 1:
        raise ValueError(f"factor={factor}: earlier stages are to move slower, so it is 1 or more")
    rules = tuple(Rule(name, lr / factor**depth, decay) for depth, name in enumerate(reversed(names)))
    return Plan("discriminative", (*rules, Rule("*", 0.0)))


def layerwise_decay(model: Model, *, lr: float = 1e-3, decay: float = 0.75, weight_decay: float = 0.01) -> Plan:
    """The head at ``lr``, and each stage below at the rate above it times ``decay``: stage k of n at decay^(n - k).

    Clark et al. 2020 (ELECTRA), appendix; Bao et al. 2022 (BEiT). It is `discriminative` with 1 / factor, in the words
    of the literature on transformers.

    Raises
    ------
    ValueError
        If ``decay`` is not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay={decay}: earlier stages are to move slower, so it is above 0 and at most 1")
    names = _with_parameters(model)
    rules = tuple(Rule(name, lr * decay**depth, weight_decay) for depth, name in enumerate(reversed(names)))
    return Plan("layer-wise decay", (*rules, Rule("*", 0.0)))


def full_fine_tune(model: Model, *, lr: float = 1e-4, head_lr: float | None = None, decay: float = 0.01) -> Plan:
    """Every stage at ``lr``, the head at ``head_lr`` (default: ``lr``)."""
    head = Rule("head", lr if head_lr is None else head_lr, decay)
    return Plan("full fine-tuning", (head, Rule("*", lr, decay)))


def norm_only(
    model: Model, *, lr: float = 1e-3, head_lr: float = 1e-3, decay: float = 0.01, norm: Norm | str = "train"
) -> Plan:
    """The head, and the scales and shifts of the backbone's normalisation layers (Frankle et al. 2021).

    Parameters
    ----------
    norm
        What their BatchNorm statistics do: "train" lets them follow the batches, "affine" keeps those of the source.

    Raises
    ------
    ValueError
        If the backbone has no normalisation layer with scales and shifts.
    """
    rules = []
    for stage, module in model.backbone.stages.items():
        for name, layer in normalisation_layers(module):
            if any(True for _ in layer.parameters(recurse=False)):
                rules.append(Rule(f"{stage}/{name}.*" if name else stage, lr, decay, norm))
    if not rules:
        raise ValueError(f"norm_only: the backbone {model.backbone.name!r} has no normalisation that could move")
    return Plan("normalisation only", (Rule("head", head_lr, decay), *rules, Rule("*", 0.0)))


def bias_only(
    model: Model, *, lr: float = 1e-3, head_lr: float = 1e-3, decay: float = 0.01, norm: Norm | str = "affine"
) -> Plan:
    """The head and every bias of the backbone, shifts of normalisation included: BitFit (Ben Zaken et al. 2021).

    Parameters
    ----------
    norm
        What BatchNorm statistics do: by default they stay as they are, so that only biases change.
    """
    # A layer obeys the first rule that matches one of its tensors; those without a bias obey the last.
    still = Rule("*", 0.0, norm="frozen")
    return Plan("biases only", (Rule("head", head_lr, decay), Rule("*bias", lr, decay, norm), still))


def lora(
    model: Model,
    *,
    rank: int = 8,
    alpha: float = 16,
    targets: tuple[str, ...] = (),
    lr: float = 1e-3,
    head_lr: float = 1e-3,
    decay: float = 0.0,
    rank_stabilised: bool = False,
    seed: int = 0,
) -> Plan:
    """The head, and a low-rank addition to the frozen weights of the backbone (Hu et al. 2021), which peft adds.

    The addition is made when the plan is applied, once. Nothing else moves, nor do statistics.

    Parameters
    ----------
    targets
        Which layers: patterns of ``stage/layer`` or a layer's last name; see `adapters.inject_lora`. None given: every
        linear layer and convolution.

    Examples
    --------
    >>> from tlcourse import attach_head, load_backbone, load_task
    >>> model = attach_head(load_backbone("efficientnet_lite0", pretrained=False), load_task("digits8"))
    >>> print(lora(model, rank=4, targets=("block7/*",)))
    plan: LoRA
      first: lora 4 16 ('block7/*',) False 0
      head             lr 0.001    decay 0.01
      *lora_*          lr 0.001    decay 0
      *                lr 0        decay 0.01  norm frozen
    """
    rules = (Rule("head", head_lr), Rule("*lora_*", lr, decay), Rule("*", 0.0, norm="frozen"))
    return Plan("LoRA", rules, prepare=(("lora", rank, alpha, tuple(targets), rank_stabilised, seed),))


def lp_ft(
    model: Model,
    *,
    head_epochs: int,
    epochs: int,
    head_lr: float = 1e-3,
    lr: float = 1e-4,
    decay: float = 0.01,
) -> Schedule:
    """First the head alone, then everything from there: features are distorted less (Kumar et al. 2022, LP-FT)."""
    first, then = feature_extraction(model, lr=head_lr, decay=decay), full_fine_tune(model, lr=lr, decay=decay)
    return (first, _at_least_one("head_epochs", head_epochs)), (then, _at_least_one("epochs", epochs))


def gradual_unfreezing(
    model: Model,
    *,
    lr: float = 1e-3,
    factor: float = 2.6,
    epochs_a_stage: int = 1,
    last_epochs: int | None = None,
    decay: float = 0.01,
) -> Schedule:
    """The head, then one stage more from the last to the first, each at the rate above it divided by ``factor``.

    Howard & Ruder 2018 (ULMFiT), section 3.3.

    Parameters
    ----------
    epochs_a_stage
        How long before the next stage is opened.
    last_epochs
        How long once all are open; default: as long as the others.
    """
    opened = discriminative(model, lr=lr, factor=factor, decay=decay).rules[:-1]  # the head's first
    each = _at_least_one("epochs_a_stage", epochs_a_stage)
    last = each if last_epochs is None else _at_least_one("last_epochs", last_epochs)
    return tuple(
        (
            Plan(f"{count} of {len(opened)} stages open", (*opened[:count], Rule("*", 0.0))),
            last if count == len(opened) else each,
        )
        for count in range(1, len(opened) + 1)
    )


def _with_parameters(model: Model) -> list[str]:
    """The stages that can move, the heads last."""
    return [name for name, stage in model.stages.items() if any(True for _ in stage.parameters())]


def _at_least_one(name: str, count: int) -> int:
    if count < 1:
        raise ValueError(f"{name}={count}: at least 1 is needed")
    return count
