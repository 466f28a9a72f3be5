"""The zoo: published models of many families, each as a row of stages. Lesson 11 walks through it.

Whatever its family, a model is loaded by one call, and then frozen, fine-tuned, probed and cached by those that the
other lessons use. By name it comes over the network once, at a pinned commit and with its checksum; from a folder, as
``save_pretrained`` writes it, it needs no network at all.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, TextPreprocessing, load_embedded
from tlcourse.causal_stages import CAUSAL_FAMILIES, RightPadded, causal_stages
from tlcourse.downloads import fetch_file, fetch_snapshot
from tlcourse.published import ZOO, Published
from tlcourse.runtime import seeded
from tlcourse.text_stages import FAMILIES, text_stages
from tlcourse.tower_stages import TOWER_FAMILIES, tower_stages
from tlcourse.vision_stages import vision_stages

__all__ = ["ZOO", "load_backbone"]

TRANSFORMERS = (*FAMILIES, *CAUSAL_FAMILIES, *TOWER_FAMILIES)
# What is read beside the weights: the configuration, what was done to images, the tokenizer.
DESCRIPTIONS = (
    *("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spm.model"),
)


def load_backbone(
    name_or_folder: str | Path,
    *,
    pretrained: bool = True,
    revision: str | None = None,
    tower: str | None = None,
    pooling: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a published model, or one in a folder, as a row of stages.

    Parameters
    ----------
    name_or_folder
        A name of `ZOO`; or a folder with a network that ``save_pretrained`` of transformers wrote (BERT, RoBERTa,
        DeBERTa-v2, GPT-2, LLaMA, CLIP, BLIP) together with its tokenizer or its image processor, or one that
        ``save_for_hf`` of timm wrote (ResNet, EfficientNet, vision transformer).
    pretrained
        False gives the same network with random weights, drawn from ``seed``.
    revision
        Another commit of the hub than the one pinned in `ZOO`; its checksum is then not known, and not checked.
    tower
        ``"vision"`` or ``"text"``, for a folder with a CLIP or BLIP.
    pooling
        How a text's tokens become its features: ``"mean"``, ``"cls"`` or ``"max"`` for encoders (the first by default),
        ``"last"``, ``"mean"`` or ``"max"`` for decoders. CLIP and BLIP pool in their own way.

    Returns
    -------
    Backbone
        In eval mode, in float32, without a head.

    Raises
    ------
    KeyError
        If there is no such name and no such folder; the message lists names that are near.
    ValueError
        If the folder cannot be read, holds no network that is known here, or not all of its weights; or if an option
        has no meaning for it.
    RuntimeError
        If it cannot be fetched, or what came is not what was published; the message says what to do.

    Examples
    --------
    >>> backbone = load_backbone("resnet18", pretrained=False)
    >>> list(backbone.stages), backbone.feature_dim
    (['stem', 'layer1', 'layer2', 'layer3', 'layer4', 'neck'], 512)
    """
    name, entry = str(name_or_folder), ZOO.get(str(name_or_folder))
    folder = Path(name_or_folder)
    if entry is None and not (folder / "config.json").is_file():
        near = get_close_matches(name.lower(), ZOO, n=4, cutoff=0.4)  # names of the zoo are in lower case
        hint = f"near it: {', '.join(near)}; all" if near else "there are"
        raise KeyError(f"no model {name!r} in the zoo, and no folder with a config.json; {hint}: {', '.join(ZOO)}")
    on_hub = entry is not None and "/" in entry.source
    if revision is not None and not on_hub:
        raise ValueError(f"revision={revision!r}: {name!r} does not come from the hub, where revisions are")
    if entry is not None and tower not in (None, entry.tower):
        found = f"the {entry.tower} tower" if entry.tower else "one network"
        raise ValueError(f"tower={tower!r}: {name!r} is {found}")
    if entry is not None and not on_hub:
        backbone = _without_hub(name, entry, pretrained, pooling, seed)
    else:
        if on_hub:
            folder, tower = _fetched(entry, pretrained, revision), entry.tower
        with seeded(seed):
            backbone = _from_folder(folder, name, pretrained=pretrained, tower=tower, pooling=pooling)
    return backbone.eval()


def _fetched(entry: Published, pretrained: bool, revision: str | None) -> Path:
    files = [*DESCRIPTIONS, entry.weights] if pretrained else DESCRIPTIONS
    sha256 = {entry.weights: entry.sha256} if pretrained and revision is None else {}
    return fetch_snapshot(entry.source, revision=revision or entry.revision, files=files, sha256=sha256)


