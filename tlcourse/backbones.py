"""A pre-trained network as an ordered row of named stages, and a model as a backbone with heads.

Everything else in the course is read off this picture: a plan gives each stage a rate, a probe reads what a stage puts
out, a cache keeps it. Lesson 03 introduces it, lesson 11 fills the zoo.
"""

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tlcourse.masked import Masked
from tlcourse.runtime import seeded
from tlcourse.text_stages import POOLINGS, text_stages

__all__ = [
    "Backbone",
    "ImagePreprocessing",
    "Model",
    "TextPreprocessing",
    "attach_head",
    "load_embedded",
    "load_text_preprocessing",
]

State = Tensor | Masked


@dataclass(frozen=True)
class ImagePreprocessing:
    """What a backbone expects of an image: it is part of the model, as lesson 03 measures.

    Called with uint8 images (n, 1 or 3, H, W) in 0..255, or float images in 0..1, it returns float32 (n, 3, H, W),
    normalised, channels last in memory.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    modality = "image"

    def __call__(self, images: Tensor) -> Tensor:
        if images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (n, 1 or 3, H, W), not {tuple(images.shape)}")
        x = images.float().div_(255) if images.dtype == torch.uint8 else images.float()
        mean = torch.tensor(self.mean, device=x.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(1, 3, 1, 1)
        x = (x - mean) / std  # a single channel is repeated by broadcasting: (n, 3, H, W)
        return x.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TextPreprocessing:
    """Which tokenizer a backbone reads: tokens from another one are meaningless to it.

    ``folder`` holds the tokenizer's files. Called with `Masked` token ids (n, L) it returns them unchanged.
    """

    name: str
    folder: Path

    modality = "text"

    def __call__(self, tokens: Masked) -> Masked:
        if not isinstance(tokens, Masked):
            raise TypeError(f"a text backbone takes Masked token ids, not {type(tokens).__name__}: see load_task")
        return tokens

    def tokenize(self, texts: Iterable[str], *, max_length: int) -> Masked:
        """Token ids and mask (n, L), L <= max_length; longer texts are cut."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        batch = tokenizer(list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        return Masked(batch["input_ids"], batch["attention_mask"].bool())

    def digest(self) -> str:
        """SHA-256 of the tokenizer's files, for cache keys: two tokenizers may go by one name."""
        total = hashlib.sha256()
        for file in sorted(Path(self.folder).glob("*")):
            if file.suffix in (".json", ".txt", ".model"):
                total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return total.hexdigest()


class Backbone(nn.Module):
    """An ordered row of named stages whose composition is the pre-trained network without its classifier.

    Attributes
    ----------
    stages
        Name -> module, in the order of execution. Each takes and returns the state of a batch: a tensor for images,
        `Masked` hidden states for texts. The last one returns features (n, feature_dim).
    preprocessing
        From what a task holds (uint8 images, token ids) to what the first stage takes.
    """

    def __init__(
        self,
        name: str,
        stages: dict[str, nn.Module],
        *,
        feature_dim: int,
        preprocessing: ImagePreprocessing | TextPreprocessing,
        pretrained: bool,
    ) -> None:
        super().__init__()
        self.name, self.feature_dim, self.pretrained = name, feature_dim, pretrained
        self.preprocessing = preprocessing
        self.stages = nn.ModuleDict(stages)

    def forward(self, inputs: State) -> Tensor:
        """Features (n, feature_dim) of raw inputs."""
        return self.run(self.preprocessing(inputs))

    def run(self, state: State, *, start: int = 0, stop: int | None = None) -> State:
        """Send a state through ``stages[start:stop]``."""
        for stage in list(self.stages.values())[start:stop]:
            state = stage(state)
        return state


class Model(nn.Module):
    """A backbone and the heads of its tasks. The stage ``head`` stands for all of its heads.

    `plans.apply_plan` notes here the frozen stages, and the BatchNorm layers whose mode is not their stage's;
    ``train()`` obeys, whoever calls it. What it did to prepare the model is noted too.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict()
        self.frozen_stages: frozenset[str] = frozenset()
        self.norm_modes: dict[tuple[str, str], bool] = {}  # (stage, layer) -> in train mode while the model is?
        self.prepared: frozenset[tuple] = frozenset()

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Name -> module of every stage, the heads last."""
        return {**dict(self.backbone.stages.items()), "head": self.heads}

    def forward(self, inputs: State, *, head: str | None = None) -> Tensor:
        """Logits (n, classes) of raw inputs."""
        return self.run(self.backbone.preprocessing(inputs), head=head)

    def run(self, state: State, *, start: int = 0, head: str | None = None) -> Tensor:
        """Logits (n, classes) of a state that enters stage number ``start``."""
        return self.heads[self.head_name(head)](self.backbone.run(state, start=start))

    def head_name(self, head: str | None) -> str:
        """The asked-for head, or the only one."""
        if head is None and len(self.heads) == 1:
            return next(iter(self.heads))
        if head not in self.heads:
            raise KeyError(f"this model has the heads {list(self.heads)}; {head!r} was asked for: name one with head=")
        return head

    def add_head(self, name: str, classes: int, *, seed: int = 0) -> None:
        """Add a linear head on the backbone's device, drawn from its own seed; the global random state stays."""
        if name in self.heads:
            raise KeyError(f"this model already has a head {name!r}")
        with seeded(seed):
            head = nn.Linear(self.backbone.feature_dim, classes)  # on the CPU: the same draws for every device
        self.heads[name] = head.to(next(self.backbone.parameters()).device)

    def train(self, mode: bool = True) -> "Model":
        super().train(mode)
        for name in self.frozen_stages:
            self.stages[name].eval()
        for (stage, layer), trains in self.norm_modes.items():
            self.stages[stage].get_submodule(layer).train(mode and trains)
        return self


