"""What crosses from a sandbox process to its parent: one JSON header and raw arrays, checked while decoding.

Never pickle, never Arrow. The child is not trusted: every length is bounded, every type closed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from registry.signature import Signature, Tensor

_LENGTH = struct.Struct("<Q")
_HEADER_LIMIT = 64 * 2**20
_ITEM_SIZES = {"f4": 4, "f8": 8, "i8": 8}


class Blob(msgspec.Struct, frozen=True):
    """Raw bytes after the header: an array, a list of texts as JSON (``text``), or a file (``bytes``)."""

    name: str
    kind: Literal["f4", "f8", "i8", "text", "bytes"]
    shape: tuple[int, ...]
    size: int


class Halted(msgspec.Struct, frozen=True, tag="halted"):
    """The job ended with a reason."""

    verdict: Literal["refused", "not_servable"]
    reason: str
    advice: str = ""
    step: str = ""


class Looked(msgspec.Struct, frozen=True, tag="looked"):
    """What the file is, at a first look."""

    kind: Literal["pickle", "skops", "onnx"]
    text: str


class Converted(msgspec.Struct, frozen=True, tag="converted", kw_only=True):
    """A model in its ONNX form; the answers of the original come as blobs ``answer.<output>``."""

    signature: Signature
    estimator: str
    libraries: dict[str, str]
    opset: int
    ir_version: int
    precision: str
    notes: tuple[str, ...] = ()
    rows: int = 0
    without_zip_map: bool = False
    generated: bool = False
    saved_with: str = ""
    """The scikit-learn that saved the model, where it is another than the one in ``libraries``."""
    expected: int | None = None
    """How many rows the sample said the answers of, which the original gave here as well."""
    original_ms: float | None = None
    signature_ms: float = 0.0
    convert_ms: float = 0.0


class Answered(msgspec.Struct, frozen=True, tag="answered", kw_only=True):
    """The answers of an ONNX file and the tensors that it says it has; blobs ``in.<feature>`` and ``out.<output>``."""

    rows: int
    single_row_ms: float
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


Answer = Halted | Looked | Converted | Answered


class Report(msgspec.Struct, frozen=True):
    answer: Answer
    blobs: tuple[Blob, ...] = ()


class Garbled(ValueError):
    """What came out of the sandbox is not a report."""


def encode(answer: Answer, blobs: Mapping[str, Any]) -> bytes:
    """Write a report; each blob is bytes, a numeric array, or an array of texts."""
    packed = {name: _packed(name, value) for name, value in blobs.items()}
    header = msgspec.json.encode(Report(answer, tuple(blob for blob, _ in packed.values())))
    return b"".join([_LENGTH.pack(len(header)), header, *(data for _, data in packed.values())])


def decode(data: bytes) -> tuple[Answer, dict[str, Any]]:
    """Read a report. Raises Garbled for anything but a whole one."""
    try:
        (length,) = _LENGTH.unpack_from(data)
        if length > min(_HEADER_LIMIT, len(data) - _LENGTH.size):
            raise Garbled("the header is longer than the report")
        place = _LENGTH.size + length
        report = msgspec.json.decode(memoryview(data)[_LENGTH.size : place], type=Report)
        values: dict[str, Any] = {}
        for blob in report.blobs:
            if blob.size < 0 or place + blob.size > len(data):
                raise Garbled(f"{blob.name} is longer than the report")
            values[blob.name] = _unpacked(blob, data[place : place + blob.size])
            place += blob.size
    except (struct.error, OverflowError, ValueError) as error:  # msgspec's and numpy's are ValueErrors, and so is Garbled
        raise Garbled(str(error)) from error
    if place != len(data):
        raise Garbled("bytes are left over")
    return report.answer, values


def _packed(name: str, value: Any) -> tuple[Blob, bytes]:
    if isinstance(value, bytes):
        return Blob(name, "bytes", (), len(value)), value
    if value.dtype.kind in "OUS":
        data = msgspec.json.encode([None if text is None else str(text) for text in value.ravel()])
        return Blob(name, "text", value.shape, len(data)), data
    kind: Literal["f4", "f8", "i8"] = "f4" if value.dtype == np.float32 else "f8" if value.dtype.kind == "f" else "i8"
    data = np.ascontiguousarray(value, dtype=f"<{kind}").tobytes()
    return Blob(name, kind, value.shape, len(data)), data


def _unpacked(blob: Blob, data: bytes) -> Any:
    if blob.kind == "bytes":
        return data
    if any(side < 0 for side in blob.shape) or len(blob.shape) > 4:
        raise Garbled(f"{blob.name} has an impossible shape")
    count = 1
    for side in blob.shape:
        count *= side
    if blob.kind == "text":
        texts = msgspec.json.decode(data, type=list[str | None])
        if len(texts) != count:
            raise Garbled(f"{blob.name} holds {len(texts)} texts where {count} belong")
        array = np.empty(count, dtype=object)
        array[:] = texts
        return array.reshape(blob.shape)
    if len(data) != count * _ITEM_SIZES[blob.kind]:
        raise Garbled(f"{blob.name} holds {len(data)} bytes where {count} numbers belong")
    return np.frombuffer(data, dtype=f"<{blob.kind}").reshape(blob.shape)
