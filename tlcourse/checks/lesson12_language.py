"""Tasks of lesson 12 on language models: perplexity by token, and a head that is its own embedding."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlcourse.checks.drawing import draw_apart
from tlcourse.checks.spec import Aspect, Exercise, Inputs, Misconception, Outputs, plain

__all__ = ["PERPLEXITY", "UNTIE", "TinyDecoder"]

# 12.4: perplexity ------------------------------------------------------------


def _some_batches(rng: np.random.Generator) -> Inputs:
    """Two batches of another size and length, each with some padding."""
    vocabulary, batches = int(rng.integers(4, 6)), []
    for texts in (1, int(rng.integers(2, 4))):
        length = int(rng.integers(4, 6))
        lengths = rng.integers(2, length, texts)
        batches.append(
            {
                "logits": (2 * rng.normal(size=(texts, length, vocabulary))).round(1).astype(np.float32),
                "tokens": rng.integers(vocabulary, size=(texts, length)),
                "mask": np.arange(length) < lengths[:, None],
            }
        )
    return {"batches": batches}


def _draw_perplexity(rng: np.random.Generator) -> Inputs:
    return draw_apart(rng, _some_batches, [_oracle_perplexity, *_PERPLEXITY_WAYS.values()])


def _probe_perplexity(answer, inputs: Inputs) -> Outputs:
    batches = [tuple(torch.from_numpy(batch[name]) for name in _PARTS) for batch in inputs["batches"]]
    return {"perplexity": plain(answer(batches), what="what `perplexity` returned")}


_PARTS = ("logits", "tokens", "mask")


def _surprises(
    batch: dict[str, np.ndarray], *, shift: int = 1, padding: bool = False, first_padding: bool = False
) -> list[list[float]]:
    """Of each text the negative log-likelihoods, in nats, of its tokens, read `shift` places before."""
    logits = batch["logits"].astype(float)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    texts = []
    for row, tokens in enumerate(batch["tokens"]):
        real = batch["mask"][row]
        places = range(max(0, shift), len(tokens) + min(0, shift))
        kept = [t for t in places if padding or (real[t - shift] and (first_padding or real[t]))]
        texts.append([-float(log_p[row, t - shift, tokens[t]]) for t in kept])
    return texts


def _per_batch(inputs: Inputs, **other) -> list[list[float]]:
    return [sum(_surprises(batch, **other), []) for batch in inputs["batches"]]


def _exp_mean(values: list[float]) -> Outputs:
    return {"perplexity": math.exp(sum(values) / len(values))}


def _oracle_perplexity(inputs: Inputs) -> Outputs:
    return _exp_mean(sum(_per_batch(inputs), []))


def _nats(inputs: Inputs) -> float:
    return math.log(_oracle_perplexity(inputs)["perplexity"])


def _by_text(inputs: Inputs) -> Outputs:
    texts = sum((_surprises(batch) for batch in inputs["batches"]), [])
    return _exp_mean([float(np.mean(text)) for text in texts])


_PERPLEXITY_WAYS = {
    "padding": lambda i: _exp_mean(sum(_per_batch(i, padding=True), [])),
    "first padding": lambda i: _exp_mean(sum(_per_batch(i, first_padding=True), [])),
    "not shifted": lambda i: _exp_mean(sum(_per_batch(i, shift=0), [])),
    "backwards": lambda i: _exp_mean(sum(_per_batch(i, shift=-1), [])),
    "batch losses": lambda i: _exp_mean([float(np.mean(batch)) for batch in _per_batch(i)]),
    "batch perplexities": lambda i: {"perplexity": float(np.mean([np.exp(np.mean(b)) for b in _per_batch(i)]))},
    "texts": _by_text,
    "nats": lambda i: {"perplexity": _nats(i)},
    "bits": lambda i: {"perplexity": 2 ** _nats(i)},
    "inverse": lambda i: {"perplexity": math.exp(-_nats(i))},
    "tokens": lambda i: {"perplexity": float(np.mean(np.exp(sum(_per_batch(i), []))))},
}

PERPLEXITY = Exercise(
    id="12.4",
    title="Surprise, token by token",
    points=4,
    difficulty=3,
    minutes=15,
    entry="perplexity",
    draw=_draw_perplexity,
    probe=_probe_perplexity,
    oracle=_oracle_perplexity,
    aspects=(Aspect("perplexity", "the perplexity", 1.0, 1e-4),),
    misconceptions=(
        Misconception(
            "each token foretold by itself",
            "You compared the logits at a position with the token at the *same* position. A decoder has read that "
            "token already: what it says there is about the next one. Compare logits[:, :-1] with tokens[:, 1:].",
            wrong=_PERPLEXITY_WAYS["not shifted"],
        ),
        Misconception(
            "shifted the wrong way",
            "You compared the logits at a position with the token *before* it. What the decoder says at position t is "
            "about the token at t + 1.",
            wrong=_PERPLEXITY_WAYS["backwards"],
        ),
        Misconception(
            "padding was predicted",
            "Padding is in your mean. How well a model foretells padding depends on how much of it there is, and says "
            "nothing about language. Only tokens where the mask is True count.",
            wrong=_PERPLEXITY_WAYS["padding"],
        ),
        Misconception(
            "the mask was not shifted",
            "You took the mask at the positions from which is predicted, mask[:, :-1]. So the last real token of each "
            "text is asked for what comes after it, and that is padding. The mask goes with what is predicted: mask[:, "
            "1:].",
            wrong=_PERPLEXITY_WAYS["first padding"],
        ),
        Misconception(
            "the mean of the batches' losses",
            "You took the mean of each batch, and then the mean of those. A batch of few tokens then weighs as much as "
            "one of many, and another batch size gives another perplexity. Sum over all tokens, divide once.",
            wrong=_PERPLEXITY_WAYS["batch losses"],
        ),
        Misconception(
            "the mean of the batches' perplexities",
            "You averaged the perplexities of the batches. The exponential comes last, after the mean over all tokens: "
            "a mean of exponentials is larger.",
            wrong=_PERPLEXITY_WAYS["batch perplexities"],
        ),
        Misconception(
            "the mean over texts",
            "You took the mean of each text, and then the mean of those. A token of a short text weighs more then. Sum "
            "over all tokens, divide once.",
            wrong=_PERPLEXITY_WAYS["texts"],
        ),
        Misconception(
            "the loss, not the perplexity",
            "{outputs[perplexity]:.3f} is the mean loss in nats. Its exponential is the perplexity: among how many "
            "equally likely tokens the model would be choosing.",
            wrong=_PERPLEXITY_WAYS["nats"],
        ),
        Misconception(
            "two to the power of nats",
            "You raised 2 to a loss in nats. To the base e belongs exp; 2 belongs to bits. Yours, "
            "{outputs[perplexity]:.3f}, looks better than the model is.",
            wrong=_PERPLEXITY_WAYS["bits"],
        ),
        Misconception(
            "the inverse",
            "{outputs[perplexity]:.3f} is the geometric mean of the probabilities. The perplexity is 1 over that, and "
            "never below 1.",
            wrong=_PERPLEXITY_WAYS["inverse"],
        ),
        Misconception(
            "the exponential of each token",
            "You averaged 1 / probability over the tokens. The mean comes first, of the logarithms, and the "
            "exponential after it; otherwise one rare word decides everything.",
            wrong=_PERPLEXITY_WAYS["tokens"],
        ),
    ),
    hints=(
        "Two numbers go through all batches: a sum of losses, and how many tokens there were.",
        "In a batch: F.cross_entropy(logits[:, :-1][real], tokens[:, 1:][real], reduction='sum'), with real = mask[:, "
        "1:].",
        "total += that sum; count += real.sum(); after all batches math.exp(total / count).",
    ),
)

# 12.5: the head that is the embedding ------------------------------------------------------------

RATE = 0.5


class TinyDecoder(nn.Module):
    """Words, one layer and a head; tied, the head's weight is the very tensor of the words."""

    def __init__(self, vocabulary: int, width: int, *, tied: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(self.words(tokens))))


