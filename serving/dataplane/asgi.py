"""The data plane as a plain ASGI application: all routes, no framework."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from core import request_ids
from core.errors import SignalboxError
from serving.dataplane import catalog
from serving.dataplane.call import JSON, NOWHERE, Call, Head, Headers, route_of
from serving.dataplane.connection import DISCARDED_AT_MOST_BYTES
from serving.dataplane.engine import UNVETTED_BYTES, Engine
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
            failed = Failed("Signalbox failed on this request. The server's log has the details.")
            self._engine.count_refusal(failed)
            status, headers, body = failed.status, JSON, body_of(failed)
        pairs = [*_pairs(headers), (b"content-length", str(len(body)).encode())]
        if self._engine.draining:
            pairs.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: dict[str, Any], receive: Receive) -> Answer:
        begun = time.perf_counter()
        route = route_of(scope["path"]) if scope["method"] == "POST" else None
        headers = dict(scope["headers"])
        head = Head(route or NOWHERE, headers)
        limit = self._engine.body_limit(route.endpoint) if route else _CATALOG_BODY_BYTES
        incoming = _Body(receive, min(limit, UNVETTED_BYTES), lambda size: self._engine.refusal_of(head, size) if route else _too_large(size))
        body = await incoming.read(head.length or 0, waits=headers.get(b"expect", b"").lower() == b"100-continue")
        closing = b"connection: close\r\n" if incoming.is_cut_off else b""
        if route is None:
            if incoming.refusal is None:
                status, lines, found = await self._no_prediction(scope, headers, body)
            else:
                self._engine.count_refusal(incoming.refusal)
                status, lines, found = incoming.refusal.status, JSON + closing, body_of(incoming.refusal)
            if head.request_id is not None or status >= 400:
                head.request_id = head.request_id or request_ids.fresh()
                lines += b"x-request-id: %b\r\n" % head.request_id.encode()
            if self._engine.watcher is not None:
                self._engine.watcher.told(head, scope["method"], scope["path"], begun, (status, len(body), len(found)))
            return status, lines, found
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def reply(status: int, reply_headers: Headers, reply_body: bytes) -> None:
            if not future.done():
                future.set_result((status, reply_headers + closing, reply_body))

        call = Call(head, body, reply)
        if incoming.refusal is not None:
            self._engine.refuse_unread(call, incoming.refusal)
        else:
            self._engine.submit(call)
        return await future

    async def _no_prediction(self, scope: dict[str, Any], headers: dict[bytes, bytes], body: bytes) -> Answer:
        if scope["path"] == "/metrics":
            return await self._metrics.answer(scope["method"], (scope.get("client") or ("",))[0], headers)
        return await catalog.answer(self._engine, scope["method"], scope["path"], headers, body)


def _too_large(size: int) -> SignalboxError | None:
    return Oversized(f"The body is too large: at most {_CATALOG_BODY_BYTES} bytes are read here.") if size > _CATALOG_BODY_BYTES else None


def _pairs(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Part the lines of a head, as ASGI wants them."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in headers.split(b"\r\n")[:-1])]


class _Gone(Exception):
    """The client went away before its request was complete."""


class _Body:
    """A body on its way in. What is refused is read and dropped, so that the connection lives, unless it is too much (``is_cut_off``)."""

    def __init__(self, receive: Receive, kept: int, refusal_of: Callable[[int], SignalboxError | None]) -> None:
        self._receive, self._kept, self._refusal_of = receive, kept, refusal_of
        self.refusal: SignalboxError | None = None
        self.is_cut_off = False

    async def read(self, declared: int, *, waits: bool) -> bytes:
        """Give the body; what is refused gives nothing. ``waits``: the client waits to be asked for it. Raises _Gone."""
        if waits or declared > DISCARDED_AT_MOST_BYTES:
            self.refusal = self._refusal_of(declared)
            self.is_cut_off = self.refusal is not None
        parts: list[bytes] = []
        size, more = 0, not self.is_cut_off
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            more = message.get("more_body", False)
            if self.refusal is None and size > self._kept:
                self.refusal = self._refusal_of(size)
            if self.refusal is None:
                parts.append(part)
            elif size > DISCARDED_AT_MOST_BYTES and more:
                self.is_cut_off, more = True, False
        return b"" if self.refusal else b"".join(parts)