def _without_hub(name: str, entry: Published, pretrained: bool, pooling: str | None, seed: int) -> Backbone:
    """The models of the course, and those of torchvision."""
    if pooling is not None and name != "minilm":
        raise ValueError(f"pooling={pooling!r}: {name!r} reads images, which are pooled in their own way")
    if entry.library == "torchvision" and pretrained:
        import torchvision

        url = torchvision.models.get_model_weights(entry.source)[entry.revision].url
        beginning = url.rpartition("-")[2].partition(".")[0]  # resnet18-f37072fd.pth
        fetch_file(url, Path(torch.hub.get_dir()) / "checkpoints", sha256=beginning)
    if entry.revision is None:
        return load_embedded(name, pretrained=pretrained, seed=seed, pooling=pooling or "mean")
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(entry.source)[entry.revision]
    with seeded(seed):
        network = get_model(entry.source, weights=weights if pretrained else None)
    norm = weights.transforms()
    stages, feature_dim = vision_stages(network)
    preprocessing = ImagePreprocessing(mean=tuple(norm.mean), std=tuple(norm.std))
    return Backbone(name, stages, feature_dim=feature_dim, preprocessing=preprocessing, pretrained=pretrained)


def _from_folder(folder: Path, name: str, *, pretrained: bool, tower: str | None, pooling: str | None) -> Backbone:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{name!r}: its config.json is no JSON ({error})") from error
    kind = config.get("model_type", config.get("architecture"))
    _check_options(name, kind, tower, pooling, of_timm="architecture" in config)
    read = _timm if "architecture" in config else _transformer
    try:
        with _quiet():
            network, missing = read(folder, kind, pretrained)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{name!r} could not be read: {error}") from error
    preprocessing = _preprocessing(folder, name, network, kind, tower)
    stages, feature_dim = _stages_of(network, tower=tower, pooling=pooling)
    backbone = Backbone(
        name if pooling is None else f"{name} ({pooling})",
        stages,
        feature_dim=feature_dim,
        preprocessing=preprocessing,
        pretrained=pretrained,
    )
    _refuse_random(name, network, backbone, missing)
    return backbone


def _check_options(name: str, kind: str, tower: str | None, pooling: str | None, *, of_timm: bool) -> None:
    if not of_timm and kind not in TRANSFORMERS:
        raise ValueError(f"{name!r} holds a network of type {kind!r}; as stages there are: {', '.join(TRANSFORMERS)}")
    if tower is not None and kind not in TOWER_FAMILIES:
        raise ValueError(f"tower={tower!r}: {name!r} holds one network, a {kind}")
    if tower is None and kind in TOWER_FAMILIES:
        raise ValueError(f"{name!r} holds a {kind}, which is two networks: say tower='vision' or tower='text'")
    if pooling is not None and (of_timm or kind in TOWER_FAMILIES):
        raise ValueError(f"pooling={pooling!r}: {name!r} pools in its own way")


def _stages_of(network: nn.Module, *, tower: str | None, pooling: str | None) -> tuple[dict[str, nn.Module], int]:
    """The stages of a network of any of the families, and how many features they give."""
    config = getattr(network, "config", None)  # those of transformers have one
    if config is None:
        return vision_stages(network)
    if config.model_type in TOWER_FAMILIES:
        return tower_stages(network, tower)
    make = causal_stages if config.model_type in CAUSAL_FAMILIES else text_stages
    return make(network, **({} if pooling is None else {"pooling": pooling})), config.hidden_size


def _timm(folder: Path, kind: str, pretrained: bool) -> tuple[nn.Module, set[str]]:
    """A network of timm, which lacks nothing: timm refuses to load a part."""
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=pretrained), set()


def _transformer(folder: Path, kind: str, pretrained: bool) -> tuple[nn.Module, set[str]]:
    """A network of transformers in float32, and the names of its tensors that the folder has no values for."""
    import transformers

    classes = {"clip": transformers.CLIPModel, "blip": transformers.BlipForImageTextRetrieval}
    kind_of = classes.get(kind, transformers.AutoModel)
    if not pretrained:
        config = transformers.AutoConfig.from_pretrained(folder)
        if kind in classes:
            return kind_of(config), set()
        return kind_of.from_config(config, dtype=torch.float32), set()
    network, report = kind_of.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return network, set(report["missing_keys"])


def _refuse_random(name: str, network: nn.Module, backbone: Backbone, missing: set[str]) -> None:
    """Transformers draws at random what a file lacks; a head may be lacking, a stage may not."""
    staged = {id(tensor) for tensor in backbone.parameters()}
    lacking = sorted(key for key, tensor in network.named_parameters() if key in missing and id(tensor) in staged)
    if lacking:
        raise ValueError(
            f"{name!r} has no weights for {len(lacking)} tensors of its stages ({', '.join(lacking[:3])}, …): it is "
            "the checkpoint of another network"
        )


def _preprocessing(
    folder: Path, name: str, network: nn.Module, kind: str, tower: str | None
) -> ImagePreprocessing | TextPreprocessing:
    if kind not in TRANSFORMERS:
        from timm.data import resolve_model_data_config

        data = resolve_model_data_config(network)
        return ImagePreprocessing(mean=tuple(data["mean"]), std=tuple(data["std"]))
    if tower != "vision":
        return (TextPreprocessing if kind in FAMILIES else RightPadded)(name=name, folder=folder)
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(folder)
    except OSError as error:
        raise ValueError(
            f"{name!r} does not say how its images were prepared: preprocessor_config.json lacks"
        ) from error
    return ImagePreprocessing(mean=tuple(processor.image_mean), std=tuple(processor.image_std))


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no reports of transformers on what a head lacks; its settings are as before afterwards."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
