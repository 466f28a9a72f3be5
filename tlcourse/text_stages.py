"""A published text encoder as a row of stages: embeddings, layers, pooling. Lesson 06 uses it, lesson 11 adds others.

What a layer needs beside the hidden states belongs to the batch, not to the sample: it is rebuilt from the mask.
"""

import torch
from torch import Tensor, nn

from tlcourse.masked import Masked

__all__ = ["POOLINGS", "Pool", "text_stages"]

POOLINGS = ("mean", "cls", "max")
FAMILIES = ("bert", "roberta", "deberta-v2")


class Pool(nn.Module):
    """Hidden states (n, L, D) -> one vector a text (n, D); padding never counts.

    Parameters
    ----------
    pooling
        ``"mean"`` or ``"max"`` over the real tokens, or ``"cls"``: the first token.

    Raises
    ------
    ValueError
        If the pooling is none of these.

    Examples
    --------
    >>> state = Masked(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    >>> [Pool(pooling)(state).item() for pooling in POOLINGS]
    [2.0, 1.0, 3.0]
    """

    def __init__(self, pooling: str = "mean") -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}: it is one of {', '.join(POOLINGS)}")
        self.pooling = pooling

    def forward(self, state: Masked) -> Tensor:
        if self.pooling == "cls":
            return state.values[:, 0]
        if self.pooling == "max":
            return state.values.masked_fill(~state.mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        weights = state.mask.unsqueeze(-1).to(state.values.dtype)  # (n, L, 1)
        return (state.values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def text_stages(encoder: nn.Module, *, pooling: str = "mean") -> dict[str, nn.Module]:
    """The stages of a BERT, RoBERTa or DeBERTa-v2/v3 encoder of transformers.

    Returns
    -------
    dict
        ``embeddings``, ``layer1`` to the last, ``pool``. DeBERTa's relative embeddings, which all of its layers use,
        are a stage ``shared`` before them: it passes the tokens on, and a plan gives it a rate like any other.

    Raises
    ------
    ValueError
        If the encoder is of another family, or of a kind that is no row of layers (DeBERTa's convolution).
    """
    config = encoder.config
    if config.model_type not in FAMILIES:
        raise ValueError(f"an encoder of type {config.model_type!r}; as stages there are: {', '.join(FAMILIES)}")
    layers, stages = encoder.encoder.layer, {}
    if config.model_type == "deberta-v2":
        if encoder.encoder.conv is not None:
            raise ValueError("this DeBERTa has a convolution beside its first layer, which is not a row of stages")
        if encoder.encoder.relative_attention:
            stages["shared"] = _RelativeEmbeddings(encoder.encoder)
        stages["embeddings"] = _MaskedEmbeddings(encoder.embeddings)
        made = [_RelativeLayer(layer, stages.get("shared")) for layer in layers]
    else:
        stages["embeddings"] = _Embeddings(encoder.embeddings)
        made = [_Layer(layer, config) for layer in layers]
    stages |= {f"layer{number}": layer for number, layer in enumerate(made, start=1)}
    return {**stages, "pool": Pool(pooling)}


class _Embeddings(nn.Module):
    """Token ids (n, L) -> hidden states (n, L, D)."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, state: Masked) -> Masked:
        return state.with_values(self.embeddings(input_ids=state.values))


class _Layer(nn.Module):
    """One encoder layer; the attention mask is rebuilt from the state's own mask for every batch."""

    def __init__(self, layer: nn.Module, config) -> None:
        super().__init__()
        self.layer, self.config = layer, config

    def forward(self, state: Masked) -> Masked:
        from transformers.masking_utils import create_bidirectional_mask

        attention = create_bidirectional_mask(config=self.config, inputs_embeds=state.values, attention_mask=state.mask)
        return state.with_values(self.layer(state.values, attention_mask=attention))


class _MaskedEmbeddings(_Embeddings):
    """DeBERTa's: zero where there is padding."""

    def forward(self, state: Masked) -> Masked:
        return state.with_values(self.embeddings(input_ids=state.values, mask=state.mask))


class _RelativeEmbeddings(nn.Module):
    """What all layers of a DeBERTa use; the tokens pass unchanged."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.embeddings = encoder.rel_embeddings  # (2 * buckets, D)
        self.norm = encoder.LayerNorm if "layer_norm" in encoder.norm_rel_ebd else nn.Identity()
        self.buckets, self.furthest = encoder.position_buckets, encoder.max_relative_positions

    def forward(self, state: Masked) -> Masked:
        return state

    def arguments(self, hidden: Tensor) -> dict[str, Tensor]:
        """The distances between positions and their embeddings, with gradient, for hidden states (n, L, D)."""
        from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

        distances = build_relative_position(hidden, hidden, bucket_size=self.buckets, max_position=self.furthest)
        return {"relative_pos": distances, "rel_embeddings": self.norm(self.embeddings.weight)}


class _RelativeLayer(nn.Module):
    """One layer of a DeBERTa; it refers to the shared stage without owning its parameters."""

    def __init__(self, layer: nn.Module, shared: _RelativeEmbeddings | None) -> None:
        super().__init__()
        self.layer = layer
        self.shared = (shared,)  # in a tuple: no submodule, so each parameter has one name, and a copy still copies it

    def forward(self, state: Masked) -> Masked:
        (shared,) = self.shared
        attention = state.mask[:, None, None, :] & state.mask[:, None, :, None]  # (n, 1, L, L)
        relative = {} if shared is None else shared.arguments(state.values)
        values, _ = self.layer(state.values, attention, **relative)
        return state.with_values(values)
