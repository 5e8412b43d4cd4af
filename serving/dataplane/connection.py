"""One HTTP connection with its limits: uvicorn's httptools protocol, but what is no proper HTTP is refused in the protocol's form.

Both transports build on it. What it adds costs nothing on the way of a good request: the size of
the head, trailers that are dropped, upgrades that are ignored, refusals that wait for the answers
before them, and an end that lets a client which is still sending read why.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.errors import SignalboxError
from serving.dataplane.call import JSON, Headers
from serving.dataplane.engine import Engine
from serving.dataplane.errors import BadRequest, HeadTooLarge
from serving.dataplane.problems import body_of

DISCARDED_AT_MOST_BYTES = 64 * 2**20
"""A body over its limit is read and dropped up to here, so that the connection can be kept; beyond, it is closed."""
HEAD_LIMIT_BYTES = 65_536
CLOSE: Headers = b"connection: close\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_LINGER_S = 1.0
_CLOSED = "The connection is closed, since the next request's beginning cannot be found."
_OF_AN_UPGRADE = (b"upgrade", b"connection", b"http2-settings")


class _Dropped(list[tuple[bytes, bytes]]):
    """Takes the place of the headers once the head is complete: what comes in trailers could otherwise replace a key or an encoding."""

    def append(self, _: tuple[bytes, bytes]) -> None:
        pass


_TRAILERS = _Dropped()


def response(status: int, headers: Headers, body: bytes, fixed: bytes) -> bytes:
    """Write an answer in one piece; ``fixed`` are the headers of every answer."""
    return b"%b%bcontent-length: %d\r\n%b\r\n%b" % (_STATUS_LINES[status], fixed, len(body), headers, body)


class Connection(HttpToolsProtocol):
    """One connection. ``body_bytes`` counts what has come of the body that is being read by ASGI. ``engine`` is set on a subclass by ``bound_to``."""

    engine: ClassVar[Engine]
    body_bytes = 0
    _head_bytes = 0
    _last_words: bytes | None = None
    _date: ClassVar[tuple[Any, bytes]] = (None, b"")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class has it
        super().connection_made(transport)
        self.flow = _Flow(transport, self)

    def pause_writing(self) -> None:
        """The client does not read its answers: no more of its requests are read either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.flow.resume_reading()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads the answer, though the base class gives none
        """The client has closed its sending side: what it has asked in full is answered, then the connection ends."""
        if self.unfinished_body() is not None:
            if not self.pipeline:
                return False
            self.pipeline.popleft()
        elif self.cycle is None or self.cycle.response_complete:
            return False
        self._last_words = self._last_words or b""
        return True

    def on_message_begin(self) -> None:
        self._head_bytes = self.body_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise HeadTooLarge(f"The request's head is over {HEAD_LIMIT_BYTES} bytes. {_CLOSED}")

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._begin()
            self.headers = _TRAILERS

    def _begin(self) -> None:
        """The head is complete: begin with the request."""
        super().on_headers_complete()
        self.cycle.transport = _Careful(self)  # type: ignore[assignment]  # it has what a cycle uses of a transport

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.headers is _TRAILERS:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            self.end(cause if isinstance(cause, HeadTooLarge) else BadRequest(f"This is not valid HTTP. {_CLOSED}"))

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read the request again as if it had not asked for HTTP/2 or a websocket: who asks may be refused, and wants an answer."""
        parser = self.parser
        if parser.get_method() == b"CONNECT":
            self.end(BadRequest(f"CONNECT is for proxies; this is none. {_CLOSED}"))
            return
        lines = [b"%b %b HTTP/%b" % (parser.get_method(), self.url, parser.get_http_version().encode())]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] not in _OF_AN_UPGRADE]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def end(self, error: SignalboxError) -> None:
        """Answer with ``error`` and close, but only after the answers to the requests before."""
        if self._last_words is not None or self.transport.is_closing():
            return
        self.engine.count_refusal(error)
        self._last_words = response(error.status, JSON + CLOSE, body_of(error), self.fixed_headers())
        if self.unfinished_body() is None:
            if self.cycle is None or self.cycle.response_complete:
                self._say_last_words()
        elif self.pipeline:  # what is broken is the newest request, whose turn has not come
            self.pipeline.popleft()
        else:
            self._say_last_words()

    def unfinished_body(self) -> int | None:
        """Give how much has come of the body that is being read; None if none is."""
        cycle = self.cycle
        is_read = self.headers is _TRAILERS and cycle.more_body and not cycle.response_complete
        return self.body_bytes if is_read else None

    def awaited(self) -> object:
        """Give what the connection waits for, the same while it does: the client to read, a head, a body. None: nothing, or the next request."""
        unread = self.transport.get_write_buffer_size()
        if unread:
            return unread
        if self.flow.read_paused:  # the client waits for us
            return None
        if self.unfinished_body() is not None:
            return self.cycle
        return None if self.headers is _TRAILERS else self.headers

    @property
    def is_unused(self) -> bool:
        """Tell whether not one request has begun."""
        return self.headers is None

    def _say_last_words(self) -> None:
        if self._last_words:
            self.transport.write(self._last_words)
            self.linger()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the base class; and what refers back here is let go: a circle that a new table's ``gc.freeze`` meets would stay for good."""
        super().connection_lost(exc)
        self.cycle = self.flow = self.timeout_keep_alive_task = None  # type: ignore[assignment]  # a dead connection has none; uvicorn types a living one

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._last_words is not None and not self.transport.is_closing():
            self._say_last_words()

    def linger(self) -> None:
        """Close once the client has stopped sending, or after a second. At once, the rest of its body would be met by a reset, and the answer be lost."""
        if self.transport.is_closing():
            return
        self._last_words = None
        self.transport.write_eof()
        self.pipeline.clear()
        if self.flow.read_paused:
            self.transport.resume_reading()
        self.transport.set_protocol(_Ending(self))

    def fixed_headers(self) -> bytes:
        """Give the headers that uvicorn renews each second, as bytes."""
        cls = type(self)
        current = self.server_state.default_headers
        if cls._date[0] is not current:
            cls._date = (current, b"".join(b"%b: %b\r\n" % pair for pair in current))
        return cls._date[1]


class _Flow(FlowControl):
    """Reads on only when no request waits for its turn and the client reads its answers: neither may pile up."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        super().__init__(transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self._connection.pipeline and not self.write_paused:
            super().resume_reading()


class _Careful:
    """The transport, as an ASGI cycle uses it: what is written when the client has gone is dropped, and an end lingers."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._transport = connection, connection.transport
        self.is_closing = self._transport.is_closing

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._connection.linger()


class _Ending(asyncio.Protocol):
    """Reads and drops what a client still sends."""

    def __init__(self, ended: Connection) -> None:
        self._ended = ended
        self._closing = ended.loop.call_later(_LINGER_S, ended.transport.close)

    def eof_received(self) -> None:
        """Both sides have ended: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing.cancel()
        self._ended.connection_lost(exc)

    def pause_writing(self) -> None:
        self._ended.pause_writing()

    def resume_writing(self) -> None:
        self._ended.resume_writing()
