"""The data plane as a plain ASGI application: all routes, no framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from serving.dataplane import catalog
from serving.dataplane.call import JSON, Call, Head, Headers, route_of
from serving.dataplane.engine import Engine
from serving.dataplane.errors import Failed, Oversized
from serving.dataplane.metrics import Page
from serving.dataplane.problems import body_of

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, Headers, bytes]
_CATALOG_BODY_BYTES = 2**20


class Application:
    """Answers from one engine. Bodies are read whatever their content type says, up to the endpoint's limit."""

    def __init__(self, engine: Engine, metrics: Page) -> None:
        self._engine, self._metrics = engine, metrics

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, headers, body = await self._answer(scope, receive)
        except _Gone:
            return
        except Exception:  # the edge: whatever fails is answered in the protocol's form
            logger.exception("%s %s failed.", scope["method"], scope["path"])
            status, headers, body = 500, JSON, body_of(Failed("Signalbox failed on this request. The server's log has the details."))
        pairs = [*_pairs(headers), (b"content-length", str(len(body)).encode())]
        if self._engine.draining:
            pairs.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        route = route_of(scope["path"]) if scope["method"] == "POST" else None
        limit = self._engine.body_limit(route.endpoint) if route else _CATALOG_BODY_BYTES
        body, size = await _read(receive, limit)
        headers = dict(scope["headers"])
        if scope["path"] == "/metrics":
            return await self._metrics.answer(scope["method"], (scope.get("client") or ("",))[0], headers)
        if route is None:
            if size > limit:
                return 413, JSON, body_of(Oversized(f"The body has {size} bytes, at most {limit} are read here."))
            return catalog.answer(self._engine, scope["method"], scope["path"], headers, body)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(status: int, reply_headers: Headers, reply_body: bytes) -> None:
            if not future.done():
                future.set_result((status, reply_headers, reply_body))

        call = Call(Head(route, headers), body, reply)
        if size > limit:
            self._engine.refuse_oversized(call, size, limit)
        else:
            self._engine.submit(call)
        return await future


def _pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Part the lines of a head, as ASGI wants them."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in headers.split(b"\r\n")[:-1])]


class _Gone(Exception):
    """The client went away before its request was complete."""


async def _read(receive: Receive, limit: int) -> tuple[bytes, int]:
    """Read the body and give its size; what is over ``limit`` is read and dropped, so that the connection lives."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts), size
