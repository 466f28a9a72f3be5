"""Messages from the jail: what goes in comes out, and whatever else comes ends in ChannelError, quickly and in little
memory."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from tlcourse.grading.channel import HEADER, LARGEST, MAGIC, ChannelError, Reader, pack, same, unpack

PLAIN = [
    None,
    {"a": [1, 2.5, "x", True, None], "b": {"c": []}},
    {"x": np.arange(6).reshape(2, 3), "y": np.array(1.5), "z": np.zeros((0, 3))},
    {"nan": float("nan"), "inf": [float("inf")], "big": 2**62},
    [np.array([True]), np.array([1 + 2j]), np.float16(0.5)],
    "\ud800 lone",
]
NOT_PLAIN = [
    object(),
    {1: 2},
    {"$array": 0},
    np.array(["text"]),
    np.array([{}], dtype=object),
    2**64,
    {"f": print},
    b"x",
]


def bombed(shape, content=b"", dtype="'<f8'"):
    """An array whose header promises what is not there."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return np.lib.format.magic(1, 0) + struct.pack("<H", len(header)) + header + content


def archive(content, *, method=zipfile.ZIP_STORED, name="a0.npy"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as made:
        made.writestr(name, content)
    return buffer.getvalue()


def message(text, arrays=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return HEADER.pack(MAGIC, len(text), len(arrays)) + text + arrays


ONE = {"$array": 0}
MALFORMED = {
    "nothing": b"",
    "short": b"TLC1",
    "text": b"score: 100 of 100, well done, all the tests have passed",
    "a pickle": pickle.dumps({"score": 100}),
    "cut off": pack({"a": 1})[:-1],
    "too long": pack({"a": 1}) + b"x",
    "no JSON": message(b"{"),
    "deep JSON": message(b"[" * 100_000 + b"]" * 100_000),
    "nested": message(b"[" * 60 + b"]" * 60),
    "long number": message(b"9" * 100_000),
    "no UTF-8": message(b'"\xff"'),
    "an array that is not there": message({"$array": 0}),
    "a negative array": message({"$array": -1}, archive(bombed((1,), bytes(8)))),
    "an array and more": message({"$array": 0, "x": 1}, archive(bombed((1,), bytes(8)))),
    "no zip": message(ONE, b"PK no"),
    "another name": message(ONE, archive(bombed((1,), bytes(8)), name="../a0.npy")),
    "a compressed array": message(ONE, archive(bombed((100_000,), bytes(800_000)), method=zipfile.ZIP_DEFLATED)),
    "a petabyte": message(ONE, archive(bombed((10**15,)))),
    "a negative shape": message(ONE, archive(bombed((-1,)))),
    "an overflow": message(ONE, archive(bombed((2**62, 4), bytes(8)))),
    "objects": message(ONE, archive(bombed((1,), pickle.dumps([print]), dtype="'|O'"))),
    "records": message(ONE, archive(bombed((1,), bytes(16), dtype="[('a', '<f8'), ('b', '<f8')]"))),
    "code in a header": message(ONE, archive(bombed((1,), bytes(8), dtype="__import__('os').getcwd()"))),
    "a later version": message(ONE, archive(b"\x93NUMPY\x03\x00" + bytes(20))),
}


@pytest.mark.parametrize("value", PLAIN)
def test_plain_data_comes_back(value):
    assert same(unpack(pack(value)), value)


def test_tensors_and_tuples_come_back_as_arrays_and_lists():
    found = unpack(pack({"t": (torch.ones(2, 3, requires_grad=True), torch.ones(2, dtype=torch.bfloat16))}))
    assert found["t"][0].shape == (2, 3)
    assert found["t"][1].dtype == np.float32


@pytest.mark.parametrize("value", NOT_PLAIN)
def test_other_data_is_refused(value):
    with pytest.raises(ChannelError):
        pack(value)


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_are_refused(name):
    with pytest.raises(ChannelError):
        unpack(MALFORMED[name])


def test_a_stream_is_cut_into_messages():
    reader, stream = Reader(), pack({"a": np.arange(3)}) + pack([1])
    found = [value for byte in stream for value in reader.feed(bytes([byte]))]
    assert same(found, [{"a": np.arange(3)}, [1]])


@pytest.mark.parametrize("head", [b"XXXX" + bytes(12), HEADER.pack(MAGIC, 5, LARGEST), HEADER.pack(MAGIC, 2**31, 0)])
def test_a_stream_is_refused_by_its_head(head):
    """Before anything is waited for or allocated."""
    with pytest.raises(ChannelError):
        list(Reader().feed(head))


def test_sameness_is_to_the_bit():
    assert same({"x": np.array([1.0, np.nan])}, {"x": np.array([1.0, np.nan])})
    assert not same(np.zeros(2), np.zeros((2, 1)))
    assert not same(np.zeros(2), np.zeros(2, dtype=np.float32))
    assert not same([1], [True])
