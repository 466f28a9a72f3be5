"""Submissions of every odd kind: read without executing, unpacking or following anything, or refused with a reason."""

import io
import json
import os
import stat
import zipfile

import pytest

from tests.grading_course import REFERENCE, cell, hand_in, notebook
from tlcourse.grading.intake import LARGEST_NOTEBOOK, IntakeError, find_submissions, learner_id, read_notebook

GOOD = notebook(REFERENCE).encode()
OLD = {  # nbformat 3, with worksheets
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": ""},
    "worksheets": [
        {
            "cells": [
                {
                    "cell_type": "code",
                    "input": ["x = 1\n", "y = 2"],
                    "language": "python",
                    "metadata": {},
                    "outputs": [],
                }
            ]
        }
    ],
}
NO_NOTEBOOK = {
    "empty": b"",
    "text": b"hello",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a list": b"[]",
    "no format": b'{"cells": []}',
    "a format that is none": b'{"nbformat": "4", "cells": []}',
    "no cells": b'{"nbformat": 4}',
    "cells that are none": b'{"nbformat": 4, "cells": 7}',
    "too many cells": json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": ""}] * 2_001}).encode(),
    "very deep": b"[" * 200_000 + b"]" * 200_000,
    "a number without end": b'{"nbformat": ' + b"4" * 100_000 + b"}",
    "another encoding": "{}".encode("utf-16"),
    "an old one, damaged": json.dumps(OLD | {"worksheets": 7}).encode(),
}
ODD_CELLS = [
    7,
    None,
    {},
    {"cell_type": "code"},
    {"cell_type": "code", "source": 7, "metadata": []},
    {"cell_type": ["code"], "source": [7, "x"], "metadata": None},
    {"cell_type": "video", "source": "\ud800 x", "metadata": {"tags": 7}},
]


