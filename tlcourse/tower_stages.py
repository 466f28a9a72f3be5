"""CLIP and BLIP as two rows of stages, one for images and one for texts, that end in one space. Lesson 11 uses it.

Each tower ends with its projection: the cosine of an image's features and a text's is what the pair was trained for.
"""

import torch
from torch import Tensor, nn

from tlcourse.causal_stages import LastToken, TokenNorm, causal_mask
from tlcourse.masked import Masked
from tlcourse.text_stages import Pool

__all__ = ["TOWERS", "TOWER_FAMILIES", "tower_stages"]

TOWER_FAMILIES = ("blip", "clip")
TOWERS = ("vision", "text")


def tower_stages(network: nn.Module, tower: str) -> tuple[dict[str, nn.Module], int]:
    """The stages of one tower of a `CLIPModel` or `BlipForImageTextRetrieval` of transformers.

    Parameters
    ----------
    network
        It is taken apart. BLIP's text layers lose the attention to images, which matches a text with one image and has
        no part in the text's own features.
    tower
        ``"vision"`` or ``"text"``.

    Returns
    -------
    stages, feature_dim
        ``embeddings``, ``layer1`` to the last, ``pool``, ``projection``; CLIP's texts have a ``norm`` before ``pool``.
        Images go through as tensors (n, 1 + patches, D), texts as `Masked` (n, L, D).

    Raises
    ------
    ValueError
        If the network is of another family or the tower unknown.
    """
    family = network.config.model_type
    if family not in TOWER_FAMILIES:
        raise ValueError(f"a network of type {family!r}; with two towers there are: {', '.join(TOWER_FAMILIES)}")
    if tower not in TOWERS:
        raise ValueError(f"tower={tower!r}: it is one of {', '.join(TOWERS)}")
    projection, first, layers, last = _MAKERS[family, tower](network)
    stages = {"embeddings": first, **{f"layer{number}": layer for number, layer in enumerate(layers, start=1)}}
    return {**stages, **last, "projection": projection}, projection.out_features


def _clip_vision(network: nn.Module) -> tuple:
    network.set_attn_implementation("sdpa")
    tower = network.vision_model
    first = _Patches(tower.embeddings, tower.pre_layrnorm)
    layers = [_ImageLayer(layer, attention_mask=None) for layer in tower.encoder.layers]
    return network.visual_projection, first, layers, {"pool": _ClassToken(tower.post_layernorm)}


def _clip_text(network: nn.Module) -> tuple:
    network.set_attn_implementation("sdpa")  # whose masks are True and False
    tower = network.text_model
    first = _Embeddings(tower.embeddings, tower.embeddings.position_embedding)
    layers = [_CausalTextLayer(layer) for layer in tower.encoder.layers]
    last = {"norm": TokenNorm(tower.final_layer_norm), "pool": LastToken()}  # the last token ends the text
    return network.text_projection, first, layers, last


def _blip_vision(network: nn.Module) -> tuple:
    tower = network.vision_model
    layers = [_ImageLayer(layer) for layer in tower.encoder.layers]
    first = _Patches(tower.embeddings, nn.Identity())
    return network.vision_proj, first, layers, {"pool": _ClassToken(tower.post_layernorm)}


def _blip_text(network: nn.Module) -> tuple:
    tower = network.text_encoder
    for layer in tower.encoder.layer:
        if hasattr(layer, "crossattention"):
            del layer.crossattention
    first = _Embeddings(tower.embeddings, tower.embeddings.position_embeddings)
    layers = [_TextLayer(layer) for layer in tower.encoder.layer]
    return network.text_proj, first, layers, {"pool": Pool("cls")}


_MAKERS = {
    ("clip", "vision"): _clip_vision,
    ("clip", "text"): _clip_text,
    ("blip", "vision"): _blip_vision,
    ("blip", "text"): _blip_text,
}


class _Patches(nn.Module):
    """Images (n, 3, H, W) -> the class token and the patches, with their positions (n, 1 + patches, D)."""

    def __init__(self, embeddings: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.embeddings, self.norm, self.side = embeddings, norm, embeddings.image_size

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.side, self.side):
            # BLIP's own code would take the positions of another place for a smaller image.
            raise ValueError(
                f"images of {tuple(images.shape[-2:])} pixels: its positions are for {self.side} x {self.side}"
            )
        return self.norm(self.embeddings(images))


class _ImageLayer(nn.Module):
    """One layer of an image tower, (n, 1 + patches, D) -> the same."""

    def __init__(self, layer: nn.Module, **arguments) -> None:
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens, **self.arguments)


class _ClassToken(nn.Module):
    """Tokens (n, 1 + patches, D) -> the normalised class token (n, D)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens[:, 0])


class _Embeddings(nn.Module):
    """Token ids (n, L) -> hidden states (n, L, D)."""

    def __init__(self, embeddings: nn.Module, places: nn.Embedding) -> None:
        super().__init__()
        self.embeddings, self.longest = embeddings, places.num_embeddings

    def forward(self, state: Masked) -> Masked:
        if state.mask.shape[1] > self.longest:
            raise ValueError(
                f"texts of {state.mask.shape[1]} tokens: its positions end at {self.longest}; cut them with max_length"
            )
        return state.with_values(self.embeddings(input_ids=state.values))


class _TextLayer(nn.Module):
    """One layer of BLIP's text tower; it adds its mask to the scores."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, state: Masked) -> Masked:
        lowest = torch.finfo(state.values.dtype).min
        mask = torch.zeros_like(state.mask, dtype=state.values.dtype).masked_fill(~state.mask, lowest)
        return state.with_values(self.layer(state.values, attention_mask=mask[:, None, None, :]))  # (n, 1, 1, L)


class _CausalTextLayer(_TextLayer):
    """One layer of CLIP's text tower, which reads from left to right."""

    def forward(self, state: Masked) -> Masked:
        return state.with_values(self.layer(state.values, attention_mask=causal_mask(state.mask)))
