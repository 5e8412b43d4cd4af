"""What an error's HTTP status is called in gRPC. The texts are the same."""

from __future__ import annotations

from typing import NoReturn

import grpc
import orjson

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


async def abort(context: grpc.aio.ServicerContext, status: int, text: str) -> NoReturn:
    """End the call with an error; where trying again helps, say when."""
    await context.abort(code_of(status), text, (("retry-after", "1"),) if status == 503 else ())
    raise AssertionError("abort raises")
