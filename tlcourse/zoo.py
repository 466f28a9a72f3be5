"""The zoo: published models of many families, each as a row of stages. Lesson 11 walks through it.

Whatever its family, a model is loaded by one call, and then frozen, fine-tuned, probed and cached by those that the
other lessons use. By name it comes over the network once, at a pinned commit and with its checksum; from a folder, as
``save_pretrained`` writes it, it needs no network at all.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import nn

from tlcourse.backbones import Backbone, ImagePreprocessing, TextPreprocessing, load_backbone
from tlcourse.causal_stages import CAUSAL_FAMILIES, RightPadded, causal_stages
from tlcourse.downloads import fetch_file, fetch_snapshot
from tlcourse.runtime import seeded
from tlcourse.text_stages import FAMILIES, text_stages
from tlcourse.tower_stages import TOWER_FAMILIES, tower_stages
from tlcourse.vision_stages import vision_stages

__all__ = ["ZOO", "Published", "load_from_zoo"]

TRANSFORMERS = (*FAMILIES, *CAUSAL_FAMILIES, *TOWER_FAMILIES)
# What is read beside the weights: the configuration, what was done to images, the tokenizer.
DESCRIPTIONS = (
    *("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "spm.model"),
)


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes
    ----------
    family
        What kind of network it is.
    library
        Which library reads it: "torchvision", "timm" or "transformers".
    source
        torchvision's name of the network, or the repository on the Hugging Face hub.
    revision
        torchvision's name of the weights, or the commit; None for what comes with the course.
    licence
        Of the weights, as the host states it.
    parameters
        Of the backbone: without a classifier, and without what predicts words.
    reads
        What goes in: the side of the images, or the longest text.
    weights, sha256
        The file, and its digest. torchvision writes the beginning of the digest into the file's name.
    tower
        "vision" or "text", where the network has both.
    """

    family: str
    library: str
    source: str
    revision: str | None
    licence: str
    parameters: int
    reads: str
    weights: str = "model.safetensors"
    sha256: str | None = None
    tower: str | None = None


# ImageNet's own terms (research, not for sale) bind whoever uses its photographs; what they mean for weights is open.
_IMAGENET = "BSD-3-Clause (code); trained on ImageNet"
_CLIP = {
    "source": "openai/clip-vit-base-patch32",
    "revision": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "licence": "MIT (code); for research, says its card",
    "weights": "pytorch_model.bin",
    "sha256": "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
}
_BLIP = {
    "source": "Salesforce/blip-itm-base-coco",
    "revision": "bed8ad38cb2d04a5a4bdf2d071b3c3c0a4aa724c",
    "licence": "BSD-3-Clause",
    "weights": "pytorch_model.bin",
    "sha256": "017fb3e7f4e125f13a8a4717f1402dbe0d0bb877474b4a203db13a4447b0227f",
}
ZOO: dict[str, Published] = {
    "efficientnet_lite0": Published(
        "EfficientNet", "timm", "with the course", None, "Apache-2.0", 3_371_008, "96 px, or any size from 32"
    ),
    "minilm": Published("BERT", "transformers", "with the course", None, "Apache-2.0", 22_565_376, "512 tokens"),
    "resnet18": Published("ResNet", "torchvision", "resnet18", "IMAGENET1K_V1", _IMAGENET, 11_176_512, "224 px"),
    "resnet50": Published("ResNet", "torchvision", "resnet50", "IMAGENET1K_V2", _IMAGENET, 23_508_032, "224 px"),
    "efficientnet_b0": Published(
        "EfficientNet", "torchvision", "efficientnet_b0", "IMAGENET1K_V1", _IMAGENET, 4_007_548, "224 px"
    ),
    "vit_b_16": Published("ViT", "torchvision", "vit_b_16", "IMAGENET1K_V1", _IMAGENET, 85_798_656, "224 px exactly"),
    "timm/resnet18": Published(
        "ResNet",
        "timm",
        "timm/resnet18.a1_in1k",
        "491b427b45c94c7fb0e78b5474cc919aff584bbf",
        "Apache-2.0",
        11_176_512,
        "224 px",
        sha256="80c49dee3da4822c009c5a7fe591e9223c5a2cfcf95a4067ca4dfb5a7b89c612",
    ),
    "timm/efficientnet_b0": Published(
        "EfficientNet",
        "timm",
        "timm/efficientnet_b0.ra_in1k",
        "1b5383e5f79cc0f7fc067e372f8f26a5fa73f26a",
        "Apache-2.0",
        4_007_548,
        "224 px",
        sha256="d569899762ea9b1384ee07f4af64805cf8caa1c55f9253ebb1080dc40e87a2cd",
    ),
    "timm/vit_small_patch16_224": Published(
        "ViT",
        "timm",
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        "7e2c55630205e1266030f18370f4c6ed1a514b52",
        "Apache-2.0",
        21_665_664,
        "224 px exactly",
        sha256="79c03c635cdfd798a364a9d8c4e5c0b7255b975ea2c9616046d4f77ab01435aa",
    ),
    "bert-base-uncased": Published(
        "BERT",
        "transformers",
        "google-bert/bert-base-uncased",
        "86b5e0934494bd15c9632b12f734a8a67f723594",
        "Apache-2.0",
        108_891_648,
        "512 tokens",
        sha256="68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
    ),
    "roberta-base": Published(
        "RoBERTa",
        "transformers",
        "FacebookAI/roberta-base",
        "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
        "MIT",
        124_055_040,
        "512 tokens",
        sha256="5bde1d28afb363d0103324efeb5afc8b2b397fe5e04beabb9b1ef355255ade81",
    ),
    "microsoft/deberta-v3-base": Published(
        "DeBERTa",
        "transformers",
        "microsoft/deberta-v3-base",
        "8ccc9b6f36199bec6961081d44eb72fb3f7353f3",
        "MIT",
        183_831_552,
        "512 tokens",
        weights="pytorch_model.bin",
        sha256="691d48a2800b926a19e3051def466fc2cca4f59a15e42ce4a0cf7f1b380b5e33",
    ),
    "clip-vision": Published(
        "CLIP", "transformers", parameters=87_849_216, reads="224 px exactly", tower="vision", **_CLIP
    ),
    "clip-text": Published("CLIP", "transformers", parameters=63_428_096, reads="77 tokens", tower="text", **_CLIP),
    "blip-vision": Published(
        "BLIP", "transformers", parameters=86_287_360, reads="384 px exactly", tower="vision", **_BLIP
    ),
    "blip-text": Published("BLIP", "transformers", parameters=109_088_512, reads="512 tokens", tower="text", **_BLIP),
    "gpt2": Published(
        "GPT-2",
        "transformers",
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "MIT",
        124_439_808,
        "1,024 tokens",
        sha256="248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "smollm2-135m": Published(
        "LLaMA",
        "transformers",
        "HuggingFaceTB/SmolLM2-135M",
        "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
        "Apache-2.0",
        134_515_008,
        "8,192 tokens",
        sha256="80521b40281d6ce74e35c9282c22539e75aa0ac8578892b2a59955ef78d55da1",
    ),
}


