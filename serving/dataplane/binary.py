"""Tensors as raw little-endian bytes: Triton's binary data extension."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from serving.dataplane.errors import BadRequest
from serving.dataplane.tensors import NUMPY_OF, Array

_LENGTH = struct.Struct("<I")
_LITTLE_ENDIAN = {datatype: np.dtype(kind).newbyteorder("<") for datatype, kind in NUMPY_OF.items()}


def from_bytes(data: memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    """Read ``data`` as a tensor; raises BadRequest when the bytes are not exactly the shape's."""
    try:
        array = _flat(data, datatype, shape, where).reshape(shape)
    except ValueError:  # one size is 0, and the others together are more than any array may have
        raise BadRequest(f"{where}: no tensor can have the shape {list(shape)}.") from None
    return array if array.flags.aligned else array.copy()


def _flat(data: memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    if datatype == "BYTES":
        return _texts(data, math.prod(shape), where)
    require_size(len(data), datatype, shape, where)
    if datatype == "BOOL":
        return np.frombuffer(data, np.uint8).astype(np.bool_)
    return np.frombuffer(data, _LITTLE_ENDIAN[datatype])


def require_size(size: int, datatype: str, shape: Sequence[int], where: str) -> None:
    """Return if a tensor may be ``size`` bytes, else raise BadRequest: strings have any length."""
    if datatype != "BYTES" and size != (needed := math.prod(shape) * _LITTLE_ENDIAN[datatype].itemsize):
        raise BadRequest(f"{where}: {datatype} of the shape {list(shape)} is {needed} bytes, got {size}.")


def _texts(data: memoryview, count: int, where: str) -> Array:
    """Read ``count`` length-prefixed UTF-8 strings."""
    texts: list[str] = []
    offset, end = 0, len(data)
    for number in range(count):
        start = offset + _LENGTH.size
        if start > end or start + (length := _LENGTH.unpack_from(data, offset)[0]) > end:
            if offset == end:
                raise BadRequest(f"{where}: the shape has {count} strings, the bytes have {number}.")
            raise BadRequest(f"{where}: the string {number} is cut off: its length goes past the {end} bytes of the tensor.")
        try:
            texts.append(str(data[start : start + length], "utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(f"{where}: the string {number} is not UTF-8.") from None
        offset = start + length
    if offset != end:
        raise BadRequest(f"{where}: the shape has {count} strings, the bytes go on after them: {end - offset} of {end} are left.")
    array: Array = np.empty(count, dtype=np.object_)
    array[:] = texts
    return array


def to_bytes(array: Array) -> bytes:
    """Write a tensor, row-major, little-endian; BYTES with a 4-byte length before each element."""
    if array.dtype == np.object_:
        parts = (value if isinstance(value, bytes) else str(value).encode() for value in array.reshape(-1).tolist())
        return b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
