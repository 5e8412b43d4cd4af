"""What an error's HTTP status is called in gRPC. The texts are the same."""

from __future__ import annotations

from typing import NoReturn

import grpc
import orjson

from core.errors import SignalboxError
from serving.dataplane.call import Headers
from serving.dataplane.problems import headers_of

_CODES = {
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


def code_of(status: int) -> grpc.StatusCode:
    """Give the code; whatever has none is ours, INTERNAL."""
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


def text_of(body: bytes) -> str:
    """Give the text of the protocol's error body."""
    return str(orjson.loads(body)["error"])


async def abort(context: grpc.aio.ServicerContext, status: int, text: str, headers: Headers = b"") -> NoReturn:
    """End the call with an error; where trying again helps, ``headers`` say when, and so does the trailing metadata."""
    await context.abort(code_of(status), text, _metadata(headers))
    raise AssertionError("abort raises")


async def refuse(context: grpc.aio.ServicerContext, error: SignalboxError) -> NoReturn:
    """End the call as the error says."""
    await abort(context, error.status, error.message, headers_of(error))


def _metadata(headers: Headers) -> tuple[tuple[str, str], ...]:
    pairs = (line.partition(b": ") for line in headers.split(b"\r\n"))
    return tuple((name.decode(), value.decode()) for name, _, value in pairs if name == b"retry-after")