def load_from_zoo(
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
        If the folder holds no network that is known here, or not all of its weights, or an option has no meaning for
        it.
    RuntimeError
        If it cannot be fetched, or what came is not what was published; the message says what to do.

    Examples
    --------
    >>> backbone = load_from_zoo("resnet18", pretrained=False)
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
        raise ValueError(f"tower={tower!r}: {name!r} is {entry.tower or 'one network'}")
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
    if name in ("efficientnet_lite0", "minilm", "resnet50", "vit_b_16"):
        return load_backbone(name, pretrained=pretrained, seed=seed, pooling=pooling or "mean")
    from torchvision.models import get_model, get_model_weights

    weights = get_model_weights(entry.source)[entry.revision]
    with seeded(seed):
        network = get_model(entry.source, weights=weights if pretrained else None)
    norm = weights.transforms()
    stages, feature_dim = vision_stages(network)
    preprocessing = ImagePreprocessing(mean=tuple(norm.mean), std=tuple(norm.std))
    return Backbone(name, stages, feature_dim=feature_dim, preprocessing=preprocessing, pretrained=pretrained)


def _from_folder(folder: Path, name: str, *, pretrained: bool, tower: str | None, pooling: str | None) -> Backbone:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type", config.get("architecture"))
    _check_options(name, kind, tower, pooling, of_timm="architecture" in config)
    if "architecture" in config:
        import timm

        network, missing = timm.create_model(f"local-dir:{folder}", pretrained=pretrained), set()
        data = timm.data.resolve_model_data_config(network)
        preprocessing = ImagePreprocessing(mean=tuple(data["mean"]), std=tuple(data["std"]))
    else:
        with _quiet():
            network, missing = _transformer(folder, kind, pretrained)
            preprocessing = _preprocessing(folder, name, kind, tower)
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


def _preprocessing(folder: Path, name: str, kind: str, tower: str | None) -> ImagePreprocessing | TextPreprocessing:
    from transformers import AutoImageProcessor

    if tower != "vision":
        return (TextPreprocessing if kind in FAMILIES else RightPadded)(name=name, folder=folder)
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
