"""Reads the weights out of an ONNX file, without the runtime that would execute it.

The format is protobuf (onnx.proto, version 3). Field 7 of a model is its graph. Field 5 of the
graph, repeated, is a weight. A weight has its dimensions (field 1), type (2), name (8) and numbers
in little endian (9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_GRAPH, _WEIGHT = 7, 5
_DIMENSIONS, _TYPE, _NAME, _NUMBERS = 1, 2, 8, 9
_FLOAT32 = 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


def float_weights(model: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """The float32 weights of a model by their names.

    Raises:
        ValueError, IndexError: the bytes are not an ONNX file.
    """
    import numpy as np

    found = {}
    for graph in _of(model, _GRAPH):
        for weight in _of(graph, _WEIGHT):
            fields = list(_fields(weight))
            held = dict(fields)
            numbers = held.get(_NUMBERS)
            if held.get(_TYPE) != _FLOAT32 or not isinstance(numbers, bytes):
                continue
            shape = [int(value) for number, value in fields if number == _DIMENSIONS]
            name = bytes(held[_NAME]).decode()
            found[name] = np.frombuffer(numbers, dtype="<f4").reshape(shape)
    return found


def _of(message: bytes, wanted: int) -> Iterator[bytes]:
    return (bytes(value) for number, value in _fields(message) if number == wanted)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: their numbers and values."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"protobuf has no field of kind {kind}")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits per byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
