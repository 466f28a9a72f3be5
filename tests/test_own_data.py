import csv

import numpy as np
import pytest
import torch
from PIL import Image

from tlcourse import audit, own_data
from tlcourse.audit import Sample, alike_images, alike_texts, audited
from tlcourse.own_data import load_images, load_texts, read_image, read_rows


def picture(seed, side=40):
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    """12 different images, six a class."""
    for number in range(12):
        save(tmp_path / "data" / ("left", "right")[number % 2] / f"{number}.png", picture(number))
    return tmp_path / "data"


def sparse(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def write(path, rows, *, encoding="utf-8", delimiter=","):
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


WORDS = ["red", "green", "blue", "white", "black", "brown", "grey", "pink", "gold", "silver", "amber", "violet"]


def sentence(seed):
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=12))


def news(count=16):
    return [["text", "topic"], *([sentence(n), ("sport", "money")[n % 2]] for n in range(count))]


# What is put into the folder -> the kind of finding, what its message or items say, and whether samples are left out.
BAD_FILES = {
    "cut off": (lambda f: (f / "left/x.png").write_bytes((f / "left/0.png").read_bytes()[:900]), "unreadable", "x.png"),
    "no picture": (lambda f: (f / "left/x.jpg").write_text("hello"), "unreadable", "cannot identify"),
    "empty": (lambda f: (f / "left/x.jpg").write_bytes(b""), "unreadable", "it is empty"),
    "2 GB": (lambda f: sparse(f / "left/x.png", 2 * 2**30), "too large", "2,048 MiB, more than 100: it was not opened"),
    "tiny": (lambda f: save(f / "left/x.png", picture(50, side=7)), "tiny", "7 x 7 pixels"),
    "copy": (lambda f: save(f / "left/x.png", picture(0)), "duplicates", "left/x.png = left/0.png"),
    "two classes": (lambda f: save(f / "right/x.png", picture(0)), "two labels", "left/0.png (left) = right/x.png"),
    "loose": (lambda f: save(f / "x.png", picture(50)), "no label", "x.png"),
    "other": (lambda f: (f / "left/notes.txt").write_text("x"), "no image", "left/notes.txt"),
    "rare class": (lambda f: save(f / "up/x.png", picture(50)), "too few", "'up': 1"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_bad_is_listed_and_the_rest_is_kept(case, folder):
    spoil, kind, said = BAD_FILES[case]
    spoil(folder)
    task, found = load_images(folder, size=64)
    assert said in str(found.found(kind)) and found.found(kind).left_out
    kept = 11 if case == "two classes" else 12  # there the contradicted image goes too
    assert found.kept == len(found.sources) == kept and found.given == 13
    assert task.class_names == ("left", "right") and not any("x." in source for source in found.sources)
    assert len(task.train) + len(task.val) + len(task.test) == kept


def test_a_file_that_is_too_large_is_never_opened(folder, monkeypatch):
    sparse(folder / "left/x.png", 2 * 2**30)
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, *rest: opened.append(str(path)) or real(path, *rest))
    load_images(folder, size=64)
    assert len(opened) == 12 and not any("x.png" in path for path in opened)


def test_too_many_pixels_are_refused_before_they_are_decoded(folder, monkeypatch):
    save(folder / "left/x.png", picture(50, side=60))
    monkeypatch.setattr(own_data, "MOST_PIXELS", 2000)
    _, found = load_images(folder, size=64)
    assert found.found("too large").items == ("left/x.png: 60 x 60 pixels are more than 2,000",)


def brighter(number):
    return (picture(number) * 0.9 + 20).astype(np.uint8)


def twice(folder, count):
    """So many different images, each a second time, a shade brighter."""
    for number in range(count):
        place = folder / ("left", "right")[number % 2]
        save(place / f"{number}.png", picture(number))
        save(place / f"{number}b.png", brighter(number))


def test_near_duplicates_never_stand_on_both_sides(folder):
    twice(folder, 60)
    task, found = load_images(folder, size=64)
    assert found.kept == 120 and len(found.groups.unique()) == 60 and found.found("large groups") is None
    assert len(found.found("near-duplicates").items) == 60 and found.found("near-duplicates, two labels") is None
    parts = [set(found.groups[split.index].tolist()) for split in (task.train, task.val, task.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 60


def test_where_groups_cannot_be_dealt_one_of_each_is_kept(folder):
    twice(folder, 12)
    task, found = load_images(folder, size=64)
    assert found.kept == len(found.groups.unique()) == 12 and found.counts == {"left": 6, "right": 6}
    assert len(found.found("large groups").items) == 12 and found.given == 24
    assert len(task.train) + len(task.val) + len(task.test) == 12


def test_near_duplicates_with_two_labels_are_named(folder):
    save(folder / "right/x.png", brighter(0))
    _, found = load_images(folder, size=64)
    assert found.found("near-duplicates, two labels").items == ("left/0.png (left) ~ right/x.png (right)",)
    assert found.kept == 13


FEW = {
    "one class": (lambda f: [path.unlink() for path in (f / "right").iterdir()], "one class only, 'left'"),
    "two images": (
        lambda f: [path.unlink() for path in f.rglob("*.png") if path.stem not in ("0", "1")],
        r"no class with at least 5 .* is left of 2 samples.* 'left' 1, 'right' 1",
    ),
    "nothing": (lambda f: [path.unlink() for path in f.rglob("*.png")], "no image with a label in"),
}


@pytest.mark.parametrize("case", FEW)
def test_too_little_is_said_in_numbers(case, folder):
    spoil, message = FEW[case]
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        load_images(folder, size=64)


def test_the_error_lists_why_the_rest_was_left_out(folder):
    for path in (folder / "right").iterdir():
        path.write_text("spoilt")
    with pytest.raises(ValueError, match="one class only, 'left'(.|\n)*\n- unreadable: 6 files are left out"):
        load_images(folder, size=64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 65}, "size=65: images are resized to 64, 96, 224"), ({"folder": "nowhere"}, "nowhere is not a folder")],
)
def test_wrong_arguments(arguments, message, folder):
    with pytest.raises(ValueError, match=message):
        load_images(**{"folder": folder, **arguments})


