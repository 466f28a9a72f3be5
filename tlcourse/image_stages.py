"""A published vision transformer as a row of stages. Lesson 11 uses it."""

import torch
from torch import Tensor, nn

__all__ = ["vit_stages"]


def vit_stages(network: nn.Module) -> dict[str, nn.Module]:
    """The stages of a torchvision `VisionTransformer` (Dosovitskiy et al. 2021, section 3.1) without its classifier.

    Returns
    -------
    dict
        ``embeddings`` (patches, class token, positions), ``block1`` to the last, ``neck`` (the norm, and the class
        token's features). The state between them is (n, 1 + patches, D).

    Examples
    --------
    >>> from torchvision.models import VisionTransformer
    >>> list(vit_stages(VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)))
    ['embeddings', 'block1', 'block2', 'neck']
    """
    return {
        "embeddings": _Patches(network),
        **{f"block{number}": block for number, block in enumerate(network.encoder.layers, start=1)},
        "neck": _ClassToken(network.encoder.ln),
    }


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
