"""Tensors as JSON: the protocol's datatypes, JSON data to numpy and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from serving.dataplane import words
from serving.dataplane.errors import BadRequest

Array = NDArray[Any]

NUMPY_OF: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
DATATYPE_OF: Final = {np.dtype(kind): name for name, kind in NUMPY_OF.items()}
_FLOATS = ("FP16", "FP32", "FP64")
WITH_MISSING: Final = (*_FLOATS, "BYTES")
"""The datatypes that have a value for what is missing: NaN, and None."""
_FLAT: Final[dict[str, Any]] = {name: list[float] if name in _FLOATS else list[int] for name in NUMPY_OF} | {"BOOL": list[bool], "BYTES": list[str]}
# null is a missing value where the schema allows one; integers and booleans have no such value.
_WITH_NULL: Final[dict[str, Any]] = _FLAT | dict.fromkeys(_FLOATS, list[float | None]) | {"BYTES": list[str | None]}
# With a policy that replaces what is missing they may be null too.
_FILLED: Final[dict[str, Any]] = {name: list[bool | None] if name == "BOOL" else list[int | None] for name in NUMPY_OF if name not in WITH_MISSING}
_DECODE_FLAT: Final = {name: msgspec.json.Decoder(kind).decode for name, kind in _FLAT.items()}
_decode_any = msgspec.json.Decoder().decode
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def from_json(raw: bytes | msgspec.Raw, datatype: str, shape: Sequence[int], where: str, *, nullable: bool = False, fillable: Sequence[bool] = ()) -> Array:
    """Read the JSON array ``raw``, flat or nested, as a tensor of ``shape``; null becomes NaN (floats) or None (BYTES).

    ``nullable``: integers and truths may be null too, as ``with_gaps`` says; ``fillable``: whether another policy would allow it, by column.
    Raises BadRequest for a wrong type, a count that is not the shape's, or a number that does not fit.
    """
    try:
        values: list[Any] = _DECODE_FLAT[datatype](raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        values = _nested(raw, shape, where, _FILLED[datatype] if nullable else _WITH_NULL[datatype], fillable=fillable)
    if len(values) != math.prod(shape):
        raise BadRequest(f"{where}: the shape {list(shape)} has {math.prod(shape)} values, the data has {len(values)}.")
    try:
        if nullable and None in values:
            return with_gaps(values, datatype).reshape(shape)
        return np.array(values, dtype=NUMPY_OF[datatype]).reshape(shape)
    except (OverflowError, TypeError, ValueError) as error:
        raise BadRequest(f"{where}: a value does not fit {datatype}: {error}.") from None


def range_of(datatype: str) -> tuple[float, float]:
    """Give the least and the largest number that a tensor can hold."""
    kind = np.dtype(NUMPY_OF[datatype])
    if kind.kind == "b":
        return 0, 1
    info: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    return info.min, info.max


def with_gaps(values: Sequence[Any], datatype: str) -> Array:
    """Give integers or truths of which some are None as an array of objects, NaN for those: as floats, large integers would lose digits.

    Raises OverflowError, TypeError or ValueError for a value that does not fit.
    """
    array = np.array([0 if value is None else value for value in values], dtype=NUMPY_OF[datatype]).astype(np.object_)
    array[[value is None for value in values]] = math.nan
    return array


def _nested(raw: bytes | msgspec.Raw, shape: Sequence[int], where: str, kind: Any, *, fillable: Sequence[bool]) -> list[Any]:
    """Read nested or null-bearing data; the nesting must be exactly the shape's."""
    try:
        values = _decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"{where}: the data cannot be read: {error}.") from None
    if not isinstance(values, list):
        raise BadRequest(f"{where}: the data must be an array, not {_kind(values)}.")
    if any(isinstance(value, list) for value in values):
        flat: list[Any] = []
        _flatten(values, tuple(shape), flat, where)
        values = flat
    try:
        converted: list[Any] = msgspec.convert(values, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _refusal(error, shape, where, fillable=fillable) from None
    return converted


def _refusal(error: Exception, shape: Sequence[int], where: str, *, fillable: Sequence[bool]) -> BadRequest:
    """Name the row, and where it has several values the column, of the value that is wrong."""
    what, place = words.parted(error)
    width = math.prod(shape[1:])
    hint = ""
    if width and place[2:-1].isdecimal():
        row, column = divmod(int(place[2:-1]), width)
        where += f", row {row}" if width == 1 else f", row {row}, column {column}"
        if words.got_null(what) and len(fillable) == width and fillable[column]:
            hint = f" {words.POLICY_MAY_REPLACE}"
    return BadRequest(f"{where} {said}.{hint}" if (said := words.takes(what)) else f"{where}: {what}.")


def _flatten(values: Any, shape: tuple[int, ...], into: list[Any], where: str) -> None:
    if not shape:
        into.append(values)
        return
    if not isinstance(values, list) or len(values) != shape[0]:
        got = f"{len(values)} values" if isinstance(values, list) else _kind(values)
        raise BadRequest(f"{where}: the nesting of the data does not follow its shape: {shape[0]} values expected, got {got}.")
    for value in values:
        _flatten(value, shape[1:], into, where)


def _kind(value: Any) -> str:
    return words.KIND_OF.get(type(value), "a number")


def to_json(array: Array) -> bytes:
    """Write a tensor's values as one flat JSON array, row-major; NaN and infinities become null."""
    if array.dtype == np.object_:
        return orjson.dumps([_text(value) for value in array.reshape(-1).tolist()])
    return orjson.dumps(np.ascontiguousarray(array.reshape(-1)), option=_NUMPY)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
