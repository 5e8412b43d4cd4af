"""One Postgres connection of one thread: reconnects by itself, and gives up on a server that has stopped answering."""

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
_RETRY_AFTER_S = 0.5


class Away(Exception):
    """Postgres cannot be reached, or does not answer."""


class Link:
    """Runs work on a connection. A lost connection costs one retry; then Away is raised, at once for half a second."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self.connection: psycopg.Connection[Any] | None = None
        self._not_before = 0.0
        self.deadline = 0.0
        _watchdog.watch(self)

    def run(self, work: Callable[[psycopg.Connection[Any]], Result], timeout_s: float = TIMEOUT_S) -> Result:
        """Do ``work``; it must be harmless to do twice. Raises Away; other database errors go through."""
        if time.monotonic() < self._not_before:
            raise Away("Postgres was away a moment ago")
        for attempt in (1, 2):
            fresh = self.connection is None
            try:
                return self._once(work, timeout_s)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self.close()
                if fresh or attempt == 2 or not _is_lost(error):
                    self._not_before = time.monotonic() + _RETRY_AFTER_S
                    raise Away(str(error).strip() or type(error).__name__) from error
        raise AssertionError("two attempts either return or raise")

    def _once(self, work: Callable[[psycopg.Connection[Any]], Result], timeout_s: float) -> Result:
        if self.connection is None:
            self.connection = psycopg.connect(self._url, autocommit=True, connect_timeout=2, application_name=self._name)
        self.deadline = time.monotonic() + timeout_s
        try:
            return work(self.connection)
        finally:
            self.deadline = 0.0

    def close(self) -> None:
        """Drop the connection; the next use makes a new one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

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


class _Watchdog:
    """One daemon thread that cuts late links."""

    def __init__(self) -> None:
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._thread: threading.Thread | None = None

    def watch(self, link: Link) -> None:
        self._links.add(link)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postgres-watchdog", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(0.2)
            for link in list(self._links):
                link.cut_if_late()


_watchdog = _Watchdog()
