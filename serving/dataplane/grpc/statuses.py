"""What an HTTP status is called in gRPC. The texts are the same."""

from __future__ import annotations

from typing import NoReturn

import grpc
import orjson

from serving.dataplane.call import Headers

_CODES = {
    200: grpc.StatusCode.OK,
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_METADATA = {b"retry-after", b"x-request-id"}


def code_of(status: int) -> grpc.StatusCode:
    """Give the code; an error that has none is ours, INTERNAL."""
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


def text_of(body: bytes) -> str:
    """Give the text of the protocol's error body."""
    return str(orjson.loads(body)["error"])


async def abort(context: grpc.aio.ServicerContext, status: int, body: bytes, headers: Headers) -> NoReturn:
    """End the call with the error that REST answers with this status, body and headers."""
    await context.abort(code_of(status), text_of(body), metadata_of(headers))
    raise AssertionError("abort raises")


def metadata_of(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Give what of an answer's HTTP headers goes into the trailing metadata of a call."""
    pairs = (line.partition(b": ") for line in headers.split(b"\r\n"))
    return tuple((name.decode(), value.decode()) for name, _, value in pairs if name in _METADATA)
