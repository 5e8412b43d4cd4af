"""Tensors in shared memory: Triton's extension, for REST and gRPC alike. An input is copied out before anything looks at it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.dataplane import binary, regions
from serving.dataplane.errors import BadRequest
from serving.dataplane.tensors import Array

if TYPE_CHECKING:
    from serving.dataplane.call import Call, Headers, Render
    from serving.dataplane.decode import InputTensor, Parameters
    from serving.dataplane.regions import Region

_REGION, _BYTE_SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
_NAMES = frozenset((_REGION, _BYTE_SIZE, _OFFSET))


class Piece(NamedTuple):
    """Where a tensor lies, or may lie."""

    region: str
    offset: int
    size: int


class Target:
    """Where an output goes; ``written`` bytes of the piece are filled once it is there."""

    __slots__ = ("piece", "region", "written")

    def __init__(self, parameters: Parameters, where: str) -> None:
        self.piece = _piece(parameters, where)
        self.region: Region
        self.written = 0

    def parameters(self) -> dict[str, str | int]:
        """Give what the answer says instead of the values."""
        told: dict[str, str | int] = {_REGION: self.piece.region, _BYTE_SIZE: self.written}
        return told | {_OFFSET: self.piece.offset} if self.piece.offset else told


def is_named(parameters: Parameters) -> bool:
    """Tell whether a tensor's parameters say that it lies in shared memory."""
    return not _NAMES.isdisjoint(parameters)


def array_of(call: Call, tensor: InputTensor, where: str) -> Array:
    """Read an input; raises BadRequest, Oversized, Unknown for a region that the call's key has not, or Unsupported."""
    parameters = tensor.parameters or {}
    piece = _piece(parameters, where)
    if tensor.data or parameters.get("binary_data_size") is not None:
        raise BadRequest(f"{where}: it lies in shared memory, and has data besides. Send one of them.")
    return binary.from_bytes(memoryview(_copied(call, piece, where)), tensor.datatype, tensor.shape, where)


def aimed(call: Call, render: Render) -> Render:
    """Give ``render``, but what is ``wanted`` in shared memory is put there first; raises what ``array_of`` raises."""
    targets = [form for _, form in call.wanted if isinstance(form, Target)]
    for target in targets:
        target.region = _found(call, target.piece, "An output")
    return partial(_write_and_render, render) if targets else render


def _write_and_render(render: Render, call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
    """Raises BadRequest, and then nothing is written: every size is known before the first byte goes."""
    pieces = []
    for index, target in call.wanted:
        if isinstance(target, Target):
            data = binary.to_bytes(outputs[index][start:stop])
            if len(data) > target.piece.size:
                raise BadRequest(
                    f"shared memory size specified with the request for output '{_name(call, index)}' ({target.piece.size} bytes) "
                    f"should be at least {len(data)} bytes to hold the results"
                )
            target.written = len(data)
            pieces.append((target.region, target.piece.offset, data))
    regions.write(pieces)
    return render(call, outputs, start, stop)


def _name(call: Call, index: int) -> str:
    return call.slot.build.outputs[index] if call.slot else ""


def _copied(call: Call, piece: Piece, where: str) -> bytes:
    """Copy a piece once for a call, whichever slots look at it: what was checked is what runs."""
    region = _found(call, piece, where)
    if call.copied is None:
        call.copied = {}
    if piece not in call.copied:
        size = len(call.body) + piece.size + sum(map(len, call.copied.values()))
        call.head.bounds.require_size(size, "The body and its tensors in shared memory are")
        call.copied[piece] = region.read(piece.offset, piece.size)
    return call.copied[piece]


def _found(call: Call, piece: Piece, where: str) -> Region:
    region = call.head.regions.find(call.key_id or "", piece.region)
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