def test_spellings_of_one_label_are_one(folder):
    (folder / "Left ").mkdir()
    for number in (20, 21):
        save(folder / "Left " / f"{number}.png", picture(number))
    task, found = load_images(folder, size=64)
    assert found.counts == {"left": 8, "right": 6} and task.class_names == ("left", "right")
    assert found.found("spelling").items == ("'Left' = 'left' -> 'left'",)


def test_labels_from_a_table(folder, tmp_path):
    rows = [[f"{'left' if n % 2 == 0 else 'right'}/{n}.png", "odd" if n % 2 else "even"] for n in range(12)]
    rows += [["left/gone.png", "odd"], ["../../etc/passwd", "odd"], ["left/0.png", " "]]
    table = write(tmp_path / "labels.csv", [["file", "label"], *rows])
    task, found = load_images(folder, labels=table, size=64)
    assert task.class_names == ("even", "odd") and found.counts == {"even": 6, "odd": 6} and found.given == 15
    assert found.found("missing").items[0].startswith("left/gone.png")
    assert found.found("outside").items == ("row 15: ../../etc/passwd",)
    assert found.found("no label").items == ("left/0.png",)


def test_imbalance_is_said(folder):
    for number in range(100, 170):
        save(folder / "left" / f"{number}.png", picture(number, side=20))
    _, found = load_images(folder, size=64)
    assert "'right' has 6 of 82 samples" in found.found("unbalanced").message
    assert len(found.found("enlarged").items) == 82


def modes():
    grey = np.linspace(0, 255, 40 * 40).reshape(40, 40)
    opaque = np.dstack([picture(0), np.full((40, 40), 255, dtype=np.uint8)])
    return {
        "L": (Image.fromarray(grey.astype(np.uint8)), lambda x: np.abs(x - grey.astype(np.uint8)).max() < 1),
        "16 bits": (Image.fromarray((grey * 257).astype(np.uint16)), lambda x: np.abs(x - grey).max() <= 1),
        "transparent": (Image.new("RGBA", (40, 40), (0, 0, 0, 0)), lambda x: (x == 255).all()),
        "opaque": (Image.fromarray(opaque), lambda x: np.ptp(x) > 200),
        "palette": (Image.fromarray(grey.astype(np.uint8)).convert("P"), lambda x: np.ptp(x) > 200),
    }


@pytest.mark.parametrize("mode", ["L", "16 bits", "transparent", "opaque", "palette"])
def test_every_mode_becomes_eight_bits_of_colour(mode, tmp_path):
    image, holds = modes()[mode]
    image.save(tmp_path / "x.png")
    decoded = own_data._in_colour(Image.open(tmp_path / "x.png"))
    assert decoded.mode == "RGB" and holds(np.asarray(decoded).astype(float)[..., 0])


def test_a_photograph_on_its_side_is_turned_upright(tmp_path):
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[:, :30] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees: left comes up
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif)
    x = read_image(tmp_path / "x.jpg", size=64)
    assert x.dtype == torch.uint8 and x.shape == (3, 64, 64)
    assert x[:, :20].float().mean() > 250 and x[:, -20:].float().mean() < 5


def test_one_image_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match="it is empty"):
        read_image(tmp_path / "x.png", size=64)
    with pytest.raises(ValueError, match="there is no such file"):
        read_image(tmp_path / "y.png", size=64)


