"""What the data-plane processes of a machine tell each other while Signalbox runs: one JSON object in a file, replaced as a whole."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import orjson

from serving.dataplane.errors import Busy

Document = dict[str, Any]
_PATIENCE_S = 1.0
_STEP_S = 0.01


class Noticeboard:
    """``document`` is what the file said when this process last looked. Only one thread at a time may look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()
        self._read: int | None = None
        """What was read stays open: as long as it does, no other file has its number."""
        self.document: Document = {}

    def look(self) -> bool:
        """Read the file again if it was replaced; tells whether it was."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._keep(None, {})
        if self._read is not None and os.path.samestat(found, os.fstat(self._read)):
            return False
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return self._keep(None, {})
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                document = orjson.loads(file.read())
        except BaseException:
            os.close(descriptor)
            raise
        return self._keep(descriptor, document)

    async def change(self, edit: Callable[[Document], None]) -> None:
        """Let ``edit`` change what the file says, while no other process does; if it raises, nothing changes.

        A process that is stopped may have the lock, so it is waited for in a thread, one for all changes here. Raises Busy after a second of it,
        or of waiting for the changes before, or if the file cannot be written.
        """
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._turn.acquire()
        except TimeoutError:
            raise self._locked() from None
        try:
            await asyncio.to_thread(self._change, edit)
        except OSError as error:
            raise Busy(f"{self._path.name} cannot be written: {error.strerror}. Nothing has changed.") from error
        finally:
            self._turn.release()

    def _change(self, edit: Callable[[Document], None]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            self._lock(lock)
            document: Document = orjson.loads(self._path.read_bytes()) if self._path.exists() else {}
            edit(document)
            fresh = self._path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(orjson.dumps(document))
            fresh.replace(self._path)

    def _lock(self, lock: IO[str]) -> None:
        until = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise self._locked() from None
                time.sleep(_STEP_S)
            else:
                return

    def _locked(self) -> Busy:
        return Busy(f"Another process of this machine is changing {self._path.name} and does not come to an end. Nothing has changed. Try again in a second.")

    def _keep(self, descriptor: int | None, document: Document) -> bool:
        before, self._read, self.document = self._read, descriptor, document
        if before is not None:
            os.close(before)
        return before is not None or descriptor is not None
