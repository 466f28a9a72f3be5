"""A published decoder as a row of stages: embeddings, layers, norm, pooling. Lessons 11 and 12 use it.

A decoder reads from left to right: a position sees itself and the real tokens before it. Its mask, its positions and
its rotary embeddings belong to the batch, so each stage rebuilds them from the state's own mask. A key-value cache
would carry one batch into the next, so there is none.

The row ends before the head that predicts the next token. GPT-2's head is the embedding itself, used a second time: it
is among the parameters of the stage ``embeddings``, and moves with it. `language` puts it back.

GPT-2 keeps its linear maps as ``Conv1D``, the weight transposed. Here they are `nn.Linear`, as everywhere else, so that
LoRA finds them.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tlcourse.backbones import TextPreprocessing
from tlcourse.masked import Masked
from tlcourse.text_stages import Pool

__all__ = [
    "CAUSAL_FAMILIES",
    "CAUSAL_POOLINGS",
    "LastToken",
    "RightPadded",
    "TokenNorm",
    "causal_mask",
    "causal_stages",
]

CAUSAL_FAMILIES = ("gpt2", "llama")
CAUSAL_POOLINGS = ("last", "mean", "max")
# Rotary embeddings that follow the longest text of a batch: what a text gives would depend on its neighbours.
BATCH_DEPENDENT = ("dynamic", "longrope")


class RightPadded(TextPreprocessing):
    """The tokenizer of a decoder, which pads on the left, or not at all, until it is told otherwise.

    Padding stands on the right here, as `Masked` wants it. Where there is no token for it, the one that ends a text
    serves: the mask says which positions are real, so that what fills the others never counts.
    """

    def tokenize(self, texts: Iterable[str], *, max_length: int) -> Masked:
        """Token ids and mask (n, L), L <= max_length; longer texts are cut at their end."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder)
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        batch = tokenizer(list(texts), truncation=True, max_length=max_length, padding=True, return_tensors="pt")
        return Masked(batch["input_ids"].long(), batch["attention_mask"].bool())


class LastToken(nn.Module):
    """Hidden states (n, L, D) -> those of the last real token (n, D): the only one that has read the whole text.

    A text without tokens gives zeros.

    Examples
    --------
    >>> state = Masked(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
    >>> LastToken()(state).item()
    3.0
    """

    def forward(self, state: Masked) -> Tensor:
        places = torch.arange(1, state.mask.shape[1] + 1, device=state.device)
        last = (state.mask * places).argmax(dim=1)  # (n,)
        features = state.values[torch.arange(len(last), device=state.device), last]
        return features.where(state.mask.any(dim=1, keepdim=True), 0.0)


