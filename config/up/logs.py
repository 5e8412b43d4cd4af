"""One log file per process under ``var/log``, never more than two times ``LIMIT_BYTES``."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 20 * 2**20


def open_log(folder: Path, name: str) -> BinaryIO:
    """Open for appending: a child's writes go to the end even after the file was cut."""
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"{name}.log").open("ab")


def trim(folder: Path) -> None:
    """Copy each log that grew too long to ``.1`` and empty it in place; its writer needs no notice.

    With the disk full the copy is given up: an empty log is worth more then.
    """
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            if log.stat().st_size > LIMIT_BYTES:
                _keep_one(log)
                with log.open("r+b") as file:
                    file.truncate(0)


def _keep_one(log: Path) -> None:
    copy = log.with_suffix(".log.1")
    try:
        shutil.copyfile(log, copy)
    except OSError:
        copy.unlink(missing_ok=True)
