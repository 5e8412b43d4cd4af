"""One page for all processes of a machine: each answers at a socket of its own, and whoever is scraped asks the others.

Several processes share a listening port, so a scrape reaches any one of them. Each listens at
``var/run/metrics/<process>.<pid>`` too, in a thread; the files of processes that have died are
removed by whoever finds nobody behind them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from core.metrics.exposition import Collect, Piece, gauge, page, pieces, process_families

logger = logging.getLogger(__name__)

WITHIN_S = 1.0
"""A process that has not answered by then is left out, and ``signalbox_process_up`` says so."""
_CONNECTED_WITHIN_S = 0.1
"""Connecting waits only for a process whose queue of callers is full; one that hangs must not take the second of the others."""
_LONGEST_ACCEPT = 1000
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Piece]).decode


class Sibling:
    """This process as the others see it. ``process`` says what it is; ``collect`` is called in a thread of its own."""

    def __init__(self, run_dir: Path, process: str, collect: Collect) -> None:
        self._path = run_dir / "metrics" / f"{process}.{os.getpid()}"
        self._process, self._collect = process, collect
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Listen. That it fails costs the metrics of this process and nothing else."""
        folder = self._path.parent
        fresh = folder / f".{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            self._listener.bind(str(fresh))
            self._listener.listen(16)
            fresh.rename(self._path)  # nobody may find the file before somebody listens behind it
        except OSError as error:
            logger.warning("The metrics of this process cannot be asked for: %s", error)
            return
        self._thread.start()

    def stop(self) -> None:
        """Take the socket's file away; the thread ends with the process."""
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(WITHIN_S)
                    self._answer(connection)
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(0.1)  # without a file to be opened it fails at once, and the process has other work
            except Exception:  # the thread's edge: the next scrape must be answered
                logger.exception("The metrics of this process cannot be told.")

    def _answer(self, connection: socket.socket) -> None:
        accept = _read(connection, time.monotonic() + WITHIN_S).decode("latin-1")
        connection.settimeout(WITHIN_S)
        families = [*self._collect(), *process_families()]
        connection.sendall(_encode(pieces(families, accept, {"process": self._process, "pid": str(os.getpid())})))


def gather(run_dir: Path, processes: Collection[str], accept: str) -> tuple[str, bytes]:
    """Give the content type and the page of every process of the kinds ``processes``."""
    return page(ask(run_dir, processes, accept), accept)


@dataclass(frozen=True, slots=True)
class Asked:
    """A process that was asked; ``pieces`` is None if it hangs."""

    process: str
    pid: int
    pieces: list[Piece] | None


def ask(run_dir: Path, processes: Collection[str], accept: str) -> list[Piece]:
    """Give the families of every process of the kinds ``processes``. Takes ``WITHIN_S`` at most."""
    found: list[Piece] = []
    for asked in ask_each(run_dir, processes, accept):
        up = gauge("signalbox_process_up", "1 if the process told its metrics within a second, 0 if it hangs.", asked.pieces is not None)
        found += [*pieces([up], accept, {"process": asked.process, "pid": str(asked.pid)}), *(asked.pieces or [])]
    return found


def ask_each(run_dir: Path, processes: Collection[str] | None = None, accept: str = "") -> list[Asked]:
    """Ask every process of the kinds ``processes``, or of all kinds. Takes ``WITHIN_S`` at most."""
    accept = accept[:_LONGEST_ACCEPT]
    until = time.monotonic() + WITHIN_S
    asked = [(path, connection) for path in _sockets(run_dir, processes) if (connection := _ask(path, accept, until)) is not None]
    return [Asked(_kind(path), int(path.suffix[1:]), _told(connection, until)) for path, connection in asked]


def _sockets(run_dir: Path, processes: Collection[str] | None) -> list[Path]:
    found = sorted((run_dir / "metrics").glob("[!.]*.[0-9]*"))
    return [path for path in found if processes is None or _kind(path) in processes]


def _kind(path: Path) -> str:
    return path.name.partition(".")[0]


def _ask(path: Path, accept: str, until: float) -> socket.socket | None:
    """Connect and ask; None, and the file removed, when the process has died."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(min(_CONNECTED_WITHIN_S, max(0.001, until - time.monotonic())))
    try:
        connection.connect(str(path))
        connection.sendall(accept.encode("latin-1", "replace"))
        connection.shutdown(socket.SHUT_WR)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return None
    except OSError:
        pass  # it does not answer in time; that is told by what is read
    return connection


def _told(connection: socket.socket, until: float) -> list[Piece] | None:
    with connection:
        try:
            return _decode(_read(connection, until))
        except (OSError, msgspec.MsgspecError):
            return None


def _read(connection: socket.socket, until: float) -> bytes:
    """Read to the end; what is there already is read after ``until`` too."""
    parts: list[bytes] = []
    while True:
        connection.settimeout(max(0.01, until - time.monotonic()))
        part = connection.recv(65_536)
        if not part:
            return b"".join(parts)
        parts.append(part)