def load_embedded(name: str, *, pretrained: bool = True, seed: int = 0, pooling: str = "mean") -> Backbone:
    """Load a backbone that comes with the course; `zoo.load_backbone` loads these and all others.

    Parameters
    ----------
    name
        ``"efficientnet_lite0"`` or ``"minilm"``.
    pretrained
        False gives the same network with random weights, drawn from ``seed``: the start of "from scratch".
    pooling
        How a text's tokens become its features: ``"mean"``, ``"cls"`` or ``"max"``.

    Raises
    ------
    KeyError
        If the name is another one.
    ValueError
        If the pooling is unknown, or given where it means nothing.
    tlcourse.sources.SourceError
        If the embedded package is missing or altered.

    Examples
    --------
    >>> backbone = load_embedded("efficientnet_lite0", pretrained=False)
    >>> list(backbone.stages)[:3], backbone.feature_dim
    (['stem', 'block1', 'block2'], 1280)
    """
    if name not in ("efficientnet_lite0", "minilm"):
        raise KeyError(f"no backbone {name!r} comes with the course; there are: efficientnet_lite0, minilm")
    if pooling not in POOLINGS or (pooling != "mean" and name != "minilm"):
        raise ValueError(f"pooling={pooling!r} for {name!r}: text backbones take one of {', '.join(POOLINGS)}")
    with seeded(seed):
        backbone = _minilm(pretrained, pooling) if name == "minilm" else _efficientnet_lite0(pretrained)
    return backbone.eval()


def load_text_preprocessing(name: str) -> TextPreprocessing:
    """The tokenizer of the text backbone that comes with the course, without its weights.

    Raises
    ------
    ValueError
        If the name is another one than ``"minilm"``: the tokenizer of any other comes with the loaded backbone.
    """
    from tlcourse.sources import package_path

    if name != "minilm":
        raise ValueError(
            f"{name!r} is no text backbone that comes with the course, as minilm is: where it is another one, "
            f"give it loaded, backbone=load_backbone({name!r})"
        )
    return TextPreprocessing(name=name, folder=package_path(name))


def attach_head(backbone: Backbone, task, *, seed: int = 0) -> Model:
    """A model of a copy of the backbone and a new linear head for the task, named like the task.

    Raises
    ------
    ValueError
        If the task holds images and the backbone reads texts or the other way round, or if its tokens are not this
        backbone's.
    """
    reads, holds = backbone.preprocessing, task.preprocessing_name
    if (reads.modality == "text") != (holds is not None):
        kind = "texts" if holds else "images"
        raise ValueError(f"task {task.name!r} holds {kind}, but backbone {backbone.name!r} reads {reads.modality}s")
    if holds is not None and holds != reads.name:
        raise ValueError(
            f"task {task.name!r} was tokenised for {holds!r}, but backbone {backbone.name!r} reads {reads.name!r}: "
            "make the task with backbone=, the loaded backbone"
        )
    model = Model(copy.deepcopy(backbone))
    model.add_head(task.name, len(task.class_names), seed=seed)
    return model.eval()


def _efficientnet_lite0(pretrained: bool) -> Backbone:
    import timm

    from tlcourse.sources import package_path

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        packaged = torch.load(package_path("efficientnet_lite0"), map_location="cpu", weights_only=True)
        own = network.state_dict()
        shapes = [tuple(tensor.shape) for tensor in packaged.values()]
        if shapes != [tuple(tensor.shape) for tensor in own.values()]:
            raise RuntimeError("timm's tf_efficientnet_lite0 no longer has the tensors of the packaged weights")
        # The same tensors in the same order under the names of another implementation.
        network.load_state_dict(dict(zip(own, packaged.values(), strict=True)))
    stages = {"stem": nn.Sequential(network.conv_stem, network.bn1)}
    stages |= {f"block{number}": block for number, block in enumerate(network.blocks, start=1)}
    stages["neck"] = nn.Sequential(network.conv_head, network.bn2, network.global_pool)
    half = (0.5, 0.5, 0.5)
    return Backbone(
        "efficientnet_lite0",
        stages,
        feature_dim=network.num_features,
        preprocessing=ImagePreprocessing(mean=half, std=half),
        pretrained=pretrained,
    )


def _minilm(pretrained: bool, pooling: str) -> Backbone:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    preprocessing = load_text_preprocessing("minilm")
    shows_bars = logging.is_progress_bar_enabled()
    try:
        if pretrained:
            logging.disable_progress_bar()
            encoder = AutoModel.from_pretrained(preprocessing.folder, use_safetensors=True)
        else:
            encoder = AutoModel.from_config(AutoConfig.from_pretrained(preprocessing.folder))
    finally:
        if shows_bars:
            logging.enable_progress_bar()
    return Backbone(
        "minilm" if pooling == "mean" else f"minilm ({pooling})",
        text_stages(encoder, pooling=pooling),
        feature_dim=encoder.config.hidden_size,
        preprocessing=preprocessing,
        pretrained=pretrained,
    )
