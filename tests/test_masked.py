import pytest
import torch

from tlcourse.masked import Masked, join

LENGTHS = (3, 1, 5, 2)
SELECTIONS = [  # what is asked for, the rows, the longest of them
    (slice(0, 2), [0, 1], 3),
    (slice(1, 2), [1], 1),
    (slice(None), [0, 1, 2, 3], 5),
    (torch.tensor([3, 1]), [3, 1], 2),
    (torch.tensor([2, 2]), [2, 2], 5),
]


def texts(lengths=LENGTHS, *, width=None, hidden=None):
    width = width or max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    values = torch.arange(len(lengths) * width).reshape(len(lengths), width) + 1
    if hidden:
        values = values[..., None] + torch.linspace(0, 0.5, hidden)
    return Masked(values * (mask[..., None] if hidden else mask), mask)


@pytest.mark.parametrize("hidden", [None, 4])
@pytest.mark.parametrize(("index", "rows", "longest"), SELECTIONS)
def test_selected_rows_keep_their_tokens_and_lose_needless_padding(index, rows, longest, hidden):
    whole = texts(width=7, hidden=hidden)
    part = whole[index]
    assert part.mask.shape == (len(rows), longest)
    assert part.mask.sum(1).tolist() == [LENGTHS[row] for row in rows]
    assert torch.equal(part.values, whole.values[rows][:, :longest])


def test_an_empty_selection_is_empty():
    assert len(texts()[0:0]) == 0


@pytest.mark.parametrize("hidden", [None, 4])
def test_parts_of_different_widths_join_to_the_whole(hidden):
    whole = texts(hidden=hidden)
    joined = join([whole[0:2], whole[2:3], whole[3:4]])
    assert torch.equal(joined.values, whole.values)
    assert torch.equal(joined.mask, whole.mask)
    assert joined.mask.dtype == torch.bool


def test_tensors_are_concatenated():
    assert torch.equal(join([torch.zeros(2, 3), torch.ones(1, 3)]), torch.tensor([[0.0] * 3, [0.0] * 3, [1.0] * 3]))


def test_it_counts_and_iterates_over_texts():
    whole = texts()
    assert len(whole) == 4
    assert [tuple(row.values.shape) for row in whole] == [(1, length) for length in LENGTHS]
    assert whole.nbytes == 4 * 5 * 8 + 4 * 5


def test_new_values_take_the_same_mask():
    whole = texts()
    hidden = whole.with_values(torch.zeros(4, 5, 2))
    assert hidden.mask is whole.mask
    assert hidden.values.shape == (4, 5, 2)


def test_both_parts_move_and_rows_can_be_taken_without_data():
    away = texts().to(torch.device("meta"))
    assert away.device.type == away.mask.device.type == "meta"
    assert away[0:2].mask.shape == (2, 5)  # lengths are unknown there: nothing is trimmed


def test_a_mask_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and mask \(2, 4\)"):
        Masked(torch.zeros(2, 3), torch.ones(2, 4).bool())
