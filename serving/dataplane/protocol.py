"""uvicorn's httptools protocol, with a short way for predictions: they never become an ASGI scope or a task.

Everything that is not ``POST .../infer`` (or predict, or invocations) goes on to the ASGI application.
Order on a connection is uvicorn's own: an ``Exchange`` takes the place of its request-response cycle.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.errors import SignalboxError
from serving.dataplane.call import Call, Head, Headers, Route, route_of
from serving.dataplane.connection import CLOSE, DISCARDED_AT_MOST_BYTES, Connection, response
from serving.dataplane.engine import UNVETTED_BYTES, Engine

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_ROUTES = 4096
_LONGEST_KEPT_URL = 256
_MOST_HEADS = 32
"""So many heads are known per connection: they differ in the length of the body."""
_LONGEST_KEPT_HEAD = 4096


class _NoEvent:
    """Stands in for the event that a cycle's ASGI task waits on; nobody waits here."""

    def set(self) -> None:
        pass


class Exchange:
    """A prediction on a connection, up to its answer; to uvicorn it is a request-response cycle."""

    __slots__ = ("disconnected", "keep_alive", "protocol", "response_complete")
    message_event: ClassVar[_NoEvent] = _NoEvent()

    def __init__(self, protocol: PredictProtocol, keep_alive: bool) -> None:
        self.protocol, self.keep_alive = protocol, keep_alive
        self.response_complete = self.disconnected = False

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the answer in one piece."""
        self.response_complete = True
        protocol = self.protocol
        if self.disconnected or protocol.transport.is_closing():
            return
        if self.keep_alive and not protocol.engine.draining:
            protocol.transport.write(response(status, headers, body, protocol.fixed_headers()))
            protocol.on_response_complete()
        else:
            protocol.transport.write(response(status, headers + CLOSE, body, protocol.fixed_headers()))
            protocol.linger()


class Incoming(Exchange):
    """One whose request is being parsed. ``refusal`` is why its body is not kept."""

    __slots__ = ("complete", "head", "kept", "parts", "refusal", "size", "started")

    def __init__(self, protocol: PredictProtocol, head: Head, keep_alive: bool) -> None:
        super().__init__(protocol, keep_alive)
        self.head = head
        self.parts: list[bytes] = []
        self.size = 0
        self.kept = min(protocol.engine.body_limit(head.route.endpoint), UNVETTED_BYTES)
        self.refusal: SignalboxError | None = None
        self.complete = self.started = False

    def start(self) -> None:
        """It is this request's turn on the connection."""
        self.started = True
        if self.complete:
            self.submit()

    def take_large(self, body: bytes) -> None:
        """Take a piece of a body that is not small: kept only for who may call, and up to the narrower of the endpoint's limit and the key's."""
        engine = self.protocol.engine
        if self.refusal is None:
            self.refusal = engine.refusal_of(self.head, self.size)
        if self.refusal is None:
            self.kept = self.head.bounds.body_bytes
            self.parts.append(body)
            return
        self.parts.clear()
        if self.size > DISCARDED_AT_MOST_BYTES:
            self.refuse_unread()

    def refuse_unread(self) -> None:
        """Refuse a body whose rest is not worth reading: the connection ends with the answer."""
        self.keep_alive = False
        self.complete = True
        if self.started:
            self.submit()

    def submit(self) -> None:
        """The body is complete: hand it to the engine."""
        engine = self.protocol.engine
        call = Call(self.head, self.parts[0] if len(self.parts) == 1 else b"".join(self.parts), self.reply)
        if self.refusal is None:
            engine.submit(call)
        else:
            engine.refuse_unread(call, self.refusal)


