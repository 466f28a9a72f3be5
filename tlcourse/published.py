"""What the zoo offers by name: where each model is published, at which commit, with which checksum and licence.

A commit pins the files, the checksum proves that what came is what was meant. `zoo` loads them, lesson 11 prints the
table.

The course was written without a way to the hub. Commits, checksums and licences of what is published there were copied
from other public repositories that agree on them, and no file has been fetched with them yet. A wrong one is refused
with a message, never taken; ``load_backbone(name, revision=...)`` takes another commit.
"""

from dataclasses import dataclass

__all__ = ["ZOO", "Published"]


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
