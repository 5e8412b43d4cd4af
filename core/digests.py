"""Content addresses: the SHA-256 of bytes, and where a blob of that digest lies in the artifact store."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """Give the lower-case hex SHA-256 of ``data`` (64 characters)."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """Give the digest of a file, read piece by piece; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_path(root: Path, digest: str) -> Path:
    """Give the path of the blob ``digest`` under ``root``; raises ValueError for anything but a digest."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"not a SHA-256 digest: {digest!r}")
    return root / digest[:2] / digest[2:4] / digest
