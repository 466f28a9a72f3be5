import numpy as np
import pytest
import torch

from tlcourse.data import load_task
from tlcourse.pasted import paste_digits

BAD_CALLS = [  # options, words
    ({"classes": 0}, "classes=0: 1 for any digit"),
    ({"classes": 11}, "classes=11"),
    ({"digits": (0, 2)}, r"digits=\(0, 2\): the fewest and the most"),
    ({"digits": (3, 2)}, r"digits=\(3, 2\)"),
    ({"samples": 9}, "samples=9: three splits need at least 10"),
    ({"samples": 40, "labels": 25}, "labels=25: of 40 samples 24 are there to train on"),
    ({"samples": 40, "labels": 0}, "labels=0"),
    ({"size": 80}, "size=80: solar cells are kept at 64, 96 or 224"),
]


@pytest.fixture(scope="module")
def task():
    return paste_digits(samples=60)


@pytest.fixture(scope="module")
def cells():
    return load_task("solar", size=64, seed=0)


def parts(task):
    return {"train": task.train, "val": task.val, "test": task.test}


def test_pictures_and_masks_are_what_segmentation_takes(task):
    assert {part: len(split) for part, split in parts(task).items()} == {"train": 36, "val": 9, "test": 15}
    for split in parts(task).values():
        assert split.inputs.dtype == torch.uint8
        assert split.inputs.shape[1:] == (3, 64, 64)
        assert split.labels.dtype == torch.int64
        assert split.labels.shape == (len(split), 64, 64)
        assert 0 < split.labels.max() < len(task.class_names) == 11
    assert "NC-SA" in task.provenance.licence


def test_the_mask_is_where_the_cell_was_changed(task, cells):
    """Ink covers the cell by half or more within the mask, and by less outside of it."""
    whole = {part: dict(zip(s.index.tolist(), s.inputs, strict=True)) for part, s in parts(cells).items()}
    for part, split in parts(task).items():
        for picture, mask, row in zip(split.inputs, split.labels, split.index.tolist(), strict=True):
            cell = whole[part][row][0].double()  # a KeyError says that the cell is of another split
            changed = (picture[0].double() - cell).abs()
            assert (picture == picture[0]).all()
            assert changed[mask > 0].mean() > 60
            far = torch.nn.functional.max_pool2d((mask > 0)[None].float(), 7, stride=1, padding=3)[0] == 0
            assert changed[far].max() <= 10  # only faint edges reach beyond
            outside = (mask == 0) & ~far
            assert changed[outside].mean() < 0.4 * changed[mask > 0].mean()


def test_no_cell_and_no_digit_is_in_two_splits(monkeypatch, cells):
    """Digits are told by their pixels: each one that is pasted is noted."""
    import tlcourse.pasted as pasted

    paste, seen = pasted._paste, []
    monkeypatch.setattr(pasted, "_paste", lambda p, m, glyph, *rest: (seen.append(glyph), paste(p, m, glyph, *rest)))
    task = pasted.paste_digits(samples=200)
    rows = [set(split.index.tolist()) for split in parts(task).values()]
    assert [len(each) for each in rows] == [120, 30, 50]  # each cell once
    assert not rows[0] & rows[1] and not rows[1] & rows[2] and not rows[0] & rows[2]
    digits = parts(load_task("digits"))
    kept = {part: {glyph.numpy().tobytes() for glyph in split.inputs[:, 0]} for part, split in digits.items()}
    found = [next(part for part in kept if glyph.numpy().tobytes() in kept[part]) for glyph in seen]
    order = {"train": 0, "val": 1, "test": 2}
    assert [order[part] for part in found] == sorted(order[part] for part in found)
    assert set(found) == set(order)


def test_as_many_digits_as_asked_for(monkeypatch):
    import tlcourse.pasted as pasted

    seen = []
    monkeypatch.setattr(pasted, "_paste", lambda p, m, g, label, rng: seen.append(label))
    pasted.paste_digits(samples=50, digits=(2, 2), classes=3)
    assert len(seen) == 100
    assert set(seen) == {1, 2, 3}
    assert min(np.bincount(seen)[1:]) > 20


def test_one_class_is_any_digit_on_the_same_pictures(task):
    single = paste_digits(samples=60, classes=1)
    assert single.class_names == ("background", "digit")
    assert torch.equal(single.train.inputs, task.train.inputs)
    assert torch.equal(single.train.labels, (task.train.labels > 0).long())


def test_the_later_digit_covers_the_earlier():
    from tlcourse.pasted import _paste

    picture, mask, glyph = torch.full((64, 64), 0.2), torch.zeros(64, 64, dtype=torch.int64), torch.full((28, 28), 255)
    rng = np.random.default_rng(0)
    for label in (1, 2, 3):
        before = mask.clone()
        _paste(picture, mask, glyph, label, rng)
        new = mask == label
        assert new.sum() == new.any(dim=0).sum() * new.any(dim=1).sum()  # a whole box
        assert torch.equal(mask[~new], before[~new])


def test_ink_stands_out_from_its_ground():
    from tlcourse.pasted import _paste

    for ground in (0.0, 0.3, 0.7, 1.0):
        picture, mask = torch.full((64, 64), ground), torch.zeros(64, 64, dtype=torch.int64)
        _paste(picture, mask, torch.full((28, 28), 255), 1, np.random.default_rng(0))
        assert (picture[mask == 1] - ground).abs().min() > 0.4


def test_few_labels_are_among_more_and_the_seed_decides(task):
    few = paste_digits(samples=60, labels=5)
    assert len(few.train) == 5
    assert torch.equal(few.train.inputs, task.train.inputs[:5])
    assert torch.equal(few.test.labels, task.test.labels)
    other = paste_digits(samples=60, seed=1)
    assert not torch.equal(other.test.inputs, task.test.inputs)


@pytest.mark.parametrize(("options", "words"), BAD_CALLS)
def test_bad_calls_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        paste_digits(**options)
