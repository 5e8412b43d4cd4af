"""The access log: one JSON line per request, written in bulk by a thread, in files of bounded size. No Django.

A request costs an append to a list. What comes faster than it can be written is dropped and counted,
never waited for. All processes of a machine append to one file.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from core.environment import Environment

logger = logging.getLogger(__name__)

NAME = "access.jsonl"
EVERY_S = 0.25
MOST_WAITING = 50_000
LIMIT_BYTES = 50 * 2**20
KEPT = 3
"""Older files that are kept: access.jsonl.1, the newest, to .3."""


class Entry(msgspec.Struct, omit_defaults=True):
    """A request and its answer. ``actor`` is a key's id or a person's, never a secret; no value of a row is in it."""

    at_us: int
    status: int
    latency_us: int
    bytes_in: int
    bytes_out: int
    request_id: str
    method: str = ""
    path: str = ""
    actor: str = ""
    endpoint: str = ""
    slot: str = ""
    version: str = ""
    rows: int = 0
    prediction_id: str = ""
    flags: int = 0


class AccessLog:
    """The log of one process, which calls itself ``process``. The thread begins with the first entry, so a fork before it is harmless."""

    def __init__(self, process: str, path: Path | None, flags: dict[int, str] | None = None) -> None:
        self._process, self._path, self._flags = process, path, flags or {}
        self._waiting: deque[Entry] = deque()
        self._encode = msgspec.json.Encoder().encode_lines
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def add(self, entry: Entry) -> None:
        """Take an entry; does not wait."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            return
        self._waiting.append(entry)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
                self._thread.start()
                atexit.register(self.stop)

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        entries = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not entries:
            return
        try:
            self._append(self._encode([self._line(entry) for entry in entries]))
        except OSError as error:
            self.dropped += len(entries)
            logger.warning("%d lines of the access log are lost: %s", len(entries), error)
        except Exception:  # the thread's edge: the next lines must be written
            self.dropped += len(entries)
            logger.exception("%d lines of the access log are lost.", len(entries))

    def _line(self, entry: Entry) -> dict[str, object]:
        """Give an entry as it is written: the time first and in words, what is empty left out."""
        fields = msgspec.to_builtins(entry)
        at_us, flags = fields.pop("at_us"), fields.pop("flags", 0)
        time = datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="microseconds")
        line = {"time": time, "process": self._process, "pid": os.getpid(), **fields}
        if flags:
            line["flags"] = [name for bit, name in self._flags.items() if flags & bit]
        return line

    def _append(self, lines: bytes) -> None:
        if self._path is None:
            _write_all(1, lines)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            _write_all(file, lines)
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if size >= LIMIT_BYTES:
            self._rotate(self._path)

    @staticmethod
    def _rotate(path: Path) -> None:
        """Begin a new file. Of several processes that find the file too large one does it."""
        with _locked(path.with_name(f"{NAME}.lock")) as mine:
            if not mine or not path.exists() or path.stat().st_size < LIMIT_BYTES:
                return
            for number in range(KEPT, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(f"{NAME}.{number - 1}").replace(path.with_name(f"{NAME}.{number}"))
            path.replace(path.with_name(f"{NAME}.1"))


def access_log(environment: Environment, process: str, flags: dict[int, str] | None = None) -> AccessLog | None:
    """Give the log that the settings ask for, None when it is off. ``flags`` names the bits of an entry's flags."""
    if environment.access_log == "off":
        return None
    path = environment.var_dir / "log" / NAME if environment.access_log == "file" else None
    return AccessLog(process, path, flags)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
