"""How many predictions each slot has answered, and how many of them are in the log: so that what a kill loses can be told.

One file per process, mapped into memory, in a folder that the processes of a machine share. A lock
on it says that its process lives. Once that is gone a survivor, or the next start, writes to Postgres
how many were answered and not logged. The numbers are absolute, so writing them twice is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from serving.dataplane.spool import Spool

logger = logging.getLogger(__name__)

_SUFFIX = ".tally1"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder of our own in it, which nobody else may enter
_ENTRIES, _WORDS, _BYTES = 512, 32, 256
"""An entry holds four numbers of 8 bytes, the id of a segment, and the names of its slot and endpoint."""
_ANSWERED, _DONE, _LOST, _DONE_THEN = range(4)
_SEGMENT, _SLOT, _ENDPOINT = slice(32, 48), slice(48, 96), slice(96, 256)
_ABANDONED_S = 60
_UPSERT = """
INSERT INTO serving_lostpredictions (process, endpoint, slot, predictions, at) VALUES (%s, %s, %s, %s, now())
ON CONFLICT (process, endpoint, slot) DO UPDATE SET predictions = EXCLUDED.predictions, at = EXCLUDED.at
    WHERE serving_lostpredictions.predictions < EXCLUDED.predictions
"""
_THERE = """
SELECT id FROM serving_predictionsegment WHERE id = ANY(%(ids)s) UNION ALL SELECT id FROM serving_replacedsegment WHERE id = ANY(%(ids)s)
"""
Key = tuple[str, str]
"""Endpoint and slot."""


def folder_for(var_dir: Path) -> Path:
    """Make the folder of the files: in shared memory, where a store never waits for a disk; else under ``var_dir``.

    What is in shared memory outlives every process, but not its container or the machine.
    """
    inside = var_dir / "dataplane" / "tallies"
    shared = _SHARED_MEMORY / f"signalbox-{os.getuid()}-{hashlib.sha256(str(var_dir.resolve()).encode()).hexdigest()[:12]}"
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()
        if found.st_uid == os.getuid() and found.st_mode & 0o170777 == 0o040700:
            return shared
    except OSError:
        pass
    inside.mkdir(parents=True, exist_ok=True)
    return inside


class Tally:
    """The numbers of this process. ``answered`` is the event loop's to call, ``begin`` and ``end`` are the log's thread's."""

    def __init__(self, folder: Path, process: UUID) -> None:
        self._process = process
        self._path = folder / f"{process}{_SUFFIX}"
        self._places: dict[Key, int] = {}
        self._written: dict[Key, int] = {}
        self._content = self._map()
        self._numbers = memoryview(self._content).cast("q")

    def _map(self) -> mmap.mmap:
        """Make the file, locked before it has its name. Where that fails, say on a full disk, only this process can count."""
        size = _ENTRIES * _BYTES
        unnamed = self._path.with_suffix(".new")
        try:
            self._file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.posix_fallocate(self._file, 0, size)  # storing into a hole would end the process if the disk is full
            content = mmap.mmap(self._file, size)
            unnamed.rename(self._path)
        except OSError as error:
            logger.warning("What a kill of this process would lose cannot be counted: %s", error)
            return mmap.mmap(-1, size)
        return content

    def answered(self, endpoint: str, slot: str, predictions: int) -> None:
        """Count predictions that are answered without waiting for the log."""
        place = self._places.get((endpoint, slot))
        if place is None:
            place = self._add(endpoint, slot)
        self._numbers[place] += predictions

    def _add(self, endpoint: str, slot: str) -> int:
        """Take the next entry. Slots beyond the last share one without a name, which nobody reads."""
        number = min(len(self._places), _ENTRIES - 1)
        if number < _ENTRIES - 1:
            _put(self._content, number, _SLOT, slot.encode())
            _put(self._content, number, _ENDPOINT, endpoint.encode())
        self._places[endpoint, slot] = number * _WORDS
        return number * _WORDS

    def begin(self, key: Key, predictions: int, segment: UUID) -> None:
        """Say that ``segment`` will be written: where it is found, these predictions were logged."""
        place = self._places[key]
        _put(self._content, place // _WORDS, _SEGMENT, segment.bytes)
        self._numbers[place + _DONE_THEN] = self._numbers[place + _DONE] + predictions

    def end(self, key: Key, predictions: int, *, safe: bool) -> None:
        """Say that what was begun is safe, or is lost."""
        place = self._places[key]
        if not safe:
            self._numbers[place + _LOST] += predictions
        self._numbers[place + _DONE] += predictions

    def lost(self) -> dict[Key, int]:
        """Give how many answered predictions could be written nowhere, where there were any."""
        places = list(self._places.items())[: _ENTRIES - 1]
        return {key: lost for key, place in places if (lost := self._numbers[place + _LOST])}

    def write(self, connection: psycopg.Connection[Any]) -> None:
        """Tell Postgres what is lost, if that has changed."""
        lost = self.lost()
        if lost != self._written:
            _write(connection, self._process, lost)
            self._written = lost

    def count_dead(self, spool: Spool, connection: psycopg.Connection[Any]) -> None:
        """Tell Postgres what processes have lost that were killed, and take their files away."""
        for path in self._path.parent.iterdir():
            with _of_dead(path) as content:
                if content is None:
                    continue
                if path.suffix == _SUFFIX:
                    process = UUID(path.stem)
                    lost = _lost_of(content, spool, connection)
                    if lost:
                        logger.warning("A process that was killed had answered %d predictions that are not in the log.", sum(lost.values()))
                        _write(connection, process, lost)
                elif time.time() - path.stat().st_mtime < _ABANDONED_S:
                    continue
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Take the file away, unless somebody must still read it: what is lost, or not in the log."""
        numbers = self._numbers
        if self._written == self.lost() and all(numbers[place] == numbers[place + _DONE] for place in self._places.values()):
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _of_dead(path: Path) -> Iterator[bytes | None]:
    """Give the content of a file whose process has ended, None of any other."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file.read()


class _Entry(msgspec.Struct, frozen=True):
    """What a file says of one slot."""

    key: Key
    numbers: tuple[int, ...]
    segment: UUID


def _entries(content: bytes) -> Iterator[_Entry]:
    for start in range(0, len(content) - _BYTES + 1, _BYTES):
        entry = content[start : start + _BYTES]
        endpoint, slot = (entry[where].rstrip(b"\0").decode() for where in (_ENDPOINT, _SLOT))
        if not endpoint:
            return
        yield _Entry((endpoint, slot), tuple(memoryview(entry[:32]).cast("q")), UUID(bytes=entry[_SEGMENT]))


def _lost_of(content: bytes, spool: Spool, connection: psycopg.Connection[Any]) -> dict[Key, int]:
    """Give the answered predictions of each slot that are not in the log."""
    entries = list(_entries(content))
    begun = [entry.segment for entry in entries if entry.numbers[_DONE_THEN] > entry.numbers[_DONE]]
    # The spool first: what is drained is inserted before its file goes.
    safe = {segment for segment in begun if spool.has(segment)}
    safe |= {row[0] for row in connection.execute(_THERE, {"ids": begun})} if begun else set()
    lost: dict[Key, int] = {}
    for entry in entries:
        numbers = entry.numbers
        done = max(numbers[_DONE], numbers[_DONE_THEN]) if entry.segment in safe else numbers[_DONE]
        missing = numbers[_LOST] + max(0, numbers[_ANSWERED] - done)
        if missing:
            lost[entry.key] = missing
    return lost


def _write(connection: psycopg.Connection[Any], process: UUID, lost: dict[Key, int]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(_UPSERT, [(process, endpoint, slot, predictions) for (endpoint, slot), predictions in sorted(lost.items())])


def _put(content: mmap.mmap, number: int, where: slice, value: bytes) -> None:
    start = number * _BYTES
    content[start + where.start : start + where.stop] = value.ljust(where.stop - where.start, b"\0")