def _draw_untie(rng: np.random.Generator) -> Inputs:
    vocabulary = int(rng.integers(4, 7))
    return {
        "vocabulary": vocabulary,
        "width": int(rng.integers(2, 4)),
        "tokens": rng.permutation(vocabulary)[:3],
        "next_tokens": rng.permutation(vocabulary)[:3],
        "seed": int(rng.integers(1000)),
    }


def _decoder(inputs: Inputs, *, tied: bool) -> TinyDecoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"])
        return TinyDecoder(inputs["vocabulary"], inputs["width"], tied=tied)


def _step(model: nn.Module, inputs: Inputs) -> None:
    """One step of gradient descent on whatever can be trained."""
    loss = F.cross_entropy(model(torch.from_numpy(inputs["tokens"])), torch.from_numpy(inputs["next_tokens"]))
    if loss.requires_grad:
        loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter -= RATE * parameter.grad


def _probe_untie(answer, inputs: Inputs) -> Outputs:
    tokens = torch.from_numpy(inputs["tokens"])
    model, other = _decoder(inputs, tied=True), _decoder(inputs, tied=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inputs["seed"] + 1)
        more = plain(answer(model), what="what `untie` returned")
        more_of_other = plain(answer(other), what="what `untie` returned")
    with torch.no_grad():
        logits = model(tokens).numpy().copy()
    words = model.words.weight.detach().clone()
    trained = sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    _step(model, inputs)
    return {
        "logits": logits,
        "trained": trained,
        "head": plain(model.head.weight),
        "words_moved": (model.words.weight.detach() - words).abs().max().item(),
        "more": more,
        "more_of_other": more_of_other,
    }


