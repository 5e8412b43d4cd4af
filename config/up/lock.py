"""One supervisor per data folder, and the note by which the command line finds it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, TextIO

from core.errors import Conflict

_LOCK = "up.lock"
_NOTE = "up.json"


def take(run_dir: Path) -> TextIO:
    """Give the open lock, held until it is closed or the process ends; raises Conflict that names the running one."""
    # Opened for writing but not truncated: the loser must not wipe what the holder has.
    handle = (run_dir / _LOCK).open("a", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise Conflict(_who_runs(run_dir)) from error
    return handle


def write_note(run_dir: Path, **facts: Any) -> None:
    """Write the chosen addresses to ``run_dir/up.json``, at once or not at all."""
    fresh = run_dir / f"{_NOTE}.new"
    fresh.write_text(json.dumps({"pid": os.getpid(), **facts}, indent=2))
    fresh.replace(run_dir / _NOTE)


def read_note(run_dir: Path) -> dict[str, Any]:
    """Give what the running supervisor wrote, or nothing when none runs: one that was killed leaves its note."""
    try:
        note: dict[str, Any] = json.loads((run_dir / _NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return note if _holds(note["pid"], run_dir / _LOCK) else {}


def remove_note(run_dir: Path) -> None:
    (run_dir / _NOTE).unlink(missing_ok=True)


def _holds(pid: int, lock: Path) -> bool:
    """Tell by its open files whether the process has the lock; its number alone may be another process's by now."""
    try:
        return any(opened.resolve() == lock.resolve() for opened in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _who_runs(run_dir: Path) -> str:
    note = read_note(run_dir)
    where = f" at {note['console_url']} (process {note['pid']})" if note else ""
    return f"Signalbox is already running{where}. Stop it with Ctrl-C there, or use another folder: SIGNALBOX_VAR_DIR=/another/folder signalbox up"
