import pytest
import torch

from tlcourse.corpora import articles_of, rows_of_tokens, train_tokenizer
from tlcourse.data import Split, load_task
from tlcourse.masked import Masked

TEXTS = ["the market rose and the market fell", "the match was won", ""]
REFUSED = [  # what is called, words
    (lambda t: train_tokenizer(TEXTS, vocabulary=100), "vocabulary=100: 256 bytes and the end of a text need 257"),
    (lambda t: train_tokenizer(["abc"], vocabulary=400), "vocabulary=400: these texts give 259 tokens"),
    (lambda t: rows_of_tokens(t, TEXTS, length=1), "length=1: a row of one token"),
    (lambda t: rows_of_tokens(t, [""], length=4), "there is no text with a token"),
    (lambda t: rows_of_tokens(t, [], length=4), "there is no text with a token"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocabulary=275)


@pytest.fixture(scope="module")
def news():
    return load_task("news", seed=3, max_length=16)


def test_the_tokenizer_merges_what_is_frequent_and_returns_every_text(tokenizer):
    assert len(tokenizer) == 275 and tokenizer.eos_token_id == 0
    for text in (*TEXTS, "Straße £5, \n\n 42"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("the market")["input_ids"]) == 2 < len(tokenizer("zzz")["input_ids"])
    again = train_tokenizer(TEXTS, vocabulary=275)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert train_tokenizer(["xy xy xy xy ab ab ab cd cd"], vocabulary=258).get_vocab()["xy"] == 257


@pytest.mark.parametrize("length", [2, 3, 7, 64])
def test_every_token_is_predicted_once_and_no_row_holds_two_texts(tokenizer, length):
    rows = rows_of_tokens(tokenizer, TEXTS, length=length)
    assert rows.values.shape[1] == length and rows.mask[:, :2].all()
    assert (rows.mask[:, 1:] <= rows.mask[:, :-1]).all()  # padded on the right
    pairs = []
    for values, mask in zip(rows.values, rows.mask, strict=True):
        row = values[mask].tolist()
        pairs += list(zip(row, row[1:], strict=False))
    wanted = []
    for text in TEXTS:
        ids = [0, *tokenizer(text)["input_ids"]]
        wanted += list(zip(ids, ids[1:], strict=False))
    assert pairs == wanted


def test_articles_are_those_of_the_split_whole_and_in_order(news, minilm):
    """What the task holds are the first tokens of the same articles."""
    topics = (0, 3)
    texts = articles_of(news.test, topics=topics)
    here = torch.isin(news.test.labels, torch.tensor(topics))
    assert len(texts) == int(here.sum()) > 100
    picked = Masked(news.test.inputs.values[here], news.test.inputs.mask[here])
    again = minilm.preprocessing.tokenize(texts, max_length=16)
    assert torch.equal(again.values, picked.values) and torch.equal(again.mask, picked.mask)
    assert all(text == text.lower() for text in texts) and min(map(len, texts)) > 200


def test_topics_and_splits_share_no_article(news):
    parts = [
        articles_of(split, topics=topics) for split in (news.train, news.test) for topics in ((0, 2, 4), (3,), (1,))
    ]
    texts = [text for part in parts for text in part]
    assert len(set(texts)) == len(texts) == len(news.train) + len(news.test)


def test_a_split_of_another_task_is_refused(news):
    stranger = Split(news.test.inputs[:1], news.test.labels[:1], torch.tensor([30000]))
    with pytest.raises(ValueError, match="row 30000: there are .* articles; is this a split of 'news'"):
        articles_of(stranger, topics=(0,))


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_bad_input_is_named(call, words, tokenizer):
    with pytest.raises(ValueError, match=words):
        call(tokenizer)
