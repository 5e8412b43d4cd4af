"""One Postgres connection of one thread: gives up on a server that has stopped answering, and finds it again by itself."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

Result = TypeVar("Result")
TIMEOUT_S = 2.0
_CONNECT_TIMEOUT_S = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 3.0
_COMMIT_TO_DISK = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""A server, database or role may have it off by default; what the log has written would then be lost when the server is killed."""


class Away(Exception):
    """Postgres cannot be reached, or does not answer."""


class Link:
    """Runs work on a connection. A connection that the server ended is made again at once, once.

    After any other failure ``run`` raises Away without waiting, and a thread of its own looks for
    the server: whoever writes waits for one that is frozen at most once, for ``timeout_s``.
    """

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self.connection: psycopg.Connection[Any] | None = None
        self._set_up: psycopg.Connection[Any] | None = None
        self.deadline = 0.0
        self._seeker: _Seeker | None = None
        _watchdog.watch(self)

    @property
    def is_away(self) -> bool:
        """Whether ``run`` would raise Away without trying."""
        return self._seeker is not None and self._seeker.found is None

    def run(self, work: Callable[[psycopg.Connection[Any]], Result], timeout_s: float = TIMEOUT_S) -> Result:
        """Do ``work``; it must be harmless to do twice. Raises Away; other database errors go through."""
        self._adopt_found()
        for attempt in (1, 2):
            fresh = self.connection is None
            try:
                return self._once(work, timeout_s)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                late = bool(self.deadline) and time.monotonic() >= self.deadline
                self._drop()
                if fresh or late or attempt == 2 or not _is_lost(error):
                    self._seeker = _Seeker(self._connect)
                    raise Away(str(error).strip() or type(error).__name__) from error
            finally:
                self.deadline = 0.0
        raise AssertionError("two attempts either return or raise")

    def _adopt_found(self) -> None:
        if self._seeker is None:
            return
        if self._seeker.found is None:
            raise Away("Postgres was away a moment ago")
        self.connection, self._seeker = self._seeker.found, None

    def _once(self, work: Callable[[psycopg.Connection[Any]], Result], timeout_s: float) -> Result:
        if self.connection is None:
            self.connection = self._connect()
        self.deadline = time.monotonic() + timeout_s
        if self._set_up is not self.connection:
            self.connection.execute(_COMMIT_TO_DISK)
            self._set_up = self.connection
        return work(self.connection)

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(self._url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, application_name=self._name)
        except psycopg.Error as error:
            # Its traceback leads in a circle to the connection that failed. The collector runs seldom here, and each takes 16 kB.
            raise error.with_traceback(None)  # noqa: B904  # it is the same

    def _drop(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def close(self) -> None:
        """Drop the connection and end the search for one; the next use makes a new one."""
        seeker, self._seeker = self._seeker, None
        if seeker is not None:
            seeker.end()
        self._drop()

    def cut_if_late(self) -> None:
        """Shut the socket of a connection that is past its deadline: the thread that waits on it gets an error."""
        connection, deadline = self.connection, self.deadline
        if connection is None or not deadline or time.monotonic() < deadline:
            return
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as handle:
            handle.shutdown(socket.SHUT_RDWR)


def _is_lost(error: psycopg.Error) -> bool:
    """Tell a lost connection from a server that answered with an error of its own."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57"))


class _Seeker:
    """Tries to connect with growing pauses, in a thread of its own, until it has ``found`` a connection."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._ended = threading.Event()
        self.found: psycopg.Connection[Any] | None = None
        threading.Thread(target=self._run, name="postgres-seeker", daemon=True).start()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._ended.wait(pause_s):
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
            with contextlib.suppress(psycopg.Error):
                self.found = self._connect()
                break
        if self._ended.is_set() and self.found is not None:
            self.found.close()

    def end(self) -> None:
        self._ended.set()
        if self.found is not None:
            self.found.close()


class _Watchdog:
    """One daemon thread that cuts late links."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, link: Link) -> None:
        with self._lock:
            self._links.add(link)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="postgres-watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(0.2)
            with self._lock:
                links = list(self._links)
            for link in links:
                link.cut_if_late()


_watchdog = _Watchdog()