def causal_mask(mask: Tensor) -> Tensor:
    """Which position attends to which, (n, 1, L, L), for real tokens (n, L): to real ones before it, and to itself.

    That padding attends to itself changes nothing for real tokens, and leaves no row of the softmax empty.

    Examples
    --------
    >>> causal_mask(torch.tensor([[True, True, False]])).int()[0, 0]
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    length = mask.shape[1]
    own = torch.eye(length, dtype=torch.bool, device=mask.device)
    earlier = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return ((mask[:, None, :] | own) & earlier).unsqueeze(1)


def causal_stages(decoder: nn.Module, *, pooling: str = "last") -> dict[str, nn.Module]:
    """The stages of a GPT-2 or LLaMA of transformers (``AutoModel``), without the head that predicts the next token.

    Parameters
    ----------
    decoder
        It is taken apart, and set to PyTorch's own attention; linear layers take the place of GPT-2's ``Conv1D``.
    pooling
        ``"last"``, or ``"mean"`` or ``"max"`` over the real tokens. The first token has seen no other, so there is no
        ``"cls"``.

    Returns
    -------
    dict
        ``embeddings``, ``layer1`` to the last, ``norm``, ``pool``. What leaves ``norm`` is the decoder's
        ``last_hidden_state``, as `Masked` (n, L, D).

    Raises
    ------
    ValueError
        If the decoder is of another family, attends to an encoder, or has rotary embeddings that depend on the batch;
        or if the pooling is unknown.
    """
    config = decoder.config
    if config.model_type not in CAUSAL_FAMILIES:
        raise ValueError(f"a decoder of type {config.model_type!r}; as stages there are: {', '.join(CAUSAL_FAMILIES)}")
    if pooling not in CAUSAL_POOLINGS:
        raise ValueError(f"pooling={pooling!r}: for a decoder it is one of {', '.join(CAUSAL_POOLINGS)}")
    decoder.set_attn_implementation("sdpa")  # whose masks are True and False
    if config.model_type == "gpt2":
        if config.add_cross_attention:
            raise ValueError("this GPT-2 attends to an encoder beside it, which is not a row of stages")
        embeddings = _LearnedPositions(decoder, tied=config.tie_word_embeddings)
        _make_linear(decoder.h)
        layers, norm = map(_Layer, decoder.h), decoder.ln_f
    else:
        rope = config.rope_parameters["rope_type"]
        if rope in BATCH_DEPENDENT:
            raise ValueError(f"rotary embeddings of type {rope!r} depend on the longest text of a batch: not supported")
        embeddings, norm = _Words(decoder.embed_tokens, tied=config.tie_word_embeddings), decoder.norm
        layers = (_RotaryLayer(layer, decoder.rotary_emb) for layer in decoder.layers)
    return {
        "embeddings": embeddings,
        **{f"layer{number}": layer for number, layer in enumerate(layers, start=1)},
        "norm": TokenNorm(norm),
        "pool": LastToken() if pooling == "last" else Pool(pooling),
    }


def _make_linear(layers: nn.Module) -> None:
    """Put a linear layer, which takes ``x W^T``, in the place of every ``Conv1D``, which takes ``x W``."""
    from transformers.pytorch_utils import Conv1D

    for parent in list(layers.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, Conv1D):
                inputs, outputs = part.weight.shape
                linear = nn.Linear(inputs, outputs, device="meta")  # shapes alone: nothing is drawn
                transposed = part.weight.detach().T.contiguous()
                linear.weight = nn.Parameter(transposed, requires_grad=part.weight.requires_grad)
                linear.bias = part.bias
                setattr(parent, name, linear.train(part.training))


def _positions(mask: Tensor) -> Tensor:
    """The place of each real token in its text (n, L), from 0."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


class _Words(nn.Module):
    """Token ids (n, L) -> hidden states (n, L, D). ``tied``: the head that predicts words is the same tensor."""

    def __init__(self, words: nn.Embedding, *, tied: bool) -> None:
        super().__init__()
        self.words, self.tied = words, tied

    def forward(self, state: Masked) -> Masked:
        return state.with_values(self.words(state.values))


class _LearnedPositions(_Words):
    """GPT-2's: words and places are embedded and added."""

    def __init__(self, decoder: nn.Module, *, tied: bool) -> None:
        super().__init__(decoder.wte, tied=tied)
        self.places, self.dropout = decoder.wpe, decoder.drop

    def forward(self, state: Masked) -> Masked:
        if state.mask.shape[1] > self.places.num_embeddings:
            raise ValueError(
                f"texts of {state.mask.shape[1]} tokens: its positions end at {self.places.num_embeddings}; cut them "
                "with max_length"
            )
        return state.with_values(self.dropout(self.words(state.values) + self.places(_positions(state.mask))))


class _Layer(nn.Module):
    """One decoder layer; its mask is rebuilt for every batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, state: Masked) -> Masked:
        return state.with_values(
            self.layer(state.values, attention_mask=causal_mask(state.mask), use_cache=False, **self.prepare(state))
        )

    def prepare(self, state: Masked) -> dict:
        """What else the layer takes for this batch."""
        return {}


class _RotaryLayer(_Layer):
    """One layer of a LLaMA; the rotary embeddings that all of them share have no parameters."""

    def __init__(self, layer: nn.Module, rotary: nn.Module) -> None:
        super().__init__(layer)
        self.rotary = rotary

    def prepare(self, state: Masked) -> dict:
        places = _positions(state.mask)
        return {"position_ids": places, "position_embeddings": self.rotary(state.values, position_ids=places)}


class TokenNorm(nn.Module):
    """A normalisation of each token by itself, (n, L, D) -> the same, as a stage."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, state: Masked) -> Masked:
        return state.with_values(self.norm(state.values))
