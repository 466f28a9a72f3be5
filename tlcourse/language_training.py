"""Training a language model as a plan says, the old text beside the new where it is to be remembered. Lesson 12.

`training.train` scores by `evaluation.metrics`, which takes one label a sample; tokens train by `loops.run_epochs`.
"""

import math

import torch
from torch import Tensor

from tlcourse.language import LanguageModel, next_token_loss, perplexity
from tlcourse.loops import run_epochs
from tlcourse.masked import Masked, join
from tlcourse.plans import Plan, apply_plan
from tlcourse.run import History
from tlcourse.runtime import pick_device

__all__ = ["train_language"]

# The second is 0.999 by default, an average over more steps than short runs have; language models use this one.
BETAS = (0.9, 0.95)


def train_language(
    model: LanguageModel,
    tokens: Masked,
    plan: Plan,
    *,
    epochs: int = 1,
    batch_size: int = 8,
    val: Masked | None = None,
    replay: Masked | None = None,
    replayed: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> History:
    """Train on rows of tokens as the plan says: AdamW, the mean loss by token, cosine rates after a warm-up.

    Parameters
    ----------
    model
        Changed in place, and left on the device in eval mode.
    tokens
        Token ids (n, L), padded on the right.
    val
        Rows that are scored after each epoch.
    replay
        Old rows: some are added to every batch, drawn with replacement, and count like the new ones.
    replayed
        How many to a batch; default: as many as new ones.

    Returns
    -------
    History
        ``train_loss`` is the mean over the batches, in nats, replayed rows included; ``val`` holds ``perplexity`` and
        ``log_loss``, its logarithm, where there is a ``val``.

    Raises
    ------
    ValueError
        If a number is out of range, there is no row, or the plan does not fit the model.
    FloatingPointError
        If the loss stops being a number.

    Examples
    --------
    >>> from transformers import AutoModel, GPT2Config
    >>> from tlcourse import Backbone, Rule
    >>> from tlcourse.causal_stages import RightPadded, causal_stages
    >>> sizes = {"vocab_size": 4, "n_embd": 8, "n_layer": 1, "n_head": 1, "bos_token_id": 0, "eos_token_id": 0}
    >>> stages = causal_stages(AutoModel.from_config(GPT2Config(**sizes)))
    >>> reads = RightPadded(name="tiny", folder="none")
    >>> model = LanguageModel(Backbone("tiny", stages, feature_dim=8, preprocessing=reads, pretrained=False))
    >>> texts = Masked(torch.tensor([[1, 2, 3]] * 4), torch.ones(4, 3, dtype=torch.bool))
    >>> history = train_language(model, texts, Plan("all", (Rule("*", 1e-2),)), epochs=5, batch_size=2)
    >>> history.train_loss[-1] < history.train_loss[0]
    True
    """
    if replayed is not None and replayed < 1:
        raise ValueError(f"replayed={replayed}: a whole number, at least 1, is needed")
    if not len(tokens) or (replay is not None and not len(replay)):
        raise ValueError("there is no row to train on, or to replay: give Masked token ids (n, L) with n above 0")
    if replayed is not None and replay is None:
        raise ValueError(f"replayed={replayed}, but there is nothing to replay: give replay=, old rows")
    where = pick_device(device)
    model.to(where)
    apply_plan(model, plan)
    model.to(where)  # what the plan may have added

    def loss_of(index: Tensor, generator: torch.Generator) -> tuple[Tensor, int]:
        batch = tokens[index]
        if replay is not None:
            old = torch.randint(len(replay), (replayed or len(index),), generator=generator)
            batch = join([batch, replay[old]])
        batch = batch.to(where)
        return next_token_loss(model(batch), batch), 1

    def score() -> dict[str, float]:
        found = perplexity(model, val, batch_size=64)
        return {"perplexity": found, "log_loss": math.log(found)}

    return run_epochs(
        model,
        plan,
        loss_of,
        rows=len(tokens),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        device=where,
        betas=BETAS,
        score=None if val is None else score,
    )