def test_a_table_of_texts(tmp_path):
    rows = news()
    rows[2][1] = " Money"
    rows += [["", "sport"], [sentence(1), "money"], [sentence(2), "money"], [sentence(4) + " red", "sport"]]
    task, found = load_texts(write(tmp_path / "x.csv", rows), text="text", label="topic")
    assert found.given == 20 and found.kept == 16 and found.counts == {"money": 8, "sport": 8}
    assert found.found("empty").items == ("row 18",)
    assert found.found("duplicates").items == ("row 19 = row 3",)
    assert found.found("two labels").items == ("row 4 (sport) = row 20 (money)",)
    assert found.found("near-duplicates").items == ("row 6 ~ row 21",)
    assert found.found("spelling").items == ("'Money' = 'money' -> 'money'",)
    assert task.preprocessing_name == "minilm" and task.train.inputs.mask.any(dim=1).all()


BAD_TABLES = {
    "cp1252": (
        lambda p: write(p, [*news(), ["café", "x"]], encoding="cp1252"),
        r"byte 0xe9 in line 18.*iconv -f cp1252",
    ),
    "utf-16": (lambda p: write(p, news(), encoding="utf-16"), "UTF-16, not UTF-8: convert it with: iconv -f utf-16"),
    "missing column": (lambda p: write(p, [["words", "kind"], ["a", "b"]]), "no column 'text'; .*: 'words', 'kind'"),
    "empty file": (lambda p: p.write_bytes(b""), "no column 'text'; its columns are: none"),
    "2 GB": (lambda p: sparse(p, 2 * 2**30), "2,048 MiB, more than 500, and was not opened"),
    "absent": (lambda p: None, "there is no file"),
    "endless field": (
        lambda p: write(p, [*news(), ["x" * 200_000, "sport"]]),
        "no CSV that can be .*: after line 17",
    ),
    "one class": (lambda p: write(p, [row if n == 0 else [row[0], "a"] for n, row in enumerate(news())]), "one class"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_says_what_to_do(case, tmp_path):
    spoil, message = BAD_TABLES[case]
    spoil(tmp_path / "x.csv")
    with pytest.raises(ValueError, match=message):
        load_texts(tmp_path / "x.csv", text="text", label="topic")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_fields_may_be_separated_otherwise_and_a_mark_of_byte_order_is_no_name(delimiter, tmp_path):
    path = write(tmp_path / "x.csv", [["text", "topic"], ["a;b,c", "d"]], encoding="utf-8-sig", delimiter=delimiter)
    assert read_rows(path, ("text", "topic")) == [("row 2", {"text": "a;b,c", "topic": "d"})]


def test_texts_need_a_backbone_that_reads_them(tmp_path, tiny_backbone):
    with pytest.raises(ValueError, match="holds texts, but backbone 'tiny' reads images"):
        load_texts(write(tmp_path / "x.csv", news()), text="text", label="topic", backbone=tiny_backbone)


def test_texts_are_alike_in_any_script():
    same = "это очень длинное предложение которое повторяется почти слово в слово каждый раз"
    assert alike_texts([same, "совсем другое предложение о чём то ещё", same + " снова"]).tolist() == [0, 1, 0]
    assert alike_texts(["short", "brief"]).tolist() == [0, 1]


def test_alike_images_are_those_that_differ_in_brightness_alone():
    images = [torch.from_numpy(picture(n)).permute(2, 0, 1) for n in range(3)]
    darker = (images[1].float() / 2).to(torch.uint8)
    assert alike_images([*images, darker]).tolist() == [0, 1, 2, 1]


def test_more_than_can_be_compared_is_said(monkeypatch):
    monkeypatch.setattr(audit, "MOST_COMPARED", 10)
    samples = [Sample(f"row {n}", "ab"[n % 2], sentence(n), str(n)) for n in range(20)]
    kept, found = audited(samples, given=20, alike=lambda _: pytest.fail("compared"))
    assert len(kept) == 20 and found.groups.tolist() == list(range(20))
    assert "20 samples are too many" in found.found("not compared").message


def test_groups_follow_the_samples_that_are_kept():
    labels = ["a"] * 6 + ["rare"] * 2 + ["b"] * 6
    samples = [Sample(f"row {n}", label, sentence(n), str(n)) for n, label in enumerate(labels)]
    kept, found = audited(samples, given=14, alike=lambda contents: torch.arange(len(contents)) + 100)
    assert found.sources == tuple(sample.source for sample in kept)
    assert found.groups.tolist() == [100 + int(source.split()[1]) for source in found.sources] and len(kept) == 12


def test_an_audit_prints_a_few_items_and_counts_the_rest():
    samples = [Sample(f"row {n}", "ab"[n % 2], sentence(n), str(n % 14)) for n in range(28)]
    _, found = audited(samples, given=28, alike=alike_texts)
    lines = str(found).splitlines()
    assert lines[0] == "kept 14 of 28: a 7, b 7"
    assert lines[1].endswith("row 18 = row 4; and 9 more)")
