"""Tables of pictures, curves over stages, maps of similarity: what they draw is what they were given."""

import doctest
import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from tlcourse import pictures, plots
from tlcourse.intervals import Scores
from tlcourse.pictures import picture_table, similarity_maps, stage_curves

RED = np.zeros((2, 3, 4, 4), dtype=np.uint8) + np.array([200, 10, 30], dtype=np.uint8).reshape(1, 3, 1, 1)
STEM, NECK = Scores((0.5, 0.6, 0.55), (0, 1, 2)), Scores((0.8, 0.9, 0.85), (0, 1, 2))
BAD = [  # call, words
    (lambda: picture_table({}), "no row"),
    (lambda: picture_table({"stem": np.zeros((0, 4, 4))}), r"row 'stem': need .* not \(0, 4, 4\)"),
    (lambda: picture_table({"stem": np.zeros((2, 2, 4, 4))}), r"not \(2, 2, 4, 4\)"),
    (lambda: picture_table({"stem": RED}, titles=["one"]), "2 columns but 1 titles"),
    (lambda: similarity_maps({"a": np.eye(3)}, rows="ab", columns="ab"), "'a': need 2 x 2 finite values"),
    (lambda: similarity_maps({"a": np.full((1, 1), np.nan)}, rows="a", columns="a"), "finite"),
]


def rendered(figure, **options):
    """What is on the page: (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(plots.show(figure, alt="a test", **options))).convert("RGB"))


def spot(page, row, column, *, side, left, top=0):
    """The pixel in the middle of a picture."""
    pitch = side + pictures.GAP
    return page[top + row * pitch + side // 2, left + column * pitch + side // 2].tolist()


@pytest.mark.parametrize(("call", "words"), BAD)
def test_refuses(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_pictures_stand_in_their_rows_in_their_own_colours():
    grey = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 1, 6, 6)
    page = rendered(picture_table({"a": RED, "b": grey}, titles=["x", "y", "z"], side=40, licence="CC BY"))
    left = 12 + 8
    assert page.shape[:2] == (pictures.LINE * 2 + 2 * 44, left + 3 * 44)
    assert spot(page, 0, 1, side=40, left=left, top=pictures.LINE) == [200, 10, 30]
    assert spot(page, 0, 2, side=40, left=left, top=pictures.LINE) == [255, 255, 255]  # the row is shorter
    assert [spot(page, 1, i, side=40, left=left, top=pictures.LINE)[0] for i in range(3)] == [0, 128, 255]


def test_maps_are_drawn_each_on_its_own_scale_and_without_smoothing():
    maps = np.zeros((3, 2, 2))
    maps[0, 0, 0], maps[1, 0, 0] = 1, 100  # the third is constant
    page = rendered(picture_table({"a": maps}, side=40, colour_map="gray"))
    corners = [page[10, 20 + 44 * i + 10, 0] for i in range(3)]
    assert corners == [255, 255, 0]
    assert set(np.unique(page[:40, 20:60])) == {0, 255}


def test_a_divided_table_has_a_wider_gap():
    plain, divided = (rendered(picture_table({"a": RED}, side=40, divide=divide)) for divide in (None, 1))
    assert divided.shape[1] == plain.shape[1] + 3 * pictures.GAP
    assert spot(divided, 0, 1, side=40, left=20 + 3 * pictures.GAP) == [200, 10, 30]


def test_few_colours_take_fewer_bytes_and_look_the_same():
    noise = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    figure = picture_table({"a": noise}, side=64)
    full, small = plots.show(figure, alt="a test"), plots.show(figure, alt="a test", colours=256)
    assert len(small) < len(full) / 2
    assert struct.unpack(">II", small[16:24]) == struct.unpack(">II", full[16:24])
    assert small == plots.show(figure, alt="a test", colours=256)
    apart = rendered(figure).astype(float) - rendered(figure, colours=256)
    assert np.abs(apart).mean() < 20  # of 255: 256 colours for pixels at random


def test_curves_hold_means_and_intervals_in_the_order_of_the_stages():
    ax = stage_curves(
        {"probe": {"stem": STEM, "neck": NECK}, "random features": {"neck": STEM}},
        metric="accuracy",
        chance=0.25,
        level=("from scratch", NECK),
    )
    handles, labels = ax.get_legend_handles_labels()
    assert sorted(labels) == ["from scratch", "guessing", "probe", "random features"]
    probe = handles[labels.index("probe")]
    assert np.allclose(probe.lines[0].get_xydata(), [(-0.04, STEM.mean), (0.96, NECK.mean)])
    assert np.allclose(probe.lines[2][0].get_segments()[1][:, 1], NECK.interval())
    assert np.allclose(handles[labels.index("random features")].lines[0].get_xydata(), [(1.04, STEM.mean)])
    assert probe.lines[0].get_color() == plots.STYLE["probe"].colour
    assert ax.get_ylabel() == "accuracy"
    assert "n = 3 seeds" in ax.get_legend().get_title().get_text()


def test_maps_of_similarity_share_one_scale():
    figure = similarity_maps({"a": np.eye(2), "b": np.full((2, 2), -0.1)}, rows=["s", "n"], columns=["s", "n"])
    first, second = figure.axes[:2]
    assert np.array_equal(first.images[0].get_array(), np.eye(2))
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 1)
    assert [text.get_text() for text in first.get_yticklabels()] == ["s", "n"]
    assert [text.get_text() for text in second.get_yticklabels()] == ["", ""]
    assert rendered(figure).ndim == 3


def test_examples_in_docstrings():
    assert doctest.testmod(pictures).failed == 0
