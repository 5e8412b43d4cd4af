"""Log segments on disk while Postgres is away: one fsynced file each, named by its id, drained in order.

All data-plane processes of a machine share the folder, so what a killed one left is drained by the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the prediction log's table."""

    id: UUID
    endpoint: str
    slot: str
    model: str
    version: int
    build_digest: str
    table_revision: int
    rows: int
    first_at: datetime
    last_at: datetime
    columns: memoryview


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Segment).decode
_SUFFIX, _PARTIAL = ".segment", ".partial"
_ABANDONED_S = 600
"""A file is written within seconds; one this old belongs to nobody."""


class Spool:
    """The folder. ``keep`` returns only when the segments would survive a power cut."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for made in (folder, folder.parent):  # a folder that is in no directory after a power cut keeps nothing
            _sync(made)

    def keep(self, segments: list[Segment]) -> None:
        """Write and fsync all of them; raises OSError when the disk is full, and then leaves none."""
        try:
            for segment in segments:
                self._write(segment)
            _sync(self._folder)
        except OSError:
            for segment in segments:
                self._path(segment.id).unlink(missing_ok=True)
            raise

    def _write(self, segment: Segment) -> None:
        path = self._path(segment.id)
        partial = path.with_suffix(_PARTIAL)
        try:
            with partial.open("wb") as file:
                file.write(_encode(segment))
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise

    def _path(self, segment: UUID) -> Path:
        return self._folder / f"{segment}{_SUFFIX}"

    def has(self, segment: UUID) -> bool:
        """Tell whether a segment waits here."""
        return self._path(segment).exists()

    def collect(self) -> None:
        """Remove what processes that were killed have left half written."""
        for path in self._folder.glob(f"*{_PARTIAL}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    path.unlink()

    def waiting(self) -> list[Path]:
        """Give the spooled files, oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}"))

    def count(self) -> int:
        """Give how many files wait."""
        with os.scandir(self._folder) as entries:
            return sum(entry.name.endswith(_SUFFIX) for entry in entries)

    def read(self, path: Path) -> Segment | None:
        """Read one file; None if another process has drained it. A damaged one is put aside."""
        try:
            return _decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            self.put_aside(path)
            return None

    def put_aside(self, path: Path) -> None:
        """Keep a segment that the database refuses, out of the others' way."""
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_suffix(".refused"))

    @contextlib.contextmanager
    def draining(self) -> Iterator[bool]:
        """Let one process drain at a time; gives False to the others."""
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
