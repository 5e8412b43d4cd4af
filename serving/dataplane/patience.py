"""Ends connections that keep this process waiting: heads and bodies that trickle in, answers that nobody reads.

One look at all connections every two seconds; a request itself pays nothing for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from serving.dataplane.connection import Connection
from serving.dataplane.errors import TooSlow

HEAD_S = 10.0
BODY_S = 10.0
BODY_BYTES_PER_S = 500
"""After ``BODY_S`` a body must have come at least this fast, on the whole."""
UNREAD_S = 20.0
"""So long may a client take nothing of an answer that is written to it."""
UNUSED_S = 75.0
"""As long as a connection is kept between two requests."""
_EVERY_S = 2.0


class _Wait(NamedTuple):
    """What a connection was seen to wait for, and since when."""

    what: object
    since: float


class Patience:
    """Looks after ``connections``, the server's own set."""

    def __init__(self, connections: Collection[object], loop: asyncio.AbstractEventLoop) -> None:
        self._connections, self._loop = connections, loop
        self._waits: dict[Connection, _Wait] = {}

    def start(self) -> None:
        self._loop.call_later(_EVERY_S, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        waits: dict[Connection, _Wait] = {}
        for connection in [each for each in self._connections if isinstance(each, Connection)]:
            what = connection.awaited()
            if what is None:
                continue
            before = self._waits.get(connection)
            same = before is not None and (before.what is what or (isinstance(what, int) and before.what == what))
            waits[connection] = wait = before if before is not None and same else _Wait(what, now)
            _end_if_too_long(connection, now - wait.since)
        self._waits = waits
        self._loop.call_later(_EVERY_S, self._look)


def _end_if_too_long(connection: Connection, waited_s: float) -> None:
    if connection.transport.get_write_buffer_size() > 0:
        if waited_s > UNREAD_S:
            connection.transport.abort()
        return
    size = connection.unfinished_body()
    if connection.is_unused:
        if waited_s > UNUSED_S:
            connection.transport.close()
    elif size is None and waited_s > HEAD_S:
        connection.end(TooSlow(f"The request's head did not come within {HEAD_S:g} seconds. The connection is closed."))
    elif size is not None and waited_s > BODY_S and size < waited_s * BODY_BYTES_PER_S:
        connection.end(TooSlow(f"The body came with less than {BODY_BYTES_PER_S} bytes a second. The connection is closed."))
