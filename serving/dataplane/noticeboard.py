"""What the data-plane processes of a machine tell each other while Signalbox runs: one JSON object in a file, replaced as a whole."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

Document = dict[str, Any]


class Noticeboard:
    """``document`` is what the file said when this process last looked. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
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

    def change(self, edit: Callable[[Document], None]) -> None:
        """Let ``edit`` change what the file says, while no other process does; if it raises, nothing changes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document: Document = orjson.loads(self._path.read_bytes()) if self._path.exists() else {}
            edit(document)
            fresh = self._path.with_suffix(f".{os.getpid()}")
            fresh.write_bytes(orjson.dumps(document))
            fresh.replace(self._path)

    def _keep(self, descriptor: int | None, document: Document) -> bool:
        before, self._read, self.document = self._read, descriptor, document
        if before is not None:
            os.close(before)
        return before is not None or descriptor is not None
