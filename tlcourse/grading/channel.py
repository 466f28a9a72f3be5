"""Plain data as bytes, for the pipes between the grader and its jail: JSON beside arrays, nothing pickled.

A message is ``TLC1``, the lengths of its two parts, a JSON tree and an npz archive of the tree's arrays. What comes
out of the jail was perhaps made by hostile code: reading it executes nothing, allocates no more than what was sent,
and ends in `ChannelError` where anything is amiss.
"""

import io
import json
import math
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["LARGEST", "ChannelError", "Reader", "pack", "same", "unpack"]

MAGIC = b"TLC1"
HEADER = struct.Struct("<4sIQ")
LARGEST = 64_000_000  # bytes of a message
MOST_JSON = 16_000_000
MOST_ARRAYS = 1_000
DEEPEST = 40
ARRAY = "$array"
KINDS = frozenset("biufc")


class ChannelError(ValueError):
    """A message is malformed, too large, or holds what is no plain data."""


def pack(value: Any) -> bytes:
    """Turn plain data into a message.

    Parameters
    ----------
    value
        None, bool, int, float, str, lists, tuples (which come back as lists), dicts with text keys, numpy arrays and
        scalars, and tensors (which come back as arrays).

    Raises
    ------
    ChannelError
        If something else is in it, or it is nested too deeply or too large.

    Examples
    --------
    >>> unpack(pack({"mean": np.float32(0.5), "ids": [1, 2]}))
    {'mean': array(0.5, dtype=float32), 'ids': [1, 2]}
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_flatten(value, arrays, 0)).encode()
    buffer = io.BytesIO()
    if arrays:
        np.savez(buffer, **{f"a{number}": array for number, array in enumerate(arrays)})
    if len(text) > MOST_JSON or len(arrays) > MOST_ARRAYS or len(text) + buffer.tell() > LARGEST:
        raise ChannelError(f"{len(text) + buffer.tell()} bytes and {len(arrays)} arrays are more than a message holds")
    return HEADER.pack(MAGIC, len(text), buffer.tell()) + text + buffer.getvalue()


def unpack(message: bytes) -> Any:
    """Read a message that `pack` made, or that pretends to be one.

    Raises
    ------
    ChannelError
        If it is malformed in any way.
    """
    if len(message) < HEADER.size:
        raise ChannelError("the message is cut off")
    _, text_size, array_size = _lengths(message)
    if len(message) != HEADER.size + text_size + array_size:
        raise ChannelError("the message's length is not the one it names")
    text, archive = message[HEADER.size : HEADER.size + text_size], message[HEADER.size + text_size :]
    try:
        return _unflatten(json.loads(text), _read_arrays(archive), 0)
    except ChannelError:
        raise
    except Exception as error:  # whatever hostile bytes made a parser say
        raise ChannelError(f"the message cannot be read: {type(error).__name__}") from error


def same(left: Any, right: Any) -> bool:
    """Whether two values of plain data are equal to the bit, NaN being equal to NaN.

    Examples
    --------
    >>> same({"x": np.array([1.0, np.nan])}, {"x": np.array([1.0, np.nan])}), same([1], [1.0])
    (True, False)
    """
    arrays: tuple[list, list] = [], []
    texts = [json.dumps(_flatten(value, kept, 0)) for value, kept in zip((left, right), arrays, strict=True)]
    described = [[(array.dtype, array.shape, array.tobytes()) for array in kept] for kept in arrays]
    return texts[0] == texts[1] and described[0] == described[1]


class Reader:
    """Cut a stream of bytes into messages; each is read by `unpack`."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[Any]:
        """Take what came, and give the messages that are complete."""
        self._buffer += received
        while len(self._buffer) >= HEADER.size:
            _, text_size, array_size = _lengths(self._buffer)
            whole = HEADER.size + text_size + array_size
            if len(self._buffer) < whole:
                return
            message = bytes(self._buffer[:whole])
            del self._buffer[:whole]
            yield unpack(message)


def _lengths(message: bytes | bytearray) -> tuple[bytes, int, int]:
    magic, text_size, array_size = HEADER.unpack_from(message)
    if magic != MAGIC:
        raise ChannelError("the stream holds what is no message")
    if text_size > MOST_JSON or text_size + array_size > LARGEST:
        raise ChannelError(f"a message of {text_size + array_size} bytes is too large")
    return magic, text_size, array_size


def _flatten(value: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if depth > DEEPEST:
        raise ChannelError(f"nested more than {DEEPEST} deep")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 2**63 else _refuse("an integer beyond 64 bits")
    if kind is float:
        return value if math.isfinite(value) else _array(np.asarray(value), arrays)
    if isinstance(value, (list, tuple)):
        return [_flatten(item, arrays, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(type(key) is str and not key.startswith("$") for key in value):
            _refuse("a dict whose keys are not text")
        return {key: _flatten(item, arrays, depth + 1) for key, item in value.items()}
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor, without importing torch
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy(force=True)
    if isinstance(value, (np.ndarray, np.generic)):
        return _array(np.asarray(value), arrays)
    return _refuse(f"a {kind.__name__}")


def _array(value: np.ndarray, arrays: list[np.ndarray]) -> dict[str, int]:
    if value.dtype.kind not in KINDS:
        _refuse(f"an array of dtype {value.dtype}")
    arrays.append(value)
    return {ARRAY: len(arrays) - 1}


def _refuse(what: str) -> None:
    raise ChannelError(f"{what} is no plain data: give numbers, text, lists, dicts or arrays")


def _unflatten(value: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if depth > DEEPEST:
        raise ChannelError(f"nested more than {DEEPEST} deep")
    if isinstance(value, list):
        return [_unflatten(item, arrays, depth + 1) for item in value]
    if isinstance(value, dict):
        if ARRAY in value:
            number = value[ARRAY]
            if len(value) != 1 or type(number) is not int or not 0 <= number < len(arrays):
                raise ChannelError("the message names an array that it does not hold")
            return arrays[number]
        return {key: _unflatten(item, arrays, depth + 1) for key, item in value.items()}
    return value


def _read_arrays(archive: bytes) -> list[np.ndarray]:
    """Read an npz, stored and not compressed, each header believed only where its size is what is there."""
    if not archive:
        return []
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        entries = files.infolist()
        if len(entries) > MOST_ARRAYS or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise ChannelError("too many arrays, or compressed ones")
        if sum(entry.file_size for entry in entries) > LARGEST:
            raise ChannelError("the arrays are larger than the message")
        return [_read_array(files.read(f"a{number}.npy")) for number in range(len(entries))]


def _read_array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ChannelError("an array of an unknown version")
    shape, _, dtype = read(file)
    if dtype.kind not in KINDS or any(length < 0 for length in shape):
        raise ChannelError(f"an array of dtype {dtype} and shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ChannelError(f"an array that says {shape} and has {len(content) - file.tell()} bytes")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