class PredictProtocol(Connection):
    """One connection.

    A client sends the same head with each request. Once parsed, its bytes are known, and a request that
    comes in one piece under a known head goes to the engine without being parsed again.
    """

    _routes: ClassVar[dict[bytes, Route | None]]
    _idle_since = 0.0
    _between_messages = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class has it
        super().connection_made(transport)
        self._known: dict[bytes, tuple[Head, int]] = {}

    def data_received(self, data: bytes) -> None:
        if not self._between_messages:
            super().data_received(data)
            return
        end = data.find(b"\r\n\r\n") + 4
        raw = data[:end]
        known = self._known.get(raw)
        before: Any = self.cycle
        if known is None:
            super().data_received(data)
            self._remember(raw, len(data) - end, before)
        elif len(data) - end == known[1] and (before is None or before.response_complete):
            exchange = Exchange(self, keep_alive=True)
            self.cycle = exchange  # type: ignore[assignment]  # it has what the base class uses of a cycle
            self.engine.submit(Call(known[0], data[end:], exchange.reply))
        else:
            super().data_received(data)

    def _remember(self, raw: bytes, size: int, before: Any) -> None:
        """Keep a head if what came was one whole request under it, and the next may come under the same."""
        exchange: Any = self.cycle
        if exchange is before or type(exchange) is not Incoming or not self._between_messages or len(raw) > _LONGEST_KEPT_HEAD:
            return
        if exchange.size == size == exchange.head.length and exchange.keep_alive and not self.expect_100_continue:
            if len(self._known) >= _MOST_HEADS:
                self._known.clear()
            self._known[raw] = (exchange.head, size)

    def on_message_begin(self) -> None:
        self._between_messages = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = self.body_bytes = 0

    def _begin(self) -> None:
        parser = self.parser
        route = self._route() if parser.get_method() == b"POST" else None
        if route is None:
            self._hand_on()
            return
        exchange = Incoming(self, Head(route, dict(self.headers)), parser.get_http_version() != "1.0" and parser.should_keep_alive())
        before, self.cycle = self.cycle, exchange  # type: ignore[assignment]  # as in data_received
        if before is None or before.response_complete:
            exchange.start()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]  # _start_asgi_task knows it
        if self.expect_100_continue or (exchange.head.length or 0) > DISCARDED_AT_MOST_BYTES:
            self._look_ahead(exchange)

    def _look_ahead(self, exchange: Incoming) -> None:
        """Refuse before the body comes, where the client waits to be asked for it or it is too large to be dropped."""
        exchange.refusal = self.engine.refusal_of(exchange.head, exchange.head.length or 0)
        if exchange.refusal is not None:
            exchange.refuse_unread()
        elif self.expect_100_continue:
            self.transport.write(_CONTINUE)

    def _route(self) -> Route | None:
        routes = self._routes
        if self.url in routes:
            return routes[self.url]
        route = route_of(unquote_to_bytes(httptools.parse_url(self.url).path).decode("utf-8", "replace"))
        if len(self.url) <= _LONGEST_KEPT_URL:
            if len(routes) >= _MOST_ROUTES:
                routes.clear()
            routes[self.url] = route
        return route

    def _hand_on(self) -> None:
        """Let the base class make its scope and cycle, as if it had seen the request from its beginning."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super()._begin()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Incoming):
            cycle.start()
        else:
            super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        exchange: Any = self.cycle
        if not isinstance(exchange, Incoming):
            super().on_body(body)
        elif not exchange.complete:
            exchange.size += len(body)
            if exchange.size <= exchange.kept:
                exchange.parts.append(body)
            else:
                exchange.take_large(body)

    def on_message_complete(self) -> None:
        self._between_messages = True
        exchange: Any = self.cycle
        if not isinstance(exchange, Incoming):
            super().on_message_complete()
        elif not exchange.complete:
            exchange.complete = True
            if exchange.started:
                exchange.submit()

    def on_response_complete(self) -> None:
        """As the base class, with one timer per connection instead of one per answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            # Not at once: of a thousand pipelined refusals each would be answered inside the one before.
            self.loop.call_soon(self._start_asgi_task, *self.pipeline.pop())
            self.flow.resume_reading()
            return
        self.flow.resume_reading()
        if self._last_words is not None:
            self._say_last_words()
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """The timer stays; when it fires it looks at how long the connection has been idle."""

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.transport.is_closing():
            return
        is_busy = self.cycle is not None and not self.cycle.response_complete
        idle_s = 0.0 if is_busy else self.loop.time() - self._idle_since
        if idle_s >= self.timeout_keep_alive - 0.01:
            self.transport.close()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive - idle_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def unfinished_body(self) -> int | None:
        exchange: Any = self.cycle
        if not isinstance(exchange, Exchange):
            return super().unfinished_body()
        return None if not isinstance(exchange, Incoming) or exchange.complete else exchange.size


def bound_to(engine: Engine, *, plain_asgi: bool = False) -> type[Connection]:
    """Give the protocol class that answers from ``engine``; ``plain_asgi``: without the short way."""
    if plain_asgi:
        return type("BoundConnection", (Connection,), {"engine": engine})
    return type("BoundPredictProtocol", (PredictProtocol,), {"engine": engine, "_routes": {}})
