"""ResNets, EfficientNets and vision transformers of torchvision and timm as rows of stages. Lesson 11 uses it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["vision_stages"]


def vision_stages(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    """The stages of a classifier of torchvision or timm without its last layer, and how many features they give.

    Returns
    -------
    stages, feature_dim
        Of a ResNet: ``stem``, ``layer1`` to ``layer4``, ``neck``. Of an EfficientNet: ``stem``, ``block1`` to the last,
        ``neck``. Of a vision transformer: ``embeddings``, ``block1`` to the last, ``neck``. Every parameter but those
        of the classifier is in one of them.

    Raises
    ------
    ValueError
        If the network is of another kind, or a vision transformer of timm pools or places its patches in a way that
        has no stage here.

    Examples
    --------
    >>> from torchvision.models import resnet18
    >>> stages, feature_dim = vision_stages(resnet18())
    >>> list(stages), feature_dim
    (['stem', 'layer1', 'layer2', 'layer3', 'layer4', 'neck'], 512)
    """
    kind = (type(network).__module__.split(".")[0], type(network).__name__)
    if kind not in _MAKERS:
        known = ", ".join(f"{library}'s {name}" for library, name in _MAKERS)
        raise ValueError(f"a network of kind {kind[0]}.{kind[1]}; as stages there are: {known}")
    return _MAKERS[kind](network)


def _torchvision_resnet(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    return _resnet(network, stem, nn.Sequential(network.avgpool, nn.Flatten(1))), network.fc.in_features


def _timm_resnet(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    stem = nn.Sequential(network.conv1, network.bn1, network.act1, network.maxpool)
    return _resnet(network, stem, network.global_pool), network.head_hidden_size


def _resnet(network: nn.Module, stem: nn.Module, neck: nn.Module) -> dict[str, nn.Module]:
    return {
        "stem": stem,
        **{f"layer{number}": getattr(network, f"layer{number}") for number in range(1, 5)},
        "neck": neck,
    }


def _torchvision_efficientnet(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    stem, *blocks, last = network.features
    neck = nn.Sequential(last, network.avgpool, nn.Flatten(1))
    return {"stem": stem, **_numbered(blocks), "neck": neck}, network.classifier[-1].in_features


def _timm_efficientnet(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    stem = nn.Sequential(network.conv_stem, network.bn1)
    neck = nn.Sequential(network.conv_head, network.bn2, network.global_pool)
    return {"stem": stem, **_numbered(network.blocks), "neck": neck}, network.head_hidden_size


def _torchvision_vit(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    blocks = _numbered(network.encoder.layers)
    return {"embeddings": _Patches(network), **blocks, "neck": _ClassToken(network.encoder.ln)}, network.hidden_dim


def _timm_vit(network: nn.Module) -> tuple[dict[str, nn.Module], int]:
    if network.global_pool not in ("token", "avg"):
        raise ValueError(f"a vision transformer that pools by {network.global_pool!r}; there are: token, avg")
    if network.pos_embed is None or network.dynamic_img_size:
        raise ValueError("a vision transformer without learned positions for one size of images has no stage here")
    embeddings, neck = _TimmPatches(network), _TimmNeck(network)
    return {"embeddings": embeddings, **_numbered(network.blocks), "neck": neck}, network.head_hidden_size


def _numbered(blocks) -> dict[str, nn.Module]:
    return {f"block{number}": block for number, block in enumerate(blocks, start=1)}


class _Patches(nn.Module):
    """Images (n, 3, H, W) -> the class token and the patches, with their positions (n, 1 + patches, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.projection, self.side = network.conv_proj, network.image_size
        self.class_token, self.positions = network.class_token, network.encoder.pos_embedding
        self.dropout = network.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            raise ValueError(
                f"images of {tuple(images.shape[-2:])} pixels: its positions are for {self.side} x {self.side}"
            )
        patches = self.projection(images).flatten(2).transpose(1, 2)  # (n, patches, D)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return self.dropout(tokens + self.positions)


class _ClassToken(nn.Module):
    """Tokens (n, 1 + patches, D) -> the normalised class token (n, D)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens)[:, 0]


class _TimmPatches(nn.Module):
    """Images (n, 3, H, W) -> the class token, registers and the patches, with their positions (n, tokens, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.projection, self.positions = network.patch_embed, network.pos_embed
        self.class_token, self.registers = network.cls_token, network.reg_token
        self.patches_alone = network.no_embed_class  # have positions
        self.after = nn.Sequential(network.pos_drop, network.patch_drop, network.norm_pre)

    def forward(self, images: Tensor) -> Tensor:
        size = tuple(self.projection.img_size)
        if tuple(images.shape[-2:]) != size:
            raise ValueError(
                f"images of {tuple(images.shape[-2:])} pixels: its positions are for {size[0]} x {size[1]}"
            )
        patches = self.projection(images)  # (n, patches, D)
        first = [token.expand(len(images), -1, -1) for token in (self.class_token, self.registers) if token is not None]
        if self.patches_alone:
            tokens = torch.cat([*first, patches + self.positions], dim=1)
        else:
            tokens = torch.cat([*first, patches], dim=1) + self.positions
        return self.after(tokens)


class _TimmNeck(nn.Module):
    """Tokens (n, tokens, D) -> the class token, or the mean of the patches, normalised (n, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.norm, self.features_norm = network.norm, network.fc_norm
        self.first = 0 if network.pool_include_prefix else network.num_prefix_tokens
        self.pools_token = network.global_pool == "token"

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        features = tokens[:, 0] if self.pools_token else tokens[:, self.first :].mean(dim=1)
        return self.features_norm(features)


_MAKERS: dict[tuple[str, str], Callable[[nn.Module], tuple[dict[str, nn.Module], int]]] = {
    ("torchvision", "ResNet"): _torchvision_resnet,
    ("torchvision", "EfficientNet"): _torchvision_efficientnet,
    ("torchvision", "VisionTransformer"): _torchvision_vit,
    ("timm", "ResNet"): _timm_resnet,
    ("timm", "EfficientNet"): _timm_efficientnet,
    ("timm", "VisionTransformer"): _timm_vit,
}