def zipped(members, *, target=None):
    """A zip from name -> bytes; a name may be a ZipInfo."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members:
            made.writestr(name, content)
    if target is not None:
        target.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def only(folder):
    (found,) = find_submissions(folder)
    return found


@pytest.mark.parametrize("name", NO_NOTEBOOK)
def test_what_is_no_notebook_is_refused(name):
    with pytest.raises(IntakeError):
        read_notebook(NO_NOTEBOOK[name])


def test_an_older_format_is_read():
    (found,) = read_notebook(json.dumps(OLD).encode())
    assert (found["kind"], found["source"]) == ("code", "x = 1\ny = 2")


def test_a_byte_order_mark_is_read():
    assert len(read_notebook(b"\xef\xbb\xbf" + GOOD)) == 3


def test_odd_cells_become_plain():
    found = read_notebook(json.dumps({"nbformat": 4, "cells": ODD_CELLS}).encode())
    assert all(isinstance(made["source"], str) and isinstance(made["metadata"], dict) for made in found)
    assert all(made["kind"] in ("code", "raw") for made in found)
    assert found[-1]["source"] == "? x"


def test_a_folder_of_every_kind(tmp_path):
    hand_in(tmp_path, "ada")
    (tmp_path / "bob").mkdir()
    hand_in(tmp_path / "bob", "answers")
    for name in ("torch.py", "sitecustomize.py", "conftest.py"):
        (tmp_path / "bob" / name).write_text("raise SystemExit", encoding="utf-8")
    (tmp_path / "bob" / "tlcourse").mkdir()
    (tmp_path / "bob" / "tlcourse" / "__init__.py").write_text("raise SystemExit", encoding="utf-8")
    zipped([("answers.ipynb", GOOD), ("__MACOSX/._answers.ipynb", b"x")], target=tmp_path / "cem.zip")
    (tmp_path / "notes.txt").write_text("not a submission", encoding="utf-8")
    (tmp_path / ".hidden.ipynb").write_bytes(GOOD)
    found = find_submissions(tmp_path)
    assert [submission.id for submission in found] == ["ada", "bob", "cem"]
    assert [len(read_notebook(submission.read()[0])) for submission in found] == [3, 3, 3]
    ignored = found[1].read()[1]
    assert ignored == [f"ignored {n}" for n in ("conftest.py", "sitecustomize.py", "torch.py", "tlcourse/__init__.py")]


def test_a_zip_of_many(tmp_path):
    place = tmp_path / "all.zip"
    zipped([("ada_1.ipynb", GOOD), ("bob/x.ipynb", GOOD), ("bob/torch.py", b""), ("bob/data/y.csv", b"")], target=place)
    found = find_submissions(place)
    assert [submission.id for submission in found] == ["ada_1", "bob"]
    assert found[1].read() == (GOOD, ["ignored bob/torch.py", "ignored bob/data/y.csv"])


@pytest.mark.parametrize(
    "members",
    [
        [("../answers.ipynb", GOOD)],
        [("/etc/answers.ipynb", GOOD)],
        [("..\\answers.ipynb", GOOD)],
        [("a/../../answers.ipynb", GOOD)],
        [(link("answers.ipynb"), b"/etc/passwd")],
        [("bomb.ipynb", bytes(30_000_000))],
        [("steep.ipynb", b" " * 15_000_000)],
        [("a.ipynb", GOOD), ("b.ipynb", GOOD)],
        [("readme.txt", b"x")],
        [(f"{n}.txt", b"") for n in range(20_001)],
    ],
    ids=["slip", "absolute", "backslash", "through", "link", "bomb", "steep", "two", "none", "many"],
)
def test_a_bad_archive_is_its_own_problem(members, tmp_path):
    zipped(members, target=tmp_path / "eve.zip")
    hand_in(tmp_path, "ada")
    ada, eve = find_submissions(tmp_path)
    assert ada.read()[0] == GOOD
    with pytest.raises(IntakeError):
        eve.read()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ada.ipynb", "eve.zip"], "nothing was unpacked"


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06" + bytes(18) + b"x", zipped([("a.ipynb", GOOD)])[:-30]])
def test_a_damaged_archive_is_refused(content, tmp_path):
    (tmp_path / "eve.zip").write_bytes(content)
    with pytest.raises(IntakeError):
        only(tmp_path).read()


def test_an_archive_that_lies_about_a_size(tmp_path):
    content = bytearray(zipped([("a.ipynb", GOOD * 50)]))
    for mark in (b"PK\x01\x02", b"PK\x03\x04"):
        at = content.index(mark) + (24 if mark.endswith(b"\x02") else 22)
        content[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "eve.zip").write_bytes(content)
    with pytest.raises(IntakeError):
        only(tmp_path).read()


def test_links_and_devices_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = hand_in(outside, "secret")
    place = tmp_path / "handed-in"
    (place / "dan").mkdir(parents=True)
    (place / "ann.ipynb").symlink_to(secret)
    (place / "bea").symlink_to(outside)
    (place / "dan" / "link.ipynb").symlink_to(secret)
    (place / "dan" / "folder").symlink_to(outside)
    (place / "fay").mkdir()
    os.mkfifo(place / "fay" / "pipe.ipynb")
    found = find_submissions(place)
    assert [submission.id for submission in found] == ["ann", "bea", "dan", "fay"]
    for submission in found:
        with pytest.raises(IntakeError):
            submission.read()


def test_a_huge_notebook_is_not_read(tmp_path):
    with (tmp_path / "big.ipynb").open("wb") as file:
        file.truncate(LARGEST_NOTEBOOK + 1)
    with pytest.raises(IntakeError, match="20,000,001 bytes"):
        only(tmp_path).read()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ada-1815", "ada-1815"),
        ("../../etc/passwd", "etc_passwd-"),
        ("=cmd|' /C calc'!A0", "cmd_C_calc_A0-"),
        ("\u202egpj.eil", "gpj_eil-"),
        ("Łukasz Żółć", "ukasz_Zoc-"),
        ("名前", "learner-"),
        ("x" * 300, "x" * 60 + "-"),
        ("", "learner-"),
        ("bad\udcff", "bad-"),
    ],
)
def test_an_id_is_a_safe_file_name(name, expected):
    made = learner_id(name)
    assert made == expected or (made.startswith(expected) and len(made) <= 70)
    assert made.isascii()


def test_ids_stay_apart(tmp_path):
    """Also where a file system takes no notice of case."""
    for name in ("Ada", "ada", "a b", "a_b", "a+b"):
        hand_in(tmp_path, name)
    made = [submission.id.lower() for submission in find_submissions(tmp_path)]
    assert len(set(made)) == 5


def test_nothing_handed_in_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was handed in"):
        find_submissions(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_submissions(tmp_path / "missing")


def test_a_cell_of_the_tests_is_a_cell():
    assert read_notebook(notebook({}, cells=[cell("x", kind="markdown")]).encode())[0]["kind"] == "markdown"
