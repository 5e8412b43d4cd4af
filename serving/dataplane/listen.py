"""Takes connections one at a time, so that the processes which share a listening socket share the callers too.

asyncio and uvloop accept all that wait at once: of 16 connections that come together one process
often got every one, and the other's core stood idle.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_S = 1.0


def listening(host: str, port: int) -> socket.socket:
    """Give a socket of this process alone that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    sock.setblocking(False)
    return sock


class Listener:
    """Accepts on ``sock``, one connection per turn of the loop, until ``close``; ``open_connection`` gives each its protocol."""

    def __init__(self, sock: socket.socket, open_connection: Callable[[socket.socket], Awaitable[object]], loop: asyncio.AbstractEventLoop) -> None:
        self._sock, self._open_connection, self._loop = sock, open_connection, loop
        self._opening: set[asyncio.Task[None]] = set()
        self._is_open = True
        sock.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take no more connections; those that were taken stay."""
        self._is_open = False
        self._loop.remove_reader(self._sock.fileno())

    async def wait_closed(self) -> None:
        """Wait until what was accepted has its protocol."""
        await asyncio.gather(*self._opening)

    def _listen(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        if not self._is_open:
            return  # the loop had seen somebody wait before it was told to look no more
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was faster, or the client has gone
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            logger.warning("No more connections can be taken for now: %s", error)
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(_PAUSE_S, self._listen)
            return
        task = self._loop.create_task(self._open(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._open_connection(connection)
        except OSError as error:
            connection.close()
            logger.debug("A connection ended before it began: %s", error)
