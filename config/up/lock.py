"""One supervisor per data folder: it holds a lock, and its note says where it answers."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import TextIO

from core.errors import Conflict
from core.note import LOCK, read_note

__all__ = ["read_note", "take"]


def take(run_dir: Path) -> TextIO:
    """Give the open lock, held until it is closed or the process ends; raises Conflict that names the running one."""
    # Opened for writing but not truncated: the loser must not wipe what the holder has.
    handle = (run_dir / LOCK).open("a", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise Conflict(_who_runs(run_dir)) from error
    return handle


def _who_runs(run_dir: Path) -> str:
    note = read_note(run_dir)
    where = f" at {note['console_url']} (process {note['pid']})" if note else ""
    return f"Signalbox is already running{where}. Stop it with Ctrl-C there, or use another folder: SIGNALBOX_VAR_DIR=/another/folder signalbox up"
