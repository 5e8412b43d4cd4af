"""Where the gRPC process's clients come in: their bytes are passed on to gRPC's own server behind it, and its bytes back.

gRPC can neither take over a socket that listens already, nor ask its clients to leave before it cancels
what they have just sent. Here both can be done: all processes take connections from one socket, at which
callers wait while a process is replaced; and a process that ends sends each client HTTP/2's GOAWAY
between two frames and goes on answering, until the client has opened another connection for its next call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from serving.dataplane.listen import Listener

_STEP_S = 0.02
_ACQUAINTED_S = 1.0
"""gRPC's clients hang if they are sent away before they have understood that they are in. After their first answer, or so long, they have."""

# RFC 9113: sections 4.1 (a frame's head), 6.2 and 6.10 (a header block is not interrupted), 6.8 (GOAWAY without an error, for no stream yet).
_HEAD_BYTES = 9
_HEADERS = 0x1
_BLOCK_KINDS = {_HEADERS, 0x5, 0x9}
_END_HEADERS = 0x4
_GO_AWAY = (8).to_bytes(3, "big") + b"\x07\0" + bytes(4) + (2**31 - 1).to_bytes(4, "big") + bytes(4)


class Frames:
    """Follows what a server sends, as far as it takes to find the places between two frames. ``has_answer``: one call was answered."""

    def __init__(self) -> None:
        self.has_answer = False
        self._head, self._left = b"", 0
        self._in_block = True  # nothing may come before the server's first frame

    @property
    def are_whole(self) -> bool:
        """Tell whether what has come ends between two frames."""
        return not (self._head or self._left or self._in_block)

    def follow(self, data: bytes) -> int:
        """Take the next bytes; gives how many of them end with the last whole frame, 0 if none does."""
        at = whole = 0
        while at < len(data):
            if self._left == 0:
                part = data[at : at + _HEAD_BYTES - len(self._head)]
                at += len(part)
                if not self._begins(part):
                    break
            step = min(self._left, len(data) - at)
            self._left -= step
            at += step
            if self.are_whole:
                whole = at
        return whole

    def _begins(self, part: bytes) -> bool:
        """Take bytes of a frame's head; tells whether that is complete."""
        head = self._head + part
        if len(head) < _HEAD_BYTES:
            self._head = head
            return False
        self._head, self._left = b"", int.from_bytes(head[:3], "big")
        self._in_block = head[3] in _BLOCK_KINDS and not head[4] & _END_HEADERS
        self.has_answer = self.has_answer or head[3] == _HEADERS
        return True


class _End(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at the ``other``, no faster than that takes it."""

    other: _End

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._early = b""
        self._is_over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as every protocol of streams has it
        self._transport = transport
        self.write(self._early)
        if self._is_over:
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send it, or keep it until there is a connection."""
        if self._transport is None:
            self._early += data
        elif data and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._is_over = True
        self.other.close()

    def close(self) -> None:
        """End it when what was written has been sent."""
        self._is_over = True
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        self.other.read(False)

    def resume_writing(self) -> None:
        self.other.read(True)

    def read(self, wanted: bool) -> None:
        """Read on, or leave what comes to wait."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()


class _ClientsEnd(_End):
    """The end at the client. ``forget`` is called when it is over."""

    def __init__(self, forget: Callable[[], None]) -> None:
        super().__init__()
        self._forget = forget

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()
        super().connection_lost(error)


class _ServersEnd(_End):
    """The end at gRPC's server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop, self._since = loop, loop.time()
        self._frames = Frames()
        self._owes_go_away = False

    def data_received(self, data: bytes) -> None:
        whole = self._frames.follow(data)
        if self._owes_go_away and whole and self._frames.has_answer:
            self._owes_go_away = False
            data = data[:whole] + _GO_AWAY + data[whole:]
        self.other.write(data)

    def send_away(self) -> None:
        """Ask the client to open another connection for its next call: now, or after the frame that is on its way."""
        self._owes_go_away = True
        if self._frames.has_answer:
            self._send_away()
        else:
            self._loop.call_at(self._since + _ACQUAINTED_S, self._send_away)

    def _send_away(self) -> None:
        if self._owes_go_away and self._frames.are_whole:
            self._owes_go_away = False
            self.other.write(_GO_AWAY)


class Door:
    """Takes connections at ``sock`` for the server behind the Unix socket ``address``."""

    def __init__(self, sock: socket.socket, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self._address, self._loop = address, loop
        self._ends: set[_ServersEnd] = set()
        self._listener = Listener(sock, self._open, loop)

    async def close(self) -> None:
        """Take no more connections, and send the clients away. What they have asked, or ask before they know, is answered."""
        self._listener.close()
        await self._listener.wait_closed()
        for end in list(self._ends):
            end.send_away()

    async def emptied(self, within_s: float) -> None:
        """Wait until all clients have gone."""
        until = self._loop.time() + within_s
        while self._ends and self._loop.time() < until:  # noqa: ASYNC110  # the end of many, at which nothing else looks
            await asyncio.sleep(_STEP_S)

    async def _open(self, connection: socket.socket) -> None:
        server = _ServersEnd(self._loop)
        client = _ClientsEnd(partial(self._ends.discard, server))
        client.other, server.other = server, client
        self._ends.add(server)
        inner = socket.socket(socket.AF_UNIX)
        try:
            inner.setblocking(False)
            await self._loop.sock_connect(inner, self._address)
            await self._loop.create_unix_connection(lambda: server, sock=inner)
            await self._loop.connect_accepted_socket(lambda: client, connection)
        except OSError:
            self._ends.discard(server)
            server.close()
            inner.close()
            raise
