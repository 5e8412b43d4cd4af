"""What a killed process may have left on the disk: half-written files, and blobs that no row names. Looks only; no Django.

A file is a leftover no earlier than ``AGE_S`` after its last byte was written: well beyond the longest upload and check.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.digests import artifact_path

AGE_S = 24 * 3600.0
PARTS = 256
"""The store's folders of the first level: what is looked through at once by a periodic task is one of them."""


@dataclass(frozen=True, slots=True)
class OldFile:
    """A file nobody has written to for long."""

    path: Path
    size_bytes: int


def half_written(folders: list[Path]) -> Iterator[OldFile]:
    """Give the old files in ``folders``, where files lie only while they come in."""
    for folder in folders:
        yield from _old_files(folder)


def old_blobs(root: Path, part: int) -> Iterator[tuple[str, OldFile]]:
    """Give digest and file of each old blob in one part (0 to 255) of the store under ``root``; used or not."""
    first = root / f"{part:02x}"
    for second in sorted(_folders(first)):
        for file in _old_files(second):
            if _is_blob(root, file.path):
                yield file.path.name, file


def _is_blob(root: Path, path: Path) -> bool:
    try:
        return artifact_path(root, path.name) == path
    except ValueError:
        return False


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _old_files(folder: Path) -> Iterator[OldFile]:
    oldest = time.time() - AGE_S
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and (found := entry.stat(follow_symlinks=False)).st_mtime < oldest:
                    yield OldFile(Path(entry.path), found.st_size)
    except FileNotFoundError:
        return
