"""Tensors in shared memory: Triton's extension, for REST and gRPC alike. An input is copied out before anything looks at it.

What touches an object is done in a thread (``copying.py``): a call whose inputs lie in shared memory is read
twice, first to know what to copy, and once more when that is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving.dataplane import binary, regions
from serving.dataplane.errors import BadRequest
from serving.dataplane.tensors import Array

if TYPE_CHECKING:
    from serving.dataplane.call import Call, Headers, Render
    from serving.dataplane.decode import InputTensor, Parameters
    from serving.dataplane.regions import Region

_REGION, _BYTE_SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
_NAMES = frozenset((_REGION, _BYTE_SIZE, _OFFSET))
_NOT_THERE: Array = np.empty(0)


class Piece(NamedTuple):
    """Where a tensor lies, or may lie."""

    region: str
    offset: int
    size: int


class Lying(NamedTuple):
    """An input in shared memory, checked as far as it can be before it is read."""

    tensor: InputTensor
    region: Region
    piece: Piece
    where: str


class Lacking(Exception):
    """A call cannot be read further before what is ``lying`` in shared memory is copied."""

    def __init__(self, lying: list[Lying]) -> None:
        super().__init__()
        self.lying = lying


class Target:
    """Where an output goes, and once it is rendered its bytes."""

    __slots__ = ("data", "is_text", "output", "piece", "region")

    def __init__(self, parameters: Parameters, output: str) -> None:
        self.output, self.piece = output, _piece(parameters, f"Output '{output}'")
        self.region: Region
        self.data = b""
        self.is_text = False

    def parameters(self) -> dict[str, str | int]:
        """Give what the answer says instead of the values."""
        told: dict[str, str | int] = {_REGION: self.piece.region, _BYTE_SIZE: len(self.data)}
        return told | {_OFFSET: self.piece.offset} if self.piece.offset else told


class Aimed:
    """Renders the answer of a call with outputs in shared memory, then writes those there. Nothing is written before ``write``."""

    __slots__ = ("_render", "_targets")

    def __init__(self, render: Render, targets: list[tuple[int, Target]]) -> None:
        self._render, self._targets = render, targets

    def __call__(self, call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
        for index, target in self._targets:
            array = outputs[index][start:stop]
            target.data, target.is_text = binary.to_bytes(array), array.dtype == object
        return self._render(call, outputs, start, stop)

    def write(self) -> None:
        """Write the outputs; raises BadRequest or Busy. If one has no room none is written. For a thread."""
        for _, target in self._targets:
            _require_room(target)
        regions.write([(target.region, target.piece.offset, target.data) for _, target in self._targets])


def is_named(parameters: Parameters) -> bool:
    """Tell whether a tensor's parameters say that it lies in shared memory."""
    return not _NAMES.isdisjoint(parameters)


def array_of(call: Call, tensor: InputTensor, lying: list[Lying]) -> Array:
    """Give an input that was copied out. Before that, add it to ``lying``, for ``require_copied``, and give an array that nobody may look at.

    Raises BadRequest, Unknown for a region that the call's key has not, or Unsupported.
    """
    if call.copied is not None:
        return call.copied[tensor.name]
    lying.append(_lying(call, tensor))
    return _NOT_THERE


def require_copied(call: Call, lying: list[Lying]) -> None:
    """Return if nothing of a call is ``lying`` in shared memory, else raise Lacking, or Oversized. All inputs were checked: their shapes are the model's."""
    if lying:
        call.head.bounds.require_size(len(call.body) + sum(each.piece.size for each in lying), "The body and its tensors in shared memory are")
        raise Lacking(lying)


def copy_in(call: Call, lying: Sequence[Lying]) -> None:
    """Copy what a call lacks, once for all slots that look at it: what was checked is what runs. Raises BadRequest or Busy. For a thread."""
    copied = {}
    for tensor, region, piece, where in lying:
        copied[tensor.name] = binary.from_bytes(memoryview(region.read(piece.offset, piece.size)), tensor.datatype, tensor.shape, where)
    call.copied = copied


def aimed(call: Call, render: Render) -> Render:
    """Give ``render``, or what also writes the outputs that are ``wanted`` in shared memory; raises what ``array_of`` raises."""
    targets = [(index, form) for index, form in call.wanted if isinstance(form, Target)]
    for _, target in targets:
        target.region = _found(call, target.piece, f"Output '{target.output}'")
    return Aimed(render, targets) if targets else render


def _lying(call: Call, tensor: InputTensor) -> Lying:
    where = f"Input '{tensor.name}' of model '{call.head.route.endpoint}'"
    parameters = tensor.parameters or {}
    piece = _piece(parameters, where)
    if tensor.data or parameters.get("binary_data_size") is not None:
        raise BadRequest(f"{where}: it lies in shared memory, and has data besides. Send one of them.")
    region = _found(call, piece, where)
    binary.require_size(piece.size, tensor.datatype, tensor.shape, where)
    return Lying(tensor, region, piece, where)


def _require_room(target: Target) -> None:
    size, needed = target.piece.size, len(target.data)
    if needed > size:
        # How long a text is may tell which one it is.
        least = "is too small" if target.is_text else f"should be at least {needed} bytes"
        raise BadRequest(
            f"shared memory size specified with the request for output '{target.output}' ({size} bytes) {least} to hold the results. "
            "The prediction was made and counts."
        )


def _found(call: Call, piece: Piece, where: str) -> Region:
    head = call.head
    region = head.regions.find(call.key_id or "", piece.region, is_forwarded=head.is_forwarded)
    if piece.offset + piece.size > region.byte_size:
        raise BadRequest(
            f"{where}: Invalid offset + byte size for shared memory region: '{piece.region}'. "
            f"It has {region.byte_size} bytes, {piece.size} from {piece.offset} on were asked for."
        )
    return region


def _piece(parameters: Parameters, where: str) -> Piece:
    name = parameters.get(_REGION)
    if not isinstance(name, str):
        raise BadRequest(f"{where}: {_REGION} must be the name of a region that was registered.")
    return Piece(name, _whole(parameters.get(_OFFSET, 0), _OFFSET, where), _whole(parameters.get(_BYTE_SIZE), _BYTE_SIZE, where))


def _whole(value: Any, name: str, where: str) -> int:
    if type(value) is not int or value < 0:
        raise BadRequest(f"{where}: {name} must be a whole number of bytes.")
    return value
