"""The protocol's infer request: strict typed decoding of its JSON, and where its binary tensors lie."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from serving.dataplane import words
from serving.dataplane.errors import BadRequest

Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Scalar = str | int | float | bool | None
Parameters = dict[str, Scalar]
_NO_DATA = msgspec.Raw(b"")


class InputTensor(msgspec.Struct, gc=False):
    name: str
    shape: list[Size]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = _NO_DATA


class OutputWish(msgspec.Struct, gc=False):
    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    """``tail`` holds the binary tensors, in the order of the inputs; a null or absent ``outputs`` asks for all."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[OutputWish] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode


def infer_request(head: bytes) -> InferRequest:
    """Decode the JSON ``head``; raises BadRequest that says what is wrong, also for a key that comes twice."""
    try:
        request = _decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = strictly(_decode, head)
    # As many colons as known keys: no key can have come twice, and no unknown one is there.
    if head.count(b":") != _keys(request):
        refuse_duplicates(head)
    return request


def strictly(decode: Any, body: bytes) -> Any:
    """Decode, and turn every way in which that fails into BadRequest."""
    try:
        return decode(body)
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8. Send JSON in UTF-8.") from None
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except msgspec.ValidationError as error:
        raise BadRequest(f"The body is not a valid request: {words.sentence(error)}.") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"{_malformed(body)} {error}." if body else "The body is empty. Send a JSON object.") from None


def _malformed(body: bytes) -> str:
    if b"NaN" in body or b"Infinity" in body:
        return "The body is not valid JSON: NaN and Infinity are not JSON. Send null for a missing value, or binary tensors."
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in body[:4]:
        return "The body is not UTF-8. Send JSON in UTF-8."
    return "The body is not valid JSON."


def _keys(request: InferRequest) -> int:
    count = 1 + (request.id is not None) + _keys_of(request.parameters)
    for tensor in request.inputs:
        count += 3 + (tensor.data is not _NO_DATA) + _keys_of(tensor.parameters)
    if request.outputs is not None:
        count += 1 + sum(1 + _keys_of(wish.parameters) for wish in request.outputs)
    return count


def _keys_of(parameters: Parameters | None) -> int:
    return 0 if parameters is None else 1 + len(parameters)


def refuse_duplicates(body: bytes) -> None:
    """Raise BadRequest if any object of the JSON ``body`` has a key twice: readers differ on which one counts."""
    try:
        json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise BadRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise BadRequest(f"The key {key!r} comes twice in one object. Send it once.")
        seen.add(key)


def split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview | None]:
    """Part a body into its JSON and its binary tail; no ``Inference-Header-Content-Length``: all of it is JSON."""
    if header_length is None:
        return body, None
    if not header_length.isdigit() or len(header_length) > 18 or int(header_length) > len(body):
        shown = header_length[:32].decode("latin-1")
        raise BadRequest(f"Inference-Header-Content-Length is {shown!r}; the body has {len(body)} bytes. Send the length of the JSON part.")
    length = int(header_length)
    return body[:length], memoryview(body)[length:]
