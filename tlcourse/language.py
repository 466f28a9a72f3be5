"""Predicting the next token: a decoder with its head, its loss and perplexity, and a trigram model to beat. Lesson 12.

The first token of a text is given, by both models: what is predicted is each real token after it. The average is by
token, never by batch or by text, and padding never counts.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.backbones import Backbone, Model
from tlcourse.caching import evaluating
from tlcourse.masked import Masked

__all__ = ["LanguageModel", "Trigram", "fit_trigram", "next_token_loss", "perplexity"]


class LanguageModel(Model):
    """A decoder's stages up to ``norm``, and the head that predicts the next token; plans see it as any model.

    The backbone is not copied: what is trained here has moved there.

    Parameters
    ----------
    backbone
        Of `causal_stages`.
    head
        ``nn.Linear(D, vocabulary)``, the only one of ``heads``; None uses the embedding of the words a second time, as
        GPT-2 does: one tensor, which is in the stage ``embeddings``, and no stage ``head`` that a rule could name.

    Raises
    ------
    ValueError
        If the backbone is no decoder, or its head was another tensor than its embedding and none is given.

    Examples
    --------
    >>> from transformers import AutoModel, GPT2Config
    >>> from tlcourse.causal_stages import RightPadded, causal_stages
    >>> sizes = {"vocab_size": 9, "n_embd": 8, "n_layer": 1, "n_head": 1, "bos_token_id": 0, "eos_token_id": 0}
    >>> decoder = AutoModel.from_config(GPT2Config(**sizes))
    >>> reads = RightPadded(name="tiny", folder="none")
    >>> backbone = Backbone("tiny", causal_stages(decoder), feature_dim=8, preprocessing=reads, pretrained=False)
    >>> LanguageModel(backbone)(Masked(torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.bool))).shape
    torch.Size([1, 3, 9])
    """

    def __init__(self, backbone: Backbone, *, head: nn.Linear | None = None) -> None:
        super().__init__(backbone)
        names = list(backbone.stages)
        if names[-2:] != ["norm", "pool"] or not hasattr(backbone.stages["embeddings"], "words"):
            raise ValueError(f"backbone {backbone.name!r} is no decoder: its stages are {', '.join(names)}")
        if head is None and not backbone.stages["embeddings"].tied:
            raise ValueError(
                f"backbone {backbone.name!r} was trained with a head of its own, which is in none of its stages: give "
                "head=, the lm_head of its AutoModelForCausalLM"
            )
        if head is not None:
            self.heads["next_token"] = head

    def run(self, state: Masked, *, start: int = 0, head: str | None = None) -> Tensor:
        """Logits (n, L, vocabulary) of the token after each position, of a state that enters stage number ``start``."""
        hidden = self.backbone.run(state, start=start, stop=-1).values  # all but the pooling
        if self.heads:
            return self.heads[self.head_name(head)](hidden)
        return hidden @ self.backbone.stages["embeddings"].words.weight.T

    def log_probabilities(self, tokens: Masked) -> Tensor:
        """Of each token but the first, given those before it, in nats (n, L - 1); where there is padding, no number."""
        return _log_probabilities(self(tokens), tokens)


@dataclass(frozen=True)
class Trigram:
    """Counts of three, two and single tokens, interpolated after Witten and Bell (Chen and Goodman 1999, section 2.6).

    ``p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h))``, where h' is h without its first token and T(h) counts the
    different tokens that followed h: the more of them there were, the more is left to shorter histories. Single tokens
    are interpolated with one in ``vocabulary``. Nothing is chosen, and every probability is above zero.

    Attributes
    ----------
    tables
        For histories of 0, 1 and 2 tokens: counts of the history with its token, counts of the history, and how many
        different tokens followed it; each as sorted keys and values.
    """

    vocabulary: int
    tables: tuple

    def log_probabilities(self, tokens: Masked) -> Tensor:
        """As in `LanguageModel`."""
        ids, real = tokens.values.cpu().numpy(), tokens.mask.cpu().numpy()
        histories, following = _windows(ids, self.vocabulary)
        probability = np.full(following.shape, 1 / self.vocabulary)
        for history, (together, alone, kinds) in zip(histories, self.tables, strict=True):
            seen = _look_up(together, history * (self.vocabulary + 1) + following)
            count, different = _look_up(alone, history), _look_up(kinds, history)
            known = np.maximum(count + different, 1)
            probability = np.where(count > 0, (seen + different * probability) / known, probability)
        return torch.from_numpy(np.where(real[:, 1:], np.log(probability), np.nan))


def next_token_loss(logits: Tensor, tokens: Masked) -> Tensor:
    """Mean negative log-likelihood of the real tokens after the first of each text, in nats.

    Parameters
    ----------
    logits
        (n, L, vocabulary), of the token after each position.

    Raises
    ------
    ValueError
        If no text has a second token.

    Examples
    --------
    >>> tokens = Masked(torch.tensor([[0, 1], [1, 0]]), torch.tensor([[True, True], [True, False]]))
    >>> next_token_loss(torch.zeros(2, 2, 4), tokens)  # all of four alike
    tensor(1.3863)
    """
    real = _predicted(tokens)
    if not real.any():
        raise ValueError("no text has a second token: there is nothing to predict")
    return F.cross_entropy(logits[:, :-1][real], tokens.values[:, 1:][real])


def perplexity(model: LanguageModel | Trigram, tokens: Masked, *, batch_size: int = 16) -> float:
    """``exp`` of the mean negative log-likelihood over all predicted tokens of all texts; the model stays as it is.

    Two models can be compared where they split texts into the same tokens, and only there.

    Raises
    ------
    ValueError
        If no text has a second token.

    Examples
    --------
    >>> text = Masked(torch.tensor([[0, 1, 0, 1]]), torch.ones(1, 4, dtype=torch.bool))
    >>> round(perplexity(fit_trigram(text, vocabulary=2), text), 3)
    1.105
    """
    total, count = 0.0, 0
    for start in range(0, len(tokens), batch_size):
        batch = tokens[start : start + batch_size]
        real = _predicted(batch)
        if isinstance(model, nn.Module):
            with evaluating(model):
                batch = batch.to(next(model.parameters()).device)
                found = model.log_probabilities(batch).to(real.device)
        else:
            found = model.log_probabilities(batch)
        total += found[real].double().sum().item()
        count += int(real.sum())
    if not count:
        raise ValueError("no text has a second token: there is nothing to predict")
    return math.exp(-total / count)


def fit_trigram(tokens: Masked, *, vocabulary: int) -> Trigram:
    """Count the tokens of some texts.

    Parameters
    ----------
    tokens
        int64 (n, L), each from 0 to ``vocabulary - 1``.

    Raises
    ------
    ValueError
        If a token is outside of the vocabulary, or no text has a second token.
    """
    ids, real = tokens.values.cpu().numpy(), _predicted(tokens).cpu().numpy()
    if not real.any():
        raise ValueError("no text has a second token: there is nothing to count")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise ValueError(
            f"tokens from {ids.min()} to {ids.max()}: a vocabulary of {vocabulary} ends at {vocabulary - 1}"
        )
    histories, following = _windows(ids, vocabulary)
    tables = []
    for history in histories:
        together = np.unique(history[real] * (vocabulary + 1) + following[real], return_counts=True)
        alone = np.unique(history[real], return_counts=True)
        kinds = np.unique(together[0] // (vocabulary + 1), return_counts=True)
        tables.append((together, alone, kinds))
    return Trigram(vocabulary, tuple(tables))


def _log_probabilities(logits: Tensor, tokens: Masked) -> Tensor:
    chosen = logits[:, :-1].float().log_softmax(dim=-1).gather(-1, tokens.values[:, 1:].unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(~_predicted(tokens), torch.nan)


def _predicted(tokens: Masked) -> Tensor:
    """Where a real token follows a real one (n, L - 1)."""
    return tokens.mask[:, 1:] & tokens.mask[:, :-1]


def _windows(ids: np.ndarray, vocabulary: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Histories of 0, 1 and 2 tokens as one number each, and the tokens that follow them, all (n, L - 1)."""
    ids = ids.astype(np.int64)
    following, before = ids[:, 1:], ids[:, :-1]
    start = np.full((len(ids), 1), vocabulary)  # stands before the first token
    earlier = np.concatenate([start, before[:, :-1]], axis=1)
    return (np.zeros_like(before), before, earlier * (vocabulary + 1) + before), following


def _look_up(table: tuple[np.ndarray, np.ndarray], keys: np.ndarray) -> np.ndarray:
    """The count of each key, 0 where it is not in the table."""
    known, counts = table
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[place] == keys, counts[place], 0)