def _oracle_untie(inputs: Inputs) -> Outputs:
    """The gradient of the head alone, as if the words were constants."""
    model, tokens = _decoder(inputs, tied=True), torch.from_numpy(inputs["tokens"])
    weight = model.words.weight.detach()
    with torch.no_grad():
        hidden = torch.tanh(model.body(model.words(tokens)))
        logits = hidden @ weight.T
        away = logits.softmax(dim=1) - F.one_hot(torch.from_numpy(inputs["next_tokens"]), len(weight))
    return {
        "logits": logits.numpy(),
        "trained": ["body.bias", "body.weight", "head.weight"],
        "head": (weight - RATE * away.T @ hidden / len(tokens)).numpy(),
        "words_moved": 0.0,
        "more": weight.numel(),
        "more_of_other": 0,
    }


def _right_head(outputs: Outputs, expected: Outputs) -> bool:
    return outputs["head"].shape == expected["head"].shape and np.allclose(outputs["head"], expected["head"], atol=1e-4)


def _stood_still(inputs: Inputs, outputs: Outputs) -> bool:
    return np.array_equal(outputs["head"], _decoder(inputs, tied=True).words.weight.detach().numpy())


UNTIE = Exercise(
    id="12.5",
    title="Two names for one tensor",
    points=4,
    difficulty=3,
    minutes=15,
    entry="untie",
    draw=_draw_untie,
    probe=_probe_untie,
    oracle=_oracle_untie,
    aspects=(
        Aspect("logits", "the model computes what it computed", 0.1, 1e-5),
        Aspect("trained", "what can be trained", 0.15),
        Aspect("head", "the head after a step", 0.3, 1e-4),
        Aspect("words_moved", "the words stay", 0.2, 0.0),
        Aspect("more", "how many numbers more it holds", 0.15, 0.0),
        Aspect("more_of_other", "a model that was not tied gets no copy", 0.1, 0.0),
    ),
    misconceptions=(
        Misconception(
            "the head was frozen with the words",
            "The words stay, and so does the head: it did not move at all in a step. Both are one tensor, and you have "
            "frozen it. Give the head a copy of its own first.",
            shows=lambda i, o, e: o["words_moved"] == 0 and _stood_still(i, o),
        ),
        Misconception(
            "two parameters, one memory",
            "The words are frozen, and moved all the same, by {outputs[words_moved]:.3f}. Head and words are two "
            "parameters now, but share their numbers: `.data` and `.detach()` copy nothing, and an optimiser writes in "
            "place. Use .clone().",
            shows=lambda i, o, e: o["words_moved"] > 0 and "words.weight" not in o["trained"],
        ),
        Misconception(
            "the words are still open",
            "The head has its own tensor, but the words can be trained: they moved by {outputs[words_moved]:.3f} in a "
            "step. Freeze them.",
            shows=lambda i, o, e: "words.weight" in o["trained"],
        ),
        Misconception(
            "a head at random",
            "The model computes something else than before: its head is new. All that it knew about which word follows "
            "is gone. The copy starts with the numbers of the words.",
            shows=lambda i, o, e: not np.allclose(o["logits"], e["logits"], atol=1e-4),
        ),
        Misconception(
            "the rest was frozen too",
            "Head and words are as they should be, but you have closed the layer between them: trainable are "
            "{outputs[trained]}.",
            shows=lambda i, o, e: set(o["trained"]) < set(e["trained"]),
        ),
        Misconception(
            "counted where nothing was added",
            "All is right with the tied model. The other one had a head of its own from the start: it holds no number "
            "more than before, and you report {outputs[more_of_other]}.",
            shows=lambda i, o, e: o["more"] == e["more"] and o["more_of_other"] != 0 and _right_head(o, e),
        ),
        Misconception(
            "another count",
            "The model is right. It holds {expected[more]} numbers more than before, those of the copy, and you report "
            "{outputs[more]}.",
            shows=lambda i, o, e: o["more"] != e["more"] and _right_head(o, e),
        ),
    ),
    hints=(
        "`model.head.weight is model.words.weight` says whether there is one tensor or two.",
        "A new tensor needs new memory: nn.Parameter(model.words.weight.detach().clone()).",
        "If tied: model.head.weight = nn.Parameter(clone), and its numel() is what is returned, else 0. Then "
        "model.words.weight.requires_grad_(False), after the copy.",
    ),
)
