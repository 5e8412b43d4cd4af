"""Which build was running when a process died, and which builds are therefore no longer run on this machine.

Each process marks in a mapped file of its own what it is running; the kernel keeps the file's lock
and its bytes for whoever looks after the process was killed. No Postgres is needed for any of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import mmap
import os
import threading
import time
from pathlib import Path
from typing import BinaryIO

from serving.dataplane.refusals import BornAt, Refusals

logger = logging.getLogger(__name__)

_PAGE = 4096
_CELLS = 64
"""One per thread that runs builds, the first for the event loop's own."""
_ENDING = _CELLS
_DIGEST = 64
_MOST_NUMBERS = 2**16 - 1


class RunMarks:
    """This process's file: a cell per thread with the number of the build that it is running, then the builds' digests by number."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{os.getpid()}.{time.time_ns()}"
        self._file = -1
        self._map = self._mapped()
        self.cells = memoryview(self._map).cast("H")
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def _mapped(self) -> mmap.mmap:
        """Make the file, locked before it has its name. Where that fails, say on a full disk, a death of this process blames no build."""
        unnamed = self.path.parent.with_name(f"running.{self.path.name}")
        try:
            self._file = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            os.posix_fallocate(self._file, 0, _PAGE)  # storing into a hole would end the process if the disk is full
            content = mmap.mmap(self._file, _PAGE)
            unnamed.rename(self.path)
        except OSError as error:
            logger.warning("What this process runs cannot be marked: %s", error)
            unnamed.unlink(missing_ok=True)
            return mmap.mmap(-1, _PAGE)
        return content

    def number_of(self, digest: str) -> int:
        """Give what stands for the build in a cell; 0, which stands for none, where the digest cannot be written."""
        with self._lock:
            number = self._numbers.get(digest, len(self._numbers) + 1)
            try:
                if number > _MOST_NUMBERS or os.pwrite(self._file, digest.encode(), _PAGE + (number - 1) * _DIGEST) < len(digest):
                    return 0
            except OSError as error:
                logger.warning("The runs of the build %s cannot be marked: %s", digest[:12], error)
                return 0
            self._numbers[digest] = number
        return number

    def close(self) -> None:
        """Take the file away; nothing was wrong."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Cells:
    """Where this process writes what it runs: index 0 for the event loop's thread, ``index`` for another one."""

    def __init__(self, cells: memoryview[int] | None = None) -> None:
        self.cells = memoryview(bytearray(_PAGE)).cast("H") if cells is None else cells
        self._of_thread: dict[int, int] = {}
        self._next = itertools.count(1)

    def index(self) -> int:
        """Give the calling thread's cell; threads beyond the last one share it."""
        ident = threading.get_ident()
        found = self._of_thread.get(ident)
        if found is None:
            found = self._of_thread[ident] = min(next(self._next), _CELLS - 1)
        return found

    def begin_to_end(self) -> None:
        """The process has been asked to end: if it is killed from now on, no build is to blame."""
        self.cells[_ENDING] = 1


class CrashWatch:
    """Reads what dead processes were running, and remembers which builds are refused."""

    def __init__(self, folder: Path) -> None:
        self._running = folder / "running"
        self.marks = RunMarks(self._running)
        self.refusals = Refusals(folder)

    def look(self, born_at: BornAt) -> bool:
        """Blame the builds that dead processes were running; tells whether what is refused has changed, by whichever process.

        Of several the youngest on this machine is blamed.
        """
        for path in self._running.iterdir():
            if path != self.marks.path:
                suspects = _taken(path)
                if suspects:
                    self.refusals.blame(max(suspects, key=born_at), born_at)
        return self.refusals.have_changed()


def _taken(path: Path) -> list[str]:
    """Give what a dead process was running, once: of the processes that look, one takes the file away."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink == 0:
                return []
            found = _running_in(file)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return []
    return found


def _running_in(file: BinaryIO) -> list[str]:
    head = file.read(_PAGE)
    if len(head) < _PAGE:
        return []
    cells = memoryview(head).cast("H")
    if cells[_ENDING]:
        return []
    digests = file.read()
    numbers = {number for number in cells[:_CELLS] if number}
    return [digests[(number - 1) * _DIGEST : number * _DIGEST].decode("ascii", "replace") for number in sorted(numbers)]
