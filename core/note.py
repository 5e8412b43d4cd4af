"""The note of a running ``signalbox up``: its processes and addresses, by which commands and pages find them. No Django."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

LOCK = "up.lock"
"""Held by the supervisor as long as it runs; the note says nothing without it."""
_NOTE = "up.json"


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
    return note if _holds(note["pid"], run_dir / LOCK) else {}


def remove_note(run_dir: Path) -> None:
    (run_dir / _NOTE).unlink(missing_ok=True)


def _holds(pid: int, lock: Path) -> bool:
    """Tell by its open files whether the process has the lock; its number alone may be another process's by now."""
    try:
        return any(opened.resolve() == lock.resolve() for opened in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
