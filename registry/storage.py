"""The artifact store: bytes under their SHA-256. A blob appears whole or not at all, and never changes."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from core.digests import artifact_path
from core.environment import environment
from core.errors import NotFound, StorageFull, TooLarge, is_of_a_full_disk

_CHUNK_BYTES = 2**20


class Readable(Protocol):
    """An upload, an open file, a BytesIO."""

    def read(self, size: int = ..., /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Stored:
    digest: str
    size_bytes: int


def store(source: Readable, *, limit_bytes: int | None = None) -> Stored:
    """Copy ``source`` into the store from its beginning; the same bytes are kept once.

    Raises TooLarge, and StorageFull when the disk is full; nothing is kept then.
    """
    root = environment().artifacts_dir
    source.seek(0)
    with _full_disk_named(), _temporary(root) as target:
        stored = _copy(source, target, environment().upload_limit_bytes if limit_bytes is None else limit_bytes)
        target.flush()
        os.fchmod(target.fileno(), 0o444)
        os.fsync(target.fileno())
        _move(Path(target.name), artifact_path(root, stored.digest))
    return stored


def store_bytes(data: bytes) -> Stored:
    """Put ``data``, made by us, into the store."""
    return store(io.BytesIO(data), limit_bytes=len(data))


def path_of(digest: str) -> Path:
    """Give where the blob lies; it need not be there."""
    return artifact_path(environment().artifacts_dir, digest)


def exists(digest: str) -> bool:
    return path_of(digest).is_file()


def open_artifact(digest: str) -> BinaryIO:
    """Open a blob for reading; raises NotFound when its bytes are gone."""
    try:
        return path_of(digest).open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"The bytes of {digest[:12]} are not in the artifact store. Restore them from a backup.") from error


def remove(digest: str) -> None:
    """Delete a blob; one that is gone already is no error. Ask ``registry.references`` first."""
    path_of(digest).unlink(missing_ok=True)


def _copy(source: Readable, target: IO[bytes], limit_bytes: int) -> Stored:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"The file is larger than {limit_bytes:,} bytes, the limit here (SIGNALBOX_UPLOAD_LIMIT_BYTES). Nothing was kept.")
        digest.update(chunk)
        target.write(chunk)
    return Stored(digest.hexdigest(), size)


@contextmanager
def _temporary(root: Path) -> Iterator[IO[bytes]]:
    """Give a file on the store's disk that is gone afterwards, unless it was moved."""
    folder = root / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            yield file
        finally:
            Path(file.name).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Move into place by rename and make the rename durable; of two at once the bytes are the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_of_a_full_disk(error):
            raise
        raise StorageFull("The disk of the artifact store is full. Nothing was kept; an admin must free space under the data folder.") from error
