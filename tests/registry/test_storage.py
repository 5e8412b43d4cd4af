"""The artifact store: whole or not at all, once, read-only, and by digest only."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from core.digests import digest_of
from core.environment import environment
from core.errors import NotFound, StorageFull, TooLarge
from registry import storage


def _incoming() -> list[Path]:
    return list((environment().artifacts_dir / "incoming").glob("*"))


def test_keeps_bytes_under_their_digest_read_only():
    data = os.urandom(3 * 2**20 + 7)
    stored = storage.store(io.BytesIO(data))
    path = storage.path_of(stored.digest)
    assert (stored.digest, stored.size_bytes) == (digest_of(data), len(data))
    assert path == environment().artifacts_dir / stored.digest[:2] / stored.digest[2:4] / stored.digest
    assert path.read_bytes() == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert _incoming() == []


def test_reads_from_the_beginning_wherever_the_file_stands():
    source = io.BytesIO(b"twice read")
    source.read()
    assert storage.store(source).digest == digest_of(b"twice read")


def test_keeps_the_same_bytes_once():
    first, second = storage.store(io.BytesIO(b"same")), storage.store(io.BytesIO(b"same"))
    assert first == second
    assert len(list(storage.path_of(first.digest).parent.iterdir())) == 1


def test_keeps_the_same_bytes_once_when_many_store_them_at_once():
    data = os.urandom(2**20)
    threads = [threading.Thread(target=storage.store, args=[io.BytesIO(data)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.path_of(digest_of(data)).read_bytes() == data
    assert _incoming() == []


def test_refuses_more_than_the_limit_and_keeps_nothing():
    data = os.urandom(5000)
    with pytest.raises(TooLarge, match="4,999 bytes"):
        storage.store(io.BytesIO(data), limit_bytes=4999)
    assert not storage.exists(digest_of(data))
    assert _incoming() == []
    assert storage.store(io.BytesIO(data), limit_bytes=5000).size_bytes == 5000


class _DiskFull(io.BytesIO):
    """Fails in the middle, as a write to a full disk does."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return data


def test_names_a_full_disk_and_keeps_nothing():
    data = os.urandom(2**20 + 1)
    with pytest.raises(StorageFull):
        storage.store(_DiskFull(data))
    assert not storage.exists(digest_of(data))
    assert _incoming() == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" * 64])
def test_makes_no_path_of_anything_but_a_digest(digest):
    with pytest.raises(ValueError, match="not a SHA-256"):
        storage.path_of(digest)


def test_says_when_the_bytes_are_gone():
    with pytest.raises(NotFound, match="backup"):
        storage.open_artifact("0" * 64)
