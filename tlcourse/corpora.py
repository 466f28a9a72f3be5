"""Articles as rows of tokens for a language model, by a tokenizer that is trained on them. Lesson 12.

Classification reads the first words of an article; a language model reads all of it, cut into rows. The splits are
those of the task ``"news"``, whose near-duplicates never stand on both sides.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tlcourse.data import Split
from tlcourse.masked import Masked
from tlcourse.readers import read_articles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["articles_of", "rows_of_tokens", "train_tokenizer"]


def articles_of(split: Split, *, topics: Sequence[int]) -> list[str]:
    """The whole articles of these topics in a split of the task ``"news"``, in lower case, in the split's order.

    Raises
    ------
    ValueError
        If the split holds rows that the news do not have.

    Examples
    --------
    >>> from tlcourse import load_task
    >>> articles = articles_of(load_task("news", labels=20).train, topics=(3,))
    >>> len(articles), articles[0].islower()
    (5, True)
    """
    texts, _ = read_articles()
    if len(split) and int(split.index.max()) >= len(texts):
        raise ValueError(f"row {int(split.index.max())}: there are {len(texts)} articles; is this a split of 'news'?")
    rows = zip(split.index.tolist(), split.labels.tolist(), strict=True)
    return [texts[row].lower() for row, label in rows if label in topics]


def train_tokenizer(texts: Sequence[str], *, vocabulary: int) -> "PreTrainedTokenizerBase":
    """A tokenizer of GPT-2's kind, pairs of bytes merged by frequency, whose merges are those of these texts.

    The first token ends a text; the same texts give the same tokenizer. Sennrich et al. 2016, section 3.2; on bytes:
    Radford et al. 2019, section 2.2.

    Parameters
    ----------
    vocabulary
        How many tokens; 257 are bytes and the end of a text.

    Raises
    ------
    ValueError
        If the vocabulary is smaller, or the texts have not as many pairs to merge.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["low lower lowest"], vocabulary=259)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("lower")["input_ids"])
    ['low', 'e', 'r']
    """
    from transformers import GPT2Tokenizer

    if vocabulary < 257:
        raise ValueError(f"vocabulary={vocabulary}: 256 bytes and the end of a text need 257")
    trained = GPT2Tokenizer().train_new_from_iterator(texts, vocab_size=vocabulary, show_progress=False)
    if len(trained) != vocabulary:
        raise ValueError(f"vocabulary={vocabulary}: these texts give {len(trained)} tokens; ask for fewer")
    return trained


def rows_of_tokens(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, length: int) -> Masked:
    """The texts cut into rows (n, length); every token of a text is predicted in exactly one of them.

    A text starts with the token that ends the one before it. A row starts with the last token of the row before, which
    is given, so that none is lost at a cut. No row holds two texts.

    Parameters
    ----------
    length
        Tokens in a row, at least 2.

    Raises
    ------
    ValueError
        If rows are shorter, or there is no text with a token.

    Examples
    --------
    >>> tokenizer = train_tokenizer(["low lower lowest"], vocabulary=259)
    >>> rows_of_tokens(tokenizer, ["lower"], length=3).values.shape
    torch.Size([2, 3])
    """
    if length < 2:
        raise ValueError(f"length={length}: a row of one token has nothing to predict")
    rows = []
    for ids in tokenizer(list(texts))["input_ids"] if texts else []:
        ids = [tokenizer.eos_token_id, *ids]
        rows += [ids[start : start + length] for start in range(0, len(ids) - 1, length - 1)]
    if not rows:
        raise ValueError("there is no text with a token")
    lengths = torch.tensor([[len(row)] for row in rows])
    values = torch.tensor([row + [tokenizer.eos_token_id] * (length - len(row)) for row in rows])
    return Masked(values, torch.arange(length) < lengths)
